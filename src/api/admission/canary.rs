//! What is asked of `Canary.spec` itself.

use super::{
    Ask::{Entries, Length, OneOf, Pattern, Range, Rule},
    Found::{Format, Text},
    Line, NAME, NAMESPACE, OPTIONAL_URL, Rule as R,
};

/// Lines of `spec`, without `service` and `analysis`.
pub(super) const LINES: &[Line] = &[
    ("spec", SPEC),
    (
        "spec.metricsServer",
        &[Length(0, 2048), Pattern(OPTIONAL_URL)],
    ),
    ("spec.progressDeadlineSeconds", &[Range(1, i32::MAX as i64)]),
    ("spec.targetRef.apiVersion", &[Length(1, 128)]),
    ("spec.targetRef.name", &[Length(1, 245), Pattern(NAME)]),
    ("spec.autoscalerRef.apiVersion", &[Length(1, 128)]),
    ("spec.autoscalerRef.name", &[Length(1, 245), Pattern(NAME)]),
    ("spec.autoscalerRef.primaryScalerQueries", &[Entries(64)]),
    (
        "spec.autoscalerRef.primaryScalerReplicas",
        &[Rule(R {
            test: "!has(self.minReplicas) || !has(self.maxReplicas) \
                   || self.minReplicas <= self.maxReplicas",
            found: Format(
                "minReplicas %s above maxReplicas %s",
                "self.minReplicas, self.maxReplicas",
            ),
            action: "lower minReplicas or raise maxReplicas",
            at: Some(".minReplicas"),
        })],
    ),
    (
        "spec.autoscalerRef.primaryScalerReplicas.minReplicas",
        &[Range(1, i32::MAX as i64)],
    ),
    (
        "spec.autoscalerRef.primaryScalerReplicas.maxReplicas",
        &[Range(1, i32::MAX as i64)],
    ),
    ("spec.ingressRef.kind", &[OneOf(&["Ingress"])]),
    ("spec.ingressRef.name", &[Length(1, 253), Pattern(NAME)]),
    ("spec.routeRef.kind", &[OneOf(&["ApisixRoute"])]),
    ("spec.routeRef.name", &[Length(1, 253), Pattern(NAME)]),
    ("spec.upstreamRef.kind", &[OneOf(&["Upstream"])]),
    ("spec.upstreamRef.name", &[Length(1, 253), Pattern(NAME)]),
    (
        "spec.upstreamRef.namespace",
        &[Length(0, 63), Pattern(NAMESPACE)],
    ),
];

const SPEC: &[super::Ask] = &[
    Rule(R {
        test: "(self.targetRef.kind == 'Service' \
               && self.targetRef.apiVersion == 'serving.knative.dev/v1') \
               == (has(self.provider) && self.provider == 'knative')",
        found: Format(
            "%s with %s %s",
            "has(self.provider) ? 'provider ' + self.provider : 'no provider', \
             self.targetRef.apiVersion, self.targetRef.kind",
        ),
        action: "use provider knative with a Service of serving.knative.dev/v1 and nothing else",
        at: Some(".targetRef"),
    }),
    Rule(R {
        test: "!has(self.autoscalerRef) || self.targetRef.apiVersion != 'serving.knative.dev/v1'",
        found: Text("an autoscaler for a Knative Service"),
        action: "remove autoscalerRef: Knative scales its Services itself",
        at: Some(".autoscalerRef"),
    }),
    Rule(R {
        test: "has(self.service) || self.targetRef.apiVersion == 'serving.knative.dev/v1'",
        found: Text("no service"),
        action: "add service with the port that the workload serves",
        at: Some(".service"),
    }),
    Rule(R {
        test: "self.targetRef.apiVersion == 'serving.knative.dev/v1' \
               || (has(self.service) && has(self.service.name) && self.service.name != '') \
               || self.targetRef.name.matches('^[a-z]([-a-z0-9]{0,53}[a-z0-9])?$')",
        found: Format("%s", "self.targetRef.name"),
        action: "set service.name to at most 55 of a-z, 0-9 and -, beginning with a letter, \
                 because the target has no name that services can have",
        at: Some(".targetRef"),
    }),
    Rule(R {
        test: "self.targetRef.kind != 'Service' || !has(self.service) || !has(self.service.name) \
               || !(self.service.name in [self.targetRef.name + '-primary', \
               self.targetRef.name + '-canary'])",
        found: Format("%s", "self.service.name"),
        action: "choose another service.name: the Service of this name is made from the target",
        at: Some(".service"),
    }),
    Rule(R {
        test: "!has(self.provider) || !self.provider.startsWith('gatewayapi') \
               || !has(self.service) \
               || (has(self.service.gatewayRefs) && self.service.gatewayRefs.size() > 0)",
        found: Format("provider %s without gatewayRefs", "self.provider"),
        action: "name at least one gateway in service.gatewayRefs",
        at: Some(".service"),
    }),
    Rule(R {
        test: "!has(self.provider) || !(self.provider in ['nginx', 'skipper']) \
               || has(self.ingressRef)",
        found: Format("provider %s without ingressRef", "self.provider"),
        action: "name in ingressRef the Ingress that routes to the service",
        at: Some(".ingressRef"),
    }),
    Rule(R {
        test: "!has(self.provider) || self.provider != 'apisix' || has(self.routeRef)",
        found: Text("provider apisix without routeRef"),
        action: "name in routeRef the ApisixRoute that routes to the service",
        at: Some(".routeRef"),
    }),
    Rule(R {
        test: "!has(self.provider) || !self.provider.startsWith('appmesh') \
               || !has(self.service) \
               || (has(self.service.meshName) && self.service.meshName != '')",
        found: Format("provider %s without meshName", "self.provider"),
        action: "name the mesh in service.meshName",
        at: Some(".service"),
    }),
    Rule(R {
        test: "!has(self.provider) || !self.provider.startsWith('gatewayapi') \
               || !has(self.analysis.match) || self.analysis.match.all(m, !has(m.headers) \
               || m.headers.all(h, has(m.headers[h].exact) || has(m.headers[h].regex)))",
        found: Format(
            "a header matched by prefix or suffix with provider %s",
            "self.provider",
        ),
        action: "match it by exact or regex, the only ways that the Gateway API knows",
        at: Some(".analysis.match"),
    }),
    Rule(R {
        test: "!has(self.provider) || !has(self.analysis.match) \
               || self.analysis.match.size() == 0 || !(self.provider in ['knative', 'kuma', \
               'linkerd', 'osm', 'smi:v1alpha1', 'smi:v1alpha2', 'traefik'])",
        found: Format(
            "match with provider %s, which routes all requests alike",
            "self.provider",
        ),
        action: "remove match, or use a provider that routes by header",
        at: Some(".analysis.match"),
    }),
    Rule(R {
        test: "!has(self.provider) || !has(self.analysis.mirror) || !self.analysis.mirror \
               || has(self.analysis.iterations) \
               || self.provider in ['istio', 'gatewayapi:v1', 'gatewayapi:v1beta1', 'kubernetes']",
        found: Format(
            "mirror with provider %s, which cannot copy requests",
            "self.provider",
        ),
        action: "remove mirror, or use provider istio",
        at: Some(".analysis.mirror"),
    }),
    Rule(R {
        test: "!has(self.provider) || !has(self.analysis.sessionAffinity) \
               || self.provider in ['istio', 'gatewayapi:v1', 'gatewayapi:v1beta1']",
        found: Format(
            "sessionAffinity with provider %s, which cannot keep users on a version",
            "self.provider",
        ),
        action: "remove sessionAffinity, or use provider istio or gatewayapi:v1",
        at: Some(".analysis.sessionAffinity"),
    }),
];

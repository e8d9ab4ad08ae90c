//! What is asked of `Canary.spec.service`.

use super::{
    Ask::{Default, Entries, Items, Length, OneOf, Pattern, Range, Rule},
    DURATION,
    Found::{Format, Text},
    Line, NAME, NAMESPACE, Rule as R,
};

/// How strings are compared: exactly one way.
pub(super) const ONE_COMPARISON: super::Ask = Rule(R {
    test: "[has(self.exact), has(self.prefix), has(self.suffix), has(self.regex)]\
           .exists_one(given, given)",
    found: Format(
        "%s way to compare",
        "has(self.exact) || has(self.prefix) || has(self.suffix) || has(self.regex) \
         ? 'more than one' : 'no'",
    ),
    action: "write exactly one of exact, prefix, suffix and regex",
    at: None,
});

/// A share in percent that may be nothing.
const PERCENT: &[super::Ask] = &[Range(0, 100)];
const COUNT: &[super::Ask] = &[Range(0, i32::MAX as i64)];
const PORT: &[super::Ask] = &[Range(1, 65535)];
const SPAN: &[super::Ask] = &[Length(0, 64), Pattern(DURATION)];
const MATCH_MAP: &[super::Ask] = &[Entries(64)];
const LABEL_VALUE: &[super::Ask] = &[
    Length(0, 63),
    Pattern("^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$"),
];

/// Lines of `spec.service`.
pub(super) const LINES: &[Line] = &[
    (
        "spec.service",
        &[Rule(R {
            test: "!has(self.delegation) || !self.delegation \
                   || ((!has(self.hosts) || self.hosts.size() == 0) \
                   && (!has(self.gateways) || self.gateways.size() == 0))",
            found: Text("delegation together with hosts or gateways"),
            action: "move hosts and gateways to the VirtualService that delegates, or remove \
                     delegation",
            at: Some(".delegation"),
        })],
    ),
    (
        "spec.service.name",
        &[Length(0, 55), Pattern("^([a-z]([-a-z0-9]*[a-z0-9])?)?$")],
    ),
    ("spec.service.port", PORT),
    (
        "spec.service.portName",
        &[Length(0, 63), Pattern(NAMESPACE)],
    ),
    (
        "spec.service.targetPort",
        &[Rule(R {
            test: "type(self) == int ? self >= 0 && self <= 65535 \
                   : self.matches('^([-a-z0-9]*[a-z][-a-z0-9]*)?$')",
            found: Format("%s", "self"),
            action: "write a port from 1 to 65535 or the name of a container port",
            at: None,
        })],
    ),
    ("spec.service.appProtocol", &[Length(0, 253)]),
    ("spec.service.timeout", SPAN),
    ("spec.service.backendTimeout", SPAN),
    ("spec.service.gateways", &[Items(0, 64)]),
    (
        "spec.service.gateways[]",
        &[Length(1, 253), Pattern("^[-a-z0-9.]+(/[-a-z0-9.]+)?$")],
    ),
    ("spec.service.gatewayRefs", &[Items(0, 32)]),
    (
        "spec.service.gatewayRefs[].group",
        &[Default("gateway.networking.k8s.io"), Length(0, 253)],
    ),
    (
        "spec.service.gatewayRefs[].kind",
        &[Default("Gateway"), Length(1, 63)],
    ),
    (
        "spec.service.gatewayRefs[].name",
        &[Length(1, 253), Pattern(NAME)],
    ),
    (
        "spec.service.gatewayRefs[].namespace",
        &[Length(0, 63), Pattern(NAMESPACE)],
    ),
    ("spec.service.gatewayRefs[].sectionName", &[Length(0, 253)]),
    ("spec.service.gatewayRefs[].port", PORT),
    ("spec.service.hosts", &[Items(0, 256)]),
    (
        "spec.service.hosts[]",
        &[
            Length(1, 253),
            Pattern(r"^(\*|(\*\.)?[A-Za-z0-9_]([-A-Za-z0-9_.]*[A-Za-z0-9_])?)$"),
        ],
    ),
    ("spec.service.match", &[Items(0, 64)]),
    ("spec.service.match[].uri", &[ONE_COMPARISON]),
    ("spec.service.match[].scheme", &[ONE_COMPARISON]),
    ("spec.service.match[].method", &[ONE_COMPARISON]),
    ("spec.service.match[].authority", &[ONE_COMPARISON]),
    ("spec.service.match[].headers", MATCH_MAP),
    ("spec.service.match[].headers{}", &[ONE_COMPARISON]),
    ("spec.service.match[].queryParams", MATCH_MAP),
    ("spec.service.match[].queryParams{}", &[ONE_COMPARISON]),
    ("spec.service.match[].withoutHeaders", MATCH_MAP),
    ("spec.service.match[].withoutHeaders{}", &[ONE_COMPARISON]),
    ("spec.service.match[].port", PORT),
    (
        "spec.service.rewrite.type",
        &[OneOf(&["", "ReplaceFullPath", "ReplacePrefixMatch"])],
    ),
    ("spec.service.retries.attempts", COUNT),
    ("spec.service.retries.perTryTimeout", SPAN),
    ("spec.service.mirror", &[Items(0, 16)]),
    (
        "spec.service.mirror[].backendRef.kind",
        &[OneOf(&["Service"])],
    ),
    (
        "spec.service.mirror[].backendRef.name",
        &[Length(1, 253), Pattern(NAME)],
    ),
    (
        "spec.service.mirror[].backendRef.namespace",
        &[Length(0, 63), Pattern(NAMESPACE)],
    ),
    ("spec.service.mirror[].backendRef.port", PORT),
    ("spec.service.corsPolicy.allowOrigins", &[Items(0, 64)]),
    ("spec.service.corsPolicy.allowOrigins[]", &[ONE_COMPARISON]),
    ("spec.service.corsPolicy.maxAge", SPAN),
    ("spec.service.meshName", &[Length(0, 255)]),
    ("spec.service.apex.labels{}", LABEL_VALUE),
    ("spec.service.primary.labels{}", LABEL_VALUE),
    ("spec.service.canary.labels{}", LABEL_VALUE),
    (
        "spec.service.trafficPolicy.connectionPool.http.http1MaxPendingRequests",
        COUNT,
    ),
    (
        "spec.service.trafficPolicy.connectionPool.http.http2MaxRequests",
        COUNT,
    ),
    (
        "spec.service.trafficPolicy.connectionPool.http.idleTimeout",
        SPAN,
    ),
    (
        "spec.service.trafficPolicy.connectionPool.http.maxRequestsPerConnection",
        COUNT,
    ),
    (
        "spec.service.trafficPolicy.loadBalancer.consistentHash.httpCookie.ttl",
        SPAN,
    ),
    (
        "spec.service.trafficPolicy.loadBalancer.consistentHash.minimumRingSize",
        COUNT,
    ),
    (
        "spec.service.trafficPolicy.loadBalancer.warmupDurationSecs",
        SPAN,
    ),
    (
        "spec.service.trafficPolicy.outlierDetection.baseEjectionTime",
        SPAN,
    ),
    ("spec.service.trafficPolicy.outlierDetection.interval", SPAN),
    (
        "spec.service.trafficPolicy.outlierDetection.maxEjectionPercent",
        PERCENT,
    ),
    (
        "spec.service.trafficPolicy.outlierDetection.minHealthPercent",
        PERCENT,
    ),
];

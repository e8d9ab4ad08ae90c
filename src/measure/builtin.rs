//! The builtin metrics: success rate and duration of requests, per route API.

use crate::api::{Canary, Provider, TargetKind};
use crate::settings::Settings;

use super::query::{QueryFacts, RenderError, render};

/// A metric that needs no query in the manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Builtin {
    /// `request-success-rate`: percentage of requests that did not fail.
    SuccessRate,
    /// `request-duration`: 99th percentile, or the mean where the route API counts no more, in
    /// milliseconds.
    Duration,
}

impl Builtin {
    /// The builtin metric of this name.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "request-success-rate" => Some(Self::SuccessRate),
            "request-duration" => Some(Self::Duration),
            _ => None,
        }
    }
}

/// Whose metrics a Canary is judged by: a route API, and whether the target is a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricsOf {
    /// The route API.
    pub provider: Provider,
    /// Whether the target is a Service.
    pub service: bool,
}

impl MetricsOf {
    /// Whose metrics a Canary is judged by.
    ///
    /// Where the operator's route API is Linkerd, its metrics are used whatever the Canary names.
    pub fn canary(canary: &Canary, settings: &Settings) -> Self {
        let before = canary.status.as_ref().and_then(|status| status.provider);
        let provider = match (before.or(canary.spec.provider), settings.mesh_provider) {
            (_, Provider::Linkerd) => Provider::Linkerd,
            (named, default) => named.unwrap_or(default),
        };
        Self {
            provider,
            service: canary.spec.target_ref.kind == TargetKind::Service,
        }
    }

    /// The name that events use: that of the route API, with `:service` for Services.
    pub fn name(self) -> String {
        let name = self.provider.as_str();
        if self.service {
            format!("{name}:service")
        } else {
            name.to_owned()
        }
    }
}

/// A builtin query, filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct BuiltinQuery {
    /// PromQL.
    pub query: String,
    /// Factor that brings the answer to percent or milliseconds.
    pub scale: f64,
}

/// How the metrics of a route API are asked for.
struct Source {
    /// Metric that counts requests.
    requests: &'static str,
    /// Label matchers of the canary's requests.
    selector: &'static str,
    /// Label matcher of requests that did not fail.
    good: &'static str,
    duration: Duration,
}

/// How durations are asked for.
enum Duration {
    /// The 99th percentile of a histogram with these label matchers, and its unit in ms.
    Percentile(&'static str, &'static str, Unit),
    /// Sum by count of a summary of seconds with these label matchers.
    Mean(&'static str, &'static str),
}

#[derive(Clone, Copy)]
enum Unit {
    Milliseconds,
    /// Brought to milliseconds here.
    Seconds,
    /// Brought to milliseconds by the query.
    SecondsInQuery,
}

const PODS: &str = r#"kubernetes_namespace="{{ namespace }}",kubernetes_pod_name=~"{{ target }}-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)""#;
const ISTIO: &str = r#"reporter="destination",destination_workload_namespace="{{ namespace }}",destination_workload=~"{{ target }}""#;
const LINKERD: &str =
    r#"namespace="{{ namespace }}",deployment=~"{{ target }}",direction="inbound""#;
const NGINX: &str = r#"namespace="{{ namespace }}",ingress="{{ ingress }}",canary!="""#;
const TRAEFIK: &str =
    r#"service=~"{{ namespace }}-{{ target }}-canary-[0-9a-zA-Z-]+@kubernetescrd""#;
const TRAEFIK_ALL: &str =
    r#"service=~"{{ namespace }}-{{ target }}-canary-[0-9a-zA-Z-]+@kubernetescrd",le="+Inf""#;
const APISIX: &str = r#"route=~"{{ namespace }}_{{ route }}-{{ target }}-canary_.+""#;
const APISIX_LATENCY: &str =
    r#"type=~"request",route=~"{{ namespace }}_{{ route }}-{{ target }}-canary_.+""#;
const SKIPPER: &str = r#"route=~"kube(ew)?_{{ namespace }}__{{ ingress }}_canary__.*__{{ service }}_canary(_[0-9]+)?""#;
const SKIPPER_ALL: &str = r#"route=~"kube(ew)?_{{ namespace }}__{{ ingress }}_canary__.*__{{ service }}_canary(_[0-9]+)?",le="+Inf""#;
const OSM: &str = r#"destination_namespace="{{ namespace }}",destination_kind="Deployment",destination_name="{{ target }}""#;

/// The one table of all route APIs.
fn source(of: MetricsOf) -> Source {
    use Duration::{Mean, Percentile};
    let envoy = |selector| Source {
        requests: "envoy_cluster_upstream_rq",
        selector,
        good: r#"envoy_response_code!~"5.*""#,
        duration: Percentile(
            "envoy_cluster_upstream_rq_time_bucket",
            selector,
            Unit::Milliseconds,
        ),
    };
    let istio = Source {
        requests: "istio_requests_total",
        selector: ISTIO,
        good: r#"response_code!~"5.*""#,
        duration: Percentile(
            "istio_request_duration_milliseconds_bucket",
            ISTIO,
            Unit::Milliseconds,
        ),
    };
    let pods = Source {
        requests: "http_request_duration_seconds_count",
        selector: PODS,
        good: r#"status!~"5.*""#,
        duration: Percentile("http_request_duration_seconds_bucket", PODS, Unit::Seconds),
    };
    match of.provider {
        // These keep their own queries for Services too; all others fall to Istio's there.
        Provider::AppMesh | Provider::AppMeshV1Beta2 => envoy(PODS),
        Provider::Gloo => envoy(
            r#"envoy_cluster_name=~"{{ namespace }}-{{ target }}-canaryupstream-[0-9a-zA-Z-]+_[0-9a-zA-Z-]+""#,
        ),
        Provider::GatewayApiV1 | Provider::GatewayApiV1Beta1 => pods,
        _ if of.service => istio,
        Provider::Istio | Provider::SmiV1Alpha1 | Provider::SmiV1Alpha2 | Provider::SmiV1Alpha3 => {
            istio
        }
        Provider::Kubernetes => pods,
        Provider::Contour => {
            envoy(r#"envoy_cluster_name=~"{{ namespace }}_{{ service }}-canary_[0-9a-zA-Z-]+""#)
        }
        Provider::Knative => envoy(r#"envoy_cluster_name=~"{{ namespace }}/{{ route }}""#),
        Provider::Kuma => {
            envoy(r#"service=~"{{ target }}-canary_{{ namespace }}_svc_[0-9a-zA-Z-]+""#)
        }
        Provider::Linkerd => Source {
            requests: "response_total",
            selector: LINKERD,
            good: r#"classification!="failure""#,
            duration: Percentile("response_latency_ms_bucket", LINKERD, Unit::Milliseconds),
        },
        Provider::Nginx => Source {
            requests: "nginx_ingress_controller_requests",
            selector: NGINX,
            good: r#"status!~"5.*""#,
            duration: Mean("nginx_ingress_controller_response_duration_seconds", NGINX),
        },
        Provider::Traefik => Source {
            requests: "traefik_service_request_duration_seconds_bucket",
            selector: TRAEFIK_ALL,
            good: r#"code!~"5..""#,
            duration: Percentile(
                "traefik_service_request_duration_seconds_bucket",
                TRAEFIK,
                Unit::SecondsInQuery,
            ),
        },
        Provider::Apisix => Source {
            requests: "apisix_http_status",
            selector: APISIX,
            good: r#"code!~"5..""#,
            duration: Percentile(
                "apisix_http_latency_bucket",
                APISIX_LATENCY,
                Unit::Milliseconds,
            ),
        },
        Provider::Skipper => Source {
            requests: "skipper_response_duration_seconds_bucket",
            selector: SKIPPER_ALL,
            good: r#"code!~"5..""#,
            duration: Mean("skipper_serve_route_duration_seconds", SKIPPER),
        },
        Provider::Osm => Source {
            requests: "osm_request_total",
            selector: OSM,
            good: r#"response_code!~"5.*""#,
            duration: Percentile("osm_request_duration_ms_bucket", OSM, Unit::Milliseconds),
        },
    }
}

/// The query of a builtin metric: percent for [`Builtin::SuccessRate`], milliseconds for
/// [`Builtin::Duration`].
///
/// # Errors
/// When a fact would change the query's shape, which names that Kubernetes accepts never do.
pub fn query(
    of: MetricsOf,
    builtin: Builtin,
    facts: &QueryFacts,
) -> Result<BuiltinQuery, RenderError> {
    let Source {
        requests,
        selector,
        good,
        duration,
    } = source(of);
    let mut scale = 1.0;
    let template = match (builtin, duration) {
        (Builtin::SuccessRate, _) => format!(
            "sum(rate({requests}{{{selector},{good}}}[{{{{ interval }}}}])) / \
             sum(rate({requests}{{{selector}}}[{{{{ interval }}}}])) * 100"
        ),
        (Builtin::Duration, Duration::Percentile(bucket, selector, unit)) => {
            let percentile = format!(
                "histogram_quantile(0.99, \
                 sum(rate({bucket}{{{selector}}}[{{{{ interval }}}}])) by (le))"
            );
            match unit {
                Unit::Milliseconds => percentile,
                Unit::Seconds => {
                    scale = 1000.0;
                    percentile
                }
                Unit::SecondsInQuery => format!("{percentile} * 1000"),
            }
        }
        (Builtin::Duration, Duration::Mean(summary, selector)) => format!(
            "sum(rate({summary}_sum{{{selector}}}[{{{{ interval }}}}])) / \
             sum(rate({summary}_count{{{selector}}}[{{{{ interval }}}}])) * 1000"
        ),
    };
    let query = if of.provider == Provider::Skipper && !of.service {
        render(&template, &skipper_names(facts))?
    } else {
        render(&template, facts)?
    };
    Ok(BuiltinQuery { query, scale })
}

/// Skipper's route names have `_` for all that is not a letter, digit or `_`.
fn skipper_names(facts: &QueryFacts) -> QueryFacts {
    let word = |text: &str| {
        text.chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect()
    };
    QueryFacts {
        namespace: word(&facts.namespace),
        ingress: word(&facts.ingress),
        service: word(&facts.service),
        ..facts.clone()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn facts() -> QueryFacts {
        QueryFacts {
            name: "c".into(),
            namespace: "prod".into(),
            target: "shop".into(),
            service: "web-shop".into(),
            ingress: "in-1".into(),
            route: "rt".into(),
            interval: "2m".into(),
            ..QueryFacts::default()
        }
    }

    fn ask(provider: Provider, service: bool, builtin: Builtin) -> BuiltinQuery {
        query(MetricsOf { provider, service }, builtin, &facts()).unwrap()
    }

    #[test]
    fn success_rate_is_good_by_all_requests_in_percent() {
        assert_eq!(
            ask(Provider::Istio, false, Builtin::SuccessRate).query,
            "sum(rate(istio_requests_total{reporter=\"destination\",\
             destination_workload_namespace=\"prod\",destination_workload=~\"shop\",\
             response_code!~\"5.*\"}[2m])) / sum(rate(istio_requests_total{\
             reporter=\"destination\",destination_workload_namespace=\"prod\",\
             destination_workload=~\"shop\"}[2m])) * 100"
        );
        assert_eq!(
            ask(Provider::Kubernetes, false, Builtin::SuccessRate).query,
            "sum(rate(http_request_duration_seconds_count{kubernetes_namespace=\"prod\",\
             kubernetes_pod_name=~\"shop-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)\",status!~\"5.*\"}[2m])) / \
             sum(rate(http_request_duration_seconds_count{kubernetes_namespace=\"prod\",\
             kubernetes_pod_name=~\"shop-[0-9a-zA-Z]+(-[0-9a-zA-Z]+)\"}[2m])) * 100"
        );
    }

    #[test]
    fn duration_is_the_percentile_in_milliseconds() {
        let istio = ask(Provider::Istio, false, Builtin::Duration);
        assert_eq!(
            istio.query,
            "histogram_quantile(0.99, sum(rate(istio_request_duration_milliseconds_bucket{\
             reporter=\"destination\",destination_workload_namespace=\"prod\",\
             destination_workload=~\"shop\"}[2m])) by (le))"
        );
        let pods = ask(Provider::GatewayApiV1, false, Builtin::Duration);
        assert!(
            pods.query
                .starts_with("histogram_quantile(0.99, sum(rate(http_request_duration_seconds")
        );
        assert_eq!((istio.scale, pods.scale), (1.0, 1000.0));
    }

    #[test]
    fn every_route_api_asks_for_its_own_metrics() {
        use Provider as P;
        for (provider, selector, duration_end) in [
            (
                P::AppMesh,
                r#"envoy_cluster_upstream_rq{kubernetes_namespace="prod",kubernetes_pod_name=~"shop-"#,
                "by (le))",
            ),
            (
                P::Contour,
                r#"{envoy_cluster_name=~"prod_web-shop-canary_[0-9a-zA-Z-]+""#,
                "by (le))",
            ),
            (
                P::Gloo,
                r#"{envoy_cluster_name=~"prod-shop-canaryupstream-[0-9a-zA-Z-]+_[0-9a-zA-Z-]+""#,
                "by (le))",
            ),
            (P::Knative, r#"{envoy_cluster_name=~"prod/rt""#, "by (le))"),
            (
                P::Kuma,
                r#"{service=~"shop-canary_prod_svc_[0-9a-zA-Z-]+""#,
                "by (le))",
            ),
            (
                P::Linkerd,
                r#"response_total{namespace="prod",deployment=~"shop",direction="inbound",classification!="failure"}"#,
                "by (le))",
            ),
            (
                P::Nginx,
                r#"nginx_ingress_controller_requests{namespace="prod",ingress="in-1",canary!="",status!~"5.*"}"#,
                "* 1000",
            ),
            (
                P::Traefik,
                r#"{service=~"prod-shop-canary-[0-9a-zA-Z-]+@kubernetescrd",le="+Inf",code!~"5..""#,
                "by (le)) * 1000",
            ),
            (
                P::Apisix,
                r#"apisix_http_status{route=~"prod_rt-shop-canary_.+",code!~"5.."}"#,
                "by (le))",
            ),
            (
                P::Skipper,
                r#"{route=~"kube(ew)?_prod__in_1_canary__.*__web_shop_canary(_[0-9]+)?",le="+Inf",code!~"5..""#,
                "* 1000",
            ),
            (
                P::Osm,
                r#"osm_request_total{destination_namespace="prod",destination_kind="Deployment",destination_name="shop""#,
                "by (le))",
            ),
        ] {
            let rate = ask(provider, false, Builtin::SuccessRate).query;
            assert!(rate.contains(selector), "{provider:?}: {rate}");
            assert!(rate.ends_with("[2m])) * 100"), "{provider:?}: {rate}");
            let duration = ask(provider, false, Builtin::Duration).query;
            assert!(duration.ends_with(duration_end), "{provider:?}: {duration}");
            assert!(!duration.contains("{{"), "{provider:?}: {duration}");
        }
    }

    #[test]
    fn service_target_asks_istio_unless_the_route_api_has_its_own() {
        for provider in [
            Provider::Istio,
            Provider::Kubernetes,
            Provider::Nginx,
            Provider::Skipper,
        ] {
            let query = ask(provider, true, Builtin::SuccessRate).query;
            assert!(query.contains("istio_requests_total"), "{provider:?}");
        }
        for provider in [Provider::AppMesh, Provider::Gloo, Provider::GatewayApiV1] {
            assert_eq!(
                ask(provider, true, Builtin::SuccessRate),
                ask(provider, false, Builtin::SuccessRate)
            );
        }
        let of = MetricsOf {
            provider: Provider::GatewayApiV1,
            service: true,
        };
        assert_eq!(of.name(), "gatewayapi:v1:service");
    }
}

//! The queries by which the judge reads raw counters of the primary and the canary.

use crate::{
    api::{
        Canary, MetricTemplate, Provider,
        judge::{JudgeKind, JudgeMetric},
        metric_template::MetricProviderType,
    },
    plan::{LookMetric, SeriesQuery},
    settings::Settings,
};

use super::{
    builtin::MetricsOf,
    metrics::{default_server, template_key, template_server},
    query::{QueryFacts, RenderError, render},
};

/// Labels that tell pods apart; those that a server does not have are no harm.
const PODS: &str = "instance, pod, kubernetes_pod_name";

/// Why the judge cannot read a metric.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum JudgingError {
    /// The route API's own metrics do not tell primary and canary apart.
    #[error(
        "judge metric {metric}: the metrics of provider {provider} are not known per version; \
         give the metric queries of its own"
    )]
    Provider {
        /// Name of the metric.
        metric: String,
        /// The provider.
        provider: String,
    },
    /// The query cannot be filled in.
    #[error("judge metric {metric}: {error}")]
    Render {
        /// Name of the metric.
        metric: String,
        /// Why.
        error: RenderError,
    },
    /// The template is missing or of a server that is not asked for counters.
    #[error("judge metric {metric}: MetricTemplate {problem}")]
    Template {
        /// Name of the metric.
        metric: String,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
}

/// The queries of one metric, for both sides.
///
/// # Errors
/// When there is nothing that could be asked.
pub fn queries(
    canary: &Canary,
    settings: &Settings,
    metric: &JudgeMetric,
    template: Option<&MetricTemplate>,
) -> Result<LookMetric, JudgingError> {
    let unusable = |problem| JudgingError::Template {
        metric: metric.name.clone(),
        problem,
    };
    let key = template_key(canary, metric.template_ref.as_ref());
    let (server, query, total) = if let Some(key) = key {
        let own = canary.metadata.namespace.as_deref().unwrap_or_default();
        if settings.no_cross_namespace_refs && key.namespace != own {
            return Err(unusable(
                "is in another namespace, which this operator does not allow; move it",
            ));
        }
        let template = template.ok_or_else(|| unusable("not found; create it"))?;
        let server = template_server(template, &key.namespace);
        if server.kind != MetricProviderType::Prometheus {
            return Err(unusable("is not of a Prometheus server; use one"));
        }
        if server.address.is_empty() {
            return Err(unusable("has no address; write spec.provider.address"));
        }
        let spec = &template.spec;
        (server, Some(&spec.query), spec.total.as_ref())
    } else {
        let server = default_server(canary, settings);
        let query = metric.query.as_ref().filter(|query| !query.is_empty());
        (server, query, metric.total.as_ref())
    };
    if metric.kind == JudgeKind::Ratio && query.is_some() && total.is_none() {
        return Err(unusable("has no total; add the query of all requests"));
    }
    let side = |is_primary: bool| {
        let facts = facts(canary, metric, is_primary);
        let one = |template: &str, code, bad| {
            render(template, &facts)
                .map(|query| SeriesQuery {
                    server: server.clone(),
                    query,
                    code,
                    bad,
                })
                .map_err(|error| JudgingError::Render {
                    metric: metric.name.clone(),
                    error,
                })
        };
        match (query, metric.kind) {
            (Some(query), JudgeKind::Ratio) => {
                let total = total.map_or("", String::as_str);
                Ok(vec![one(total, None, false)?, one(query, None, true)?])
            }
            (Some(query), JudgeKind::Histogram | JudgeKind::Scalar) => {
                Ok(vec![one(query, None, false)?])
            }
            (None, kind) => {
                let (query, code) = builtin(canary, settings, metric, kind)?;
                Ok(vec![one(&query, code, false)?])
            }
        }
    };
    Ok(LookMetric {
        name: metric.name.clone(),
        kind: metric.kind,
        sides: [side(true)?, side(false)?],
    })
}

/// What queries can refer to: `{{ target }}` is the side's own workload.
fn facts(canary: &Canary, metric: &JudgeMetric, is_primary: bool) -> QueryFacts {
    let mut facts = QueryFacts::new(canary, &crate::api::Metric::default());
    facts.variables = metric.template_variables.clone().unwrap_or_default();
    if is_primary {
        facts.target = canary.spec.primary_name();
    }
    facts
}

/// The query of a route API's own counters, and the label that tells bad requests.
fn builtin(
    canary: &Canary,
    settings: &Settings,
    metric: &JudgeMetric,
    kind: JudgeKind,
) -> Result<(String, Option<&'static str>), JudgingError> {
    let of = MetricsOf::canary(canary, settings);
    let unknown = || JudgingError::Provider {
        metric: metric.name.clone(),
        provider: of.name(),
    };
    if of.service {
        // A Service's name is not that of the workloads behind it.
        return Err(unknown());
    }
    let (requests, durations, code, selector) = match of.provider {
        Provider::Istio => (
            "istio_requests_total",
            "istio_request_duration_milliseconds_bucket",
            "response_code",
            r#"reporter="destination",destination_workload_namespace="{{ namespace }}",destination_workload="{{ target }}""#,
        ),
        Provider::Kubernetes | Provider::GatewayApiV1 | Provider::GatewayApiV1Beta1 => (
            "http_request_duration_seconds_count",
            "http_request_duration_seconds_bucket",
            "status",
            // A Deployment's pods have a hash and a suffix, a DaemonSet's only the suffix.
            if canary.spec.target_ref.kind == crate::api::TargetKind::DaemonSet {
                r#"kubernetes_namespace="{{ namespace }}",kubernetes_pod_name=~"{{ target }}-[0-9a-z]+""#
            } else {
                r#"kubernetes_namespace="{{ namespace }}",kubernetes_pod_name=~"{{ target }}-[0-9a-z]+-[0-9a-z]+""#
            },
        ),
        Provider::Linkerd => (
            "response_total",
            "response_latency_ms_bucket",
            "classification",
            r#"namespace="{{ namespace }}",deployment="{{ target }}",direction="inbound""#,
        ),
        Provider::Apisix
        | Provider::AppMesh
        | Provider::AppMeshV1Beta2
        | Provider::Contour
        | Provider::Gloo
        | Provider::Knative
        | Provider::Kuma
        | Provider::Nginx
        | Provider::Osm
        | Provider::Skipper
        | Provider::SmiV1Alpha1
        | Provider::SmiV1Alpha2
        | Provider::SmiV1Alpha3
        | Provider::Traefik => return Err(unknown()),
    };
    Ok(match kind {
        JudgeKind::Histogram => (
            format!("sum by ({PODS}, le) ({durations}{{{selector}}})"),
            None,
        ),
        JudgeKind::Ratio | JudgeKind::Scalar => (
            format!("sum by ({PODS}, {code}) ({requests}{{{selector}}})"),
            Some(code),
        ),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    fn canary() -> Canary {
        serde_json::from_value(json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
            "metadata": {"name": "shop", "namespace": "prod"},
            "spec": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"},
                "analysis": {},
            },
        }))
        .unwrap()
    }

    #[test]
    fn builtin_errors_ask_each_side_for_its_own_workload() {
        let metric = JudgeMetric::new("errors", JudgeKind::Ratio);
        let asked = queries(&canary(), &Settings::default(), &metric, None).unwrap();
        let [primary, canary] = asked.sides.map(|mut side| side.remove(0));
        assert!(
            primary
                .query
                .contains(r#"destination_workload="shop-primary""#)
        );
        assert!(canary.query.contains(r#"destination_workload="shop""#));
        assert_eq!(canary.code, Some("response_code"));
        assert!(!canary.query.contains("rate("), "raw counters");
    }

    #[test]
    fn own_ratio_asks_for_all_and_for_bad_requests() {
        let mut metric = JudgeMetric::new("checkout", JudgeKind::Ratio);
        metric.query = Some(r#"bad_total{w="{{ target }}"}"#.to_owned());
        metric.total = Some(r#"all_total{w="{{ target }}"}"#.to_owned());
        let asked = queries(&canary(), &Settings::default(), &metric, None).unwrap();
        let texts: Vec<_> = asked.sides[0].iter().map(|q| (&*q.query, q.bad)).collect();
        assert_eq!(
            texts,
            [
                (r#"all_total{w="shop-primary"}"#, false),
                (r#"bad_total{w="shop-primary"}"#, true),
            ]
        );
    }
}

//! The metrics of a Canary: what to ask, what passes, and what to say when it does not.

use crate::{
    api::{
        Canary, Metric, MetricProviderType, MetricTemplate,
        analysis::{NamespacedRef, ThresholdRange},
        duration::InvalidDuration,
    },
    object::{Key, Kind},
    plan::{MetricQuery, MetricServer, MetricSource, Outcome},
    settings::Settings,
};

use super::{
    builtin::{self, Builtin, MetricsOf},
    query::{QueryFacts, RenderError, render},
    text,
};

/// What is said of an answer without any series.
pub const NO_VALUES: &str = "no values found";

/// Why a metric cannot be asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum MetricError {
    /// The metric says neither what to ask nor whom.
    #[error(
        "Metric query failed for no usable metrics template and query were configured: metric \
         {metric:?} is not builtin and has neither templateRef nor query"
    )]
    Nothing {
        /// Name of the metric.
        metric: String,
    },
    /// The template is in another namespace, and the operator refuses that.
    #[error(
        "can't access metric template {name}.{namespace}, cross-namespace references are blocked"
    )]
    CrossNamespace {
        /// Name of the template.
        name: String,
        /// Namespace of the template.
        namespace: String,
    },
    /// The template does not exist.
    #[error("Metric template {name}.{namespace} error: not found")]
    NoTemplate {
        /// Name of the template.
        name: String,
        /// Namespace of the template.
        namespace: String,
    },
    /// The template names no server.
    #[error(
        "Metric template {name}.{namespace} error: spec.provider.address is empty; set the \
         server's address"
    )]
    NoAddress {
        /// Name of the template.
        name: String,
        /// Namespace of the template.
        namespace: String,
    },
    /// The template's query cannot be filled in.
    #[error("Metric template {name}.{namespace} query render error: {error}")]
    Template {
        /// Name of the template.
        name: String,
        /// Namespace of the template.
        namespace: String,
        /// Why.
        error: RenderError,
    },
    /// The metric's own query cannot be filled in.
    #[error("Metric {metric} query render error: {error}")]
    Render {
        /// Name of the metric.
        metric: String,
        /// Why.
        error: RenderError,
    },
    /// The metric's time range cannot be read.
    #[error("Metric {metric} interval: {error}")]
    Interval {
        /// Name of the metric.
        metric: String,
        /// Why.
        error: InvalidDuration,
    },
}

/// The `MetricTemplate` that a metric refers to, by default in the Canary's namespace.
pub fn template_key(canary: &Canary, reference: Option<&NamespacedRef>) -> Option<Key> {
    let reference = reference?;
    let own = canary.metadata.namespace.as_deref().unwrap_or_default();
    let namespace = reference
        .namespace
        .as_deref()
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or(own);
    Some(Key::new(
        Kind::MetricTemplate,
        namespace,
        reference.name.as_str(),
    ))
}

/// The queries of one metric: the builtin one, the metric's own, and the template's, as far as
/// there are.
///
/// # Errors
/// When there is nothing to ask, or the template cannot be used.
pub fn metric_query(
    canary: &Canary,
    settings: &Settings,
    metric: &Metric,
    template: Option<&MetricTemplate>,
) -> Result<Vec<MetricQuery>, MetricError> {
    let facts = QueryFacts::new(canary, metric);
    // The schema anchors the pattern at the start only, and a range stands outside strings.
    crate::api::duration::parse(&facts.interval).map_err(|error| MetricError::Interval {
        metric: metric.name.clone(),
        error,
    })?;
    let unrenderable = |error| MetricError::Render {
        metric: metric.name.clone(),
        error,
    };
    let plain = |source, server, query| MetricQuery {
        name: metric.name.clone(),
        source,
        server,
        query,
        interval: metric.interval.clone().unwrap_or_default(),
        scale: 1.0,
        whole: false,
        bound: bound(metric, None),
    };
    let mut queries = Vec::new();

    if let Some(builtin) = Builtin::named(&metric.name) {
        let asked = builtin::query(MetricsOf::canary(canary, settings), builtin, &facts)
            .map_err(unrenderable)?;
        queries.push(MetricQuery {
            scale: asked.scale,
            whole: builtin == Builtin::Duration,
            bound: bound(metric, Some(builtin)),
            ..plain(
                MetricSource::Builtin,
                default_server(canary, settings),
                asked.query,
            )
        });
    }
    if let Some(query) = metric.query.as_deref().filter(|query| !query.is_empty()) {
        queries.push(plain(
            MetricSource::Inline,
            default_server(canary, settings),
            render(query, &facts).map_err(unrenderable)?,
        ));
    }
    if let Some(Key {
        name, namespace, ..
    }) = template_key(canary, metric.template_ref.as_ref())
    {
        if settings.no_cross_namespace_refs && namespace != facts.namespace {
            return Err(MetricError::CrossNamespace { name, namespace });
        }
        let Some(template) = template else {
            return Err(MetricError::NoTemplate { name, namespace });
        };
        let server = template_server(template, &namespace);
        let query = match server.kind {
            MetricProviderType::Prometheus if server.address.is_empty() => {
                return Err(MetricError::NoAddress { name, namespace });
            }
            MetricProviderType::Prometheus => {
                render(&template.spec.query, &facts).map_err(|error| MetricError::Template {
                    name,
                    namespace,
                    error,
                })?
            }
            // Other languages quote in other ways; their servers are not asked yet.
            MetricProviderType::Influxdb
            | MetricProviderType::Datadog
            | MetricProviderType::Stackdriver
            | MetricProviderType::Cloudwatch
            | MetricProviderType::Newrelic
            | MetricProviderType::Graphite
            | MetricProviderType::Dynatrace
            | MetricProviderType::Keptn
            | MetricProviderType::Splunk
            | MetricProviderType::Externalmetrics => template.spec.query.clone(),
        };
        queries.push(plain(MetricSource::Template, server, query));
    }
    if queries.is_empty() {
        return Err(MetricError::Nothing {
            metric: metric.name.clone(),
        });
    }
    Ok(queries)
}

/// The Prometheus server of builtin and inline queries.
pub(super) fn default_server(canary: &Canary, settings: &Settings) -> MetricServer {
    MetricServer::prometheus(
        canary
            .spec
            .metrics_server
            .clone()
            .filter(|address| !address.is_empty())
            .unwrap_or_else(|| settings.metrics_server.clone()),
    )
}

pub(super) fn template_server(template: &MetricTemplate, namespace: &str) -> MetricServer {
    let provider = template.spec.provider.clone();
    MetricServer {
        kind: provider.kind.unwrap_or(MetricProviderType::Prometheus),
        address: provider.address.unwrap_or_default(),
        headers: provider.headers.unwrap_or_default(),
        secret: provider
            .secret_ref
            .map(|secret| (namespace.to_owned(), secret.name)),
        region: provider.region,
        insecure_skip_verify: provider.insecure_skip_verify.unwrap_or_default(),
    }
}

/// Values that pass: the metric's range, else its deprecated threshold, which is the smallest
/// success rate and the largest value of anything else. Durations compare in whole milliseconds.
fn bound(metric: &Metric, builtin: Option<Builtin>) -> ThresholdRange {
    let range = metric.threshold_range.unwrap_or_else(|| {
        let threshold = Some(metric.threshold.unwrap_or_default());
        match builtin {
            Some(Builtin::SuccessRate) => ThresholdRange {
                min: threshold,
                max: None,
            },
            Some(Builtin::Duration) | None => ThresholdRange {
                min: None,
                max: threshold,
            },
        }
    });
    match builtin {
        Some(Builtin::Duration) => ThresholdRange {
            min: range.min.map(f64::trunc),
            max: range.max.map(f64::trunc),
        },
        Some(Builtin::SuccessRate) | None => range,
    }
}

/// Why the release halts on the outcome of a metric, in the words that event readers know;
/// `None` when the value passes.
pub fn halt_message(
    canary: &Canary,
    settings: &Settings,
    query: &MetricQuery,
    outcome: &Outcome,
) -> Option<String> {
    let name = canary.metadata.name.as_deref().unwrap_or_default();
    let namespace = canary.metadata.namespace.as_deref().unwrap_or_default();
    let target = &canary.spec.target_ref.name;
    let metric = &query.name;
    let message = match outcome {
        Outcome::Value(value) if value.is_nan() => {
            let nothing = Outcome::NoData("found NaN".to_owned());
            return halt_message(canary, settings, query, &nothing);
        }
        Outcome::Value(value) => {
            let (sign, limit) = broken_bound(query.bound, *value)?;
            let builtin = Builtin::named(metric).filter(|_| query.source == MetricSource::Builtin);
            let found = match builtin {
                Some(Builtin::SuccessRate) => {
                    let limit = text::number(limit);
                    format!("success rate {value:.2}% {sign} {limit}%")
                }
                Some(Builtin::Duration) => format!(
                    "request duration {} {sign} {}",
                    text::milliseconds(*value),
                    text::milliseconds(limit)
                ),
                None => format!("{metric} {value:.2} {sign} {}", text::number(limit)),
            };
            format!("Halt {name}.{namespace} advancement {found}")
        }
        Outcome::NoData(why) => match query.source {
            MetricSource::Builtin => format!(
                "Halt advancement no values found for {} metric {metric} probably \
                 {target}.{namespace} is not receiving traffic: {why}",
                MetricsOf::canary(canary, settings).name()
            ),
            MetricSource::Inline if why == NO_VALUES => {
                format!("Halt advancement no values found for metric: {metric}")
            }
            MetricSource::Inline => {
                format!("Halt advancement no values found for metric: {metric}: {why}")
            }
            MetricSource::Template => {
                format!("Halt advancement no values found for custom metric: {metric}: {why}")
            }
        },
        Outcome::Unavailable(why) | Outcome::Refused(why) => match query.source {
            MetricSource::Builtin => format!("Prometheus query failed: {why}"),
            MetricSource::Inline => format!("Prometheus query failed for {metric}: {why}"),
            MetricSource::Template => format!("Metric query failed for {metric}: {why}"),
        },
        Outcome::Agreed => format!("Metric query failed for {metric}: found no number"),
    };
    Some(message)
}

/// The bound that a value breaks, with the sign that says how.
fn broken_bound(bound: ThresholdRange, value: f64) -> Option<(&'static str, f64)> {
    let below = bound.min.filter(|min| value < *min).map(|min| ("<", min));
    below.or_else(|| bound.max.filter(|max| value > *max).map(|max| (">", max)))
}

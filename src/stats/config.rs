//! What the judge is told: budgets, metrics and their settings, checked before use.

use serde::{Deserialize, Serialize};

mod check;

pub use check::ConfigError;

/// The judge's configuration: the first line of `haldane judge`'s input.
///
/// Made by [`JudgeConfig::validate`] or read from JSON; a [`Judge`](super::Judge) takes only a
/// valid one. Changing it during a release starts a new test with a new α.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct JudgeConfig {
    /// α, the chance of ever rolling back a tolerable canary; in (0, 1). Default 0.01.
    pub alpha: f64,
    /// β, the chance that a step passes while the canary is bad; in (0, 1). Default 0.05.
    pub beta: f64,
    /// Canary requests that a step needs before it can pass; at least 0. Default 30.
    pub min_requests: f64,
    /// What is measured, at least one of it critical. Default, also for an empty list: `errors`
    /// (ratio) and `latency` (histogram).
    #[serde(deserialize_with = "metrics_or_default")]
    pub metrics: Vec<MetricConfig>,
}

/// One metric: its name, its say in the verdict and what kind of numbers it has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricConfig {
    /// Its name, unique; looks give numbers under it.
    pub name: String,
    /// Its share of the evidence relative to the other critical metrics; above 0. Default 1.
    #[serde(default = "one")]
    pub weight: f64,
    /// Whether it counts towards the verdict; a dry-run metric (false) is only reported. Default
    /// true.
    #[serde(default = "yes")]
    pub critical: bool,
    /// What is measured and how it is compared.
    #[serde(flatten)]
    pub kind: MetricKind,
}

/// The kinds of metrics with their settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum MetricKind {
    /// Bad requests among all requests.
    Ratio(RatioSettings),
    /// Requests slower than bounds that are chosen from the primary's histogram.
    Histogram(HistogramSettings),
    /// A number per look, without counts.
    Scalar(ScalarSettings),
}

/// Settings of a `ratio` metric. Rates are shares of requests in \[0, 1\].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RatioSettings {
    /// ρ: tolerated is p1 ≤ maxRatio·p0 + maxIncrease; above 0. Default 1.25.
    pub max_ratio: f64,
    /// δ, in \[0, 1\]. Default 0.0005.
    pub max_increase: f64,
    /// `ρ_b`: bad is p1 ≥ badRatio·p0 + `δ_b`; at least maxRatio. Default 2.
    pub bad_ratio: f64,
    /// h, extra bad requests among all users that a step must exclude before the next; in (0, 1].
    /// `δ_b` = min(h / next weight, 0.25). Default 0.005.
    pub harm: f64,
    /// The allowed share of bad requests where the primary has no traffic, in (0, 1]; null for
    /// none. Default 0.01.
    pub objective: Option<f64>,
    /// No pass while the primary's own share of bad requests in the step is above this; null for
    /// no such limit. Default 0.05.
    pub hold_above: Option<f64>,
    /// What the canary is compared with. Default the primary.
    pub compare: Compare,
    /// φ: estimated (`"auto"`) or fixed. Default auto.
    pub dispersion: DispersionSetting,
    /// Whether looks while pods are young are left out. Default false.
    pub skip_cold: bool,
}

/// Settings of a `histogram` metric.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct HistogramSettings {
    /// How much slower is tolerated, as a share of time; at least 0. Default 0.08.
    pub max_slower: f64,
    /// δ, in \[0, 1\]. Default 0.001.
    pub max_increase: f64,
    /// How much slower is bad; at least maxSlower. Default 0.30.
    pub bad_slower: f64,
    /// h as for ratios. Default 0.01.
    pub harm: f64,
    /// A bound in the unit of the histogram, used instead of chosen ones; above 0. Default none.
    pub bound: Option<f64>,
    /// With `bound`: the allowed share of slower requests where the primary has no traffic.
    /// Default none.
    pub objective: Option<f64>,
    /// As for ratios. Default none.
    pub hold_above: Option<f64>,
    /// As for ratios. Default the primary.
    pub compare: Compare,
    /// As for ratios. Default auto.
    pub dispersion: DispersionSetting,
    /// As for ratios. Default true.
    pub skip_cold: bool,
}

/// Settings of a `scalar` metric; see [`is_worse`](super::scalar::is_worse).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ScalarSettings {
    /// Factor on the primary's number that is allowed; above 0. Default 1.
    pub max_ratio: f64,
    /// What is allowed on top, in the metric's unit; at least 0. Default 0.
    pub max_increase: f64,
    /// Which direction is worse. Default higher.
    pub worse: Worse,
    /// The least the canary may show; with `min` or `max` the primary is not asked. Default none.
    pub min: Option<f64>,
    /// The most the canary may show. Default none.
    pub max: Option<f64>,
    /// As for ratios. Default true.
    pub skip_cold: bool,
}

/// What a canary is compared with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Compare {
    /// The primary in the same slice of time; the objective where it has no requests.
    #[default]
    Primary,
    /// Always the objective.
    Objective,
}

/// Which direction of a scalar is worse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Worse {
    /// Higher numbers are worse.
    #[default]
    Higher,
    /// Lower numbers are worse.
    Lower,
}

/// Where φ comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DispersionSetting {
    /// A number of at least 1.
    Fixed(f64),
    /// Estimated from the primary; `"auto"` in JSON.
    #[default]
    #[serde(with = "auto")]
    Auto,
}

mod auto {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str("auto")
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<(), D::Error> {
        match String::deserialize(from)?.as_str() {
            "auto" => Ok(()),
            other => Err(D::Error::custom(format!(
                "`{other}` is neither `auto` nor a number"
            ))),
        }
    }
}

impl Default for JudgeConfig {
    fn default() -> Self {
        Self {
            alpha: 0.01,
            beta: 0.05,
            min_requests: 30.0,
            metrics: default_metrics(),
        }
    }
}

impl Default for RatioSettings {
    fn default() -> Self {
        Self {
            max_ratio: 1.25,
            max_increase: 0.0005,
            bad_ratio: 2.0,
            harm: 0.005,
            objective: Some(0.01),
            hold_above: Some(0.05),
            compare: Compare::Primary,
            dispersion: DispersionSetting::Auto,
            skip_cold: false,
        }
    }
}

impl Default for HistogramSettings {
    fn default() -> Self {
        Self {
            max_slower: 0.08,
            max_increase: 0.001,
            bad_slower: 0.30,
            harm: 0.01,
            bound: None,
            objective: None,
            hold_above: None,
            compare: Compare::Primary,
            dispersion: DispersionSetting::Auto,
            skip_cold: true,
        }
    }
}

impl Default for ScalarSettings {
    fn default() -> Self {
        Self {
            max_ratio: 1.0,
            max_increase: 0.0,
            worse: Worse::Higher,
            min: None,
            max: None,
            skip_cold: true,
        }
    }
}

impl MetricConfig {
    /// A critical metric of weight 1.
    pub fn new(name: impl Into<String>, kind: MetricKind) -> Self {
        Self {
            name: name.into(),
            weight: 1.0,
            critical: true,
            kind,
        }
    }
}

fn default_metrics() -> Vec<MetricConfig> {
    vec![
        MetricConfig::new("errors", MetricKind::Ratio(RatioSettings::default())),
        MetricConfig::new(
            "latency",
            MetricKind::Histogram(HistogramSettings::default()),
        ),
    ]
}

fn metrics_or_default<'de, D: serde::Deserializer<'de>>(
    from: D,
) -> Result<Vec<MetricConfig>, D::Error> {
    let metrics = Vec::deserialize(from)?;
    Ok(if metrics.is_empty() {
        default_metrics()
    } else {
        metrics
    })
}

fn one() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

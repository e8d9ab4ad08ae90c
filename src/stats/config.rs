//! What the judge is told: budgets, metrics and their settings, checked before use.

use serde::{Deserialize, Serialize};
use thiserror::Error;

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

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{field} is {found}: {remedy}")]
pub struct ConfigError {
    /// The path of the field, such as `metrics[errors].maxRatio`.
    pub field: String,
    /// The value found there.
    pub found: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl JudgeConfig {
    /// Check every setting; the first that cannot be used is the error.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let top = Fields { metric: None };
        let open_unit = |v: f64| v > 0.0 && v < 1.0;
        top.number(
            "alpha",
            self.alpha,
            open_unit,
            "set a number between 0 and 1, such as 0.01",
        )?;
        top.number(
            "beta",
            self.beta,
            open_unit,
            "set a number between 0 and 1, such as 0.05",
        )?;
        top.number(
            "minRequests",
            self.min_requests,
            not_negative,
            "set a number of at least 0, such as 30",
        )?;
        for (at, metric) in self.metrics.iter().enumerate() {
            if self
                .metrics
                .iter()
                .take(at)
                .any(|other| other.name == metric.name)
            {
                return Err(error(
                    format!("metrics[{at}].name"),
                    &metric.name,
                    "give each metric a name of its own",
                ));
            }
            metric.validate(at)?;
        }
        if !self.metrics.iter().any(|metric| metric.critical) {
            let found = if self.metrics.is_empty() {
                "empty"
            } else {
                "without a critical metric"
            };
            return Err(error(
                "metrics".into(),
                found,
                "let at least one metric be critical, else nothing is judged",
            ));
        }
        Ok(())
    }
}

impl MetricConfig {
    fn validate(&self, at: usize) -> Result<(), ConfigError> {
        if self.name.is_empty() {
            return Err(error(
                format!("metrics[{at}].name"),
                "empty",
                "give the metric a name",
            ));
        }
        let fields = Fields {
            metric: Some(&self.name),
        };
        fields.number(
            "weight",
            self.weight,
            |v| v > 0.0 && v <= 1e9,
            "set a number above 0, such as 1",
        )?;
        match &self.kind {
            MetricKind::Ratio(settings) => settings.validate(fields),
            MetricKind::Histogram(settings) => settings.validate(fields),
            MetricKind::Scalar(settings) => settings.validate(fields),
        }
    }
}

const SHARE: &str = "set a share of requests, above 0 and at most 1";
const INCREASE: &str = "set a share of requests between 0 and 1";
const FACTOR: &str = "set a factor above 0 and at most 1000";
const SLOWER: &str =
    "set a share of time of at least 0 and at most 10, such as 0.08 for 8 % slower";

impl RatioSettings {
    fn validate(&self, fields: Fields<'_>) -> Result<(), ConfigError> {
        fields.number("maxRatio", self.max_ratio, is_factor, FACTOR)?;
        fields.number("maxIncrease", self.max_increase, is_increase, INCREASE)?;
        fields.number("badRatio", self.bad_ratio, is_factor, FACTOR)?;
        let above = |v| v >= self.max_ratio;
        fields.number(
            "badRatio",
            self.bad_ratio,
            above,
            "what is bad must not be tolerated: set at least maxRatio",
        )?;
        fields.number("harm", self.harm, is_share, SHARE)?;
        fields.optional("objective", self.objective, is_share, SHARE)?;
        fields.optional("holdAbove", self.hold_above, is_share, SHARE)?;
        fields.dispersion(self.dispersion)?;
        fields.compare(self.compare, self.objective)
    }
}

impl HistogramSettings {
    fn validate(&self, fields: Fields<'_>) -> Result<(), ConfigError> {
        let is_slower = |v: f64| (0.0..=10.0).contains(&v);
        fields.number("maxSlower", self.max_slower, is_slower, SLOWER)?;
        fields.number("maxIncrease", self.max_increase, is_increase, INCREASE)?;
        fields.number("badSlower", self.bad_slower, is_slower, SLOWER)?;
        let above = |v| v >= self.max_slower;
        fields.number(
            "badSlower",
            self.bad_slower,
            above,
            "what is bad must not be tolerated: set at least maxSlower",
        )?;
        fields.number("harm", self.harm, is_share, SHARE)?;
        let positive = |v: f64| v > 0.0 && v.is_finite();
        fields.optional(
            "bound",
            self.bound,
            positive,
            "set a time above 0 in the unit of the histogram",
        )?;
        fields.optional("objective", self.objective, is_share, SHARE)?;
        let with_bound = |_| self.bound.is_some();
        fields.optional(
            "objective",
            self.objective,
            with_bound,
            "set `bound` too: it is the share slower than that",
        )?;
        fields.optional("holdAbove", self.hold_above, is_share, SHARE)?;
        fields.dispersion(self.dispersion)?;
        fields.compare(self.compare, self.objective)
    }
}

impl ScalarSettings {
    fn validate(&self, fields: Fields<'_>) -> Result<(), ConfigError> {
        fields.number("maxRatio", self.max_ratio, is_factor, FACTOR)?;
        fields.number(
            "maxIncrease",
            self.max_increase,
            not_negative,
            "set a number of at least 0",
        )?;
        fields.optional("min", self.min, f64::is_finite, "set a finite number")?;
        fields.optional("max", self.max, f64::is_finite, "set a finite number")?;
        let above = |v| self.min.is_none_or(|min| v >= min);
        fields.optional(
            "max",
            self.max,
            above,
            "set at least `min`, else every look is worse",
        )
    }
}

fn is_factor(value: f64) -> bool {
    value > 0.0 && value <= 1000.0
}

fn is_share(value: f64) -> bool {
    value > 0.0 && value <= 1.0
}

fn is_increase(value: f64) -> bool {
    (0.0..=1.0).contains(&value)
}

fn not_negative(value: f64) -> bool {
    value >= 0.0 && value.is_finite()
}

fn error(field: String, found: impl ToString, remedy: &'static str) -> ConfigError {
    ConfigError {
        field,
        found: found.to_string(),
        remedy,
    }
}

/// Names fields of one metric, or of the configuration itself, in errors.
#[derive(Clone, Copy)]
struct Fields<'a> {
    metric: Option<&'a str>,
}

impl Fields<'_> {
    fn path(self, field: &str) -> String {
        match self.metric {
            Some(metric) => format!("metrics[{metric}].{field}"),
            None => field.to_owned(),
        }
    }

    fn number(
        self,
        field: &str,
        value: f64,
        fits: impl Fn(f64) -> bool,
        remedy: &'static str,
    ) -> Result<(), ConfigError> {
        if fits(value) {
            Ok(())
        } else {
            Err(error(self.path(field), value, remedy))
        }
    }

    fn optional(
        self,
        field: &str,
        value: Option<f64>,
        fits: impl Fn(f64) -> bool,
        remedy: &'static str,
    ) -> Result<(), ConfigError> {
        value.map_or(Ok(()), |value| self.number(field, value, fits, remedy))
    }

    fn dispersion(self, setting: DispersionSetting) -> Result<(), ConfigError> {
        match setting {
            DispersionSetting::Auto => Ok(()),
            DispersionSetting::Fixed(value) => {
                let fits = |v: f64| (1.0..=1e6).contains(&v);
                self.number(
                    "dispersion",
                    value,
                    fits,
                    "set `auto` or a number of at least 1",
                )
            }
        }
    }

    fn compare(self, compare: Compare, objective: Option<f64>) -> Result<(), ConfigError> {
        match (compare, objective) {
            (Compare::Objective, None) => Err(error(
                self.path("compare"),
                "objective",
                "set `objective` too, or compare with the primary",
            )),
            (Compare::Objective | Compare::Primary, _) => Ok(()),
        }
    }
}

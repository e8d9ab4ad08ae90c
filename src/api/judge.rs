//! `spec.analysis.judge`: sequential analysis against the live primary.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    analysis::{Analysis, NamespacedRef, Strategy},
    duration,
};
use crate::stats::{ConfigError, JudgeConfig};

/// Judges the canary by what it does worse than the primary at the same time, with one budget for
/// false rollbacks of the whole release. `{}` judges errors and latency of a web service; absent:
/// only thresholds judge. With `metrics` beside it both must agree.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JudgeSpec {
    /// Chance that a tolerable release is ever rolled back, between 0 and 1. Default 0.01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alpha: Option<f64>,
    /// Chance that a step passes although the canary is bad, between 0 and 1. Default 0.05.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beta: Option<f64>,
    /// Requests that the canary must have had before a step passes. Default 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_requests: Option<i32>,
    /// How often the metrics server scrapes; the judge looks after each scrape. Default `15s`, or
    /// the interval when that is shorter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scrape_interval: Option<String>,
    /// What happens when a step ends undecided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undecided: Option<Undecided>,
    /// What is measured. Default: `errors` and `latency` of the route API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Vec<JudgeMetric>>,
}

/// What happens when a step ends undecided.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Undecided {
    /// Intervals by which a step is extended at most. Default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extend: Option<i32>,
    /// What happens then: `Hold` (the default) waits for a person, `RollBack` rolls back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub then: Option<Then>,
}

/// What happens after the last extension of a step.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, JsonSchema)]
pub enum Then {
    /// Wait for a person.
    #[default]
    Hold,
    /// Roll back.
    RollBack,
}

/// What kind of numbers a metric has.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JudgeKind {
    /// Bad requests among all: two counters.
    Ratio,
    /// Durations: a histogram.
    Histogram,
    /// One number at a time.
    Scalar,
}

/// What the canary is compared with.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CompareWith {
    /// The primary at the same time.
    Primary,
    /// The objective: for A/B tests, whose sides have other users.
    Objective,
}

/// Which direction of a number is worse.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorseWhen {
    /// Higher numbers are worse.
    Higher,
    /// Lower numbers are worse.
    Lower,
}

/// One metric of the judge.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JudgeMetric {
    /// Name; `errors` and `latency` need no query.
    pub name: String,
    /// What kind of numbers it has.
    pub kind: JudgeKind,
    /// Query of one side's raw counters, which keeps a label that tells pods apart: of bad
    /// requests (`ratio`) or of buckets (`histogram`); or of one number (`scalar`).
    /// `{{ target }}` is the side's workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// `ratio`: query of all requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
    /// The `MetricTemplate` that has the queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<NamespacedRef>,
    /// Values of `{{ variables.NAME }}` in the queries.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_variables: Option<BTreeMap<String, String>>,
    /// Factor on the primary's rate (`ratio`, default 1.25) or number (`scalar`, default 1) that
    /// is tolerated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ratio: Option<f64>,
    /// What is tolerated on top: a share of requests (default 0.0005, `histogram` 0.001), or in
    /// the unit of a `scalar` (default 0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_increase: Option<f64>,
    /// `histogram`: how much slower is tolerated, as a share of time. Default 0.08.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_slower: Option<f64>,
    /// `ratio`: factor on the primary's rate that is bad. Default 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_ratio: Option<f64>,
    /// `histogram`: how much slower is bad, as a share of time. Default 0.3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bad_slower: Option<f64>,
    /// Share of all users' requests that may be made bad by the next step. Default 0.005,
    /// `histogram` 0.01.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub harm: Option<f64>,
    /// Share of bad requests that is allowed where there is no primary to compare with. Default
    /// 0.01 for `ratio`; a `histogram` needs `bound` with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub objective: Option<f64>,
    /// No step passes while the primary's own share of bad requests is above this. Default 0.05
    /// for `ratio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold_above: Option<f64>,
    /// `histogram`: requests slower than this are bad, in the histogram's unit. Default: chosen
    /// from the primary's own requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// What the canary is compared with. Default `primary`; in A/B tests `objective` where there
    /// is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<CompareWith>,
    /// How much more than by chance bad requests vary, at least 1. Default: estimated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dispersion: Option<f64>,
    /// Leave out the first minute of new pods. Default true but for `ratio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_cold: Option<bool>,
    /// `scalar`: which direction is worse. Default `higher`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worse: Option<WorseWhen>,
    /// `scalar`: least number of the canary; the primary is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// `scalar`: largest number of the canary; the primary is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Share of the evidence relative to other metrics. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<f64>,
    /// Whether it counts; otherwise it is reported only. Default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critical: Option<bool>,
}

/// Why a judge cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum JudgeSpecError {
    /// A setting that its kind of metric does not have.
    #[error("{0}")]
    Shape(#[from] serde_json::Error),
    /// A setting that cannot work.
    #[error(transparent)]
    Setting(#[from] ConfigError),
}

impl JudgeSpec {
    /// Time between two looks: the scrape interval, by default 15 s, at most `interval`.
    pub fn every(&self, interval: Duration) -> Duration {
        self.scrape_interval
            .as_deref()
            .and_then(|text| duration::parse(text).ok())
            .unwrap_or(Duration::from_secs(15))
            .clamp(Duration::from_secs(1), interval)
    }

    /// Intervals by which a step is extended at most.
    pub fn extensions(&self) -> u32 {
        let given = self.undecided.as_ref().and_then(|u| u.extend);
        given.map_or(10, |n| u32::try_from(n).unwrap_or_default())
    }

    /// What happens after the last extension.
    pub fn then(&self) -> Then {
        let undecided = self.undecided.as_ref();
        undecided.and_then(|u| u.then).unwrap_or_default()
    }

    /// The metrics, the default ones filled in.
    pub fn metrics(&self) -> Vec<JudgeMetric> {
        let given = self.metrics.clone().unwrap_or_default();
        if !given.is_empty() {
            return given;
        }
        vec![
            JudgeMetric::new("errors", JudgeKind::Ratio),
            JudgeMetric::new("latency", JudgeKind::Histogram),
        ]
    }

    /// The judge's configuration for a release.
    ///
    /// An A/B test's sides have other users: ratios compare with their objective, and a latency
    /// without one is reported only.
    ///
    /// # Errors
    /// When a setting does not belong to its kind of metric, or cannot work.
    pub fn config(&self, strategy: Strategy) -> Result<JudgeConfig, JudgeSpecError> {
        let mut config = Map::new();
        let mut set = |name: &str, value: Option<f64>| {
            config.extend(value.map(|value| (name.to_owned(), Value::from(value))));
        };
        set("alpha", self.alpha);
        set("beta", self.beta);
        set("minRequests", self.min_requests.map(f64::from));
        let metrics = self
            .metrics()
            .into_iter()
            .map(|metric| metric.config(strategy))
            .collect::<Result<Vec<_>, _>>()?;
        config.insert("metrics".to_owned(), Value::from(metrics));
        let config: JudgeConfig = serde_json::from_value(Value::Object(config))?;
        config.validate()?;
        Ok(config)
    }
}

impl JudgeMetric {
    /// A metric with the defaults of its kind.
    pub fn new(name: &str, kind: JudgeKind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            query: None,
            total: None,
            template_ref: None,
            template_variables: None,
            max_ratio: None,
            max_increase: None,
            max_slower: None,
            bad_ratio: None,
            bad_slower: None,
            harm: None,
            objective: None,
            hold_above: None,
            bound: None,
            compare: None,
            dispersion: None,
            skip_cold: None,
            worse: None,
            min: None,
            max: None,
            weight: None,
            critical: None,
        }
    }

    fn config(mut self, strategy: Strategy) -> Result<Value, serde_json::Error> {
        for name in [&mut self.query, &mut self.total] {
            *name = None;
        }
        self.template_ref = None;
        self.template_variables = None;
        if strategy == Strategy::AbTesting && self.compare.is_none() {
            match self.kind {
                JudgeKind::Ratio => self.compare = Some(CompareWith::Objective),
                JudgeKind::Histogram if self.objective.is_some() => {
                    self.compare = Some(CompareWith::Objective);
                }
                JudgeKind::Histogram => self.critical = Some(false),
                JudgeKind::Scalar => {}
            }
        }
        serde_json::to_value(self)
    }
}

impl Analysis {
    /// What is wrong with `judge` for reasons that a schema cannot tell: the field below it,
    /// and why.
    pub fn judge_fault(&self) -> Option<(String, String)> {
        let error = self.judge.as_ref()?.config(self.strategy()).err()?;
        Some(match error {
            JudgeSpecError::Shape(error) => ("metrics".to_owned(), error.to_string()),
            JudgeSpecError::Setting(error) => (
                error.field,
                format!("found {}: {}", error.found, error.remedy),
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn spec(json: &str) -> JudgeSpec {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn judge_of_nothing_has_the_defaults_of_the_statistics() {
        let config = spec("{}").config(Strategy::Canary).unwrap();
        assert_eq!(config, JudgeConfig::default());
    }

    #[test]
    fn judge_with_a_setting_of_another_kind_is_refused() {
        let error = spec(r#"{"metrics":[{"name":"latency","kind":"histogram","maxRatio":2}]}"#)
            .config(Strategy::Canary)
            .unwrap_err();
        assert!(error.to_string().contains("maxRatio"), "{error}");
    }

    #[test]
    fn judge_whose_bad_is_tolerated_is_refused_with_the_field() {
        let analysis = Analysis {
            judge: Some(spec(
                r#"{"metrics":[{"name":"errors","kind":"ratio","maxRatio":3}]}"#,
            )),
            ..Analysis::default()
        };
        let (field, why) = analysis.judge_fault().unwrap();
        assert_eq!(field, "metrics[errors].badRatio");
        assert!(why.contains("at least maxRatio"), "{why}");
    }

    #[test]
    fn judge_of_an_ab_test_compares_errors_with_the_objective() {
        let config = spec("{}").config(Strategy::AbTesting).unwrap();
        let text = serde_json::to_value(&config).unwrap();
        assert_eq!(text["metrics"][0]["compare"], "objective");
        assert_eq!(text["metrics"][1]["critical"], false);
    }

    #[test]
    fn looks_follow_scrapes_and_never_lag_behind_the_interval() {
        let every = |json: &str, secs| spec(json).every(Duration::from_secs(secs)).as_secs();
        assert_eq!(every("{}", 60), 15);
        assert_eq!(every("{}", 10), 10);
        assert_eq!(every(r#"{"scrapeInterval":"5s"}"#, 60), 5);
    }
}

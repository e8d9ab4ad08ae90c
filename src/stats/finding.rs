//! What the judge says after a look.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use super::interval::RatioInterval;
use super::look::StepId;

/// The result of one look: a result line of `haldane judge`.
///
/// Logarithms are natural; what is unbounded or unknown is none (null).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The look's time, seconds.
    #[serde(serialize_with = "whole")]
    pub t: f64,
    /// The look's step.
    pub step: StepId,
    /// ln E by metric.
    #[serde(rename = "logE")]
    pub log_e: BTreeMap<String, f64>,
    /// ln E of all critical metrics together.
    #[serde(rename = "logEAll")]
    pub log_e_all: f64,
    /// An always-valid p-value of "tolerated": exp(−max ln E), in \[0, 1\].
    pub p_value: f64,
    /// ln P of this step by metric; none while a metric cannot be judged.
    pub log_pass: BTreeMap<String, Option<f64>>,
    /// By metric.
    pub detail: BTreeMap<String, Detail>,
    /// What follows for the release.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What [`Self::sentence`] speaks of.
    #[serde(skip)]
    pub(super) focus: Focus,
}

/// What a look reports of one metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    /// φ used at this look, per stream.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phi: Vec<f64>,
    /// The canary's rate over the primary's, per stream; none without any bad request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ratio: Vec<Option<RatioInterval>>,
    /// Latency: the bounds, a stream each, in the unit of the histogram.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Vec<f64>>,
    /// Latency: ρ per bound; none before the canary's first requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ratio: Option<Vec<Option<f64>>>,
}

/// What a look means for the release.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "camelCase")]
pub enum Verdict {
    /// Roll back at once; final for the release.
    Fail {
        /// The culprit: the metric with the largest share of the evidence when it failed.
        metric: String,
    },
    /// The step may end now. Not remembered: it must hold at the look at which the step ends.
    Pass,
    /// Neither yet.
    Undecided {
        /// What a decision is likely to need.
        needs: Needs,
        /// What forbids a pass whatever the evidence: `primary:NAME` for a sick primary, `doubt`
        /// for E ≥ 10.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        withheld: Vec<String>,
    },
}

/// A forecast at this step's pace. All none: no decision in sight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Needs {
    /// Which decision comes first.
    pub towards: Option<Outcome>,
    /// Canary requests until then, a whole number.
    #[serde(serialize_with = "maybe_whole")]
    pub requests: Option<f64>,
    /// Seconds until then.
    pub seconds: Option<f64>,
    /// Canary requests within which a canary that is just bad would show itself, a whole number.
    #[serde(serialize_with = "maybe_whole")]
    pub requests_if_bad: Option<f64>,
}

/// The two decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The step passes.
    Pass,
    /// The release fails.
    Fail,
}

/// The metric that carries most of the evidence, for [`Finding::sentence`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Focus {
    pub metric: String,
    /// The stream with the most evidence, as an index.
    pub stream: usize,
    /// Whether its last slice was judged by the objective.
    pub by_objective: bool,
    pub alpha: f64,
}

/// Whole numbers without a decimal point where an integer holds them exactly.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "checked to be whole and below 2^53"
)]
pub(super) fn whole<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    if value.fract().abs() > 0.0 || value.abs() > 9_007_199_254_740_992.0 {
        to.serialize_f64(*value)
    } else {
        to.serialize_i64(*value as i64)
    }
}

#[expect(clippy::ref_option, reason = "serde passes fields by reference")]
fn maybe_whole<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => whole(value, to),
        None => to.serialize_none(),
    }
}

//! `Canary.status.judge`: the evidence so far, for people and for whoever goes on after a restart.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the judge found so far in the release under way, or in the last one.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JudgeStatus {
    /// What the last look came to.
    #[serde(default)]
    pub verdict: JudgeVerdict,
    /// The same in one sentence, with what a decision still needs.
    #[serde(default)]
    pub message: String,
    /// When counters that had changed were last looked at. After a restart they are read again as
    /// of this time, so that nothing is counted twice or lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub time: Option<Timestamp>,
    /// The step by what users get: `20 %`, `mirrored`, `matched` (A/B test), `tested` (blue/green)
    /// or `before` (nobody gets the canary yet).
    #[serde(default)]
    pub step: String,
    /// When the step began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub step_started: Option<Timestamp>,
    /// Whether the step goes on after its interval because it is undecided.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extended: bool,
    /// Whether it was extended as often as it may be, so that a person was told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub held: bool,
    /// Evidence that the canary is worse than tolerated: 1 at the begin; 1/alpha (100) rolls back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<f64>,
    /// About how many more requests of the canary a decision needs at this step's rates; absent:
    /// none is in sight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_needed: Option<f64>,
    /// About how many seconds that takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds_needed: Option<f64>,
    /// What was counted, by metric.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<JudgedMetric>,
    /// Digest of settings and queries; with others the evidence starts over.
    #[serde(default)]
    pub config: String,
    /// All that the next look needs to know, as JSON; absent when the release is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
}

/// What a look came to.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema,
)]
pub enum JudgeVerdict {
    /// Neither yet.
    #[default]
    Undecided,
    /// The step may end.
    Pass,
    /// The release is rolled back.
    Fail,
}

impl JudgeVerdict {
    /// The verdict as the status spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Undecided => "Undecided",
            Self::Pass => "Pass",
            Self::Fail => "Fail",
        }
    }
}

/// What was counted of one metric since the release began.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JudgedMetric {
    /// Name of the metric.
    pub name: String,
    /// Durations: a request that took longer is bad, in the histogram's unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<f64>,
    /// Requests of the canary.
    #[serde(default)]
    pub canary_requests: f64,
    /// Bad ones among them.
    #[serde(default)]
    pub canary_bad: f64,
    /// Requests of the primary in the same time.
    #[serde(default)]
    pub primary_requests: f64,
    /// Bad ones among them.
    #[serde(default)]
    pub primary_bad: f64,
    /// How many times the primary's rate of bad requests the canary's is, at a guess.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// It is no less than this, at the confidence 1 − alpha and at all times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_low: Option<f64>,
    /// It is no more than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ratio_high: Option<f64>,
    /// Evidence of this metric alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<f64>,
}

//! `Canary.status`: where a release stands, and all that a restart needs to go on.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{analysis::Severity, canary::Provider, judge_status::JudgeStatus};

/// Where a release stands.
///
/// A decision that changes what users get is written here before its first effect, so that a
/// crash at any point resumes to the same end.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CanaryStatus {
    /// Stage of the release.
    #[serde(default)]
    pub phase: Phase,
    /// Failed checks of this release.
    #[serde(default)]
    pub failed_checks: i32,
    /// Share of traffic, in percent, that the canary is to have.
    #[serde(default)]
    pub canary_weight: i32,
    /// Checks passed of a blue/green release or A/B test.
    #[serde(default)]
    pub iterations: i32,
    /// Checksums of the ConfigMaps and Secrets that the workload uses, by `configmap/NAME` or
    /// `secret/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracked_configs: Option<BTreeMap<String, String>>,
    /// Revision of the workload that was released last, whatever came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_applied_spec: Option<String>,
    /// Revision of the workload that the primary runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_promoted_spec: Option<String>,
    /// Time of the last change of this status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub last_transition_time: Option<Timestamp>,
    /// Cookie that keeps users on the canary, `name=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity_cookie: Option<String>,
    /// Cookie that keeps users on the primary, `name=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_session_affinity_cookie: Option<String>,
    /// Cookie of the release before, to be taken back from users, `name=value`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_session_affinity_cookie: Option<String>,
    /// `Promoted`, `Ready`, `Reconciling` and `Stalled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,

    /// Generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Steps taken by this release, the mirror step included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<i32>,
    /// Checks asked for by this release; tells the answer of one check from the next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checks: Option<i64>,
    /// Why the release last halted, as one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halt_reason: Option<String>,
    /// What the last check found, by metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Vec<MetricStatus>>,
    /// What the judge found so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<JudgeStatus>,
    /// When the next check is due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub next_check_time: Option<Timestamp>,
    /// When the revision under release, or the primary's promotion, started: deadlines count
    /// from here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub started_time: Option<Timestamp>,
    /// When the release under way started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub run_time: Option<Timestamp>,
    /// The route API by which the last release went. Users may be on the canary there: it is not
    /// left before they are back, whatever `spec.provider` says meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Whether the target was scaled to zero after the last release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaled_down: Option<bool>,
    /// Whether a person paused the release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
    /// What the last transition has to tell. Told again after a crash, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notices: Option<Vec<Notice>>,
    /// The last releases, newest first, at most [`HISTORY`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub history: Option<Vec<Release>>,
}

/// Most releases kept in [`CanaryStatus::history`].
pub const HISTORY: usize = 10;

/// Stage of a release.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema,
)]
pub enum Phase {
    /// Nothing was done yet.
    #[default]
    #[serde(rename = "")]
    New,
    /// The primary is being created.
    Initializing,
    /// The primary has all traffic; the first release can start.
    Initialized,
    /// A gate holds a new revision.
    Waiting,
    /// The canary is being analysed.
    Progressing,
    /// A gate holds the promotion.
    WaitingPromotion,
    /// The primary takes over the analysed revision.
    Promoting,
    /// Traffic returns to the primary.
    Finalising,
    /// The revision was promoted.
    Succeeded,
    /// The revision was rolled back.
    Failed,
    /// The Canary is being deleted.
    Terminating,
    /// Declared by Flagger, never written.
    Terminated,
}

impl Phase {
    /// Whether a canary is being analysed.
    pub fn is_analysed(self) -> bool {
        matches!(self, Self::Progressing | Self::WaitingPromotion)
    }

    /// Whether what the last release brought is what the primary has.
    pub fn is_promoted(self) -> bool {
        matches!(self, Self::Initialized | Self::Finalising | Self::Succeeded)
    }

    /// The phase as the status spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "",
            Self::Initializing => "Initializing",
            Self::Initialized => "Initialized",
            Self::Waiting => "Waiting",
            Self::Progressing => "Progressing",
            Self::WaitingPromotion => "WaitingPromotion",
            Self::Promoting => "Promoting",
            Self::Finalising => "Finalising",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Terminating => "Terminating",
            Self::Terminated => "Terminated",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One condition of a Canary.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// `Promoted`, `Ready`, `Reconciling` or `Stalled`.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// One word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// One sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When the condition last changed at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub last_update_time: Option<Timestamp>,
    /// When the condition's status last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub last_transition_time: Option<Timestamp>,
}

/// What the last check found for one metric.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
pub struct MetricStatus {
    /// Name of the metric.
    pub name: String,
    /// Measured value; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What was allowed, for example `>= 99`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<String>,
    /// `Pass`, `Fail`, `NoData` or `Error`.
    pub verdict: String,
}

/// Something that people and their tools are told: an event, and perhaps an alert.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct Notice {
    /// Whether the event is a Warning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warning: bool,
    /// Text of the event.
    pub message: String,
    /// The alert, if one is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alert: Option<AlertNotice>,
    /// Whether post-rollout hooks are called too.
    #[serde(
        default,
        rename = "postRollout",
        skip_serializing_if = "std::ops::Not::not"
    )]
    pub post_rollout: bool,
}

/// The alert of a [`Notice`].
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
pub struct AlertNotice {
    /// Severity.
    pub severity: Severity,
    /// Text.
    pub message: String,
    /// Whether target, thresholds and traffic routing are listed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub metadata: bool,
}

/// One release of the past.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Revision of the workload.
    pub revision: String,
    /// `Succeeded`, `Failed`, `Superseded`, `Reverted` or `Skipped`.
    pub outcome: String,
    /// Why, as one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>")]
    pub started_time: Option<Timestamp>,
    /// When it ended.
    #[schemars(with = "k8s_openapi::apimachinery::pkg::apis::meta::v1::Time")]
    pub finished_time: Timestamp,
}

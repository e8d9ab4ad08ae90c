//! `spec.analysis`: how a new version is judged and how fast it advances.

use std::{collections::BTreeMap, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{duration, istio::HttpMatch};

/// How a new version is judged and how fast it advances.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Analysis {
    /// Time between two checks, for example `1m`. At least `10s`; default `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Failed checks before the release is rolled back. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<i32>,
    /// Number of checks of a blue/green release or, with `match`, of an A/B test.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<i32>,
    /// Highest share of traffic, in percent, that the canary gets before it is promoted.
    /// Default 100; with `stepWeights` their last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_weight: Option<i32>,
    /// Share of traffic, in percent, that each step adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_weight: Option<i32>,
    /// The share of traffic, in percent, at each step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_weights: Option<Vec<i32>>,
    /// Share of traffic, in percent, that each step gives back to the primary after promotion.
    /// Default 0: all at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_weight_promotion: Option<i32>,
    /// Send the canary copies of requests before it gets real ones. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<bool>,
    /// Share of requests, in percent, that are copied. Default: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror_weight: Option<i32>,
    /// Percentage of the primary's pods that must be available. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_ready_threshold: Option<i32>,
    /// Percentage of the canary's pods that must be available. Default 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary_ready_threshold: Option<i32>,
    /// A/B testing: requests that go to the canary. One entry must match.
    #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
    pub matches: Option<Vec<HttpMatch>>,
    /// Metrics that every check looks at, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Vec<Metric>>,
    /// Judges the canary against the live primary, by a sequential test after every scrape. `{}`
    /// suits most web services. Absent: only `metrics` judge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub judge: Option<super::judge::JudgeSpec>,
    /// Hooks that are called during a release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhooks: Option<Vec<Webhook>>,
    /// Who is told about a release.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<Vec<Alert>>,
    /// Keep users on the version that they met first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_affinity: Option<SessionAffinity>,
}

/// One metric of a check.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metric {
    /// Name; `request-success-rate` and `request-duration` are built in.
    pub name: String,
    /// Time range of the query, for example `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Deprecated: smallest success rate, or largest value of any other metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// Values that pass, bounds included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold_range: Option<ThresholdRange>,
    /// Deprecated: a query for the Canary's Prometheus server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// The `MetricTemplate` that asks for the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_ref: Option<NamespacedRef>,
    /// Values of `{{ variables.NAME }}` in the template.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_variables: Option<BTreeMap<String, String>>,
}

/// Values that pass, bounds included.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, JsonSchema)]
pub struct ThresholdRange {
    /// Smallest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Largest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// A reference to an object, by default in the Canary's namespace.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct NamespacedRef {
    /// Name.
    pub name: String,
    /// Namespace. Default: the Canary's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A hook that is called during a release.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Webhook {
    /// Name, used in events.
    pub name: String,
    /// When it is called. Default `rollout`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<HookType>,
    /// Address. The call is a POST of a JSON object.
    pub url: String,
    /// Time-out of one try. Default `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Sent along as `metadata`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Send no alert when the hook holds a release. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mute_alert: Option<bool>,
    /// How often a failed call is repeated. Default 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<i32>,
    /// Accept any TLS certificate. Default false.
    #[serde(
        default,
        rename = "disableTLS",
        skip_serializing_if = "Option::is_none"
    )]
    pub disable_tls: Option<bool>,
}

/// When a webhook is called.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum HookType {
    /// With every check (the default, also when empty).
    #[default]
    #[serde(alias = "")]
    Rollout,
    /// Before a release starts: a gate.
    ConfirmRollout,
    /// Before the canary gets traffic.
    PreRollout,
    /// Before each rise of the canary's weight: a gate.
    ConfirmTrafficIncrease,
    /// Before promotion: a gate.
    ConfirmPromotion,
    /// After a release ended.
    PostRollout,
    /// Asked during a release; success rolls it back.
    Rollback,
    /// Told every event.
    Event,
}

/// Who is told about a release.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// Name.
    pub name: String,
    /// Least severity. Default `info`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// The `AlertProvider`.
    pub provider_ref: NamespacedRef,
}

/// Severity of an alert.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Progress (the default, also when empty).
    #[default]
    #[serde(alias = "")]
    Info,
    /// Somebody's attention is wanted.
    Warn,
    /// A release failed.
    Error,
}

/// Keeps users on the version that they met first, by a cookie.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionAffinity {
    /// Name of the cookie that keeps users on the canary.
    pub cookie_name: String,
    /// Name of the cookie that keeps users on the primary for one interval.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_cookie_name: Option<String>,
    /// Lifetime in seconds. Default 86400.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<i32>,
    /// Domain of the cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// Path of the cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `SameSite` of the cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub same_site: Option<SameSite>,
    /// `HttpOnly` of the cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_only: Option<bool>,
    /// `Secure` of the cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secure: Option<bool>,
    /// `Partitioned` of the cookie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitioned: Option<bool>,
}

/// `SameSite` of a cookie.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, JsonSchema)]
#[expect(missing_docs, reason = "the names are those of the cookie standard")]
pub enum SameSite {
    Strict,
    Lax,
    None,
}

/// How a release advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strategy {
    /// The canary's weight rises step by step.
    Canary,
    /// Requests that match go to the canary.
    AbTesting,
    /// All traffic moves at once after a number of checks.
    BlueGreen,
}

impl Strategy {
    /// The value of the metric label `deployment_strategy`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Canary => "canary",
            Self::AbTesting => "ab-testing",
            Self::BlueGreen => "blue-green",
        }
    }
}

impl Analysis {
    /// Time between two checks: at least 10 s, 60 s when absent or unreadable.
    pub fn interval(&self) -> Duration {
        self.interval
            .as_deref()
            .and_then(|text| duration::parse(text).ok())
            .unwrap_or(Duration::from_mins(1))
            .max(Duration::from_secs(10))
    }

    /// Failed checks before the release is rolled back, at least 1.
    pub fn threshold(&self) -> i32 {
        self.threshold.filter(|n| *n > 0).unwrap_or(1)
    }

    /// Number of checks of a blue/green release or A/B test; 0 for a canary.
    pub fn iterations(&self) -> i32 {
        self.iterations.unwrap_or(0).max(0)
    }

    /// The strategy that the fields ask for.
    pub fn strategy(&self) -> Strategy {
        let matched = self.matches.as_ref().is_some_and(|m| !m.is_empty());
        match (self.iterations() > 0, matched) {
            (true, true) => Strategy::AbTesting,
            (true, false) => Strategy::BlueGreen,
            (false, _) => Strategy::Canary,
        }
    }

    /// Webhooks of one type, in order.
    pub fn hooks(&self, kind: HookType) -> impl Iterator<Item = &Webhook> {
        self.webhooks
            .iter()
            .flatten()
            .filter(move |hook| hook.kind.unwrap_or_default() == kind)
    }
}

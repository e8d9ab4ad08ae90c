//! What a decision asks for, as data: effects in order, the next status, the next wake time.
//!
//! An empty plan means that no request is made at all.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::{
        CanaryStatus, HookType, MetricProviderType, analysis::ThresholdRange, judge::JudgeKind,
        status::Notice,
    },
    object::{Key, Want, digest},
};

/// What a decision asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The next status, if it changes. Written before all [`effects`](Self::effects): a decision
    /// is persisted before its first effect.
    pub status: Option<CanaryStatus>,
    /// Effects, in order. Each can be repeated.
    pub effects: Vec<Effect>,
    /// What to tell once the status is written.
    pub notices: Vec<Notice>,
    /// Whether traffic has left what is to lose its capacity: the canary, or after a deletion the
    /// primary. Proxies may lag behind, so capacity goes some time later.
    pub quiet: bool,
    /// How many of the effects take capacity: from the canary, or from the primary that goes with
    /// its Canary.
    pub shrinks: usize,
    /// Whether the status counts it against the canary that users find, or would find, no pod of it.
    pub unserved: bool,
    /// The workload whose lack of readiness ends the release by this status.
    pub unready: Option<Key>,
    /// When to look again at the latest; `None`: when something that was looked at changes.
    pub wake: Option<Timestamp>,
}

impl Plan {
    /// How many of its effects change something in the cluster.
    pub fn writes(&self) -> usize {
        let writes = |effect: &&Effect| match effect {
            Effect::Create { .. } | Effect::Patch { .. } | Effect::CopyConfig(_) => true,
            Effect::Measure(_) | Effect::Look(_) => false,
        };
        self.effects.iter().filter(writes).count()
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Create an object that does not exist.
    Create {
        /// The object.
        want: Want,
        /// Why.
        reason: &'static str,
    },
    /// Change an existing object by a merge patch.
    Patch {
        /// The object.
        key: Key,
        /// The change.
        patch: Value,
        /// Identity and version that the change was decided on; a mismatch stops the plan.
        precondition: Precondition,
        /// Why.
        reason: &'static str,
    },
    /// Copy a ConfigMap or Secret whose contents are not cached.
    CopyConfig(ConfigCopy),
    /// Ask metrics servers and webhooks; the answer is a fact of a later snapshot.
    Measure(Check),
    /// Read counters for the judge; the answer is a fact of a later snapshot.
    Look(LookRequest),
}

/// Counters that the judge wants to see.
#[derive(Clone, Debug, PartialEq)]
pub struct LookRequest {
    /// Tells looks of one step of one release under one configuration from all others.
    pub id: String,
    /// When it was asked.
    pub asked: Timestamp,
    /// Evaluation times, ascending.
    pub times: Vec<Timestamp>,
    /// What is read.
    pub metrics: Vec<LookMetric>,
    /// The counters at the look before, from which increments count; `None` when they are read
    /// again, as the first column of the answer.
    pub base: Option<Arc<LookColumn>>,
}

/// One metric of a look.
#[derive(Clone, Debug, PartialEq)]
pub struct LookMetric {
    /// Its name.
    pub name: String,
    /// What kind of numbers it has.
    pub kind: JudgeKind,
    /// Queries of the primary and of the canary.
    pub sides: [Vec<SeriesQuery>; 2],
}

/// A query whose answer is series of raw counters.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesQuery {
    /// The server.
    pub server: MetricServer,
    /// The query, rendered.
    pub query: String,
    /// Label by whose value a request is bad, when one query counts all.
    pub code: Option<&'static str>,
    /// Whether it counts bad requests only.
    pub bad: bool,
}

/// The raw counters of one series.
#[derive(Clone, Debug, PartialEq)]
pub enum SeriesCounts {
    /// All requests, and the bad ones.
    Pair(f64, f64),
    /// Cumulative counts by upper boundary, ascending, `+Inf` last.
    Buckets(Vec<(f64, f64)>),
    /// One number.
    Number(f64),
}

/// Counters at one evaluation time: by metric, of the primary and the canary, by series.
#[derive(Clone, Debug, PartialEq)]
pub struct LookColumn {
    /// The time.
    pub at: Timestamp,
    /// The counters.
    pub metrics: BTreeMap<String, [BTreeMap<String, SeriesCounts>; 2]>,
}

/// The answer to a [`LookRequest`]: a column for each time, or why there is none.
pub type LookAnswer = Result<Vec<LookColumn>, String>;

/// Identity and version of an object that a write was decided on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Precondition {
    /// Identity.
    pub uid: String,
    /// Version; `None` where any version will do.
    pub resource_version: Option<String>,
}

/// The copying of a ConfigMap or Secret for the primary.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigCopy {
    /// The original.
    pub from: Key,
    /// Checksum that the original's data must have: what was analysed is what is copied. `None`
    /// for an original that is a copy itself: it must say that it carries what the copy is to carry.
    pub checksum: Option<String>,
    /// The copy, without its data.
    pub to: Want,
}

/// Questions to metrics servers and webhooks.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// Tells this check from all others of the Canary.
    pub id: String,
    /// Stages in order; the probes of one stage run side by side. A stage in which a probe
    /// [stops](Probe::stops) the check is the last.
    pub stages: Vec<Vec<Probe>>,
}

/// One question.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// Call a webhook.
    Hook(HookCall),
    /// Ask for a number.
    Metric(MetricQuery),
}

impl Probe {
    /// Name of the webhook or metric.
    pub fn name(&self) -> &str {
        match self {
            Self::Hook(hook) => &hook.name,
            Self::Metric(metric) => &metric.name,
        }
    }
}

/// The call of a webhook: a POST of `{"name","namespace","phase","checksum","metadata"?}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookCall {
    /// Name of the webhook.
    pub name: String,
    /// When it is called.
    pub kind: HookType,
    /// Address.
    pub url: String,
    /// Time-out of one try.
    pub timeout: Duration,
    /// How often a failed call is repeated.
    pub retries: u32,
    /// Accept any TLS certificate.
    pub disable_tls: bool,
    /// The body.
    pub payload: HookPayload,
}

/// The body of a webhook call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HookPayload {
    /// Name of the Canary.
    pub name: String,
    /// Namespace of the Canary.
    pub namespace: String,
    /// Phase of the Canary.
    pub phase: String,
    /// Identifies one revision of workload and configs.
    pub checksum: String,
    /// The webhook's metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BTreeMap<String, String>>,
}

impl HookPayload {
    /// Identifies one revision of workload and configs: the same in every call of one release.
    pub fn checksum_of(revision: &str, configs: &BTreeMap<String, String>) -> String {
        digest(format!("{revision};{configs:?}").as_bytes(), 8)
    }
}

/// The query of one metric.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricQuery {
    /// Name of the metric.
    pub name: String,
    /// Where the query comes from.
    pub source: MetricSource,
    /// The server.
    pub server: MetricServer,
    /// The query, rendered.
    pub query: String,
    /// Time range of the metric, as the manifest wrote it, for servers that need it apart from
    /// the query.
    pub interval: String,
    /// Factor that brings the answer to the metric's unit.
    pub scale: f64,
    /// Whether the value is cut to a whole number before it is compared.
    pub whole: bool,
    /// Values that pass.
    pub bound: ThresholdRange,
}

/// Where the query of a metric comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricSource {
    /// The operator, for a builtin metric.
    Builtin,
    /// The Canary.
    Inline,
    /// A `MetricTemplate`.
    Template,
}

/// A metrics server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricServer {
    /// Kind.
    pub kind: MetricProviderType,
    /// Address.
    pub address: String,
    /// Headers of every request.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Secret with the credentials: namespace and name.
    pub secret: Option<(String, String)>,
    /// Region.
    pub region: Option<String>,
    /// Accept any TLS certificate.
    pub insecure_skip_verify: bool,
}

impl MetricServer {
    /// A Prometheus server that wants to know nothing.
    pub const fn prometheus(address: String) -> Self {
        Self {
            kind: MetricProviderType::Prometheus,
            address,
            headers: BTreeMap::new(),
            secret: None,
            region: None,
            insecure_skip_verify: false,
        }
    }
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// A webhook agreed.
    Agreed,
    /// A webhook disagreed or could not be reached; the text says how.
    Refused(String),
    /// A metric has a value.
    Value(f64),
    /// A metric has no value that can be judged: none, not a number, stale. Never a pass.
    NoData(String),
    /// A metric could not be asked for. Never a pass.
    Unavailable(String),
}

/// Answers to a [`Check`].
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The check.
    pub id: String,
    /// Outcomes by stage and probe; shorter than the check when a stage stopped it.
    pub stages: Vec<Vec<Outcome>>,
}

impl Probe {
    /// Whether this outcome ends the check with its stage: a refusal or failure, or the consent
    /// of a rollback hook.
    pub fn stops(&self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Self::Hook(hook), outcome) => {
                (hook.kind == HookType::Rollback) == (*outcome == Outcome::Agreed)
            }
            (Self::Metric(metric), Outcome::Value(value)) => !metric.bound.admits(*value),
            (Self::Metric(_), _) => true,
        }
    }
}

impl ThresholdRange {
    /// Whether a value passes: it is a number within the bounds, bounds included.
    pub fn admits(&self, value: f64) -> bool {
        !value.is_nan()
            && self.min.is_none_or(|min| value >= min)
            && self.max.is_none_or(|max| value <= max)
    }
}

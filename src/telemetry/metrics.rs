//! Prometheus metrics: Flagger's, with its names, types and labels, and a few of Haldane's own.
//!
//! The series of a Canary go when it does. Labels have few values: those of the Canaries that
//! exist, and closed sets.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::Registry,
};

use crate::{
    api::{
        Phase, Provider, Strategy,
        judge_status::{JudgeStatus, JudgeVerdict},
    },
    object::Key,
};

type Int = Gauge<i64, AtomicI64>;
type Float = Gauge<f64, AtomicU64>;

/// Labels of one target. `name` is the target's name, as in Flagger.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabels {
    name: String,
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WorkloadLabels {
    workload: String,
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NamespaceLabels {
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MetricLabels {
    name: String,
    namespace: String,
    metric: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    name: String,
    namespace: String,
    deployment_strategy: &'static str,
    analysis_status: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InfoLabels {
    version: &'static str,
    mesh_provider: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    kind: &'static str,
    code: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

/// Durations of reconciles, in the buckets of Flagger's client library.
#[derive(Clone)]
struct Seconds(&'static [f64]);

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

const RECONCILE_BUCKETS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const CHECK_BUCKETS: &[f64] = &[0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

/// What came of a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconciled {
    /// Nothing had to be done: no request was made.
    Unchanged,
    /// The plan was applied.
    Applied,
    /// An object was not what the plan was made for; another look follows.
    Conflict,
    /// A request failed, or the Canary cannot be followed.
    Failed,
}

impl Reconciled {
    fn as_str(self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Applied => "applied",
            Self::Conflict => "conflict",
            Self::Failed => "failed",
        }
    }
}

/// How a release came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AnalysisStatus {
    /// Its checks were made.
    Completed,
    /// `skipAnalysis`.
    Skipped,
}

impl AnalysisStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Skipped => "skipped",
        }
    }
}

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    total: Family<NamespaceLabels, Int>,
    status: Family<TargetLabels, Int>,
    weight: Family<WorkloadLabels, Int>,
    duration: Family<TargetLabels, Histogram, Seconds>,
    analysis: Family<MetricLabels, Float>,
    evidence: Family<TargetLabels, Float>,
    verdict: Family<TargetLabels, Int>,
    needed: Family<TargetLabels, Float>,
    successes: Family<OutcomeLabels, Counter>,
    failures: Family<OutcomeLabels, Counter>,
    requests: Family<RequestLabels, Counter>,
    reconciles: Family<ResultLabels, Counter>,
    checks: Histogram,
    leader: Int,
    canaries: Mutex<BTreeMap<Key, Series>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// What one Canary has series for, so that they can go with it.
#[derive(Debug, Default)]
struct Series {
    target: String,
    metrics: BTreeSet<String>,
    judged: bool,
    outcomes: BTreeSet<(&'static str, &'static str)>,
}

impl Metrics {
    /// Media type of [`encode`](Self::encode)'s text.
    pub const CONTENT_TYPE: &'static str =
        "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Metrics of a process that has just started.
    pub fn new(mesh_provider: Provider) -> Self {
        let mut registry = Registry::default();
        let info = Family::<InfoLabels, Int>::default();
        info.get_or_create(&InfoLabels {
            version: env!("CARGO_PKG_VERSION"),
            mesh_provider: mesh_provider.as_str(),
        })
        .set(1);
        registry.register("flagger_info", "Version and default route API", info);
        let mut metrics = Self {
            registry,
            total: Family::default(),
            status: Family::default(),
            weight: Family::default(),
            duration: Family::new_with_constructor(Seconds(RECONCILE_BUCKETS)),
            analysis: Family::default(),
            evidence: Family::default(),
            verdict: Family::default(),
            needed: Family::default(),
            successes: Family::default(),
            failures: Family::default(),
            requests: Family::default(),
            reconciles: Family::default(),
            checks: Histogram::new(CHECK_BUCKETS.iter().copied()),
            leader: Int::default(),
            canaries: Mutex::default(),
        };
        metrics.register();
        metrics
    }

    /// Counters get `_total` added to their names when they are encoded.
    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "flagger_canary_total",
            "Canaries by namespace",
            self.total.clone(),
        );
        registry.register(
            "flagger_canary_status",
            "Last known result: 0 running, 1 successful, 2 failed",
            self.status.clone(),
        );
        registry.register(
            "flagger_canary_weight",
            "Share of traffic of a workload in percent",
            self.weight.clone(),
        );
        registry.register(
            "flagger_canary_duration_seconds",
            "Time that a reconcile took",
            self.duration.clone(),
        );
        registry.register(
            "flagger_canary_metric_analysis",
            "Last value of a metric of the analysis",
            self.analysis.clone(),
        );
        registry.register(
            "flagger_canary_successes",
            "Releases promoted",
            self.successes.clone(),
        );
        registry.register(
            "flagger_canary_failures",
            "Releases rolled back",
            self.failures.clone(),
        );
        registry.register(
            "haldane_judge_evidence",
            "Evidence that the canary is worse than tolerated: 1/alpha rolls back",
            self.evidence.clone(),
        );
        registry.register(
            "haldane_judge_verdict",
            "The judge's last verdict: 0 undecided, 1 pass, 2 fail",
            self.verdict.clone(),
        );
        registry.register(
            "haldane_judge_requests_needed",
            "Requests of the canary that a decision still needs",
            self.needed.clone(),
        );
        registry.register(
            "haldane_api_requests",
            "Requests to the API server",
            self.requests.clone(),
        );
        registry.register(
            "haldane_reconciles",
            "Reconciles by what came of them",
            self.reconciles.clone(),
        );
        registry.register(
            "haldane_check_duration_seconds",
            "Time that a metric query or webhook took",
            self.checks.clone(),
        );
        registry.register(
            "haldane_leader",
            "Whether this replica leads",
            self.leader.clone(),
        );
    }

    /// All series, as text.
    ///
    /// # Errors
    /// Never in practice: the text is written to memory.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut written = String::new();
        text::encode(&mut written, &self.registry)?;
        Ok(written)
    }

    /// A Canary is in this phase.
    pub fn set_phase(&self, canary: &Key, target: &str, phase: Phase) {
        let value = match phase {
            Phase::Progressing => 0,
            Phase::Failed => 2,
            Phase::New
            | Phase::Initializing
            | Phase::Initialized
            | Phase::Waiting
            | Phase::WaitingPromotion
            | Phase::Promoting
            | Phase::Finalising
            | Phase::Succeeded
            | Phase::Terminating
            | Phase::Terminated => 1,
        };
        self.known(canary, target, |_| {
            self.status.get_or_create(&named(canary, target)).set(value);
        });
    }

    /// The canary has this share of the traffic, in percent; the primary has the rest.
    pub fn set_weight(&self, canary: &Key, target: &str, percent: i32) {
        self.known(canary, target, |_| {
            for (workload, percent) in [
                (target.to_owned(), percent),
                (format!("{target}-primary"), 100 - percent),
            ] {
                let labels = WorkloadLabels {
                    workload,
                    namespace: canary.namespace.clone(),
                };
                self.weight.get_or_create(&labels).set(percent.into());
            }
        });
    }

    /// A reconcile of a Canary took this long.
    pub fn observe_duration(&self, canary: &Key, target: &str, took: Duration) {
        self.known(canary, target, |_| {
            self.duration
                .get_or_create(&named(canary, target))
                .observe(took.as_secs_f64());
        });
    }

    /// A metric of a Canary's analysis has this value.
    pub fn metric_value(&self, canary: &Key, target: &str, metric: &str, value: f64) {
        self.known(canary, target, |series| {
            series.metrics.insert(metric.to_owned());
            self.analysis
                .get_or_create(&measured(canary, target, metric))
                .set(value);
        });
    }

    /// What the judge of a Canary found last; `None`: it has none, and no series.
    pub fn judged(&self, canary: &Key, target: &str, judge: Option<&JudgeStatus>) {
        self.known(canary, target, |series| {
            let labels = named(canary, target);
            let Some(judge) = judge else {
                if std::mem::take(&mut series.judged) {
                    self.remove_judge(&labels);
                }
                return;
            };
            series.judged = true;
            let verdict = match judge.verdict {
                JudgeVerdict::Undecided => 0,
                JudgeVerdict::Pass => 1,
                JudgeVerdict::Fail => 2,
            };
            self.verdict.get_or_create(&labels).set(verdict);
            let evidence = judge.evidence.unwrap_or(1.0);
            self.evidence.get_or_create(&labels).set(evidence);
            match judge.requests_needed {
                Some(needed) => {
                    self.needed.get_or_create(&labels).set(needed);
                }
                None => {
                    self.needed.remove(&labels);
                }
            }
        });
    }

    fn remove_judge(&self, labels: &TargetLabels) {
        self.verdict.remove(labels);
        self.evidence.remove(labels);
        self.needed.remove(labels);
    }

    /// A release was promoted.
    pub fn succeeded(
        &self,
        canary: &Key,
        target: &str,
        strategy: Strategy,
        analysis: AnalysisStatus,
    ) {
        self.count(&self.successes, canary, target, strategy, analysis);
    }

    /// A release was rolled back.
    pub fn failed(&self, canary: &Key, target: &str, strategy: Strategy, analysis: AnalysisStatus) {
        self.count(&self.failures, canary, target, strategy, analysis);
    }

    fn count(
        &self,
        counter: &Family<OutcomeLabels, Counter>,
        canary: &Key,
        target: &str,
        strategy: Strategy,
        analysis: AnalysisStatus,
    ) {
        let outcome = (strategy.as_str(), analysis.as_str());
        self.known(canary, target, |series| {
            series.outcomes.insert(outcome);
            counter.get_or_create(&ended(canary, target, outcome)).inc();
        });
    }

    /// A Canary is gone, and so are its series.
    pub fn forget(&self, canary: &Key) {
        let mut canaries = self.canaries();
        if let Some(series) = canaries.remove(canary) {
            self.remove(&canaries, canary, &series);
        }
        self.recount(&canaries, &canary.namespace);
    }

    /// The API server answered a request with this HTTP status; `None`: not at all.
    pub fn api_request(&self, verb: &'static str, kind: &'static str, code: Option<u16>) {
        let code = match code {
            Some(code @ 100..=599) => code.to_string(),
            Some(_) => "invalid".to_owned(),
            None => "none".to_owned(),
        };
        let labels = RequestLabels { verb, kind, code };
        self.requests.get_or_create(&labels).inc();
    }

    /// A reconcile has ended.
    pub fn reconciled(&self, result: Reconciled) {
        let labels = ResultLabels {
            result: result.as_str(),
        };
        self.reconciles.get_or_create(&labels).inc();
    }

    /// A metric query or webhook call took this long.
    pub fn check_took(&self, took: Duration) {
        self.checks.observe(took.as_secs_f64());
    }

    /// Whether this replica leads.
    pub fn set_leader(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// Changes a Canary's series, while none of them can be forgotten.
    fn known(&self, canary: &Key, target: &str, change: impl FnOnce(&mut Series)) {
        let mut canaries = self.canaries();
        let other = canaries.get(canary).is_some_and(|s| s.target != target);
        if other && let Some(series) = canaries.remove(canary) {
            self.remove(&canaries, canary, &series);
        }
        let new = !canaries.contains_key(canary);
        let series = canaries.entry(canary.clone()).or_insert_with(|| Series {
            target: target.to_owned(),
            ..Series::default()
        });
        change(series);
        if new {
            self.recount(&canaries, &canary.namespace);
        }
    }

    /// Removes a Canary's series, except where another Canary has the same target.
    fn remove(&self, others: &BTreeMap<Key, Series>, canary: &Key, series: &Series) {
        let target = &series.target;
        let shared = others
            .iter()
            .any(|(key, s)| key.namespace == canary.namespace && s.target == *target);
        if shared {
            return;
        }
        let labels = named(canary, target);
        self.status.remove(&labels);
        self.duration.remove(&labels);
        self.remove_judge(&labels);
        for workload in [target.clone(), format!("{target}-primary")] {
            self.weight.remove(&WorkloadLabels {
                workload,
                namespace: canary.namespace.clone(),
            });
        }
        for metric in &series.metrics {
            self.analysis.remove(&measured(canary, target, metric));
        }
        for outcome in &series.outcomes {
            let labels = ended(canary, target, *outcome);
            self.successes.remove(&labels);
            self.failures.remove(&labels);
        }
    }

    fn recount(&self, canaries: &BTreeMap<Key, Series>, namespace: &str) {
        let labels = NamespaceLabels {
            namespace: namespace.to_owned(),
        };
        let count = canaries.keys().filter(|k| k.namespace == namespace).count();
        if count == 0 {
            self.total.remove(&labels);
        } else {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.total.get_or_create(&labels).set(count);
        }
    }

    fn canaries(&self) -> MutexGuard<'_, BTreeMap<Key, Series>> {
        self.canaries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn named(canary: &Key, target: &str) -> TargetLabels {
    TargetLabels {
        name: target.to_owned(),
        namespace: canary.namespace.clone(),
    }
}

fn measured(canary: &Key, target: &str, metric: &str) -> MetricLabels {
    MetricLabels {
        name: target.to_owned(),
        namespace: canary.namespace.clone(),
        metric: metric.to_owned(),
    }
}

fn ended(canary: &Key, target: &str, outcome: (&'static str, &'static str)) -> OutcomeLabels {
    OutcomeLabels {
        name: target.to_owned(),
        namespace: canary.namespace.clone(),
        deployment_strategy: outcome.0,
        analysis_status: outcome.1,
    }
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;

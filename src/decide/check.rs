//! Checks: which hooks and metrics to ask, and what their answers mean.

use crate::{
    api::{
        HookType, Phase, Strategy, Webhook, duration,
        status::{CanaryStatus, MetricStatus, Notice},
    },
    measure::metrics::{halt_message, metric_query, template_key},
    observe::Snapshot,
    plan::{Answer, Check, HookCall, HookPayload, MetricQuery, Outcome, Probe},
};

use super::{facts::Facts, notices, steps::Step};

/// Most metrics and hooks of one kind that a check asks; a bound on the work of one Canary.
const MOST_PROBES: usize = 100;

/// What a check is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// May a new revision start?
    Rollout,
    /// Shall a canary that is not ready be waited for?
    Readiness,
    /// May the canary get its first traffic?
    Start,
    /// How does the canary do, and may it take the next step?
    Analysis,
}

/// What the answers to a check mean.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// All agreed.
    Passed,
    /// A rollback hook asks to roll back.
    RollBack {
        /// Name of the hook.
        hook: String,
    },
    /// A hook or metric failed.
    Failed {
        /// Why, as one sentence.
        message: String,
    },
    /// A gate is closed.
    Held {
        /// Which kind of gate.
        gate: HookType,
        /// Name of the hook.
        hook: String,
        /// Whether no alert is wanted.
        muted: bool,
    },
}

/// A verdict and what goes with it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    /// The verdict.
    pub verdict: Verdict,
    /// What to tell.
    pub notices: Vec<Notice>,
    /// What each metric showed; `None` when none was asked.
    pub metrics: Option<Vec<MetricStatus>>,
}

/// The check that a release needs now.
///
/// # Errors
/// When a metric cannot be asked for; the text says why, as an event tells it.
pub(super) fn ask(
    s: &Snapshot,
    facts: &Facts,
    status: &CanaryStatus,
    purpose: Purpose,
    next: Step,
) -> Result<Check, String> {
    let analysis = &s.canary.spec.analysis;
    let mut stages = Vec::new();
    let payload = payload(s, facts, status, purpose);
    let hooks = |kind: HookType| {
        analysis
            .hooks(kind)
            .take(MOST_PROBES)
            .map(|hook| vec![Probe::Hook(call(hook, &payload))])
    };
    if status.phase != Phase::New {
        stages.extend(hooks(HookType::Rollback));
    }
    match purpose {
        Purpose::Rollout => stages.extend(hooks(HookType::ConfirmRollout)),
        Purpose::Readiness => {}
        Purpose::Start => stages.extend(hooks(HookType::PreRollout)),
        Purpose::Analysis => {
            stages.extend(hooks(HookType::Rollout));
            let metrics = queries(s)?;
            if !metrics.is_empty() {
                stages.push(metrics.into_iter().map(Probe::Metric).collect());
            }
        }
    }
    if matches!(purpose, Purpose::Start | Purpose::Analysis) {
        let raises = matches!(next, Step::Weight(_) | Step::Promote | Step::Mirror);
        if raises && facts.strategy == Strategy::Canary && status.phase != Phase::WaitingPromotion {
            stages.extend(hooks(HookType::ConfirmTrafficIncrease));
        }
        if next == Step::Promote {
            stages.extend(hooks(HookType::ConfirmPromotion));
        }
    }
    Ok(Check {
        id: id(s, facts, status, purpose, next),
        stages,
    })
}

/// Tells the check from all others of the Canary, and from checks of an edited spec.
fn id(s: &Snapshot, facts: &Facts, status: &CanaryStatus, purpose: Purpose, next: Step) -> String {
    format!(
        "{}/{}/{}/{}/{purpose:?}/{next:?}",
        facts.checksum,
        status.run_time.map(|t| t.to_string()).unwrap_or_default(),
        s.canary.metadata.generation.unwrap_or_default(),
        status.checks.unwrap_or_default(),
    )
}

fn queries(s: &Snapshot) -> Result<Vec<MetricQuery>, String> {
    let mut all = Vec::new();
    for metric in s
        .canary
        .spec
        .analysis
        .metrics
        .iter()
        .flatten()
        .take(MOST_PROBES)
    {
        let template = template_key(&s.canary, metric.template_ref.as_ref())
            .and_then(|key| s.templates.get(&key));
        all.extend(
            metric_query(&s.canary, &s.settings, metric, template.map(AsRef::as_ref))
                .map_err(|error| error.to_string())?,
        );
    }
    Ok(all)
}

fn payload(s: &Snapshot, facts: &Facts, status: &CanaryStatus, purpose: Purpose) -> HookPayload {
    let phase = match purpose {
        // Gates before a release are told the phase that it would leave.
        Purpose::Rollout => status.phase,
        Purpose::Readiness | Purpose::Start | Purpose::Analysis => Phase::Progressing,
    };
    HookPayload {
        name: s.name().to_owned(),
        namespace: s.namespace().to_owned(),
        phase: phase.to_string(),
        checksum: facts.checksum.clone(),
        metadata: None,
    }
}

fn call(hook: &Webhook, payload: &HookPayload) -> HookCall {
    let mut payload = payload.clone();
    payload.metadata.clone_from(&hook.metadata);
    HookCall {
        name: hook.name.clone(),
        kind: hook.kind.unwrap_or_default(),
        url: hook.url.clone(),
        timeout: hook_timeout(hook),
        retries: hook.retries.unwrap_or_default().clamp(0, 10).unsigned_abs(),
        disable_tls: hook.disable_tls.unwrap_or_default(),
        payload,
    }
}

/// Time-out of one call: as given, 10 s when absent or unreadable, at most an hour.
fn hook_timeout(hook: &Webhook) -> std::time::Duration {
    hook.timeout
        .as_deref()
        .and_then(|text| duration::parse(text).ok())
        .filter(|timeout| !timeout.is_zero())
        .unwrap_or(std::time::Duration::from_secs(10))
        .min(std::time::Duration::from_hours(1))
}

/// What the answers to a check mean. Answers that are missing are never a pass.
pub(super) fn read(s: &Snapshot, check: &Check, answer: &Answer) -> Reading {
    let mut reading = Reading {
        verdict: Verdict::Passed,
        notices: Vec::new(),
        metrics: None,
    };
    for (stage, outcomes) in check.stages.iter().zip(
        answer
            .stages
            .iter()
            .map(Some)
            .chain(std::iter::repeat(None)),
    ) {
        for (index, probe) in stage.iter().enumerate() {
            let missing = Outcome::Unavailable("no answer".to_owned());
            let outcome = outcomes.and_then(|o| o.get(index)).unwrap_or(&missing);
            read_probe(s, probe, outcome, &mut reading);
        }
        if reading.verdict != Verdict::Passed {
            return reading;
        }
    }
    reading
}

fn read_probe(s: &Snapshot, probe: &Probe, outcome: &Outcome, reading: &mut Reading) {
    let failed = match probe {
        Probe::Hook(hook) => read_hook(s, hook, outcome, reading),
        Probe::Metric(metric) => {
            reading
                .metrics
                .get_or_insert_default()
                .push(metric_status(metric, outcome));
            halt_message(&s.canary, &s.settings, metric, outcome)
                .map(|message| Verdict::Failed { message })
        }
    };
    // The first failure is the one that is told.
    if reading.verdict == Verdict::Passed
        && let Some(verdict) = failed
    {
        reading.verdict = verdict;
    }
}

fn read_hook(
    s: &Snapshot,
    hook: &HookCall,
    outcome: &Outcome,
    reading: &mut Reading,
) -> Option<Verdict> {
    let name = &hook.name;
    let agreed = *outcome == Outcome::Agreed;
    let why = match outcome {
        Outcome::Refused(text) | Outcome::NoData(text) | Outcome::Unavailable(text) => text.clone(),
        Outcome::Agreed | Outcome::Value(_) => String::new(),
    };
    let muted = s.canary.spec.analysis.webhooks.iter().flatten().any(|w| {
        w.name == *name
            && w.kind.unwrap_or_default() == hook.kind
            && w.mute_alert.unwrap_or_default()
    });
    let passed = |reading: &mut Reading, what: &str| {
        reading
            .notices
            .push(notices::normal(format!("{what} check {name} passed")));
        None
    };
    let held = || {
        Some(Verdict::Held {
            gate: hook.kind,
            hook: name.clone(),
            muted,
        })
    };
    match (hook.kind, agreed) {
        (HookType::Rollback, true) => {
            reading
                .notices
                .push(notices::normal(format!("Rollback check {name} passed")));
            Some(Verdict::RollBack { hook: name.clone() })
        }
        // A rollback hook that does not agree is the rule, not news.
        (HookType::Rollback, false)
        | (HookType::Rollout | HookType::PostRollout | HookType::Event, true) => None,
        (HookType::ConfirmRollout, true) => passed(reading, "Confirm-rollout"),
        (HookType::PreRollout, true) => passed(reading, "Pre-rollout"),
        (HookType::ConfirmTrafficIncrease, true) => passed(reading, "Confirm-traffic-increase"),
        (HookType::ConfirmPromotion, true) => passed(reading, "Confirm-promotion"),
        (
            HookType::ConfirmRollout
            | HookType::ConfirmTrafficIncrease
            | HookType::ConfirmPromotion,
            false,
        ) => held(),
        (HookType::PreRollout, false) => Some(Verdict::Failed {
            message: format!(
                "Halt {} advancement pre-rollout check {name} failed {why}",
                notices::full_name(s)
            ),
        }),
        (HookType::Rollout | HookType::PostRollout | HookType::Event, false) => {
            Some(Verdict::Failed {
                message: format!(
                    "Halt {} advancement external check {name} failed {why}",
                    notices::full_name(s)
                ),
            })
        }
    }
}

fn metric_status(metric: &MetricQuery, outcome: &Outcome) -> MetricStatus {
    let (value, verdict) = match outcome {
        Outcome::Value(value) if metric.bound.admits(*value) => (Some(*value), "Pass"),
        Outcome::Value(value) => (Some(*value), "Fail"),
        Outcome::NoData(_) => (None, "NoData"),
        Outcome::Agreed | Outcome::Refused(_) | Outcome::Unavailable(_) => (None, "Error"),
    };
    let bound = match (metric.bound.min, metric.bound.max) {
        (Some(min), Some(max)) => Some(format!("{min} to {max}")),
        (Some(min), None) => Some(format!(">= {min}")),
        (None, Some(max)) => Some(format!("<= {max}")),
        (None, None) => None,
    };
    MetricStatus {
        name: metric.name.clone(),
        // Status is JSON: a value that is not finite has no place in it.
        value: value.filter(|v| v.is_finite()),
        bound,
        verdict: verdict.to_owned(),
    }
}

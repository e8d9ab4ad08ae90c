//! The phase machine: one exhaustive match, one function a phase.

use crate::{
    api::{
        HookType, Phase, Severity, Strategy,
        status::{CanaryStatus, Notice},
    },
    observe::Snapshot,
    workload::Readiness,
};

use super::{
    check::{self, Purpose, Verdict},
    draft::{Draft, after, retire_cookie},
    facts::Facts,
    identity, notices,
    requests::Request,
    steps::{self, Progress, Step},
    takeover, world,
};

/// Moves the status on by what the facts say. Called again while it changes the phase, so that
/// phases follow each other at once.
pub(super) fn advance(s: &Snapshot, facts: &Facts, request: &mut Option<Request>, d: &mut Draft) {
    if takeover::adopt(s, facts, d) {
        return;
    }
    match d.status.phase {
        Phase::New | Phase::Terminated | Phase::Terminating => d.status.phase = Phase::Initializing,
        Phase::Initializing => initialize(s, facts, d),
        Phase::Initialized | Phase::Succeeded | Phase::Failed | Phase::Waiting => {
            settled(s, facts, request, d);
        }
        Phase::Progressing | Phase::WaitingPromotion => progress(s, facts, request, d),
        Phase::Promoting => promote(s, facts, d),
        Phase::Finalising => finalise(s, facts, d),
    }
}

/// The primary is created; users stay on the target until it is ready.
fn initialize(s: &Snapshot, facts: &Facts, d: &mut Draft) {
    d.status.started_time.get_or_insert(s.now);
    if let Some(missing) = &facts.missing_config {
        return d.halt(missing);
    }
    if !facts.primary_takes_traffic() {
        if let Readiness::NotReady { expired: true, .. } = facts.primary_readiness {
            d.halt(&format!(
                "Initialization of {} waits: {}; users stay on {}",
                notices::full_name(s),
                facts.primary_obstacle(s),
                notices::target(s)
            ));
        }
        return wake_for(facts, d);
    }
    if !world::in_place(s, facts, &d.status) {
        return;
    }
    let kind = s.canary.spec.target_ref.kind.as_str();
    d.status.phase = Phase::Initialized;
    d.status.last_applied_spec = Some(facts.revision.clone());
    d.status.last_promoted_spec = Some(facts.revision.clone());
    d.status.tracked_configs = Some(facts.configs.clone());
    d.status.started_time = None;
    d.status.halt_reason = None;
    d.tell(notices::with_metadata(notices::alert(
        notices::normal(format!("Initialization done! {}", notices::full_name(s))),
        Severity::Info,
        format!("New {kind} detected, initialization completed."),
    )));
}

/// Nothing is under way: look for a new revision.
fn settled(s: &Snapshot, facts: &Facts, request: &mut Option<Request>, d: &mut Draft) {
    if d.status.phase == Phase::Failed && d.status.canary_weight > 0 && facts.abilities.weights {
        // A promotion failed: users stay on the pods that passed until the primary is restored.
        if facts.primary_takes_traffic() && !facts.primary_is_applied(&s.canary, &d.status) {
            d.status.canary_weight = 0;
        } else if !broken_for_good(s, facts, &d.status) {
            return wake_for(facts, d);
        }
    }
    if let Some(missing) = &facts.missing_config {
        return d.halt(missing);
    }
    let retry = d.status.phase == Phase::Failed && Request::take(request, Request::Retry);
    if !retry && (facts.is_applied(&d.status) || facts.is_promoted(&s.canary, &d.status)) {
        if d.status.phase == Phase::Waiting {
            // The revision that the gate held was taken back.
            let promoted = facts.is_promoted(&s.canary, &d.status);
            d.status.phase = if promoted {
                Phase::Succeeded
            } else {
                Phase::Failed
            };
            d.status.next_check_time = None;
            d.status.halt_reason = None;
        }
        return;
    }
    let analysis = &s.canary.spec.analysis;
    let gated = analysis.hooks(HookType::ConfirmRollout).next().is_some();
    let waved_through =
        d.status.phase == Phase::Waiting && Request::take(request, Request::Promote);
    if d.status.phase == Phase::Waiting && Request::take(request, Request::Abort) {
        d.status.last_applied_spec = Some(facts.revision.clone());
        d.status.tracked_configs = Some(facts.configs.clone());
        return d.roll_back_because(s, "on request (abort)");
    }
    let skipped = s.canary.spec.skip_analysis.unwrap_or_default();
    if gated && !waved_through && !skipped && !gate_is_open(s, facts, d) {
        return;
    }
    start(s, facts, d);
}

/// Whether a primary that failed its promotion cannot be brought back, so that only a newer
/// revision helps.
fn broken_for_good(s: &Snapshot, facts: &Facts, status: &CanaryStatus) -> bool {
    let expired = matches!(
        facts.primary_readiness,
        Readiness::NotReady { expired: true, .. }
    );
    expired && (!facts.primary_is_applied(&s.canary, status) || !world::can_restore(facts))
}

/// Asks the confirm-rollout hooks.
fn gate_is_open(s: &Snapshot, facts: &Facts, d: &mut Draft) -> bool {
    if let Some(due) = d.status.next_check_time.filter(|due| *due > s.now) {
        d.wake_at(due);
        return false;
    }
    let Ok(check) = check::ask(s, facts, &d.status, Purpose::Rollout, Step::Promote) else {
        return false;
    };
    let Some(answer) = d.answer(s, &check) else {
        return false;
    };
    let reading = check::read(s, &check, &answer);
    d.notices.extend(reading.notices);
    count_check(&mut d.status);
    match reading.verdict {
        Verdict::Passed => true,
        Verdict::RollBack { hook: _ } => {
            d.status.last_applied_spec = Some(facts.revision.clone());
            d.status.tracked_configs = Some(facts.configs.clone());
            roll_back_by_hook(s, d);
            false
        }
        Verdict::Held { hook, muted, .. } => {
            let text = format!(
                "Halt {} advancement waiting for approval {hook}",
                notices::full_name(s)
            );
            if d.status.phase != Phase::Waiting {
                d.tell(wait_alert(&text, muted, "Canary is waiting for approval."));
            }
            d.status.phase = Phase::Waiting;
            d.status.halt_reason = Some(text);
            d.check_later(s);
            false
        }
        Verdict::Failed { message } => {
            d.halt(&message);
            d.check_later(s);
            false
        }
    }
}

/// A new revision begins.
fn start(s: &Snapshot, facts: &Facts, d: &mut Draft) {
    let kind = s.canary.spec.target_ref.kind.as_str();
    let mut notice = notices::normal(format!(
        "New revision detected! Scaling up {}",
        notices::target(s)
    ));
    if kind == "Service" {
        notice.message = format!("New revision detected! {}", notices::target(s));
    }
    begin(s, facts, d);
    d.tell(notices::with_metadata(notices::alert(
        notice,
        Severity::Info,
        "New revision detected, progressing canary analysis.",
    )));
}

/// Puts the target's revision under analysis from the beginning.
fn begin(s: &Snapshot, facts: &Facts, d: &mut Draft) {
    // After a failed promotion users are on the canary, and only there: they stay.
    let weight = if d.status.phase == Phase::Failed {
        d.status.canary_weight
    } else {
        0
    };
    let status = &mut d.status;
    status.phase = Phase::Progressing;
    status.canary_weight = weight;
    status.iterations = 0;
    status.failed_checks = 0;
    status.step = Some(0);
    status.checks = Some(0);
    status.metrics = None;
    status.halt_reason = None;
    status.paused = None;
    status.scaled_down = None;
    status.last_applied_spec = Some(facts.revision.clone());
    status.tracked_configs = Some(facts.configs.clone());
    status.started_time = Some(s.now);
    status.run_time = Some(s.now);
    status.next_check_time = None;
    status.primary_session_affinity_cookie = None;
    retire_cookie(status);
}

/// The canary is analysed, step by step.
fn progress(s: &Snapshot, facts: &Facts, request: &mut Option<Request>, d: &mut Draft) {
    if Request::take(request, Request::Abort) {
        return d.roll_back_because(s, "on request (abort)");
    }
    if let Some(missing) = &facts.missing_config {
        return d.halt(missing);
    }
    if !facts.is_applied(&d.status) {
        return replaced(s, facts, d);
    }
    if Request::take(request, Request::Pause) {
        d.status.paused = Some(true);
        d.tell(notices::normal(format!(
            "Paused {} on request",
            notices::full_name(s)
        )));
    }
    if Request::take(request, Request::Resume) && d.status.paused.take().is_some() {
        d.status.halt_reason = None;
        d.tell(notices::normal(format!(
            "Resumed {} on request",
            notices::full_name(s)
        )));
    }
    if !facts.canary_takes_traffic() {
        return wait_for_canary(s, facts, d);
    }
    if !facts.primary_takes_traffic() && !primary_gave_up(facts) {
        // A primary that will not come back must not keep its successor from coming.
        hold(
            s,
            d,
            &format!(
                "Halt {} advancement {}",
                notices::full_name(s),
                facts.primary_obstacle(s)
            ),
        );
        return wake_for(facts, d);
    }
    if s.canary.spec.skip_analysis.unwrap_or_default() || Request::take(request, Request::Promote) {
        return start_promotion(s, d);
    }
    if d.status.paused.unwrap_or_default() {
        return;
    }
    analyse(s, facts, d);
}

fn primary_gave_up(facts: &Facts) -> bool {
    matches!(
        facts.primary_readiness,
        Readiness::NotReady { expired: true, .. }
    )
}

/// The target changed while it was analysed.
fn replaced(s: &Snapshot, facts: &Facts, d: &mut Draft) {
    let reverted = facts.is_promoted(&s.canary, &d.status);
    let outcome = if reverted { "Reverted" } else { "Superseded" };
    d.end(s.now, d.status.phase, outcome, None);
    if reverted {
        d.status.phase = Phase::Succeeded;
        d.status.last_applied_spec = Some(facts.revision.clone());
        d.status.last_promoted_spec = Some(facts.revision.clone());
        d.status.tracked_configs = Some(facts.configs.clone());
        d.status.halt_reason = None;
        return d.tell(notices::normal(format!(
            "{} is back at the promoted revision. Scaling down {}",
            notices::target(s),
            notices::target(s)
        )));
    }
    begin(s, facts, d);
    d.tell(notices::normal(format!(
        "New revision detected! Restarting analysis for {}",
        notices::target(s)
    )));
}

/// The canary is not ready: wait until its deadline, then roll back.
fn wait_for_canary(s: &Snapshot, facts: &Facts, d: &mut Draft) {
    let why = facts.canary_obstacle(s);
    let overdue = || format!("progress deadline exceeded: {why}");
    if let Readiness::NotReady { expired: true, .. } = facts.canary {
        return d.roll_back_because(s, &overdue());
    }
    let started = d.status.started_time.unwrap_or(s.now);
    let deadline = u64::try_from(s.canary.spec.progress_deadline()).unwrap_or_default();
    let deadline = after(started, std::time::Duration::from_secs(deadline));
    let exposed = d.status.canary_weight > 0 || d.status.iterations > 0;
    if !exposed && s.now >= deadline {
        return d.roll_back_because(s, &overdue());
    }
    if exposed && facts.canary_pods == 0 {
        // Users are sent to a canary that cannot answer: a failed check, once an interval.
        if d.status.next_check_time.is_none_or(|due| due <= s.now) {
            fail_check(
                s,
                d,
                &format!("Halt {} advancement {why}", notices::full_name(s)),
            );
        }
    } else {
        match asks_to_roll_back(s, facts, d) {
            Asked::RollBack => return roll_back_by_hook(s, d),
            Asked::Pending => {}
            Asked::No { answered } => {
                let why = format!("Halt {} advancement {why}", notices::full_name(s));
                hold(s, d, &why);
                if answered {
                    d.check_later(s);
                }
            }
        }
    }
    if !exposed {
        d.wake_at(deadline);
    }
    wake_for(facts, d);
}

/// What rollback hooks say of a canary that is not ready.
enum Asked {
    RollBack,
    Pending,
    No { answered: bool },
}

/// Asks the rollback hooks, once an interval: people may give up on a canary that hangs.
fn asks_to_roll_back(s: &Snapshot, facts: &Facts, d: &mut Draft) -> Asked {
    let hooks = s.canary.spec.analysis.hooks(HookType::Rollback).count();
    let due = d.status.next_check_time.is_none_or(|due| due <= s.now);
    let check = check::ask(s, facts, &d.status, Purpose::Readiness, Step::Promote);
    let (true, true, Ok(check)) = (hooks > 0, due, check) else {
        return Asked::No { answered: false };
    };
    let Some(answer) = d.answer(s, &check) else {
        return Asked::Pending;
    };
    let reading = check::read(s, &check, &answer);
    count_check(&mut d.status);
    d.notices.extend(reading.notices);
    match reading.verdict {
        Verdict::RollBack { hook: _ } => Asked::RollBack,
        Verdict::Passed | Verdict::Failed { .. } | Verdict::Held { .. } => {
            Asked::No { answered: true }
        }
    }
}

/// Says why nothing moves, at most once an interval.
fn hold(s: &Snapshot, d: &mut Draft, reason: &str) {
    match d.status.next_check_time {
        Some(due) if due > s.now => d.wake_at(due),
        // The first interval after the start is what every workload needs to start.
        None => d.wake_at(after(
            d.status.started_time.unwrap_or(s.now),
            s.canary.spec.analysis.interval(),
        )),
        Some(_) => {}
    }
    let patience = d
        .status
        .started_time
        .map_or(s.now, |t| after(t, s.canary.spec.analysis.interval()));
    if s.now >= patience && d.status.next_check_time.is_none_or(|due| due <= s.now) {
        d.halt(reason);
        d.check_later(s);
    }
}

/// One check, and what its answers lead to.
fn analyse(s: &Snapshot, facts: &Facts, d: &mut Draft) {
    let analysis = &s.canary.spec.analysis;
    if d.status.failed_checks >= analysis.threshold() {
        return roll_back_by_threshold(s, d);
    }
    let at = Progress {
        step: d.status.step.unwrap_or_default(),
        weight: d.status.canary_weight,
        iterations: d.status.iterations,
    };
    let begun = at.step > 0 || at.weight > 0 || at.iterations > 0;
    let waiting = begun || d.status.failed_checks > 0 || d.status.checks.unwrap_or_default() > 0;
    if waiting && let Some(due) = d.status.next_check_time.filter(|due| *due > s.now) {
        return d.wake_at(due);
    }
    let next = steps::next(analysis, facts.abilities, at);
    let purpose = if begun {
        Purpose::Analysis
    } else {
        Purpose::Start
    };
    let check = match check::ask(s, facts, &d.status, purpose, next) {
        Ok(check) => check,
        Err(why) => {
            let text = format!("Halt {} advancement {why}", notices::full_name(s));
            return fail_check(s, d, &text);
        }
    };
    let Some(answer) = d.answer(s, &check) else {
        return;
    };
    let reading = check::read(s, &check, &answer);
    count_check(&mut d.status);
    if reading.metrics.is_some() {
        d.status.metrics = reading.metrics;
    }
    if !begun && d.status.failed_checks == 0 {
        d.tell(notices::normal(format!(
            "Starting canary analysis for {}",
            notices::target(s)
        )));
    }
    d.notices.extend(reading.notices);
    match reading.verdict {
        Verdict::Passed => {
            d.status.halt_reason = None;
            d.status.phase = Phase::Progressing;
            take(s, facts, d, at, next);
        }
        Verdict::RollBack { hook: _ } => roll_back_by_hook(s, d),
        Verdict::Failed { message } => fail_check(s, d, &message),
        Verdict::Held { gate, hook, muted } => hold_at_gate(s, d, gate, &hook, muted),
    }
}

/// Takes a step: the status first, the route follows from it.
fn take(s: &Snapshot, facts: &Facts, d: &mut Draft, at: Progress, next: Step) {
    let name = notices::full_name(s);
    d.status.step = Some(at.step.saturating_add(1));
    match next {
        Step::Promote => return start_promotion(s, d),
        Step::Mirror => {
            d.tell(notices::normal(format!(
                "Advance {name} canary weight 0, mirroring"
            )));
        }
        Step::Weight(weight) => {
            d.status.canary_weight = weight;
            d.tell(notices::normal(format!(
                "Advance {name} canary weight {weight}"
            )));
        }
        Step::Iterate(n) => {
            let of = steps::iterations(&s.canary.spec.analysis, facts.abilities);
            d.status.iterations = n;
            d.tell(notices::normal(format!(
                "Advance {name} canary iteration {n}/{of}"
            )));
        }
        Step::Switch => {
            d.status.canary_weight = 100;
            let mirrored =
                s.canary.spec.analysis.mirror.unwrap_or_default() && facts.abilities.mirror;
            d.tell(notices::normal(if mirrored {
                "Stop traffic mirroring and route all traffic to canary"
            } else {
                "Routing all traffic to canary"
            }));
        }
    }
    give_cookies(s, &mut d.status);
    d.check_later(s);
}

/// Session affinity: a cookie per release, kept in the status before any user gets it.
fn give_cookies(s: &Snapshot, status: &mut CanaryStatus) {
    let Some(affinity) = &s.canary.spec.analysis.session_affinity else {
        return;
    };
    if status.canary_weight == 0 {
        return;
    }
    let value = identity::letters(s, status, "canary");
    status
        .session_affinity_cookie
        .get_or_insert_with(|| format!("{}={value}", affinity.cookie_name));
    if let Some(name) = &affinity.primary_cookie_name {
        let value = identity::letters(s, status, "primary");
        status
            .primary_session_affinity_cookie
            .get_or_insert_with(|| format!("{name}={value}"));
    }
}

fn fail_check(s: &Snapshot, d: &mut Draft, message: &str) {
    d.status.failed_checks = d.status.failed_checks.saturating_add(1);
    d.status.halt_reason = Some(message.to_owned());
    d.tell(notices::warning(message));
    if d.status.failed_checks >= s.canary.spec.analysis.threshold() {
        roll_back_by_threshold(s, d);
    } else {
        d.check_later(s);
    }
}

fn roll_back_by_threshold(s: &Snapshot, d: &mut Draft) {
    let failed = d.status.failed_checks;
    let last = d.status.halt_reason.clone().unwrap_or_default();
    let cause = notices::alert(
        notices::warning(format!(
            "Rolling back {} failed checks threshold reached {failed}",
            notices::full_name(s)
        )),
        Severity::Error,
        format!("Failed checks threshold reached {failed}"),
    );
    d.roll_back(
        s,
        cause,
        &format!("Failed checks threshold reached {failed}: {last}"),
    );
}

fn roll_back_by_hook(s: &Snapshot, d: &mut Draft) {
    let text = "Rolling back manual webhook invoked";
    let cause = notices::alert(
        notices::warning(format!(
            "Rolling back {} manual webhook invoked",
            notices::full_name(s)
        )),
        Severity::Warn,
        text,
    );
    d.roll_back(s, cause, text);
}

fn hold_at_gate(s: &Snapshot, d: &mut Draft, gate: HookType, hook: &str, muted: bool) {
    let name = notices::full_name(s);
    let (what, alert) = if gate == HookType::ConfirmPromotion {
        ("promotion", "Canary promotion is waiting for approval.")
    } else {
        (
            "traffic increase",
            "Canary traffic increase is waiting for approval.",
        )
    };
    let text = format!("Halt {name} advancement waiting for {what} approval {hook}");
    if d.status.halt_reason.as_deref() != Some(&text) {
        d.tell(wait_alert(&text, muted, alert));
    }
    if gate == HookType::ConfirmPromotion {
        d.status.phase = Phase::WaitingPromotion;
    }
    d.status.halt_reason = Some(text);
    d.check_later(s);
}

fn wait_alert(text: &str, muted: bool, alert: &str) -> Notice {
    let notice = notices::warning(text);
    if muted {
        notice
    } else {
        notices::alert(notice, Severity::Warn, alert)
    }
}

/// The decision to promote: what was analysed is what the primary gets.
fn start_promotion(s: &Snapshot, d: &mut Draft) {
    d.status.phase = Phase::Promoting;
    d.status.started_time = Some(s.now);
    d.status.next_check_time = None;
    d.status.halt_reason = None;
    d.status.paused = None;
    d.tell(notices::normal(format!(
        "Copying {} template spec to {}",
        notices::target(s),
        notices::primary(s)
    )));
}

/// The primary takes over the analysed revision, then gets its traffic back.
fn promote(s: &Snapshot, facts: &Facts, d: &mut Draft) {
    let taken_over = facts.primary_is_applied(&s.canary, &d.status);
    if !facts.is_applied(&d.status) {
        if !taken_over {
            // What was analysed is gone before the primary got it; the primary is still the
            // last proven revision.
            return replaced(s, facts, d);
        }
        // The target's pods are being replaced by ones that nobody has proven: users go to the
        // primary, whose old and new pods are both proven.
        if facts.primary_endpoints > 0 {
            d.status.canary_weight = 0;
        }
    }
    if !taken_over {
        return;
    }
    if !facts.primary_takes_traffic() {
        if let Readiness::NotReady {
            expired: true,
            message,
            ..
        } = &facts.primary_readiness
        {
            return fail_promotion(s, facts, d, message);
        }
        let started = d.status.started_time.unwrap_or(s.now);
        let deadline = u64::try_from(s.canary.spec.progress_deadline()).unwrap_or_default();
        let deadline = after(started, std::time::Duration::from_secs(deadline));
        if s.now >= deadline {
            return fail_promotion(s, facts, d, &facts.primary_obstacle(s));
        }
        d.wake_at(deadline);
        return wake_for(facts, d);
    }
    let analysis = &s.canary.spec.analysis;
    let shifts = facts.abilities.weights;
    if let Some(due) = d.status.next_check_time.filter(|due| *due > s.now) {
        return d.wake_at(due);
    }
    let weight = match facts.strategy {
        Strategy::Canary | Strategy::BlueGreen => {
            steps::next_return(analysis, d.status.canary_weight)
        }
        Strategy::AbTesting => 0,
    };
    if weight > 0 {
        d.status.canary_weight = weight;
        d.tell(notices::normal(format!(
            "Advance {} primary weight {}",
            notices::full_name(s),
            100 - weight
        )));
        return d.check_later(s);
    }
    if shifts {
        d.tell(notices::normal("Routing all traffic to primary"));
    }
    d.status.phase = Phase::Finalising;
    d.status.canary_weight = 0;
    d.status.iterations = 0;
    d.status.step = None;
    d.status.next_check_time = None;
    retire_cookie(&mut d.status);
}

/// The primary does not come up with the promoted revision: users go where pods are proven.
fn fail_promotion(s: &Snapshot, facts: &Facts, d: &mut Draft, why: &str) {
    let text = format!(
        "Promotion of {} failed, primary not ready: {why}",
        notices::target(s)
    );
    let proven = facts.is_applied(&d.status) && facts.canary_takes_traffic();
    d.tell(notices::ends_release(notices::alert(
        notices::warning(text.clone()),
        Severity::Error,
        format!("Promotion failed, primary not ready: {why}"),
    )));
    d.end(s.now, Phase::Failed, "Failed", Some(text.clone()));
    d.status.halt_reason = Some(text);
    if proven && facts.abilities.weights {
        d.status.canary_weight = 100;
    }
}

/// Traffic returns to the primary; the release is done when the route says so.
fn finalise(s: &Snapshot, facts: &Facts, d: &mut Draft) {
    if !world::in_place(s, facts, &d.status) {
        return;
    }
    let skipped = s.canary.spec.skip_analysis.unwrap_or_default();
    let outcome = if skipped { "Skipped" } else { "Succeeded" };
    d.status.last_promoted_spec = d.status.last_applied_spec.clone();
    d.end(s.now, Phase::Succeeded, outcome, None);
    d.status.halt_reason = None;
    let (event, alert) = if skipped {
        (
            format!(
                "Promotion completed! Canary analysis was skipped for {}",
                notices::target(s)
            ),
            "Canary analysis was skipped, promotion finished.",
        )
    } else {
        (
            format!("Promotion completed! Scaling down {}", notices::target(s)),
            "Canary analysis completed successfully, promotion finished.",
        )
    };
    d.tell(notices::ends_release(notices::alert(
        notices::normal(event),
        Severity::Info,
        alert,
    )));
}

fn count_check(status: &mut CanaryStatus) {
    status.checks = Some(status.checks.unwrap_or_default().saturating_add(1));
}

/// Looks again when a deadline that readiness knows of is over.
fn wake_for(facts: &Facts, d: &mut Draft) {
    for readiness in [&facts.canary, &facts.primary_readiness] {
        if let Readiness::NotReady {
            again: Some(time), ..
        } = readiness
        {
            d.wake_at(*time);
        }
    }
}

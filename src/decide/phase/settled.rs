//! Nothing is under way: a new revision begins a release, when the gate lets it.

use crate::{
    api::{HookType, Phase, Severity, status::CanaryStatus},
    observe::Snapshot,
    workload::Readiness,
};

use super::super::{
    check::{self, Purpose, Verdict},
    draft::{Draft, retire_cookie},
    facts::{Facts, next_provider, provider},
    notices,
    requests::Request,
    steps::Step,
    world,
};
use super::{count_check, roll_back_by_hook, wait_alert, wake_for};

/// Nothing is under way: look for a new revision.
pub(super) fn settled(s: &Snapshot, facts: &Facts, request: &mut Option<Request>, d: &mut Draft) {
    if d.status.phase == Phase::Failed && d.status.canary_weight > 0 && facts.can.weights {
        // A promotion failed: users stay on the pods that passed until the primary is restored.
        if facts.primary_takes_traffic() && !facts.primary_is_applied(&s.canary, &d.status) {
            d.status.canary_weight = 0;
        } else if !broken_for_good(s, facts, &d.status) {
            return wake_for(facts, d);
        }
    }
    if next_provider(s).is_some() && facts.live.is_none_or(|live| live.canary == 0) {
        // Users are off the canary by the route API before: the next look goes by the new one.
        d.status.provider = None;
        return;
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
    if facts.unsayable.is_some() {
        // Nobody could be sent to the canary; the condition says why.
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
pub(super) fn start(s: &Snapshot, facts: &Facts, d: &mut Draft) {
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
pub(super) fn begin(s: &Snapshot, facts: &Facts, d: &mut Draft) {
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
    status.judge = None;
    status.halt_reason = None;
    status.paused = None;
    status.scaled_down = None;
    status.last_applied_spec = Some(facts.revision.clone());
    status.tracked_configs = Some(facts.configs.clone());
    status.started_time = Some(s.now);
    status.run_time = Some(s.now);
    status.provider = Some(provider(s));
    status.next_check_time = None;
    status.primary_session_affinity_cookie = None;
    retire_cookie(status);
}

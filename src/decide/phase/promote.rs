//! The primary takes over what was analysed.

use crate::{
    api::{Phase, Severity, Strategy},
    observe::Snapshot,
    workload::Readiness,
};

use super::super::{
    draft::{Draft, after, retire_cookie},
    facts::Facts,
    notices,
    steps::{self},
    world,
};
use super::{progress::replaced, wake_for};

/// The decision to promote: what was analysed is what the primary gets.
pub(super) fn start_promotion(s: &Snapshot, d: &mut Draft) {
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
pub(super) fn promote(s: &Snapshot, facts: &Facts, d: &mut Draft) {
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
    let time = s.canary.spec.progress_time();
    if !taken_over {
        // Its time counts from when it gets the revision: a server that is out of reach, or refuses
        // it, takes a quarter of it at the most. Less would be a write every few seconds.
        let late = |started| s.now > after(started, time / 4);
        if d.status.started_time.is_some_and(late) {
            d.status.started_time = Some(s.now);
        }
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
        let deadline = after(started, time);
        if s.now >= deadline {
            return fail_promotion(s, facts, d, &facts.primary_obstacle(s));
        }
        d.wake_at(deadline);
        return wake_for(facts, d);
    }
    let analysis = &s.canary.spec.analysis;
    let shifts = facts.can.weights;
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
    if facts.primary_readiness != Readiness::Ready {
        d.unready = facts.primary.as_ref().map(|primary| primary.key.clone());
    }
    let proven = facts.is_applied(&d.status) && facts.canary_takes_traffic();
    d.tell(notices::ends_release(notices::alert(
        notices::warning(text.clone()),
        Severity::Error,
        format!("Promotion failed, primary not ready: {why}"),
    )));
    d.end(s.now, Phase::Failed, "Failed", Some(text.clone()));
    d.status.halt_reason = Some(text);
    if proven && facts.can.weights {
        d.status.canary_weight = 100;
    }
}

/// Traffic returns to the primary; the release is done when the route says so.
pub(super) fn finalise(s: &Snapshot, facts: &Facts, d: &mut Draft) {
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

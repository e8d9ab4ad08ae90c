//! The canary is analysed: requests, replaced revisions, and what must be ready first.

use crate::{api::Phase, observe::Snapshot, workload::Readiness};

use super::super::{
    draft::Draft,
    facts::Facts,
    judging::{self, Judged},
    notices,
    requests::Request,
};
use super::{
    analyse::analyse,
    promote::start_promotion,
    readiness::{hold, wait_for_canary},
    settled::begin,
    wake_for,
};

/// The canary is analysed, step by step.
pub(super) fn progress(s: &Snapshot, facts: &Facts, request: &mut Option<Request>, d: &mut Draft) {
    if Request::take(request, Request::Abort) {
        return d.roll_back_because(s, "on request (abort)");
    }
    if let Some(missing) = &facts.missing_config {
        return d.halt(missing);
    }
    if !facts.is_applied(&d.status) {
        return replaced(s, facts, d);
    }
    let judged = judging::follow(s, facts, d);
    if let Judged::Fail(found) = &judged {
        // Whatever else is in the way: users are worse off with every second.
        return d.roll_back_because(s, found);
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
    let skips = s.canary.spec.skip_analysis.unwrap_or_default();
    if facts.unsayable.is_none() && (skips || Request::take(request, Request::Promote)) {
        return start_promotion(s, d);
    }
    if d.status.paused.unwrap_or_default() {
        return;
    }
    analyse(s, facts, d, &judged);
}

fn primary_gave_up(facts: &Facts) -> bool {
    matches!(
        facts.primary_readiness,
        Readiness::NotReady { expired: true, .. }
    )
}

/// The target changed while it was analysed.
pub(super) fn replaced(s: &Snapshot, facts: &Facts, d: &mut Draft) {
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

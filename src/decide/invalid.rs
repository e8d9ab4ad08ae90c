//! A spec that is not valid: nothing is begun or advanced by it, but users who are on a canary
//! that nobody has proven are not left there.

use crate::{api::Phase, observe::Snapshot, plan::Effect, workload::Readiness};

use super::{
    draft::{Draft, after},
    facts::Facts,
    requests::Request,
    world,
};

/// Holds the present weight, for as long as a canary may take to become ready. A request to
/// abort, a canary that is lost, and that time being over roll back.
pub(super) fn hold(
    s: &Snapshot,
    request: &mut Option<Request>,
    d: &mut Draft,
    effects: &mut Vec<Effect>,
) {
    let analysed = matches!(d.status.phase, Phase::Progressing | Phase::WaitingPromotion);
    let Ok(facts) = Facts::read(s) else {
        if analysed && Request::take(request, Request::Abort) {
            d.roll_back_because(s, "on request (abort)");
        }
        return world::without_target(s, &d.status, effects);
    };
    if analysed {
        if Request::take(request, Request::Abort) {
            d.roll_back_because(s, "on request (abort)");
        } else if let Some(why) = given_up(s, &facts, d) {
            d.roll_back_because(s, &why);
        }
    }
    world::leave_canary(s, &facts, &d.status, effects);
}

/// Why the release cannot be held any longer.
fn given_up(s: &Snapshot, facts: &Facts, d: &mut Draft) -> Option<String> {
    let lost = d.status.canary_weight > 0 && facts.canary_pods == 0;
    let expired = matches!(facts.canary, Readiness::NotReady { expired: true, .. });
    if lost || expired {
        d.unserved = lost && !expired;
        d.unready = expired.then(|| s.target_key());
        return Some(facts.canary_obstacle(s));
    }
    if d.status.paused.unwrap_or_default() {
        return None;
    }
    let unchecked = d.status.next_check_time.or(d.status.started_time)?;
    let deadline = after(unchecked, s.canary.spec.progress_time());
    if s.now < deadline {
        d.wake_at(deadline);
        return None;
    }
    Some(format!(
        "progress deadline exceeded: the spec is not valid, so that the canary could not be \
         checked since {unchecked}"
    ))
}

//! The canary is not ready: wait, ask, or give up.

use crate::{
    api::HookType,
    observe::Snapshot,
    workload::{self, Readiness},
};

use super::super::{
    check::{self, Purpose, Verdict},
    draft::{Draft, after},
    facts::Facts,
    notices,
    steps::Step,
};
use super::{analyse::fail_check, count_check, roll_back_by_hook, wake_for};

/// The canary is not ready: wait until its deadline, then roll back.
pub(super) fn wait_for_canary(s: &Snapshot, facts: &Facts, d: &mut Draft) {
    let why = facts.canary_obstacle(s);
    let overdue = || format!("progress deadline exceeded: {why}");
    let started = d.status.started_time.unwrap_or(s.now);
    let deadline = after(started, s.canary.spec.progress_time());
    let exposed = d.status.canary_weight > 0 || d.status.iterations > 0;
    let untried =
        workload::is_scaled_to_zero(&facts.target) && d.status.halt_reason.is_none() && !exposed;
    if s.now >= deadline && untried {
        // The operator was away, or the server: nobody has started it yet. Its time begins now.
        d.status.started_time = Some(s.now);
        return;
    }
    if let Readiness::NotReady { expired: true, .. } = facts.canary {
        d.unready = Some(s.target_key());
        return d.roll_back_because(s, &overdue());
    }
    if !exposed && s.now >= deadline {
        // Its pods may be there, and only the watch that tells whose they are late.
        d.unserved = facts.canary == Readiness::Ready;
        d.unready = (!d.unserved).then(|| s.target_key());
        return d.roll_back_because(s, &overdue());
    }
    if exposed && facts.canary_pods == 0 {
        // Users are sent to a canary that cannot answer: a failed check, once an interval.
        if d.status.next_check_time.is_none_or(|due| due <= s.now) {
            d.unserved = true;
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
pub(super) fn hold(s: &Snapshot, d: &mut Draft, reason: &str) {
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

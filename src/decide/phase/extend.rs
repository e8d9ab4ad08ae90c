//! A step that the judge does not let end yet goes on, up to a limit.

use crate::{
    api::{Severity, judge::Then, status::CanaryStatus},
    observe::Snapshot,
};

use super::super::{
    draft::{Draft, after},
    judging::Judged,
    notices,
    steps::Step,
};

/// What is said while no look has been answered yet.
const UNSEEN: &str = "the judge has not seen the counters yet";

/// Why the judge does not let a release take a step; `None`: it does, or is not asked. Only steps
/// that give more users the new version need a pass. Nobody gets it before the judge can see.
pub(super) fn barred(judged: &Judged, begun: bool, next: Step) -> Option<&str> {
    match judged {
        Judged::Blind(why) if !begun || next.exposes() => Some(why.as_deref().unwrap_or(UNSEEN)),
        Judged::Undecided(why) if begun && next.exposes() => Some(why),
        Judged::Absent
        | Judged::Blind(_)
        | Judged::Undecided(_)
        | Judged::Pass(_)
        // Rolled back before.
        | Judged::Fail(_) => None,
    }
}

/// Whether the step under way is extended.
pub(super) fn is_extended(status: &CanaryStatus) -> bool {
    status.judge.as_ref().is_some_and(|record| record.extended)
}

/// The judge let a step end: whatever holds it now is not the judge.
pub(super) fn end(status: &mut CanaryStatus) {
    if let Some(record) = &mut status.judge {
        record.extended = false;
    }
}

/// Nobody gets the canary before the judge has seen the counters: the first look is awaited, and
/// when it fails the release stays where it is.
pub(super) fn wait_to_begin(s: &Snapshot, d: &mut Draft, judged: &Judged, why: &str) {
    if *judged == Judged::Blind(None) {
        return;
    }
    match d.status.next_check_time.filter(|due| *due > s.now) {
        Some(due) if d.status.halt_reason.is_some() => d.wake_at(due),
        Some(_) | None => extend(s, d, why),
    }
}

/// The step goes on for another interval; past the limit as the setting says.
pub(super) fn extend(s: &Snapshot, d: &mut Draft, why: &str) {
    let analysis = &s.canary.spec.analysis;
    let Some(judge) = &analysis.judge else {
        return;
    };
    let record = d.status.judge.get_or_insert_default().clone();
    let started = record.step_started.or(d.status.started_time);
    let most = judge.extensions();
    let patience = analysis.interval().saturating_mul(most.saturating_add(1));
    let over = s.now >= after(started.unwrap_or(s.now), patience);
    let text = format!("Halt {} advancement {why}", notices::full_name(s));
    if over && judge.then() == Then::RollBack {
        return d.roll_back_because(
            s,
            &format!("undecided after {most} extensions of a step: {why}"),
        );
    }
    if over && !record.held {
        d.tell(notices::alert(
            notices::warning(format!(
                "{text}; extended {most} times, waiting for a person: request promote or abort"
            )),
            Severity::Warn,
            format!("Canary is undecided and waits for a person: {why}"),
        ));
    } else if !record.extended && d.status.halt_reason.as_deref() != Some(&text) {
        d.tell(notices::warning(&text));
    }
    d.status.halt_reason = Some(text);
    if let Some(record) = &mut d.status.judge {
        record.extended = true;
        record.held |= over;
    }
    d.check_later(s);
}

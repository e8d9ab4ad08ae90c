//! The phase machine: one exhaustive match, one file a phase.

mod analyse;
mod extend;
mod initialize;
mod progress;
mod promote;
mod readiness;
mod settled;

use crate::{
    api::{
        Phase, Severity,
        status::{CanaryStatus, Notice},
    },
    observe::Snapshot,
    workload::Readiness,
};

use super::{draft::Draft, facts::Facts, notices, requests::Request, takeover};

use {
    initialize::initialize,
    progress::progress,
    promote::{finalise, promote},
    settled::settled,
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

fn wait_alert(text: &str, muted: bool, alert: &str) -> Notice {
    let notice = notices::warning(text);
    if muted {
        notice
    } else {
        notices::alert(notice, Severity::Warn, alert)
    }
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

//! What goes wrong with one Canary harms no other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use haldane::{
    controller::Decider,
    decide::decide,
    observe::{CheckState, Snapshot},
    plan::{Effect, Plan},
};

use crate::{flow::Flow, trial::try_out};

/// The first step of a release that comes over a second later because a neighbour's webhook hangs.
fn delay(decider: &Decider) -> Option<String> {
    let quiet = try_out(&Flow::named("quiet-neighbour"), &[], 1, decider);
    let hangs = try_out(&Flow::named("hanging-neighbour"), &[], 1, decider);
    let steps = quiet.story.iter().zip(&hangs.story);
    let late = |((was, ..), (is, ..)): &(&(Duration, String, i64), &(Duration, String, i64))| {
        is.saturating_sub(*was) > Duration::from_secs(1)
    };
    let late = steps.clone().find(late);
    if quiet.story.len() != hangs.story.len() {
        return Some(format!("{:?} and {:?}", quiet.story, hangs.story));
    }
    late.map(|(was, is)| format!("{is:?}, not {was:?}"))
}

#[test]
fn webhook_of_a_neighbour_that_hangs_delays_nobody() {
    assert_eq!(delay(&Decider::default()), None, "L7");
}

#[test]
fn worker_that_waits_for_webhooks_is_noticed() {
    // Planted: one Canary's webhooks hold all others (F: synchronous webhooks, F#638).
    let waits = Arc::new(AtomicBool::new(false));
    let late = delay(&Decider::new(move |s: &Snapshot| {
        let plan = decide(s);
        if s.name() == "store" {
            let asks = plan.effects.iter().any(|e| matches!(e, Effect::Measure(_)));
            let answered = s.checks.values().any(|c| matches!(c, CheckState::Done(_)));
            if asks || answered {
                waits.store(asks && !answered, Ordering::Relaxed);
            }
        } else if waits.load(Ordering::Relaxed) {
            let wake = s.now.checked_add(Duration::from_secs(5)).ok();
            return Plan {
                wake,
                ..Plan::default()
            };
        }
        plan
    }));
    assert!(late.is_some());
}

#[test]
fn panic_over_one_canary_stops_no_other() {
    let mut flow = Flow::named("quiet-neighbour");
    flow.panics = true;
    let decider = Decider::new(|s: &Snapshot| {
        assert!(s.name() != "store", "a panic that was planted");
        decide(s)
    });
    let trial = try_out(&flow, &[], 1, &decider);
    assert_eq!(trial.violation, None);
}

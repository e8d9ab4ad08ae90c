//! The pure middle: from a [`Snapshot`] to a [`Plan`].
//!
//! Total and deterministic: no clock, client, randomness or async. The status decides, the world
//! follows: `phase` moves the status on, `world` lists the writes that the new status still
//! lacks. Because every write follows from the status, which is persisted first, a crash at any
//! point resumes to the same end.

mod check;
mod conditions;
mod copies;
mod draft;
mod facts;
mod identity;
mod invalid;
mod judging;
mod notices;
mod phase;
mod requests;
pub(crate) mod steps;
mod takeover;
mod terminate;
mod world;

use crate::{
    api::{CanaryStatus, Phase, validation},
    observe::Snapshot,
    plan::{Effect, Plan},
};

use draft::Draft;
use facts::{Facts, Obstacle};

/// What to do next. Same snapshot, same plan.
pub fn decide(s: &Snapshot) -> Plan {
    let _held = s.bodies();
    let mut d = Draft::new(s.canary.status.clone().unwrap_or_default());
    if s.leaves() {
        return terminate::terminate(s, d);
    }
    let mut effects = Vec::new();
    if let Some(obstacle) = obstacle(s) {
        if obstacle.reason == "InvalidSpec" {
            let mut request = requests::read(s);
            let asked = request.is_some();
            invalid::hold(s, &mut request, &mut d, &mut effects);
            if asked && request.is_none() {
                requests::settle(s, request, &mut d);
            }
        }
        d.obstacle = Some(obstacle);
        return finish(s, d, effects);
    }
    effects.extend(terminate::finalizer(s));
    let mut request = requests::read(s);
    match Facts::read(s) {
        Ok(facts) => {
            move_on(s, &facts, &mut request, &mut d);
            world::note_scaled_down(&facts, &mut d);
            let in_place = world::in_place(s, &facts, &d.status);
            d.quiet = d.status.canary_weight == 0 && in_place;
            if let Err(obstacle) = world::converge(s, &facts, &mut d, in_place, &mut effects) {
                d.obstacle = Some(obstacle);
            }
        }
        Err(obstacle) => {
            let lost = obstacle.reason == "TargetNotFound";
            if lost && matches!(d.status.phase, Phase::Progressing | Phase::WaitingPromotion) {
                d.roll_back_because(s, &obstacle.message);
            }
            world::without_target(s, &d.status, &mut effects);
            d.obstacle = Some(obstacle);
        }
    }
    requests::settle(s, request, &mut d);
    finish(s, d, effects)
}

/// What keeps a Canary from being looked at.
fn obstacle(s: &Snapshot) -> Option<Obstacle> {
    if s.canary.spec.suspend.unwrap_or_default() {
        return Some(Obstacle {
            reason: "Suspended",
            message: "The Canary is suspended; set spec.suspend to false to go on.".to_owned(),
        });
    }
    if let Some(fault) = validation::faults(&s.canary).first() {
        return Some(Obstacle {
            reason: "InvalidSpec",
            message: fault.to_string(),
        });
    }
    s.rival.as_ref().map(|rival| Obstacle {
        reason: "Conflict",
        message: format!(
            "Canary {rival} already releases {} or serves {}; delete one of the two",
            s.canary.spec.target_ref.name,
            s.canary.spec.apex_name()
        ),
    })
}

/// Phases follow each other at once, up to the first that users notice: that one is persisted
/// and carried out before the next is looked at.
fn move_on(s: &Snapshot, facts: &Facts, request: &mut Option<requests::Request>, d: &mut Draft) {
    if d.status.phase == Phase::New {
        phase::advance(s, facts, request, d);
    }
    phase::advance(s, facts, request, d);
}

/// Completes a plan: conditions, and a status only if it says something new.
fn finish(s: &Snapshot, mut d: Draft, mut effects: Vec<Effect>) -> Plan {
    if let Some(obstacle) = &d.obstacle {
        let told = s
            .canary
            .status
            .iter()
            .flat_map(|status| status.conditions.iter().flatten())
            .any(|c| c.kind == "Ready" && c.message.as_deref() == Some(&obstacle.message));
        if !told {
            let notice = if obstacle.reason == "Suspended" {
                notices::normal("skipping canary run as object is suspended")
            } else {
                notices::warning(obstacle.message.clone())
            };
            d.notices.push(notice);
        }
    }
    conditions::set(s, &mut d.status, d.obstacle.as_ref());
    // What was told last, and when, is no news.
    let before = s.canary.status.as_ref();
    d.status.last_transition_time = before.and_then(|before| before.last_transition_time);
    d.status.notices = before.and_then(|before| before.notices.clone());
    let changed = match before {
        Some(before) => d.status != *before,
        None => d.status != CanaryStatus::default(),
    };
    d.status.notices = Some(d.notices.clone()).filter(|n| !n.is_empty());
    d.status.last_transition_time = Some(conditions::stamp(s.now));
    effects.append(&mut d.effects);
    Plan {
        status: changed.then_some(d.status),
        effects,
        notices: d.notices,
        quiet: d.quiet,
        shrinks: d.shrinks,
        unserved: d.unserved,
        unready: d.unready,
        wake: d.wake,
    }
}

//! The conditions of a Canary: Flagger's `Promoted`, and those by which kstatus, Flux and
//! Argo CD tell whether to wait.

use jiff::Timestamp;

use crate::{
    api::{
        Phase,
        status::{CanaryStatus, Condition},
    },
    observe::Snapshot,
};

use super::facts::Obstacle;

const TRUE: &str = "True";
const FALSE: &str = "False";
const UNKNOWN: &str = "Unknown";

/// Sets all conditions and the observed generation.
pub(super) fn set(s: &Snapshot, status: &mut CanaryStatus, obstacle: Option<&Obstacle>) {
    status.observed_generation = s.canary.metadata.generation;
    let phase = status.phase;
    let mut wanted = Vec::new();
    if let Some((state, message)) = promoted(s, phase) {
        wanted.push(("Promoted", state, phase.as_str(), message));
    }
    let message = |fallback: String| {
        obstacle
            .map(|o| o.message.clone())
            .or_else(|| status.halt_reason.clone())
            .unwrap_or(fallback)
    };
    let reason = obstacle.map_or_else(
        || match phase.as_str() {
            "" => "New",
            phase => phase,
        },
        |o| o.reason,
    );
    let suspended = s.canary.spec.suspend.unwrap_or_default();
    let stalled = phase == Phase::Failed || obstacle.is_some_and(|o| o.reason != "Suspended");
    let settled = matches!(phase, Phase::Initialized | Phase::Succeeded);
    let ready = if stalled {
        FALSE
    } else if settled || suspended {
        TRUE
    } else {
        UNKNOWN
    };
    let reconciling = !stalled && !settled && !suspended;
    let text = message(summary(phase, status.canary_weight));
    wanted.push(("Ready", ready, reason, text.clone()));
    wanted.push((
        "Reconciling",
        if reconciling { TRUE } else { FALSE },
        reason,
        text.clone(),
    ));
    wanted.push(("Stalled", if stalled { TRUE } else { FALSE }, reason, text));
    let before = status.conditions.take().unwrap_or_default();
    status.conditions = Some(
        wanted
            .into_iter()
            .map(|(kind, state, reason, message)| {
                next(&before, kind, state, reason, message, stamp(s.now))
            })
            .collect(),
    );
}

fn next(
    before: &[Condition],
    kind: &str,
    state: &str,
    reason: &str,
    message: String,
    now: Timestamp,
) -> Condition {
    let old = before.iter().find(|c| c.kind == kind);
    if let Some(old) = old
        && old.status == state
        && old.reason.as_deref() == Some(reason)
        && (old.message.as_deref() == Some(&message) || kind == "Promoted")
    {
        return old.clone();
    }
    Condition {
        kind: kind.to_owned(),
        status: state.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(now),
        last_transition_time: old
            .filter(|old| old.status == state)
            .map_or(Some(now), |old| old.last_transition_time),
    }
}

/// A time as people read it in a status: whole seconds.
pub(super) fn stamp(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// Status and message of `Promoted`, in Flagger's words.
fn promoted(s: &Snapshot, phase: Phase) -> Option<(&'static str, String)> {
    let kind = s.canary.spec.target_ref.kind.as_str();
    Some(match phase {
        Phase::New => return None,
        Phase::Initializing | Phase::Terminating | Phase::Terminated => (
            UNKNOWN,
            format!("New {kind} detected, starting initialization."),
        ),
        Phase::Initialized => (TRUE, format!("{kind} initialization completed.")),
        Phase::Waiting | Phase::WaitingPromotion => (UNKNOWN, "Waiting for approval.".to_owned()),
        Phase::Progressing => (
            UNKNOWN,
            "New revision detected, progressing canary analysis.".to_owned(),
        ),
        Phase::Promoting => (
            UNKNOWN,
            "Canary analysis completed, starting primary rolling update.".to_owned(),
        ),
        Phase::Finalising => (
            UNKNOWN,
            "Canary analysis completed, routing all traffic to primary.".to_owned(),
        ),
        Phase::Succeeded => (
            TRUE,
            "Canary analysis completed successfully, promotion finished.".to_owned(),
        ),
        Phase::Failed => (
            FALSE,
            format!("Canary analysis failed, {kind} scaled to zero."),
        ),
    })
}

/// One sentence on where the release stands.
fn summary(phase: Phase, weight: i32) -> String {
    match phase {
        Phase::New | Phase::Initializing => "The primary is being created.".to_owned(),
        Phase::Initialized | Phase::Succeeded => "The primary serves all traffic.".to_owned(),
        Phase::Waiting => "A gate holds the new revision.".to_owned(),
        Phase::Progressing => format!("The new revision is analysed at {weight} % of traffic."),
        Phase::WaitingPromotion => "A gate holds the promotion.".to_owned(),
        Phase::Promoting => "The primary takes over the new revision.".to_owned(),
        Phase::Finalising => "Traffic returns to the primary.".to_owned(),
        Phase::Failed => "The new revision was rolled back.".to_owned(),
        Phase::Terminating | Phase::Terminated => "The Canary is being deleted.".to_owned(),
    }
}

//! Deletion: with `revertOnDeletion` the workload, its service and routes become what they were.

use serde_json::{Value, json};

use crate::{
    api::{FINALIZER, Phase},
    object::{Key, Kind},
    observe::Snapshot,
    plan::{Effect, Plan, Precondition},
    workload::{self, Readiness, Side},
};

use super::{
    draft::{Draft, after},
    facts, notices, world,
};

/// Longest time that a deletion waits for the target to become ready.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(4);

/// The change of the Canary's finalizers that `revertOnDeletion` asks for.
pub(super) fn finalizer(s: &Snapshot) -> Option<Effect> {
    let wanted = s.canary.spec.revert_on_deletion.unwrap_or_default();
    (wanted != has_finalizer(s)).then(|| set_finalizer(s, wanted))
}

fn has_finalizer(s: &Snapshot) -> bool {
    s.canary
        .metadata
        .finalizers
        .iter()
        .flatten()
        .any(|f| f == FINALIZER)
}

fn set_finalizer(s: &Snapshot, wanted: bool) -> Effect {
    let mut all: Vec<&str> = s
        .canary
        .metadata
        .finalizers
        .iter()
        .flatten()
        .map(String::as_str)
        .filter(|f| *f != FINALIZER)
        .collect();
    if wanted {
        all.push(FINALIZER);
    }
    Effect::Patch {
        key: Key::new(Kind::Canary, s.namespace(), s.name()),
        patch: json!({"metadata": {"finalizers": all}}),
        precondition: Precondition {
            uid: s.canary.metadata.uid.clone().unwrap_or_default(),
            resource_version: s.canary.metadata.resource_version.clone(),
        },
        reason: "revertOnDeletion needs a finalizer",
    }
}

/// Gives everything back, in the order of traffic: target up and ready, then apex service and
/// routes, then, once traffic has followed, the finalizer. What is gone already is passed over,
/// so that a deletion always completes.
pub(super) fn terminate(s: &Snapshot, mut d: Draft) -> Plan {
    if !has_finalizer(s) {
        // Owned objects are garbage collected; nothing is asked of us.
        return Plan::default();
    }
    let deleted = s.canary.metadata.deletion_timestamp.as_ref().map(|t| t.0);
    if d.status.phase != Phase::Terminating {
        d.status.phase = Phase::Terminating;
        d.status.canary_weight = 0;
        d.tell(notices::normal(format!(
            "Terminating canary {}",
            notices::full_name(s)
        )));
    }
    let deadline = deleted.map_or(s.now, |at| after(at, PATIENCE));
    let mut effects = Vec::new();
    if give_back(s, &mut d, deadline, &mut effects) || s.now >= deadline {
        d.tell(notices::normal(format!(
            "Terminated canary {}",
            notices::full_name(s)
        )));
        effects.push(set_finalizer(s, false));
        d.shrinks = 1;
    } else {
        d.wake_at(deadline);
    }
    super::finish(s, d, effects)
}

/// The writes that are missing; whether everything is given back.
fn give_back(
    s: &Snapshot,
    d: &mut Draft,
    deadline: jiff::Timestamp,
    effects: &mut Vec<Effect>,
) -> bool {
    let spec = &s.canary.spec;
    let kind = Kind::from(spec.target_ref.kind);
    let Some(target) = s.target() else {
        return true;
    };
    let primary = s.object(kind, &spec.primary_name());
    let scaler = spec
        .autoscaler_ref
        .as_ref()
        .and_then(|r| s.object(Kind::from(r.kind), &r.name));
    if let Some(scaler) = scaler
        && let Some(change) = workload::resume_scaler(scaler)
    {
        effects.push(world::patch_any(scaler, change, "give the autoscaler back"));
    }
    if kind != Kind::Service {
        if let Some(change) = workload::revert_target(
            target,
            primary.map(AsRef::as_ref),
            scaler.map(AsRef::as_ref),
        ) {
            effects.push(world::patch_any(target, change, "give the workload back"));
            return false;
        }
        let ready = workload::readiness(
            target,
            Side::Canary,
            100,
            None,
            spec.progress_deadline(),
            s.now,
        ) == Readiness::Ready;
        if !ready && s.now < deadline {
            return false;
        }
    }
    let mut restored = Vec::new();
    if let Some(apex) = s.objects.get(&s.apex_key()) {
        let change: Option<Value> = workload::selector(target, &s.settings)
            .ok()
            .and_then(|selector| workload::revert_apex(&selector, apex));
        restored.extend(change.map(|c| world::patch(apex, c, "give the service back")));
    }
    if let Ok(router) = facts::router(s) {
        for want in router.restore(&s.canary, &s.objects) {
            if let Some(existing) = s.objects.get(&want.key) {
                restored.extend(
                    want.patch(existing)
                        .map(|c| world::patch(existing, c, "give the route back")),
                );
            }
        }
    }
    let all_back = restored.is_empty();
    effects.extend(restored);
    if !all_back {
        return false;
    }
    // The primary goes with the Canary: only after traffic has left it.
    d.quiet = true;
    let free = after(world::quiet_since(s), s.settings.drain);
    if s.now < free {
        d.wake_at(free);
        return false;
    }
    true
}

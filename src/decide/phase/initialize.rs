//! The primary is created.

use crate::{
    api::{Phase, REVISION, Severity},
    observe::Snapshot,
    workload::Readiness,
};

use super::super::{copies, draft::Draft, facts::Facts, notices, world};
use super::wake_for;

/// The primary is created; users stay on the target until it is ready.
pub(super) fn initialize(s: &Snapshot, facts: &Facts, d: &mut Draft) {
    d.status.started_time.get_or_insert(s.now);
    if let Some(missing) = &facts.missing_config {
        return d.halt(missing);
    }
    if !facts.primary_takes_traffic() {
        if let Readiness::NotReady { expired: true, .. } = facts.primary_readiness {
            d.halt(&format!(
                "Initialization of {} waits: {}; users stay on {}",
                notices::full_name(s),
                facts.primary_obstacle(s),
                notices::target(s)
            ));
        }
        return wake_for(facts, d);
    }
    if !world::in_place(s, facts, &d.status) {
        return;
    }
    let kind = s.canary.spec.target_ref.kind.as_str();
    d.status.phase = Phase::Initialized;
    // What the primary was made of: a target that was changed meanwhile is the first release.
    let primary = facts.primary.as_ref();
    let marked = primary.and_then(|primary| primary.annotations.get(REVISION));
    let revision = marked.unwrap_or(&facts.revision);
    d.status.last_applied_spec = Some(revision.clone());
    d.status.last_promoted_spec = Some(revision.clone());
    d.status.tracked_configs = Some(copies::of_primary(s, facts));
    d.status.started_time = None;
    d.status.halt_reason = None;
    d.tell(notices::with_metadata(notices::alert(
        notices::normal(format!("Initialization done! {}", notices::full_name(s))),
        Severity::Info,
        format!("New {kind} detected, initialization completed."),
    )));
}

//! Taking over Canaries that Flagger looked after.

use crate::{api::Phase, observe::Snapshot, workload};

use super::{
    draft::{Draft, after},
    facts::Facts,
};

/// Replaces Flagger's revision hashes, which nobody else can compute, by ours. Starts nothing:
/// a target that agrees with its primary, or that had failed, is what the hashes spoke of.
///
/// Returns whether the status changed.
pub(super) fn adopt(s: &Snapshot, facts: &Facts, d: &mut Draft) -> bool {
    let foreign = |hash: &Option<String>| {
        hash.as_deref()
            .is_some_and(|hash| !hash.is_empty() && workload::is_foreign(hash))
    };
    if !foreign(&d.status.last_applied_spec) {
        return false;
    }
    let agrees = facts
        .primary
        .as_ref()
        .is_some_and(|primary| workload::agrees(&s.settings, &facts.target, primary));
    let current = Some(facts.revision.clone());
    match d.status.phase {
        Phase::New | Phase::Initializing => return false,
        Phase::Initialized | Phase::Succeeded | Phase::Terminating | Phase::Terminated => {
            // A target that differs is a revision that arrived while nobody looked: it keeps
            // the foreign hash and is released as new.
            if !agrees {
                return false;
            }
            d.status.last_applied_spec.clone_from(&current);
            d.status.last_promoted_spec = current;
        }
        Phase::Failed => {
            if agrees {
                d.status.last_promoted_spec.clone_from(&current);
            }
            d.status.last_applied_spec = current;
        }
        Phase::Waiting => {
            if !agrees {
                return false;
            }
            d.status.last_applied_spec.clone_from(&current);
            d.status.last_promoted_spec = current;
        }
        Phase::Progressing | Phase::WaitingPromotion | Phase::Promoting | Phase::Finalising => {
            // The release goes on from the weight that users have now.
            let weight = facts.live.map_or(0, |live| live.canary.clamp(0, 100));
            d.status.canary_weight = weight;
            d.status.last_applied_spec = current;
            d.status.started_time = Some(s.now);
            d.status.run_time = Some(s.now);
            d.status.step = Some(i32::from(weight > 0));
            d.status.next_check_time = Some(after(s.now, s.canary.spec.analysis.interval()));
        }
    }
    if !facts.configs.is_empty() && d.status.tracked_configs.is_none() {
        d.status.tracked_configs = Some(facts.configs.clone());
    }
    true
}

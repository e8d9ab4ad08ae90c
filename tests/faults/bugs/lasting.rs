//! Bugs by which a release or deletion gets stuck, or others are harmed.

use haldane::{
    api::Phase,
    decide::decide,
    object::Kind,
    observe::CheckState,
    plan::{Effect, Outcome, Plan},
};
use serde_json::{Value, json};

use super::{
    Bug,
    tools::{
        comes_to, no_kind, patch, patches, phase, status, with_memory, with_status, without_hooks,
    },
};

pub const BUGS: &[Bug] = &[
    Bug {
        name: "failures are not counted (A#4128)",
        flow: ("rollback", 1),
        noticed_by: &["L1"],
        plant: |s| {
            let mut plan = decide(s);
            if let Some(status) = &mut plan.status {
                status.failed_checks = 0;
                if status.phase == Phase::Failed {
                    plan.status = None;
                    plan.effects.clear();
                }
            }
            plan
        },
    },
    Bug {
        name: "the progress deadline does not roll back (A#4128)",
        flow: ("crash-loop", 1),
        noticed_by: &["L1"],
        plant: |s| {
            let plan = decide(s);
            if comes_to(s, &plan) == Phase::Failed {
                Plan::default()
            } else {
                plan
            }
        },
    },
    Bug {
        name: "a rollback hook is not asked (F: no rollback while Waiting)",
        flow: ("rollback-hook", 1),
        noticed_by: &["L1"],
        plant: |s| {
            if phase(s) == Phase::Progressing {
                decide(&without_hooks(s))
            } else {
                decide(s)
            }
        },
    },
    Bug {
        name: "a webhook that hangs holds the rollback (F7)",
        flow: ("check-hangs", 1),
        noticed_by: &["L1"],
        plant: |s| {
            let hung = |state: &CheckState| match state {
                CheckState::Pending => false,
                CheckState::Done(answer) => answer.stages.iter().flatten().any(|outcome| {
                    matches!(outcome, Outcome::Refused(_) | Outcome::Unavailable(_))
                }),
            };
            if s.checks.values().any(hung) {
                Plan::default()
            } else {
                decide(s)
            }
        },
    },
    Bug {
        name: "rollback leaves the route (A#4841)",
        flow: ("rollback", 1),
        noticed_by: &["L3", "L4"],
        plant: |s| {
            let plan = decide(s);
            if comes_to(s, &plan) == Phase::Failed {
                no_kind(plan, Kind::VirtualService)
            } else {
                plan
            }
        },
    },
    Bug {
        name: "rollback is not the first write (F7, F8)",
        flow: ("rollback", 1),
        noticed_by: &["L3"],
        plant: |s| {
            let mut plan = decide(s);
            if plan
                .status
                .as_ref()
                .is_some_and(|st| st.phase == Phase::Failed)
            {
                let note = json!({"metadata": {"annotations": {"seen": "yes"}}});
                let first = patch(s, Kind::Deployment, "shop", note);
                plan.effects.splice(0..0, first);
            }
            plan
        },
    },
    Bug {
        name: "stuck in Promoting (F#1588, F1)",
        flow: ("return-in-steps", 1),
        noticed_by: &["L1"],
        plant: |s| {
            if phase(s) == Phase::Promoting {
                Plan::default()
            } else {
                decide(s)
            }
        },
    },
    Bug {
        name: "stuck in Finalising (F#1591)",
        flow: ("canary", 1),
        noticed_by: &["L1"],
        plant: |s| {
            if phase(s) == Phase::Finalising {
                Plan::default()
            } else {
                decide(s)
            }
        },
    },
    Bug {
        name: "the primary never gets the revision (F#379)",
        flow: ("canary", 1),
        noticed_by: &["L1"],
        plant: |s| {
            let plan = decide(s);
            if comes_to(s, &plan) == Phase::Promoting {
                no_kind(plan, Kind::Deployment)
            } else {
                plan
            }
        },
    },
    Bug {
        name: "mirroring never ends (F: mirror deadlock)",
        flow: ("mirror", 1),
        noticed_by: &["L1"],
        plant: |s| {
            let mut plan = decide(s);
            if status(s).step == Some(1) && comes_to(s, &plan) == Phase::Progressing {
                plan.effects.clear();
                return with_status(s, plan, |status| {
                    (status.step, status.canary_weight) = (Some(1), 0);
                });
            }
            plan
        },
    },
    Bug {
        name: "nobody looks again (A#2929)",
        flow: ("canary", 1),
        noticed_by: &["L1"],
        plant: |s| Plan {
            wake: None,
            ..decide(s)
        },
    },
    Bug {
        name: "an idle Canary is written each look (F: cost of idle Canaries)",
        flow: ("canary", 1),
        noticed_by: &["L6", "L1", "L4"],
        plant: |s| {
            let mut plan = decide(s);
            if plan.status.is_none() && phase(s) == Phase::Succeeded {
                let mut same = status(s);
                same.last_transition_time = Some(s.now);
                plan.status = Some(same);
                plan.wake = s.now.checked_add(std::time::Duration::from_secs(5)).ok();
            }
            plan
        },
    },
    Bug {
        name: "the finalizer is never removed (F#1357)",
        flow: ("delete-at-rest", 1),
        noticed_by: &["L1"],
        plant: |s| {
            let plan = decide(s);
            let deleted = s.canary.metadata.deletion_timestamp.is_some();
            if deleted {
                no_kind(plan, Kind::Canary)
            } else {
                plan
            }
        },
    },
    Bug {
        name: "a deletion waits for a target that is gone (F#1357, F#1562)",
        flow: ("delete-without-target", 1),
        noticed_by: &["L1"],
        plant: |s| {
            let gone = s.object(Kind::Deployment, "shop").is_none();
            let deleted = s.canary.metadata.deletion_timestamp.is_some();
            if gone && deleted {
                Plan::default()
            } else {
                decide(s)
            }
        },
    },
    Bug {
        name: "an invalid spec keeps users on an unproven canary (F12)",
        flow: ("invalid-and-forgotten", 1),
        noticed_by: &["L1"],
        plant: |s| {
            let plan = decide(s);
            let invalid = s
                .canary
                .spec
                .service
                .iter()
                .any(|service| service.matches.is_some());
            if invalid { Plan::default() } else { plan }
        },
    },
    Bug {
        name: "two Canaries release one target (F: \"Bad things will happen!\")",
        flow: ("two-canaries-of-one-target", 1),
        noticed_by: &["O3"],
        plant: |s| {
            let mut s = s.clone();
            s.rival = None;
            decide(&s)
        },
    },
    Bug {
        name: "a promotion brings a neighbour the shared config (F#1930)",
        flow: ("shared-config", 1),
        noticed_by: &["O4"],
        plant: |s| {
            let mut plan = decide(s);
            let copies: Vec<Effect> = plan.effects.clone();
            for effect in copies {
                if let Effect::CopyConfig(mut copy) = effect
                    && phase(s) == Phase::Progressing
                    && s.name() == "shop"
                    && copy.checksum.is_some()
                {
                    if let Some(owner) = &mut copy.to.owner {
                        // Who applies asks whose the copy is.
                        "store".clone_into(&mut owner.name);
                    }
                    for name in ["settings-primary", "settings-store-primary"] {
                        name.clone_into(&mut copy.to.key.name);
                        plan.effects.push(Effect::CopyConfig(copy.clone()));
                    }
                }
            }
            plan
        },
    },
    Bug {
        name: "what Git operations change back is fought over (F#1407, A#3854)",
        flow: ("applied-again", 1),
        noticed_by: &["O5"],
        plant: |s| {
            let mut plan = decide(s);
            let corrected = plan
                .effects
                .iter()
                .any(|e| matches!(e, Effect::Patch { key, .. } if key.kind == Kind::Service));
            if corrected {
                let again = json!({"metadata": {"annotations": {"corrected": s.now.to_string()}}});
                let again = patch(s, Kind::Service, "shop", again);
                plan.effects.splice(0..0, again);
            }
            plan
        },
    },
    Bug {
        name: "annotations of others are removed (F#1857)",
        flow: ("canary", 1),
        noticed_by: &["O1"],
        plant: |s| {
            let mut plan = decide(s);
            patches(&mut plan, Kind::Deployment, |_, patch| {
                patch["metadata"]["annotations"]["team/owner"] = Value::Null;
            });
            plan
        },
    },
    Bug {
        name: "a Service that was there is rewritten (F#680)",
        flow: ("bootstrap-under-traffic", 1),
        noticed_by: &["O1"],
        plant: |s| {
            let mut plan = decide(s);
            patches(&mut plan, Kind::Service, |_, patch| {
                patch["metadata"]["annotations"]["team/owner"] = Value::Null;
            });
            plan
        },
    },
    Bug {
        name: "a panic at a status without metrics (A#2608)",
        flow: ("canary", 1),
        noticed_by: &["B1"],
        plant: |s| {
            let none = status(s).metrics.is_none() && status(s).canary_weight > 0;
            assert!(!none, "a panic that was planted");
            with_memory(s, |_| {})
        },
    },
];

//! Bugs that cost users requests: weights, capacity, readiness.

use std::time::Duration;

use haldane::{api::Phase, decide::decide, object::Kind, plan::Effect};
use serde_json::{Value, json};

use super::{
    Bug,
    tools::{
        comes_to, no_kind, patch, patches, phase, primary_seems_ready, route, status, weights,
        with_status,
    },
};

pub const BUGS: &[Bug] = &[
    Bug {
        name: "weights sum to 110 (F11)",
        flow: ("canary", 1),
        noticed_by: &["T1"],
        plant: |s| {
            let mut plan = decide(s);
            weights(&mut plan, |w| if w > 0 { w + 10 } else { w });
            plan
        },
    },
    Bug {
        name: "weight jumps to the last step (F: stepWeights edited within a run)",
        flow: ("canary", 1),
        noticed_by: &["T5"],
        plant: |s| {
            let mut plan = decide(s);
            if let Some(status) = &mut plan.status
                && status.canary_weight == 25
            {
                status.canary_weight = 100;
            }
            plan
        },
    },
    Bug {
        name: "the drain is forgotten (F#256)",
        flow: ("canary", 1),
        noticed_by: &["T4"],
        plant: |s| {
            let mut s = s.clone();
            let mut settings = (*s.settings).clone();
            settings.drain = Duration::ZERO;
            s.settings = settings.into();
            decide(&s)
        },
    },
    Bug {
        name: "the route is never written",
        flow: ("canary", 1),
        noticed_by: &["T5", "R1", "L1"],
        plant: |s| no_kind(decide(s), Kind::VirtualService),
    },
    Bug {
        name: "the route goes before the status (F1)",
        flow: ("canary", 1),
        noticed_by: &["T5"],
        plant: |s| {
            let mut plan = decide(s);
            if plan
                .status
                .as_ref()
                .is_some_and(|st| st.canary_weight == 25)
            {
                plan.status = None;
            }
            plan
        },
    },
    Bug {
        name: "a test of a few reaches everybody",
        flow: ("ab", 1),
        noticed_by: &["T5"],
        plant: |s| {
            let mut plan = decide(s);
            patches(&mut plan, Kind::VirtualService, |_, patch| {
                if let Some(rule) = patch["spec"]["http"].get_mut(0)
                    && let Some(rule) = rule.as_object_mut()
                {
                    rule.remove("match");
                }
            });
            plan
        },
    },
    Bug {
        name: "a canary without pods counts as ready (F#874, F5)",
        flow: ("crash-loop", 1),
        noticed_by: &["T2"],
        plant: |s| {
            let mut plan = decide(s);
            if phase(s) == Phase::Progressing && status(s).canary_weight == 0 {
                plan = with_status(s, plan, |status| {
                    (status.canary_weight, status.step) = (25, Some(1));
                });
                plan.effects = route(s, 25).into_iter().collect();
            }
            plan
        },
    },
    Bug {
        name: "traffic returns to a primary that is not ready (F#1202, A#2235)",
        flow: ("failed-promotion", 1),
        noticed_by: &["T2", "T3"],
        plant: |s| {
            if !matches!(phase(s), Phase::Promoting | Phase::Finalising) {
                return decide(s);
            }
            let plan = decide(&primary_seems_ready(s));
            let waits = phase(s) == Phase::Promoting && plan.effects.is_empty();
            if waits && status(s).canary_weight > 0 {
                with_status(s, plan, |status| {
                    (status.phase, status.canary_weight) = (Phase::Finalising, 0);
                })
            } else {
                plan
            }
        },
    },
    Bug {
        name: "a failed promotion rolls back to the broken primary (F#1898)",
        flow: ("failed-promotion", 1),
        noticed_by: &["T2", "T3"],
        plant: |s| {
            let mut plan = decide(s);
            if phase(s) == Phase::Promoting && comes_to(s, &plan) == Phase::Failed {
                plan = with_status(s, plan, |status| status.canary_weight = 0);
                plan.effects = route(s, 0).into_iter().collect();
            }
            plan
        },
    },
    Bug {
        name: "the canary is scaled to zero while it is analysed (F3)",
        flow: ("canary", 1),
        noticed_by: &["T4", "T2", "T3"],
        plant: |s| {
            let mut plan = decide(s);
            if status(s).canary_weight == 25 {
                let zero = json!({"spec": {"replicas": 0}});
                plan.effects
                    .extend(patch(s, Kind::Deployment, "shop", zero));
            }
            plan
        },
    },
    Bug {
        name: "the target is scaled to zero before the apex leads to the primary (F#1444, F#1526)",
        flow: ("bootstrap-under-traffic", 1),
        noticed_by: &["T4", "T3"],
        plant: |s| {
            let mut plan = decide(s);
            if matches!(phase(s), Phase::New | Phase::Initializing) {
                let zero = json!({"spec": {"replicas": 0}});
                plan.effects
                    .extend(patch(s, Kind::Deployment, "shop", zero));
            }
            plan
        },
    },
    Bug {
        name: "the apex leads to a primary that has no pods yet (F#773)",
        flow: ("bootstrap-under-traffic", 1),
        noticed_by: &["T2", "T3"],
        plant: |s| {
            let mut plan = decide(s);
            if matches!(phase(s), Phase::New | Phase::Initializing) {
                let to = json!({"spec": {"selector": {"app": "shop-primary"}}});
                plan.effects.extend(patch(s, Kind::Service, "shop", to));
            }
            plan
        },
    },
    Bug {
        name: "the stable pods are scaled to zero (A#1292, A#1415)",
        flow: ("canary", 1),
        noticed_by: &["T6", "T2", "T3"],
        plant: |s| {
            let mut plan = decide(s);
            patches(&mut plan, Kind::Deployment, |_, patch| {
                if patch["spec"]["template"].is_object() {
                    patch["spec"]["replicas"] = json!(0);
                }
            });
            plan
        },
    },
    Bug {
        name: "the primary gets the target's size back with each promotion (F#360, F#1110)",
        flow: ("autoscaled", 1),
        noticed_by: &["T6"],
        plant: |s| {
            let mut plan = decide(s);
            patches(&mut plan, Kind::Deployment, |key, patch| {
                if key.name == "shop-primary" {
                    patch["spec"]["replicas"] = json!(2);
                }
            });
            plan
        },
    },
    Bug {
        name: "the canary is too small for its traffic (F#574, A#4612)",
        flow: ("canary", 1),
        noticed_by: &["T6"],
        plant: |s| {
            let mut plan = decide(s);
            patches(&mut plan, Kind::Deployment, |key, patch| {
                if key.name == "shop" && patch["spec"]["replicas"].as_i64() > Some(1) {
                    patch["spec"]["replicas"] = json!(1);
                }
            });
            plan
        },
    },
    Bug {
        name: "the workload stays at zero when its Canary goes (F#640, F#686)",
        flow: ("delete-at-rest", 1),
        noticed_by: &["T3", "L5"],
        plant: |s| {
            let mut plan = decide(s);
            if s.canary.metadata.deletion_timestamp.is_some() {
                plan.effects = patch_finalizers(s).into_iter().collect();
            }
            plan
        },
    },
];

/// Lets the Canary go.
fn patch_finalizers(s: &haldane::observe::Snapshot) -> Option<Effect> {
    let finalizers: Value = json!({"metadata": {"finalizers": []}});
    Some(Effect::Patch {
        key: haldane::object::Key::new(Kind::Canary, s.namespace(), s.name()),
        patch: finalizers,
        precondition: haldane::plan::Precondition {
            uid: s.canary.metadata.uid.clone()?,
            resource_version: None,
        },
        reason: "bug",
    })
}

//! Bugs of an operator, planted around the decision: the invariants must notice each.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use haldane::{
    api::Phase,
    controller::Decider,
    decide::decide,
    object::Kind,
    observe::{CheckState, Snapshot},
    plan::{Answer, Effect, Outcome, Plan},
};
use serde_json::{Value, json};

use crate::trial::{Flow, try_out};

type Bug = fn(&Snapshot) -> Plan;

fn patches(plan: &mut Plan, kind: Kind, change: impl Fn(&mut Value)) {
    for effect in &mut plan.effects {
        if let Effect::Patch { key, patch, .. } = effect
            && key.kind == kind
        {
            change(patch);
        }
    }
}

fn weights(plan: &mut Plan, change: impl Fn(i64) -> i64) {
    patches(plan, Kind::VirtualService, |patch| {
        for rule in patch["spec"]["http"].as_array_mut().into_iter().flatten() {
            for to in rule["route"].as_array_mut().into_iter().flatten() {
                if to["destination"]["host"] == "shop-canary" {
                    to["weight"] = json!(change(to["weight"].as_i64().unwrap_or_default()));
                }
            }
        }
    });
}

/// Every metric is answered by this.
fn answered(s: &Snapshot, outcome: &Outcome) -> Plan {
    let mut s = s.clone();
    for state in s.checks.values_mut() {
        if let CheckState::Done(answer) = state {
            let mut stages = answer.stages.clone();
            for found in stages.iter_mut().flatten() {
                *found = outcome.clone();
            }
            *state = CheckState::Done(Arc::new(Answer {
                id: answer.id.clone(),
                stages,
            }));
        }
    }
    decide(&s)
}

fn phase(s: &Snapshot) -> Phase {
    s.canary
        .status
        .as_ref()
        .map_or(Phase::New, |status| status.phase)
}

/// The phase in which the effects of a plan are carried out.
fn comes_to(s: &Snapshot, plan: &Plan) -> Phase {
    plan.status
        .as_ref()
        .map_or_else(|| phase(s), |next| next.phase)
}

fn no_kind(mut plan: Plan, kind: Kind) -> Plan {
    plan.effects
        .retain(|effect| !matches!(effect, Effect::Patch { key, .. } if key.kind == kind));
    plan
}

/// The name of each bug, the flow in which it shows, and the bug.
const BUGS: &[(&str, &str, Bug)] = &[
    ("weights sum to 110 (F11)", "canary", |s| {
        let mut plan = decide(s);
        weights(&mut plan, |w| if w > 0 { w + 10 } else { w });
        plan
    }),
    ("weight jumps to the last step", "canary", |s| {
        let mut plan = decide(s);
        if let Some(status) = &mut plan.status
            && status.canary_weight == 25
        {
            status.canary_weight = 100;
        }
        plan
    }),
    ("the drain is forgotten (#256)", "canary", |s| {
        let mut s = s.clone();
        s.quiet_since = s
            .quiet_since
            .map(|_| "2000-01-01T00:00:00Z".parse().unwrap());
        decide(&s)
    }),
    ("status is not persisted (F1)", "canary", |s| {
        let mut plan = decide(s);
        if plan
            .status
            .as_ref()
            .is_some_and(|st| st.canary_weight == 25)
        {
            plan.status = None;
        }
        plan
    }),
    ("promotes at once (F2)", "rollback", |s| {
        let mut plan = decide(s);
        if let Some(status) = &mut plan.status
            && status.phase == Phase::Progressing
            && status.canary_weight > 0
        {
            status.phase = Phase::Promoting;
        }
        plan
    }),
    ("bad metrics pass (A#3850)", "rollback", |s| {
        answered(s, &Outcome::Value(99.5))
    }),
    ("no metrics pass (F#1581)", "no-metrics", |s| {
        answered(s, &Outcome::Value(99.5))
    }),
    ("failures are not counted (A#4128)", "rollback", |s| {
        let mut plan = decide(s);
        if let Some(status) = &mut plan.status {
            status.failed_checks = 0;
            if status.phase == Phase::Failed {
                plan.status = None;
                plan.effects.clear();
            }
        }
        plan
    }),
    ("rollback leaves the route (A#4841)", "rollback", |s| {
        let plan = decide(s);
        if comes_to(s, &plan) == Phase::Failed {
            no_kind(plan, Kind::VirtualService)
        } else {
            plan
        }
    }),
    ("rollback is not the first write (F7)", "rollback", |s| {
        let mut plan = decide(s);
        if plan
            .status
            .as_ref()
            .is_some_and(|st| st.phase == Phase::Failed)
        {
            let key = s
                .objects
                .keys()
                .find(|key| key.kind == Kind::Deployment)
                .unwrap();
            let object = &s.objects[key];
            plan.effects.insert(
                0,
                Effect::Patch {
                    key: key.clone(),
                    patch: json!({"metadata": {"annotations": {"seen": "yes"}}}),
                    precondition: haldane::plan::Precondition {
                        uid: object.uid.clone(),
                        resource_version: None,
                    },
                    reason: "bug",
                },
            );
        }
        plan
    }),
    ("a failed revision is retried", "rollback", |s| {
        let mut plan = decide(s);
        if phase(s) == Phase::Failed && plan.status.is_none() {
            let mut status = s.canary.status.clone().unwrap();
            (status.phase, status.run_time) = (Phase::Progressing, Some(s.now));
            plan.status = Some(status);
        }
        plan
    }),
    ("every look starts a release (F#1201)", "canary", |s| {
        let mut plan = decide(s);
        if let Some(status) = &mut plan.status
            && status.run_time.is_some()
        {
            status.run_time = Some(s.now);
        }
        plan
    }),
    ("a new revision is lost (F6)", "newer", |s| {
        let plan = decide(s);
        let again = plan
            .notices
            .iter()
            .any(|notice| notice.message.contains("Restarting"));
        if again { Plan::default() } else { plan }
    }),
    (
        "a fix after a failure is lost (platform#2387)",
        "fixed-after-rollback",
        |s| {
            if phase(s) == Phase::Failed {
                no_kind(
                    Plan {
                        status: None,
                        ..decide(s)
                    },
                    Kind::Canary,
                )
            } else {
                decide(s)
            }
        },
    ),
    ("stuck in Promoting (F#1588)", "return-in-steps", |s| {
        if phase(s) == Phase::Promoting {
            Plan::default()
        } else {
            decide(s)
        }
    }),
    ("stuck in Finalising", "canary", |s| {
        if phase(s) == Phase::Finalising {
            Plan::default()
        } else {
            decide(s)
        }
    }),
    ("the route is never written", "canary", |s| {
        no_kind(decide(s), Kind::VirtualService)
    }),
    ("the primary never gets the revision", "canary", |s| {
        let plan = decide(s);
        if comes_to(s, &plan) == Phase::Promoting {
            no_kind(plan, Kind::Deployment)
        } else {
            plan
        }
    }),
    (
        "annotations of others are removed (F#1857)",
        "canary",
        |s| {
            let mut plan = decide(s);
            patches(&mut plan, Kind::Deployment, |patch| {
                patch["metadata"]["annotations"]["team/owner"] = Value::Null;
            });
            plan
        },
    ),
    ("the primary is scaled to zero (A#1292)", "canary", |s| {
        let mut plan = decide(s);
        patches(&mut plan, Kind::Deployment, |patch| {
            if patch["spec"]["template"].is_object() {
                patch["spec"]["replicas"] = json!(0);
            }
        });
        plan
    }),
    (
        "the canary is scaled to zero while it is analysed (F3)",
        "canary",
        |s| {
            let mut plan = decide(s);
            let key = s
                .objects
                .keys()
                .find(|key| key.kind == Kind::Deployment && key.name == "shop");
            if s.canary
                .status
                .as_ref()
                .is_some_and(|st| st.canary_weight == 25)
                && let Some(key) = key
            {
                plan.effects.push(Effect::Patch {
                    key: key.clone(),
                    patch: json!({"spec": {"replicas": 0}}),
                    precondition: haldane::plan::Precondition {
                        uid: s.objects[key].uid.clone(),
                        resource_version: None,
                    },
                    reason: "bug",
                });
            }
            plan
        },
    ),
    ("an idle Canary is written each look", "canary", |s| {
        let mut plan = decide(s);
        if plan.status.is_none() && phase(s) == Phase::Succeeded {
            plan.status.clone_from(&s.canary.status);
            plan.status.as_mut().unwrap().last_transition_time = Some(s.now);
            plan.wake = s.now.checked_add(std::time::Duration::from_secs(5)).ok();
        }
        plan
    }),
];

#[test]
fn planted_bug_is_noticed() {
    let mut caught: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut missed = BTreeSet::new();
    for (name, flow, bug) in BUGS {
        let trial = try_out(&Flow::named(flow), &[], 1, &Decider::new(bug));
        match trial.violation {
            Some(violation) => {
                println!("{}: {name} ({})", violation.invariant, violation.what);
                caught.entry(violation.invariant).or_default().push(name);
            }
            None => {
                missed.insert(*name);
            }
        }
    }
    println!(
        "{} of {} bugs noticed",
        BUGS.len() - missed.len(),
        BUGS.len()
    );
    assert!(missed.is_empty(), "not noticed: {missed:#?}");
}

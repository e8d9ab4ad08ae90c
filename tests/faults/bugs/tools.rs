//! What planted bugs are made of: snapshots that are doctored, and plans that are.

use std::sync::Arc;

use haldane::{
    api::{Phase, status::CanaryStatus},
    decide::decide,
    object::{Key, Kind},
    observe::{CheckState, Snapshot},
    plan::{Answer, Effect, Outcome, Plan, Precondition},
};
use serde_json::{Value, json};

/// Changes the patches of a kind.
pub fn patches(plan: &mut Plan, kind: Kind, change: impl Fn(&Key, &mut Value)) {
    for effect in &mut plan.effects {
        if let Effect::Patch { key, patch, .. } = effect
            && key.kind == kind
        {
            change(key, patch);
        }
    }
}

/// Takes the patches of a kind out of a plan.
pub fn no_kind(mut plan: Plan, kind: Kind) -> Plan {
    plan.effects
        .retain(|effect| !matches!(effect, Effect::Patch { key, .. } if key.kind == kind));
    plan
}

/// Changes the canary's weight in all patches of the route.
pub fn weights(plan: &mut Plan, change: impl Fn(i64) -> i64) {
    patches(plan, Kind::VirtualService, |_, patch| {
        for to in destinations(patch) {
            if to["destination"]["host"] == "shop-canary" {
                to["weight"] = json!(change(to["weight"].as_i64().unwrap_or_default()));
            }
        }
    });
}

fn destinations(route: &mut Value) -> impl Iterator<Item = &mut Value> {
    let rules = route["spec"]["http"].as_array_mut().into_iter().flatten();
    rules.flat_map(|rule| rule["route"].as_array_mut().into_iter().flatten())
}

/// The patch of an object of this kind and name, if there is one.
pub fn patch(s: &Snapshot, kind: Kind, name: &str, patch: Value) -> Option<Effect> {
    let key = Key::new(kind, s.namespace(), name);
    let object = s.objects.get(&key)?;
    let precondition = Precondition {
        uid: object.uid.clone(),
        resource_version: None,
    };
    Some(Effect::Patch {
        key,
        patch,
        precondition,
        reason: "bug",
    })
}

/// Sends so many percent to the canary, whatever else.
pub fn route(s: &Snapshot, canary: i64) -> Option<Effect> {
    let key = Key::new(Kind::VirtualService, s.namespace(), "shop");
    let mut body = s.objects.get(&key)?.body.value();
    for to in destinations(&mut body) {
        let to_canary = to["destination"]["host"] == "shop-canary";
        to["weight"] = json!(if to_canary { canary } else { 100 - canary });
    }
    patch(
        s,
        Kind::VirtualService,
        "shop",
        json!({"spec": {"http": body["spec"]["http"]}}),
    )
}

/// All answers to checks, changed.
pub fn answers(s: &Snapshot, change: impl Fn(&Outcome) -> Outcome) -> Plan {
    let mut s = s.clone();
    for state in s.checks.values_mut() {
        if let CheckState::Done(answer) = state {
            let mut stages = answer.stages.clone();
            for found in stages.iter_mut().flatten() {
                *found = change(found);
            }
            let id = answer.id.clone();
            *state = CheckState::Done(Arc::new(Answer { id, stages }));
        }
    }
    decide(&s)
}

/// Hooks agree, whatever they say.
pub fn hooks_agree(s: &Snapshot) -> Plan {
    answers(s, |outcome| match outcome {
        Outcome::Refused(_) => Outcome::Agreed,
        Outcome::Agreed | Outcome::Value(_) | Outcome::NoData(_) | Outcome::Unavailable(_) => {
            outcome.clone()
        }
    })
}

/// A snapshot of a Canary that names no webhooks.
pub fn without_hooks(s: &Snapshot) -> Snapshot {
    let mut s = s.clone();
    let mut canary = (*s.canary).clone();
    canary.spec.analysis.webhooks = None;
    s.canary = Arc::new(canary);
    s
}

/// The status as it is, or an empty one.
pub fn status(s: &Snapshot) -> CanaryStatus {
    s.canary.status.clone().unwrap_or_default()
}

pub fn phase(s: &Snapshot) -> Phase {
    status(s).phase
}

/// The phase in which the effects of a plan are carried out.
pub fn comes_to(s: &Snapshot, plan: &Plan) -> Phase {
    plan.status
        .as_ref()
        .map_or_else(|| phase(s), |next| next.phase)
}

/// The plan, and this status, where the plan has one or not.
pub fn with_status(s: &Snapshot, mut plan: Plan, change: impl Fn(&mut CanaryStatus)) -> Plan {
    let mut next = plan.status.take().unwrap_or_else(|| status(s));
    change(&mut next);
    if next != status(s) {
        next.last_transition_time = Some(s.now);
        plan.status = Some(next);
    }
    plan
}

/// The decision about a snapshot in which the status is another one.
pub fn with_memory(s: &Snapshot, change: impl Fn(&mut CanaryStatus)) -> Plan {
    let mut s = s.clone();
    let mut canary = (*s.canary).clone();
    if let Some(status) = &mut canary.status {
        change(status);
    }
    s.canary = Arc::new(canary);
    decide(&s)
}

/// The revision of the target.
pub fn revision(s: &Snapshot) -> String {
    s.object(Kind::Deployment, "shop")
        .map(|target| haldane::workload::revision(target))
        .unwrap_or_default()
}

/// A snapshot in which the primary's service has the canary's pods.
pub fn primary_seems_ready(s: &Snapshot) -> Snapshot {
    let mut s = s.clone();
    let pods = s.slices.get("shop-canary").cloned().unwrap_or_default();
    s.slices.insert("shop-primary".to_owned(), pods);
    s
}

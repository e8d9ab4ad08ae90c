//! Specs edited to something that cannot be, while users are on the canary.

use std::sync::Arc;

use haldane::{
    api::Phase,
    decide::decide,
    object::{Json, Kind},
    observe::{CheckState, Snapshot},
    plan::{Answer, Effect, Outcome},
};
use serde_json::json;

use crate::{
    fixtures::{initialized, progressing},
    toy::Metrics,
};

/// A delegate VirtualService has no hosts: this describes no route.
const UNSAYABLE: &str = "{service: {delegation: true, hosts: [app.example.com]}}";

#[test]
fn route_that_cannot_be_said_holds_the_weight_and_is_reported() {
    let mut toy = progressing("", 20);
    toy.edit_spec(UNSAYABLE);
    toy.run(300);
    assert_eq!(
        (toy.phase(), toy.status().canary_weight, toy.weight()),
        (Phase::Progressing, 20, 20.0),
        "{}",
        toy.story()
    );
    let conditions = json!(toy.status().conditions).to_string();
    assert!(conditions.contains("RouteInvalid"), "{conditions}");
    toy.edit_spec("{service: {delegation: null, hosts: null}}");
    toy.run(900);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
}

#[test]
fn route_that_cannot_be_said_does_not_keep_a_failing_canary_in_traffic() {
    let mut toy = progressing("", 20);
    toy.edit_spec(UNSAYABLE);
    toy.metrics = Metrics::Fail;
    toy.run(300);
    assert_eq!(
        (toy.phase(), toy.weight(), toy.replicas("podinfo")),
        (Phase::Failed, 0.0, 0),
        "{}",
        toy.story()
    );
    let hosts = &toy.get(Kind::VirtualService, "podinfo")["spec"]["hosts"];
    assert_eq!(*hosts, json!(["podinfo"]), "all else stays");
    toy.assert_at_rest();
}

#[test]
fn route_that_cannot_be_said_is_healed_to_the_weight_of_the_status() {
    let mut toy = progressing("", 20);
    toy.edit_spec(UNSAYABLE);
    toy.request("abort");
    toy.run(60);
    assert_eq!((toy.phase(), toy.weight()), (Phase::Failed, 0.0));
    let route = json!({"spec": {"http": [{"route": [
        {"destination": {"host": "podinfo-primary"}, "weight": 10},
        {"destination": {"host": "podinfo-canary"}, "weight": 90},
    ]}]}});
    toy.edit(Kind::VirtualService, "podinfo", &route);
    toy.run(60);
    assert!(toy.weight() < 0.5, "{}", toy.story());
}

/// Not a regular expression: the server admits it, the operator cannot work by it.
const INVALID: &str = "{service: {match: [{uri: {regex: '('}}]}}";

#[test]
fn invalid_spec_holds_the_weight_until_corrected() {
    let mut toy = progressing("", 20);
    toy.edit_spec(INVALID);
    toy.run(60);
    assert_eq!((toy.phase(), toy.weight()), (Phase::Progressing, 20.0));
    let conditions = json!(toy.status().conditions).to_string();
    assert!(conditions.contains("InvalidSpec"), "{conditions}");
    toy.edit_spec("{service: {match: null}}");
    toy.run(900);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
}

#[test]
fn invalid_spec_does_not_keep_users_on_an_unproven_canary() {
    let mut aborted = progressing("", 20);
    aborted.edit_spec(INVALID);
    aborted.request("abort");
    aborted.look();
    assert_eq!((aborted.phase(), aborted.weight()), (Phase::Failed, 0.0));
    let mut forgotten = progressing("", 20);
    forgotten.edit_spec(INVALID);
    forgotten.run(300);
    assert_eq!(
        (forgotten.phase(), forgotten.weight()),
        (Phase::Failed, 0.0),
        "{}",
        forgotten.story()
    );
    forgotten.assert_at_rest();
    let mut paused = progressing("", 20);
    paused.request("pause");
    paused.run(20);
    paused.edit_spec(INVALID);
    paused.run(900);
    assert_eq!(
        (paused.phase(), paused.weight()),
        (Phase::Progressing, 20.0)
    );
}

#[test]
fn test_edited_to_weights_gives_users_a_canary_only_with_ready_pods() {
    let mut toy = initialized(
        "{analysis: {stepWeight: null, maxWeight: null, iterations: 50, \
         match: [{headers: {x-user: {exact: insider}}}]}}",
    );
    toy.push("podinfo:2");
    toy.run_until("the test runs", |toy| toy.status().iterations == 2);
    let mut snapshot = toy.snapshot();
    let mut canary = (*snapshot.canary).clone();
    canary.spec.analysis.matches = None;
    canary.spec.analysis.iterations = None;
    canary.spec.analysis.step_weight = Some(20);
    let status = canary.status.as_mut().unwrap();
    (status.canary_weight, status.step) = (20, Some(1));
    snapshot.canary = Arc::new(canary);
    let gives = |snapshot: &Snapshot| {
        let plan = decide(snapshot);
        plan.effects.iter().any(|effect| match effect {
            Effect::Patch { key, patch, .. } => {
                key.kind == Kind::VirtualService && patch.to_string().contains("\"weight\":20")
            }
            Effect::Create { .. }
            | Effect::CopyConfig(_)
            | Effect::Measure(_)
            | Effect::Look(_) => false,
        })
    };
    assert!(gives(&snapshot), "with pods the step is carried out");
    snapshot.slices.remove("podinfo-canary");
    assert!(!gives(&snapshot), "without pods it waits");
}

#[test]
fn cookies_are_not_made_where_nobody_gets_them() {
    for (change, made) in [
        ("{analysis: {sessionAffinity: {cookieName: v}}}", true),
        (
            "{analysis: {sessionAffinity: {cookieName: v}}, \
             service: {appProtocol: tcp}}",
            false,
        ),
        (
            "{analysis: {sessionAffinity: {cookieName: v}, \
             match: [{headers: {x-user: {exact: insider}}}]}}",
            false,
        ),
    ] {
        let toy = progressing(change, 20);
        let status = toy.status();
        assert_eq!(status.session_affinity_cookie.is_some(), made, "{change}");
    }
}

#[test]
fn step_that_the_route_never_got_is_not_followed_by_the_next() {
    let toy = progressing("", 20);
    let mut snapshot = toy.snapshot();
    let due = toy.status().next_check_time.unwrap();
    snapshot.now = due;
    let check = decide(&snapshot)
        .effects
        .into_iter()
        .find_map(|effect| match effect {
            Effect::Measure(check) => Some(check),
            Effect::Create { .. }
            | Effect::Patch { .. }
            | Effect::CopyConfig(_)
            | Effect::Look(_) => None,
        });
    let check = check.unwrap();
    let stages = check
        .stages
        .iter()
        .map(|stage| vec![Outcome::Value(100.0); stage.len()]);
    let answer = Answer {
        id: check.id.clone(),
        stages: stages.collect(),
    };
    let answer = CheckState::Done(Arc::new(answer));
    snapshot.checks.insert(check.id, answer);
    let weight = |snapshot: &Snapshot| decide(snapshot).status.unwrap().canary_weight;
    assert_eq!(weight(&snapshot), 40, "the route is as the status says");
    for (key, object) in &mut snapshot.objects {
        if key.kind == Kind::VirtualService {
            let mut route = (**object).clone();
            let text = route.body.value().to_string();
            let text = text.replace("\"weight\":20", "\"weight\":0");
            let text = text.replace("\"weight\":80", "\"weight\":100");
            route.body = Json::of(&serde_json::from_str(&text).unwrap());
            *object = Arc::new(route);
        }
    }
    assert_eq!(weight(&snapshot), 20, "its write failed");
}

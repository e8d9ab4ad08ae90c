//! L2: a crash before any write ends where no crash would have ended.

use haldane::{api::Phase, object::Kind};
use serde_json::{Value, json};

use crate::{
    fixtures::{fresh, initialized, progressing},
    toy::{Metrics, Toy},
};

/// Where a cluster came to, without times and names that a later start changes.
fn outcome(toy: &Toy) -> Value {
    let status = toy.status();
    let route = toy.get(Kind::VirtualService, "podinfo")["spec"].to_string();
    let cookie = |text: &Option<String>| text.is_some();
    json!({
        "phase": status.phase.as_str(),
        "weight": status.canary_weight,
        "applied": status.last_applied_spec,
        "promoted": status.last_promoted_spec,
        "configs": status.tracked_configs,
        "scaledDown": status.scaled_down,
        "history": status.history.iter().flatten().map(|r| json!([r.revision, r.outcome])).collect::<Vec<_>>(),
        "cookies": [cookie(&status.session_affinity_cookie), cookie(&status.previous_session_affinity_cookie)],
        "primary": toy.image("podinfo-primary"),
        "copy": toy.get(Kind::ConfigMap, "settings-primary")["data"],
        "replicas": [toy.replicas("podinfo"), toy.replicas("podinfo-primary")],
        "apex": toy.get(Kind::Service, "podinfo")["spec"]["selector"],
        "route": if status.previous_session_affinity_cookie.is_some() { String::new() } else { route },
    })
}

/// Runs a flow from a start, once for each write that could be the last one of a process.
fn crash_everywhere(start: &Toy, phase: Phase, flow: impl Fn(&mut Toy)) {
    let finish = |mut toy: Toy| {
        flow(&mut toy);
        toy.run(3600);
        toy.assert_at_rest();
        toy
    };
    let calm = finish(start.clone());
    assert_eq!(calm.phase(), phase, "{}", calm.story());
    let wanted = outcome(&calm);
    assert!(calm.writes > start.writes + 3);
    for write in start.writes..calm.writes {
        let mut toy = start.clone();
        toy.dies_before = Some(write);
        let toy = finish(toy);
        assert_eq!(
            outcome(&toy),
            wanted,
            "crash before write {write}\n{}",
            toy.story()
        );
    }
}

#[test]
fn crash_in_bootstrap_changes_nothing() {
    crash_everywhere(&fresh(""), Phase::Initialized, |toy| toy.run(10));
}

#[test]
fn crash_in_a_release_that_passes_changes_nothing() {
    crash_everywhere(&initialized(""), Phase::Succeeded, |toy| {
        toy.push("podinfo:2");
    });
}

#[test]
fn crash_in_a_release_that_fails_changes_nothing() {
    let mut start = progressing("", 40);
    start.metrics = Metrics::Fail;
    crash_everywhere(&start, Phase::Failed, |_| {});
}

#[test]
fn crash_while_traffic_returns_in_steps_changes_nothing() {
    let start = initialized("{analysis: {stepWeightPromotion: 25}}");
    crash_everywhere(&start, Phase::Succeeded, |toy| toy.push("podinfo:2"));
}

#[test]
fn crash_in_a_release_with_a_new_config_changes_nothing() {
    let start = initialized("");
    crash_everywhere(&start, Phase::Succeeded, |toy| {
        toy.put(crate::fixtures::config("red"));
        toy.push("podinfo:2");
    });
}

#[test]
fn crash_with_a_failed_promotion_changes_nothing() {
    let mut start = initialized("");
    start
        .workloads
        .faults
        .broken
        .insert(("podinfo-primary".into(), "podinfo:2".into()));
    crash_everywhere(&start, Phase::Failed, |toy| toy.push("podinfo:2"));
}

#[test]
fn crash_of_other_strategies_changes_nothing() {
    for spec in [
        "{analysis: {stepWeight: null, maxWeight: null, iterations: 3}}",
        "{analysis: {stepWeight: null, maxWeight: null, iterations: 3, mirror: true}}",
        "{analysis: {stepWeight: null, maxWeight: null, iterations: 3,
           match: [{headers: {x-canary: {exact: insider}}}]}}",
        "{analysis: {sessionAffinity: {cookieName: v}}}",
        "{analysis: {mirror: true}}",
        "{provider: kubernetes, analysis: {stepWeight: null, maxWeight: null, iterations: 3}}",
        "{skipAnalysis: true}",
    ] {
        crash_everywhere(&initialized(spec), Phase::Succeeded, |toy| {
            toy.push("podinfo:2");
        });
    }
}

#[test]
fn crash_in_a_revert_changes_nothing() {
    crash_everywhere(&progressing("", 40), Phase::Succeeded, |toy| {
        toy.push("podinfo:1");
    });
}

#[test]
fn crash_after_a_second_revision_changes_nothing() {
    crash_everywhere(&progressing("", 40), Phase::Succeeded, |toy| {
        toy.push("podinfo:3");
    });
}

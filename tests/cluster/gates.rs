//! How people hold, pass and stop releases: by webhooks, by annotation, by the spec.

use haldane::{
    api::{Canary, Phase, REQUEST},
    object::Kind,
};
use serde_json::json;

use crate::kit::{Hooks, Operator, Scene, canary};

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn rollout_gate_holds_a_revision_until_it_opens() {
    let hooks = Hooks::start().await;
    hooks.answer("/gate", 403, "not before lunch");
    let policy = canary("podinfo").hook("confirm-rollout", "start", &hooks.url("/gate"));
    let scene = Scene::with("rollout-gate", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.release("podinfo:2").await;
    scene.reaches(Phase::Waiting).await;
    scene.told("advancement waiting for approval start").await;
    let asked = &hooks.received("/gate")[0];
    assert_eq!(asked["phase"], "Initialized");
    assert_eq!(asked["checksum"].as_str().map(str::len), Some(16));

    hooks.answer("/gate", 200, "");
    scene.reaches(Phase::Progressing).await;
    scene.told("Confirm-rollout check start passed").await;
    scene.reaches(Phase::Succeeded).await;
    assert_eq!(scene.times_told("waiting for approval start"), 1);
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn traffic_gate_holds_the_weight_and_promotion_gate_the_promotion() {
    let hooks = Hooks::start().await;
    hooks.answer("/traffic", 403, "");
    hooks.answer("/promotion", 403, "");
    let policy = canary("podinfo")
        .hook(
            "confirm-traffic-increase",
            "traffic",
            &hooks.url("/traffic"),
        )
        .hook("confirm-promotion", "promotion", &hooks.url("/promotion"));
    let scene = Scene::with("gates", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.release("podinfo:2").await;
    scene
        .told("advancement waiting for traffic increase approval traffic")
        .await;
    scene.routes(&[0]).await;
    hooks.answer("/traffic", 200, "");
    scene.passes("weight 50", |m| m.weight == 50).await;

    scene.reaches(Phase::WaitingPromotion).await;
    scene
        .told("advancement waiting for promotion approval promotion")
        .await;
    scene.routes(&[0, 50]).await;
    hooks.answer("/promotion", 200, "");
    scene.reaches(Phase::Succeeded).await;
    scene.told("Confirm-promotion check promotion passed").await;
    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn rollback_hook_that_agrees_rolls_the_release_back() {
    let hooks = Hooks::start().await;
    hooks.answer("/rollback", 403, "");
    let policy =
        canary("podinfo")
            .weights(&[10, 20, 30])
            .hook("rollback", "stop", &hooks.url("/rollback"));
    let scene = Scene::with("rollback-hook", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.release("podinfo:2").await;
    scene.passes("weight 10", |m| m.weight == 10).await;
    hooks.answer("/rollback", 200, "");
    scene.reaches(Phase::Failed).await;

    scene.told("Rollback check stop passed").await;
    scene.told("manual webhook invoked").await;
    scene.runs("podinfo", "podinfo:2", 0).await;
    scene.routes(&[0, 10, 0]).await;
    scene.served_its_users();
}

fn is_settled(canary: &Canary) -> bool {
    let annotations = canary.metadata.annotations.as_ref();
    annotations.is_none_or(|all| !all.contains_key(REQUEST))
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn release_is_paused_resumed_and_promoted_on_request() {
    let scene = Scene::with("requests", canary("podinfo").weights(&[10, 20, 30, 40, 50])).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.release("podinfo:2").await;
    scene.passes("weight 10", |m| m.weight == 10).await;
    scene.request("pause").await;
    scene.told("Paused podinfo").await;
    scene
        .becomes("podinfo", "is paused, and the request is gone", |c| {
            is_settled(c) && c.status.as_ref().is_some_and(|s| s.paused == Some(true))
        })
        .await;

    scene.request("resume").await;
    scene.told("Resumed podinfo").await;
    scene.passes("weight 20", |m| m.weight == 20).await;

    scene.request("promote").await;
    scene.reaches(Phase::Succeeded).await;
    scene
        .becomes("podinfo", "has no request left", is_settled)
        .await;
    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.routes(&[0, 10, 20, 0]).await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn release_is_aborted_and_retried_on_request() {
    let scene = Scene::with("abort", canary("podinfo")).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.release("podinfo:2").await;
    scene.passes("weight 50", |m| m.weight == 50).await;
    scene.request("abort").await;
    scene.reaches(Phase::Failed).await;
    scene.runs("podinfo", "podinfo:2", 0).await;

    scene.request("retry").await;
    scene.reaches(Phase::Progressing).await;
    scene.reaches(Phase::Succeeded).await;
    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.routes(&[0, 50, 0, 50, 0]).await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn release_without_analysis_is_promoted_when_ready() {
    let policy = canary("podinfo").spec(json!({ "skipAnalysis": true }));
    let scene = Scene::with("skip", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    scene.release("podinfo:2").await;
    scene.reaches(Phase::Succeeded).await;

    scene.told("Canary analysis was skipped for podinfo").await;
    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.runs("podinfo", "podinfo:2", 0).await;
    scene.routes(&[0]).await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn suspended_canary_releases_nothing_until_it_goes_on() {
    let scene = Scene::with("suspend", canary("podinfo")).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    let suspend = |on: bool| json!({ "spec": { "suspend": on } });
    scene.change(Kind::Canary, "podinfo", suspend(true)).await;
    scene
        .told("skipping canary run as object is suspended")
        .await;
    scene.release("podinfo:2").await;
    scene
        .sees(
            Kind::Deployment,
            "podinfo",
            "was seen by its controller",
            |d| d["status"]["observedGeneration"] == d["metadata"]["generation"],
        )
        .await;
    assert_eq!(scene.times_told("New revision detected!"), 0);

    scene.change(Kind::Canary, "podinfo", suspend(false)).await;
    scene.reaches(Phase::Progressing).await;
    scene.reaches(Phase::Succeeded).await;
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn second_canary_of_a_workload_is_refused() {
    let scene = Scene::with("rivals", canary("podinfo")).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    let mut rival = canary("podinfo").build();
    rival["metadata"]["name"] = json!("rival");
    rival["spec"]["service"]["name"] = json!("other");
    scene.create(rival).await;
    let rival = scene
        .becomes("rival", "is refused", |c| {
            let conditions = c.status.iter().flat_map(|s| s.conditions.iter().flatten());
            conditions.into_iter().any(|c| {
                c.kind == "Ready" && c.status == "False" && c.reason.as_deref() == Some("Conflict")
            })
        })
        .await;
    assert_eq!(rival.status.unwrap().phase, Phase::New);

    scene.release("podinfo:2").await;
    scene.reaches(Phase::Succeeded).await;
    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.gone(Kind::Service, "other").await;
}

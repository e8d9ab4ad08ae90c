//! Others change, delete or forget what a release stands on.

use haldane::{api::Phase, object::Kind};
use serde_json::{Value, json};

use crate::kit::{Hooks, Operator, Scene, canary, deployment};

/// A route that gives the canary a share.
fn shares(canary: i64) -> impl Fn(&Value) -> bool {
    move |route| {
        let Some(destinations) = route["spec"]["http"][0]["route"].as_array() else {
            return false;
        };
        let weight = |host: &str| {
            let found = destinations
                .iter()
                .find(|d| d["destination"]["host"] == host);
            found.and_then(|d| d["weight"].as_i64())
        };
        weight("podinfo-primary") == Some(100 - canary) && weight("podinfo-canary") == Some(canary)
    }
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn route_and_service_that_others_change_are_put_right() {
    let scene = Scene::with("drift", canary("podinfo").weights(&[20, 60])).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    let all_to_canary = json!({ "spec": { "http": [{ "route": [
        { "destination": { "host": "podinfo-primary" }, "weight": 0 },
        { "destination": { "host": "podinfo-canary" }, "weight": 100 },
    ]}]}});
    scene
        .change(Kind::VirtualService, "podinfo", all_to_canary.clone())
        .await;
    scene
        .sees(Kind::VirtualService, "podinfo", "is put right", shares(0))
        .await;
    let selector = json!({ "spec": { "selector": { "app": "podinfo" } } });
    scene.change(Kind::Service, "podinfo", selector).await;
    scene
        .sees(Kind::Service, "podinfo", "is put right", |service| {
            service["spec"]["selector"]["app"] == "podinfo-primary"
        })
        .await;

    scene.release("podinfo:2").await;
    scene.passes("weight 20", |m| m.weight == 20).await;
    scene
        .sees(Kind::VirtualService, "podinfo", "gives a fifth", shares(20))
        .await;
    scene
        .change(Kind::VirtualService, "podinfo", all_to_canary)
        .await;
    scene
        .sees(
            Kind::VirtualService,
            "podinfo",
            "keeps the step that was earned",
            shares(20),
        )
        .await;
    scene.delete(Kind::VirtualService, "podinfo").await;
    scene
        .sees(
            Kind::VirtualService,
            "podinfo",
            "is made again as it was",
            shares(20),
        )
        .await;
    scene.reaches(Phase::Succeeded).await;
    scene.runs("podinfo-primary", "podinfo:2", 1).await;
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn release_whose_workload_is_deleted_is_rolled_back() {
    let scene = Scene::with("target-lost", canary("podinfo")).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.release("podinfo:2").await;
    scene.passes("weight 50", |m| m.weight == 50).await;

    scene.delete(Kind::Deployment, "podinfo").await;
    scene.reaches(Phase::Failed).await;
    scene.told("Deployment podinfo").await;
    scene.routes(&[0, 50, 0]).await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;

    scene.create(deployment("podinfo", "podinfo:3")).await;
    scene.reaches(Phase::Progressing).await;
    scene.reaches(Phase::Succeeded).await;
    scene.runs("podinfo-primary", "podinfo:3", 1).await;
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn primary_that_is_deleted_comes_back_with_the_promoted_revision() {
    let scene = Scene::with("primary-lost", canary("podinfo")).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.runs("podinfo", "podinfo:1", 0).await;
    let before = scene.get(Kind::Deployment, "podinfo-primary").await;

    scene.delete(Kind::Deployment, "podinfo-primary").await;
    scene
        .sees(
            Kind::Deployment,
            "podinfo-primary",
            "is back and ready",
            |d| {
                d["metadata"]["uid"] != before["metadata"]["uid"]
                    && d["status"]["readyReplicas"] == 1
            },
        )
        .await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;
    assert_eq!(scene.times_told("New revision detected!"), 0);
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn canary_without_its_workload_waits_for_it_and_disturbs_no_other() {
    let scene = Scene::with("missing", canary("podinfo")).await;
    scene.create(canary("later").build()).await;
    let _operator = Operator::start(&scene);
    scene
        .becomes("later", "says what is missing", |c| {
            let conditions = c.status.iter().flat_map(|s| s.conditions.iter().flatten());
            conditions
                .into_iter()
                .any(|c| c.reason.as_deref() == Some("TargetNotFound"))
        })
        .await;
    scene.reaches(Phase::Initialized).await;

    scene.create(deployment("later", "later:1")).await;
    scene
        .becomes("later", "is initialized", |c| {
            c.status
                .as_ref()
                .is_some_and(|s| s.phase == Phase::Initialized)
        })
        .await;
    scene.runs("later-primary", "later:1", 1).await;
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn canary_that_is_deleted_and_created_again_starts_anew() {
    let scene = Scene::with("again", canary("podinfo")).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.release("podinfo:2").await;
    scene.passes("weight 50", |m| m.weight == 50).await;

    scene.delete(Kind::Canary, "podinfo").await;
    scene.gone(Kind::Canary, "podinfo").await;
    scene.create(canary("podinfo").build()).await;
    scene.passes("starts anew", |m| m.weight == 0).await;
    scene.reaches(Phase::Initialized).await;
    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.runs("podinfo", "podinfo:2", 0).await;
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn webhook_that_hangs_delays_no_abort() {
    let hooks = Hooks::start().await;
    hooks.hang("/slow");
    let mut policy = canary("podinfo")
        .threshold(100)
        .hook("rollout", "slow", &hooks.url("/slow"))
        .build();
    policy["spec"]["analysis"]["webhooks"][0]["timeout"] = json!("1h");
    let scene = Scene::new("hang").await;
    scene.create(deployment("podinfo", "podinfo:1")).await;
    scene.create(policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.release("podinfo:2").await;
    scene.passes("weight 50", |m| m.weight == 50).await;
    hooks.receives("/slow", "the call", |_| true).await;
    scene.request("abort").await;
    scene.reaches(Phase::Failed).await;
    scene.routes(&[0, 50, 0]).await;
}

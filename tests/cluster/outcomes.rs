//! How a release ends: promoted, or rolled back for each reason there is.

use haldane::{api::Phase, object::Kind};
use serde_json::json;

use crate::kit::{Flow, Hooks, Operator, Scene, canary};

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn canary_that_is_created_gets_a_primary_with_all_traffic() {
    let scene = Scene::with("init", canary("podinfo")).await;
    let _operator = Operator::start(&scene);

    let canary = scene.reaches(Phase::Initialized).await;

    scene
        .told(&format!(
            "Initialization done! podinfo.{}",
            scene.namespace()
        ))
        .await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;
    scene.runs("podinfo", "podinfo:1", 0).await;
    let apex = scene.get(Kind::Service, "podinfo").await;
    assert_eq!(
        apex["spec"]["selector"],
        json!({ "app": "podinfo-primary" })
    );
    assert_eq!(apex["spec"]["ports"][0]["port"], 80);
    let route = scene.get(Kind::VirtualService, "podinfo").await;
    let weights: Vec<_> = route["spec"]["http"][0]["route"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| (d["destination"]["host"].clone(), d["weight"].clone()))
        .collect();
    assert_eq!(
        weights,
        [
            ("podinfo-primary".into(), 100.into()),
            ("podinfo-canary".into(), 0.into())
        ]
    );
    let promoted = canary.status.unwrap().conditions.unwrap();
    let promoted = promoted.iter().find(|c| c.kind == "Promoted").unwrap();
    assert_eq!(promoted.status, "True");
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn release_whose_checks_pass_is_promoted_step_by_step() {
    let policy = canary("podinfo").weights(&[20, 60]).success_rate(99);
    let scene = Scene::with("promoted", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    scene.release("podinfo:2").await;
    scene.reaches(Phase::Progressing).await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;
    scene.reaches(Phase::Promoting).await;
    scene.reaches(Phase::Succeeded).await;

    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.runs("podinfo", "podinfo:2", 0).await;
    scene.routes(&[0, 20, 60, 0]).await;
    let name = format!("podinfo.{}", scene.namespace());
    for text in [
        format!("New revision detected! Scaling up {name}"),
        format!("Starting canary analysis for {name}"),
        format!("Advance {name} canary weight 20"),
        format!("Advance {name} canary weight 60"),
        format!(
            "Copying {name} template spec to podinfo-primary.{}",
            scene.namespace()
        ),
        "Routing all traffic to primary".to_owned(),
        format!("Promotion completed! Scaling down {name}"),
    ] {
        scene.told(&text).await;
        assert_eq!(scene.times_told(&text), 1, "{text}");
    }
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn release_with_errors_is_rolled_back() {
    let scene = Scene::with("errors", canary("podinfo").success_rate(99)).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    scene.flow(Flow::FAILING);
    scene.release("podinfo:2").await;
    scene.reaches(Phase::Progressing).await;
    scene.reaches(Phase::Failed).await;

    scene.told("Canary failed! Scaling down").await;
    scene.told("failed checks threshold reached 2").await;
    scene.told("advancement success rate").await;
    scene.runs("podinfo", "podinfo:2", 0).await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;
    scene.routes(&[0, 50, 0]).await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn release_that_is_slow_is_rolled_back() {
    let policy = canary("podinfo")
        .threshold(1)
        .metric("request-duration", &json!({ "max": 500 }));
    let scene = Scene::with("latency", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.flow(Flow::SLOW);
    scene.release("podinfo:2").await;
    scene.reaches(Phase::Failed).await;

    scene.told("advancement request duration").await;
    scene.told("failed checks threshold reached 1").await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;
    scene.routes(&[0, 50, 0]).await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn release_without_traffic_is_rolled_back() {
    let policy = canary("podinfo").threshold(1).success_rate(99);
    let scene = Scene::with("no-traffic", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.flow(Flow::NONE);
    scene.release("podinfo:2").await;
    scene.reaches(Phase::Failed).await;

    scene
        .told("no values found for istio metric request-success-rate")
        .await;
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn release_that_a_webhook_refuses_is_rolled_back() {
    let hooks = Hooks::start().await;
    hooks.answer("/acceptance", 500, "three tests failed");
    let policy = canary("podinfo")
        .threshold(1)
        .hook("pre-rollout", "smoke", &hooks.url("/smoke"))
        .hook("rollout", "acceptance", &hooks.url("/acceptance"))
        .hook("post-rollout", "cleanup", &hooks.url("/cleanup"));
    let scene = Scene::with("webhook", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.release("podinfo:2").await;
    scene.reaches(Phase::Failed).await;

    scene.told("Pre-rollout check smoke passed").await;
    scene
        .told("advancement external check acceptance failed three tests failed")
        .await;
    scene.routes(&[0, 50, 0]).await;
    let smoke = &hooks.received("/smoke")[0];
    assert_eq!(smoke["name"], "podinfo");
    assert_eq!(smoke["namespace"], scene.namespace());
    assert_eq!(smoke["phase"], "Progressing");
    hooks
        .receives("/cleanup", "that the release failed", |body| {
            body["phase"] == "Failed" && body["checksum"] == smoke["checksum"]
        })
        .await;
    scene.told("Post-rollout check cleanup passed").await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn release_that_never_becomes_ready_is_rolled_back_at_its_deadline() {
    let policy = canary("podinfo").spec(json!({ "progressDeadlineSeconds": 12 }));
    let scene = Scene::with("deadline", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    scene.release("podinfo:broken").await;
    scene.reaches(Phase::Progressing).await;
    let canary = scene.reaches(Phase::Failed).await;

    scene.told("Rolling back").await;
    scene.told("Canary failed! Scaling down").await;
    let reason = canary.status.unwrap().halt_reason.unwrap();
    assert!(reason.contains("progress deadline"), "{reason}");
    scene.runs("podinfo", "podinfo:broken", 0).await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;
    scene.routes(&[0]).await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn promotion_whose_primary_fails_leaves_users_on_proven_pods() {
    let policy = canary("podinfo").spec(json!({ "progressDeadlineSeconds": 15 }));
    let scene = Scene::with("promotion-fails", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    scene.release("podinfo:broken-primary").await;
    scene.reaches(Phase::Promoting).await;
    scene.reaches(Phase::Failed).await;

    scene.told("failed, primary not ready").await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;
    scene.runs("podinfo", "podinfo:broken-primary", 0).await;
    scene.routes(&[0, 50, 100, 0]).await;

    scene.release("podinfo:3").await;
    scene.reaches(Phase::Succeeded).await;
    scene.runs("podinfo-primary", "podinfo:3", 1).await;
    scene.served_its_users();
}

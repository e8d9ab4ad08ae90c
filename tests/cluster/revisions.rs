//! What happens when the workload changes: again, back, or by its configuration.

use haldane::{api::Phase, object::Kind};
use serde_json::json;

use crate::kit::{Operator, Scene, canary, deployment};

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn revision_that_arrives_during_analysis_replaces_the_one_analysed() {
    let scene = Scene::with("replaced", canary("podinfo").weights(&[20, 60])).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.release("podinfo:2").await;
    scene.passes("weight 20", |m| m.weight == 20).await;
    scene.release("podinfo:3").await;
    scene.passes("starts again", |m| m.weight == 0).await;
    let canary = scene.reaches(Phase::Succeeded).await;

    scene.told("Restarting analysis for podinfo").await;
    scene.runs("podinfo-primary", "podinfo:3", 1).await;
    let images = scene.images_of("podinfo-primary").await;
    assert_eq!(Vec::from_iter(images), ["podinfo:1", "podinfo:3"]);
    scene.routes(&[0, 20, 0, 20, 60, 0]).await;
    let outcomes: Vec<_> = canary.status.unwrap().history.unwrap();
    let outcomes: Vec<_> = outcomes.iter().map(|r| r.outcome.as_str()).collect();
    assert_eq!(outcomes, ["Succeeded", "Superseded"]);
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn revert_during_analysis_ends_the_release() {
    let scene = Scene::with("reverted", canary("podinfo")).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    let before = scene.get(Kind::Deployment, "podinfo-primary").await;

    scene.release("podinfo:2").await;
    scene.passes("weight 50", |m| m.weight == 50).await;
    scene.release("podinfo:1").await;
    scene.reaches(Phase::Succeeded).await;

    scene.told("is back at the promoted revision").await;
    scene.runs("podinfo", "podinfo:1", 0).await;
    let after = scene.get(Kind::Deployment, "podinfo-primary").await;
    assert_eq!(after["spec"], before["spec"]);
    scene.routes(&[0, 50, 0]).await;
    assert_eq!(scene.times_told("Promotion completed!"), 0);
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn changed_config_is_released_and_copied_when_promoted() {
    let scene = Scene::new("config").await;
    for (kind, field) in [("ConfigMap", "data"), ("Secret", "stringData")] {
        scene
            .create(json!({
                "apiVersion": "v1", "kind": kind,
                "metadata": { "name": "settings" }, field: { "color": "blue" },
            }))
            .await;
    }
    let mut workload = deployment("podinfo", "podinfo:1");
    workload["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([
        { "configMapRef": { "name": "settings" } },
        { "secretRef": { "name": "settings" } },
    ]);
    scene.create(workload).await;
    scene.create(canary("podinfo").build()).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    let color = |object: &serde_json::Value| object["data"]["color"].clone();
    let copy = scene.get(Kind::ConfigMap, "settings-primary").await;
    assert_eq!(color(&copy), "blue");
    let copy = scene.get(Kind::Secret, "settings-primary").await;
    assert_eq!(color(&copy), "Ymx1ZQ==");
    let primary = scene.get(Kind::Deployment, "podinfo-primary").await;
    assert_eq!(
        primary["spec"]["template"]["spec"]["containers"][0]["envFrom"],
        json!([
            { "configMapRef": { "name": "settings-primary" } },
            { "secretRef": { "name": "settings-primary" } },
        ])
    );

    let green = json!({ "data": { "color": "green" } });
    scene.change(Kind::ConfigMap, "settings", green).await;
    scene.passes("weight 50", |m| m.weight == 50).await;
    let copy = scene.get(Kind::ConfigMap, "settings-primary").await;
    assert_eq!(color(&copy), "blue", "what is analysed is not yet promoted");
    scene.reaches(Phase::Succeeded).await;
    let copy = scene.get(Kind::ConfigMap, "settings-primary").await;
    assert_eq!(color(&copy), "green");

    let red = json!({ "stringData": { "color": "red" } });
    scene.change(Kind::Secret, "settings", red).await;
    scene.reaches(Phase::Progressing).await;
    scene.request("promote").await;
    scene.reaches(Phase::Succeeded).await;
    let copy = scene.get(Kind::Secret, "settings-primary").await;
    assert_eq!(color(&copy), "cmVk");
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn revision_after_a_failed_one_is_released() {
    let policy = canary("podinfo").spec(json!({ "progressDeadlineSeconds": 10 }));
    let scene = Scene::with("fixed", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.release("podinfo:broken").await;
    scene.reaches(Phase::Failed).await;
    scene.release("podinfo:2").await;
    scene.reaches(Phase::Progressing).await;
    scene.reaches(Phase::Succeeded).await;
    scene.runs("podinfo-primary", "podinfo:2", 1).await;
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn workload_that_is_only_scaled_is_not_released() {
    let scene = Scene::with("scaled", canary("podinfo")).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.runs("podinfo", "podinfo:1", 0).await;

    let annotated = json!({ "metadata": { "annotations": { "team": "web" } }, "spec": { "minReadySeconds": 1 } });
    scene.change(Kind::Deployment, "podinfo", annotated).await;
    scene.release("podinfo:2").await;
    scene.reaches(Phase::Succeeded).await;
    assert_eq!(scene.times_told("New revision detected!"), 1);
}

//! What is left when a Canary is deleted.

use haldane::{
    api::{FINALIZER, Phase},
    object::Kind,
};
use serde_json::{Value, json};

use crate::kit::{Operator, Scene, canary, deployment};

/// What users had before there was a Canary.
async fn own_service_and_route(scene: &Scene) -> (Value, Value) {
    scene
        .create(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "podinfo" },
            "spec": { "selector": { "app": "podinfo" }, "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] },
        }))
        .await;
    scene
        .create(json!({
            "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService", "metadata": { "name": "podinfo" },
            "spec": { "hosts": ["podinfo.example.com"], "http": [{ "route": [{ "destination": { "host": "podinfo" } }] }] },
        }))
        .await;
    (
        scene.get(Kind::Service, "podinfo").await,
        scene.get(Kind::VirtualService, "podinfo").await,
    )
}

fn reverting() -> crate::kit::CanaryManifest {
    canary("podinfo").spec(json!({ "revertOnDeletion": true }))
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn deletion_with_revert_gives_everything_back() {
    let scene = Scene::new("revert").await;
    scene.create(deployment("podinfo", "podinfo:1")).await;
    let (service, route) = own_service_and_route(&scene).await;
    scene.create(reverting().build()).await;
    let _operator = Operator::start(&scene);
    let canary = scene.reaches(Phase::Initialized).await;
    assert!(
        canary
            .metadata
            .finalizers
            .unwrap()
            .contains(&FINALIZER.to_owned())
    );
    scene.runs("podinfo", "podinfo:1", 0).await;

    scene.delete(Kind::Canary, "podinfo").await;
    scene.gone(Kind::Canary, "podinfo").await;

    scene.told("Terminated canary podinfo").await;
    scene.runs("podinfo", "podinfo:1", 1).await;
    let service_after = scene.get(Kind::Service, "podinfo").await;
    assert_eq!(
        service_after["spec"]["selector"],
        service["spec"]["selector"]
    );
    let route_after = scene.get(Kind::VirtualService, "podinfo").await;
    assert_eq!(route_after["spec"], route["spec"]);
    scene.gone(Kind::Deployment, "podinfo-primary").await;
    scene.gone(Kind::Service, "podinfo-primary").await;
    scene.gone(Kind::Service, "podinfo-canary").await;
    scene.gone(Kind::DestinationRule, "podinfo-primary").await;
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn deletion_with_revert_ends_a_release_under_way() {
    let scene = Scene::with("revert-midway", reverting()).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.release("podinfo:2").await;
    scene.passes("weight 50", |m| m.weight == 50).await;

    scene.delete(Kind::Canary, "podinfo").await;
    scene.gone(Kind::Canary, "podinfo").await;

    scene.runs("podinfo", "podinfo:2", 1).await;
    scene.gone(Kind::Deployment, "podinfo-primary").await;
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn deletion_without_revert_leaves_the_workload_as_it_is() {
    let scene = Scene::with("no-revert", canary("podinfo")).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.runs("podinfo", "podinfo:1", 0).await;

    scene.delete(Kind::Canary, "podinfo").await;
    for (kind, name) in [
        (Kind::Canary, "podinfo"),
        (Kind::Deployment, "podinfo-primary"),
        (Kind::Service, "podinfo"),
        (Kind::Service, "podinfo-primary"),
        (Kind::Service, "podinfo-canary"),
        (Kind::VirtualService, "podinfo"),
    ] {
        scene.gone(kind, name).await;
    }
    scene.runs("podinfo", "podinfo:1", 0).await;
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn deletion_with_revert_ends_also_when_the_workload_is_gone() {
    let scene = Scene::with("target-gone", reverting()).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.delete(Kind::Deployment, "podinfo").await;
    scene.gone(Kind::Deployment, "podinfo").await;
    scene.delete(Kind::Canary, "podinfo").await;
    scene.gone(Kind::Canary, "podinfo").await;
    scene.gone(Kind::Deployment, "podinfo-primary").await;
}

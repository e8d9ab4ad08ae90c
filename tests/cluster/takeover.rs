//! Haldane takes the place of Flagger on a running cluster.

use haldane::{api::Phase, object::Kind};
use serde_json::{Value, json};

use crate::kit::{Operator, Scene, canary, deployment};

/// A revision as Flagger writes it; nobody else can compute it.
const FOREIGN: &str = "6f8c5d7b9c";

/// The objects of a Canary as Flagger leaves them after a release, with its status.
async fn left_by_flagger(scene: &Scene) {
    let mut target = deployment("podinfo", "podinfo:1");
    target["spec"]["replicas"] = json!(0);
    scene.create(target).await;
    let owner = scene.create(canary("podinfo").build()).await;
    let owners = json!([{
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "podinfo",
        "uid": owner.metadata.uid, "controller": true, "blockOwnerDeletion": true,
    }]);
    let flux = json!({
        "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
        "helm.toolkit.fluxcd.io/driftDetection": "disabled",
    });

    let mut primary = deployment("podinfo-primary", "podinfo:1");
    primary["metadata"]["ownerReferences"] = owners.clone();
    primary["spec"]["template"]["metadata"]["annotations"] =
        json!({ "flagger-id": "7c3a8a9e-6f5c-4d8e-9f63-0d7f4f1c2b3a" });
    scene.create(primary).await;
    for (name, app) in [
        ("podinfo", "podinfo-primary"),
        ("podinfo-primary", "podinfo-primary"),
        ("podinfo-canary", "podinfo"),
    ] {
        scene
            .create(json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": { "name": name, "labels": { "app": name }, "annotations": flux, "ownerReferences": owners },
                "spec": {
                    "type": "ClusterIP", "selector": { "app": app },
                    "ports": [{ "name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080 }],
                },
            }))
            .await;
    }
    for host in ["podinfo-primary", "podinfo-canary"] {
        scene
            .create(json!({
                "apiVersion": "networking.istio.io/v1beta1", "kind": "DestinationRule",
                "metadata": { "name": host, "ownerReferences": owners }, "spec": { "host": host },
            }))
            .await;
    }
    scene.has_endpoints("podinfo-primary").await;
    scene
        .create(json!({
            "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
            "metadata": { "name": "podinfo", "annotations": flux, "ownerReferences": owners },
            "spec": {
                "hosts": ["podinfo"], "gateways": ["mesh"],
                "http": [{ "route": [
                    { "destination": { "host": "podinfo-primary" }, "weight": 100 },
                    { "destination": { "host": "podinfo-canary" }, "weight": 0 },
                ]}],
            },
        }))
        .await;
    let status = json!({
        "phase": "Succeeded", "failedChecks": 0, "canaryWeight": 0, "iterations": 0,
        "lastAppliedSpec": FOREIGN, "lastPromotedSpec": FOREIGN,
        "lastTransitionTime": "2026-01-02T03:04:05Z",
        "conditions": [{
            "type": "Promoted", "status": "True", "reason": "Succeeded",
            "message": "Canary analysis completed successfully, promotion finished.",
            "lastUpdateTime": "2026-01-02T03:04:05Z", "lastTransitionTime": "2026-01-02T03:04:05Z",
        }],
    });
    scene.change_status(Kind::Canary, "podinfo", status).await;
}

fn pods(workload: &Value) -> &Value {
    &workload["spec"]["template"]
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn canary_of_flagger_is_taken_over_without_a_release() {
    let scene = Scene::new("takeover").await;
    left_by_flagger(&scene).await;
    let before = scene.get(Kind::Deployment, "podinfo-primary").await;
    let route_before = scene.get(Kind::VirtualService, "podinfo").await;
    let _operator = Operator::start(&scene);

    let canary = scene
        .becomes("podinfo", "has a revision of Haldane's", |c| {
            let applied = c
                .status
                .as_ref()
                .and_then(|s| s.last_applied_spec.as_deref());
            applied.is_some_and(|revision| revision != FOREIGN)
        })
        .await;
    let status = canary.status.unwrap();
    assert_eq!(status.phase, Phase::Succeeded);
    assert_eq!(status.last_promoted_spec, status.last_applied_spec);

    scene.release("podinfo:2").await;
    scene.reaches(Phase::Progressing).await;
    let after = scene.get(Kind::Deployment, "podinfo-primary").await;
    assert_eq!(
        pods(&after),
        pods(&before),
        "no pod was replaced to take over"
    );
    scene.reaches(Phase::Succeeded).await;
    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.runs("podinfo", "podinfo:2", 0).await;
    scene.routes(&[0, 50, 0]).await;
    scene.is_told("New revision detected!", 1).await;
    assert_eq!(scene.times_told("Initialization done!"), 0);
    let route_after = scene.get(Kind::VirtualService, "podinfo").await;
    assert_eq!(
        route_after["metadata"]["uid"],
        route_before["metadata"]["uid"]
    );
    assert_eq!(route_after["spec"]["hosts"], route_before["spec"]["hosts"]);
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn revision_that_arrived_while_nobody_looked_is_released_after_the_take_over() {
    let scene = Scene::new("takeover-new").await;
    left_by_flagger(&scene).await;
    scene.release("podinfo:2").await;
    let _operator = Operator::start(&scene);

    scene.reaches(Phase::Progressing).await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;
    scene.reaches(Phase::Succeeded).await;
    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.routes(&[0, 50, 0]).await;
    scene.served_its_users();
}

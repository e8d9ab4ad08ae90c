//! Workloads other than a plain Deployment.

use haldane::{api::Phase, object::Kind};
use serde_json::json;

use crate::kit::{Operator, Scene, canary, deployment, workload};

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn autoscaler_of_the_primary_follows_that_of_the_workload() {
    let scene = Scene::new("autoscaler").await;
    scene.create(deployment("podinfo", "podinfo:1")).await;
    scene
        .create(json!({
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "metadata": { "name": "podinfo" },
            "spec": {
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo" },
                "minReplicas": 2,
                "maxReplicas": 4,
                "metrics": [{ "type": "Resource", "resource": {
                    "name": "cpu", "target": { "type": "Utilization", "averageUtilization": 80 },
                }}],
            },
        }))
        .await;
    let policy = canary("podinfo").spec(json!({ "autoscalerRef": {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "name": "podinfo",
        "primaryScalerReplicas": { "minReplicas": 3 },
    }}));
    scene.create(policy.build()).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene
        .sees(
            Kind::HorizontalPodAutoscaler,
            "podinfo-primary",
            "scales the primary",
            |hpa| {
                hpa["spec"]["scaleTargetRef"]["name"] == "podinfo-primary"
                    && hpa["spec"]["minReplicas"] == 3
                    && hpa["spec"]["maxReplicas"] == 4
            },
        )
        .await;
    scene.runs("podinfo-primary", "podinfo:1", 3).await;
    scene.runs("podinfo", "podinfo:1", 0).await;

    let wider = json!({ "spec": { "maxReplicas": 6 } });
    scene
        .change(Kind::HorizontalPodAutoscaler, "podinfo", wider)
        .await;
    scene.release("podinfo:2").await;
    scene.reaches(Phase::Progressing).await;
    scene
        .sees(
            Kind::Deployment,
            "podinfo",
            "runs as many as its autoscaler wants",
            |d| d["spec"]["replicas"].as_i64().is_some_and(|n| n >= 2),
        )
        .await;
    scene.reaches(Phase::Succeeded).await;

    scene
        .sees(
            Kind::HorizontalPodAutoscaler,
            "podinfo-primary",
            "scales as wide",
            |hpa| hpa["spec"]["maxReplicas"] == 6 && hpa["spec"]["minReplicas"] == 3,
        )
        .await;
    scene.runs("podinfo-primary", "podinfo:2", 3).await;
    scene.runs("podinfo", "podinfo:2", 0).await;
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn daemon_set_is_released_and_rests_by_node_selector() {
    let policy = canary("podinfo").spec(json!({ "targetRef": { "kind": "DaemonSet" } }));
    let mut workload = workload("DaemonSet", "podinfo", "podinfo:1");
    // On a single Node users would wait for the primary's only pod.
    workload["spec"]["updateStrategy"] =
        json!({ "type": "RollingUpdate", "rollingUpdate": { "maxSurge": 1, "maxUnavailable": 0 } });
    let scene = Scene::of("daemon-set", workload, policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    let rests = |ds: &serde_json::Value| {
        ds["spec"]["template"]["spec"]["nodeSelector"]["flagger.app/scale-to-zero"] == "true"
            && ds["status"]["desiredNumberScheduled"] == 0
    };
    scene.sees(Kind::DaemonSet, "podinfo", "rests", rests).await;

    scene.release_of(Kind::DaemonSet, "podinfo:2").await;
    scene.passes("weight 50", |m| m.weight == 50).await;
    scene
        .sees(Kind::DaemonSet, "podinfo", "runs", |ds| {
            ds["status"]["numberReady"] == 1
        })
        .await;
    scene.reaches(Phase::Succeeded).await;
    scene
        .sees(
            Kind::DaemonSet,
            "podinfo-primary",
            "runs the new version",
            |ds| {
                ds["spec"]["template"]["spec"]["containers"][0]["image"] == "podinfo:2"
                    && ds["status"]["numberReady"] == 1
            },
        )
        .await;
    scene.sees(Kind::DaemonSet, "podinfo", "rests", rests).await;
    scene.routes(&[0, 50, 0]).await;
    scene.served_its_users();
}

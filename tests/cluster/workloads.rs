//! Workloads other than a plain Deployment.

use haldane::{api::Phase, object::Kind};
use serde_json::{Value, json};

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

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn scaled_object_of_the_primary_asks_about_the_primary() {
    let scene = Scene::new("keda").await;
    scene.create(deployment("podinfo", "podinfo:1")).await;
    scene
        .create(json!({
            "apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject",
            "metadata": { "name": "podinfo-so", "labels": { "team": "shop" } },
            "spec": {
                "scaleTargetRef": { "name": "podinfo" },
                "minReplicaCount": 1,
                "maxReplicaCount": 3,
                "advanced": { "horizontalPodAutoscalerConfig": { "name": "podinfo-hpa" } },
                "triggers": [
                    { "type": "prometheus", "name": "queue", "metadata": {
                        "serverAddress": "http://prometheus:9090", "threshold": "5",
                        "query": "sum(rate(requests{app=\"podinfo\"}[1m])) + jobs{app=\"podinfo-canary\"}",
                    }},
                    { "type": "prometheus", "name": "given", "metadata": {
                        "serverAddress": "http://prometheus:9090", "threshold": "5", "query": "up",
                    }},
                ],
            },
        }))
        .await;
    let policy = canary("podinfo").spec(json!({ "autoscalerRef": {
        "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "podinfo-so",
        "primaryScalerQueries": { "given": "up{app=\"podinfo-primary\"}" },
        "primaryScalerReplicas": { "minReplicas": 2 },
    }}));
    scene.create(policy.build()).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    let paused = |scaler: &Value| {
        let replicas = &scaler["metadata"]["annotations"]["autoscaling.keda.sh/paused-replicas"];
        replicas.as_str().map(str::to_owned)
    };
    scene
        .sees(Kind::ScaledObject, "podinfo-so", "is paused", |so| {
            paused(so).as_deref() == Some("0")
        })
        .await;
    let copy = scene.get(Kind::ScaledObject, "podinfo-so-primary").await;
    assert_eq!(paused(&copy), None, "{copy}");
    assert_eq!(copy["metadata"]["labels"]["team"], "shop");
    assert_eq!(copy["metadata"]["ownerReferences"][0]["kind"], "Canary");
    let spec = &copy["spec"];
    assert_eq!(spec["scaleTargetRef"]["name"], "podinfo-primary");
    assert_eq!(
        (&spec["minReplicaCount"], &spec["maxReplicaCount"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(
        spec["advanced"]["horizontalPodAutoscalerConfig"]["name"],
        "podinfo-hpa-primary"
    );
    assert_eq!(
        spec["triggers"][0]["metadata"]["query"],
        r#"sum(rate(requests{app="podinfo-primary"}[1m])) + jobs{app="podinfo-primary"}"#
    );
    assert_eq!(
        spec["triggers"][1]["metadata"]["query"],
        r#"up{app="podinfo-primary"}"#
    );

    let wider = json!({ "spec": { "maxReplicaCount": 7 } });
    scene.change(Kind::ScaledObject, "podinfo-so", wider).await;
    scene.release("podinfo:2").await;
    scene.reaches(Phase::Progressing).await;
    scene
        .sees(Kind::ScaledObject, "podinfo-so", "scales again", |so| {
            paused(so).is_none()
        })
        .await;
    scene.reaches(Phase::Succeeded).await;
    scene
        .sees(Kind::ScaledObject, "podinfo-so", "is paused again", |so| {
            paused(so).as_deref() == Some("0")
        })
        .await;
    scene
        .sees(
            Kind::ScaledObject,
            "podinfo-so-primary",
            "scales as wide",
            |so| so["spec"]["maxReplicaCount"] == 7 && paused(so).is_none(),
        )
        .await;
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn service_target_is_copied_and_its_new_version_promoted() {
    let scene = Scene::new("service").await;
    for version in ["v1", "v2"] {
        scene.create(deployment(version, "app:1")).await;
    }
    scene
        .create(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": "podinfo" },
            "spec": { "selector": { "app": "v1" }, "ports": [{ "name": "http", "port": 80, "targetPort": 8080 }] },
        }))
        .await;
    let policy = canary("podinfo")
        .spec(json!({ "targetRef": { "apiVersion": "core/v1", "kind": "Service" } }));
    scene.create(policy.build()).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    let selects =
        |app: &'static str| move |s: &Value| s["spec"]["selector"] == json!({ "app": app });
    for name in ["podinfo", "podinfo-primary", "podinfo-canary"] {
        scene
            .sees(Kind::Service, name, "selects v1", selects("v1"))
            .await;
    }
    let address = |service: &Value| service["spec"]["clusterIP"].clone();
    let own = address(&scene.get(Kind::Service, "podinfo").await);
    assert_ne!(
        address(&scene.get(Kind::Service, "podinfo-primary").await),
        own
    );

    let next = json!({ "spec": { "selector": { "app": "v2" } } });
    scene.change(Kind::Service, "podinfo", next).await;
    scene.passes("weight 50", |m| m.weight == 50).await;
    scene
        .sees(Kind::Service, "podinfo-canary", "selects v2", selects("v2"))
        .await;
    scene
        .sees(
            Kind::Service,
            "podinfo-primary",
            "still selects v1",
            selects("v1"),
        )
        .await;
    scene.reaches(Phase::Succeeded).await;
    scene
        .sees(
            Kind::Service,
            "podinfo-primary",
            "selects v2",
            selects("v2"),
        )
        .await;
    scene.routes(&[0, 50, 0]).await;
    scene.served_its_users();
}

//! The chart in a real API server: it installs, and its role is enough for everything.

use std::{path::PathBuf, process::Command};

use haldane::{api::Phase, object::Kind};
use serde_json::json;

use crate::kit::{Operator, Scene, canary, deployment};

/// Runs a program with the administrator's kubeconfig and returns what it printed.
fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(std::env::var(program).unwrap())
        .args(args)
        .env(
            "KUBECONFIG",
            std::env::var("HALDANE_TEST_KUBECONFIG").unwrap(),
        )
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// A kubeconfig of the chart's ServiceAccount.
fn kubeconfig_of_chart(namespace: &str) -> PathBuf {
    let kubectl = |args: &[&str]| run("HALDANE_TEST_KUBECTL", args);
    let account = kubectl(&["-n", namespace, "get", "serviceaccounts", "-o", "name"]);
    let account = account
        .lines()
        .filter_map(|line| line.strip_prefix("serviceaccount/"))
        .find(|name| *name != "default")
        .unwrap();
    let token = kubectl(&["-n", namespace, "create", "token", account]);
    let path = PathBuf::from(std::env::var("HALDANE_TEST_CLUSTER_DIR").unwrap())
        .join(format!("{namespace}.kubeconfig"));
    std::fs::copy(std::env::var("HALDANE_TEST_KUBECONFIG").unwrap(), &path).unwrap();
    let file = path.to_str().unwrap();
    let user = kubectl(&[
        "config",
        "view",
        "-o",
        "jsonpath={.contexts[0].context.user}",
    ]);
    run(
        "HALDANE_TEST_KUBECTL",
        &[
            "--kubeconfig",
            file,
            "config",
            "set-credentials",
            &user,
            &format!("--token={}", token.trim()),
        ],
    );
    path
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn chart_installs_and_its_role_is_enough_for_a_whole_release() {
    let policy = canary("podinfo").spec(json!({
        "autoscalerRef": {
            "apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler",
            "name": "podinfo",
        },
        "revertOnDeletion": true,
    }));
    let scene = Scene::new("chart").await;
    let namespace = scene.namespace();
    let chart = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/haldane");
    run(
        "HALDANE_TEST_HELM",
        &[
            "install",
            namespace,
            chart,
            "--namespace",
            namespace,
            "--skip-crds",
        ],
    );
    let operator = Operator::start_as(&scene, &kubeconfig_of_chart(namespace));

    let mut target = deployment("podinfo", "podinfo:1");
    target["spec"]["template"]["spec"]["containers"][0]["envFrom"] = json!([
        { "configMapRef": { "name": "settings" } },
        { "secretRef": { "name": "password" } },
    ]);
    for manifest in [
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": "settings" }, "data": { "color": "blue" },
        }),
        json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": { "name": "password" }, "stringData": { "password": "secret" },
        }),
        target,
        json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
            "metadata": { "name": "podinfo" },
            "spec": {
                "scaleTargetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo" },
                "maxReplicas": 2,
                "metrics": [{
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": { "type": "Utilization", "averageUtilization": 80 },
                    },
                }],
            },
        }),
        policy.build(),
    ] {
        scene.create(manifest).await;
    }
    scene.reaches(Phase::Initialized).await;
    scene.release("podinfo:2").await;
    scene.reaches(Phase::Succeeded).await;
    scene.get(Kind::ConfigMap, "settings-primary").await;
    scene.get(Kind::Secret, "password-primary").await;
    scene
        .get(Kind::HorizontalPodAutoscaler, "podinfo-primary")
        .await;
    scene.delete(Kind::Canary, "podinfo").await;
    scene.gone(Kind::Canary, "podinfo").await;

    let metrics = operator.metrics().await;
    let refused: Vec<_> = metrics
        .lines()
        .filter(|line| line.contains("code=\"403\""))
        .collect();
    assert!(refused.is_empty(), "{refused:?}");
}

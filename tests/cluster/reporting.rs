//! What others are told, and what happens when those who are asked are gone.

use haldane::{api::Phase, object::Kind};
use serde_json::json;

use crate::kit::{Flow, Hooks, Operator, Prometheus, Scene, canary};

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn checks_fail_while_the_metrics_server_is_gone() {
    let mut prometheus = Prometheus::of_this_host("gone").await;
    let policy = canary("podinfo")
        .weights(&[20, 60])
        .success_rate(99)
        .spec(json!({ "metricsServer": prometheus.url() }));
    let scene = Scene::with("no-metrics", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.release("podinfo:2").await;
    scene.passes("weight 20", |m| m.weight == 20).await;
    prometheus.kill();
    scene.reaches(Phase::Failed).await;

    scene.told("Prometheus query failed").await;
    scene.told("failed checks threshold reached 2").await;
    scene.routes(&[0, 20, 0]).await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn abort_needs_no_metrics_server() {
    let policy = canary("podinfo")
        .weights(&[20, 60])
        .threshold(100)
        .success_rate(99)
        .spec(json!({ "metricsServer": "http://127.0.0.1:9" }));
    let scene = Scene::with("abort-alone", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.release("podinfo:2").await;
    scene.passes("a failed check", |m| m.failed == 1).await;
    scene.request("abort").await;
    scene.reaches(Phase::Failed).await;

    scene.told("on request (abort)").await;
    scene.routes(&[0, 20, 0]).await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn alerts_and_events_reach_their_receivers() {
    let hooks = Hooks::start().await;
    let policy = canary("podinfo")
        .threshold(1)
        .success_rate(99)
        .hook("event", "events", &hooks.url("/events"))
        .analysis(json!({ "alerts": [
            { "name": "all", "severity": "info", "providerRef": { "name": "chat" } },
            { "name": "errors", "severity": "error", "providerRef": { "name": "pager" } },
        ]}));
    let scene = Scene::new("alerts").await;
    scene
        .create(json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "AlertProvider", "metadata": { "name": "chat" },
            "spec": { "type": "slack", "channel": "releases", "address": hooks.url("/chat") },
        }))
        .await;
    scene
        .create(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "pager" },
            "stringData": { "address": hooks.url("/pager") },
        }))
        .await;
    scene
        .create(json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "AlertProvider", "metadata": { "name": "pager" },
            "spec": { "type": "msteams", "secretRef": { "name": "pager" } },
        }))
        .await;
    scene
        .create(crate::kit::deployment("podinfo", "podinfo:1"))
        .await;
    scene.create(policy.build()).await;
    scene.flow(Flow::FAILING);
    let _operator = Operator::start_with(&scene, &["--cluster-name=blue"]);
    scene.reaches(Phase::Initialized).await;

    let text =
        |text: &'static str| move |body: &serde_json::Value| body["attachments"][0]["text"] == text;
    let alert = hooks
        .receives(
            "/chat",
            "the initialization",
            text("New Deployment detected, initialization completed."),
        )
        .await;
    assert_eq!(alert["channel"], "releases");
    assert_eq!(alert["username"], "flagger");
    let attachment = &alert["attachments"][0];
    assert_eq!(attachment["color"], "good");
    assert_eq!(attachment["author_name"], scene.full_name());
    let fields = attachment["fields"].to_string();
    assert!(
        fields.contains("blue") && fields.contains(&format!("Deployment/{}", scene.full_name())),
        "{fields}"
    );

    scene.release("podinfo:2").await;
    scene.reaches(Phase::Failed).await;
    let alert = hooks
        .receives(
            "/chat",
            "the failure",
            text("Failed checks threshold reached 1"),
        )
        .await;
    assert_eq!(alert["attachments"][0]["color"], "danger");
    hooks
        .receives("/pager", "the failure", |body| {
            body["@type"] == "MessageCard"
                && body
                    .to_string()
                    .contains("Failed checks threshold reached 1")
        })
        .await;
    assert_eq!(hooks.received("/pager").len(), 1, "errors alone");
    let event = hooks
        .receives("/events", "the end", |body| {
            body["metadata"]["eventMessage"]
                .as_str()
                .is_some_and(|m| m.starts_with("Canary failed!"))
        })
        .await;
    assert_eq!(event["name"], "podinfo");
    assert_eq!(event["phase"], "Failed");
    assert_eq!(event["metadata"]["eventType"], "Warning");
    assert!(
        event["metadata"]["timestamp"]
            .as_str()
            .is_some_and(|t| t.parse::<u64>().is_ok())
    );
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn metrics_follow_a_release_and_go_with_the_canary() {
    let scene = Scene::with("metrics", canary("podinfo").success_rate(99)).await;
    let operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    let namespace = scene.namespace();
    let line = |name: &str, label: &str, value: &str| {
        format!("flagger_canary_{name}{{{label},namespace=\"{namespace}\"}} {value}\n")
    };

    scene.release("podinfo:2").await;
    scene.passes("weight 50", |m| m.weight == 50).await;
    let lines = [
        format!("flagger_canary_total{{namespace=\"{namespace}\"}} 1\n"),
        line("status", "name=\"podinfo\"", "0"),
        line("weight", "workload=\"podinfo\"", "50"),
        line("weight", "workload=\"podinfo-primary\"", "50"),
    ];
    let all = |page: &str| lines.iter().all(|line| page.contains(line));
    operator.shows(&format!("{lines:?}"), all).await;

    scene.reaches(Phase::Succeeded).await;
    let lines = [
        line("status", "name=\"podinfo\"", "1"),
        line("weight", "workload=\"podinfo\"", "0"),
        format!(
            "flagger_canary_successes_total{{name=\"podinfo\",namespace=\"{namespace}\",deployment_strategy=\"canary\",analysis_status=\"completed\"}} 1\n"
        ),
        format!(
            "flagger_canary_metric_analysis{{name=\"podinfo\",namespace=\"{namespace}\",metric=\"request-success-rate\"}} 100.0\n"
        ),
    ];
    let all = |page: &str| lines.iter().all(|line| page.contains(line));
    operator.shows(&format!("{lines:?}"), all).await;

    scene.delete(Kind::Canary, "podinfo").await;
    operator
        .shows("nothing of the Canary", |page| {
            let label = format!("namespace=\"{namespace}\"");
            !page.lines().any(|line| {
                line.contains(&label)
                    && line.starts_with("flagger_canary_")
                    && !line.ends_with(" 0")
            })
        })
        .await;
}

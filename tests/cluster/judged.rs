//! Releases that are judged against the live primary, by a real Prometheus and real counters.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use haldane::{
    api::{Phase, judge_status::JudgeVerdict},
    object::Kind,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kit::{CanaryManifest, Flow, Operator, Scene, canary, cluster, program};

/// Five percent, judged after each scrape, and no threshold.
fn policy() -> CanaryManifest {
    canary("podinfo").weights(&[5]).analysis(json!({
        "judge": { "scrapeInterval": "1s", "undecided": { "extend": 1 } },
    }))
}

/// So many requests a second of all users, of which 5 % are on the canary.
fn flows(requests_per_second: f64, errors: f64, canary_errors: f64) -> [Flow; 2] {
    let side = |share: f64, errors| Flow {
        rate: requests_per_second * share,
        errors,
        ..Flow::HEALTHY
    };
    [side(0.05, canary_errors), side(0.95, errors)]
}

/// What the policy of a Canary would have decided on what was seen since a time.
fn backtest(canary: &Value, from: Timestamp) -> Value {
    let mut child = Command::new(program())
        .args(["backtest", "-", "--format", "json"])
        .args(["--metrics-server", &cluster().prometheus])
        .args([
            "--from",
            &from.to_string(),
            "--to",
            &Timestamp::now().to_string(),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    input.write_all(canary.to_string().as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let all: Value = serde_json::from_slice(&output.stdout).unwrap();
    all[0]["releases"][0].clone()
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn tenfold_errors_at_five_percent_are_rolled_back_within_the_step() {
    let scene = Scene::with(
        "judged-errors",
        policy().analysis(json!({ "interval": "10m" })),
    )
    .await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    let [canary, primary] = flows(10_000.0, 0.001, 0.01);
    scene.flows(canary, primary);

    let began = Timestamp::now();
    scene.release("podinfo:2").await;
    let canary = scene.reaches(Phase::Failed).await;
    let replayed = backtest(&scene.get(Kind::Canary, "podinfo").await, began);
    assert_eq!(replayed["judge"]["decision"], "rolledBack", "{replayed}");
    assert_eq!(replayed["thresholds"], json!(null), "none in the Canary");

    let judge = canary.status.unwrap().judge.unwrap();
    assert_eq!(judge.verdict, JudgeVerdict::Fail, "{judge:?}");
    let errors = judge.metrics.iter().find(|m| m.name == "errors").unwrap();
    assert!(errors.ratio.unwrap() > 5.0, "{judge:?}");
    scene.told("Rolling back").await;
    scene.told("canary errors").await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;
    scene.runs("podinfo", "podinfo:2", 0).await;
    scene.routes(&[0, 5, 0]).await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn healthy_release_of_little_traffic_is_extended_and_not_rolled_back() {
    // Latency is not looked at in the pods' first minute; errors are.
    let errors = json!({ "metrics": [{ "name": "errors", "kind": "ratio" }] });
    let scene = Scene::with(
        "judged-little",
        policy().analysis(json!({ "judge": errors })),
    )
    .await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    // Two requests a second on the canary, and errors that a threshold of 99 % would not pass.
    let [canary, primary] = flows(40.0, 0.02, 0.02);
    scene.flows(canary, primary);

    let began = Timestamp::now();
    scene.release("podinfo:2").await;
    scene.told("waiting for a person").await;
    let replayed = backtest(&scene.get(Kind::Canary, "podinfo").await, began);
    assert_eq!(replayed["judge"]["decision"], "held", "{replayed}");
    let held = scene
        .becomes("podinfo", "is held", |c| {
            c.status
                .as_ref()
                .and_then(|status| status.judge.as_ref())
                .is_some_and(|judge| judge.held)
        })
        .await;
    let status = held.status.unwrap();
    assert_eq!(
        (status.phase, status.canary_weight),
        (Phase::Progressing, 5)
    );
    let judge = status.judge.unwrap();
    assert!(judge.message.contains("more requests"), "{judge:?}");

    // With more of them the evidence goes on to a pass, and the release to its end.
    let [canary, primary] = flows(40_000.0, 0.02, 0.02);
    scene.flows(canary, primary);
    scene.reaches(Phase::Succeeded).await;
    scene.told("Judge passed").await;
    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.routes(&[0, 5, 0]).await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn evidence_survives_an_operator_that_is_killed() {
    let scene = Scene::with(
        "judged-restart",
        policy().analysis(json!({ "interval": "10m" })),
    )
    .await;
    let operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    let [canary, primary] = flows(400.0, 0.02, 0.02);
    scene.flows(canary, primary);
    scene.release("podinfo:2").await;
    let counted = |canary: &haldane::api::Canary| {
        let judge = canary.status.as_ref()?.judge.as_ref()?;
        let errors = judge.metrics.iter().find(|m| m.name == "errors")?;
        Some((errors.canary_requests, judge.time?))
    };
    scene
        .becomes("podinfo", "has evidence", |c| {
            counted(c).is_some_and(|(requests, _)| requests > 100.0)
        })
        .await;

    operator.kill();
    let before = scene.get(Kind::Canary, "podinfo").await;
    let before: haldane::api::Canary = serde_json::from_value(before).unwrap();
    let (requests, time) = counted(&before).unwrap();
    let _operator = Operator::start(&scene);
    let after = scene
        .becomes("podinfo", "goes on", |c| {
            counted(c).is_some_and(|(_, later)| later > time)
        })
        .await;

    // Twenty a second, also over the time in which nobody looked.
    let (more, later) = counted(&after).unwrap();
    let seconds = later.duration_since(time).as_secs_f64();
    let missed = (more - requests - 20.0 * seconds).abs();
    assert!(missed <= 60.0, "{requests} then {more} in {seconds} s");
}

//! What the operator costs an API server. The figures are printed: `--nocapture` shows them.

use std::{collections::BTreeMap, time::Duration};

use haldane::{api::Phase, object::Kind};
use serde_json::json;
use tokio::time::Instant;

use crate::kit::{Operator, Scene, canary, deployment};

const CANARIES: usize = 20;

/// Most requests of one release in three steps.
const MOST_REQUESTS: u64 = 25;

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn releases_cost_their_writes_and_idle_canaries_cost_nothing() {
    let scene = Scene::new("cost").await;
    let operator = Operator::start(&scene);
    let names: Vec<String> = (0..CANARIES).map(|n| format!("app-{n}")).collect();
    let started = Instant::now();
    for name in &names {
        scene.create(deployment(name, "app:1")).await;
        let policy = canary(name).analysis(json!({ "stepWeight": 10, "maxWeight": 30 }));
        scene.create(policy.build()).await;
    }
    settle(&scene, &names, Phase::Initialized).await;
    println!("{CANARIES} Canaries initialized: {:?}", started.elapsed());

    let before = requests(&operator).await;
    // Nothing tells that nothing happens: this is the time in which a polling operator would.
    tokio::time::sleep(Duration::from_secs(12)).await;
    let idle = total(&requests(&operator).await) - total(&before);
    println!("requests while idle: {idle}");
    assert_eq!(idle, 0, "an idle Canary costs no request");

    let before = requests(&operator).await;
    let patched = Instant::now();
    for name in &names {
        let image = json!({"spec": {"template": {"spec": {
            "containers": [{ "name": "app", "image": "app:2",
                "ports": [{ "name": "http", "containerPort": 8080 }] }],
        }}}});
        scene.change(Kind::Deployment, name, image).await;
    }
    for name in &names {
        scene
            .becomes(name, "succeeded", |canary| {
                phase(canary) == Phase::Succeeded
            })
            .await;
    }
    println!("patch to all Succeeded: {:?}", patched.elapsed());
    settle(&scene, &names, Phase::Succeeded).await;
    let after = requests(&operator).await;
    for (what, count) in &after {
        let more = count - before.get(what).copied().unwrap_or_default();
        if more > 0 {
            println!("{what}: {more}");
        }
    }
    let each = (total(&after) - total(&before)).div_ceil(CANARIES as u64);
    println!(
        "requests per release: {each}; resident: {} KiB",
        operator.resident()
    );
    assert!(each <= MOST_REQUESTS, "{each} requests per release");
}

fn phase(canary: &haldane::api::Canary) -> Phase {
    canary.status.as_ref().map(|s| s.phase).unwrap_or_default()
}

/// Waits until all are in a phase and scaled down: nothing is left to do.
async fn settle(scene: &Scene, names: &[String], wanted: Phase) {
    for name in names {
        scene
            .becomes(name, &format!("is {wanted} and scaled down"), |canary| {
                let status = canary.status.as_ref();
                phase(canary) == wanted && status.is_some_and(|s| s.scaled_down == Some(true))
            })
            .await;
    }
}

/// Requests to the API server so far, by what they were.
async fn requests(operator: &Operator) -> BTreeMap<String, u64> {
    operator
        .metrics()
        .await
        .lines()
        .filter_map(|line| line.strip_prefix("haldane_api_requests_total"))
        .filter_map(|line| {
            let (labels, count) = line.rsplit_once(' ')?;
            Some((labels.to_owned(), count.parse().ok()?))
        })
        .collect()
}

fn total(requests: &BTreeMap<String, u64>) -> u64 {
    requests.values().sum()
}

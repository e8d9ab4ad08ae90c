//! Is the API server in memory equal to a real one?
//!
//! A script is a list of requests; earlier answers feed later requests. What a real kube-apiserver answered
//! is recorded in `transcripts/`, normalised so that two runs are equal. The server in memory must answer
//! the same. With `HALDANE_TEST_KUBECONFIG` the scripts also run against that cluster (a control plane
//! without controllers), and with `HALDANE_RECORD=1` its answers become the record.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod normalise;
mod script;
mod transcript;

use haldane::sim::server::ApiServer;
use jiff::Timestamp;
use serde_json::Value;

use script::{Script, run};

fn in_memory() -> ApiServer {
    let server = ApiServer::new(|| Timestamp::from_second(1_800_000_000).unwrap());
    for definition in script::definitions() {
        server.install_crd(definition).unwrap();
    }
    server
}

/// Runs every script of a file, each against a fresh server.
async fn answers_in_memory(scripts: &[Script]) -> Vec<(String, Vec<Value>)> {
    let runs = scripts.iter().map(|script| async move {
        let server = in_memory();
        let steps = run(script, &server.client(), "space").await;
        (script.name.clone(), steps)
    });
    futures::future::join_all(runs).await
}

#[tokio::test]
async fn server_in_memory_answers_as_the_recorded_one() {
    let mut differences = Vec::new();
    let mut compared = 0;
    for (file, scripts) in script::all() {
        let recorded = transcript::read(&file);
        let known = transcript::deviations();
        for (name, steps) in answers_in_memory(&scripts).await {
            let wanted = recorded
                .get(&name)
                .unwrap_or_else(|| panic!("{file}: {name}: no record"));
            compared += 1;
            let found = transcript::difference(wanted, &steps);
            match (found, known.contains_key(&name)) {
                (None, true) => {
                    differences.push(format!("{file}: {name}: listed as a deviation but equal"))
                }
                (Some(text), false) => differences.push(format!("{file}: {name}: {text}")),
                (None, false) | (Some(_), true) => {}
            }
        }
    }
    let count = differences.len();
    assert!(
        differences.is_empty(),
        "{count} of {compared} scripts differ:\n{}",
        differences.join("\n")
    );
}

#[tokio::test]
#[ignore = "needs a cluster (HALDANE_TEST_KUBECONFIG)"]
async fn recorded_answers_are_those_of_a_real_server() {
    let client = script::real_client().await;
    let run_id = std::process::id();
    let mut differences = Vec::new();
    for (file, scripts) in script::all() {
        let mut answers = Vec::new();
        for (index, script) in scripts.iter().enumerate() {
            let space = format!("t{run_id}-{}-{index}", file.replace('_', "-"));
            answers.push((script.name.clone(), run(script, &client, &space).await));
        }
        if std::env::var("HALDANE_RECORD").is_ok() {
            transcript::write(&file, &answers);
            continue;
        }
        let recorded = transcript::read(&file);
        for (name, steps) in answers {
            if let Some(text) = transcript::difference(&recorded[&name], &steps) {
                differences.push(format!("{file}: {name}: {text}"));
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

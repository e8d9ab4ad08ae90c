//! Is the API server in memory equal to a real one?
//!
//! A script is a list of requests; earlier answers feed later requests. What a real kube-apiserver answered
//! is recorded in `transcripts/`, normalised so that two runs are equal. The server in memory must answer
//! the same. Of scripts made by chance, only digests of the answers are kept, one a step.
//!
//! With `HALDANE_TEST_KUBECONFIG` the scripts also run against that server (`control-plane.sh up DIR
//! --bare`), and with `HALDANE_RECORD=1` its answers become the record. Which of the scripts made by chance:
//! `HALDANE_SEQUENCES` says how many, `HALDANE_FIRST_SEED` from which on, `HALDANE_KIND` of what. With
//! `HALDANE_TEST_CRDS`, a folder, a server that holds nothing yet gets routes as their projects publish them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::float_cmp,
    missing_docs
)]

mod generated;
mod normalise;
mod prometheus;
mod script;
mod transcript;

use std::slice;

use futures::StreamExt;
use haldane::sim::server::{ApiServer, Defect};
use jiff::Timestamp;
use serde_json::Value;

use script::{Script, Server, run};

/// Scripts that run against a real server at once, each in a namespace of its own.
const AT_ONCE: usize = 32;

/// A server with the custom resources that a script uses.
fn in_memory(script: &Script) -> ApiServer {
    let server = ApiServer::new(|| Timestamp::from_second(1_800_000_000).unwrap());
    for definition in script::definitions() {
        let plural = definition["spec"]["names"]["plural"].as_str().unwrap();
        if script
            .steps
            .iter()
            .any(|step| step.request.contains(plural))
        {
            server.install_crd(definition.clone()).unwrap();
        }
    }
    server
}

/// Runs every script of a file, each against a fresh server.
async fn answers_in_memory(
    scripts: &[Script],
    defect: Option<Defect>,
) -> Vec<(String, Vec<Value>)> {
    let runs = scripts.iter().map(|script| async move {
        let server = in_memory(script);
        if let Some(defect) = defect {
            server.plant(defect);
        }
        let steps = run(script, &Server::Memory(server), "t0-memory").await;
        (script.name.clone(), steps)
    });
    futures::future::join_all(runs).await
}

#[tokio::test(start_paused = true)]
async fn server_in_memory_answers_as_the_recorded_one() {
    let mut differences = Vec::new();
    let mut compared = 0;
    for (file, scripts) in script::all() {
        let recorded = transcript::read(&file);
        let known = transcript::deviations();
        for (name, steps) in answers_in_memory(&scripts, None).await {
            let wanted = recorded
                .get(&name)
                .unwrap_or_else(|| panic!("{file}: {name}: no record"));
            compared += 1;
            let found = transcript::difference(wanted, &steps);
            match (found, known.contains_key(&name)) {
                (None, true) => {
                    differences.push(format!("{file}: {name}: listed as a deviation but equal"));
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

/// Generated scripts whose answers are recorded, by seed, and the requests of each.
const SEEDS: u64 = 2000;
const LENGTH: usize = 30;

#[tokio::test(start_paused = true)]
async fn generated_scripts_are_answered_as_recorded() {
    let recorded = transcript::read_digests();
    assert_eq!(recorded.len() as u64, SEEDS);
    let mut differences = Vec::new();
    for (seed, recorded) in (0..SEEDS).zip(&recorded) {
        let script = generated::script(seed, LENGTH);
        let (name, steps) = answers_in_memory(slice::from_ref(&script), None)
            .await
            .remove(0);
        if let Some(step) = transcript::first_unlike(recorded, &steps) {
            let request = &script.steps[step].request;
            differences.push(format!("{name}: step {step}: {request}: {}", steps[step]));
        }
    }
    let count = differences.len();
    assert!(
        differences.is_empty(),
        "{count} differ from the real server, which HALDANE_TEST_KUBECONFIG shows side by side:\n{}",
        differences.join("\n")
    );
}

#[tokio::test]
#[ignore = "needs a cluster (HALDANE_TEST_KUBECONFIG)"]
async fn generated_scripts_are_answered_as_by_a_real_server() {
    let server = &Server::Real(script::real_client().await);
    let run_id = std::process::id();
    let number = |name: &str| std::env::var(name).map(|number| number.parse::<u64>().unwrap());
    let record = std::env::var("HALDANE_RECORD").is_ok();
    let first = number("HALDANE_FIRST_SEED").unwrap_or(0);
    let usual = if record { SEEDS } else { 200 };
    let count = number("HALDANE_SEQUENCES").unwrap_or(usual);
    let kind = std::env::var("HALDANE_KIND").unwrap_or_default();
    let scripts = (first..first + count).map(|seed| (seed, generated::script(seed, LENGTH)));
    let runs = scripts
        .filter(|(_, script)| script.name.ends_with(&kind))
        .map(|(seed, script)| async move {
            let real = run(&script, server, &format!("t{run_id}-seed-{seed}")).await;
            let (name, found) = answers_in_memory(slice::from_ref(&script), None)
                .await
                .remove(0);
            let difference = transcript::difference(&real, &found);
            let difference = difference.map(|text| format!("{name}: {text}"));
            ((seed, transcript::digests(&real)), difference)
        });
    let (digests, differences): (Vec<_>, Vec<_>) = futures::stream::iter(runs)
        .buffered(AT_ONCE)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .unzip();
    if record {
        transcript::write_digests(digests);
    }
    let differences: Vec<String> = differences.into_iter().flatten().collect();
    let total = differences.len();
    assert!(
        differences.is_empty(),
        "{total} of {count} differ:\n{}",
        differences.join("\n")
    );
}

/// True when some recorded answer tells the broken server from the real one.
async fn is_noticed(defect: Defect) -> bool {
    for (file, scripts) in script::all() {
        let recorded = transcript::read(&file);
        let known = transcript::deviations();
        for (name, steps) in answers_in_memory(&scripts, Some(defect)).await {
            if !known.contains_key(&name)
                && transcript::difference(&recorded[&name], &steps).is_some()
            {
                return true;
            }
        }
    }
    false
}

#[tokio::test(start_paused = true)]
async fn every_planted_defect_is_noticed() {
    let found = futures::future::join_all(Defect::ALL.map(is_noticed)).await;
    let missed: Vec<Defect> = Defect::ALL
        .into_iter()
        .zip(found)
        .filter_map(|(defect, noticed)| (!noticed).then_some(defect))
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

#[tokio::test]
#[ignore = "needs a cluster (HALDANE_TEST_KUBECONFIG)"]
async fn recorded_answers_are_those_of_a_real_server() {
    let server = &Server::Real(script::real_client().await);
    let run_id = std::process::id();
    let mut differences = Vec::new();
    for (file, scripts) in script::all() {
        let runs = scripts.iter().enumerate().map(|(index, script)| {
            let space = format!("t{run_id}-{}-{index}", file.replace('_', "-"));
            async move { (script.name.clone(), run(script, server, &space).await) }
        });
        let answers: Vec<_> = futures::stream::iter(runs)
            .buffered(AT_ONCE)
            .collect()
            .await;
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

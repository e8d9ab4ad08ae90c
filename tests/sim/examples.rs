//! Every example file, tried under the scenario of a good new version.

use std::{collections::BTreeMap, fs, path::Path, thread};

use haldane::sim::{
    Scenario, manifests,
    rollout::{Recording, Release, RolloutError, Verdict, perform},
};
use serde_json::{Value, json};

/// What each example comes to; those that release a Service cannot be tried.
const OUTCOMES: [(&str, Option<Verdict>); 25] = {
    const PROMOTED: Option<Verdict> = Some(Verdict::Promoted);
    [
        ("gatewayapi/canary.yaml", PROMOTED),
        ("gatewayapi/session-affinity.yaml", PROMOTED),
        ("istio/ab-testing.yaml", PROMOTED),
        ("istio/alerts.yaml", PROMOTED),
        ("istio/blue-green.yaml", PROMOTED),
        ("istio/canary.yaml", PROMOTED),
        ("istio/daemonset.yaml", PROMOTED),
        ("istio/gates.yaml", PROMOTED),
        ("istio/hpa.yaml", PROMOTED),
        ("istio/judge.yaml", PROMOTED),
        ("istio/keda.yaml", PROMOTED),
        ("istio/manual.yaml", PROMOTED),
        ("istio/metric-template.yaml", PROMOTED),
        ("istio/mirroring.yaml", PROMOTED),
        ("istio/service.yaml", None),
        ("istio/session-affinity.yaml", PROMOTED),
        ("istio/step-weights.yaml", PROMOTED),
        ("kubernetes/alerts.yaml", PROMOTED),
        ("kubernetes/blue-green.yaml", PROMOTED),
        ("kubernetes/daemonset.yaml", PROMOTED),
        ("kubernetes/gates.yaml", PROMOTED),
        ("kubernetes/hpa.yaml", PROMOTED),
        ("kubernetes/keda.yaml", PROMOTED),
        ("kubernetes/manual.yaml", PROMOTED),
        ("kubernetes/metric-template.yaml", PROMOTED),
    ]
};

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"))
}

/// The release of an example's Canary.
pub fn release(file: &str, scenario: Scenario) -> Release {
    let text = fs::read_to_string(folder().join(file)).unwrap();
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    for object in &mut objects {
        object["metadata"]["namespace"] = json!("default");
        let (version, kind) = (object["apiVersion"].as_str(), object["kind"].as_str());
        assert!(
            manifests::is_known(version.unwrap(), kind.unwrap()),
            "{file}: {kind:?}"
        );
    }
    objects.sort_by_key(|object| object["kind"] == "Canary");
    let canary = objects.last().unwrap()["metadata"]["name"]
        .as_str()
        .unwrap()
        .to_owned();
    Release::new(objects, ("default", &canary), scenario)
}

#[test]
fn table_names_every_example() {
    let mut found = Vec::new();
    for part in ["gatewayapi", "istio", "kubernetes"] {
        for file in fs::read_dir(folder().join(part)).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            found.push(format!("{part}/{name}"));
        }
    }
    found.sort();
    assert_eq!(found, OUTCOMES.map(|(file, _)| file));
}

#[test]
fn example_with_a_good_version_comes_to_what_the_table_says() {
    let outcome = |(file, wanted): (&str, Option<Verdict>)| {
        let tried = perform(&release(file, Scenario::default()));
        let fault = match (tried, wanted) {
            (Ok(recording), Some(wanted)) => fault(&recording, wanted),
            (Err(RolloutError::NoPods(_)), None) => None,
            (Ok(recording), None) => Some(format!("{:?}", recording.verdict)),
            (Err(error), _) => Some(error.to_string()),
        };
        fault.map(|fault| format!("{file}: {fault}"))
    };
    let faults: Vec<String> = thread::scope(|scope| {
        let (left, right) = OUTCOMES.split_at(OUTCOMES.len() / 2);
        let runs = [left, right].map(|part| {
            scope.spawn(move || part.iter().copied().filter_map(outcome).collect::<Vec<_>>())
        });
        runs.into_iter()
            .flat_map(|run| run.join().unwrap())
            .collect()
    });
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// What is wrong with a release that should have ended so. The operator never asks for more than the
/// chart's roles give it, and is never refused.
fn fault(recording: &Recording, wanted: Verdict) -> Option<String> {
    let Recording {
        verdict,
        figures,
        refusals,
        ..
    } = recording;
    if *verdict != wanted {
        return Some(format!("{verdict:?}: {:?}", figures.reason));
    }
    if figures.dropped > 0 {
        return Some(format!("{} requests reached no pod", figures.dropped));
    }
    let allowed = BTreeMap::from([(409, 0)]);
    let refused = refusals.keys().find(|code| !allowed.contains_key(code));
    refused.map(|_| format!("refused: {refusals:?}"))
}

//! Specs that are wrong, absurd or hostile, at any moment of a release: nothing panics, no request
//! is lost, nothing unproven is promoted, and with the old spec back the release ends.

use std::sync::Mutex;

use haldane::{controller::Decider, sim::Dice};
use serde_json::{Value, json};

use crate::{
    flow::{Deed, Flow},
    schedule::on_all_cores,
    trial::try_out,
};

/// Changes of a Canary's spec that nobody should make.
fn misoperations() -> Vec<Value> {
    let mut all = vec![
        json!({"targetRef": {"name": "nobody"}}),
        json!({"targetRef": {"name": "shop-primary"}}),
        json!({"targetRef": {"kind": "StatefulSet"}}),
        json!({"targetRef": {"kind": "Service"}}),
        json!({"targetRef": {"apiVersion": "v1"}}),
        json!({"targetRef": {"name": ""}}),
        json!({"targetRef": {"name": "x".repeat(4_000)}}),
        json!({"targetRef": null}),
        json!({"provider": "nobody"}),
        json!({"provider": "kubernetes"}),
        json!({"provider": "gatewayapi:v1"}),
        json!({"provider": null}),
        json!({"autoscalerRef": {"apiVersion": "autoscaling/v2",
            "kind": "HorizontalPodAutoscaler", "name": "nobody"}}),
        json!({"autoscalerRef": {"apiVersion": "keda.sh/v1alpha1",
            "kind": "ScaledObject", "name": "nobody"}}),
        json!({"progressDeadlineSeconds": 0}),
        json!({"progressDeadlineSeconds": -1}),
        json!({"progressDeadlineSeconds": i32::MAX}),
        json!({"metricsServer": "not an address"}),
        json!({"metricsServer": "file:///etc/passwd"}),
        json!({"skipAnalysis": true}),
        json!({"suspend": true}),
        json!({"revertOnDeletion": true}),
        json!({"analysis": null}),
        json!({"service": null}),
    ];
    all.extend(numbers());
    all.extend(times());
    all.extend(checks());
    all.extend(services());
    all
}

fn analysis(change: &Value) -> Value {
    json!({ "analysis": change })
}

fn metric(metric: &Value) -> Value {
    json!({"analysis": {"metrics": [metric]}})
}

fn hook(hook: &Value) -> Value {
    json!({"analysis": {"webhooks": [hook]}})
}

fn numbers() -> Vec<Value> {
    let mut all = Vec::new();
    for value in [
        json!(0),
        json!(-1),
        json!(1),
        json!(101),
        json!(i32::MAX),
        json!(i32::MIN),
        json!(1.5),
        json!("25"),
        Value::Null,
    ] {
        for field in [
            "stepWeight",
            "maxWeight",
            "threshold",
            "iterations",
            "stepWeightPromotion",
            "mirrorWeight",
            "primaryReadyThreshold",
            "canaryReadyThreshold",
        ] {
            all.push(analysis(&json!({ field: value })));
        }
    }
    for value in [
        json!([]),
        json!([0]),
        json!([100, 1]),
        json!([50, 50]),
        json!([-5, 105]),
        json!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
        json!([i32::MAX]),
    ] {
        all.push(analysis(&json!({ "stepWeights": value })));
    }
    all
}

fn times() -> Vec<Value> {
    let mut all = Vec::new();
    for value in [
        "",
        "0s",
        "1s",
        "-10s",
        "1e9h",
        "9223372036854775807s",
        "10",
        "10s\n",
        "１０s",
    ] {
        all.push(analysis(&json!({ "interval": value })));
        all.push(metric(
            &json!({"name": "request-success-rate", "interval": value,
            "thresholdRange": {"min": 99}}),
        ));
        all.push(hook(
            &json!({"name": "h", "type": "rollout", "url": "http://gate.test/",
            "timeout": value}),
        ));
    }
    all
}

fn checks() -> Vec<Value> {
    let range = json!({"max": 1});
    vec![
        metric(&json!({"name": "nobody", "interval": "1m", "thresholdRange": range})),
        metric(&json!({"name": "m", "templateRef": {"name": "nobody"}, "interval": "1m"})),
        metric(&json!({"name": "m", "query": "sum(", "interval": "1m", "thresholdRange": range})),
        metric(
            &json!({"name": "m", "query": "{{ .Nope }}", "interval": "1m",
            "thresholdRange": range}),
        ),
        metric(
            &json!({"name": "m", "query": "vector(0)/0", "interval": "1m",
            "thresholdRange": range}),
        ),
        metric(&json!({"name": "request-duration", "interval": "1m",
            "thresholdRange": {"min": 1e308, "max": -1e308}})),
        metric(&json!({"name": "request-success-rate", "interval": "1m"})),
        hook(&json!({"name": "h", "type": "rollout", "url": "::::"})),
        hook(&json!({"name": "h", "type": "nobody", "url": "http://gate.test/"})),
        hook(
            &json!({"name": "h", "type": "rollout", "url": "http://gate.test/",
            "retries": i32::MAX}),
        ),
        hook(&json!({"name": "", "url": ""})),
        analysis(&json!({"alerts": [{"name": "a", "providerRef": {"name": "nobody"}}]})),
        analysis(&json!({"sessionAffinity": {"cookieName": ""}})),
        analysis(&json!({"sessionAffinity": {"cookieName": "a b;c", "maxAge": -1}})),
        analysis(&json!({"mirror": true})),
        analysis(&json!({"match": [], "iterations": 2})),
        analysis(&json!({"match": [{"headers": {"x": {"regex": "("}}}], "iterations": 2})),
        analysis(&json!({"match": [{"headers": {"": {"exact": ""}}}], "iterations": 2})),
    ]
}

fn services() -> Vec<Value> {
    [
        json!({"port": 0}),
        json!({"port": 70000}),
        json!({"targetPort": "nobody"}),
        json!({"name": "UPPER CASE"}),
        json!({"portDiscovery": true}),
        json!({"hosts": ["", "*", "x".repeat(4_000)]}),
        json!({"gateways": ["nobody/nothing"]}),
        json!({"delegation": true, "hosts": ["app.example.com"]}),
        json!({"rewrite": {"uri": "("}}),
        json!({"retries": {"attempts": -1, "perTryTimeout": "soon"}}),
        json!({"timeout": "never"}),
        json!({"appProtocol": "tcp"}),
        json!({"trafficPolicy": {"loadBalancer": {"simple": "NOBODY"}}}),
        json!({"headers": {"request": {"add": {"": ""}}}}),
        json!({"apex": {"labels": {"": ""}, "annotations": {"a b": "c"}}}),
        json!({"match": [{"uri": {"regex": "("}}]}),
        // It fits what users ask for: whom a valid condition leaves out, its author leaves out.
        json!({"match": [{"uri": {"regex": "(/+[a-z]*)+$"}}]}),
    ]
    .map(|change| json!({ "service": change }))
    .to_vec()
}

/// A release in which the spec becomes something else at some moment, and half a minute later is
/// again what it was.
fn misused(seed: u64, wrongs: &[Value]) -> (Flow, Vec<Value>) {
    let mut dice = Dice::new(seed);
    let mut below = |n: usize| usize::try_from(dice.roll() % n as u64).unwrap();
    let bases = [
        "canary",
        "blue-green",
        "mirror",
        "return-in-steps",
        "affinity",
    ];
    let mut flow = Flow::named(bases[below(bases.len())]);
    (flow.planned, flow.may_fail) = (false, true);
    // Another target is another revision.
    flow.runs = usize::MAX;
    let proper = flow.manifests[1]["spec"].clone();
    let made: Vec<Value> = (0..=below(2))
        .map(|_| wrongs[below(wrongs.len())].clone())
        .collect();
    let wrong = made.iter().map(|wrong| {
        let patch = json!({ "spec": wrong });
        (5, Deed::Edit("flagger.app", "canaries", "shop", patch))
    });
    let mut deeds: Vec<(u64, Deed)> = wrong.collect();
    deeds.push((30, Deed::Restore(proper)));
    flow.insert(below(4), deeds);
    (flow, made)
}

#[test]
fn hostile_spec_within_a_release_harms_nobody() {
    let wrongs = misoperations();
    let asked = std::env::var("HALDANE_FAULT_RUNS").ok();
    let runs: Option<u64> = asked.and_then(|text| text.parse().ok());
    let seeds: Vec<u64> =
        (1..=runs.map_or(20, |runs| (runs / 8).min(165).max(runs / 40))).collect();
    let found = Mutex::new(Vec::new());
    on_all_cores(&seeds, |seed| {
        let (flow, made) = misused(*seed, &wrongs);
        let trial = try_out(&flow, &[], *seed, &Decider::default());
        if let Some(violation) = trial.violation {
            let text = format!("seed {seed}, {}, {made:?}: {violation:?}", flow.name);
            found.lock().unwrap().push(text);
        }
    });
    let found = found.into_inner().unwrap();
    println!(
        "{} misoperations, {} releases, {} wrong",
        wrongs.len(),
        seeds.len(),
        found.len()
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}

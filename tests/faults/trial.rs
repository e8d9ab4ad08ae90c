//! One release in a world with faults, judged after every write.

use std::{sync::Arc, time::Duration};

use haldane::{
    api::Phase,
    controller::Decider,
    route::Request,
    sim::{
        Options, Scenario, World, behaviour::Behaviour, crash::EndState, manifests, run,
        traffic::Application,
    },
};
use serde_json::{Value, json};

use crate::{
    chaos::{Chaos, Fault},
    invariants::{Checker, Violation},
};

/// The apex is new: users know it only when proxies have followed its bootstrap.
const PROXIES: Duration = Duration::from_secs(3);

/// What is released, and what may come of it.
#[derive(Clone)]
pub struct Flow {
    pub name: &'static str,
    pub manifests: Vec<Value>,
    pub first: &'static str,
    /// Images, each pushed when the Canary has this phase and weight.
    pub pushes: Vec<(Phase, i64, &'static str)>,
    pub bad: Vec<&'static str>,
    pub steps: Vec<i64>,
    /// Most that the canary may ever get, in percent.
    pub most: i64,
    pub runs: usize,
    pub end: Phase,
    pub interval: Duration,
    pub drain: Duration,
    pub outage: bool,
}

impl Flow {
    fn new(name: &'static str, analysis: &Value, steps: &[i64]) -> Self {
        let mut manifests = manifests::application("shop");
        manifests[0]["metadata"]["annotations"] = json!({"team/owner": "shop"});
        let spec = manifests[1]["spec"]["analysis"].as_object_mut().unwrap();
        spec.remove("stepWeight");
        spec.remove("maxWeight");
        spec.insert("interval".to_owned(), json!("10s"));
        for (key, value) in analysis.as_object().unwrap() {
            spec.insert(key.clone(), value.clone());
        }
        Self {
            name,
            manifests,
            first: "shop:1.0",
            pushes: vec![(Phase::Initialized, 0, "shop:1.1")],
            bad: Vec::new(),
            steps: steps.to_vec(),
            most: 100,
            runs: 1,
            end: Phase::Succeeded,
            interval: Duration::from_secs(10),
            drain: Duration::from_secs(10),
            outage: false,
        }
    }

    /// Every flow that is tried.
    pub fn all() -> Vec<Self> {
        let canary = json!({"stepWeight": 25, "maxWeight": 50});
        let insiders = json!([{"headers": {"x-canary": {"exact": "insider"}}}]);
        let with = |name, more: Value, steps: &[i64]| {
            let mut analysis = canary.clone();
            for (key, value) in more.as_object().unwrap() {
                analysis[key] = value.clone();
            }
            Self::new(name, &analysis, steps)
        };
        let mut flows = vec![
            with("canary", json!({}), &[25, 50]),
            Self::new("step-weights", &json!({"stepWeights": [10, 40]}), &[10, 40]),
            with(
                "return-in-steps",
                json!({"stepWeightPromotion": 25}),
                &[25, 50],
            ),
            with(
                "affinity",
                json!({"sessionAffinity": {"cookieName": "v"}}),
                &[25, 50],
            ),
            with("mirror", json!({"mirror": true}), &[25, 50]),
            Self::new(
                "blue-green",
                &json!({"iterations": 2, "mirror": true}),
                &[100],
            ),
            Self::new("ab", &json!({"iterations": 2, "match": insiders}), &[100]),
        ];
        let mut bad = with("rollback", json!({}), &[25, 50]);
        bad.pushes = vec![(Phase::Initialized, 0, "shop:bad")];
        (bad.bad, bad.end) = (vec!["shop:bad"], Phase::Failed);
        // The start needs no metrics; the first step does.
        bad.most = 25;
        flows.push(bad.clone());
        let mut outage = with("no-metrics", json!({}), &[25, 50]);
        (outage.outage, outage.end, outage.most, outage.bad) =
            (true, Phase::Failed, 25, vec!["shop:1.1"]);
        flows.push(outage);
        let mut newer = with("newer", json!({}), &[25, 50]);
        newer.pushes.push((Phase::Progressing, 25, "shop:1.2"));
        newer.runs = 2;
        flows.push(newer);
        let mut fixed = bad;
        fixed.name = "fixed-after-rollback";
        fixed.pushes.push((Phase::Failed, 0, "shop:1.2"));
        (fixed.runs, fixed.end, fixed.most) = (2, Phase::Succeeded, 100);
        flows.push(fixed);
        flows
    }

    pub fn named(name: &str) -> Self {
        Self::all()
            .into_iter()
            .find(|flow| flow.name == name)
            .unwrap()
    }
}

/// What came of a trial.
#[derive(Debug)]
pub struct Trial {
    pub violation: Option<Violation>,
    pub end: EndState,
    pub calls: u64,
    pub events: u64,
    pub sites: Vec<String>,
    pub seconds: u64,
}

/// Tries a flow under faults.
pub fn try_out(flow: &Flow, faults: &[Fault], seed: u64, decider: &Decider) -> Trial {
    run(|| trial(flow, faults, seed, decider.clone())).unwrap()
}

#[allow(clippy::too_many_lines, reason = "one story, told in order")]
async fn trial(flow: &Flow, faults: &[Fault], seed: u64, decider: Decider) -> Trial {
    let mut options = Options {
        decider,
        ..Options::default()
    };
    options.settings.drain = flow.drain;
    let mut scenario = Scenario::default();
    if flow.outage {
        scenario.outside.outages = vec![(0.0, 1e9)];
    }
    options.scenario = scenario;
    let mut world = World::new(seed, options).unwrap();
    let chaos = Arc::new(Chaos::new(
        Arc::clone(world.gate()),
        world.server().clone(),
        faults.to_vec(),
    ));
    world.server().intercept(chaos.clone());
    let good = Behaviour {
        error_percent: 0.0,
        ..Behaviour::default()
    };
    for image in ["shop:1.0", "shop:1.1", "shop:1.2"] {
        world.set_behaviour(image, good.clone());
    }
    world.set_behaviour(
        "shop:bad",
        Behaviour {
            error_percent: 60.0,
            ..good
        },
    );
    for manifest in &flow.manifests {
        world.apply(manifest.clone()).unwrap();
    }
    let mut checker = Checker::new(flow);
    let (mut initialized, mut opened) = (None, None);
    let mut pushes = flow.pushes.iter();
    let mut next = pushes.next();
    let mut written = (0, Duration::ZERO);
    let rest = flow.drain + Duration::from_secs(45);
    world
        .run_until(
            |world| {
                checker.look(world, &chaos, flow);
                let status = world
                    .server()
                    .get("flagger.app", "canaries", "default", "shop");
                let status = status.map_or(Value::Null, |canary| canary.value()["status"].clone());
                let phase = status["phase"].as_str().unwrap_or_default();
                if phase == "Initialized" {
                    initialized.get_or_insert_with(|| world.elapsed());
                }
                if opened.is_none() && initialized.is_some_and(|at| world.elapsed() > at + PROXIES)
                {
                    opened = Some(world.elapsed());
                    world.traffic().open(Application {
                        sticky: false,
                        namespace: "default".to_owned(),
                        host: "shop".to_owned(),
                        requests_per_second: 12,
                        special: vec![(30.0, Request::get("/").with_header("x-canary", "insider"))],
                    });
                }
                let warm = opened.is_some_and(|at| world.elapsed() > at + Duration::from_secs(15));
                if let Some((when, weight, image)) = next
                    && warm
                    && phase == when.as_str()
                    && status["canaryWeight"] == *weight
                {
                    world.surroundings().begin();
                    let template = json!({"spec": {"containers": [{
                        "name": "app", "image": image,
                        "ports": [{"name": "http", "containerPort": 8080}],
                    }]}});
                    let patch = json!({"spec": {"template": template}});
                    world
                        .patch(("apps", "deployments"), ("default", "shop"), patch)
                        .unwrap();
                    next = pushes.next();
                    written.1 = world.elapsed();
                }
                let writes = world.gate().writes().len();
                if writes != written.0 {
                    written = (writes, world.elapsed());
                }
                let ended = next.is_none() && phase == flow.end.as_str();
                let quiet = world.elapsed() > written.1 + rest;
                checker.violation.is_some() || (ended && quiet)
            },
            Duration::from_mins(30),
        )
        .await;
    let phase = world.phase("default", "shop");
    checker.ensure(&world, "L1", phase == flow.end, || {
        format!("ends {phase}, not {}", flow.end)
    });
    checker.rest(&world);
    let idle = world.elapsed().saturating_sub(written.1);
    checker.ensure(&world, "L6", idle > rest, || {
        format!("still writes {} requests", written.0)
    });
    Trial {
        violation: checker.violation,
        end: EndState::of(world.server()),
        calls: chaos.calls(),
        events: chaos.events(),
        sites: chaos.sites(),
        seconds: world.elapsed().as_secs(),
    }
}

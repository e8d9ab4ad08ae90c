//! What must hold after every single write of the operator.

use std::collections::BTreeSet;

use haldane::{
    api::{CanaryStatus, Phase},
    object::Kind,
    observe::Snapshot,
    plan::{Answer, Check, Probe},
    route::{Request, istio::eval},
    workload,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::toy::{Toy, image};

/// What a primary runs: image and configuration.
type Release = (String, String);

/// What is remembered to judge a write.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Requests that people made.
    pub requested: BTreeSet<String>,
    /// Another operator began: nothing is known of what it proved.
    pub lenient: bool,
    proven: BTreeSet<Release>,
    run: Option<Timestamp>,
    /// The last step was followed by a check that passed.
    earned: bool,
    last_exposed: Option<Timestamp>,
    before: Option<State>,
}

/// What a write may change.
#[derive(Clone, Debug)]
struct State {
    status: CanaryStatus,
    share: f64,
    matched: f64,
    replicas: i64,
    primary: Option<Release>,
    apex_on_target: bool,
}

impl State {
    fn of(toy: &Toy) -> Self {
        let route = toy.get(Kind::VirtualService, "podinfo");
        let share = |request: &Request| -> f64 {
            eval::shares(route, request)
                .into_iter()
                .filter(|(host, _)| host == "podinfo-canary")
                .map(|(_, share)| share)
                .sum()
        };
        let primary = toy.get(Kind::Deployment, "podinfo-primary");
        Self {
            status: toy.status(),
            share: share(&Request::get("/")),
            matched: share(&Request::get("/").with_header("x-canary", "insider")),
            replicas: toy.replicas("podinfo"),
            primary: primary.is_object().then(|| release(toy, primary)),
            apex_on_target: toy.get(Kind::Service, "podinfo")["spec"]["selector"]
                == json!({"app": "podinfo"}),
        }
    }

    fn exposes_canary(&self) -> bool {
        self.share > 0.0 || self.matched > 0.0 || self.apex_on_target
    }
}

fn release(toy: &Toy, deployment: &Value) -> Release {
    let config = deployment
        .pointer("/spec/template/spec/containers/0/envFrom/0/configMapRef/name")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let data = toy.get(Kind::ConfigMap, config)["data"]["color"].as_str();
    (image(deployment), data.unwrap_or_default().to_owned())
}

fn ensure(holds: bool, violation: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(violation()) }
}

fn is_running(phase: Phase) -> bool {
    matches!(phase, Phase::Progressing | Phase::WaitingPromotion)
}

impl Ledger {
    /// Notes what came of a check.
    pub fn note_answer(&mut self, check: &Check, answer: &Answer) {
        let analysed = check
            .stages
            .iter()
            .flatten()
            .any(|probe| matches!(probe, Probe::Metric(_)));
        let complete = answer.stages.len() == check.stages.len();
        let passed = check
            .stages
            .iter()
            .flatten()
            .zip(answer.stages.iter().flatten())
            .all(|(probe, outcome)| !probe.stops(outcome));
        self.earned = analysed && complete && passed;
    }

    pub fn before(&mut self, toy: &Toy) {
        let state = State::of(toy);
        if state.exposes_canary() {
            self.last_exposed = Some(toy.now);
        }
        self.before = Some(state);
    }

    /// Judges the write that was just done.
    pub fn after(&mut self, toy: &Toy, snapshot: &Snapshot) -> Result<(), String> {
        let Some(before) = self.before.take() else {
            return Ok(());
        };
        let after = State::of(toy);
        weights_add_up(toy)?;
        traffic_has_capacity(toy, &before, &after)?;
        self.capacity_outlives_traffic(toy, &before, &after)?;
        self.share_is_earned(toy, snapshot, &before.status, &after)?;
        self.primary_is_proven(&before, &after)?;
        ensure(
            after.share <= f64::from(after.status.canary_weight) || after.share <= before.share,
            || {
                format!(
                    "T5: the route gives {} %, the status {}",
                    after.share, after.status.canary_weight
                )
            },
        )
    }

    /// T4: capacity goes only some time after its traffic.
    fn capacity_outlives_traffic(
        &self,
        toy: &Toy,
        before: &State,
        after: &State,
    ) -> Result<(), String> {
        if before.replicas == 0 || after.replicas > 0 {
            return Ok(());
        }
        ensure(!after.exposes_canary(), || {
            "T4: scaled to zero while routed".to_owned()
        })?;
        let drained = self
            .last_exposed
            .is_none_or(|last| toy.now.duration_since(last).unsigned_abs() >= toy.settings.drain);
        ensure(drained, || {
            "T4: scaled to zero before traffic drained".to_owned()
        })?;
        ensure(
            toy.workloads.ready(&toy.objects, "podinfo-primary", None) > 0,
            || "T4: scaled to zero while the primary serves nobody".to_owned(),
        )
    }

    /// T5, R3: each step was earned by a check; a failed revision is not retried by itself.
    fn share_is_earned(
        &mut self,
        toy: &Toy,
        snapshot: &Snapshot,
        old: &CanaryStatus,
        after: &State,
    ) -> Result<(), String> {
        let new = &after.status;
        if old == new {
            return Ok(());
        }
        let same_run = old.run_time.is_some() && old.run_time == new.run_time;
        if new.run_time != self.run {
            self.run = new.run_time;
            self.earned = false;
        }
        let skips = snapshot.canary.spec.skip_analysis.unwrap_or_default()
            || self.requested.contains("promote");
        if same_run && is_running(old.phase) && is_running(new.phase) {
            ensure(new.canary_weight >= old.canary_weight, || {
                "T5: the weight fell within a run".to_owned()
            })?;
            let steps = new.step.unwrap_or_default() - old.step.unwrap_or_default();
            ensure((0..=1).contains(&steps), || {
                format!("T5: {steps} steps at once")
            })?;
            ensure(steps == 1 || new.canary_weight == old.canary_weight, || {
                "T5: the weight rose without a step".to_owned()
            })?;
            let free = old.step.unwrap_or_default() == 0 && old.canary_weight == 0;
            ensure(steps == 0 || free || self.earned, || {
                "T5: a step that no check allowed".to_owned()
            })?;
            if steps == 1 {
                self.earned = false;
            }
        }
        if is_running(old.phase) && new.phase == Phase::Promoting {
            let target = snapshot.object(Kind::Deployment, "podinfo").cloned();
            let revision = target.as_ref().map(|target| workload::revision(target));
            ensure(revision == new.last_applied_spec, || {
                "R2: promotes another revision than the status says".to_owned()
            })?;
            ensure(self.earned || skips || self.lenient, || {
                "R1: promotes what no check passed".to_owned()
            })?;
            self.proven
                .insert(release(toy, toy.get(Kind::Deployment, "podinfo")));
        }
        if old.phase == Phase::Failed && new.phase == Phase::Progressing {
            let same = old.last_applied_spec == new.last_applied_spec
                && old.tracked_configs == new.tracked_configs;
            ensure(!same || self.requested.contains("retry"), || {
                "R3: a failed revision is retried".to_owned()
            })?;
        }
        Ok(())
    }

    /// R1, R2: the primary carries what was there at first, or what passed.
    fn primary_is_proven(&mut self, before: &State, after: &State) -> Result<(), String> {
        let Some(primary) = &after.primary else {
            return Ok(());
        };
        if self.lenient {
            return Ok(());
        }
        if matches!(after.status.phase, Phase::New | Phase::Initializing) {
            self.proven.insert(primary.clone());
        }
        // A copy is written before the template that makes pods read it.
        let same_pods = before.primary.as_ref().is_some_and(|p| p.0 == primary.0);
        ensure(same_pods || self.proven.contains(primary), || {
            format!(
                "R1: the primary gets {primary:?}, proven is {:?}",
                self.proven
            )
        })
    }
}

/// T1: weights of a rule are 0 to 100 and sum to 100.
fn weights_add_up(toy: &Toy) -> Result<(), String> {
    let route = toy.get(Kind::VirtualService, "podinfo");
    for rule in route["spec"]["http"].as_array().into_iter().flatten() {
        let weights: Vec<i64> = rule["route"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|to| to["weight"].as_i64().unwrap_or(-1))
            .collect();
        let fits =
            weights.iter().all(|w| (0..=100).contains(w)) && weights.iter().sum::<i64>() == 100;
        ensure(fits, || format!("T1: weights {weights:?}"))?;
    }
    Ok(())
}

/// T2: who gets more traffic has ready endpoints of the wanted revision.
fn traffic_has_capacity(toy: &Toy, before: &State, after: &State) -> Result<(), String> {
    let image = toy.image("podinfo");
    let canary = toy
        .workloads
        .ready(&toy.objects, "podinfo-canary", Some(&image));
    let any_canary = toy.workloads.ready(&toy.objects, "podinfo-canary", None);
    let primary = toy.workloads.ready(&toy.objects, "podinfo-primary", None);
    let more = after.share > before.share || after.matched > before.matched;
    ensure(!more || canary > 0, || {
        "T2: traffic to a canary without pods".to_owned()
    })?;
    let back = after.share < before.share
        || after.matched < before.matched
        || (before.apex_on_target && !after.apex_on_target);
    ensure(!back || primary > 0 || any_canary == 0, || {
        "T2: traffic to a primary without pods".to_owned()
    })
}

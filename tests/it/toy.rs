//! A cluster as JSON objects on a virtual clock, and an operator that looks only when something
//! changed or a plan asked to be woken.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use haldane::{
    api::{CanaryStatus, HookType, Phase, REQUEST, status::Notice},
    decide::decide,
    object::{Key, Kind, Object, merge_diff},
    observe::{self, CheckState, Config, Snapshot},
    plan::{Answer, Check, ConfigCopy, Effect, Outcome, Plan, Probe},
    settings::Settings,
    workload,
};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{invariants::Ledger, kubernetes::Workloads};

/// How metrics answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metrics {
    Pass,
    Fail,
    NoData,
    Unavailable,
    /// The answer does not come.
    Never,
}

/// Why a plan was not carried out to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    Conflict,
    Crash,
}

#[derive(Clone)]
pub struct Toy {
    pub now: Timestamp,
    pub settings: Arc<Settings>,
    pub objects: BTreeMap<Key, Value>,
    pub workloads: Workloads,
    pub metrics: Metrics,
    /// Hooks that answer other than usual: gates that are closed, rollback hooks that agree.
    pub flipped: BTreeSet<String>,
    /// Kinds that the server does not have.
    pub missing_apis: BTreeSet<Kind>,
    pub ledger: Ledger,
    /// Writes of the operator so far.
    pub writes: usize,
    /// Let the operator die before its n-th write.
    pub dies_before: Option<usize>,
    /// Everything that happened, for people.
    pub log: Vec<String>,
    pub notices: Vec<Notice>,
    checks: BTreeMap<String, CheckState>,
    asked: BTreeMap<String, Check>,
    quiet_since: Option<Timestamp>,
    wake: Option<Timestamp>,
    dirty: bool,
    version: u64,
}

impl Toy {
    pub fn new() -> Self {
        Self {
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            settings: Arc::new(Settings::default()),
            objects: BTreeMap::new(),
            workloads: Workloads::default(),
            metrics: Metrics::Pass,
            flipped: BTreeSet::new(),
            missing_apis: BTreeSet::new(),
            ledger: Ledger::default(),
            writes: 0,
            dies_before: None,
            log: Vec::new(),
            notices: Vec::new(),
            checks: BTreeMap::new(),
            asked: BTreeMap::new(),
            quiet_since: None,
            wake: None,
            dirty: true,
            version: 0,
        }
    }

    // What the API server does.

    /// Creates or replaces an object, as `kubectl apply` by its owner would.
    pub fn put(&mut self, mut object: Value) {
        let key = key_of(&object);
        if let Some(existing) = self.objects.get(&key) {
            object["metadata"]["uid"] = existing["metadata"]["uid"].clone();
            object["metadata"]["generation"] = existing["metadata"]["generation"].clone();
            object["metadata"]["creationTimestamp"] =
                existing["metadata"]["creationTimestamp"].clone();
            if let Some(status) = existing.get("status") {
                object["status"] = status.clone();
            }
        } else {
            object["metadata"]["uid"] = json!(format!("uid-{}-{}", key.name, self.version));
            object["metadata"]["creationTimestamp"] = json!(self.now.to_string());
        }
        self.store(key, object);
    }

    /// A merge patch by somebody else than the operator.
    pub fn edit(&mut self, kind: Kind, name: &str, patch: &Value) {
        let key = Key::new(kind, "test", name);
        let Some(mut object) = self.objects.get(&key).cloned() else {
            return;
        };
        json_patch::merge(&mut object, patch);
        self.store(key, object);
    }

    /// The server's next release has one more default in pod templates, stored ones too.
    pub fn upgrade_server(&mut self, default: &Value) {
        for (key, object) in &mut self.objects {
            if key.kind == Kind::Deployment {
                json_patch::merge(&mut object["spec"]["template"], default);
            }
        }
        self.workloads.default_templates(default);
        self.note("the server was upgraded".to_owned());
        self.dirty = true;
    }

    pub fn delete(&mut self, kind: Kind, name: &str) {
        self.objects.remove(&Key::new(kind, "test", name));
        self.workloads.forget_gone(&self.objects);
        self.note(format!("{kind} {name} deleted"));
        self.dirty = true;
    }

    fn store(&mut self, key: Key, mut object: Value) {
        let before = self.objects.get(&key);
        if let Some(before) = before
            && changed_part(before, &[]) == changed_part(&object, &[])
        {
            return;
        }
        self.version += 1;
        let generation = before.map_or(0, |o| o["metadata"]["generation"].as_i64().unwrap_or(0));
        let spec_changed = before.is_none_or(|before| {
            changed_part(before, &["status", "metadata"])
                != changed_part(&object, &["status", "metadata"])
        });
        object["metadata"]["generation"] = json!(generation + i64::from(spec_changed));
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(key, object);
        self.dirty = true;
    }

    // What people and time do.

    pub fn push(&mut self, image: &str) {
        self.note(format!("target gets {image}"));
        let containers = json!([{
            "name": "podinfod", "image": image,
            "ports": [{"name": "http", "containerPort": 9898}],
            "envFrom": [{"configMapRef": {"name": "settings"}}],
        }]);
        self.edit(
            Kind::Deployment,
            "podinfo",
            &json!({"spec": {"template": {"spec": {"containers": containers}}}}),
        );
    }

    pub fn edit_spec(&mut self, change: &str) {
        self.note(format!("spec: {change}"));
        let change = crate::fixtures::yaml(change);
        self.edit(Kind::Canary, "podinfo", &json!({ "spec": change }));
    }

    pub fn request(&mut self, request: &str) {
        self.note(format!("request {request}"));
        self.edit(
            Kind::Canary,
            "podinfo",
            &json!({"metadata": {"annotations": {REQUEST: request}}}),
        );
        self.ledger.requested.insert(request.to_owned());
    }

    /// Sets the whole status, as another operator left it.
    pub fn leave_status(&mut self, status: &Value) {
        let key = Key::new(Kind::Canary, "test", "podinfo");
        let mut canary = self.objects[&key].clone();
        canary["status"] = status.clone();
        self.store(key, canary);
    }

    /// Kubernetes alone, without the operator.
    pub fn kubernetes(&mut self, seconds: i64) {
        for _ in 0..seconds {
            self.step_kubernetes();
            self.now += jiff::SignedDuration::from_secs(1);
        }
    }

    /// Virtual time passes; the operator looks when something changed or it asked to be woken.
    pub fn run(&mut self, seconds: i64) {
        self.run_while(seconds, |_| true);
    }

    /// Runs until a condition holds, checked after each look.
    pub fn run_until(&mut self, what: &str, met: impl Fn(&Self) -> bool) {
        self.run_while(3600, |toy| !met(toy));
        assert!(met(self), "never: {what}\n{}", self.story());
    }

    fn run_while(&mut self, seconds: i64, go_on: impl Fn(&Self) -> bool) {
        let end = self.now + jiff::SignedDuration::from_secs(seconds);
        loop {
            self.step_kubernetes();
            let mut looks = 0;
            while self.dirty || self.wake.is_some_and(|wake| wake <= self.now) {
                if !go_on(self) {
                    return;
                }
                self.look();
                self.step_kubernetes();
                looks += 1;
                assert!(
                    looks < 60,
                    "the operator does not come to rest\n{}",
                    self.story()
                );
            }
            if !go_on(self) {
                return;
            }
            let next = [
                self.wake,
                self.workloads.next_event(&self.objects, self.now),
            ]
            .into_iter()
            .flatten()
            .filter(|time| *time > self.now)
            .min();
            match next {
                Some(time) if time <= end => self.now = time,
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
    }

    fn step_kubernetes(&mut self) {
        let now = self.now;
        let mut workloads = std::mem::take(&mut self.workloads);
        for (key, object) in workloads.step(&self.objects, now) {
            self.store(key, object);
        }
        self.workloads = workloads;
        self.collect_garbage();
    }

    /// Objects whose Canary is gone go too.
    fn collect_garbage(&mut self) {
        let key = Key::new(Kind::Canary, "test", "podinfo");
        let Some(canary) = self.objects.get(&key) else {
            return;
        };
        let metadata = &canary["metadata"];
        if metadata["deletionTimestamp"].is_null()
            || metadata["finalizers"]
                .as_array()
                .is_some_and(|f| !f.is_empty())
        {
            return;
        }
        let uid = metadata["uid"].clone();
        self.objects
            .retain(|_, o| o.pointer("/metadata/ownerReferences/0/uid") != Some(&uid));
        self.objects.remove(&key);
        self.workloads.forget_gone(&self.objects);
        self.note("the Canary is gone".to_owned());
        self.dirty = false;
        self.wake = None;
    }

    // What the operator does.

    /// The process ends and another one starts, with nothing in memory.
    pub fn crash(&mut self) {
        self.note("crash".to_owned());
        self.checks.clear();
        self.asked.clear();
        self.quiet_since = None;
        self.wake = None;
        self.dirty = true;
    }

    pub fn snapshot(&self) -> Snapshot {
        let read =
            |key: &Key, value: &Value| Arc::new(Object::read(key.kind, value.clone()).unwrap());
        let objects: BTreeMap<Key, Arc<Object>> = self
            .objects
            .iter()
            .map(|(key, value)| (key.clone(), read(key, value)))
            .collect();
        let canary_key = Key::new(Kind::Canary, "test", "podinfo");
        let canary = observe::canary(&objects[&canary_key]).unwrap();
        let target = objects.get(&Key::new(Kind::Deployment, "test", "podinfo"));
        let configs = target
            .into_iter()
            .flat_map(|target| workload::config_refs(target))
            .filter_map(|reference| {
                let key = Key::new(reference.kind, "test", reference.name);
                let checksum = workload::checksum(self.objects.get(&key)?.get("data")?);
                let object = Arc::clone(&objects[&key]);
                let config = Config {
                    object,
                    checksum: Some(checksum),
                };
                Some((key, config))
            })
            .collect();
        Snapshot {
            now: self.now,
            settings: Arc::clone(&self.settings),
            canary: Arc::new(canary),
            slices: self.workloads.slices(&self.objects),
            replica_sets: self.workloads.replica_sets(&self.objects),
            objects,
            configs,
            templates: BTreeMap::new(),
            providers: Arc::default(),
            missing_apis: self.missing_apis.clone(),
            quiet_since: self.quiet_since,
            rival: None,
            checks: self.checks.clone(),
        }
    }

    /// What the operator would do now.
    pub fn plan(&self) -> Plan {
        decide(&self.snapshot())
    }

    /// One look: observe, decide, apply.
    pub fn look(&mut self) {
        self.dirty = false;
        let snapshot = self.snapshot();
        let plan = decide(&snapshot);
        assert_eq!(plan, decide(&snapshot), "same snapshot, same plan");
        self.quiet_since = plan.quiet.then(|| self.quiet_since.unwrap_or(self.now));
        self.wake = plan.wake;
        if let Err(stop) = self.carry_out(&snapshot, &plan) {
            self.dirty = true;
            if stop == Stop::Crash {
                self.crash();
            }
        }
    }

    fn carry_out(&mut self, snapshot: &Snapshot, plan: &Plan) -> Result<(), Stop> {
        if let Some(status) = &plan.status {
            self.before_write()?;
            let before = snapshot.canary.status.clone().unwrap_or_default();
            let change = merge_diff(&json!(before), &json!(status)).unwrap_or_else(|| json!({}));
            let key = Key::new(Kind::Canary, "test", "podinfo");
            let mut canary = self.objects[&key].clone();
            json_patch::merge(&mut canary, &json!({ "status": change }));
            self.note(format!(
                "status {:?} weight {} iterations {} failed {}",
                status.phase, status.canary_weight, status.iterations, status.failed_checks
            ));
            self.store(key, canary);
            self.after_write(snapshot);
        }
        for notice in &plan.notices {
            self.note(format!("  tells: {}", notice.message));
        }
        self.notices.extend(plan.notices.iter().cloned());
        for effect in &plan.effects {
            self.apply(snapshot, effect)?;
        }
        Ok(())
    }

    fn before_write(&mut self) -> Result<(), Stop> {
        if self.dies_before == Some(self.writes) {
            self.dies_before = None;
            return Err(Stop::Crash);
        }
        self.writes += 1;
        let mut ledger = std::mem::take(&mut self.ledger);
        ledger.before(self);
        self.ledger = ledger;
        Ok(())
    }

    fn after_write(&mut self, snapshot: &Snapshot) {
        let mut ledger = std::mem::take(&mut self.ledger);
        let found = ledger.after(self, snapshot);
        self.ledger = ledger;
        if let Err(violation) = found {
            panic!("{violation}\n{}", self.story());
        }
    }

    fn apply(&mut self, snapshot: &Snapshot, effect: &Effect) -> Result<(), Stop> {
        match effect {
            Effect::Create { want, reason } => {
                self.before_write()?;
                if self.objects.contains_key(&want.key) {
                    return Err(Stop::Conflict);
                }
                self.note(format!("create {}: {reason}", want.key));
                self.put(want.manifest());
            }
            Effect::Patch {
                key,
                patch,
                precondition,
                reason,
            } => {
                self.before_write()?;
                let Some(mut object) = self.objects.get(key).cloned() else {
                    return Err(Stop::Conflict);
                };
                let metadata = &object["metadata"];
                if metadata["uid"] != json!(precondition.uid)
                    || precondition
                        .resource_version
                        .as_ref()
                        .is_some_and(|version| metadata["resourceVersion"] != json!(version))
                {
                    return Err(Stop::Conflict);
                }
                self.note(format!("patch {key}: {reason}: {patch}"));
                json_patch::merge(&mut object, patch);
                self.store(key.clone(), object);
            }
            Effect::CopyConfig(copy) => {
                self.before_write()?;
                self.copy_config(copy)?;
            }
            Effect::Measure(check) => {
                self.note(format!("measure {}", check.id));
                self.checks = BTreeMap::from([(check.id.clone(), CheckState::Pending)]);
                self.asked = BTreeMap::from([(check.id.clone(), check.clone())]);
                self.answer();
                return Ok(());
            }
        }
        self.after_write(snapshot);
        Ok(())
    }

    fn copy_config(&mut self, copy: &ConfigCopy) -> Result<(), Stop> {
        let Some(from) = self.objects.get(&copy.from) else {
            return Err(Stop::Conflict);
        };
        let data = from["data"].clone();
        if copy
            .checksum
            .as_ref()
            .is_some_and(|wanted| workload::checksum(&data) != *wanted)
        {
            return Err(Stop::Conflict);
        }
        self.note(format!("copy {} to {}", copy.from, copy.to.key));
        let mut want = copy.to.clone();
        want.body = json!({ "data": data });
        want.exact = vec!["/data"];
        match self.objects.get(&want.key).cloned() {
            None => self.put(want.manifest()),
            Some(mut existing) => {
                let object = Object::read(want.key.kind, existing.clone()).unwrap();
                if let Some(patch) = want.patch(&object) {
                    json_patch::merge(&mut existing, &patch);
                    self.store(want.key.clone(), existing);
                }
            }
        }
        Ok(())
    }

    /// Answers what was asked, unless answers never come.
    pub fn answer(&mut self) {
        for (id, check) in self.asked.clone() {
            let Some(answer) = self.answer_to(&check) else {
                continue;
            };
            self.ledger.note_answer(&check, &answer);
            self.asked.remove(&id);
            self.checks.insert(id, CheckState::Done(Arc::new(answer)));
            self.dirty = true;
        }
    }

    fn answer_to(&self, check: &Check) -> Option<Answer> {
        let mut stages = Vec::new();
        for stage in &check.stages {
            let outcomes: Vec<Outcome> = stage
                .iter()
                .map(|probe| self.outcome(probe))
                .collect::<Option<_>>()?;
            let stops = stage.iter().zip(&outcomes).any(|(p, o)| p.stops(o));
            stages.push(outcomes);
            if stops {
                break;
            }
        }
        Some(Answer {
            id: check.id.clone(),
            stages,
        })
    }

    fn outcome(&self, probe: &Probe) -> Option<Outcome> {
        match probe {
            Probe::Hook(hook) => {
                let usual = hook.kind != HookType::Rollback;
                Some(if usual == self.flipped.contains(&hook.name) {
                    Outcome::Refused("not now".to_owned())
                } else {
                    Outcome::Agreed
                })
            }
            Probe::Metric(_) => match self.metrics {
                Metrics::Pass => Some(Outcome::Value(100.0)),
                Metrics::Fail => Some(Outcome::Value(50.0)),
                Metrics::NoData => Some(Outcome::NoData("no values".to_owned())),
                Metrics::Unavailable => Some(Outcome::Unavailable("connection refused".to_owned())),
                Metrics::Never => None,
            },
        }
    }

    // What tests ask.

    pub fn get(&self, kind: Kind, name: &str) -> &Value {
        self.objects
            .get(&Key::new(kind, "test", name))
            .unwrap_or(&Value::Null)
    }

    pub fn status(&self) -> CanaryStatus {
        serde_json::from_value(self.get(Kind::Canary, "podinfo")["status"].clone())
            .unwrap_or_default()
    }

    pub fn phase(&self) -> Phase {
        self.status().phase
    }

    pub fn image(&self, deployment: &str) -> String {
        image(self.get(Kind::Deployment, deployment))
    }

    pub fn replicas(&self, deployment: &str) -> i64 {
        self.get(Kind::Deployment, deployment)["spec"]["replicas"]
            .as_i64()
            .unwrap_or(1)
    }

    /// Share of users' requests that reach the canary's service, by the route alone.
    pub fn weight(&self) -> f64 {
        let route = self.get(Kind::VirtualService, "podinfo");
        haldane::route::istio::eval::shares(route, &haldane::route::Request::get("/"))
            .into_iter()
            .filter(|(host, _)| host == "podinfo-canary")
            .map(|(_, share)| share)
            .sum()
    }

    pub fn told(&self, text: &str) -> usize {
        self.notices
            .iter()
            .filter(|n| n.message.contains(text))
            .count()
    }

    /// The operator has nothing to do and waits for nothing but changes.
    pub fn assert_at_rest(&self) {
        let plan = self.plan();
        assert_eq!(
            (&plan.status, plan.effects.as_slice()),
            (&None, [].as_slice()),
            "{}",
            self.story()
        );
    }

    #[expect(clippy::needless_pass_by_value, reason = "callers format it in place")]
    pub fn note(&mut self, text: String) {
        let seconds = self.now.as_second() - 1_767_225_600;
        self.log.push(format!("{seconds:>6} {text}"));
    }

    /// What happened, for the message of a test that failed.
    pub fn story(&self) -> String {
        let mut status = self.status();
        status.conditions = None;
        let log = &self.log[self.log.len().saturating_sub(100)..];
        format!("{}\n{}", log.join("\n"), json!(status))
    }
}

pub fn image(deployment: &Value) -> String {
    deployment
        .pointer("/spec/template/spec/containers/0/image")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn key_of(object: &Value) -> Key {
    let kind = object["kind"].as_str().unwrap();
    let kind = Kind::ALL
        .into_iter()
        .find(|k| k.to_string() == kind)
        .unwrap();
    Key::new(kind, "test", object["metadata"]["name"].as_str().unwrap())
}

/// The object without versions and the named parts.
fn changed_part(object: &Value, without: &[&str]) -> Value {
    let mut object = object.clone();
    for part in without {
        object.as_object_mut().unwrap().remove(*part);
    }
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        metadata.remove("resourceVersion");
        metadata.remove("generation");
    }
    object
}

//! What must hold after every write to the API server, and at every second.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use haldane::{
    object::{Kind, Object as Observed},
    route::{Request, istio::eval},
    sim::{
        World,
        server::{Action, Change, Object},
    },
    workload,
};
use serde_json::{Value, json};

use crate::{chaos::Chaos, trial::Flow};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub at: Duration,
    pub what: String,
}

/// What the invariants compare: one state of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
struct State {
    status: Value,
    plain: i64,
    matched: i64,
    routed: bool,
    to_target: bool,
    replicas: i64,
    target: String,
    primary: String,
    canary_ready: usize,
    any_ready: usize,
    primary_ready: usize,
}

impl State {
    fn phase(&self) -> &str {
        self.status["phase"].as_str().unwrap_or_default()
    }

    fn exposed(&self) -> bool {
        self.plain > 0 || self.matched > 0 || self.to_target
    }
}

/// Follows all writes of one world.
pub struct Checker {
    seen: u64,
    objects: BTreeMap<(String, String), Arc<Object>>,
    before: State,
    revisions: BTreeMap<String, String>,
    proven: BTreeSet<String>,
    runs: BTreeSet<String>,
    peak: i64,
    raised: Option<(Duration, u64)>,
    exposed: Option<Duration>,
    route_first: bool,
    pub violation: Option<Violation>,
}

fn image(deployment: &Value) -> String {
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    image.as_str().unwrap_or_default().to_owned()
}

impl Checker {
    pub fn new(flow: &Flow) -> Self {
        Self {
            seen: 0,
            objects: BTreeMap::new(),
            before: State::default(),
            revisions: BTreeMap::new(),
            proven: BTreeSet::from([flow.first.to_owned()]),
            runs: BTreeSet::new(),
            peak: 0,
            raised: None,
            exposed: None,
            route_first: false,
            violation: None,
        }
    }

    /// Looks at all that was written since the last look, write by write.
    pub fn look(&mut self, world: &World, chaos: &Chaos, flow: &Flow) {
        for change in world.server().changes_since(self.seen) {
            self.seen = change.revision;
            self.step(world, chaos, flow, &change);
        }
        let dropped = world.traffic().totals().get("").map_or(0, |t| t.dropped);
        self.ensure(world, "T3", dropped == 0, || {
            format!("{dropped} requests dropped")
        });
    }

    pub fn ensure(
        &mut self,
        world: &World,
        invariant: &'static str,
        holds: bool,
        what: impl FnOnce() -> String,
    ) {
        if !holds && self.violation.is_none() {
            let (at, what) = (world.elapsed(), what());
            self.violation = Some(Violation {
                invariant,
                at,
                what,
            });
        }
    }

    /// L4: once all is done, the canary gets nothing and runs nothing.
    pub fn rest(&mut self, world: &World) {
        let State {
            plain,
            matched,
            replicas,
            ..
        } = self.before;
        self.ensure(world, "L4", !self.before.exposed() && replicas == 0, || {
            format!(
                "at the end the canary gets {plain} %, of its users {matched} %, on {replicas} pods"
            )
        });
    }

    fn value(&self, plural: &str, name: &str) -> &Value {
        let key = (plural.to_owned(), name.to_owned());
        self.objects.get(&key).map_or(&Value::Null, |o| o.value())
    }

    fn ready(&self, service: &str, wanted: Option<&str>) -> usize {
        let slices = self.objects.iter().filter(|((plural, _), slice)| {
            plural == "endpointslices"
                && slice.value()["metadata"]["labels"]["kubernetes.io/service-name"] == service
        });
        slices
            .flat_map(|(_, slice)| slice.value()["endpoints"].as_array().into_iter().flatten())
            .filter(|endpoint| endpoint["conditions"]["ready"] == true)
            .filter(|endpoint| {
                let pod = endpoint["targetRef"]["name"].as_str().unwrap_or_default();
                let found = &self.value("pods", pod)["spec"]["containers"][0]["image"];
                wanted.is_none_or(|wanted| found == wanted)
            })
            .count()
    }

    fn state(&self) -> State {
        let route = self.value("virtualservices", "shop");
        let share = |request: &Request| -> i64 {
            let shares = eval::shares(route, request);
            let mine = shares.into_iter().filter(|(host, _)| host == "shop-canary");
            #[allow(clippy::cast_possible_truncation)]
            let sum = mine.map(|(_, share)| share.round() as i64).sum();
            sum
        };
        let target = self.value("deployments", "shop");
        let now = image(target);
        State {
            status: self.value("canaries", "shop")["status"].clone(),
            plain: share(&Request::get("/")),
            matched: share(&Request::get("/").with_header("x-canary", "insider")),
            routed: route.is_object(),
            to_target: self.value("services", "shop")["spec"]["selector"] == json!({"app": "shop"}),
            replicas: target["spec"]["replicas"].as_i64().unwrap_or_default(),
            primary: image(self.value("deployments", "shop-primary")),
            canary_ready: self.ready("shop-canary", Some(&now)),
            any_ready: self.ready("shop-canary", None),
            primary_ready: self.ready("shop-primary", None),
            target: now,
        }
    }

    fn step(&mut self, world: &World, chaos: &Chaos, flow: &Flow, change: &Arc<Change>) {
        let plural = change.resource.plural.as_str();
        if !matches!(
            plural,
            "canaries" | "virtualservices" | "services" | "deployments" | "endpointslices" | "pods"
        ) {
            return;
        }
        let key = (plural.to_owned(), change.object.name().to_owned());
        match change.action {
            Action::Deleted => self.objects.remove(&key),
            Action::Added | Action::Modified => self.objects.insert(key, change.object.clone()),
        };
        if plural == "pods" {
            return;
        }
        if plural == "deployments"
            && change.object.name() == "shop"
            && let Some(target) = Observed::read(Kind::Deployment, change.object.value().clone())
        {
            let revision = workload::revision(&target);
            self.revisions
                .insert(revision, image(change.object.value()));
        }
        let (old, new) = (self.before.clone(), self.state());
        let by_operator = chaos.writer(change.revision).is_some();
        self.weights(world);
        self.capacity(world, flow, &old, &new);
        self.steps(world, flow, &old, &new);
        self.revision(world, flow, &old, &new);
        if by_operator {
            self.ownership(world, change);
            if self.route_first && plural != "canaries" {
                self.ensure(world, "L3", plural == "virtualservices", || {
                    format!("a rollback writes {plural} before the route")
                });
                self.route_first = false;
            }
        }
        if old.phase() != "Failed" && new.phase() == "Failed" && new.status["canaryWeight"] == 0 {
            self.route_first = new.plain > 0 || new.matched > 0;
        }
        self.before = new;
    }

    /// T1: weights are 0 to 100 and sum to 100.
    fn weights(&mut self, world: &World) {
        let route = self.value("virtualservices", "shop").clone();
        for rule in route["spec"]["http"].as_array().into_iter().flatten() {
            let to = rule["route"].as_array().cloned().unwrap_or_default();
            let weights: Vec<i64> = to
                .iter()
                .map(|t| t["weight"].as_i64().unwrap_or(-1))
                .collect();
            let fits = weights.iter().all(|w| (0..=100).contains(w));
            let sum: i64 = weights.iter().sum();
            self.ensure(world, "T1", fits && sum == 100, || {
                format!("weights {weights:?}")
            });
        }
    }

    /// T2, T4: capacity before traffic, and after it.
    fn capacity(&mut self, world: &World, flow: &Flow, old: &State, new: &State) {
        let more = new.plain > old.plain || new.matched > old.matched;
        self.ensure(
            world,
            "T2",
            !more || new.canary_ready > 0 || new.any_ready > 0,
            || "traffic to a canary without pods".to_owned(),
        );
        let back = new.plain < old.plain
            || (old.to_target && !new.to_target)
            || (!old.routed && new.routed);
        self.ensure(
            world,
            "T2",
            !back || new.primary_ready > 0 || new.any_ready == 0,
            || "traffic to a primary without pods".to_owned(),
        );
        if old.exposed() || new.exposed() {
            self.exposed = Some(world.elapsed());
        }
        if old.replicas > 0 && new.replicas == 0 && !new.target.is_empty() {
            let since = world
                .elapsed()
                .saturating_sub(self.exposed.unwrap_or_default());
            self.ensure(world, "T4", !new.exposed(), || {
                "scaled to zero while routed".to_owned()
            });
            self.ensure(
                world,
                "T4",
                since + Duration::from_secs(1) >= flow.drain,
                || format!("scaled to zero {since:?} after its traffic left"),
            );
            self.ensure(world, "T4", new.primary_ready > 0, || {
                "scaled to zero while the primary serves nobody".to_owned()
            });
        }
    }

    /// T5, R3, R4: each step is persisted, earned and no larger than planned.
    fn steps(&mut self, world: &World, flow: &Flow, old: &State, new: &State) {
        let run = |state: &State| {
            state.status["runTime"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let said = |state: &State| state.status["canaryWeight"].as_i64().unwrap_or_default();
        if run(new) != run(old) && !run(new).is_empty() {
            self.runs.insert(run(new));
            (self.peak, self.raised) = (0, None);
            let runs = self.runs.len();
            self.ensure(world, "R4", runs <= flow.runs, || {
                format!("{runs} releases began")
            });
        }
        let same = ["lastAppliedSpec", "trackedConfigs"]
            .iter()
            .all(|f| old.status[*f] == new.status[*f]);
        let retried = old.phase() == "Failed" && new.phase() == "Progressing" && same;
        self.ensure(world, "R3", !retried, || {
            "a failed revision is retried".to_owned()
        });
        let share = new.plain.max(new.matched);
        if share > old.plain.max(old.matched) {
            let said = said(new);
            let persisted = said >= new.plain;
            self.ensure(world, "T5", persisted, || {
                format!("the route gives {}, the status {said}", new.plain)
            });
            let running = matches!(
                new.phase(),
                "Progressing" | "WaitingPromotion" | "Promoting"
            );
            self.ensure(world, "T5", running, || {
                format!("traffic to a canary that is {}", new.phase())
            });
            let next = flow
                .steps
                .iter()
                .copied()
                .find(|step| *step > self.peak)
                .unwrap_or(self.peak);
            let peak = self.peak;
            self.ensure(world, "T5", share <= next, || {
                format!("{share} % after {peak} %")
            });
            let queries = world.surroundings().queries();
            if let Some((when, asked)) = self.raised
                && share > peak
            {
                let rest = world.elapsed().saturating_sub(when);
                self.ensure(
                    world,
                    "T5",
                    rest + Duration::from_secs(2) >= flow.interval,
                    || format!("the next step after {rest:?}"),
                );
                self.ensure(world, "R5", queries > asked, || {
                    "a step that no metric allowed".to_owned()
                });
            }
            self.peak = self.peak.max(share);
            self.raised = Some((world.elapsed(), queries));
        }
        let progressing = old.phase() == "Progressing" && new.phase() == "Progressing";
        let fell = run(old) == run(new)
            && (said(new) < said(old) || (new.plain < old.plain && new.plain < said(new)));
        self.ensure(world, "T5", !progressing || !fell, || {
            "the weight fell within a run".to_owned()
        });
        let most = flow.most;
        self.ensure(world, "R5", share <= most, || {
            format!("{share} %, more than {most} % was earned")
        });
    }

    /// R1, R2: the primary carries what stood at first, or what passed.
    fn revision(&mut self, world: &World, flow: &Flow, old: &State, new: &State) {
        if old.phase() != "Promoting" && new.phase() == "Promoting" {
            let top = flow.steps.last().copied().unwrap_or_default();
            let rested = self.raised.is_some_and(|(when, _)| {
                world.elapsed().saturating_sub(when) + Duration::from_secs(2) >= flow.interval
            });
            let earned = self.peak >= top && rested;
            let peak = self.peak;
            self.ensure(world, "R1", earned, || {
                format!("promotes after {peak} % of {top} %")
            });
            let revision = new.status["lastAppliedSpec"].as_str().unwrap_or_default();
            if let Some(image) = self.revisions.get(revision).cloned() {
                self.proven.insert(image);
            }
        }
        if new.primary != old.primary && !new.primary.is_empty() {
            let proven =
                self.proven.contains(&new.primary) && !flow.bad.contains(&new.primary.as_str());
            self.ensure(world, "R1", proven, || {
                format!("the primary gets {}", new.primary)
            });
        }
        let promoted = new.status["lastPromotedSpec"].as_str().unwrap_or_default();
        let carried = self
            .revisions
            .get(promoted)
            .is_none_or(|image| self.proven.contains(image));
        self.ensure(world, "R2", promoted.is_empty() || carried, || {
            format!("{promoted} counts as promoted")
        });
    }

    /// O1: what others wrote stays, and what is not the operator's is left alone.
    fn ownership(&mut self, world: &World, change: &Arc<Change>) {
        let name = change.object.name();
        let own = name == "shop" || name.starts_with("shop-");
        self.ensure(world, "O1", own, || {
            format!("writes {} {name}", change.resource.plural)
        });
        let Some(before) = &change.previous else {
            return;
        };
        let notes =
            |object: &Object| object.value()["metadata"]["annotations"]["team/owner"].clone();
        let kept = notes(before) == notes(&change.object);
        self.ensure(world, "O1", kept, || {
            format!("an annotation of others on {name} is lost")
        });
        if name == "shop" && change.resource.plural == "deployments" {
            let template = |object: &Object| object.value()["spec"]["template"].clone();
            let same = template(before) == template(&change.object);
            self.ensure(world, "O1", same, || {
                "the target's template was changed".to_owned()
            });
        }
    }
}

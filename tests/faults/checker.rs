//! Follows all writes of one world, one state of the cluster after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use haldane::{
    object::{Kind, Object as Observed, merge_diff},
    route::{Request, gateway, istio},
    sim::{
        World,
        server::{Action, Change, Object},
    },
    workload::{self, SERVICE_NAME},
};
use serde_json::{Value, json};

use crate::{
    chaos::{Chaos, is_told},
    flow::{Deed, Flow},
};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub invariant: &'static str,
    pub at: Duration,
    pub what: String,
}

/// What the invariants compare: one state of the cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    pub status: Arc<Value>,
    pub plain: i64,
    pub matched: i64,
    pub routed: bool,
    pub to_target: bool,
    pub replicas: i64,
    /// Image of the target, and of the primary.
    pub target: String,
    pub primary: String,
    /// The same with the contents of their configs.
    pub target_version: String,
    pub primary_version: String,
    pub canary_ready: usize,
    pub any_ready: usize,
    pub primary_ready: usize,
}

impl State {
    pub fn phase(&self) -> &str {
        self.status["phase"].as_str().unwrap_or_default()
    }

    /// Whether the phase is this one, and was another.
    pub fn turned(&self, old: &Self, phase: &str) -> bool {
        self.phase() == phase && old.phase() != phase
    }

    pub fn text(&self, field: &str) -> &str {
        self.status[field].as_str().unwrap_or_default()
    }

    /// Whether a release began after a state: one of another time, or of the same second when
    /// another revision is counted from the beginning.
    pub fn began_after(&self, old: &Self) -> bool {
        if Arc::ptr_eq(&self.status, &old.status) {
            return false;
        }
        let anew = self.text("lastAppliedSpec") != old.text("lastAppliedSpec")
            && self.status["checks"] == 0
            && old.status["checks"] != 0;
        !self.text("runTime").is_empty() && (self.text("runTime") != old.text("runTime") || anew)
    }

    pub fn weight(&self) -> i64 {
        self.status["canaryWeight"].as_i64().unwrap_or_default()
    }

    /// Whether users can come to the canary: by the route, or by the apex service where no route is.
    pub fn exposed(&self) -> bool {
        self.plain > 0 || self.matched > 0 || (self.to_target && !self.routed)
    }

    /// Whether users have what the status says: by weight, or in an A/B test by iterations.
    fn is_as_said(&self) -> bool {
        let tested = self.plain == 0 && self.status["iterations"].as_i64() > Some(0);
        self.share() == self.weight() || tested
    }

    /// Share of users on the canary.
    pub fn share(&self) -> i64 {
        self.plain.max(self.matched)
    }
}

/// Follows all writes of one world.
#[derive(Clone)]
pub struct Checker {
    pub seen: u64,
    pub objects: BTreeMap<(String, String), Arc<Object>>,
    pub before: State,
    /// Images by the revision that the operator calls them.
    pub revisions: BTreeMap<String, String>,
    pub proven: BTreeSet<String>,
    pub runs: BTreeSet<String>,
    /// Versions that users got in this run.
    pub analysed: BTreeSet<String>,
    pub peak: i64,
    pub raised: Option<(Duration, u64)>,
    /// When the status took the step that it is at.
    pub stepped: Option<Duration>,
    pub exposed: Option<Duration>,
    pub route_first: bool,
    /// The gate that is closed.
    pub closed: Option<&'static str>,
    /// What people asked for last.
    pub asked: Option<&'static str>,
    /// Whether the Canary is being deleted.
    pub leaving: bool,
    /// What the neighbour's primary has mounted since it was there.
    pub mounted: Option<Value>,
    /// How often others changed the apex service, and how often the operator did.
    pub reverted: u64,
    pub corrected: u64,
    /// When the release had which phase and weight.
    pub story: Vec<(Duration, String, i64)>,
    pub violation: Option<Violation>,
}

pub fn image(deployment: &Value) -> String {
    let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
    image.as_str().unwrap_or_default().to_owned()
}

/// How many pods a workload asks for; a DaemonSet one, unless it asks for nodes that there are not.
fn pods_wanted(workload: &Value) -> i64 {
    let spec = &workload["spec"];
    if workload["kind"] != "DaemonSet" {
        return spec["replicas"].as_i64().unwrap_or_default();
    }
    i64::from(spec["template"]["spec"]["nodeSelector"].is_null())
}

impl Checker {
    pub fn new(flow: &Flow) -> Self {
        Self {
            seen: 0,
            objects: BTreeMap::new(),
            before: State::default(),
            revisions: BTreeMap::new(),
            proven: BTreeSet::new(),
            runs: BTreeSet::new(),
            analysed: BTreeSet::new(),
            peak: 0,
            raised: None,
            stepped: None,
            exposed: None,
            route_first: false,
            closed: flow.gate,
            asked: None,
            leaving: false,
            mounted: None,
            reverted: 0,
            corrected: 0,
            story: Vec::new(),
            violation: None,
        }
    }

    /// Somebody did something.
    pub fn sees(&mut self, deed: &Deed) {
        match deed {
            Deed::Ask(request) => self.asked = Some(request),
            Deed::Gate(_) => self.closed = None,
            Deed::Delete(_, "canaries", _) => self.leaving = true,
            // The apex follows the Canary that people edit.
            Deed::Restore(_) | Deed::Edit("flagger.app", ..) => self.reverted += 1,
            Deed::Push(_)
            | Deed::Apply(_)
            | Deed::Reapply(_)
            | Deed::Edit(..)
            | Deed::Delete(..)
            | Deed::Behave(..) => {}
        }
    }

    /// Looks at all that was written since the last look, write by write.
    pub fn look(&mut self, world: &World, chaos: &Chaos, flow: &Flow) {
        if world.server().revision() != self.seen {
            for change in world.server().changes_since(self.seen) {
                self.seen = change.revision;
                self.step(world, chaos, flow, &change);
            }
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

    pub fn value(&self, plural: &str, name: &str) -> &Value {
        let key = (plural.to_owned(), name.to_owned());
        self.objects.get(&key).map_or(&Value::Null, |o| o.value())
    }

    /// The Deployment or DaemonSet of this name.
    fn workload(&self, name: &str) -> &Value {
        let deployment = self.value("deployments", name);
        if deployment.is_null() {
            self.value("daemonsets", name)
        } else {
            deployment
        }
    }

    /// The image of a workload, and what its ConfigMap holds.
    fn version(&self, deployment: &Value) -> String {
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let image = container["image"].as_str().unwrap_or_default();
        match container["envFrom"][0]["configMapRef"]["name"].as_str() {
            Some(name) => format!("{image} {}", self.value("configmaps", name)["data"]),
            None => image.to_owned(),
        }
    }

    fn ready(&self, service: &str, wanted: Option<&str>) -> usize {
        let first = ("endpointslices".to_owned(), String::new());
        self.objects
            .range(first..)
            .take_while(|((plural, _), _)| plural == "endpointslices")
            .filter(|(_, slice)| slice.value()["metadata"]["labels"][SERVICE_NAME] == service)
            .flat_map(|(_, slice)| slice.value()["endpoints"].as_array().into_iter().flatten())
            .filter(|endpoint| endpoint["conditions"]["ready"] == true)
            .filter(|endpoint| {
                let pod = endpoint["targetRef"]["name"].as_str().unwrap_or_default();
                wanted.is_none_or(|wanted| image_of_pod(self.value("pods", pod)) == wanted)
            })
            .count()
    }

    /// The state after one more change.
    fn state(&self, plural: &str) -> State {
        let mut state = self.before.clone();
        match plural {
            "canaries" => state.status = Arc::new(self.value("canaries", "shop")["status"].clone()),
            "virtualservices" | "httproutes" => {
                let route = self.value(plural, "shop");
                let share = |request: Request| -> i64 {
                    let forwarding = if plural == "httproutes" {
                        gateway::eval::forward(route, &request)
                    } else {
                        istio::eval::forward(route, &request)
                    };
                    let shares = forwarding.into_iter().flat_map(|to| to.shares);
                    let mine = shares.filter(|to| to.host == "shop-canary");
                    #[allow(clippy::cast_possible_truncation)]
                    let sum = mine.map(|to| to.percent.round() as i64).sum();
                    sum
                };
                state.plain = share(Request::get("/"));
                state.matched = share(Request::get("/").with_header("x-canary", "insider"));
                state.routed = route.is_object();
            }
            "services" => {
                let selector = &self.value("services", "shop")["spec"]["selector"];
                state.to_target = *selector == json!({"app": "shop"});
            }
            "deployments" | "daemonsets" => {
                let target = self.workload("shop");
                state.target = image(target);
                state.replicas = pods_wanted(target);
                state.primary = image(self.workload("shop-primary"));
            }
            _ => {}
        }
        if matches!(plural, "deployments" | "daemonsets" | "configmaps") {
            state.target_version = self.version(self.workload("shop"));
            state.primary_version = self.version(self.workload("shop-primary"));
        }
        if matches!(plural, "deployments" | "daemonsets" | "endpointslices") {
            state.canary_ready = self.ready("shop-canary", Some(&state.target));
            state.any_ready = self.ready("shop-canary", None);
            state.primary_ready = self.ready("shop-primary", None);
        }
        state
    }

    fn step(&mut self, world: &World, chaos: &Chaos, flow: &Flow, change: &Arc<Change>) {
        let plural = change.resource.plural.as_str();
        let by_operator = chaos.wrote(change.revision);
        if is_told() && plural != "customresourcedefinitions" {
            tell(world, change, by_operator);
        }
        if by_operator {
            self.ownership(world, change);
        }
        if !matches!(
            plural,
            "canaries"
                | "virtualservices"
                | "httproutes"
                | "services"
                | "deployments"
                | "daemonsets"
                | "endpointslices"
                | "pods"
                | "configmaps"
        ) {
            return;
        }
        let name = change.object.name();
        let key = (plural.to_owned(), name.to_owned());
        match change.action {
            Action::Deleted => self.objects.remove(&key),
            Action::Added | Action::Modified => self.objects.insert(key, change.object.clone()),
        };
        if plural == "pods" {
            return;
        }
        if plural == "services" && name == "shop" && change.action == Action::Modified {
            self.corrected += u64::from(by_operator);
            self.reverted += u64::from(!by_operator);
        }
        let kinds = [Kind::Deployment, Kind::DaemonSet];
        let kind = kinds.into_iter().find(|kind| kind.names().3 == plural);
        let generation = |object: &Object| object.value()["metadata"]["generation"].as_i64();
        let is_other = change
            .previous
            .as_ref()
            .is_none_or(|before| generation(before) != generation(&change.object));
        let is_status = kind.is_some() && !is_other && change.action == Action::Modified;
        if is_status && !by_operator {
            // No invariant is about it.
            return;
        }
        if let Some(kind) = kind
            && name == "shop"
            && is_other
            && let Some(target) = Observed::read(kind, change.object.value().clone())
        {
            let revision = workload::revision(&target);
            self.revisions
                .insert(revision, image(change.object.value()));
        }
        let new = self.state(plural);
        let old = std::mem::replace(&mut self.before, new.clone());
        if (old.phase(), old.weight()) != (new.phase(), new.weight()) {
            let said = (world.elapsed(), new.phase().to_owned(), new.weight());
            self.story.push(said);
        }
        if old != new {
            self.decides(world, &old, &new);
            // A write that comes late may begin a release too: what follows is counted from it.
            if !self.leaving {
                self.runs(world, flow, &old, &new);
            }
            if !chaos.came_late(change.revision) {
                self.judge(world, flow, &old, &new);
            } else if new.share() > old.share() && new.is_as_said() {
                // The step that the status says, and nobody takes it again.
                self.takes_step(world, &new);
            } else if new.turned(&old, "Promoting") {
                self.promotes(&new);
            }
        }
        self.neighbours(world, plural, name);
        if by_operator {
            if plural == "deployments" {
                self.sizes(world, change);
            }
            if self.route_first && plural != "canaries" {
                let is_route = matches!(plural, "virtualservices" | "httproutes");
                self.ensure(world, "L3", is_route, || {
                    format!("a rollback writes {plural} before the route")
                });
                self.route_first = false;
            }
        }
        if new.turned(&old, "Failed") && new.weight() == 0 {
            self.route_first = new.share() > 0;
        }
    }
}

/// Prints what a write changed.
fn tell(world: &World, change: &Change, by_operator: bool) {
    let at = world.elapsed().as_secs_f64();
    let (plural, name) = (&change.resource.plural, change.object.name());
    let who = if by_operator { "operator: " } else { "" };
    let before = change.previous.as_ref().map_or(&Value::Null, |o| o.value());
    let mut what = merge_diff(before, change.object.value()).unwrap_or_default();
    if let Some(metadata) = what["metadata"].as_object_mut() {
        metadata.retain(|key, _| !matches!(key.as_str(), "managedFields" | "resourceVersion"));
    }
    let action = change.action;
    println!("{at:8.3}   {who}{action:?} {plural} {name} {what}");
}

fn image_of_pod(pod: &Value) -> &str {
    pod["spec"]["containers"][0]["image"]
        .as_str()
        .unwrap_or_default()
}

//! The controllers that every cluster has: `Deployments`, `ReplicaSets`, `DaemonSets`, the nodes'
//! agents that run pods, `EndpointSlices`, autoscalers (KEDA's too), gateways, and the garbage
//! collector.
//!
//! Each looks at the whole state when something that it reads changed or its time came, and writes
//! what is missing: in one fixed order, so that a run is repeatable.

mod autoscalers;
mod daemon_set;
mod deployment;
mod endpoints;
mod gateways;
mod pods;
mod replica_set;

pub use autoscalers::{Busy, Measured};
pub use gateways::{Acceptance, is_refused};

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::Value;
use tokio::{sync::Notify, time::sleep_until};

use super::{
    behaviour::Behaviour,
    server::{Action, ApiServer, Object, PatchKind},
};
use crate::{
    clock::Clock,
    object::{At, map_of},
};

/// How long a controller takes to notice a change.
const REACTION: Duration = Duration::from_millis(100);

/// The controllers by what each of them reads. The first that has news takes its turn, so that those
/// of pods have come to rest before others count their pods.
const ORDER: [(Controller, &[&str]); 7] = [
    (Controllers::pods, &["pods"]),
    (Controllers::replica_sets, &["replicasets", "pods"]),
    (Controllers::daemon_sets, &["daemonsets", "pods"]),
    (
        Controllers::deployments,
        &["deployments", "replicasets", "pods"],
    ),
    (
        Controllers::endpoint_slices,
        &["services", "pods", "endpointslices"],
    ),
    (
        Controllers::autoscalers,
        &["horizontalpodautoscalers", "scaledobjects"],
    ),
    (Controllers::gateways, &["httproutes", "services"]),
];

type Controller = fn(&mut Controllers);

/// What a controller waits for.
#[derive(Clone, Copy, Default)]
struct Turn {
    /// Something that it reads changed since it looked last, or its time came.
    news: bool,
    /// When it looks again at the latest.
    wake: Option<Timestamp>,
}

/// What a controller saw when it last looked at an object.
#[derive(Clone)]
struct Settled {
    /// Revisions of the object and of all else that was read for it.
    seen: Vec<u64>,
    /// When it has to be looked at again though nothing changes.
    wake: Option<Timestamp>,
}

/// Most turns before time has to pass.
const MOST_TURNS: usize = 350;

/// The behaviour of each image; others behave as the default.
pub type Behaviours = Arc<Mutex<BTreeMap<String, Behaviour>>>;

/// How the pods of an image behave.
pub fn behaviour(behaviours: &Behaviours, image: &str) -> Behaviour {
    behaviours
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(image)
        .cloned()
        .unwrap_or_default()
}

/// What controllers, users and what lies outside share of one cluster.
#[derive(Clone)]
pub struct Shared {
    /// The API server.
    pub server: ApiServer,
    /// The time.
    pub clock: Clock,
    /// How pods behave.
    pub behaviours: Behaviours,
    /// What autoscalers and the operator go by.
    pub measured: Measured,
    /// Has controllers look again, whatever was written.
    pub nudge: Arc<Notify>,
}

impl Shared {
    /// Those of a cluster in which nobody did anything yet.
    pub fn new(server: ApiServer, clock: Clock) -> Self {
        Self {
            server,
            clock,
            behaviours: Behaviours::default(),
            measured: Measured::default(),
            nudge: Arc::default(),
        }
    }

    /// The same in a copy of the cluster, which takes the time from `clock`. Nobody has spoken to
    /// its server yet.
    #[must_use]
    pub fn copy(&self, clock: Clock) -> Self {
        fn copy<T: Clone>(shared: &Mutex<T>) -> Arc<Mutex<T>> {
            let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::new(Mutex::new(shared.clone()))
        }
        Self {
            server: self.server.copy(move || clock.now()),
            clock,
            behaviours: copy(&self.behaviours),
            measured: Measured {
                busy: copy(&self.measured.busy),
                prometheus: copy(&self.measured.prometheus),
            },
            nudge: Arc::default(),
        }
    }
}

/// The controllers of one cluster.
#[derive(Clone)]
pub struct Controllers {
    server: ApiServer,
    clock: Clock,
    behaviours: Behaviours,
    /// Nodes of the cluster, for `DaemonSets`.
    nodes: usize,
    runs: BTreeMap<String, pods::Run>,
    addresses: u32,
    seen: u64,
    /// Whether an object went away, so that others may have to follow.
    orphans: bool,
    turns: [Turn; ORDER.len()],
    /// What each object was when there was nothing left to do for it, by UID.
    settled: BTreeMap<String, Settled>,
    /// Digests of Deployments' templates, by UID, and of which generation.
    hashes: BTreeMap<String, (i64, String)>,
    /// When the controller that looks now has to look again.
    wake: Option<Timestamp>,
    /// When they look at a change that they have noticed.
    reacts: Option<Timestamp>,
    measured: Measured,
    scaling: autoscalers::Memory,
    acceptance: Acceptance,
    routes: gateways::Seen,
    /// Says that pods behave differently.
    nudge: Arc<Notify>,
}

impl Controllers {
    /// Controllers of a cluster with so many nodes.
    pub fn new(shared: Shared, nodes: usize, acceptance: Acceptance) -> Self {
        Self {
            server: shared.server,
            clock: shared.clock,
            behaviours: shared.behaviours,
            nodes,
            runs: BTreeMap::new(),
            addresses: 0,
            seen: 0,
            orphans: false,
            turns: Default::default(),
            settled: BTreeMap::new(),
            hashes: BTreeMap::new(),
            wake: None,
            reacts: None,
            measured: shared.measured,
            scaling: autoscalers::Memory::default(),
            acceptance,
            routes: gateways::Seen::default(),
            nudge: shared.nudge,
        }
    }

    /// The same controllers of a copy of their cluster, taken now.
    #[must_use]
    pub fn copy(&self, shared: Shared) -> Self {
        let noticed = || later(self.clock.now(), REACTION);
        let reacts = (self.server.revision() != self.seen).then(noticed);
        Self {
            server: shared.server,
            clock: shared.clock,
            behaviours: shared.behaviours,
            measured: shared.measured,
            nudge: shared.nudge,
            reacts: self.reacts.or(reacts),
            ..self.clone()
        }
    }

    /// Runs them until dropped.
    pub async fn run(all: Arc<Mutex<Self>>) {
        let lock = || all.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut revisions, nudge, clock) = {
            let all = lock();
            (all.server.follow(), Arc::clone(&all.nudge), all.clock)
        };
        loop {
            let reacts = lock().reacts;
            if let Some(reacts) = reacts {
                sleep_until(clock.instant(reacts)).await;
            }
            revisions.borrow_and_update();
            let wake = {
                let mut all = lock();
                all.reacts = None;
                all.settle();
                all.turns.iter().filter_map(|turn| turn.wake).min()
            };
            tokio::select! {
                biased;
                changed = revisions.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    lock().reacts = Some(later(clock.now(), REACTION));
                }
                () = nudge.notified() => {
                    let mut all = lock();
                    all.settled.clear();
                    for turn in &mut all.turns {
                        turn.news = true;
                    }
                }
                () = async {
                    match wake {
                        Some(wake) => sleep_until(clock.instant(wake)).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    /// Brings the cluster to where it stays until time passes or somebody writes.
    fn settle(&mut self) {
        let now = self.clock.now();
        for turn in &mut self.turns {
            turn.news |= turn.wake.is_some_and(|wake| wake <= now);
        }
        for _ in 0..MOST_TURNS {
            self.read_news();
            if let Some(index) = self.turns.iter().position(|turn| turn.news) {
                self.take_turn(index);
            } else if std::mem::take(&mut self.orphans) {
                self.server.collect_garbage();
            } else {
                return;
            }
        }
        let soon = later(now, REACTION);
        for turn in &mut self.turns {
            turn.wake = Some(turn.wake.map_or(soon, |wake| wake.min(soon)));
        }
    }

    /// Lets a controller look.
    fn take_turn(&mut self, index: usize) {
        if let (Some((look, _)), Some(turn)) = (ORDER.get(index), self.turns.get_mut(index)) {
            turn.news = false;
            look(self);
        }
        let wake = self.wake.take();
        if let Some(turn) = self.turns.get_mut(index) {
            turn.wake = wake;
        }
    }

    /// Tells each controller whether something that it reads changed.
    fn read_news(&mut self) {
        let revision = self.server.revision();
        if revision == self.seen {
            return;
        }
        for change in self.server.changes_since(self.seen) {
            if change.action == Action::Deleted {
                self.settled.remove(change.object.uid());
                self.hashes.remove(change.object.uid());
            }
            let plural = change.resource.plural.as_str();
            for (turn, (_, reads)) in self.turns.iter_mut().zip(ORDER) {
                turn.news |= reads.contains(&plural);
            }
            self.orphans |= change.action == Action::Deleted || change.object.terminating();
        }
        self.seen = revision;
    }

    /// Looks at an object, unless neither it nor what is read for it changed since the last look.
    fn look_at<'a>(
        &mut self,
        object: &Object,
        reads: impl IntoIterator<Item = &'a Arc<Object>>,
        look: impl FnOnce(&mut Self),
    ) {
        let reads = reads.into_iter().map(|read| read.revision());
        let seen: Vec<u64> = std::iter::once(object.revision()).chain(reads).collect();
        let now = self.clock.now();
        let others = self.wake.take();
        match self.settled.get(object.uid()) {
            Some(known) if known.seen == seen && known.wake.is_none_or(|wake| wake > now) => {
                self.wake = known.wake;
            }
            _ => {
                look(self);
                let wake = self.wake;
                self.settled
                    .insert(object.uid().to_owned(), Settled { seen, wake });
            }
        }
        if let Some(other) = others {
            self.wake_at(other);
        }
    }

    /// Looks again at this time, or earlier.
    fn wake_at(&mut self, at: Timestamp) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn now(&self) -> String {
        format!("{:.0}", self.clock.now())
    }

    /// Writes the status of an object if it changes.
    fn write_status(&self, resource: (&str, &str), object: &Object, status: Value) {
        self.report(resource, object, [("status", status)]);
    }

    /// Writes fields of an object if they change.
    fn report<const N: usize>(
        &self,
        resource: (&str, &str),
        object: &Object,
        fields: [(&str, Value); N],
    ) {
        let said = |(field, value): &(&str, Value)| object.value().get(field) == Some(value);
        if fields.iter().all(said) {
            return;
        }
        if let Err(refusal) = self.server.report(resource, object, fields) {
            tracing::debug!(?refusal, object = object.name(), "not written");
        }
    }

    fn merge(&self, (group, plural): (&str, &str), object: &Object, patch: Value) {
        let written = self.server.patch(
            (group, plural),
            (object.namespace(), object.name()),
            None,
            PatchKind::Merge,
            patch,
        );
        if let Err(refusal) = written {
            tracing::debug!(?refusal, object = object.name(), "not patched");
        }
    }

    /// Objects of a resource whose controller is the owner.
    fn owned_by(&self, (group, plural): (&str, &str), owner: &Object) -> Vec<Arc<Object>> {
        let mut objects = self.server.list(group, plural, owner.namespace());
        objects.retain(|object| object.controller() == owner.uid());
        objects
    }
}

/// So much later; at the end of time when that is nearer.
fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

fn owner_reference(kind: &str, owner: &Object) -> Value {
    serde_json::json!([{
        "apiVersion": owner.value()["apiVersion"], "kind": kind, "name": owner.name(),
        "uid": owner.uid(), "controller": true, "blockOwnerDeletion": true,
    }])
}

fn integer(value: &Value, path: &str) -> Option<i64> {
    value.at(path)?.as_i64()
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.at(path).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value
        .at(path)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// The condition of a type in an object's status.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    items(object, "/status/conditions")
        .iter()
        .find(|condition| condition["type"] == kind)
}

/// A status condition, with the times of the one before it where nothing changed.
fn next_condition(old: &Value, now: &str, new: (&str, &str, &str, String)) -> Value {
    let (kind, status, reason, message) = new;
    let before = condition(old, kind);
    let same = |fields: &[(&str, &str)]| {
        before.is_some_and(|before| fields.iter().all(|(field, value)| before[*field] == *value))
    };
    let kept =
        |field: &str| before.map_or_else(|| Value::from(now), |before| before[field].clone());
    let transition = if same(&[("status", status)]) {
        kept("lastTransitionTime")
    } else {
        Value::from(now)
    };
    let update = if same(&[
        ("status", status),
        ("reason", reason),
        ("message", &message),
    ]) {
        kept("lastUpdateTime")
    } else {
        Value::from(now)
    };
    map_of([
        ("type", kind.into()),
        ("status", status.into()),
        ("reason", reason.into()),
        ("message", message.into()),
        ("lastTransitionTime", transition),
        ("lastUpdateTime", update),
    ])
}

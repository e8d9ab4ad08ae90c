//! The controllers that every cluster has: `Deployments`, `ReplicaSets`, `DaemonSets`, the nodes'
//! agents
//! that run pods, `EndpointSlices`, autoscalers (KEDA's too), and the garbage collector.
//!
//! They look at the whole state when something changed or a time came, and write what is missing:
//! in one fixed order, so that a run is repeatable.

mod autoscalers;
mod daemon_set;
mod deployment;
mod endpoints;
mod pods;
mod replica_set;

pub use autoscalers::{Busy, Measured};
pub use endpoints::SERVICE_NAME;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, sleep_until},
};

use super::{
    behaviour::Behaviour,
    server::{Action, ApiServer, Object, PatchKind, Subresource},
};
use crate::clock::Clock;

/// How long a controller takes to notice a change.
const REACTION: Duration = Duration::from_millis(100);

/// Most passes over the state before time has to pass.
const MOST_PASSES: usize = 50;

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

/// The controllers of one cluster.
pub struct Controllers {
    server: ApiServer,
    clock: Clock,
    behaviours: Behaviours,
    /// Nodes of the cluster, for `DaemonSets`.
    nodes: usize,
    runs: BTreeMap<String, pods::Run>,
    addresses: u32,
    seen: u64,
    wake: Option<Instant>,
    measured: Measured,
    scaling: autoscalers::Memory,
    /// Says that pods behave differently.
    nudge: Arc<Notify>,
}

impl Controllers {
    /// Controllers of a cluster with so many nodes.
    pub fn new(
        server: ApiServer,
        clock: Clock,
        behaviours: Behaviours,
        nodes: usize,
        measured: Measured,
        nudge: Arc<Notify>,
    ) -> Self {
        Self {
            server,
            clock,
            behaviours,
            nodes,
            runs: BTreeMap::new(),
            addresses: 0,
            seen: 0,
            wake: None,
            measured,
            scaling: autoscalers::Memory::default(),
            nudge,
        }
    }

    /// Runs until dropped.
    pub async fn run(mut self) {
        let mut revisions = self.server.follow();
        let nudge = Arc::clone(&self.nudge);
        loop {
            revisions.borrow_and_update();
            self.settle();
            let wake = self.wake;
            tokio::select! {
                biased;
                changed = revisions.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    sleep(REACTION).await;
                }
                () = nudge.notified() => self.wake = Some(Instant::now()),
                () = async {
                    match wake {
                        Some(wake) => sleep_until(wake).await,
                        None => std::future::pending().await,
                    }
                } => {}
            }
        }
    }

    /// Brings the cluster to where it stays until time passes or somebody writes.
    fn settle(&mut self) {
        let due = self.wake.is_some_and(|wake| wake <= Instant::now());
        let (relevant, mut orphans) = self.news();
        if !relevant && !due {
            return;
        }
        for _ in 0..MOST_PASSES {
            self.wake = None;
            self.deployments();
            self.daemon_sets();
            self.replica_sets();
            self.pods();
            self.endpoint_slices();
            self.autoscalers();
            if orphans {
                self.server.collect_garbage();
            }
            let (again, more_orphans) = self.news();
            orphans = more_orphans;
            if !again {
                return;
            }
        }
        self.wake_at(Instant::now() + REACTION);
    }

    /// Whether something that a controller looks at changed since the last look, and whether
    /// something was deleted.
    fn news(&mut self) -> (bool, bool) {
        let changes = self.server.changes_since(self.seen);
        let (mut relevant, mut orphans) = (false, false);
        for change in &changes {
            relevant |= matches!(
                change.resource.plural.as_str(),
                "deployments"
                    | "replicasets"
                    | "daemonsets"
                    | "pods"
                    | "services"
                    | "endpointslices"
                    | "namespaces"
                    | "horizontalpodautoscalers"
                    | "scaledobjects"
            );
            orphans |= change.action == Action::Deleted || change.object.terminating();
        }
        self.seen = self.server.revision();
        (relevant || orphans, orphans)
    }

    /// Looks again at this time, or earlier.
    fn wake_at(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    fn now(&self) -> String {
        format!("{:.0}", self.clock.now())
    }

    /// Writes the status of an object if it changes; somebody else's write comes first.
    fn write_status(&self, (group, plural): (&str, &str), object: &Object, status: Value) {
        if object.value().get("status") == Some(&status) {
            return;
        }
        // A merge patch keeps what it does not name: name what is to go.
        let mut patch = status;
        if let (Some(old), Some(new)) = (
            object.value().get("status").and_then(Value::as_object),
            patch.as_object_mut(),
        ) {
            for key in old.keys() {
                new.entry(key.clone()).or_insert(Value::Null);
            }
        }
        let written = self.server.patch(
            (group, plural),
            (object.namespace(), object.name()),
            Some(Subresource::Status),
            PatchKind::Merge,
            serde_json::json!({ "status": patch }),
        );
        if let Err(refusal) = written {
            tracing::debug!(?refusal, object = object.name(), "status not written");
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
        objects.retain(|object| {
            controller_of(object.value()).is_some_and(|found| found["uid"] == owner.uid())
        });
        objects
    }
}

/// The reference to an object's controller.
pub fn controller_of(object: &Value) -> Option<&Value> {
    object
        .pointer("/metadata/ownerReferences")?
        .as_array()?
        .iter()
        .find(|owner| owner["controller"] == true)
}

fn owner_reference(kind: &str, owner: &Object) -> Value {
    serde_json::json!([{
        "apiVersion": owner.value()["apiVersion"], "kind": kind, "name": owner.name(),
        "uid": owner.uid(), "controller": true, "blockOwnerDeletion": true,
    }])
}

fn integer(value: &Value, path: &str) -> Option<i64> {
    value.pointer(path)?.as_i64()
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value
        .pointer(path)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn items<'a>(value: &'a Value, path: &str) -> &'a [Value] {
    value
        .pointer(path)
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
    serde_json::json!({
        "type": kind, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": transition, "lastUpdateTime": update,
    })
}

//! Every fact that a decision may use.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::{AlertProvider, Canary, MetricTemplate},
    object::{Key, Kind, Object},
    plan::{Answer, LookAnswer, LookRequest},
    settings::Settings,
};

/// Every fact that a decision may use, and no others. Same snapshot, same plan.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The time of the decision.
    pub now: Timestamp,
    /// What the operator was told at start.
    pub settings: Arc<Settings>,
    /// The Canary.
    pub canary: Arc<Canary>,
    /// Objects around the Canary; absent ones have no entry.
    pub objects: BTreeMap<Key, Arc<Object>>,
    /// EndpointSlices by service.
    pub slices: BTreeMap<String, Vec<Arc<Object>>>,
    /// ReplicaSets by Deployment, metadata only.
    pub replica_sets: BTreeMap<String, Vec<Arc<Object>>>,
    /// ConfigMaps and Secrets that the target refers to; absent ones have no entry.
    pub configs: BTreeMap<Key, Config>,
    /// Metric templates that the Canary refers to.
    pub templates: BTreeMap<Key, Arc<MetricTemplate>>,
    /// Alert providers that the Canary refers to; no decision reads them.
    pub providers: Arc<BTreeMap<Key, AlertProvider>>,
    /// Kinds whose API the server does not have.
    pub missing_apis: BTreeSet<Kind>,
    /// Since when this process has seen [quiet](crate::plan::Plan::quiet) plans only: what is to
    /// lose its capacity has had no traffic since then.
    pub quiet_since: Option<Timestamp>,
    /// An older Canary that releases the same target or serves the same apex.
    pub rival: Option<String>,
    /// Checks under way or answered, by id.
    pub checks: BTreeMap<String, CheckState>,
    /// The judge's last look at the counters.
    pub look: Option<Arc<LookState>>,
    /// Since when this process has seen each pod ready behind the canary service.
    pub ready_since: BTreeMap<String, Timestamp>,
}

/// A ConfigMap or Secret that the target refers to.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Its metadata.
    pub object: Arc<Object>,
    /// Checksum of its data; `None` when it is not to be tracked: it opted out, or its type is
    /// not one that is tracked.
    pub checksum: Option<String>,
}

/// Where a check stands.
#[derive(Clone, Debug, PartialEq)]
pub enum CheckState {
    /// Asked, not answered.
    Pending,
    /// Answered.
    Done(Arc<Answer>),
}

/// Where a look at the counters stands.
#[derive(Clone, Debug, PartialEq)]
pub struct LookState {
    /// What was asked.
    pub request: LookRequest,
    /// The answer; `None` while it is awaited.
    pub answer: Option<LookAnswer>,
}

impl Snapshot {
    /// The namespace of the Canary and of all that it works with.
    pub fn namespace(&self) -> &str {
        self.canary
            .metadata
            .namespace
            .as_deref()
            .unwrap_or_default()
    }

    /// The name of the Canary.
    pub fn name(&self) -> &str {
        self.canary.metadata.name.as_deref().unwrap_or_default()
    }

    /// The bodies of all objects. While somebody holds them, none is read from its text again.
    pub fn bodies(&self) -> Vec<Arc<Value>> {
        let grouped = self.slices.values().flatten();
        let objects = self.objects.values().chain(grouped);
        objects.map(|object| object.body.read()).collect()
    }

    /// The workload that the Canary releases.
    pub fn target(&self) -> Option<&Arc<Object>> {
        self.objects.get(&self.target_key())
    }

    /// Whether the Canary is being deleted.
    pub fn leaves(&self) -> bool {
        self.canary.metadata.deletion_timestamp.is_some()
    }

    /// The key of the workload that the Canary releases.
    pub fn target_key(&self) -> Key {
        let reference = &self.canary.spec.target_ref;
        let kind = Kind::from(reference.kind);
        Key::new(kind, self.namespace(), reference.name.clone())
    }

    /// The key of the apex service.
    pub fn apex_key(&self) -> Key {
        let apex = self.canary.spec.apex_name();
        Key::new(Kind::Service, self.namespace(), apex)
    }

    /// An object in the Canary's namespace.
    pub fn object(&self, kind: Kind, name: &str) -> Option<&Arc<Object>> {
        self.objects.get(&Key::new(kind, self.namespace(), name))
    }
}

//! Kubernetes objects as Haldane sees them: kinds, cached objects, and wanted objects.
//!
//! Bodies stay JSON, so that fields which this build does not know survive a round trip.

mod json;
mod kind;
mod want;

pub use json::{Json, digest, merge_diff};
pub use kind::{Kind, Scope};
pub use want::Want;

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Key {
    /// Kind of the object.
    pub kind: Kind,
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl Key {
    /// The key of one object.
    pub fn new(kind: Kind, namespace: &str, name: impl Into<String>) -> Self {
        Self {
            kind,
            namespace: namespace.to_owned(),
            name: name.into(),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// An object as last seen, without what no decision reads (managed fields and the like).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Object {
    /// Where it is.
    pub key: Key,
    /// Unique identity.
    pub uid: String,
    /// Version of this state; opaque.
    pub resource_version: String,
    /// Version of the spec.
    pub generation: i64,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// When deletion was asked for.
    pub deleted: Option<Timestamp>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Owners.
    pub owners: Vec<Owner>,
    /// Finalizers.
    pub finalizers: Vec<String>,
    /// All but `apiVersion`, `kind` and `metadata`.
    pub body: Json,
}

/// An owner of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Owner {
    /// Kind of the owner.
    pub kind: String,
    /// Name of the owner.
    pub name: String,
    /// Identity of the owner.
    pub uid: String,
    /// Whether it is the controller.
    pub controller: bool,
}

impl Object {
    /// Reads an API object. `None` when name, uid or version are missing.
    pub fn read(kind: Kind, mut value: Value) -> Option<Self> {
        let fields = value.as_object_mut()?;
        fields.remove("apiVersion");
        fields.remove("kind");
        let metadata = fields.remove("metadata")?;
        let text = |key: &str| metadata.get(key).and_then(Value::as_str).map(str::to_owned);
        let time = |key: &str| text(key).and_then(|t| t.parse().ok());
        let map = |key: &str| -> BTreeMap<String, String> {
            metadata
                .get(key)
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
                .filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned())))
                .collect()
        };
        let owners = metadata
            .get("ownerReferences")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .map(|owner| {
                let text = |key: &str| {
                    owner
                        .get(key)
                        .and_then(Value::as_str)
                        .unwrap_or_default()
                        .to_owned()
                };
                Owner {
                    kind: text("kind"),
                    name: text("name"),
                    uid: text("uid"),
                    controller: owner
                        .get("controller")
                        .and_then(Value::as_bool)
                        .unwrap_or_default(),
                }
            })
            .collect();
        let finalizers = metadata
            .get("finalizers")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|f| f.as_str().map(str::to_owned))
            .collect();
        Some(Self {
            key: Key {
                kind,
                namespace: text("namespace").unwrap_or_default(),
                name: text("name")?,
            },
            uid: text("uid")?,
            resource_version: text("resourceVersion")?,
            generation: metadata
                .get("generation")
                .and_then(Value::as_i64)
                .unwrap_or_default(),
            created: time("creationTimestamp"),
            deleted: time("deletionTimestamp"),
            labels: map("labels"),
            annotations: map("annotations"),
            owners,
            finalizers,
            body: Json::of(&value),
        })
    }

    /// The controller that owns this object.
    pub fn controller(&self) -> Option<&Owner> {
        self.owners.iter().find(|owner| owner.controller)
    }

    /// Whether the object with this identity is the controller.
    pub fn is_controlled_by(&self, uid: &str) -> bool {
        self.controller().is_some_and(|owner| owner.uid == uid)
    }
}

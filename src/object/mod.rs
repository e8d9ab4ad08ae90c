//! Kubernetes objects as Haldane sees them: kinds, cached objects, and wanted objects.
//!
//! Bodies stay JSON, so that fields which this build does not know survive a round trip.

mod json;
mod kind;
mod raw;
mod want;

pub use json::{At, Json, digest, map_of, merge_diff};
pub use kind::{Kind, Scope};
pub use raw::Raw;
pub use want::Want;

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
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
    /// Reads an API object. `None` when its metadata cannot be read, or name, uid or version are
    /// missing.
    pub fn read(kind: Kind, mut value: Value) -> Option<Self> {
        let metadata = value.as_object_mut()?.remove("metadata")?;
        Self::of(kind, serde_json::from_value(metadata).ok()?, value)
    }

    /// An API object of its metadata and the rest of it. `None` when name, uid or version are
    /// missing.
    pub fn of(kind: Kind, metadata: ObjectMeta, mut body: Value) -> Option<Self> {
        let fields = body.as_object_mut()?;
        fields.remove("apiVersion");
        fields.remove("kind");
        let owners = metadata.owner_references.unwrap_or_default();
        let owners = owners.into_iter().map(|owner| Owner {
            kind: owner.kind,
            name: owner.name,
            uid: owner.uid,
            controller: owner.controller.unwrap_or_default(),
        });
        Some(Self {
            key: Key {
                kind,
                namespace: metadata.namespace.unwrap_or_default(),
                name: metadata.name?,
            },
            uid: metadata.uid?,
            resource_version: metadata.resource_version?,
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.map(|time| time.0),
            deleted: metadata.deletion_timestamp.map(|time| time.0),
            labels: metadata.labels.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
            owners: owners.collect(),
            finalizers: metadata.finalizers.unwrap_or_default(),
            body: Json::warm(body),
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

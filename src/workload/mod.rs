//! Workloads: what is read from a target, and what is built beside it.
//!
//! The user's own workload `T` is the canary. Beside it stand the primary `T-primary`, copies of
//! the ConfigMaps and Secrets that it uses, a copy of its autoscaler, and the services `S`,
//! `S-primary` and `S-canary`.
//!
//! Everything here is pure and works on JSON, so that fields which this build does not know
//! reach the primary too. Builders return a [`Want`](crate::object::Want) or a merge patch;
//! `None` means that nothing has to change.

mod affinity;
mod checksum;
mod configs;
mod endpoints;
mod kind;
mod owner;
mod ports;
mod primary;
mod promotion;
mod readiness;
mod revision;
mod scale;
mod scaler;
mod selector;
mod service;
mod service_target;
mod takeover;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod properties;

pub use checksum::checksum;
pub use configs::{
    ConfigRef, Copies, config_copy, config_refs, copy_name, copy_names, former_name, is_tracked,
    is_tracked_secret_type, rename_configs, tracked_key,
};
pub use endpoints::{SERVICE_NAME, current_replica_set, is_pod_of, ready_endpoints, ready_pods};
pub use owner::{adopts, is_only_of, owner};
pub use primary::primary;
pub use promotion::{carries, promotion, release_id, release_of, restoration, shared_revision};
pub use readiness::{Readiness, Side, readiness};
pub use revision::{is_foreign, revision};
pub use scale::{is_scaled_to_zero, replicas, revert_target, scale_to_zero, scale_up};
pub use scaler::{pause_scaler, primary_scaler, resume_scaler};
pub use selector::{Selector, selector};
pub use service::{Services, revert_apex, services};
pub use service_target::service_copies;
pub use takeover::agrees;

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thiserror::Error;

use crate::object::{At, Key};

/// Why nothing can be built from a target as it is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum WorkloadError {
    /// The target's selector has none of the labels that tell the primary from the canary.
    #[error("{kind} {name}.{namespace} spec.selector.matchLabels must contain one of [{wanted}]")]
    NoSelectorLabel {
        /// Kind of the target, in lower case.
        kind: String,
        /// Name of the target.
        name: String,
        /// Namespace of the target.
        namespace: String,
        /// The labels that would do, separated by spaces.
        wanted: String,
    },
    /// A DaemonSet that replaces its pods only when they are deleted.
    #[error("daemonset {name}.{namespace} must have RollingUpdate strategy but have {found}")]
    UpdateStrategy {
        /// Name of the target.
        name: String,
        /// Namespace of the target.
        namespace: String,
        /// `spec.updateStrategy.type` as found.
        found: String,
    },
    /// A field that every object of its kind has is missing or is something else.
    #[error("{key} has no {field}: expected {expected}")]
    Malformed {
        /// The object.
        key: Key,
        /// The field.
        field: &'static str,
        /// What should be there.
        expected: &'static str,
    },
    /// The Canary has no `spec.service`, which its target needs.
    #[error("Canary {namespace}/{name} has no spec.service: a {kind} target needs service.port")]
    NoService {
        /// Name of the Canary.
        name: String,
        /// Namespace of the Canary.
        namespace: String,
        /// Kind of the target.
        kind: &'static str,
    },
    /// A name that the Canary needs belongs to somebody else.
    #[error(
        "{key} exists and belongs to {holder}, not to Canary {canary}: \
         delete or rename it, so that the Canary can create its own"
    )]
    NameConflict {
        /// The object in the way.
        key: Key,
        /// Whom it belongs to.
        holder: String,
        /// Name of the Canary that needs the name.
        canary: String,
    },
}

impl WorkloadError {
    /// The error in one word, for conditions.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoSelectorLabel { .. } => "NoSelectorLabel",
            Self::UpdateStrategy { .. } => "UnsupportedUpdateStrategy",
            Self::Malformed { .. } => "MalformedObject",
            Self::NoService { .. } => "NoService",
            Self::NameConflict { .. } => "NameConflict",
        }
    }
}

/// The pod spec below an object of apps/v1.
const POD_SPEC: &str = "/spec/template/spec";

/// Marks labels and annotations by which Flux knows what it applied: a copy must not carry them.
const TOOLKIT: &str = "toolkit.fluxcd.io";

/// Where `kubectl apply` keeps what it applied.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The strings of a JSON object; empty for anything else.
fn strings(value: Option<&Value>) -> BTreeMap<String, String> {
    value
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// The elements of a JSON list; none for anything else.
fn elements(value: Option<&Value>) -> impl Iterator<Item = &Value> {
    value.and_then(Value::as_array).into_iter().flatten()
}

/// The elements of a JSON list, to be changed; none for anything else.
fn elements_mut(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value.and_then(Value::as_array_mut).into_iter().flatten()
}

/// The number at a pointer, 0 unless there is one: the API leaves zero counts out.
fn count(value: &Value, pointer: &str) -> i64 {
    value.at(pointer).and_then(Value::as_i64).unwrap_or(0)
}

/// Removes fields that are `null`. Some servers print them where others leave the field out, and
/// a merge patch cannot set them.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(
            fields
                .into_iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| (key, without_nulls(value)))
                .collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(without_nulls).collect()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

/// Changes the object in a field; it is made if there is none.
fn edit_child(
    parent: &mut Map<String, Value>,
    field: &str,
    edit: impl FnOnce(&mut Map<String, Value>),
) {
    let mut fields = match parent.remove(field) {
        Some(Value::Object(fields)) => fields,
        Some(_) | None => Map::new(),
    };
    edit(&mut fields);
    parent.insert(field.to_owned(), Value::Object(fields));
}

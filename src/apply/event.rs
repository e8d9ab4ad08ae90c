//! Kubernetes Events, as Flagger's users know them.

use jiff::Timestamp;
use kube::api::DynamicObject;
use serde_json::json;

use crate::{
    api::{Canary, status::Notice},
    object::{Key, Kind, digest},
};

/// The Event of a notice.
///
/// Its name follows from what it tells: the same notice makes the same Event, so that writing it
/// again after a crash tells nothing twice.
pub fn event(
    canary: &Canary,
    notice: &Notice,
    index: usize,
    time: Timestamp,
) -> (Key, DynamicObject) {
    let metadata = &canary.metadata;
    let name = metadata.name.as_deref().unwrap_or_default();
    let namespace = metadata.namespace.as_deref().unwrap_or_default();
    let uid = metadata.uid.as_deref().unwrap_or_default();
    let identity = digest(
        format!("{uid}/{time}/{index}/{}", notice.message).as_bytes(),
        8,
    );
    // A name has at most 253 characters; Canaries may use most of them.
    let prefix: String = name.chars().take(230).collect();
    let key = Key::new(Kind::Event, namespace, format!("{prefix}.{identity}"));
    let at = time.to_string();
    let message: String = notice.message.chars().take(1024).collect();
    let value = json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": { "name": key.name, "namespace": namespace },
        "involvedObject": {
            "apiVersion": Kind::Canary.api_version(),
            "kind": "Canary",
            "name": name,
            "namespace": namespace,
            "uid": uid,
            "resourceVersion": metadata.resource_version,
        },
        "reason": "Synced",
        "message": message,
        "type": if notice.warning { "Warning" } else { "Normal" },
        "source": { "component": "flagger" },
        "reportingComponent": "flagger",
        "reportingInstance": "",
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    });
    let object = serde_json::from_value(value).unwrap_or_else(|_| DynamicObject {
        types: None,
        metadata: kube::core::ObjectMeta::default(),
        data: serde_json::Value::Null,
    });
    (key, object)
}

//! What makes a new version of a workload.

use serde_json::Value;

use super::without_nulls;
use crate::{
    api::SCALE_TO_ZERO,
    object::{Json, Kind, Object},
};

/// Starts every revision that this version of the operator computes. It changes with the way of
/// computing, so that a change of that way is never taken for a new version of the workload.
const PREFIX: &str = "h1:";

/// The revision of a target: `h1:` and 32 hexadecimal digits.
///
/// It covers the pod template of a Deployment or DaemonSet (but for the node selector by which
/// a DaemonSet is scaled to zero) and the spec of a Service. It depends on the object's JSON
/// alone, not on the fields that a build knows.
pub fn revision(target: &Object) -> String {
    let body = target.body.value();
    let content = if target.key.kind == Kind::Service {
        without_nulls(body.get("spec").cloned().unwrap_or_default())
    } else {
        template(body.pointer("/spec/template").cloned().unwrap_or_default())
    };
    format!("{PREFIX}{}", Json::of(&content).digest(16))
}

/// Whether a recorded revision was computed in another way, by Flagger for example: it says
/// nothing about whether the workload changed.
pub fn is_foreign(revision: &str) -> bool {
    !revision.starts_with(PREFIX)
}

/// A pod template in one form: without nulls, without the creation time that it cannot have, and
/// without the node selector by which a DaemonSet is scaled to zero.
pub(super) fn template(template: Value) -> Value {
    let mut template = without_nulls(template);
    if let Some(Value::Object(metadata)) = template.get_mut("metadata") {
        metadata.remove("creationTimestamp");
    }
    if let Some(Value::Object(pod)) = template.get_mut("spec")
        && let Some(Value::Object(selector)) = pod.get_mut("nodeSelector")
    {
        selector.remove(SCALE_TO_ZERO);
        if selector.is_empty() {
            pod.remove("nodeSelector");
        }
    }
    template
}

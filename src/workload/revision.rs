//! What makes a new version of a workload.

use serde_json::Value;

use super::without_nulls;
use crate::{
    api::SCALE_TO_ZERO,
    object::{At, Json, Kind, Object},
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
    let of = |body: &Value| {
        let content = if target.key.kind == Kind::Service {
            without_nulls(body.get("spec").cloned().unwrap_or_default())
        } else {
            template(body.at("/spec/template").cloned().unwrap_or_default())
        };
        format!("{PREFIX}{}", Json::of(&content).digest(16))
    };
    target.body.derived(of).to_owned()
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workload::fixtures::{daemon_set, deployment, object, patched};

    #[test]
    fn revision_is_stable_across_builds() {
        // A release of the operator that changes this starts a rollout of every workload: then
        // the prefix must change too.
        let target = object(
            Kind::Deployment,
            "{metadata: {name: a}, spec: {template: {spec: {containers: [{name: a, image: b}]}}}}",
        );
        assert_eq!(revision(&target), "h1:19a178640df61c0f0be28e14ae684cf8");
    }

    #[test]
    fn revision_changes_with_the_pod_template_alone() {
        let target = deployment();
        let before = revision(&target);
        for (patch, changes) in [
            (json!({"spec": {"replicas": 9}}), false),
            (json!({"spec": {"strategy": {"type": "Recreate"}}}), false),
            (json!({"metadata": {"annotations": {"x": "y"}}}), false),
            (json!({"status": {"replicas": 0}}), false),
            (
                json!({"spec": {"template": {"metadata": {"annotations": {"x": "y"}}}}}),
                true,
            ),
            (
                json!({"spec": {"template": {"spec": {"fieldOfTomorrow": {"kept": false}}}}}),
                true,
            ),
        ] {
            assert_eq!(
                revision(&patched(&target, &patch)) != before,
                changes,
                "{patch}"
            );
        }
    }

    #[test]
    fn revision_ignores_how_a_server_prints_nothing() {
        let target = deployment();
        let mut value = target.body.value();
        let template = &mut value["spec"]["template"];
        template["metadata"]["creationTimestamp"].take();
        template["spec"]["containers"][0]["resources"] = Value::Null;
        let printed = Object {
            body: Json::of(&value),
            ..target.clone()
        };
        assert_eq!(revision(&printed), revision(&target));
    }

    #[test]
    fn revision_of_a_daemon_set_ignores_scaling_to_zero() {
        let target = daemon_set();
        let zero = crate::workload::scale_to_zero(&target).unwrap();
        assert_eq!(revision(&patched(&target, &zero)), revision(&target));
        let without = patched(
            &target,
            &json!({"spec": {"template": {"spec": {"nodeSelector": null}}}}),
        );
        let zero = patched(&without, &zero);
        assert_eq!(revision(&zero), revision(&without));
        let empty = patched(
            &zero,
            &json!({"spec": {"template": {"spec": {"nodeSelector": {SCALE_TO_ZERO: null}}}}}),
        );
        assert_eq!(revision(&empty), revision(&without));
    }

    #[test]
    fn is_foreign_tells_hashes_of_flagger() {
        for foreign in ["5978589476", "v2:abc", "", "h2:abc"] {
            assert!(is_foreign(foreign), "{foreign}");
        }
        assert!(!is_foreign(&revision(&deployment())));
    }
}

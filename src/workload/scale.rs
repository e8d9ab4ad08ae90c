//! Scaling of workloads to zero and back, as merge patches.

use serde_json::{Value, json};

use super::{POD_SPEC, count};
use crate::{
    api::SCALE_TO_ZERO,
    object::{At, Kind, Object},
};

/// The replicas that a Deployment asks for, 1 when it does not say. 0 for other kinds.
pub fn replicas(object: &Object) -> i64 {
    if object.key.kind == Kind::Deployment {
        object
            .body
            .read()
            .at("/spec/replicas")
            .and_then(Value::as_i64)
            .unwrap_or(1)
    } else {
        0
    }
}

/// Whether a workload was asked to have no pods.
pub fn is_scaled_to_zero(target: &Object) -> bool {
    let kind = target.key.kind;
    (kind == Kind::Deployment && replicas(target) == 0)
        || (kind == Kind::DaemonSet && has_scale_to_zero(target))
}

/// The merge patch that takes all pods from a workload; `None` when it is asked for already, or
/// for kinds without pods.
pub fn scale_to_zero(target: &Object) -> Option<Value> {
    if is_scaled_to_zero(target) {
        return None;
    }
    if target.key.kind == Kind::Deployment {
        Some(scaled_to(0))
    } else {
        (target.key.kind == Kind::DaemonSet).then(|| node_selector(&json!("true")))
    }
}

/// The merge patch that gives pods to a workload that was scaled to zero; `None` when it was
/// not.
///
/// A Deployment gets as many replicas as the primary has, or, with an autoscaler, the least
/// that this allows; at least 1.
pub fn scale_up(
    target: &Object,
    primary: Option<&Object>,
    scaler: Option<&Object>,
) -> Option<Value> {
    if !is_scaled_to_zero(target) {
        return None;
    }
    if target.key.kind == Kind::DaemonSet {
        return Some(node_selector(&Value::Null));
    }
    let wanted = scaler.map_or_else(|| primary.map_or(1, replicas), fewest);
    Some(scaled_to(wanted.max(1)))
}

/// The merge patch that makes a workload serve again on its own when its Canary goes: as many
/// replicas as the primary has.
pub fn revert_target(
    target: &Object,
    primary: Option<&Object>,
    scaler: Option<&Object>,
) -> Option<Value> {
    match primary.map(replicas) {
        Some(wanted) if wanted > 0 && target.key.kind == Kind::Deployment => {
            (replicas(target) != wanted).then(|| scaled_to(wanted))
        }
        _ => scale_up(target, primary, scaler),
    }
}

/// The fewest replicas that an autoscaler allows.
fn fewest(scaler: &Object) -> i64 {
    let body = scaler.body.read();
    count(&body, "/spec/minReplicas").max(count(&body, "/spec/minReplicaCount"))
}

fn scaled_to(replicas: i64) -> Value {
    json!({"spec": {"replicas": replicas}})
}

fn node_selector(value: &Value) -> Value {
    json!({"spec": {"template": {"spec": {"nodeSelector": {SCALE_TO_ZERO: value}}}}})
}

fn has_scale_to_zero(target: &Object) -> bool {
    target
        .body
        .read()
        .at(POD_SPEC)
        .and_then(|pod| pod.get("nodeSelector")?.get(SCALE_TO_ZERO))
        .is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::fixtures::{daemon_set, deployment, object, patched};

    fn deployment_with(replicas: i64) -> Object {
        patched(&deployment(), &scaled_to(replicas))
    }

    #[test]
    fn scale_to_zero_and_up_are_fixpoints() {
        for target in [deployment(), daemon_set()] {
            assert!(!is_scaled_to_zero(&target));
            assert_eq!(scale_up(&target, None, None), None);
            let zero = patched(&target, &scale_to_zero(&target).unwrap());
            assert!(is_scaled_to_zero(&zero));
            assert_eq!(scale_to_zero(&zero), None);
            let back = patched(&zero, &scale_up(&zero, Some(&target), None).unwrap());
            assert_eq!(back.body, target.body);
        }
    }

    #[test]
    fn scale_of_services_does_nothing() {
        let service = object(Kind::Service, "{metadata: {name: s}, spec: {}}");
        assert!(!is_scaled_to_zero(&service));
        assert_eq!(scale_to_zero(&service), None);
        assert_eq!(scale_up(&service, None, None), None);
    }

    #[test]
    fn scale_up_takes_replicas_of_primary_or_least_of_autoscaler() {
        let zero = deployment_with(0);
        let scaler = |kind, field: &str, fewest: i64| {
            object(
                kind,
                &format!("{{metadata: {{name: a}}, spec: {{{field}: {fewest}}}}}"),
            )
        };
        let five = deployment_with(5);
        let hpa = scaler(Kind::HorizontalPodAutoscaler, "minReplicas", 2);
        let keda = scaler(Kind::ScaledObject, "minReplicaCount", 4);
        let keda_zero = scaler(Kind::ScaledObject, "minReplicaCount", 0);
        for (primary, scaler, wanted) in [
            (Some(&five), None, 5),
            (Some(&zero), None, 1),
            (None, None, 1),
            (Some(&five), Some(&hpa), 2),
            (Some(&five), Some(&keda), 4),
            (Some(&five), Some(&keda_zero), 1),
        ] {
            assert_eq!(scale_up(&zero, primary, scaler), Some(scaled_to(wanted)));
        }
    }

    #[test]
    fn revert_target_gives_the_replicas_of_the_primary() {
        let (zero, two, five) = (deployment_with(0), deployment_with(2), deployment_with(5));
        assert_eq!(revert_target(&zero, Some(&five), None), Some(scaled_to(5)));
        assert_eq!(revert_target(&two, Some(&five), None), Some(scaled_to(5)));
        assert_eq!(revert_target(&five, Some(&five), None), None);
        assert_eq!(revert_target(&zero, None, None), Some(scaled_to(1)));
        assert_eq!(revert_target(&two, None, None), None);
        let daemons = patched(&daemon_set(), &scale_to_zero(&daemon_set()).unwrap());
        let back = revert_target(&daemons, Some(&daemon_set()), None).unwrap();
        assert_eq!(patched(&daemons, &back).body, daemon_set().body);
    }
}

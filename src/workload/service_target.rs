//! Targets that are plain Services: copies of the Service itself.

use serde_json::{Map, Value, json};

use super::{
    LAST_APPLIED, Services, TOOLKIT, elements_mut, owner::owner, ports, revision, without_nulls,
};
use crate::{
    api::{Canary, REVISION},
    object::{Key, Kind, Object, Want},
};

/// The copies `T-canary` and `T-primary` of a Service target, and the target itself as apex.
///
/// `canary` follows the target at all times, `primary` is written on creation and promotion
/// only. The apex is the user's own and is not changed: its want is empty.
pub fn service_copies(
    canary: &Canary,
    target: &Object,
    observed: Services<Option<&Object>>,
) -> Services<Want> {
    let mut primary = copy(canary, target, "primary", observed.primary);
    primary
        .annotations
        .insert(REVISION.to_owned(), revision(target));
    Services {
        canary: copy(canary, target, "canary", observed.canary),
        primary,
        apex: Want::new(target.key.clone(), json!({})),
    }
}

fn copy(canary: &Canary, target: &Object, suffix: &str, observed: Option<&Object>) -> Want {
    let mut spec = match without_nulls(target.body.value()) {
        Value::Object(mut body) => body.remove("spec").unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Value::Null
        }
    };
    if let Value::Object(fields) = &mut spec {
        forget_allocations(fields);
        if let (Some(Value::Array(wanted)), Some(existing)) = (fields.get_mut("ports"), observed) {
            *wanted = ports::reconciled(wanted, existing, true);
        }
    }
    let key = Key::new(
        Kind::Service,
        &target.key.namespace,
        format!("{}-{suffix}", target.key.name),
    );
    let mut want = Want::new(key, json!({ "spec": spec }));
    want.exact.push("/spec/selector");
    want.owner = Some(owner(canary));
    let is_copied = |key: &String| !key.contains(TOOLKIT) && key != LAST_APPLIED;
    want.labels = target.labels.clone();
    want.labels.retain(|key, _| is_copied(key));
    want.annotations = target.annotations.clone();
    want.annotations.retain(|key, _| is_copied(key));
    want
}

/// Removes addresses and ports that the server gave to the original alone.
fn forget_allocations(spec: &mut Map<String, Value>) {
    if spec.get("clusterIP").and_then(Value::as_str) != Some("None") {
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    spec.remove("healthCheckNodePort");
    for port in elements_mut(spec.get_mut("ports")) {
        if let Value::Object(port) = port {
            port.remove("nodePort");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::fixtures::{canary, created, object, patched};

    const CANARY: &str = "
targetRef: {apiVersion: v1, kind: Service, name: app}
service: {port: 80}
";

    fn target() -> Object {
        object(
            Kind::Service,
            "
metadata:
  name: app
  labels: {a: b, kustomize.toolkit.fluxcd.io/name: apps}
  annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}', note: x}
spec:
  type: NodePort
  clusterIP: 10.0.0.1
  clusterIPs: [10.0.0.1]
  selector: {app: v1}
  ports: [{name: http, port: 80, targetPort: 8080, protocol: TCP, nodePort: 30000}]
",
        )
    }

    #[test]
    fn service_copies_leave_addresses_of_the_original_behind() {
        let copies = service_copies(&canary(CANARY), &target(), Services::default());
        for (want, name) in [
            (&copies.canary, "app-canary"),
            (&copies.primary, "app-primary"),
        ] {
            let manifest = want.manifest();
            assert_eq!(want.key.name, name);
            assert_eq!(
                manifest["spec"],
                json!({
                    "type": "NodePort",
                    "selector": {"app": "v1"},
                    "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
                })
            );
            assert_eq!(manifest["metadata"]["labels"], json!({"a": "b"}));
            assert_eq!(manifest["metadata"]["annotations"]["note"], "x");
        }
        assert_eq!(copies.primary.annotations[REVISION], revision(&target()));
        assert_eq!(copies.apex.patch(&target()), None);
    }

    #[test]
    fn service_copies_follow_the_target_exactly() {
        let canary = canary(CANARY);
        let first = service_copies(&canary, &target(), Services::default());
        let live = patched(
            &created(&first.canary),
            &json!({"spec": {
                "clusterIP": "10.0.0.2",
                "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP", "nodePort": 31111}],
            }}),
        );
        let observed = Services {
            canary: Some(&live),
            ..Services::default()
        };
        assert_eq!(
            service_copies(&canary, &target(), observed)
                .canary
                .patch(&live),
            None
        );
        let moved = patched(
            &target(),
            &json!({"spec": {"selector": {"app": null, "run": "v2"}}}),
        );
        assert_eq!(
            service_copies(&canary, &moved, observed)
                .canary
                .patch(&live),
            Some(json!({"spec": {"selector": {"app": null, "run": "v2"}}}))
        );
    }

    #[test]
    fn service_copies_of_a_headless_service_are_headless() {
        let headless = patched(&target(), &json!({"spec": {"clusterIP": "None"}}));
        let copies = service_copies(&canary(CANARY), &headless, Services::default());
        assert_eq!(copies.canary.manifest()["spec"]["clusterIP"], "None");
    }
}

//! Autoscalers: the primary's copy, and pausing the target's.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    LAST_APPLIED, TOOLKIT, WorkloadError, edit_child, elements_mut, owner::owner, without_nulls,
};
use crate::{
    api::Canary,
    object::{Key, Kind, Object, Want},
};

/// Annotation by which KEDA holds a workload at a number of replicas.
const PAUSED_REPLICAS: &str = "autoscaling.keda.sh/paused-replicas";

/// Start of all annotations by which KEDA is paused.
const PAUSED: &str = "autoscaling.keda.sh/paused";

/// Label that KEDA puts on each ScaledObject with its own name.
const KEDA_NAME: &str = "scaledobject.keda.sh/name";

/// The primary's autoscaler: a copy of the target's under `NAME-primary` that scales `T-primary`.
///
/// # Errors
/// When the autoscaler has no `spec`.
pub fn primary_scaler(canary: &Canary, source: &Object) -> Result<Want, WorkloadError> {
    let Some(Value::Object(mut spec)) = without_nulls(source.body.value())
        .get_mut("spec")
        .map(Value::take)
    else {
        return Err(WorkloadError::Malformed {
            key: source.key.clone(),
            field: "spec",
            expected: "the spec of an autoscaler",
        });
    };
    edit_child(&mut spec, "scaleTargetRef", |target| {
        target.insert("name".to_owned(), json!(canary.spec.primary_name()));
    });
    let is_keda = source.key.kind == Kind::ScaledObject;
    if is_keda {
        rewrite_keda(canary, &mut spec);
    }
    bound(canary, is_keda, &mut spec);
    let key = Key::new(
        source.key.kind,
        &source.key.namespace,
        format!("{}-primary", source.key.name),
    );
    let mut want = Want::new(key, json!({ "spec": spec }));
    want.exact.push("/spec");
    want.owner = Some(owner(canary));
    let is_copied = |key: &String| !key.contains(TOOLKIT) && key != KEDA_NAME;
    want.labels = source.labels.clone();
    want.labels.retain(|key, _| is_copied(key));
    if is_keda {
        want.annotations = source.annotations.clone();
        want.annotations
            .retain(|key, _| is_copied(key) && key != LAST_APPLIED && !key.starts_with(PAUSED));
    }
    Ok(want)
}

/// Sets the bounds that the Canary names for the primary.
fn bound(canary: &Canary, is_keda: bool, spec: &mut Map<String, Value>) {
    let Some(bounds) = canary
        .spec
        .autoscaler_ref
        .as_ref()
        .and_then(|scaler| scaler.primary_scaler_replicas.as_ref())
    else {
        return;
    };
    let [min, max] = if is_keda {
        ["minReplicaCount", "maxReplicaCount"]
    } else {
        ["minReplicas", "maxReplicas"]
    };
    for (field, value) in [(min, bounds.min_replicas), (max, bounds.max_replicas)] {
        if let Some(value) = value {
            spec.insert(field.to_owned(), json!(value));
        }
    }
}

fn rewrite_keda(canary: &Canary, spec: &mut Map<String, Value>) {
    let target = &canary.spec.target_ref.name;
    let queries = canary
        .spec
        .autoscaler_ref
        .as_ref()
        .and_then(|scaler| scaler.primary_scaler_queries.as_ref());
    if let Some(advanced) = spec.get_mut("advanced")
        && let Some(Value::String(name)) =
            advanced.pointer_mut("/horizontalPodAutoscalerConfig/name")
        && !name.is_empty()
    {
        name.push_str("-primary");
    }
    for trigger in elements_mut(spec.get_mut("triggers")) {
        let given = trigger
            .get("name")
            .and_then(Value::as_str)
            .and_then(|name| queries.and_then(|queries: &BTreeMap<_, _>| queries.get(name)))
            .cloned();
        if let Some(Value::String(query)) = trigger.pointer_mut("/metadata/query") {
            *query = given.unwrap_or_else(|| primary_query(query, target));
        }
    }
}

/// A query about the primary: each name of the target, its canary or its primary in the text
/// becomes the primary's.
fn primary_query(query: &str, target: &str) -> String {
    let mut parts = query.split(target);
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        text.push_str(target);
        text.push_str("-primary");
        text.push_str(
            part.strip_prefix("-canary")
                .or_else(|| part.strip_prefix("-primary"))
                .unwrap_or(part),
        );
    }
    text
}

/// The merge patch that keeps KEDA from scaling a workload up from zero; `None` when it is
/// paused already, and for a HorizontalPodAutoscaler, which rests while there are no replicas.
pub fn pause_scaler(scaler: &Object) -> Option<Value> {
    let is_paused = scaler.annotations.get(PAUSED_REPLICAS).map(String::as_str) == Some("0");
    (scaler.key.kind == Kind::ScaledObject && !is_paused).then(|| paused(&json!("0")))
}

/// The merge patch that lets KEDA scale a workload again; `None` when it may.
pub fn resume_scaler(scaler: &Object) -> Option<Value> {
    (scaler.key.kind == Kind::ScaledObject && scaler.annotations.contains_key(PAUSED_REPLICAS))
        .then(|| paused(&Value::Null))
}

fn paused(replicas: &Value) -> Value {
    json!({"metadata": {"annotations": {PAUSED_REPLICAS: replicas}}})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::fixtures::{canary, created, object, patched};

    fn scaled_object() -> Object {
        object(
            Kind::ScaledObject,
            r#"
metadata:
  name: podinfo-so
  labels: {scaledobject.keda.sh/name: podinfo-so, team: shop, kustomize.toolkit.fluxcd.io/name: apps}
  annotations: {autoscaling.keda.sh/paused-replicas: "0", note: x}
spec:
  scaleTargetRef: {name: podinfo, envSourceContainerName: podinfod}
  minReplicaCount: 0
  maxReplicaCount: 4
  advanced:
    horizontalPodAutoscalerConfig: {name: podinfo-hpa, behavior: {}}
  fieldOfTomorrow: 1
  triggers:
  - type: prometheus
    name: requests
    metadata:
      serverAddress: http://prometheus:9090
      query: sum(rate(requests{app="podinfo"}[1m])) + x{app=~"podinfo-canary-.*|podinfo-primary"}
  - type: prometheus
    name: given
    metadata: {query: up}
  - type: cpu
    metadata: {value: "50"}
"#,
        )
    }

    const CANARY: &str = r#"
autoscalerRef:
  apiVersion: keda.sh/v1alpha1
  kind: ScaledObject
  name: podinfo-so
  primaryScalerQueries: {given: 'up{app="podinfo-primary"}'}
  primaryScalerReplicas: {minReplicas: 2, maxReplicas: 8}
"#;

    #[test]
    fn primary_scaler_of_keda_speaks_of_the_primary() {
        let want = primary_scaler(&canary(CANARY), &scaled_object()).unwrap();
        let manifest = want.manifest();
        let spec = &manifest["spec"];
        assert_eq!(want.key.name, "podinfo-so-primary");
        assert_eq!(
            spec["scaleTargetRef"],
            json!({"name": "podinfo-primary", "envSourceContainerName": "podinfod"})
        );
        assert_eq!(
            (&spec["minReplicaCount"], &spec["maxReplicaCount"]),
            (&json!(2), &json!(8))
        );
        assert_eq!(
            spec["advanced"]["horizontalPodAutoscalerConfig"]["name"],
            "podinfo-hpa-primary"
        );
        assert_eq!(spec["fieldOfTomorrow"], 1);
        assert_eq!(
            spec["triggers"][0]["metadata"]["query"],
            r#"sum(rate(requests{app="podinfo-primary"}[1m])) + x{app=~"podinfo-primary-.*|podinfo-primary"}"#
        );
        assert_eq!(
            spec["triggers"][1]["metadata"]["query"],
            r#"up{app="podinfo-primary"}"#
        );
        assert_eq!(
            spec["triggers"][2],
            json!({"type": "cpu", "metadata": {"value": "50"}})
        );
        // Neither the pause of the target, nor what KEDA and Flux wrote about the original.
        assert_eq!(manifest["metadata"]["labels"], json!({"team": "shop"}));
        assert_eq!(manifest["metadata"]["annotations"], json!({"note": "x"}));
    }

    #[test]
    fn primary_scaler_of_hpa_copies_the_spec_exactly() {
        let source = object(
            Kind::HorizontalPodAutoscaler,
            "
metadata: {name: podinfo, annotations: {a: b}}
spec:
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}
  minReplicas: 2
  maxReplicas: 4
  metrics: [{type: Resource}]
  behavior: {scaleDown: {stabilizationWindowSeconds: 5}}
",
        );
        let canary = canary("");
        let want = primary_scaler(&canary, &source).unwrap();
        let live = created(&want);
        assert_eq!(want.patch(&live), None);
        assert_eq!(
            live.body.value()["spec"]["scaleTargetRef"],
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo-primary"})
        );
        let changed = patched(
            &source,
            &json!({"spec": {"behavior": null, "maxReplicas": 9}}),
        );
        assert_eq!(
            primary_scaler(&canary, &changed).unwrap().patch(&live),
            Some(json!({"spec": {"behavior": null, "maxReplicas": 9}}))
        );
    }

    #[test]
    fn primary_scaler_without_spec_is_an_error() {
        let source = object(Kind::ScaledObject, "metadata: {name: a}");
        let error = primary_scaler(&canary(""), &source).unwrap_err();
        assert_eq!(
            error.to_string(),
            "ScaledObject test/a has no spec: expected the spec of an autoscaler"
        );
    }

    #[test]
    fn pause_and_resume_are_fixpoints() {
        let paused = scaled_object();
        assert_eq!(pause_scaler(&paused), None);
        let running = patched(&paused, &resume_scaler(&paused).unwrap());
        assert_eq!(resume_scaler(&running), None);
        let again = patched(&running, &pause_scaler(&running).unwrap());
        assert_eq!(again.annotations, paused.annotations);
        let hpa = object(Kind::HorizontalPodAutoscaler, "metadata: {name: a}");
        assert_eq!((pause_scaler(&hpa), resume_scaler(&hpa)), (None, None));
    }
}

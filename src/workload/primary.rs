//! The primary: the workload that serves users, built from the target.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{
    Copies, LAST_APPLIED, Selector, TOOLKIT, WorkloadError, affinity, edit_child, owner::owner,
    rename_configs, replicas, revision, selector::selector,
};
use crate::{
    api::{Canary, FLAGGER_ID, REVISION},
    object::{Key, Kind, Object, Want},
    settings::Settings,
};

/// Fields of a workload's spec that are the primary's own and not taken from the target.
pub(super) const OWN_FIELDS: [&str; 3] = ["selector", "replicas", "paused"];

/// The primary of a Deployment or DaemonSet, for its creation.
///
/// `configs` names the copies of configs that its pods use, `id` becomes the pods' `flagger-id`.
///
/// # Errors
/// When the target has no selector label or no pod template, or is a DaemonSet that does not
/// roll.
pub fn primary(
    canary: &Canary,
    settings: &Settings,
    target: &Object,
    configs: &Copies,
    id: &str,
) -> Result<Want, WorkloadError> {
    let selector = selector(target, settings)?;
    let mut spec = promoted_spec(settings, target, &selector, configs, id)?;
    spec.insert(
        "selector".to_owned(),
        json!({ "matchLabels": selector.primary() }),
    );
    if target.key.kind == Kind::Deployment {
        spec.insert("replicas".to_owned(), json!(replicas(target).max(1)));
    }
    let key = Key::new(
        target.key.kind,
        &target.key.namespace,
        format!("{}-primary", target.key.name),
    );
    let mut want = Want::new(key, json!({ "spec": spec }));
    want.labels = labels(settings, target, &selector);
    want.annotations = annotations(target);
    want.owner = Some(owner(canary));
    Ok(want)
}

/// The target's spec as the primary has it, without [`OWN_FIELDS`].
pub(super) fn promoted_spec(
    settings: &Settings,
    target: &Object,
    selector: &Selector,
    configs: &Copies,
    id: &str,
) -> Result<Map<String, Value>, WorkloadError> {
    let mut spec = shared_spec(target);
    if let Some(template) = spec.get_mut("template") {
        *template = revision::template(template.take());
    }
    if target.key.kind == Kind::DaemonSet {
        refuse_on_delete(target, &spec)?;
    }
    let Some(Value::Object(template)) = spec.get_mut("template") else {
        return Err(WorkloadError::Malformed {
            key: target.key.clone(),
            field: "spec.template",
            expected: "a pod template",
        });
    };
    edit_child(template, "metadata", |metadata| {
        edit_child(metadata, "labels", |labels| {
            labels.retain(|key, _| !key.contains(TOOLKIT));
            labels.insert(selector.label.clone(), json!(selector.primary_value()));
        });
        edit_child(metadata, "annotations", |annotations| {
            annotations.retain(|key, _| !key.contains(TOOLKIT));
            annotations.insert(FLAGGER_ID.to_owned(), json!(id));
        });
    });
    if let Some(pod) = template.get_mut("spec") {
        rename_configs(pod, configs);
        if target.key.kind == Kind::Deployment {
            affinity::rewrite(pod, &target.key.name, selector, settings);
        }
    }
    Ok(spec)
}

/// A workload's spec without [`OWN_FIELDS`].
pub(super) fn shared_spec(workload: &Object) -> Map<String, Value> {
    let Some(Value::Object(mut spec)) = super::without_nulls(workload.body.value())
        .get_mut("spec")
        .map(Value::take)
    else {
        return Map::new();
    };
    spec.retain(|field, _| !OWN_FIELDS.contains(&field.as_str()));
    spec
}

fn refuse_on_delete(target: &Object, spec: &Map<String, Value>) -> Result<(), WorkloadError> {
    let strategy = spec
        .get("updateStrategy")
        .and_then(|strategy| strategy.get("type")?.as_str())
        .unwrap_or_default();
    if strategy.is_empty() || strategy == "RollingUpdate" {
        return Ok(());
    }
    Err(WorkloadError::UpdateStrategy {
        name: target.key.name.clone(),
        namespace: target.key.namespace.clone(),
        found: strategy.to_owned(),
    })
}

/// Labels that a primary takes from its target.
pub(super) fn labels(
    settings: &Settings,
    target: &Object,
    selector: &Selector,
) -> BTreeMap<String, String> {
    let mut labels = target.labels.clone();
    labels.retain(|key, _| settings.includes_label(key) && !key.contains(TOOLKIT));
    labels.insert(selector.label.clone(), selector.primary_value());
    labels
}

/// Annotations that a primary takes from its target, and the revision that it carries.
pub(super) fn annotations(target: &Object) -> BTreeMap<String, String> {
    // Controllers and tools keep these about one object: on a copy they would be untrue.
    const BOUND: [&str; 3] = [
        "deployment.kubernetes.io/",
        "deprecated.daemonset.template.generation",
        "haldane.dev/",
    ];
    let mut annotations = target.annotations.clone();
    annotations.retain(|key, _| {
        !key.contains(TOOLKIT)
            && key != LAST_APPLIED
            && !BOUND.iter().any(|prefix| key.starts_with(prefix))
    });
    annotations.insert(REVISION.to_owned(), revision::revision(target));
    annotations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{
        fixtures::{canary, daemon_set, deployment, object, patched},
        scale_to_zero,
    };

    fn built(target: &Object) -> Value {
        let configs = Copies::from([(
            (Kind::ConfigMap, "colors".to_owned()),
            "colors-primary".to_owned(),
        )]);
        primary(&canary(""), &Settings::default(), target, &configs, "id-1")
            .unwrap()
            .manifest()
    }

    #[test]
    fn primary_copies_the_spec_and_selects_its_own_pods() {
        let target = deployment();
        let manifest = built(&target);
        let spec = &manifest["spec"];
        assert_eq!(manifest["metadata"]["name"], "podinfo-primary");
        assert_eq!(
            spec["selector"],
            json!({"matchLabels": {"app": "podinfo-primary", "app.kubernetes.io/instance": "blue"}})
        );
        let wanted = target.body.value();
        for field in [
            "replicas",
            "minReadySeconds",
            "progressDeadlineSeconds",
            "revisionHistoryLimit",
            "strategy",
        ] {
            assert_eq!(spec[field], wanted["spec"][field], "{field}");
        }
        assert_eq!(
            spec["template"]["metadata"],
            json!({
                "labels": {
                    "app": "podinfo-primary",
                    "app.kubernetes.io/instance": "blue",
                    "version": "v1",
                },
                "annotations": {"prometheus.io/scrape": "true", "flagger-id": "id-1"},
            })
        );
        let pod = &spec["template"]["spec"];
        assert_eq!(pod["fieldOfTomorrow"], json!({"kept": true}));
        let env = &pod["containers"][0]["env"];
        assert_eq!(
            env[0]["valueFrom"]["configMapKeyRef"]["name"],
            "colors-primary"
        );
        assert_eq!(env[1]["valueFrom"]["secretKeyRef"]["name"], "database");
    }

    #[test]
    fn primary_has_filtered_labels_and_annotations() {
        let manifest = built(&deployment());
        assert_eq!(
            manifest["metadata"]["labels"],
            json!({"app": "podinfo-primary"})
        );
        assert_eq!(
            manifest["metadata"]["annotations"],
            json!({"team": "shop", REVISION: revision::revision(&deployment())})
        );
        let settings = Settings {
            include_label_prefix: vec!["*".to_owned()],
            ..Settings::default()
        };
        let want = primary(&canary(""), &settings, &deployment(), &Copies::new(), "x").unwrap();
        assert_eq!(
            json!(want.labels),
            json!({"app": "podinfo-primary", "team": "shop"})
        );
    }

    #[test]
    fn primary_of_a_target_without_pods_has_one() {
        let zero = patched(
            &deployment(),
            &json!({"spec": {"replicas": 0, "paused": true}}),
        );
        let spec = &built(&zero)["spec"];
        assert_eq!(spec["replicas"], 1);
        // A paused primary would never roll.
        assert_eq!(spec.get("paused"), None);
    }

    #[test]
    fn primary_of_a_daemon_set_runs_where_the_target_would() {
        let target = daemon_set();
        let zero = patched(&target, &scale_to_zero(&target).unwrap());
        let manifest = built(&zero);
        let pod = &manifest["spec"]["template"]["spec"];
        assert_eq!(pod["nodeSelector"], json!({"kubernetes.io/os": "linux"}));
        assert_eq!(manifest["spec"].get("replicas"), None);
        // Daemon sets keep their spreading as it is.
        assert_eq!(
            pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]["app"],
            "podinfo"
        );
    }

    #[test]
    fn primary_of_a_daemon_set_that_does_not_roll_is_refused() {
        let target = patched(
            &daemon_set(),
            &json!({"spec": {"updateStrategy": {"type": "OnDelete"}}}),
        );
        let error = primary(
            &canary(""),
            &Settings::default(),
            &target,
            &Copies::new(),
            "x",
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "daemonset podinfo.test must have RollingUpdate strategy but have OnDelete"
        );
    }

    #[test]
    fn primary_without_pod_template_is_an_error() {
        let target = object(
            Kind::Deployment,
            "{metadata: {name: a}, spec: {selector: {matchLabels: {app: a}}, template: 7}}",
        );
        let error = primary(
            &canary(""),
            &Settings::default(),
            &target,
            &Copies::new(),
            "x",
        )
        .unwrap_err();
        assert_eq!(error.reason(), "MalformedObject");
    }
}

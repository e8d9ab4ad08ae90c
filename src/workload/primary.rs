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

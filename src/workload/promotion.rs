//! Promotion: the primary takes over the target's revision, and may get its old one back.

use std::collections::BTreeMap;

use kube::Resource;
use serde_json::{Map, Value, json};

use super::{
    Copies, WorkloadError,
    primary::{annotations, labels, promoted_spec, shared_spec},
    replicas,
    selector::selector,
};
use crate::{
    api::{Canary, FLAGGER_ID, PREVIOUS, REVISION},
    object::{Json, Kind, Object, merge_diff},
    settings::Settings,
};

/// Most bytes that all annotations of a primary may have with [`PREVIOUS`] among them; the API
/// allows 256 KiB.
const MOST_ANNOTATIONS: usize = 200 * 1024;

/// The `flagger-id` of one release: the same for the same revision and configs of a Canary, so
/// that a promotion which is repeated after a crash does not roll the primary twice.
pub fn release_id(canary: &Canary, revision: &str, configs: &BTreeMap<String, String>) -> String {
    let uid = canary.meta().uid.as_deref().unwrap_or_default();
    let hash = Json::of(&json!([uid, revision, configs])).digest(16);
    // In the form of a UUID, which those who read the annotation may expect. Version 8 and
    // variant 8: a value of our own making.
    let part = |from: usize, to: usize| hash.get(from..to).unwrap_or_default();
    format!(
        "{}-{}-8{}-8{}-{}",
        part(0, 8),
        part(8, 12),
        part(13, 16),
        part(17, 20),
        part(20, 32)
    )
}

/// Whether a primary carries a revision under a `flagger-id`: its promotion has been written.
pub fn carries(primary: &Object, revision: &str, id: &str) -> bool {
    let body = primary.body.value();
    let found = body
        .pointer("/spec/template/metadata/annotations")
        .and_then(|annotations| annotations.get(FLAGGER_ID)?.as_str());
    found == Some(id) && primary.annotations.get(REVISION).map(String::as_str) == Some(revision)
}

/// The merge patch that gives the target's revision to the primary; `None` when it has it.
///
/// The pod template and all of the spec but selector, pause and replicas become the target's,
/// replicas too where no autoscaler sets them. Labels and annotations are added to; those of
/// others stay. What the spec was before is kept in the annotation [`PREVIOUS`], if it is small
/// enough.
///
/// # Errors
/// When the target has no selector label or no pod template, or is a DaemonSet that does not
/// roll.
pub fn promotion(
    canary: &Canary,
    settings: &Settings,
    target: &Object,
    primary: &Object,
    configs: &Copies,
    id: &str,
) -> Result<Option<Value>, WorkloadError> {
    let selector = selector(target, settings)?;
    let wanted = promoted_spec(settings, target, &selector, configs, id)?;
    let found = shared_spec(primary);
    let mut spec = spec_change(&found, &wanted);
    if canary.spec.autoscaler_ref.is_none()
        && target.key.kind == Kind::Deployment
        && replicas(target) > 0
        && replicas(target) != replicas(primary)
    {
        spec.insert("replicas".to_owned(), json!(replicas(target)));
    }
    let wanted_labels = labels(settings, target, &selector);
    let wanted_annotations = annotations(target);
    let mut metadata = Map::new();
    let added = missing(&primary.labels, &wanted_labels);
    if !added.is_empty() {
        metadata.insert("labels".to_owned(), Value::Object(added));
    }
    let mut added = missing(&primary.annotations, &wanted_annotations);
    // A spec that is not the one replaced first is not worth keeping: it was never a release.
    let is_repeated = primary.annotations.get(REVISION) == wanted_annotations.get(REVISION)
        && primary.annotations.contains_key(PREVIOUS);
    if !spec.is_empty() && !is_repeated {
        remember(primary, &found, &mut added);
    }
    if !added.is_empty() {
        metadata.insert("annotations".to_owned(), Value::Object(added));
    }
    Ok(patch(metadata, spec))
}

/// Notes in `annotations` what a promotion replaces.
fn remember(primary: &Object, spec: &Map<String, Value>, annotations: &mut Map<String, Value>) {
    let previous = json!({
        "revision": primary.annotations.get(REVISION),
        "spec": spec,
    })
    .to_string();
    let others: usize = primary
        .annotations
        .iter()
        .filter(|(key, _)| *key != PREVIOUS)
        .map(|(key, value)| key.len() + value.len())
        .sum();
    if previous.len() + others <= MOST_ANNOTATIONS {
        annotations.insert(PREVIOUS.to_owned(), json!(previous));
    } else if primary.annotations.contains_key(PREVIOUS) {
        // Rather none than the one before.
        annotations.insert(PREVIOUS.to_owned(), Value::Null);
    }
}

/// The merge patch that takes a promotion back; `None` when what it replaced is not known.
pub fn restoration(primary: &Object) -> Option<Value> {
    let previous: Value = serde_json::from_str(primary.annotations.get(PREVIOUS)?).ok()?;
    let spec = previous.get("spec")?.as_object()?;
    // Without pods there is nothing to go back to.
    spec.get("template")?.as_object()?;
    let mut annotations = Map::new();
    annotations.insert(PREVIOUS.to_owned(), Value::Null);
    let revision = previous.get("revision").cloned().unwrap_or_default();
    annotations.insert(REVISION.to_owned(), revision);
    let mut metadata = Map::new();
    metadata.insert("annotations".to_owned(), Value::Object(annotations));
    patch(metadata, spec_change(&shared_spec(primary), spec))
}

fn spec_change(found: &Map<String, Value>, wanted: &Map<String, Value>) -> Map<String, Value> {
    match merge_diff(&json!(found), &json!(wanted)) {
        Some(Value::Object(change)) => change,
        _ => Map::new(),
    }
}

fn missing(
    found: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> Map<String, Value> {
    wanted
        .iter()
        .filter(|(key, value)| found.get(*key) != Some(value))
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect()
}

fn patch(metadata: Map<String, Value>, spec: Map<String, Value>) -> Option<Value> {
    let patch: Map<String, Value> = [("metadata", metadata), ("spec", spec)]
        .into_iter()
        .filter(|(_, fields)| !fields.is_empty())
        .map(|(key, fields)| (key.to_owned(), Value::Object(fields)))
        .collect();
    (!patch.is_empty()).then_some(Value::Object(patch))
}

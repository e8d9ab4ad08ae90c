//! Promotion: the primary takes over the target's revision, and may get its old one back.

use std::collections::BTreeMap;

use kube::Resource;
use serde_json::{Map, Value, json};

use super::{
    Copies, WorkloadError,
    primary::{annotations, labels, promoted_spec, shared_spec},
    replicas, revision,
    selector::selector,
};
use crate::{
    api::{Canary, FLAGGER_ID, PREVIOUS, REVISION},
    object::{At, Json, Kind, Object, merge_diff},
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

/// The `flagger-id` of the release that a primary carries.
pub fn release_of(primary: &Object) -> Option<String> {
    let body = primary.body.read();
    let annotations = body.at("/spec/template/metadata/annotations")?;
    Some(annotations.get(FLAGGER_ID)?.as_str()?.to_owned())
}

/// Whether a primary carries a revision under a `flagger-id`: its promotion has been written.
pub fn carries(primary: &Object, revision: &str, id: &str) -> bool {
    release_of(primary).as_deref() == Some(id)
        && primary.annotations.get(REVISION).map(String::as_str) == Some(revision)
}

/// The revision that a primary is marked with, if the pods of the target are made as its pods are.
///
/// A server's new release can add defaults to stored objects, to both alike and unasked: their
/// digests change, and still nobody has released anything.
pub fn shared_revision(
    settings: &Settings,
    target: &Object,
    primary: &Object,
    configs: &Copies,
) -> Option<String> {
    let marked = primary.annotations.get(REVISION)?;
    if *marked == revision(target) {
        return Some(marked.clone());
    }
    // Most releases are of another image, which is seen without making a template.
    if images(target) != images(primary) {
        return None;
    }
    let selector = selector(target, settings).ok()?;
    let mut wanted =
        promoted_spec(settings, target, &selector, configs, &release_of(primary)?).ok()?;
    (wanted.remove("template") == shared_spec(primary).remove("template")).then(|| marked.clone())
}

/// The images of a workload's containers.
fn images(workload: &Object) -> Vec<Value> {
    let body = workload.body.read();
    let containers = body.at("/spec/template/spec/containers");
    let containers = containers.and_then(Value::as_array).into_iter().flatten();
    containers.map(|one| one["image"].clone()).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::{
        fixtures::{canary, created, daemon_set, deployment, patched},
        primary, revision,
    };

    fn settings() -> Settings {
        Settings::default()
    }

    /// A primary of the target as it was at first.
    fn bootstrapped(target: &Object) -> Object {
        created(&primary(&canary(""), &settings(), target, &Copies::new(), "id-1").unwrap())
    }

    fn promoted(target: &Object, primary: &Object, id: &str) -> Option<Value> {
        promotion(
            &canary(""),
            &settings(),
            target,
            primary,
            &Copies::new(),
            id,
        )
        .unwrap()
    }

    fn changed() -> Object {
        patched(
            &deployment(),
            &json!({"spec": {
                "replicas": 5,
                "minReadySeconds": null,
                "template": {
                    "metadata": {"annotations": {"prometheus.io/scrape": null, "new": "1"}},
                    "spec": {"fieldOfTomorrow": null, "volumes": []},
                },
            }}),
        )
    }

    #[test]
    fn promotion_of_what_the_primary_has_is_none() {
        for target in [deployment(), daemon_set()] {
            assert_eq!(promoted(&target, &bootstrapped(&target), "id-1"), None);
        }
    }

    #[test]
    fn promotion_replaces_the_template_exactly_and_settles() {
        let target = changed();
        let before = bootstrapped(&deployment());
        assert!(!carries(&before, &revision(&target), "id-2"));
        let after = patched(&before, &promoted(&target, &before, "id-2").unwrap());
        let fresh =
            created(&primary(&canary(""), &settings(), &target, &Copies::new(), "id-2").unwrap());
        assert_eq!(after.body, fresh.body);
        assert!(carries(&after, &revision(&target), "id-2"));
        assert_eq!(promoted(&target, &after, "id-2"), None);
    }

    #[test]
    fn revision_is_the_primarys_while_their_pods_are_made_alike() {
        for target in [deployment(), daemon_set()] {
            let primary = bootstrapped(&target);
            let shared = |target: &Object, primary: &Object| {
                shared_revision(&settings(), target, primary, &Copies::new())
            };
            let known = Some(revision(&target));
            assert_eq!(shared(&target, &primary), known);
            let default = json!({"spec": {"template": {"spec": {"fieldOfTomorrow": "x"}}}});
            let (target, marked) = (patched(&target, &default), patched(&primary, &default));
            assert_ne!(Some(revision(&target)), known);
            assert_eq!(shared(&target, &marked), known, "both have the new default");
            assert_eq!(shared(&target, &primary), None, "only the target has it");
            let idle = patched(&target, &crate::workload::scale_to_zero(&target).unwrap());
            assert_eq!(shared(&idle, &marked), known, "at rest");
        }
    }

    #[test]
    fn promotion_of_new_configs_alone_rolls_the_primary() {
        let before = bootstrapped(&deployment());
        let patch = promoted(&deployment(), &before, "id-2").unwrap();
        assert_eq!(
            patch["spec"],
            json!({"template": {"metadata": {"annotations": {"flagger-id": "id-2"}}}})
        );
    }

    #[test]
    fn promotion_keeps_metadata_of_others() {
        let target = changed();
        let theirs = json!({"metadata": {
            "labels": {"theirs": "x"},
            "annotations": {"theirs": "y", "deployment.kubernetes.io/revision": "12"},
        }});
        let before = patched(&bootstrapped(&deployment()), &theirs);
        let after = patched(&before, &promoted(&target, &before, "id-2").unwrap());
        assert_eq!(after.labels["theirs"], "x");
        assert_eq!(after.annotations["theirs"], "y");
        assert_eq!(after.annotations["deployment.kubernetes.io/revision"], "12");
    }

    #[test]
    fn promotion_sets_replicas_only_without_autoscaler_and_above_zero() {
        let before = bootstrapped(&deployment());
        let five = patched(&deployment(), &json!({"spec": {"replicas": 5}}));
        let zero = patched(&deployment(), &json!({"spec": {"replicas": 0}}));
        let alone = promoted(&five, &before, "id-1").unwrap();
        assert_eq!(alone["spec"], json!({"replicas": 5}));
        assert_eq!(promoted(&zero, &before, "id-1"), None);
        let scaled = canary(
            "autoscalerRef: {apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, name: a}",
        );
        assert_eq!(
            promotion(&scaled, &settings(), &five, &before, &Copies::new(), "id-1").unwrap(),
            None
        );
    }

    #[test]
    fn promotion_removes_a_leftover_of_scaling_to_zero() {
        // Flagger creates the primary of a resting DaemonSet at rest.
        let target = daemon_set();
        let resting = patched(
            &bootstrapped(&target),
            &crate::workload::scale_to_zero(&target).unwrap(),
        );
        let after = patched(&resting, &promoted(&target, &resting, "id-1").unwrap());
        assert_eq!(after.body, bootstrapped(&target).body);
    }

    #[test]
    fn restoration_takes_a_promotion_back() {
        let before = bootstrapped(&deployment());
        assert_eq!(restoration(&before), None);
        let target = patched(&changed(), &json!({"spec": {"replicas": 3}}));
        let after = patched(&before, &promoted(&target, &before, "id-2").unwrap());
        let restored = patched(&after, &restoration(&after).unwrap());
        assert_eq!(restored.body, before.body);
        assert_eq!(restored.annotations, before.annotations);
        assert_eq!(restoration(&restored), None);
    }

    #[test]
    fn restoration_goes_back_to_the_release_before_not_to_drift() {
        let before = bootstrapped(&deployment());
        let target = patched(&changed(), &json!({"spec": {"replicas": 3}}));
        let after = patched(&before, &promoted(&target, &before, "id-2").unwrap());
        let drifted = patched(
            &after,
            &json!({"spec": {"template": {"spec": {"containers": []}}}}),
        );
        let again = patched(&drifted, &promoted(&target, &drifted, "id-2").unwrap());
        assert_eq!(again.body, after.body);
        let restored = patched(&again, &restoration(&again).unwrap());
        assert_eq!(restored.body, before.body);
    }

    #[test]
    fn restoration_of_an_oversized_release_is_unknown() {
        let mut huge = deployment();
        let filler = "x".repeat(MOST_ANNOTATIONS);
        huge = patched(
            &huge,
            &json!({"spec": {"template": {"metadata": {"annotations": {"filler": filler}}}}}),
        );
        let first = bootstrapped(&deployment());
        let second = patched(&first, &promoted(&huge, &first, "id-2").unwrap());
        assert!(second.annotations.contains_key(PREVIOUS));
        let third = patched(&second, &promoted(&deployment(), &second, "id-3").unwrap());
        // Rather nothing than the release before the one before.
        assert_eq!(restoration(&third), None);
    }

    #[test]
    fn restoration_from_a_broken_note_is_none() {
        for note in [
            "",
            "{}",
            "[]",
            r#"{"spec":{}}"#,
            r#"{"spec":{"template":null}}"#,
        ] {
            let broken = patched(
                &bootstrapped(&deployment()),
                &json!({"metadata": {"annotations": {PREVIOUS: note}}}),
            );
            assert_eq!(restoration(&broken), None, "{note}");
        }
    }

    #[test]
    fn release_id_is_a_uuid_of_revision_and_configs() {
        let canary = canary("");
        let configs = BTreeMap::from([("configmap/a".to_owned(), "1".to_owned())]);
        let id = release_id(&canary, "h1:a", &configs);
        let shape: Vec<usize> = id.split('-').map(str::len).collect();
        assert_eq!(shape, [8, 4, 4, 4, 12]);
        assert_eq!(id, release_id(&canary, "h1:a", &configs));
        assert_ne!(id, release_id(&canary, "h1:b", &configs));
        assert_ne!(id, release_id(&canary, "h1:a", &BTreeMap::new()));
    }
}

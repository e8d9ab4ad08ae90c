//! A route that was there before its Canary: what it said is kept, and given back.

use kube::ResourceExt;
use serde_json::{Value, json};

use crate::{
    api::Canary,
    object::{Object, Want},
};

/// Annotation in which `kubectl apply` keeps the object that it was given.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Annotation that keeps the spec of an adopted route.
const ORIGINAL: &str = "flagger.kubernetes.io/original-configuration";

/// Asks for the annotation that keeps the spec of an existing route, if the route is somebody
/// else's, is about to be changed, and is recorded nowhere yet.
///
/// One that [routes to the canary](super::Router::weights) already was adopted before and must
/// not be passed: giving it back would leave a route to services which are gone.
pub(super) fn keep_original(route: &mut Want, existing: &Object, canary: &Canary) {
    let recorded = [LAST_APPLIED, ORIGINAL]
        .iter()
        .any(|key| existing.annotations.contains_key(*key));
    if recorded || is_ours(existing, canary) {
        return;
    }
    let changes = route
        .patch(existing)
        .is_some_and(|patch| patch.get("spec").is_some());
    if let Some(spec) = existing.body.read().get("spec")
        && changes
    {
        route
            .annotations
            .insert(ORIGINAL.to_owned(), spec.to_string());
    }
}

/// The route with the spec that it had. One that was made for the Canary goes with it, and one of
/// which nothing is recorded stays.
pub(super) fn restore(existing: &Object, canary: &Canary) -> Option<Want> {
    let recorded = |annotation: &str| -> Option<Value> {
        serde_json::from_str(existing.annotations.get(annotation)?).ok()
    };
    if is_ours(existing, canary) {
        return None;
    }
    let spec = recorded(LAST_APPLIED)
        .and_then(|object| object.get("spec").cloned())
        .or_else(|| recorded(ORIGINAL))
        .filter(Value::is_object)?;
    let mut want = Want::new(existing.key.clone(), json!({ "spec": spec }));
    want.exact.push("/spec");
    Some(want)
}

fn is_ours(existing: &Object, canary: &Canary) -> bool {
    canary
        .uid()
        .is_some_and(|uid| existing.is_controlled_by(&uid))
}

//! A VirtualService that was there before its Canary: what it said is kept, and given back.

use serde_json::{Value, json};

use super::{Observed, route_key};
use crate::{
    api::Canary,
    object::{Object, Want},
    route::Names,
};
use kube::ResourceExt;

/// Annotation in which `kubectl apply` keeps the object that it was given.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Annotation that keeps the spec of an adopted VirtualService.
const ORIGINAL: &str = "flagger.kubernetes.io/original-configuration";

/// Asks for the annotation that keeps the spec of an existing VirtualService, if it is somebody
/// else's, is about to be changed, and is recorded nowhere yet.
///
/// One that routes to the canary already was adopted before: giving that back would leave a route
/// to services which are gone.
pub(super) fn keep_original(route: &mut Want, existing: &Object, canary: &Canary) {
    let ours = canary
        .uid()
        .is_some_and(|uid| existing.is_controlled_by(&uid));
    let recorded = [LAST_APPLIED, ORIGINAL]
        .iter()
        .any(|key| existing.annotations.contains_key(*key));
    let names = Names::of(canary);
    if ours || recorded || super::live_weights(&names, existing).is_some() {
        return;
    }
    let changes = route
        .patch(existing)
        .is_some_and(|patch| patch.get("spec").is_some());
    if let Some(spec) = existing.body.value().get("spec")
        && changes
    {
        route
            .annotations
            .insert(ORIGINAL.to_owned(), spec.to_string());
    }
}

/// The VirtualService with the spec that it had. One that was made for the Canary goes with it,
/// and one of which nothing is recorded stays.
pub(in crate::route) fn restore(canary: &Canary, observed: &Observed) -> Vec<Want> {
    let key = route_key(&Names::of(canary));
    let Some(existing) = observed.get(&key) else {
        return Vec::new();
    };
    let ours = canary
        .uid()
        .is_some_and(|uid| existing.is_controlled_by(&uid));
    let recorded = |annotation: &str| -> Option<Value> {
        serde_json::from_str(existing.annotations.get(annotation)?).ok()
    };
    let spec = recorded(LAST_APPLIED)
        .and_then(|object| object.get("spec").cloned())
        .or_else(|| recorded(ORIGINAL))
        .filter(Value::is_object);
    match spec {
        Some(spec) if !ours => {
            let mut want = Want::new(key, json!({ "spec": spec }));
            want.exact.push("/spec");
            vec![want]
        }
        Some(_) | None => Vec::new(),
    }
}

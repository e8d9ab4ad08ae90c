//! What routes look like, and what they do to requests.

#![allow(clippy::unwrap_used, clippy::panic)]

mod existing;
mod gateway;
mod istio;
mod properties;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Value, json};

use crate::{
    api::{Canary, Provider},
    object::{Key, Kind, Object, Want, merge_diff},
    route::{RouteError, Router, Traffic, router},
};

pub(super) type World = BTreeMap<Key, Arc<Object>>;

/// The Canary `release` of `app` in namespace `test` with these parts of `service` and `analysis`.
pub(super) fn canary(service: &Value, analysis: &Value) -> Canary {
    let mut whole = json!({"port": 80, "gatewayRefs": [{"name": "public"}]});
    whole
        .as_object_mut()
        .unwrap()
        .extend(service.as_object().unwrap().clone());
    serde_json::from_value(json!({
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": "release", "namespace": "test", "uid": "uid-1"},
        "spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"},
            "service": whole,
            "analysis": analysis,
        },
    }))
    .unwrap()
}

pub(super) fn weight(canary_weight: i32) -> Traffic {
    Traffic {
        canary_weight,
        ..Traffic::default()
    }
}

pub(super) fn want(router: Router, canary: &Canary, traffic: &Traffic, world: &World) -> Vec<Want> {
    router.want(canary, traffic, world).unwrap()
}

/// The wanted route object when there is none, as it would be created.
pub(super) fn route(router: Router, canary: &Canary, traffic: &Traffic) -> Value {
    let mut wants = want(router, canary, traffic, &World::new());
    wants.pop().unwrap().manifest()
}

/// The route object `app` of this kind, read back.
pub(super) fn existing(kind: Kind, route: &Value) -> World {
    let mut route = route.clone();
    let metadata = route["metadata"].as_object_mut().unwrap();
    for (field, value) in [
        ("name", "app"),
        ("namespace", "test"),
        ("uid", "uid-2"),
        ("resourceVersion", "1"),
    ] {
        metadata.insert(field.to_owned(), json!(value));
    }
    let object = Object::read(kind, route).unwrap();
    World::from([(object.key.clone(), Arc::new(object))])
}

/// All that was wanted, created and read back.
pub(super) fn created(wants: &[Want]) -> World {
    wants
        .iter()
        .map(|want| {
            let mut manifest = want.manifest();
            manifest["metadata"]["uid"] = json!("uid-2");
            manifest["metadata"]["resourceVersion"] = json!("1");
            let object = Object::read(want.key.kind, manifest).unwrap();
            (want.key.clone(), Arc::new(object))
        })
        .collect()
}

/// The object after a merge patch.
pub(super) fn patched(object: &Value, patch: &Value) -> Value {
    match (object, patch) {
        (_, Value::Object(fields)) => {
            let mut patched = object.as_object().cloned().unwrap_or_default();
            for (key, change) in fields {
                if change.is_null() {
                    patched.remove(key);
                } else {
                    let before = patched.get(key).cloned().unwrap_or_default();
                    patched.insert(key.clone(), self::patched(&before, change));
                }
            }
            Value::Object(patched)
        }
        _ => patch.clone(),
    }
}

#[test]
fn canary_without_service_is_an_error_that_says_what_to_add() {
    let mut canary = canary(&json!({}), &json!({}));
    canary.spec.service = None;
    for router in [Router::Istio, Router::Gateway] {
        assert_eq!(
            router.want(&canary, &Traffic::default(), &World::new()),
            Err(RouteError::NoService {
                canary: "release.test".to_owned()
            })
        );
    }
}

#[test]
fn provider_without_router_is_an_error_that_names_those_with_one() {
    assert_eq!(router(Provider::Istio), Ok(Router::Istio));
    assert_eq!(router(Provider::Kubernetes), Ok(Router::Kubernetes));
    assert_eq!(router(Provider::GatewayApiV1), Ok(Router::Gateway));
    assert_eq!(
        router(Provider::AppMeshV1Beta2).unwrap_err().to_string(),
        "spec.provider appmesh:v1beta2 is not supported; use istio, kubernetes or gatewayapi:v1"
    );
}

#[test]
fn kubernetes_has_no_route_objects() {
    let canary = canary(&json!({}), &json!({}));
    let (router, world) = (Router::Kubernetes, World::new());
    assert_eq!(router.keys(&canary), []);
    assert_eq!(router.want(&canary, &weight(50), &world), Ok(Vec::new()));
    assert_eq!(router.weights(&canary, &world), None);
    assert_eq!(router.restore(&canary, &world), []);
}

#[test]
fn patched_of_merge_diff_is_the_new_value() {
    let (old, new) = (
        json!({"a": {"b": 1, "c": [1]}, "d": 2}),
        json!({"a": {"c": [2]}}),
    );
    let patch = merge_diff(&old, &new).unwrap();
    assert_eq!(patched(&old, &patch), new);
}

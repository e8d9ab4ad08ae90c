//! Objects that are there already: foreign edits, adoption, restoration.

use serde_json::{Value, json};

use super::{World, canary, created, patched, weight};
use crate::{
    api::Canary,
    object::{Kind, Want},
    route::{Router, Traffic},
};

const ORIGINAL: &str = "flagger.kubernetes.io/original-configuration";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

fn want(canary: &Canary, traffic: &Traffic, world: &World) -> Vec<Want> {
    super::want(Router::Istio, canary, traffic, world)
}

fn existing(route: &Value) -> World {
    super::existing(Kind::VirtualService, route)
}

fn simple() -> Canary {
    canary(&json!({}), &json!({}))
}

/// The patch of the VirtualService, when it looks like this.
fn patch(canary: &Canary, traffic: &Traffic, world: &World) -> Option<Value> {
    let wanted = want(canary, traffic, world).pop().unwrap();
    wanted.patch(world.get(&wanted.key).unwrap())
}

/// The VirtualService as created, and changed by somebody.
fn edited(canary: &Canary, traffic: &Traffic, edit: &Value) -> World {
    let route = want(canary, traffic, &World::new()).pop().unwrap();
    existing(&patched(&route.manifest(), edit))
}

#[test]
fn foreign_edit_of_our_part_is_healed_to_what_traffic_says() {
    let canary = canary(&json!({"hosts": ["a.io"]}), &json!({}));
    let traffic = weight(40);
    let ours = json!([{"route": [
        {"destination": {"host": "app-primary"}, "weight": 60},
        {"destination": {"host": "app-canary"}, "weight": 40},
    ]}]);
    for (edit, healed) in [
        (
            json!({"spec": {"http": [{"route": [{"destination": {"host": "app"}}]}]}}),
            json!({"spec": {"http": ours}}),
        ),
        (
            json!({"spec": {"http": null}}),
            json!({"spec": {"http": ours}}),
        ),
        (
            json!({"spec": {"hosts": ["b.io"], "gateways": null}}),
            json!({"spec": {"hosts": ["a.io", "app"], "gateways": ["mesh"]}}),
        ),
        (
            json!({"spec": {"tcp": [{"route": []}]}}),
            json!({"spec": {"tcp": null}}),
        ),
        (
            json!({"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": null}}}),
            json!({"metadata": {"annotations":
                {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}}}),
        ),
    ] {
        let world = edited(&canary, &traffic, &edit);
        assert_eq!(patch(&canary, &traffic, &world), Some(healed), "{edit}");
    }
}

#[test]
fn foreign_edit_of_what_is_not_ours_stays() {
    let edit = json!({
        "metadata": {"labels": {"team": "b"}, "annotations": {"note": "x"}},
        "spec": {"exportTo": ["."], "tls": [{"route": []}]},
    });
    let canary = simple();
    assert_eq!(
        patch(&canary, &weight(10), &edited(&canary, &weight(10), &edit)),
        None
    );
    let world = edited(&canary, &weight(10), &edit);
    let changed = patch(&canary, &weight(20), &world).unwrap();
    assert_eq!(
        changed.as_object().unwrap().len(),
        1,
        "only the spec changes: {changed}"
    );
    assert_eq!(changed["spec"].as_object().unwrap().len(), 1, "{changed}");
}

#[test]
fn traffic_policy_follows_the_canary_and_leaves_other_fields_alone() {
    let policy = json!({"trafficPolicy": {"connectionPool": {"http": {"maxRetries": 1}}}});
    let with = canary(&policy, &json!({}));
    let world = created(&want(&with, &weight(0), &World::new()));
    for rule in &want(&simple(), &weight(0), &world)[..2] {
        assert_eq!(
            rule.patch(world.get(&rule.key).unwrap()),
            Some(json!({"spec": {"trafficPolicy": null}}))
        );
    }
    let other = canary(
        &json!({"trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}}),
        &json!({}),
    );
    for rule in &want(&other, &weight(0), &world)[..2] {
        assert_eq!(rule.key.kind, Kind::DestinationRule);
        assert_eq!(
            rule.patch(world.get(&rule.key).unwrap()),
            Some(json!({"spec": {"trafficPolicy":
                {"connectionPool": null, "loadBalancer": {"simple": "RANDOM"}}}}))
        );
    }
}

fn foreign() -> Value {
    json!({
        "metadata": {"annotations": {}},
        "spec": {
            "hosts": ["a.io"],
            "exportTo": ["."],
            "http": [{"route": [{"destination": {"host": "app"}}]}],
        },
    })
}

#[test]
fn adopted_route_keeps_its_spec_in_an_annotation_and_is_given_back() {
    let canary = simple();
    let before = foreign();
    let world = existing(&before);
    let change = patch(&canary, &weight(0), &world).unwrap();
    let kept = &change["metadata"]["annotations"][ORIGINAL];
    let kept: Value = serde_json::from_str(kept.as_str().unwrap()).unwrap();
    assert_eq!(kept, before["spec"]);

    let adopted = patched(&before, &change);
    let world = existing(&adopted);
    assert_eq!(patch(&canary, &weight(0), &world), None);
    // What was kept is not replaced by what came later.
    let change = patch(&canary, &weight(50), &world).unwrap();
    assert_eq!(change.get("metadata"), None);

    let restored = Router::Istio.restore(&canary, &world);
    let [route] = restored.as_slice() else {
        panic!("one object is restored, not {restored:?}");
    };
    let change = route.patch(world.get(&route.key).unwrap()).unwrap();
    assert_eq!(patched(&adopted, &change)["spec"], before["spec"]);
}

#[test]
fn restore_drops_fields_that_the_original_did_not_have() {
    let mut route = foreign();
    route["metadata"]["annotations"][ORIGINAL] = json!(r#"{"hosts":["b.io"]}"#);
    let world = existing(&route);
    let restored = Router::Istio.restore(&simple(), &world).pop().unwrap();
    let change = restored.patch(world.get(&restored.key).unwrap()).unwrap();
    assert_eq!(patched(&route, &change)["spec"], json!({"hosts": ["b.io"]}));
}

#[test]
fn route_that_kubectl_applied_needs_no_copy_and_is_given_back() {
    let mut route = foreign();
    let applied = json!({"kind": "VirtualService", "spec": route["spec"]});
    route["metadata"]["annotations"][LAST_APPLIED] = json!(applied.to_string());
    let world = existing(&route);
    let change = patch(&simple(), &weight(0), &world).unwrap();
    assert_eq!(change["metadata"]["annotations"].get(ORIGINAL), None);

    let world = existing(&patched(&route, &change));
    let restored = Router::Istio.restore(&simple(), &world).pop().unwrap();
    assert_eq!(restored.body, json!({"spec": route["spec"]}));
}

#[test]
fn route_that_was_adopted_before_is_not_taken_for_an_original() {
    // Adopted by Flagger without an owner: it routes to the canary already.
    let canary = simple();
    let mut route = want(&canary, &weight(0), &World::new()).pop().unwrap();
    route.owner = None;
    let world = existing(&route.manifest());
    let change = patch(&canary, &weight(10), &world).unwrap();
    assert_eq!(change.get("metadata"), None);
}

#[test]
fn route_that_says_what_is_wanted_is_not_recorded() {
    let canary = simple();
    let mut route = want(&canary, &weight(0), &World::new()).pop().unwrap();
    route.owner = None;
    route.annotations.clear();
    let change = patch(&canary, &weight(0), &existing(&route.manifest())).unwrap();
    assert_eq!(change["metadata"]["annotations"].get(ORIGINAL), None);
}

#[test]
fn restore_leaves_a_route_alone_that_is_ours_or_of_which_nothing_is_known() {
    let canary = simple();
    let mut unreadable = foreign();
    unreadable["metadata"]["annotations"][ORIGINAL] = json!("{");
    unreadable["metadata"]["annotations"][LAST_APPLIED] = json!("[]");
    for world in [
        World::new(),
        existing(&foreign()),
        existing(&unreadable),
        edited(
            &canary,
            &weight(0),
            &json!({"metadata": {"annotations": {ORIGINAL: "{}"}}}),
        ),
    ] {
        assert_eq!(Router::Istio.restore(&canary, &world), []);
    }
}

#[test]
fn reweigh_changes_weights_and_mirror_and_nothing_else() {
    let condition = json!([{"headers": {"x-user": {"exact": "insider"}}}]);
    let canary_of = |service: &Value| super::canary(service, &json!({}));
    let before = Traffic {
        mirrored: true,
        ..weight(0)
    };
    for (router, kind, field, backends) in [
        (Router::Istio, Kind::VirtualService, "http", "route"),
        (Router::Gateway, Kind::HttpRoute, "rules", "backendRefs"),
    ] {
        let sayable = canary_of(&json!({"match": condition, "timeout": "5s"}));
        // What can be said no longer: a delegate with hosts, a route without gateways.
        let broken = canary_of(&json!({
            "delegation": true, "hosts": ["a.io"], "gatewayRefs": [],
        }));
        for (live, wanted) in [
            (weight(60), 0),
            (weight(60), 20),
            (weight(0), 100),
            (before.clone(), 0),
        ] {
            let mut route = super::route(router, &sayable, &live);
            route["spec"]["theirs"] = json!(1);
            let world = super::existing(kind, &route);
            assert!(router.want(&broken, &weight(wanted), &world).is_err());
            let want = router.reweigh(&broken, &weight(wanted), &world).unwrap();
            let change = want.patch(world.get(&want.key).unwrap()).unwrap();
            let mut expected = super::route(router, &sayable, &weight(wanted));
            expected["spec"]["theirs"] = json!(1);
            let found = patched(&route, &change);
            assert_eq!(found["spec"], expected["spec"], "{router:?} {wanted}");
            let split = &found["spec"][field][0][backends];
            let sum = split[0]["weight"].as_i64().unwrap() + split[1]["weight"].as_i64().unwrap();
            assert_eq!(sum, 100);
        }
        assert_eq!(router.reweigh(&broken, &weight(0), &World::new()), None);
    }
}

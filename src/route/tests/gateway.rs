//! Gateway API: one test per feature, the exact objects.

use serde_json::{Value, json};

use super::{World, canary, created, existing, patched, weight};
use crate::{
    api::Canary,
    object::{Kind, Want},
    route::{RouteError, Router, Traffic, Weights},
};

fn route(canary: &Canary, traffic: &Traffic) -> Value {
    super::route(Router::Gateway, canary, traffic)
}

fn rules(canary: &Canary, traffic: &Traffic) -> Value {
    route(canary, traffic)["spec"]["rules"].clone()
}

fn backend(name: &str, weight: i32) -> Value {
    json!({"group": "", "kind": "Service", "name": name, "port": 80, "weight": weight})
}

fn both(canary: i32) -> Value {
    json!([
        backend("app-primary", 100 - canary),
        backend("app-canary", canary)
    ])
}

fn everything() -> Value {
    json!([{"path": {"type": "PathPrefix", "value": "/"}}])
}

#[test]
fn plain_service_gets_a_weighted_route_with_all_defaults_written() {
    let canary = canary(
        &json!({"gatewayRefs": [
            {"name": "public", "namespace": "infra"},
            {"group": "core", "kind": "Service", "name": "app", "port": 80},
        ]}),
        &json!({}),
    );
    assert_eq!(
        route(&canary, &weight(10)),
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1", "kind": "HTTPRoute",
            "metadata": {
                "name": "app", "namespace": "test",
                "ownerReferences": [{
                    "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "release",
                    "uid": "uid-1", "controller": true, "blockOwnerDeletion": true,
                }],
                "annotations": {
                    "helm.toolkit.fluxcd.io/driftDetection": "disabled",
                    "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
                },
            },
            "spec": {
                "parentRefs": [
                    {"group": "gateway.networking.k8s.io", "kind": "Gateway",
                     "name": "public", "namespace": "infra"},
                    {"group": "core", "kind": "Service", "name": "app", "port": 80},
                ],
                "rules": [{"matches": everything(), "backendRefs": both(10)}],
            },
        })
    );
}

#[test]
fn service_settings_are_those_of_the_rule_in_filter_order() {
    let canary = canary(
        &json!({
            "hosts": ["a.io"],
            "match": [{"uri": {"exact": "/a"}, "method": {"exact": "GET"},
                       "headers": {"x": {"regex": "1.*"}}, "queryParams": {"q": {"exact": "2"}}}],
            "rewrite": {"uri": "/b", "authority": "b.io", "type": "ReplacePrefixMatch"},
            "timeout": "15s", "backendTimeout": "5s",
            "headers": {"request": {"add": {"b": "2", "a": "1"}, "remove": ["z"]},
                        "response": {"set": {"c": "3"}}},
            "mirror": [{"backendRef": {"name": "shadow", "port": 8080}}],
            "corsPolicy": {"allowOrigin": ["a.io"], "allowMethods": ["GET"], "maxAge": "1m",
                           "allowCredentials": true},
        }),
        &json!({}),
    );
    let spec = &route(&canary, &weight(0))["spec"];
    assert_eq!(spec["hostnames"], json!(["a.io"]));
    assert_eq!(
        spec["rules"],
        json!([{
            "matches": [{
                "path": {"type": "Exact", "value": "/a"},
                "method": "GET",
                "headers": [{"name": "x", "type": "RegularExpression", "value": "1.*"}],
                "queryParams": [{"name": "q", "type": "Exact", "value": "2"}],
            }],
            "filters": [
                {"type": "RequestHeaderModifier", "requestHeaderModifier": {
                    "add": [{"name": "a", "value": "1"}, {"name": "b", "value": "2"}],
                    "remove": ["z"]}},
                {"type": "ResponseHeaderModifier", "responseHeaderModifier": {
                    "set": [{"name": "c", "value": "3"}]}},
                {"type": "URLRewrite", "urlRewrite": {"hostname": "b.io", "path":
                    {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/b"}}},
                {"type": "RequestMirror", "requestMirror": {"backendRef":
                    {"group": "", "kind": "Service", "name": "shadow", "port": 8080}}},
                {"type": "CORS", "cors": {"allowOrigins": ["a.io"], "allowMethods": ["GET"],
                    "allowCredentials": true, "maxAge": 60}},
            ],
            "backendRefs": both(0),
            "timeouts": {"request": "15s", "backendRequest": "5s"},
        }])
    );
}

#[test]
fn ab_test_sends_what_matches_to_the_canary_and_the_rest_to_the_primary() {
    let canary = canary(
        &json!({}),
        &json!({"iterations": 5, "match": [{"headers": {"x-user": {"exact": "insider"}}}]}),
    );
    let running = Traffic {
        ab: true,
        ..weight(0)
    };
    assert_eq!(
        rules(&canary, &running),
        json!([
            {"matches": [{
                "path": {"type": "PathPrefix", "value": "/"},
                "headers": [{"name": "x-user", "type": "Exact", "value": "insider"}],
             }],
             "backendRefs": both(100)},
            {"matches": everything(), "backendRefs": [backend("app-primary", 100)]},
        ])
    );
}

#[test]
fn mirror_is_a_filter_and_is_read_back() {
    let canary = canary(&json!({}), &json!({"mirror": true}));
    let traffic = Traffic {
        mirrored: true,
        ..weight(0)
    };
    let filter = json!({"type": "RequestMirror", "requestMirror": {"backendRef":
        {"group": "", "kind": "Service", "name": "app-canary", "port": 80}}});
    assert_eq!(
        rules(&canary, &traffic),
        json!([{"matches": everything(), "filters": [filter], "backendRefs": both(0)}])
    );
    let world = created(&super::want(
        Router::Gateway,
        &canary,
        &traffic,
        &World::new(),
    ));
    assert_eq!(
        Router::Gateway.weights(&canary, &world),
        Some(Weights {
            primary: 100,
            canary: 0,
            mirrored: true,
            partial: false,
        })
    );
}

#[test]
fn session_affinity_sets_cookies_at_backends_and_takes_them_back_at_the_rule() {
    let canary = canary(
        &json!({"headers": {"response": {"add": {"x": "y"}}}}),
        &json!({"sessionAffinity": {"cookieName": "cc"}}),
    );
    let matches = |regex: &str| {
        json!([{
            "path": {"type": "PathPrefix", "value": "/"},
            "headers": [{"name": "Cookie", "type": "RegularExpression", "value": regex}],
        }])
    };
    let add = |headers: Value| json!([{"type": "ResponseHeaderModifier", "responseHeaderModifier": {"add": headers}}]);
    let xy = json!({"name": "x", "value": "y"});
    let mut sticky = both(20);
    sticky[1]["filters"] = add(json!([{"name": "Set-Cookie", "value": "cc=abc; Max-Age=86400"}]));
    let running = Traffic {
        cookie: Some("cc=abc".to_owned()),
        ..weight(20)
    };
    assert_eq!(
        rules(&canary, &running),
        json!([
            {"matches": matches(".*cc.*abc.*"), "filters": add(json!([xy])),
             "backendRefs": both(100)},
            {"matches": everything(), "filters": add(json!([xy])), "backendRefs": sticky},
        ])
    );
    let over = Traffic {
        previous_cookie: Some("cc=abc".to_owned()),
        ..weight(0)
    };
    let expire = json!({"name": "Set-Cookie", "value": "cc=abc; Max-Age=-1"});
    assert_eq!(
        rules(&canary, &over),
        json!([
            {"matches": matches(".*cc.*abc.*"), "filters": add(json!([expire, xy])),
             "backendRefs": both(0)},
            {"matches": everything(), "filters": add(json!([xy])), "backendRefs": both(0)},
        ])
    );
}

#[test]
fn what_the_api_cannot_express_is_an_error_that_names_it() {
    let find = |service: Value, analysis: Value| {
        let canary = canary(&service, &analysis);
        Router::Gateway
            .want(&canary, &weight(0), &World::new())
            .unwrap_err()
    };
    assert_eq!(
        find(json!({"gatewayRefs": []}), json!({})),
        RouteError::NoGateway {
            canary: "release.test".to_owned()
        }
    );
    for (service, analysis, message) in [
        (
            json!({}),
            json!({"match": [{"sourceLabels": {"app": "x"}}]}),
            "Canary release.test: spec.analysis.match has sourceLabels, \
             which the Gateway API cannot express",
        ),
        (
            json!({"match": [{"headers": {"x": {"prefix": "a"}}}]}),
            json!({}),
            "Canary release.test: match.headers.x is not exact or regex, \
             which the Gateway API cannot express",
        ),
        (
            json!({"match": [{"method": {"regex": "G.*"}}]}),
            json!({}),
            "Canary release.test: match.method is not exact, \
             which the Gateway API cannot express",
        ),
    ] {
        assert_eq!(find(service, analysis).to_string(), message);
    }
}

#[test]
fn adopted_route_is_healed_kept_and_given_back() {
    let canary = canary(&json!({}), &json!({}));
    let before = json!({
        "metadata": {"annotations": {"theirs": "x"}},
        "spec": {"hostnames": ["a.io"], "rules": [{"backendRefs": [{"name": "app"}]}]},
    });
    let want = |world: &World| -> Want {
        let mut wants = super::want(Router::Gateway, &canary, &weight(0), world);
        wants.pop().unwrap()
    };
    let world = existing(Kind::HttpRoute, &before);
    assert_eq!(Router::Gateway.weights(&canary, &world), None);
    let wanted = want(&world);
    let change = wanted.patch(world.get(&wanted.key).unwrap()).unwrap();
    let adopted = patched(&before, &change);
    assert_eq!(adopted["spec"].get("hostnames"), None);
    assert_eq!(adopted["metadata"]["annotations"]["theirs"], "x");

    let world = existing(Kind::HttpRoute, &adopted);
    assert_eq!(want(&world).patch(world.get(&wanted.key).unwrap()), None);
    let restored = Router::Gateway.restore(&canary, &world).pop().unwrap();
    let change = restored.patch(world.get(&wanted.key).unwrap()).unwrap();
    assert_eq!(patched(&adopted, &change)["spec"], before["spec"]);
}

//! Routes of the Gateway API, which the real server validates by the project's own definition.

use haldane::{api::Phase, object::Kind};
use serde_json::{Value, json};

use crate::kit::{CanaryManifest, Hooks, Operator, Scene, canary};

/// A Canary behind a Gateway of its namespace.
fn behind_gateway() -> CanaryManifest {
    canary("podinfo").spec(json!({
        "provider": "gatewayapi:v1",
        "service": {
            "hosts": ["podinfo.example.com"],
            "gatewayRefs": [{ "name": "public", "namespace": "gateways" }],
            "timeout": "15s",
            "apex": { "labels": { "team": "shop" } },
        },
    }))
}

/// Names and weights of a rule's backends.
fn backends(rule: &Value) -> Vec<(&str, i64)> {
    let backends = rule["backendRefs"].as_array().unwrap();
    backends
        .iter()
        .map(|b| (b["name"].as_str().unwrap(), b["weight"].as_i64().unwrap()))
        .collect()
}

/// The backends with these weights.
fn split(canary: i64) -> Vec<(&'static str, i64)> {
    vec![
        ("podinfo-primary", 100 - canary),
        ("podinfo-canary", canary),
    ]
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn http_route_takes_the_weights_of_a_release_that_is_promoted() {
    let policy = behind_gateway().weights(&[20, 60]);
    let scene = Scene::with("gateway", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    let route = scene.get(Kind::HttpRoute, "podinfo").await;
    assert_eq!(route["apiVersion"], "gateway.networking.k8s.io/v1");
    assert_eq!(
        route["spec"],
        json!({
            "parentRefs": [{
                "group": "gateway.networking.k8s.io", "kind": "Gateway",
                "name": "public", "namespace": "gateways",
            }],
            "hostnames": ["podinfo.example.com"],
            "rules": [{
                "matches": [{ "path": { "type": "PathPrefix", "value": "/" } }],
                "backendRefs": [
                    { "group": "", "kind": "Service", "name": "podinfo-primary", "port": 80, "weight": 100 },
                    { "group": "", "kind": "Service", "name": "podinfo-canary", "port": 80, "weight": 0 },
                ],
                "timeouts": { "request": "15s" },
            }],
        })
    );
    let metadata = &route["metadata"];
    assert_eq!(metadata["labels"]["team"], "shop");
    assert_eq!(metadata["ownerReferences"][0]["kind"], "Canary");
    assert_eq!(
        metadata["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"],
        "disabled"
    );

    scene.release("podinfo:2").await;
    scene.reaches(Phase::Progressing).await;
    scene.reaches(Phase::Promoting).await;
    scene.reaches(Phase::Succeeded).await;

    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.runs("podinfo", "podinfo:2", 0).await;
    scene.routes(&[0, 20, 60, 0]).await;
    scene.served_its_users();
    let done = scene.get(Kind::HttpRoute, "podinfo").await;
    assert_eq!(done["spec"], route["spec"]);
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn http_route_gives_all_users_back_when_a_release_fails() {
    let hooks = Hooks::start().await;
    hooks.answer("/acceptance", 500, "broken");
    let policy =
        behind_gateway()
            .threshold(1)
            .hook("rollout", "acceptance", &hooks.url("/acceptance"));
    let scene = Scene::with("gateway-back", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    scene.release("podinfo:2").await;
    scene.reaches(Phase::Failed).await;

    scene.routes(&[0, 50, 0]).await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;
    scene.runs("podinfo", "podinfo:2", 0).await;
    scene.served_its_users();
    let route = scene.get(Kind::HttpRoute, "podinfo").await;
    assert_eq!(backends(&route["spec"]["rules"][0]), split(0));
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn http_route_of_an_ab_test_sends_users_with_the_header_to_the_canary() {
    let policy = behind_gateway()
        .iterations(1)
        .for_header("x-canary", "insider");
    let scene = Scene::with("gateway-ab", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    scene.release("podinfo:2").await;
    scene
        .sees(
            Kind::HttpRoute,
            "podinfo",
            "sends insiders to the canary",
            |route| {
                let rules = &route["spec"]["rules"];
                rules[0]["matches"][0]["headers"]
                    == json!([{ "name": "x-canary", "type": "Exact", "value": "insider" }])
                    && backends(&rules[0]) == split(100)
                    && backends(&rules[1]) == [("podinfo-primary", 100)]
            },
        )
        .await;
    scene.reaches(Phase::Succeeded).await;

    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    let route = scene.get(Kind::HttpRoute, "podinfo").await;
    assert_eq!(backends(&route["spec"]["rules"][0]), split(0));
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn http_route_keeps_sticky_users_by_cookie() {
    let policy = behind_gateway()
        .analysis(json!({ "sessionAffinity": { "cookieName": "version", "maxAge": 600 } }));
    let scene = Scene::with("gateway-sticky", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    scene.release("podinfo:2").await;
    let canary = scene.passes("weight 50", |m| m.weight == 50).await;
    let cookie = canary.status.unwrap().session_affinity_cookie.unwrap();
    scene
        .sees(
            Kind::HttpRoute,
            "podinfo",
            "keeps the cookie's users",
            |route| {
                let rules = &route["spec"]["rules"];
                let header = &rules[0]["matches"][0]["headers"][0];
                header["name"] == "Cookie"
                    && header["type"] == "RegularExpression"
                    && backends(&rules[0]) == split(100)
                    && rules[1]
                        .to_string()
                        .contains(&format!("{cookie}; Max-Age=600"))
            },
        )
        .await;
    scene.reaches(Phase::Succeeded).await;
    scene
        .sees(
            Kind::HttpRoute,
            "podinfo",
            "takes the cookie back",
            |route| route.to_string().contains(&format!("{cookie}; Max-Age=-1")),
        )
        .await;
}

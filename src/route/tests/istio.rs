//! Istio: one test per feature, the exact objects.

use serde_json::{Value, json};

use super::{World, canary, weight};
use crate::{
    api::Canary,
    object::{Kind, Want},
    route::{RouteError, Router, Traffic, Weights},
};

fn want(canary: &Canary, traffic: &Traffic, world: &World) -> Vec<Want> {
    super::want(Router::Istio, canary, traffic, world)
}

fn route(canary: &Canary, traffic: &Traffic) -> Value {
    super::route(Router::Istio, canary, traffic)
}

/// The wanted `spec.http` when there is no VirtualService.
fn http(canary: &Canary, traffic: &Traffic) -> Value {
    route(canary, traffic)["spec"]["http"].clone()
}

fn destination(host: &str, weight: i32) -> Value {
    json!({"destination": {"host": host}, "weight": weight})
}

fn both(canary: i32) -> Value {
    json!([
        destination("app-primary", 100 - canary),
        destination("app-canary", canary)
    ])
}

#[test]
fn plain_service_gets_two_destination_rules_and_a_weighted_route() {
    let canary = canary(&json!({}), &json!({}));
    let manifests: Vec<Value> = want(&canary, &weight(10), &World::new())
        .iter()
        .map(Want::manifest)
        .collect();
    let owners = json!([{
        "apiVersion": "flagger.app/v1beta1", "kind": "Canary", "name": "release",
        "uid": "uid-1", "controller": true, "blockOwnerDeletion": true,
    }]);
    let rule = |host: &str| {
        json!({
            "apiVersion": "networking.istio.io/v1beta1", "kind": "DestinationRule",
            "metadata": {"name": host, "namespace": "test", "ownerReferences": owners},
            "spec": {"host": host},
        })
    };
    assert_eq!(
        manifests,
        [
            rule("app-canary"),
            rule("app-primary"),
            json!({
                "apiVersion": "networking.istio.io/v1beta1", "kind": "VirtualService",
                "metadata": {
                    "name": "app", "namespace": "test", "ownerReferences": owners,
                    "annotations": {
                        "helm.toolkit.fluxcd.io/driftDetection": "disabled",
                        "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
                    },
                },
                "spec": {
                    "hosts": ["app"],
                    "gateways": ["mesh"],
                    "http": [{"route": both(10)}],
                },
            }),
        ]
    );
    assert_eq!(
        manifests.len(),
        Router::Istio.keys(&canary).len(),
        "every wanted object is observed"
    );
}

#[test]
fn traffic_policy_is_that_of_both_destinations() {
    let policy = json!({"loadBalancer": {"simple": "LEAST_REQUEST"}, "tls": {"mode": "DISABLE"}});
    let canary = canary(&json!({"trafficPolicy": policy}), &json!({}));
    for rule in &want(&canary, &weight(0), &World::new())[..2] {
        assert_eq!(rule.manifest()["spec"]["trafficPolicy"], policy);
    }
}

#[test]
fn hosts_end_with_the_apex_unless_they_cover_it() {
    for (hosts, wanted) in [
        (json!(["a.io", "b.io"]), json!(["a.io", "b.io", "app"])),
        (json!(["app", "a.io"]), json!(["app", "a.io"])),
        (json!(["*"]), json!(["*"])),
        (json!([]), json!(["app"])),
    ] {
        let canary = canary(&json!({"hosts": hosts}), &json!({}));
        assert_eq!(route(&canary, &weight(0))["spec"]["hosts"], wanted);
    }
}

#[test]
fn service_name_names_route_and_destinations() {
    let canary = canary(&json!({"name": "shop"}), &json!({}));
    let route = route(&canary, &weight(0));
    assert_eq!(route["metadata"]["name"], "shop");
    assert_eq!(
        route["spec"]["http"][0]["route"],
        json!([
            destination("shop-primary", 100),
            destination("shop-canary", 0)
        ])
    );
}

#[test]
fn service_settings_are_those_of_the_rule() {
    let canary = canary(
        &json!({
            "gateways": ["istio-system/public", "mesh"],
            "match": [{"uri": {"prefix": "/api"}}],
            "rewrite": {"uri": "/", "type": "ReplacePrefixMatch"},
            "timeout": "15s",
            "retries": {"attempts": 3, "perTryTimeout": "1s", "retryOn": "5xx"},
            "corsPolicy": {"allowOrigins": [{"exact": "a.io"}], "maxAge": "24h"},
            "headers": {"request": {"add": {"x": "y"}}, "response": {"remove": ["z"]}},
            "apex": {"labels": {"team": "a"}, "annotations": {"note": "b"}},
        }),
        &json!({}),
    );
    let route = route(&canary, &weight(0));
    assert_eq!(
        route["spec"],
        json!({
            "hosts": ["app"],
            "gateways": ["istio-system/public", "mesh"],
            "http": [{
                "match": [{"uri": {"prefix": "/api"}}],
                "rewrite": {"uri": "/"},
                "timeout": "15s",
                "retries": {"attempts": 3, "perTryTimeout": "1s", "retryOn": "5xx"},
                "corsPolicy": {"allowOrigins": [{"exact": "a.io"}], "maxAge": "24h"},
                "headers": {"request": {"add": {"x": "y"}}, "response": {"remove": ["z"]}},
                "route": both(0),
            }],
        })
    );
    assert_eq!(route["metadata"]["labels"], json!({"team": "a"}));
    assert_eq!(route["metadata"]["annotations"]["note"], "b");
}

#[test]
fn settings_that_say_nothing_are_left_out() {
    let canary = canary(
        &json!({
            "match": [], "rewrite": {"type": "ReplaceFullPath", "uri": ""}, "timeout": "",
            "retries": {}, "corsPolicy": {}, "headers": {},
        }),
        &json!({"match": []}),
    );
    assert_eq!(http(&canary, &weight(0)), json!([{"route": both(0)}]));
}

#[test]
fn delegate_has_neither_hosts_nor_gateways() {
    let delegate = canary(&json!({"delegation": true}), &json!({}));
    assert_eq!(
        route(&delegate, &weight(0))["spec"],
        json!({"http": [{"route": both(0)}]})
    );
    let mixed = canary(&json!({"delegation": true, "hosts": ["a.io"]}), &json!({}));
    assert_eq!(
        Router::Istio.want(&mixed, &weight(0), &World::new()),
        Err(RouteError::Delegation {
            route: "app.test".to_owned()
        })
    );
}

#[test]
fn port_is_named_where_a_gateway_could_not_know_it() {
    for (service, named) in [
        (json!({"portDiscovery": true, "gateways": ["public"]}), true),
        (json!({"portDiscovery": true, "delegation": true}), true),
        (
            json!({"portDiscovery": true, "gateways": ["mesh", "public"]}),
            false,
        ),
        (json!({"portDiscovery": true}), false),
        (json!({"gateways": ["public"]}), false),
    ] {
        let http = http(&canary(&service, &json!({})), &weight(0));
        for to in http[0]["route"].as_array().unwrap() {
            let port = named.then(|| json!({"number": 80}));
            assert_eq!(to["destination"].get("port"), port.as_ref(), "{service}");
        }
    }
}

#[test]
fn tcp_service_routes_connections() {
    let canary = canary(
        &json!({"appProtocol": "TCP", "match": [{"port": 5432}, {"uri": {"prefix": "/"}}]}),
        &json!({"mirror": true, "sessionAffinity": {"cookieName": "c"}}),
    );
    let traffic = Traffic {
        mirrored: true,
        cookie: Some("c=1".to_owned()),
        ..weight(0)
    };
    assert_eq!(
        route(&canary, &traffic)["spec"],
        json!({
            "hosts": ["app"], "gateways": ["mesh"],
            "tcp": [{"match": [{"port": 5432}], "route": both(0)}],
        })
    );
}

#[test]
fn mirror_copies_requests_while_the_canary_has_no_weight() {
    let service = json!({});
    let mirrored = |canary_weight| Traffic {
        mirrored: true,
        ..weight(canary_weight)
    };
    assert_eq!(
        http(&canary(&service, &json!({"mirror": true})), &mirrored(0)),
        json!([{"route": both(0), "mirror": {"host": "app-canary"}}])
    );
    let part = canary(&service, &json!({"mirror": true, "mirrorWeight": 25}));
    assert_eq!(
        http(&part, &mirrored(0)),
        json!([{
            "route": both(0),
            "mirror": {"host": "app-canary"},
            "mirrorPercentage": {"value": 25},
        }])
    );
    assert_eq!(http(&part, &mirrored(10)), json!([{"route": both(10)}]));
}

#[test]
fn ab_test_sends_what_matches_to_the_canary_and_the_rest_to_the_primary() {
    let canary = canary(
        &json!({"match": [{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}], "timeout": "5s"}),
        &json!({"iterations": 5, "match": [{"headers": {"x-user": {"exact": "insider"}}}]}),
    );
    let insider = json!({"x-user": {"exact": "insider"}});
    let rules = |split: Value, others: Value| {
        json!([
            {"match": [{"uri": {"prefix": "/a"}, "headers": insider},
                       {"uri": {"prefix": "/b"}, "headers": insider}],
             "timeout": "5s", "route": split},
            {"match": [{"uri": {"prefix": "/a"}}, {"uri": {"prefix": "/b"}}],
             "timeout": "5s", "route": others},
        ])
    };
    let primary = json!([destination("app-primary", 100)]);
    let running = Traffic {
        ab: true,
        ..weight(0)
    };
    assert_eq!(http(&canary, &weight(0)), rules(both(0), primary.clone()));
    assert_eq!(http(&canary, &running), rules(both(100), primary));
    // A promotion that failed leaves the canary as the only one that works.
    assert_eq!(http(&canary, &weight(100)), rules(both(100), both(100)));
}

#[test]
fn canary_with_match_weighs_the_matching_requests_only() {
    let canary = canary(
        &json!({}),
        &json!({"stepWeight": 10, "match": [{"headers": {"x-user": {"exact": "insider"}}}]}),
    );
    assert_eq!(
        http(&canary, &weight(30)),
        json!([
            {"match": [{"headers": {"x-user": {"exact": "insider"}}}], "route": both(30)},
            {"route": [destination("app-primary", 100)]},
        ])
    );
}

fn sticky() -> Canary {
    canary(
        &json!({"match": [{"uri": {"prefix": "/a"}}]}),
        &json!({"interval": "1m", "sessionAffinity": {
            "cookieName": "cc", "primaryCookieName": "pc", "maxAge": 60, "domain": "a.io",
            "path": "/", "sameSite": "Lax", "httpOnly": true, "secure": true, "partitioned": true,
        }}),
    )
}

fn cookie_match(regex: &str) -> Value {
    json!([{"uri": {"prefix": "/a"}, "headers": {"Cookie": {"regex": regex}}}])
}

#[test]
fn session_affinity_keeps_users_by_cookies_in_rule_order() {
    let traffic = Traffic {
        cookie: Some("cc=abc".to_owned()),
        primary_cookie: Some("pc=def".to_owned()),
        previous_cookie: Some("cc=old".to_owned()),
        ..weight(20)
    };
    let attributes = "Domain=a.io; HttpOnly; Partitioned; Path=/; SameSite=Lax; Secure";
    let set = |cookie: &str| {
        let text = format!("{cookie}; {attributes}");
        json!({"response": {"add": {"Set-Cookie": text}}})
    };
    assert_eq!(
        http(&sticky(), &traffic),
        json!([
            {"match": cookie_match(".*cc.*abc.*"), "route": both(100)},
            {"match": cookie_match(".*pc.*def.*"), "route": both(0)},
            {"match": [{"uri": {"prefix": "/a"}}], "route": [
                {"destination": {"host": "app-primary"}, "weight": 80,
                 "headers": set("pc=def; Max-Age=60")},
                {"destination": {"host": "app-canary"}, "weight": 20,
                 "headers": set("cc=abc; Max-Age=60")},
            ]},
        ])
    );
}

#[test]
fn session_affinity_at_full_weight_keeps_nobody_on_the_primary() {
    let traffic = Traffic {
        cookie: Some("cc=abc".to_owned()),
        primary_cookie: Some("pc=def".to_owned()),
        ..weight(100)
    };
    let rules = http(&sticky(), &traffic);
    assert_eq!(rules.as_array().unwrap().len(), 2);
    assert_eq!(rules[0]["match"], cookie_match(".*cc.*abc.*"));
    assert_eq!(rules[1]["route"][0], destination("app-primary", 0));
}

#[test]
fn session_affinity_without_options_lasts_a_day() {
    let canary = canary(
        &json!({}),
        &json!({"sessionAffinity": {"cookieName": "cc"}}),
    );
    let traffic = Traffic {
        cookie: Some("cc=abc".to_owned()),
        primary_cookie: Some("pc=left-over".to_owned()),
        ..weight(20)
    };
    assert_eq!(
        http(&canary, &traffic),
        json!([
            {"match": [{"headers": {"Cookie": {"regex": ".*cc.*abc.*"}}}], "route": both(100)},
            {"route": [
                destination("app-primary", 80),
                {"destination": {"host": "app-canary"}, "weight": 20, "headers":
                    {"response": {"add": {"Set-Cookie": "cc=abc; Max-Age=86400"}}}},
            ]},
        ])
    );
}

#[test]
fn session_affinity_without_weight_takes_the_previous_cookie_back() {
    let canary = canary(
        &json!({"headers": {"response": {"add": {"x": "y"}}}}),
        &json!({"sessionAffinity": {"cookieName": "cc"}}),
    );
    let weighted = json!({"headers": {"response": {"add": {"x": "y"}}}, "route": both(0)});
    assert_eq!(
        http(&canary, &weight(0)),
        json!([weighted]),
        "no cookie, no rule for it"
    );
    let traffic = Traffic {
        previous_cookie: Some("cc=old".to_owned()),
        ..weight(0)
    };
    assert_eq!(
        http(&canary, &traffic),
        json!([
            {"match": [{"headers": {"Cookie": {"regex": ".*cc.*old.*"}}}],
             "headers": {"response": {"add":
                {"x": "y", "Set-Cookie": "cc=old; Max-Age=-1"}}},
             "route": both(0)},
            weighted,
        ])
    );
}

#[test]
fn weights_are_those_of_the_rule_that_splits() {
    let canary = sticky();
    for (traffic, wanted) in [
        (weight(0), (100, 0, false)),
        (
            Traffic {
                mirrored: true,
                ..weight(0)
            },
            (100, 0, true),
        ),
        (
            Traffic {
                cookie: Some("cc=abc".to_owned()),
                ..weight(35)
            },
            (65, 35, false),
        ),
    ] {
        let world = super::created(&want(&canary, &traffic, &World::new()));
        let (primary, weight, mirrored) = wanted;
        assert_eq!(
            Router::Istio.weights(&canary, &world),
            Some(Weights {
                primary,
                canary: weight,
                mirrored,
                partial: false,
            })
        );
    }
    let foreign = super::existing(
        Kind::VirtualService,
        &json!({
            "metadata": {},
            "spec": {"http": [{"route": [{"destination": {"host": "app"}}]}]},
        }),
    );
    assert_eq!(Router::Istio.weights(&canary, &foreign), None);
    assert_eq!(Router::Istio.weights(&canary, &World::new()), None);
}

//! What must hold for every Canary and every traffic: requests are routed through
//! [`eval`](super::super::eval) and counted.

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::{World, canary, created, existing, patched, want};
use crate::{
    api::{Canary, Strategy as Release},
    route::{
        Router, Traffic,
        istio::eval::{Forwarding, Request, forward},
    },
};

const PATHS: [&str; 3] = ["/", "/a/x", "/b"];
const USERS: [&str; 3] = ["", "insider", "guest.io"];

fn text_match(values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    (
        select(values),
        select(&["exact", "prefix", "suffix", "regex"][..]),
    )
        .prop_map(|(text, how)| json!({ how: text }))
}

/// A condition of the service: on the path, and perhaps on a header.
fn service_match() -> impl Strategy<Value = Value> {
    (
        option::of(select(&["/", "/a"][..])),
        option::of(text_match(&["guest", "i"])),
    )
        .prop_map(|(path, header)| {
            let mut condition = Map::new();
            if let Some(path) = path {
                condition.insert("uri".into(), json!({"prefix": path}));
            }
            if let Some(header) = header {
                condition.insert("headers".into(), json!({"x-group": header}));
            }
            Value::Object(condition)
        })
}

fn service() -> impl Strategy<Value = Value> {
    (
        vec(service_match(), 0..3),
        any::<[bool; 4]>(),
        option::of(select(&["mesh", "public"][..])),
        option::of(select(&["app", "a.io", "*"][..])),
    )
        .prop_map(
            |(matches, [ports, headers, delegation, retries], gateway, host)| {
                let mut service = json!({"match": matches, "portDiscovery": ports});
                if headers {
                    service["headers"] = json!({"response": {"add": {"x": "y"}}});
                }
                if retries {
                    service["retries"] = json!({"attempts": 2});
                    service["timeout"] = json!("5s");
                }
                if delegation {
                    service["delegation"] = json!(true);
                } else {
                    service["gateways"] = json!(gateway.as_slice());
                    service["hosts"] = json!(host.as_slice());
                }
                service
            },
        )
}

fn analysis() -> impl Strategy<Value = Value> {
    let tested = text_match(&["insider", "io", "g"]);
    (
        0..3,
        vec(tested, 0..3),
        option::of((any::<bool>(), option::of(-1..3))),
        -5..120,
    )
        .prop_map(|(iterations, users, affinity, mirror_weight)| {
            let matches: Vec<Value> = users
                .into_iter()
                .map(|user| json!({"headers": {"x-user": user}}))
                .collect();
            let mut analysis =
                json!({"iterations": iterations, "match": matches, "mirrorWeight": mirror_weight});
            if let Some((primary, age)) = affinity {
                analysis["sessionAffinity"] = json!({"cookieName": "cc", "maxAge": age});
                if primary {
                    analysis["sessionAffinity"]["primaryCookieName"] = json!("pc");
                }
            }
            analysis
        })
}

fn traffic() -> impl Strategy<Value = Traffic> {
    (
        prop_oneof![Just(0), Just(100), -10..120],
        any::<[bool; 5]>(),
    )
        .prop_map(
            |(canary_weight, [mirrored, ab, cookie, primary, previous])| Traffic {
                canary_weight,
                mirrored,
                ab,
                cookie: cookie.then(|| "cc=new".to_owned()),
                primary_cookie: primary.then(|| "pc=first".to_owned()),
                previous_cookie: previous.then(|| "cc=old".to_owned()),
            },
        )
}

fn requests() -> impl Iterator<Item = Request> {
    PATHS.into_iter().flat_map(|path| {
        USERS.into_iter().flat_map(move |user| {
            USERS.into_iter().map(move |group| {
                Request::get(path)
                    .with_header("x-user", user)
                    .with_header("x-group", group)
            })
        })
    })
}

fn share(forwarding: &Forwarding, host: &str) -> f64 {
    forwarding
        .shares
        .iter()
        .filter(|share| share.host == host)
        .map(|share| share.percent)
        .sum()
}

fn canary_share(forwarding: &Forwarding) -> f64 {
    share(forwarding, "app-canary")
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() < 1e-9
}

/// A VirtualService that has just these conditions, to ask whether they take a request.
fn takes(conditions: &Value, request: &Request) -> bool {
    let rule = json!({"match": conditions, "route": [{"destination": {"host": "x"}}]});
    forward(&json!({"spec": {"http": [rule]}}), request).is_some()
}

/// The conditions of `spec.service` or `spec.analysis`, as the API spells them.
fn conditions(matches: Option<&[crate::api::istio::HttpMatch]>) -> Value {
    crate::route::istio::conditions::conditions(matches.unwrap_or_default())
}

fn served(canary: &Canary, request: &Request) -> bool {
    let service = canary.spec.service.as_ref().unwrap();
    takes(&conditions(service.matches.as_deref()), request)
}

fn tested(canary: &Canary, request: &Request) -> bool {
    let matches = conditions(canary.spec.analysis.matches.as_deref());
    matches.as_array().is_some_and(|list| !list.is_empty()) && takes(&matches, request)
}

fn has_match(canary: &Canary) -> bool {
    let matches = canary.spec.analysis.matches.as_ref();
    matches.is_some_and(|matches| !matches.is_empty())
}

fn route(canary: &Canary, traffic: &Traffic) -> Value {
    super::route(canary, traffic)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_rule_has_integer_weights_that_sum_to_100(
        service in service(), analysis in analysis(), traffic in traffic(),
    ) {
        let route = route(&canary(&service, &analysis), &traffic);
        for rule in route["spec"]["http"].as_array().unwrap() {
            let weights = rule["route"].as_array().unwrap();
            let sum: i64 = weights.iter().map(|to| to["weight"].as_i64().unwrap()).sum();
            prop_assert!(weights.iter().all(|to| to["weight"].as_i64().unwrap() >= 0));
            prop_assert_eq!(sum, 100);
        }
    }

    #[test]
    fn request_without_cookie_gets_the_weights_and_a_tested_one_the_canary(
        service in service(), analysis in analysis(), traffic in traffic(),
    ) {
        let canary = canary(&service, &analysis);
        let route = route(&canary, &traffic);
        let release = canary.spec.analysis.strategy();
        for request in requests() {
            let forwarding = forward(&route, &request);
            prop_assert_eq!(forwarding.is_some(), served(&canary, &request));
            let Some(forwarding) = forwarding else { continue };
            let total = canary_share(&forwarding) + share(&forwarding, "app-primary");
            prop_assert!(near(total, 100.0), "{:?}", forwarding);
            let wanted = match (has_match(&canary), tested(&canary, &request)) {
                (true, true) if traffic.ab => 100,
                (true, false) if release != Release::AbTesting => 0,
                _ => traffic.canary(),
            };
            prop_assert!(near(canary_share(&forwarding), f64::from(wanted)), "{:?}", forwarding);
        }
    }

    #[test]
    fn user_with_a_cookie_stays_on_one_version(
        service in service(), analysis in analysis(), traffic in traffic(),
    ) {
        let canary = canary(&service, &analysis);
        let route = route(&canary, &traffic);
        let affinity = canary.spec.analysis.session_affinity.clone();
        let (Some(affinity), false) = (affinity, has_match(&canary)) else { return Ok(()) };
        for request in requests().filter(|request| served(&canary, request)) {
            let of = |cookie: &str| forward(&route, &request.clone().with_cookie("a=b").with_cookie(cookie)).unwrap();
            let weight = f64::from(traffic.canary());
            let on_canary = if traffic.cookie.is_some() && traffic.canary() > 0 { 100.0 } else { weight };
            prop_assert!(near(canary_share(&of("cc=new")), on_canary));
            let kept = traffic.primary_cookie.is_some()
                && affinity.primary_cookie_name.is_some()
                && traffic.primary() > 0;
            let on_canary = if kept { 0.0 } else { weight };
            prop_assert!(near(canary_share(&of("pc=first")), on_canary));
            prop_assert!(near(canary_share(&of("cc=else")), weight));
        }
    }

    #[test]
    fn cookie_that_a_response_sets_leads_back_to_the_version_that_answered(
        service in service(), analysis in analysis(), traffic in traffic(),
    ) {
        let canary = canary(&service, &analysis);
        let route = route(&canary, &traffic);
        for request in requests() {
            let Some(forwarding) = forward(&route, &request) else { continue };
            for answer in forwarding.shares {
                for set in answer.set_cookies {
                    let (cookie, _) = set.split_once(';').unwrap();
                    let back = forward(&route, &request.clone().with_cookie(cookie)).unwrap();
                    prop_assert!(near(share(&back, &answer.host), 100.0));
                }
            }
        }
    }

    #[test]
    fn rollback_leaves_no_path_to_the_canary(
        service in service(), analysis in analysis(), mut traffic in traffic(),
    ) {
        traffic.canary_weight = 0;
        traffic.mirrored = false;
        traffic.ab = false;
        let canary = canary(&service, &analysis);
        let route = route(&canary, &traffic);
        for rule in route["spec"]["http"].as_array().unwrap() {
            prop_assert_eq!(rule.get("mirror"), None);
        }
        for request in requests() {
            for cookie in ["", "cc=new", "cc=old", "pc=first"] {
                if let Some(forwarding) = forward(&route, &request.clone().with_cookie(cookie)) {
                    prop_assert!(near(canary_share(&forwarding), 0.0));
                }
            }
        }
    }

    #[test]
    fn what_is_wanted_needs_no_patch_once_it_is_there(
        service in service(), analysis in analysis(), traffic in traffic(),
    ) {
        let canary = canary(&service, &analysis);
        let world = created(&want(&canary, &traffic, &World::new()));
        for wanted in want(&canary, &traffic, &world) {
            prop_assert_eq!(wanted.patch(world.get(&wanted.key).unwrap()), None);
        }
    }

    #[test]
    fn one_patch_leads_from_any_route_to_the_wanted_one(
        before in (service(), analysis(), traffic()),
        after in (service(), analysis(), traffic()),
        foreign in any::<bool>(),
    ) {
        let (old, new) = (canary(&before.0, &before.1), canary(&after.0, &after.1));
        let mut live = route(&old, &before.2);
        live["spec"]["exportTo"] = json!(["."]);
        if foreign {
            live["metadata"]["ownerReferences"] = json!([]);
            live["spec"]["http"] = json!([{"route": [{"destination": {"host": "app"}}]}]);
        }
        let world = existing(&live);
        let wanted = want(&new, &after.2, &world).pop().unwrap();
        let patch = wanted.patch(world.get(&wanted.key).unwrap());
        let live = patched(&live, &patch.unwrap_or_else(|| json!({})));
        let mut expected = route(&new, &after.2)["spec"].clone();
        expected["exportTo"] = json!(["."]);
        prop_assert_eq!(&live["spec"], &expected);
        let world = existing(&live);
        let wanted = want(&new, &after.2, &world).pop().unwrap();
        prop_assert_eq!(wanted.patch(world.get(&wanted.key).unwrap()), None);
        let weights = Router::Istio.weights(&new, &world).unwrap();
        prop_assert_eq!(weights.primary + weights.canary, 100);
    }
}

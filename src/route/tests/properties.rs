//! What must hold for every route API, Canary and traffic: requests are routed as a proxy would
//! route them, and counted.

use proptest::{collection::vec, option, prelude::*, sample::select};
use serde_json::{Map, Value, json};

use super::{World, canary, created, existing, patched, want};
use crate::{
    api::{Canary, Strategy as Release, istio::HttpMatch},
    object::Kind,
    route::{Forwarding, Request, Router, Traffic, gateway, istio},
};

/// A route API as the properties see it.
#[derive(Clone, Copy, Debug)]
struct Api {
    router: Router,
    kind: Kind,
    /// Where the rules are, and the destinations in them.
    rules: &'static str,
    destinations: &'static str,
    comparisons: &'static [&'static str],
    forward: fn(&Value, &Request) -> Option<Forwarding>,
}

const APIS: [Api; 2] = [
    Api {
        router: Router::Istio,
        kind: Kind::VirtualService,
        rules: "http",
        destinations: "route",
        comparisons: &["exact", "prefix", "suffix", "regex"],
        forward: istio::eval::forward,
    },
    Api {
        router: Router::Gateway,
        kind: Kind::HttpRoute,
        rules: "rules",
        destinations: "backendRefs",
        comparisons: &["exact", "regex"],
        forward: gateway::eval::forward,
    },
];

/// A Canary under some route API, and what its traffic should look like.
#[derive(Clone, Debug)]
struct Case {
    api: Api,
    canary: Canary,
    traffic: Traffic,
}

impl Case {
    fn route(&self) -> Value {
        super::route(self.api.router, &self.canary, &self.traffic)
    }

    fn forward(&self, route: &Value, request: &Request) -> Option<Forwarding> {
        (self.api.forward)(route, request)
    }
}

fn case() -> impl Strategy<Value = Case> {
    select(&APIS[..]).prop_flat_map(case_of)
}

fn case_of(api: Api) -> impl Strategy<Value = Case> {
    (service(api), analysis(api), traffic()).prop_map(move |(service, analysis, traffic)| Case {
        api,
        canary: canary(&service, &analysis),
        traffic,
    })
}

const PATHS: [&str; 3] = ["/", "/a/x", "/b"];
const USERS: [&str; 3] = ["", "insider", "guest.io"];

fn text_match(api: Api, values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    (select(values), select(api.comparisons)).prop_map(|(text, how)| json!({ how: text }))
}

/// A condition of the service: on the path, and perhaps on a header.
fn service_match(api: Api) -> impl Strategy<Value = Value> {
    (
        option::of(select(&["/", "/a"][..])),
        option::of(text_match(api, &["guest", "i"])),
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

fn service(api: Api) -> impl Strategy<Value = Value> {
    (
        vec(service_match(api), 0..3),
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

fn analysis(api: Api) -> impl Strategy<Value = Value> {
    let tested = text_match(api, &["insider", "io", "g"]);
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

/// Whether one of these conditions takes a request.
fn takes(matches: Option<&[HttpMatch]>, request: &Request) -> bool {
    let rule = json!({
        "match": istio::conditions::conditions(matches.unwrap_or_default()),
        "route": [{"destination": {"host": "x"}}],
    });
    istio::eval::forward(&json!({"spec": {"http": [rule]}}), request).is_some()
}

fn served(canary: &Canary, request: &Request) -> bool {
    let service = canary.spec.service.as_ref().unwrap();
    takes(service.matches.as_deref(), request)
}

fn tested(canary: &Canary, request: &Request) -> bool {
    has_match(canary) && takes(canary.spec.analysis.matches.as_deref(), request)
}

fn has_match(canary: &Canary) -> bool {
    let matches = canary.spec.analysis.matches.as_ref();
    matches.is_some_and(|matches| !matches.is_empty())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_rule_has_integer_weights_that_sum_to_100(
        case in case(),
    ) {
        for rule in case.route()["spec"][case.api.rules].as_array().unwrap() {
            let weights = rule[case.api.destinations].as_array().unwrap();
            let sum: i64 = weights.iter().map(|to| to["weight"].as_i64().unwrap()).sum();
            prop_assert!(weights.iter().all(|to| to["weight"].as_i64().unwrap() >= 0));
            prop_assert_eq!(sum, 100);
        }
    }

    #[test]
    fn request_without_cookie_gets_the_weights_and_a_tested_one_the_canary(
        case in case(),
    ) {
        let (canary, traffic, route) = (&case.canary, &case.traffic, case.route());
        let release = canary.spec.analysis.strategy();
        for request in requests() {
            let forwarding = case.forward(&route, &request);
            prop_assert_eq!(forwarding.is_some(), served(canary, &request));
            let Some(forwarding) = forwarding else { continue };
            let total = canary_share(&forwarding) + share(&forwarding, "app-primary");
            prop_assert!(near(total, 100.0), "{:?}", forwarding);
            let copied = forwarding.mirrors.iter().any(|mirror| mirror.host == "app-canary");
            prop_assert!(!copied || near(canary_share(&forwarding), 0.0), "{:?}", forwarding);
            let wanted = match (has_match(canary), tested(canary, &request)) {
                (true, true) if traffic.ab => 100,
                (true, false) if release != Release::AbTesting => 0,
                _ => traffic.canary(),
            };
            prop_assert!(near(canary_share(&forwarding), f64::from(wanted)), "{:?}", forwarding);
        }
    }

    #[test]
    fn user_with_a_cookie_stays_on_one_version(
        case in case(),
    ) {
        let (canary, traffic, route) = (&case.canary, &case.traffic, case.route());
        let affinity = canary.spec.analysis.session_affinity.clone();
        let (Some(affinity), false) = (affinity, has_match(canary)) else { return Ok(()) };
        for request in requests().filter(|request| served(canary, request)) {
            let of = |cookie: &str| case.forward(&route, &request.clone().with_cookie("a=b").with_cookie(cookie)).unwrap();
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
        case in case(),
    ) {
        let route = case.route();
        for request in requests() {
            let Some(forwarding) = case.forward(&route, &request) else { continue };
            for answer in forwarding.shares {
                for set in answer.set_cookies {
                    let (cookie, _) = set.split_once(';').unwrap();
                    let back = case.forward(&route, &request.clone().with_cookie(cookie)).unwrap();
                    prop_assert!(near(share(&back, &answer.host), 100.0));
                }
            }
        }
    }

    #[test]
    fn rollback_leaves_no_path_to_the_canary(
        mut case in case(),
    ) {
        case.traffic.canary_weight = 0;
        case.traffic.mirrored = false;
        case.traffic.ab = false;
        let route = case.route();
        for request in requests() {
            for cookie in ["", "cc=new", "cc=old", "pc=first"] {
                if let Some(forwarding) = case.forward(&route, &request.clone().with_cookie(cookie)) {
                    prop_assert_eq!(&forwarding.mirrors, &[]);
                    prop_assert!(near(canary_share(&forwarding), 0.0));
                }
            }
        }
    }

    #[test]
    fn what_is_wanted_needs_no_patch_once_it_is_there(case in case()) {
        let Case { api, canary, traffic } = &case;
        let world = created(&want(api.router, canary, traffic, &World::new()));
        for wanted in want(api.router, canary, traffic, &world) {
            prop_assert_eq!(wanted.patch(world.get(&wanted.key).unwrap()), None);
        }
    }

    #[test]
    fn one_patch_leads_from_any_route_to_the_wanted_one(
        (before, after) in select(&APIS[..]).prop_flat_map(|api| (case_of(api), case_of(api))),
        foreign in any::<bool>(),
    ) {
        let api = after.api;
        let mut live = before.route();
        live["spec"]["theirs"] = json!(["."]);
        if foreign {
            live["metadata"]["ownerReferences"] = json!([]);
            live["spec"][api.rules] = json!([{}]);
        }
        let world = existing(api.kind, &live);
        let wanted = want(api.router, &after.canary, &after.traffic, &world).pop().unwrap();
        let patch = wanted.patch(world.get(&wanted.key).unwrap());
        let live = patched(&live, &patch.unwrap_or_else(|| json!({})));
        let mut expected = after.route()["spec"].clone();
        expected["theirs"] = json!(["."]);
        prop_assert_eq!(&live["spec"], &expected);
        let world = existing(api.kind, &live);
        let wanted = want(api.router, &after.canary, &after.traffic, &world).pop().unwrap();
        prop_assert_eq!(wanted.patch(world.get(&wanted.key).unwrap()), None);
        let weights = api.router.weights(&after.canary, &world).unwrap();
        prop_assert_eq!(weights.primary + weights.canary, 100);
    }
}

proptest! {
    #[test]
    fn reweigh_to_zero_takes_every_request_off_the_canary(case in case(), path in select(&PATHS[..]), user in select(&USERS[..])) {
        let mut live = case.route();
        live["spec"]["theirs"] = json!({"kept": true});
        let world = existing(case.api.kind, &live);
        let wanted = Traffic::default();
        let Some(want) = case.api.router.reweigh(&case.canary, &wanted, &world) else {
            prop_assert!(!live.to_string().contains("app-canary"), "{live}");
            return Ok(());
        };
        let after = match want.patch(world.get(&want.key).unwrap()) {
            Some(change) => patched(&live, &change),
            None => live.clone(),
        };
        let request = Request::get(path).with_header("x-user", user);
        let forwarding = (case.api.forward)(&after, &request);
        prop_assert_eq!(
            forwarding.is_some(),
            (case.api.forward)(&live, &request).is_some()
        );
        for share in forwarding.into_iter().flat_map(|f| f.shares.into_iter().chain(f.mirrors)) {
            prop_assert!(share.host != "app-canary", "{after}");
        }
        prop_assert_eq!(&after["spec"]["theirs"], &live["spec"]["theirs"]);
        let again = existing(case.api.kind, &after);
        let want = case.api.router.reweigh(&case.canary, &wanted, &again).unwrap();
        prop_assert_eq!(want.patch(again.get(&want.key).unwrap()), None, "once is enough");
    }
}

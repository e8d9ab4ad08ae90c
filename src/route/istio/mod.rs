//! Istio: the VirtualService S splits requests between the hosts S-primary and S-canary, each
//! with a DestinationRule of its own.

pub(super) mod conditions;
mod virtual_service;

pub mod eval;

use serde_json::{Value, json};

use super::{
    Names, Observed, RouteError, Traffic, Weights, adoption, reweigh::Spelling, service,
    wanted_route,
};
use crate::{
    api::{Canary, service::Service},
    object::{At, Key, Kind, Object, Want},
};

use virtual_service::Route;

/// How a VirtualService spells rules and destinations.
pub(super) const SPELLING: Spelling = Spelling {
    rules: &["http", "tcp"],
    backends: "route",
    name: "/destination/host",
    changes: "headers",
    unmirror: |rule, host| {
        if rule.get("mirror").and_then(|to| to.get("host")) == Some(&json!(host)) {
            rule.remove("mirror");
            rule.remove("mirrorPercentage");
        }
    },
};

/// The DestinationRules and the VirtualService, in the order in which they are written: a route
/// is never there before its destinations.
pub(super) fn keys(canary: &Canary) -> Vec<Key> {
    let names = Names::of(canary);
    vec![
        Key::new(Kind::DestinationRule, &names.namespace, &names.canary),
        Key::new(Kind::DestinationRule, &names.namespace, &names.primary),
        route_key(&names),
    ]
}

pub(super) fn route_key(names: &Names) -> Key {
    Key::new(Kind::VirtualService, &names.namespace, &names.apex)
}

pub(super) fn want(
    canary: &Canary,
    traffic: &Traffic,
    observed: &Observed,
) -> Result<Vec<Want>, RouteError> {
    let names = Names::of(canary);
    let service = service(canary)?;
    let spec = virtual_service::spec(&Route {
        names: &names,
        service,
        analysis: &canary.spec.analysis,
        traffic,
    })?;
    let mut route = wanted_route(route_key(&names), spec, service);
    if let Some(existing) = observed.get(&route.key)
        && live_weights(&names, existing).is_none()
    {
        adoption::keep_original(&mut route, existing, canary);
    }
    let mut wants = vec![
        destination(&names, &names.canary, service),
        destination(&names, &names.primary, service),
        route,
    ];
    for want in &mut wants {
        want.owner = super::owner(canary);
    }
    Ok(wants)
}

pub(super) fn check(canary: &Canary) -> Result<(), RouteError> {
    virtual_service::attachment(&Names::of(canary), service(canary)?).map(drop)
}

fn destination(names: &Names, host: &str, service: &Service) -> Want {
    let key = Key::new(Kind::DestinationRule, &names.namespace, host);
    // A policy taken out of the Canary must leave the rule too: `null` asks for its absence.
    let mut want = Want::new(
        key,
        json!({ "spec": { "host": host, "trafficPolicy": service.traffic_policy } }),
    );
    want.exact.push("/spec/trafficPolicy");
    want
}

pub(super) fn weights(canary: &Canary, observed: &Observed) -> Option<Weights> {
    let names = Names::of(canary);
    live_weights(&names, observed.get(&route_key(&names))?)
}

pub(super) fn restore(canary: &Canary, observed: &Observed) -> Option<Want> {
    adoption::restore(observed.get(&route_key(&Names::of(canary)))?, canary)
}

/// Reads the last rule that names the canary: before it come only rules for cookies.
fn live_weights(names: &Names, route: &Object) -> Option<Weights> {
    let body = route.body.read();
    let rules = |protocol: &str| {
        body.at(protocol)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    let all: Vec<&Value> = rules("/spec/http")
        .iter()
        .chain(rules("/spec/tcp"))
        .collect();
    let (index, rule, canary) = all
        .iter()
        .enumerate()
        .filter_map(|(index, rule)| Some((index, *rule, weight(rule, &names.canary)?)))
        .next_back()?;
    Some(Weights {
        primary: weight(rule, &names.primary).unwrap_or_default(),
        canary,
        mirrored: rule.at("/mirror/host").and_then(Value::as_str) == Some(&names.canary),
        partial: index + 1 < all.len(),
    })
}

/// Weight of a host in a rule; `None` when the rule does not name it.
fn weight(rule: &Value, host: &str) -> Option<i32> {
    let to = rule
        .get("route")?
        .as_array()?
        .iter()
        .find(|to| to.at("/destination/host").and_then(Value::as_str) == Some(host))?;
    let weight = to.get("weight").and_then(Value::as_i64).unwrap_or_default();
    Some(i32::try_from(weight).unwrap_or_default())
}

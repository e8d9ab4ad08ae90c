//! Gateway API: the HTTPRoute S splits requests between the Services S-primary and S-canary.

mod http_route;

pub mod eval;

use serde_json::Value;

use super::{
    Names, Observed, RouteError, Traffic, Weights, adoption, reweigh::Spelling, service,
    wanted_route,
};
use crate::{
    api::Canary,
    object::{At, Key, Kind, Object, Want},
};

/// How an HTTPRoute spells rules and backends.
pub(super) const SPELLING: Spelling = Spelling {
    rules: &["rules"],
    backends: "backendRefs",
    name: "/name",
    changes: "filters",
    unmirror: |rule, name| {
        let Some(filters) = rule.get_mut("filters").and_then(Value::as_array_mut) else {
            return;
        };
        filters.retain(|filter| {
            filter
                .at("/requestMirror/backendRef/name")
                .and_then(Value::as_str)
                != Some(name)
        });
        if filters.is_empty() {
            rule.remove("filters");
        }
    },
};

pub(super) fn key(canary: &Canary) -> Key {
    let names = Names::of(canary);
    Key::new(Kind::HttpRoute, &names.namespace, &names.apex)
}

pub(super) fn check(canary: &Canary) -> Result<(), RouteError> {
    http_route::spec(canary, service(canary)?, &Traffic::default()).map(drop)
}

pub(super) fn want(
    canary: &Canary,
    traffic: &Traffic,
    observed: &Observed,
) -> Result<Want, RouteError> {
    let service = service(canary)?;
    let spec = http_route::spec(canary, service, traffic)?;
    let mut route = wanted_route(key(canary), spec, service);
    route.owner = super::owner(canary);
    if let Some(existing) = observed.get(&route.key)
        && live_weights(canary, existing).is_none()
    {
        adoption::keep_original(&mut route, existing, canary);
    }
    Ok(route)
}

pub(super) fn restore(canary: &Canary, observed: &Observed) -> Option<Want> {
    adoption::restore(observed.get(&key(canary))?, canary)
}

pub(super) fn weights(canary: &Canary, observed: &Observed) -> Option<Weights> {
    live_weights(canary, observed.get(&key(canary))?)
}

/// Reads the last rule that names the canary: before it come only rules for cookies.
fn live_weights(canary: &Canary, route: &Object) -> Option<Weights> {
    let names = Names::of(canary);
    let body = route.body.read();
    let (index, rule, weight) = list(&body, "/spec/rules")
        .enumerate()
        .filter_map(|(index, rule)| Some((index, rule, weight(rule, &names.canary)?)))
        .last()?;
    Some(Weights {
        primary: self::weight(rule, &names.primary).unwrap_or_default(),
        canary: weight,
        mirrored: list(rule, "/filters").any(|filter| {
            filter
                .at("/requestMirror/backendRef/name")
                .and_then(Value::as_str)
                == Some(&names.canary)
        }),
        partial: index + 1 < list(&body, "/spec/rules").count(),
    })
}

/// Weight of a Service in a rule; `None` when the rule does not name it.
fn weight(rule: &Value, name: &str) -> Option<i32> {
    let backend = list(rule, "/backendRefs")
        .find(|backend| backend.get("name").and_then(Value::as_str) == Some(name))?;
    let weight = backend.get("weight").and_then(Value::as_i64).unwrap_or(1);
    Some(i32::try_from(weight).unwrap_or_default())
}

/// The elements of a list; none when it is not there.
fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value
        .at(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

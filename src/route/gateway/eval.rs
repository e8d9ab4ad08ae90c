//! Where an HTTPRoute sends a request, by the precedence of the Gateway API: the most specific
//! match counts, and of equal ones the first.

use std::cmp::Reverse;

use serde_json::Value;

use super::list;
use crate::{
    object::At,
    route::request::{Forwarding, Request, Share, matches_regex},
};

/// What the rule with the most specific match does with a request; `None` when no rule takes it.
pub fn forward(http_route: &Value, request: &Request) -> Option<Forwarding> {
    list(http_route, "/spec/rules")
        .enumerate()
        .flat_map(|(index, rule)| {
            list(rule, "/matches")
                .filter(|condition| is_met(condition, request))
                .map(move |condition| ((rank(condition), Reverse(index)), rule))
        })
        .max_by_key(|(rank, _)| *rank)
        .map(|(_, rule)| follow(rule))
}

/// How specific a match is: exact path, length of the path, method, headers, parameters.
fn rank(condition: &Value) -> (bool, usize, bool, usize, usize) {
    let path = |field: &str| text(condition.at(&format!("/path/{field}")));
    let count = |field: &str| list(condition, field).count();
    (
        path("type") == "Exact",
        path("value").len(),
        condition.get("method").is_some(),
        count("/headers"),
        count("/queryParams"),
    )
}

fn is_met(condition: &Value, request: &Request) -> bool {
    let path = |field: &str| text(condition.at(&format!("/path/{field}")));
    let value = path("value");
    let on_path = match path("type") {
        "Exact" => request.path == value,
        "RegularExpression" => matches_regex(value, &request.path),
        // Whole segments only.
        _ => {
            let prefix = value.trim_end_matches('/');
            request
                .path
                .strip_prefix(prefix)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
    };
    let header = |name: &str| request.headers.get(&name.to_ascii_lowercase()).cloned();
    let parameter = |name: &str| request.query.get(name).cloned();
    on_path
        && condition
            .get("method")
            .is_none_or(|method| method.as_str() == Some(&request.method))
        && list(condition, "/headers").all(|wanted| is_named(wanted, header))
        && list(condition, "/queryParams").all(|wanted| is_named(wanted, parameter))
}

fn is_named(wanted: &Value, find: impl Fn(&str) -> Option<String>) -> bool {
    let value = text(wanted.get("value"));
    find(text(wanted.get("name"))).is_some_and(|found| match text(wanted.get("type")) {
        "RegularExpression" => matches_regex(value, &found),
        _ => found == value,
    })
}

fn follow(rule: &Value) -> Forwarding {
    let weight = |backend: &Value| backend.get("weight").and_then(Value::as_f64).unwrap_or(1.0);
    let total: f64 = list(rule, "/backendRefs").map(weight).sum();
    let shares = list(rule, "/backendRefs")
        .filter(|backend| weight(backend) > 0.0)
        .map(|backend| Share {
            host: text(backend.get("name")).to_owned(),
            percent: 100.0 * weight(backend) / total,
            set_cookies: [rule, backend].into_iter().flat_map(set_cookies).collect(),
        })
        .collect();
    let mirrors = list(rule, "/filters")
        .filter_map(|filter| filter.at("/requestMirror/backendRef/name"))
        .map(|name| Share {
            host: text(Some(name)).to_owned(),
            percent: 100.0,
            set_cookies: Vec::new(),
        })
        .collect();
    Forwarding { shares, mirrors }
}

fn set_cookies(part: &Value) -> Vec<String> {
    list(part, "/filters")
        .flat_map(|filter| list(filter, "/responseHeaderModifier/add"))
        .filter(|header| text(header.get("name")).eq_ignore_ascii_case("set-cookie"))
        .map(|header| text(header.get("value")).to_owned())
        .collect()
}

fn text(value: Option<&Value>) -> &str {
    value.and_then(Value::as_str).unwrap_or_default()
}

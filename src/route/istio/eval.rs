//! Where a VirtualService sends a request, as the proxy would decide: the simulator's traffic
//! goes by it, and tests prove with it what a route does.

use serde_json::Value;

pub use crate::route::request::{Forwarding, Request, Share};
use crate::{object::At, route::request::matches_text};

/// Hosts and their percentages of requests like this one; empty when no rule takes it.
pub fn shares(virtual_service: &Value, request: &Request) -> Vec<(String, f64)> {
    forward(virtual_service, request)
        .into_iter()
        .flat_map(|forwarding| forwarding.shares)
        .map(|share| (share.host, share.percent))
        .collect()
}

/// What the first rule that takes the request does with it; `None` when no rule takes it.
pub fn forward(virtual_service: &Value, request: &Request) -> Option<Forwarding> {
    let rules = |protocol: &str| {
        virtual_service
            .at(protocol)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    rules("/spec/http")
        .find(|rule| takes(rule, |condition| matches_request(condition, request)))
        .or_else(|| {
            rules("/spec/tcp")
                .find(|rule| takes(rule, |condition| matches_port(condition, request.port)))
        })
        .map(follow)
}

/// Whether one of a rule's conditions is met; a rule without conditions takes everything.
fn takes(rule: &Value, met: impl Fn(&Value) -> bool) -> bool {
    match rule.get("match").and_then(Value::as_array) {
        Some(conditions) if !conditions.is_empty() => conditions.iter().any(met),
        Some(_) | None => true,
    }
}

fn follow(rule: &Value) -> Forwarding {
    let routes: Vec<&Value> = rule
        .get("route")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .collect();
    let weight = |to: &Value| to.get("weight").and_then(Value::as_f64).unwrap_or_default();
    let total: f64 = routes.iter().map(|to| weight(to)).sum();
    let shares = routes
        .iter()
        .map(|to| Share {
            host: host(to.get("destination")),
            // The weight of a single destination does not count.
            percent: match routes.len() {
                1 => 100.0,
                _ if total > 0.0 => 100.0 * weight(to) / total,
                _ => 0.0,
            },
            set_cookies: [rule, to].into_iter().flat_map(set_cookies).collect(),
        })
        .filter(|share| share.percent > 0.0)
        .collect();
    let mirrors = rule.get("mirror").into_iter().map(|mirror| Share {
        host: host(Some(mirror)),
        percent: rule
            .at("/mirrorPercentage/value")
            .and_then(Value::as_f64)
            .unwrap_or(100.0),
        set_cookies: Vec::new(),
    });
    Forwarding {
        shares,
        mirrors: mirrors.collect(),
    }
}

fn host(destination: Option<&Value>) -> String {
    destination
        .and_then(|to| to.get("host"))
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}

fn set_cookies(part: &Value) -> Vec<String> {
    ["add", "set"]
        .into_iter()
        .filter_map(|operation| part.at(&format!("/headers/response/{operation}")))
        .filter_map(Value::as_object)
        .flatten()
        .filter(|(name, _)| name.eq_ignore_ascii_case("set-cookie"))
        .filter_map(|(_, value)| value.as_str().map(str::to_owned))
        .collect()
}

fn matches_port(condition: &Value, port: Option<i64>) -> bool {
    condition
        .get("port")
        .is_none_or(|wanted| wanted.as_i64() == port)
}

/// Whether all parts of a condition are met.
fn matches_request(condition: &Value, request: &Request) -> bool {
    let fold = condition.get("ignoreUriCase").and_then(Value::as_bool) == Some(true);
    let text = |field: &str, found: &str, fold: bool| {
        condition
            .get(field)
            .is_none_or(|wanted| matches_text(wanted, Some(found), fold))
    };
    let all = |field: &str, met: &dyn Fn(&str, &Value) -> bool| {
        condition
            .get(field)
            .and_then(Value::as_object)
            .into_iter()
            .flatten()
            .all(|(key, wanted)| met(key, wanted))
    };
    let header = |name: &str| {
        request
            .headers
            .get(&name.to_ascii_lowercase())
            .map(String::as_str)
    };
    let through = request.gateway.as_deref().unwrap_or("mesh");
    text("uri", &request.path, fold)
        && text("method", &request.method, false)
        && text("scheme", &request.scheme, false)
        && text("authority", &request.authority, false)
        && all("headers", &|name, wanted| {
            matches_text(wanted, header(name), false)
        })
        && all("withoutHeaders", &|name, wanted| {
            !matches_text(wanted, header(name), false)
        })
        && all("queryParams", &|name, wanted| {
            matches_text(wanted, request.query.get(name).map(String::as_str), false)
        })
        && all("sourceLabels", &|name, wanted| {
            request.source_labels.get(name).map(String::as_str) == wanted.as_str()
        })
        && matches_port(condition, request.port)
        && condition
            .get("gateways")
            .and_then(Value::as_array)
            .is_none_or(|list| list.is_empty() || list.iter().any(|g| g.as_str() == Some(through)))
        && condition
            .get("sourceNamespace")
            .is_none_or(|wanted| wanted.as_str() == Some(&request.source_namespace))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use serde_json::json;

    fn meets(condition: &Value, request: &Request) -> bool {
        matches_request(condition, request)
    }

    #[test]
    fn condition_is_met_when_all_its_parts_are() {
        let request = Request {
            port: Some(80),
            query: BTreeMap::from([("q".into(), "1".into())]),
            source_labels: BTreeMap::from([("app".into(), "a".into())]),
            ..Request::get("/api/v1").with_header("X-User", "insider-7")
        };
        for (condition, met) in [
            (json!({}), true),
            (json!({"uri": {"prefix": "/api"}}), true),
            (json!({"uri": {"prefix": "/API"}}), false),
            (
                json!({"uri": {"prefix": "/API"}, "ignoreUriCase": true}),
                true,
            ),
            (json!({"uri": {"exact": "/api"}}), false),
            (json!({"uri": {"regex": "/api"}}), false),
            (json!({"uri": {"regex": "/api/v[0-9]+"}}), true),
            (json!({"uri": {"regex": "("}}), false),
            (json!({"method": {"exact": "POST"}}), false),
            (json!({"headers": {"x-user": {"regex": "insider.*"}}}), true),
            (json!({"headers": {"x-user": {}}}), true),
            (json!({"headers": {"x-other": {}}}), false),
            (json!({"withoutHeaders": {"x-user": {}}}), false),
            (json!({"withoutHeaders": {"x-other": {}}}), true),
            (json!({"queryParams": {"q": {"exact": "1"}}}), true),
            (json!({"queryParams": {"q": {"exact": "2"}}}), false),
            (json!({"sourceLabels": {"app": "a"}}), true),
            (json!({"sourceLabels": {"app": "b"}}), false),
            (json!({"port": 80}), true),
            (json!({"port": 81}), false),
            (json!({"gateways": ["mesh"]}), true),
            (json!({"gateways": ["public"]}), false),
            (json!({"sourceNamespace": "x"}), false),
        ] {
            assert_eq!(meets(&condition, &request), met, "{condition}");
        }
    }

    #[test]
    fn forward_follows_the_first_rule_that_takes_the_request() {
        let route = json!({"spec": {"http": [
            {"match": [{"headers": {"cookie": {"regex": ".*a.*1.*"}}}],
             "route": [{"destination": {"host": "b"}, "weight": 0}]},
            {"match": [{"uri": {"prefix": "/"}}],
             "mirror": {"host": "c"}, "mirrorPercentage": {"value": 5},
             "headers": {"response": {"add": {"Set-Cookie": "all"}}},
             "route": [
                {"destination": {"host": "a"}, "weight": 3,
                 "headers": {"response": {"set": {"set-cookie": "some"}}}},
                {"destination": {"host": "b"}, "weight": 1},
                {"destination": {"host": "c"}, "weight": 0},
            ]},
        ]}});
        assert_eq!(
            shares(
                &route,
                &Request::get("/").with_cookie("x=2").with_cookie("a=1")
            ),
            [("b".to_owned(), 100.0)]
        );
        let share = |host: &str, percent, cookies: &[&str]| Share {
            host: host.to_owned(),
            percent,
            set_cookies: cookies.iter().map(|c| (*c).to_owned()).collect(),
        };
        assert_eq!(
            forward(&route, &Request::get("/")),
            Some(Forwarding {
                shares: vec![
                    share("a", 75.0, &["all", "some"]),
                    share("b", 25.0, &["all"])
                ],
                mirrors: vec![share("c", 5.0, &[])],
            })
        );
        assert_eq!(forward(&route, &Request::get("")), None);
    }
}

//! The spec of the VirtualService.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::conditions::conditions;
use crate::{
    api::{
        Analysis,
        service::{Rewrite, Service},
    },
    object::map_of,
    route::{
        Names, RouteError, Traffic,
        rules::{Rule, rules},
    },
};

/// What a VirtualService is made from.
pub(super) struct Route<'a> {
    pub names: &'a Names,
    pub service: &'a Service,
    pub analysis: &'a Analysis,
    pub traffic: &'a Traffic,
}

/// The fields of the spec that are ours. `null` asks for a field's absence; `tls`, `exportTo` and
/// what else somebody may have set stay.
pub(super) fn spec(route: &Route) -> Result<Value, RouteError> {
    let (hosts, gateways) = attachment(route.names, route.service)?;
    let (http, tcp) = if route.service.is_tcp() {
        (Value::Null, json!([route.tcp_rule()]))
    } else {
        let rules = rules(route.service, route.analysis, route.traffic);
        let http = rules.iter().map(|rule| route.http_rule(rule)).collect();
        (http, Value::Null)
    };
    Ok(map_of([
        ("hosts", hosts),
        ("gateways", gateways),
        ("http", http),
        ("tcp", tcp),
    ]))
}

/// Hosts and gateways; a delegate has neither.
pub(super) fn attachment(names: &Names, service: &Service) -> Result<(Value, Value), RouteError> {
    let mut hosts = service.hosts.clone().unwrap_or_default();
    let mut gateways = service.gateways.clone().unwrap_or_default();
    if delegates(service) {
        return if hosts.is_empty() && gateways.is_empty() {
            Ok((Value::Null, Value::Null))
        } else {
            Err(RouteError::Delegation {
                route: format!("{}.{}", names.apex, names.namespace),
            })
        };
    }
    if !hosts.iter().any(|host| *host == names.apex || host == "*") {
        hosts.push(names.apex.clone());
    }
    if gateways.is_empty() {
        gateways.push("mesh".to_owned());
    }
    Ok((json!(hosts), json!(gateways)))
}

fn delegates(service: &Service) -> bool {
    service.delegation.unwrap_or_default()
}

impl Route<'_> {
    /// One rule, with all that the service says of requests.
    fn http_rule(&self, wanted: &Rule) -> Value {
        let service = self.service;
        let mut rule = Map::new();
        if !wanted.matches.is_empty() {
            rule.insert("match".to_owned(), conditions(&wanted.matches));
        }
        let parts = [
            ("rewrite", service.rewrite.as_ref().and_then(rewrite)),
            (
                "timeout",
                service
                    .timeout
                    .as_ref()
                    .filter(|t| !t.is_empty())
                    .map(|t| json!(t)),
            ),
            ("retries", part(service.retries.as_ref())),
            ("corsPolicy", part(service.cors_policy.as_ref())),
            ("headers", part(service.headers.as_ref())),
        ];
        for (field, value) in parts {
            if let Some(value) = value {
                rule.insert(field.to_owned(), value);
            }
        }
        rule.insert("route".to_owned(), Value::Array(self.destinations(wanted)));
        let mut rule = Value::Object(rule);
        if let Some(set_cookie) = &wanted.set_cookie {
            rule["headers"]["response"]["add"]["Set-Cookie"] = json!(set_cookie);
        }
        if wanted.mirror {
            rule["mirror"] = self.host(&self.names.canary);
            if let Some(percent) = self.analysis.mirror_weight.filter(|percent| *percent > 0) {
                rule["mirrorPercentage"] = json!({ "value": percent });
            }
        }
        rule
    }

    fn destinations(&self, rule: &Rule) -> Vec<Value> {
        let Some(weight) = rule.canary else {
            return vec![self.destination(&self.names.primary, 100)];
        };
        let mut destinations = self.split(weight);
        let set_cookies = [&rule.primary_set_cookie, &rule.canary_set_cookie];
        for (destination, set_cookie) in destinations.iter_mut().zip(set_cookies) {
            if let Some(set_cookie) = set_cookie {
                destination["headers"] =
                    json!({ "response": { "add": { "Set-Cookie": set_cookie } } });
            }
        }
        destinations.into()
    }

    /// Both destinations; a weight of 0 is written, so that the route shows where the canary is.
    fn split(&self, canary: i32) -> [Value; 2] {
        [
            self.destination(&self.names.primary, 100 - canary),
            self.destination(&self.names.canary, canary),
        ]
    }

    fn destination(&self, host: &str, weight: i32) -> Value {
        map_of([("destination", self.host(host)), ("weight", json!(weight))])
    }

    /// A destination's host; with the port where a gateway could not know which one is meant.
    fn host(&self, host: &str) -> Value {
        let gateways = self.service.gateways.as_deref().unwrap_or_default();
        let outside = gateways.first().is_some_and(|first| first != "mesh");
        if self.service.port_discovery.unwrap_or_default() && (outside || delegates(self.service)) {
            json!({ "host": host, "port": { "number": self.service.port } })
        } else {
            json!({ "host": host })
        }
    }

    fn tcp_rule(&self) -> Value {
        let ports: Vec<Value> = self
            .service
            .matches
            .iter()
            .flatten()
            .filter_map(|condition| condition.port.filter(|port| *port > 0))
            .map(|port| json!({ "port": port }))
            .collect();
        let mut rule = json!({ "route": self.split(self.traffic.canary()) });
        if !ports.is_empty() {
            rule["match"] = Value::Array(ports);
        }
        rule
    }
}

/// A part of the service as it is; a part without any field says nothing and is left out.
fn part<T: Serialize>(part: Option<&T>) -> Option<Value> {
    part.map(|part| json!(part))
        .filter(|value| value.as_object().is_some_and(|fields| !fields.is_empty()))
}

fn rewrite(rewrite: &Rewrite) -> Option<Value> {
    let fields: Map<String, Value> = [("uri", &rewrite.uri), ("authority", &rewrite.authority)]
        .into_iter()
        .filter_map(|(field, value)| {
            let value = value.as_ref().filter(|value| !value.is_empty())?;
            Some((field.to_owned(), json!(value)))
        })
        .collect();
    (!fields.is_empty()).then_some(Value::Object(fields))
}

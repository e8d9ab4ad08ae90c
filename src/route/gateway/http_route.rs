//! The spec of the HTTPRoute.
//!
//! Lists are compared as a whole, so everything in them that the server would fill in is written:
//! kinds, groups, match types.

use serde_json::{Map, Value, json};

use crate::{
    api::{
        Canary, duration,
        istio::{CorsPolicy, HttpMatch, StringMatch},
        service::{HeaderOperations, Service},
    },
    route::{
        Names, RouteError, Traffic,
        rules::{Rule, rules},
    },
};
use kube::ResourceExt;

/// The fields of the spec that are ours. `null` asks for a field's absence.
pub(super) fn spec(
    canary: &Canary,
    service: &Service,
    traffic: &Traffic,
) -> Result<Value, RouteError> {
    let id = || {
        format!(
            "{}.{}",
            canary.name_any(),
            canary.namespace().unwrap_or_default()
        )
    };
    let parents: Vec<Value> = service
        .gateway_refs
        .iter()
        .flatten()
        .map(|parent| {
            let mut written = json!(parent);
            written["group"] = json!(
                parent
                    .group
                    .as_deref()
                    .unwrap_or("gateway.networking.k8s.io")
            );
            written["kind"] = json!(parent.kind.as_deref().unwrap_or("Gateway"));
            written
        })
        .collect();
    if parents.is_empty() {
        return Err(RouteError::NoGateway { canary: id() });
    }
    let unsupported = |what: String| RouteError::Condition { canary: id(), what };
    for tested in canary.spec.analysis.matches.iter().flatten() {
        expressible(tested).map_err(unsupported)?;
    }
    let names = Names::of(canary);
    let rules = rules(service, &canary.spec.analysis, traffic)
        .iter()
        .map(|rule| http_rule(&names, service, rule).map_err(unsupported))
        .collect::<Result<Vec<Value>, RouteError>>()?;
    let hosts = service.hosts.as_ref().filter(|hosts| !hosts.is_empty());
    Ok(json!({ "parentRefs": parents, "hostnames": hosts, "rules": rules }))
}

fn http_rule(names: &Names, service: &Service, wanted: &Rule) -> Result<Value, String> {
    let everything = [HttpMatch::default()];
    let matches = if wanted.matches.is_empty() {
        everything.as_slice()
    } else {
        &wanted.matches
    };
    let matches: Vec<Value> = matches.iter().map(condition).collect::<Result<_, _>>()?;
    let mut rule = json!({
        "matches": matches,
        "backendRefs": backends(names, service, wanted),
    });
    let filters = filters(names, service, wanted);
    if !filters.is_empty() {
        rule["filters"] = Value::Array(filters);
    }
    let timeouts: Map<String, Value> = [
        ("request", &service.timeout),
        ("backendRequest", &service.backend_timeout),
    ]
    .into_iter()
    .filter_map(|(field, time)| {
        let time = time.as_ref().filter(|time| !time.is_empty())?;
        Some((field.to_owned(), json!(time)))
    })
    .collect();
    if !timeouts.is_empty() {
        rule["timeouts"] = Value::Object(timeouts);
    }
    Ok(rule)
}

fn backends(names: &Names, service: &Service, rule: &Rule) -> Vec<Value> {
    let backend = |name: &str, weight: i32, set_cookie: Option<&String>| {
        let mut backend = json!({
            "group": "", "kind": "Service", "name": name, "port": service.port, "weight": weight,
        });
        if let Some(set_cookie) = set_cookie {
            backend["filters"] = json!([{
                "type": "ResponseHeaderModifier",
                "responseHeaderModifier": {"add": [{"name": "Set-Cookie", "value": set_cookie}]},
            }]);
        }
        backend
    };
    match rule.canary {
        None => vec![backend(&names.primary, 100, None)],
        Some(canary) => vec![
            backend(
                &names.primary,
                100 - canary,
                rule.primary_set_cookie.as_ref(),
            ),
            backend(&names.canary, canary, rule.canary_set_cookie.as_ref()),
        ],
    }
}

fn filters(names: &Names, service: &Service, rule: &Rule) -> Vec<Value> {
    let headers = service.headers.clone().unwrap_or_default();
    let mut response = headers.response.unwrap_or_default();
    if let Some(set_cookie) = &rule.set_cookie {
        // A filter may not be repeated: the cookie joins the headers of the service.
        response
            .add
            .get_or_insert_default()
            .insert("Set-Cookie".to_owned(), set_cookie.clone());
    }
    let mut filters = Vec::new();
    if let Some(modifier) = headers.request.as_ref().and_then(modifier) {
        filters.push(json!({"type": "RequestHeaderModifier", "requestHeaderModifier": modifier}));
    }
    if let Some(modifier) = modifier(&response) {
        filters.push(json!({"type": "ResponseHeaderModifier", "responseHeaderModifier": modifier}));
    }
    if let Some(rewrite) = rewrite(service) {
        filters.push(json!({"type": "URLRewrite", "urlRewrite": rewrite}));
    }
    for mirror in service.mirror.iter().flatten() {
        let mut backend = json!(mirror.backend_ref);
        backend["group"] = json!(mirror.backend_ref.group.as_deref().unwrap_or_default());
        backend["kind"] = json!(mirror.backend_ref.kind.as_deref().unwrap_or("Service"));
        filters.push(json!({"type": "RequestMirror", "requestMirror": {"backendRef": backend}}));
    }
    if rule.mirror {
        let backend = json!({
            "group": "", "kind": "Service", "name": names.canary, "port": service.port,
        });
        filters.push(json!({"type": "RequestMirror", "requestMirror": {"backendRef": backend}}));
    }
    if let Some(policy) = &service.cors_policy {
        filters.push(json!({"type": "CORS", "cors": cors(policy)}));
    }
    filters
}

/// Header operations with their entries sorted by name; `None` when there is nothing to do.
fn modifier(operations: &HeaderOperations) -> Option<Value> {
    let mut modifier = Map::new();
    for (field, entries) in [("set", &operations.set), ("add", &operations.add)] {
        let entries: Vec<Value> = entries
            .iter()
            .flatten()
            .map(|(name, value)| json!({"name": name, "value": value}))
            .collect();
        if !entries.is_empty() {
            modifier.insert(field.to_owned(), Value::Array(entries));
        }
    }
    if let Some(remove) = operations.remove.as_ref().filter(|list| !list.is_empty()) {
        modifier.insert("remove".to_owned(), json!(remove));
    }
    (!modifier.is_empty()).then_some(Value::Object(modifier))
}

fn rewrite(service: &Service) -> Option<Value> {
    let wanted = service.rewrite.as_ref()?;
    let mut rewrite = Map::new();
    if let Some(authority) = wanted.authority.as_ref().filter(|text| !text.is_empty()) {
        rewrite.insert("hostname".to_owned(), json!(authority));
    }
    if let Some(uri) = wanted.uri.as_ref().filter(|text| !text.is_empty()) {
        let path = if wanted.kind.as_deref() == Some("ReplacePrefixMatch") {
            json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": uri})
        } else {
            json!({"type": "ReplaceFullPath", "replaceFullPath": uri})
        };
        rewrite.insert("path".to_owned(), path);
    }
    (!rewrite.is_empty()).then_some(Value::Object(rewrite))
}

fn cors(policy: &CorsPolicy) -> Value {
    let mut origins = policy.allow_origin.clone().unwrap_or_default();
    let exact = policy.allow_origins.iter().flatten();
    origins.extend(exact.filter_map(|origin| origin.exact.clone()));
    // The server fills in 5 seconds.
    let age = policy
        .max_age
        .as_deref()
        .and_then(|age| duration::parse(age).ok())
        .map_or(5, |age| age.as_secs());
    let mut cors = json!({"maxAge": age});
    for (field, list) in [
        ("allowOrigins", Some(&origins)),
        ("allowMethods", policy.allow_methods.as_ref()),
        ("allowHeaders", policy.allow_headers.as_ref()),
        ("exposeHeaders", policy.expose_headers.as_ref()),
    ] {
        if let Some(list) = list.filter(|list| !list.is_empty()) {
            cors[field] = json!(list);
        }
    }
    if policy.allow_credentials == Some(true) {
        cors["allowCredentials"] = json!(true);
    }
    cors
}

/// Refuses the parts of an analysis' condition that would be lost: without them users would meet
/// the canary who should not. Those of a service only narrow what is served, and are passed over.
fn expressible(tested: &HttpMatch) -> Result<(), String> {
    let lost = [
        ("scheme", tested.scheme.is_some()),
        ("authority", tested.authority.is_some()),
        ("withoutHeaders", tested.without_headers.is_some()),
        ("port", tested.port.is_some()),
        ("sourceLabels", tested.source_labels.is_some()),
        ("gateways", tested.gateways.is_some()),
        ("sourceNamespace", tested.source_namespace.is_some()),
    ];
    match lost.into_iter().find(|(_, given)| *given) {
        Some((field, _)) => Err(format!("spec.analysis.match has {field}")),
        None => Ok(()),
    }
}

/// One condition; it always has a path, as the server would fill one in.
pub(super) fn condition(wanted: &HttpMatch) -> Result<Value, String> {
    let (how, path) = match &wanted.uri {
        None => ("PathPrefix", "/"),
        Some(uri) => match (&uri.exact, &uri.prefix, &uri.regex) {
            (Some(path), _, _) => ("Exact", path.as_str()),
            (_, Some(path), _) => ("PathPrefix", path.as_str()),
            (_, _, Some(path)) => ("RegularExpression", path.as_str()),
            (None, None, None) => return Err("match.uri is not exact, prefix or regex".to_owned()),
        },
    };
    let mut condition = json!({"path": {"type": how, "value": path}});
    if let Some(method) = &wanted.method {
        let Some(method) = &method.exact else {
            return Err("match.method is not exact".to_owned());
        };
        condition["method"] = json!(method);
    }
    for (field, texts) in [
        ("headers", &wanted.headers),
        ("queryParams", &wanted.query_params),
    ] {
        let texts: Vec<Value> = texts
            .iter()
            .flatten()
            .map(|(name, text)| named(field, name, text))
            .collect::<Result<_, _>>()?;
        if !texts.is_empty() {
            condition[field] = Value::Array(texts);
        }
    }
    Ok(condition)
}

fn named(field: &str, name: &str, text: &StringMatch) -> Result<Value, String> {
    let (how, value) = match (&text.exact, &text.regex) {
        (Some(exact), _) => ("Exact", exact.as_str()),
        (None, Some(regex)) => ("RegularExpression", regex.as_str()),
        (None, None) => return Err(format!("match.{field}.{name} is not exact or regex")),
    };
    Ok(json!({"name": name, "type": how, "value": value}))
}

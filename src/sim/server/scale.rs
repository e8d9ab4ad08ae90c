//! `/scale`: the counts of an object that can be scaled, and what they may be.

use serde_json::{Value, json};

use super::error::{Cause, Refusal};
use super::meta;
use super::request::Target;

/// The counts of a custom resource that can be scaled must be counts.
pub fn scale_faults(target: &Target, new: &Value) -> Vec<Cause> {
    let Some(paths) = target
        .served()
        .ok()
        .and_then(|version| version.scale.as_ref())
    else {
        return Vec::new();
    };
    let mut causes = Vec::new();
    for path in [&paths.spec, &paths.status] {
        let found = path.split('.').fold(new, |found, part| {
            if found.is_object() {
                &found[part]
            } else {
                found
            }
        });
        if !found.is_null() && found.as_i64().is_none_or(|count| count < 0) {
            let text = format!("Invalid value: {found}: should be a non-negative integer");
            causes.push(Cause::invalid(format!(".{path}"), text));
        }
    }
    causes
}

/// The `Scale` of an object.
pub fn scale_of(target: &Target, object: &Value) -> Result<Value, Refusal> {
    let paths = target
        .served()?
        .scale
        .as_ref()
        .ok_or_else(Refusal::no_such_path)?;
    let count = |path: &str| path.split('.').fold(object, |found, part| &found[part]);
    let meta = &object["metadata"];
    let mut scale = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale",
        "metadata": {
            "name": meta["name"], "namespace": meta["namespace"], "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"], "creationTimestamp": meta["creationTimestamp"],
        },
        "spec": {},
        "status": {"replicas": count(&paths.status).as_i64().unwrap_or_default()},
    });
    let wanted = count(&paths.spec).as_i64().unwrap_or_default();
    if wanted != 0 {
        scale["spec"]["replicas"] = Value::from(wanted);
    }
    let selector = match &paths.selector {
        Some(path) => count(path).as_str().unwrap_or_default().to_owned(),
        None => selector_text(&object["spec"]["selector"]),
    };
    if !selector.is_empty() {
        scale["status"]["selector"] = Value::from(selector);
    }
    Ok(scale)
}

/// Refuses to read the `Scale` of a custom resource that says no count.
pub fn check_scale(target: &Target, object: &Value) -> Result<(), Refusal> {
    let paths = target
        .served()?
        .scale
        .as_ref()
        .ok_or_else(Refusal::no_such_path)?;
    let found = paths
        .spec
        .split('.')
        .fold(object, |found, part| &found[part]);
    if !target.resource.custom || !found.is_null() {
        return Ok(());
    }
    let text = format!("the spec replicas field \".{}\" does not exist", paths.spec);
    let cause = Cause::new("", "", text.clone());
    Err(Refusal::new(500, "InternalError", text).because(cause))
}

/// A label selector as text.
fn selector_text(selector: &Value) -> String {
    let mut parts: Vec<String> = Vec::new();
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        parts.push(format!("{key}={}", value.as_str().unwrap_or_default()));
    }
    for term in meta::list(&selector["matchExpressions"]) {
        let key = term["key"].as_str().unwrap_or_default();
        let values: Vec<&str> = meta::list(&term["values"])
            .iter()
            .filter_map(Value::as_str)
            .collect();
        let values = values.join(",");
        parts.push(match term["operator"].as_str().unwrap_or_default() {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "Exists" => key.to_owned(),
            _ => format!("!{key}"),
        });
    }
    parts.sort();
    parts.join(",")
}

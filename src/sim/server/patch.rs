//! PATCH: JSON patch, merge patch and strategic merge patch.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::defect::Defect;
use super::error::{Cause, Refusal};
use super::request::{PatchKind, Target};
use super::shape::shape;
use super::state::{State, WriteOptions};
use super::store::Object;
use super::write::{Written, check_place};
use super::{managed, typed};
use crate::schema::path::Path;
use crate::schema::{self, Schema, Type};

impl State {
    /// Changes an object by a patch; server-side apply also makes it.
    ///
    /// # Errors
    /// What the API server refuses: 400, 404, 409, 415, 422.
    pub fn patch(
        &mut self,
        target: &Target,
        kind: PatchKind,
        patch: Value,
        options: &WriteOptions,
    ) -> Result<Written, Refusal> {
        let resource = &target.resource;
        if kind == PatchKind::Strategic && resource.custom {
            return Err(Refusal::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            ));
        }
        let found = self
            .store
            .get(resource.index, &target.namespace, &target.name)
            .cloned();
        if kind == PatchKind::Apply {
            return self.apply(target, found.as_ref(), patch, options);
        }
        let Some(old) = found else {
            return Err(target.not_found());
        };
        let mut new = in_version(target, old.value());
        if kind == PatchKind::Strategic {
            let schema = target.served()?.schema.clone();
            merge_strategic(&schema, &mut new, patch)?;
        } else {
            change(&mut new, kind, patch)?;
        }
        // a patch that clears the version asks for no check of it
        let meta = super::state::metadata(&mut new);
        if meta
            .get("resourceVersion")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .is_empty()
        {
            super::write::keep(
                meta,
                "resourceVersion",
                &old.value()["metadata"]["resourceVersion"],
            );
        }
        check_place(target, &mut new)?;
        let said = new["metadata"]["name"].as_str().unwrap_or_default();
        if said != target.name {
            return Err(Refusal::bad_request(format!(
                "the name of the object ({said}) does not match the name on the URL ({})",
                target.name
            )));
        }
        let shaped = !self.has(Defect::NoShaping);
        if shaped {
            decodes(target, &old, &mut new, options)?;
        }
        let options = WriteOptions {
            patched: true,
            shaped,
            ..options.clone()
        };
        self.finish(target, &old, new, &options)
            .map(Written::Updated)
    }

    /// Server-side apply: makes the object, or changes what the manager applies.
    fn apply(
        &mut self,
        target: &Target,
        found: Option<&Arc<Object>>,
        mut config: Value,
        options: &WriteOptions,
    ) -> Result<Written, Refusal> {
        if !options.named {
            let cause = Cause::required(
                "fieldManager",
                "Required value: is required for apply patch",
            );
            return Err(Refusal::invalid(
                "meta.k8s.io",
                "PatchOptions",
                "",
                vec![cause],
            ));
        }
        if config["kind"].as_str().is_none() || config["apiVersion"].as_str().is_none() {
            return Err(Refusal::bad_request(
                "an applied configuration must say its kind and apiVersion",
            ));
        }
        if !config["metadata"]["managedFields"].is_null() {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        check_place(target, &mut config)?;
        let said = config["metadata"]["name"].as_str().unwrap_or_default();
        if said != target.name {
            return Err(Refusal::bad_request(format!(
                "the name of the object ({said}) does not match the name on the URL ({})",
                target.name
            )));
        }
        let schema = target.served()?.schema.clone();
        typed::check_types(&schema, &config, Path::ROOT).map_err(|error| {
            Refusal::new(
                500,
                "",
                format!("failed to create typed patch object: {error}"),
            )
        })?;
        if !target.resource.custom {
            decode_applied(&schema, &config)?;
        }
        let now = self.now();
        let options = WriteOptions {
            applied: true,
            patched: true,
            force: options.force || self.has(Defect::ApplyForces),
            ..options.clone()
        };
        let Some(old) = found else {
            super::state::metadata(&mut config).remove("resourceVersion");
            if target.sub.is_some() {
                return Err(target.not_found());
            }
            if config["metadata"]["uid"].is_string() {
                return Err(target.conflict("uid mismatch: no existing object was found"));
            }
            let blank = managed::blank(target, &schema);
            let new = managed::apply(target, &schema, &blank, &config, &options, &now)?;
            return self.create(target, new, &options).map(Written::Created);
        };
        let live = in_version(target, old.value());
        let new = managed::apply(target, &schema, &live, &config, &options, &now)?;
        self.finish(target, old, new, &options)
            .map(Written::Updated)
    }
}

/// Brings a patched object into the form of its schema. Refuses a patch that makes an object that cannot be read: a fault of the patch, not of the request.
fn decodes(
    target: &Target,
    old: &Object,
    new: &mut Value,
    options: &WriteOptions,
) -> Result<(), Refusal> {
    shape(target, Some(old), new, options).map_err(|refusal| {
        let cause = Cause::invalid("patch", refusal.details.message);
        Refusal::invalid("", "", "", vec![cause])
    })
}

/// Refuses an applied configuration that does not fit the built-in type.
fn decode_applied(schema: &Schema, config: &Value) -> Result<(), Refusal> {
    let mut probe = config.clone();
    let unknown = schema::decode_builtin(schema, &mut probe, None).map_err(|error| {
        Refusal::bad_request(format!("failed to create typed patch object: {error}"))
    })?;
    let mut unknown = unknown
        .into_iter()
        .filter(|field| field != "kind" && field != "apiVersion");
    let Some(field) = unknown.next() else {
        return Ok(());
    };
    let text =
        format!("failed to create typed patch object: .{field}: field not declared in schema");
    Err(Refusal::new(500, "", text))
}

/// An object as a version of its API shows it.
pub fn in_version(target: &Target, object: &Value) -> Value {
    let mut object = object.clone();
    object["apiVersion"] = Value::from(target.resource.api_version(&target.version));
    object
}

/// Changes a value by a patch that needs no schema.
///
/// # Errors
/// 400 for a patch that cannot be read, 422 for one that does not apply.
pub fn change(value: &mut Value, kind: PatchKind, patch: Value) -> Result<(), Refusal> {
    if kind == PatchKind::Json {
        return apply_json(value, patch);
    }
    if !patch.is_object() {
        return Err(Refusal::bad_request("a merge patch must be an object"));
    }
    merge(value, patch);
    Ok(())
}

/// Merges a merge patch. Unlike RFC 7396, but like the library that servers use, what a patch puts in
/// the place of anything but an object loses its nulls, those within lists too.
fn merge(value: &mut Value, patch: Value) {
    let (Value::Object(fields), Value::Object(changes)) = (value, patch) else {
        return;
    };
    for (name, change) in changes {
        match fields.get_mut(&name) {
            _ if change.is_null() => {
                fields.remove(&name);
            }
            Some(field @ Value::Object(_)) if change.is_object() => merge(field, change),
            Some(field @ Value::Object(_)) => *field = change,
            Some(_) | None => {
                fields.insert(name, without_nulls(change));
            }
        }
    }
}

/// A value without fields that are null.
fn without_nulls(mut value: Value) -> Value {
    match &mut value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            for value in fields.values_mut() {
                *value = without_nulls(value.take());
            }
        }
        Value::Array(items) => {
            for item in items {
                *item = without_nulls(item.take());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    value
}

fn apply_json(object: &mut Value, patch: Value) -> Result<(), Refusal> {
    if !patch.is_array() {
        return Err(Refusal::bad_request(
            "error decoding patch: a JSON patch must be a list",
        ));
    }
    let operations: json_patch::Patch = serde_json::from_value(patch)
        .map_err(|error| Refusal::new(422, "Invalid", format!("error decoding patch: {error}")))?;
    json_patch::patch(object, &operations).map_err(|error| {
        let text =
            format!("the server rejected our request due to an error in our request: {error}");
        Refusal::new(422, "Invalid", text)
    })
}

/// Merges a strategic merge patch into a value of a built-in type.
///
/// # Errors
/// 400 for a patch that lacks the merge key of a list item or carries an unknown directive.
pub fn merge_strategic(schema: &Schema, value: &mut Value, patch: Value) -> Result<(), Refusal> {
    let Value::Object(mut patch) = patch else {
        return Err(Refusal::bad_request(
            "a strategic merge patch must be an object",
        ));
    };
    let directive = patch.remove("$patch");
    match directive.as_ref().and_then(Value::as_str) {
        Some("replace") => {
            *value = Value::Object(patch);
            return Ok(());
        }
        Some("delete") => {
            *value = Value::Object(Map::new());
            return Ok(());
        }
        None | Some("merge") => {}
        Some(other) => {
            return Err(Refusal::bad_request(format!(
                "unknown patch directive: {other}"
            )));
        }
    }
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(map) = value else {
        return Ok(());
    };
    if let Some(Value::Array(retained)) = patch.remove("$retainKeys") {
        map.retain(|key, _| retained.iter().any(|kept| kept == key));
    }
    patch.retain(|key, _| !key.starts_with("$setElementOrder/"));
    let removals: Vec<String> = patch
        .keys()
        .filter_map(|key| {
            key.strip_prefix("$deleteFromPrimitiveList/")
                .map(str::to_owned)
        })
        .collect();
    for key in removals {
        if let (Some(Value::Array(gone)), Some(Value::Array(items))) = (
            patch.remove(&format!("$deleteFromPrimitiveList/{key}")),
            map.get_mut(&key),
        ) {
            items.retain(|item| !gone.contains(item));
        }
    }
    for (key, patched) in patch {
        let field = schema.field(&key).cloned().unwrap_or_else(Schema::any);
        match patched {
            Value::Null => {
                map.remove(&key);
            }
            Value::Object(_) => {
                let place = map.entry(key).or_insert(Value::Null);
                merge_strategic(&field, place, patched)?;
            }
            Value::Array(items) if field.ty == Type::Array && field.strategic.merge => {
                let place = map.entry(key).or_insert(Value::Null);
                merge_list(&field, place, items)?;
            }
            other @ (Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
                map.insert(key, other);
            }
        }
    }
    Ok(())
}

fn merge_list(schema: &Schema, value: &mut Value, patch: Vec<Value>) -> Result<(), Refusal> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    let Value::Array(items) = value else {
        return Ok(());
    };
    let Some(key) = &schema.strategic.key else {
        let kept: Vec<Value> = items
            .iter()
            .filter(|item| !patch.contains(item))
            .cloned()
            .collect();
        *items = interleave(items, patch, kept, Value::clone);
        return Ok(());
    };
    if patch.iter().any(|item| item["$patch"] == "replace") {
        *items = patch
            .into_iter()
            .filter(|item| item["$patch"] != "replace")
            .collect();
        return Ok(());
    }
    let item_schema = schema.items.clone().unwrap_or_else(Schema::any);
    let mut patched: Vec<Value> = Vec::new();
    for item in patch {
        let id = item[key].clone();
        if id.is_null() {
            return Err(Refusal::bad_request(format!(
                "map: {item} does not contain declared merge key: {key}"
            )));
        }
        if item["$patch"] == "delete" {
            items.retain(|found| found[key] != id);
            continue;
        }
        let mut merged = items
            .iter()
            .find(|found| found[key] == id)
            .cloned()
            .unwrap_or_default();
        merge_strategic(&item_schema, &mut merged, item)?;
        patched.push(merged);
    }
    let kept: Vec<Value> = items
        .iter()
        .filter(|item| !patched.iter().any(|other| other[key] == item[key]))
        .cloned()
        .collect();
    *items = interleave(items, patched, kept, |item| item[key].clone());
    Ok(())
}

/// Patched items in their order; each kept item stands before the first patched one that followed it in
/// the live list.
fn interleave(
    live: &[Value],
    patched: Vec<Value>,
    kept: Vec<Value>,
    id: impl Fn(&Value) -> Value,
) -> Vec<Value> {
    let place = |item: &Value| live.iter().position(|other| id(other) == id(item));
    let mut all = patched;
    let mut from = 0;
    for item in kept {
        let own = place(&item);
        let later =
            |other: &Value| place(other).is_some_and(|other| own.is_some_and(|own| other > own));
        let at = all
            .iter()
            .skip(from)
            .position(later)
            .map_or(all.len(), |at| at + from);
        all.insert(at, item);
        from = at + 1;
    }
    all
}

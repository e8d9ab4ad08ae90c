//! Reading the structural schema of a CRD version.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::meta::list;
use super::path::Path;
use super::rules::Rule;
use super::schema::{Checks, Merge, Schema, Type, builtin};

/// The schema of a whole custom resource: what the CRD says, with the metadata that every object has.
///
/// # Errors
/// A sentence with the path of a rule or pattern that cannot be evaluated here.
pub fn parse_root(json: &Value) -> Result<Schema, String> {
    let mut schema = parse(json, "")?;
    let plain = || {
        Arc::new(Schema {
            ty: Type::String,
            ..Schema::default()
        })
    };
    schema.ty = Type::Object;
    schema.fields.insert("apiVersion".to_owned(), plain());
    schema.fields.insert("kind".to_owned(), plain());
    let metadata = builtin("meta.v1.ObjectMeta").unwrap_or_else(Schema::any);
    schema.fields.insert("metadata".to_owned(), metadata);
    schema
        .required
        .retain(|field| !matches!(field.as_str(), "metadata" | "apiVersion" | "kind"));
    Ok(schema)
}

/// Reads one node at a path.
fn parse(json: &Value, path: &str) -> Result<Schema, String> {
    let flag = |name: &str| json[name] == true;
    let mut schema = Schema {
        ty: type_of(json),
        preserve: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        nullable: flag("nullable"),
        default: json.get("default").cloned(),
        required: texts(&json["required"]),
        checks: parse_checks(json, path)?.map(Box::new),
        ..Schema::default()
    };
    for (name, field) in json["properties"].as_object().into_iter().flatten() {
        let field = parse(field, &format!("{path}.{name}"))?;
        schema.fields.insert(name.clone(), Arc::new(field));
    }
    match &json["additionalProperties"] {
        Value::Object(_) => {
            let values = parse(&json["additionalProperties"], &format!("{path}.*"))?;
            schema.values = Some(Arc::new(values));
        }
        Value::Bool(true) => schema.values = Some(Schema::any()),
        Value::Null
        | Value::Bool(false)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_) => {}
    }
    if json["items"].is_object() {
        schema.items = Some(Arc::new(parse(&json["items"], &format!("{path}[]"))?));
    }
    schema.merge = match (schema.ty, json["x-kubernetes-list-type"].as_str()) {
        (Type::Array, Some("map")) => Merge::Keys(texts(&json["x-kubernetes-list-map-keys"])),
        (Type::Array, Some("set")) => Merge::Granular,
        (Type::Array, _) => Merge::Atomic,
        _ if json["x-kubernetes-map-type"] == "atomic" => Merge::Atomic,
        _ => Merge::Granular,
    };
    if schema.embedded {
        schema.fields.insert(
            "metadata".to_owned(),
            builtin("meta.v1.ObjectMeta").unwrap_or_else(Schema::any),
        );
    }
    Ok(schema)
}

fn type_of(json: &Value) -> Type {
    if json["x-kubernetes-int-or-string"] == true {
        return Type::IntOrString;
    }
    match json["type"].as_str() {
        Some("object") => Type::Object,
        Some("array") => Type::Array,
        Some("string") => Type::String,
        Some("integer") => Type::Integer,
        Some("number") => Type::Number,
        Some("boolean") => Type::Boolean,
        _ => Type::Any,
    }
}

fn texts(value: &Value) -> Vec<String> {
    list(value)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// The checks of a node; none when it has none.
fn parse_checks(json: &Value, path: &str) -> Result<Option<Checks>, String> {
    const CHECKED: [&str; 19] = [
        "enum",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "uniqueItems",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "x-kubernetes-validations",
        "exclusiveMinimum",
    ];
    if !CHECKED.iter().any(|name| json.get(name).is_some()) {
        return Ok(None);
    }
    let count = |name: &str| json[name].as_u64();
    let bound = |name: &str, exclusive: &str| {
        json[name]
            .as_f64()
            .map(|limit| (limit, json[exclusive] == true))
    };
    let branches = |name: &str| -> Result<Vec<Schema>, String> {
        let branches = list(&json[name]).iter().enumerate();
        branches
            .map(|(index, branch)| parse(branch, &format!("{path}.{name}[{index}]")))
            .collect()
    };
    let pattern = json["pattern"].as_str().map(|pattern| {
        regex::Regex::new(pattern)
            .map_err(|error| format!("{path}: pattern {pattern:?} cannot be used: {error}"))
    });
    let not = match json.get("not") {
        Some(not) => Some(Box::new(parse(not, &format!("{path}.not"))?)),
        None => None,
    };
    Ok(Some(Checks {
        one_of_values: list(&json["enum"]).to_vec(),
        pattern: pattern.transpose()?,
        format: json["format"].as_str().map(str::to_owned),
        minimum: bound("minimum", "exclusiveMinimum"),
        maximum: bound("maximum", "exclusiveMaximum"),
        multiple_of: json["multipleOf"].as_f64(),
        length: (count("minLength"), count("maxLength")),
        items: (count("minItems"), count("maxItems")),
        properties: (count("minProperties"), count("maxProperties")),
        unique: json["uniqueItems"] == true,
        all_of: branches("allOf")?,
        any_of: branches("anyOf")?,
        one_of: branches("oneOf")?,
        not,
        rules: list(&json["x-kubernetes-validations"])
            .iter()
            .map(|rule| Rule::parse(rule).map_err(|error| format!("{path}: {error}")))
            .collect::<Result<_, _>>()?,
    }))
}

/// Takes out what the schema does not name; returns the paths of what was taken.
pub fn prune(schema: &Schema, value: &mut Value) -> Vec<String> {
    let mut pruned = Vec::new();
    prune_at(schema, value, Path::ROOT, &mut pruned);
    pruned
}

fn prune_at(schema: &Schema, value: &mut Value, path: Path<'_>, pruned: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if schema.ty == Type::Any && schema.fields.is_empty() && schema.values.is_none() {
                if !schema.preserve {
                    prune_unknown(schema, map, path, pruned);
                }
                return;
            }
            prune_unknown(schema, map, path, pruned);
            for (key, value) in map {
                if let Some(field) = schema.field(key) {
                    prune_at(field, value, path.field(key), pruned);
                }
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter_mut().enumerate() {
                if let Some(item) = &schema.items {
                    prune_at(item, value, path.item(index), pruned);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn prune_unknown(
    schema: &Schema,
    map: &mut Map<String, Value>,
    path: Path<'_>,
    pruned: &mut Vec<String>,
) {
    if schema.preserve || schema.values.is_some() {
        return;
    }
    let own = |key: &str| schema.embedded && matches!(key, "apiVersion" | "kind" | "metadata");
    map.retain(|key, _| {
        let known = schema.fields.contains_key(key) || own(key);
        if !known {
            pruned.push(path.field(key).to_string());
        }
        known
    });
}

/// Puts defaults in, and takes nulls out of fields that may not be null.
pub fn default(schema: &Schema, value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (name, field) in &schema.fields {
                let absent = match map.get(name) {
                    None => true,
                    Some(found) => found.is_null() && !field.nullable,
                };
                if !absent {
                    continue;
                }
                match &field.default {
                    Some(default) => {
                        map.insert(name.clone(), default.clone());
                    }
                    None => {
                        map.remove(name);
                    }
                }
            }
            if let Some(values) = &schema.values {
                let strict = !values.nullable && values.ty != Type::Any;
                map.retain(|_, value| !(strict && value.is_null()));
            }
            for (key, value) in map {
                if let Some(field) = schema.field(key) {
                    default(field, value);
                }
            }
        }
        Value::Array(items) => {
            for value in items {
                if let Some(item) = &schema.items {
                    default(item, value);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

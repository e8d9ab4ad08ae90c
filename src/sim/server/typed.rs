//! Comparing, merging and cutting values by the merge rules of their schema.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::fields::FieldSet;
use crate::schema::{Merge, Schema, Type, path::Path};

/// What changed between two values.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Paths that are new.
    pub added: FieldSet,
    /// Paths whose value changed.
    pub modified: FieldSet,
    /// Paths that are gone.
    pub removed: FieldSet,
}

/// How a node is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Leaf,
    Map,
    List,
}

fn shape(schema: &Schema, value: Option<&Value>) -> Option<Shape> {
    match schema.ty {
        Type::Object | Type::Array if schema.merge == Merge::Atomic => Some(Shape::Leaf),
        Type::Object => Some(Shape::Map),
        Type::Array => Some(Shape::List),
        Type::Any => value.map(|value| {
            if value.is_object() {
                Shape::Map
            } else {
                Shape::Leaf
            }
        }),
        Type::String
        | Type::Bytes
        | Type::Integer
        | Type::Number
        | Type::Boolean
        | Type::IntOrString
        | Type::Quantity
        | Type::Time => Some(Shape::Leaf),
    }
}

/// The common treatment of two values: a leaf when they do not agree.
fn common(schema: &Schema, left: Option<&Value>, right: Option<&Value>) -> Shape {
    match (shape(schema, left), shape(schema, right)) {
        (Some(left), Some(right)) if left == right => left,
        (Some(one), None) | (None, Some(one)) => one,
        _ => Shape::Leaf,
    }
}

fn is_hollow(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::Object(map)) => map.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => false,
    }
}

fn field_schema(schema: &Schema, name: &str) -> Arc<Schema> {
    schema.field(name).cloned().unwrap_or_else(Schema::any)
}

fn item_schema(schema: &Schema) -> Arc<Schema> {
    schema.items.clone().unwrap_or_else(Schema::any)
}

/// The path element of a list item: by its keys, or by its value in a set.
///
/// # Errors
/// A sentence when the item lacks its keys.
pub fn element_of(schema: &Schema, item: &Value) -> Result<String, String> {
    let Merge::Keys(keys) = &schema.merge else {
        return Ok(format!("v:{item}"));
    };
    let mut parts = Vec::new();
    let mut sorted = keys.clone();
    sorted.sort();
    for key in &sorted {
        let fallback = schema.items.as_ref().and_then(|shape| {
            let field = shape.fields.get(key)?;
            let builtin = (key == "protocol").then(|| Value::from("TCP"));
            field.default.clone().or(builtin)
        });
        let found = item
            .get(key)
            .filter(|value| !value.is_null())
            .cloned()
            .or(fallback);
        if let Some(found) = found {
            parts.push(format!("{}:{found}", Value::from(key.as_str())));
        }
    }
    if parts.is_empty() {
        return Err(format!(
            "associative list with keys has an element that omits key field {keys:?}"
        ));
    }
    Ok(format!("k:{{{}}}", parts.join(",")))
}

fn items(value: Option<&Value>) -> &[Value] {
    value
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default()
}

fn indexed<'a>(schema: &Schema, value: Option<&'a Value>) -> Vec<(String, &'a Value)> {
    items(value)
        .iter()
        .filter_map(|item| Some((element_of(schema, item).ok()?, item)))
        .collect()
}

/// Compares two values; none means absent.
pub fn compare(schema: &Schema, left: Option<&Value>, right: Option<&Value>) -> Comparison {
    let mut found = Comparison::default();
    compare_at(schema, left, right, &mut Vec::new(), &mut found);
    found
}

fn compare_at(
    schema: &Schema,
    left: Option<&Value>,
    right: Option<&Value>,
    path: &mut Vec<String>,
    found: &mut Comparison,
) {
    if left != right {
        note_difference(schema, left, right, path, found);
    }
}

/// Compares two values that differ.
fn note_difference(
    schema: &Schema,
    left: Option<&Value>,
    right: Option<&Value>,
    path: &mut Vec<String>,
    found: &mut Comparison,
) {
    let shape = common(schema, left, right);
    let leaf = shape == Shape::Leaf || (is_hollow(left) && is_hollow(right));
    if !path.is_empty() {
        match (left, right) {
            (None, _) => found.added.insert(path),
            (_, None) => found.removed.insert(path),
            _ if leaf => found.modified.insert(path),
            _ => {}
        }
    }
    if leaf {
        if let (Some(left), Some(right)) = (left, right) {
            // what was a map and is none has lost its fields, and the other way round
            note_fields(schema, left, path, &mut found.removed);
            note_fields(schema, right, path, &mut found.added);
        }
        return;
    }
    if shape == Shape::Map {
        let empty = Map::new();
        let lefts = left.and_then(Value::as_object).unwrap_or(&empty);
        let rights = right.and_then(Value::as_object).unwrap_or(&empty);
        for key in lefts
            .keys()
            .chain(rights.keys().filter(|key| !lefts.contains_key(*key)))
        {
            if lefts.get(key) == rights.get(key) {
                continue;
            }
            path.push(format!("f:{key}"));
            let field = field_schema(schema, key);
            note_difference(&field, lefts.get(key), rights.get(key), path, found);
            path.pop();
        }
        return;
    }
    let (lefts, rights) = (indexed(schema, left), indexed(schema, right));
    let item = item_schema(schema);
    let in_right = |element: &str| {
        rights
            .iter()
            .find(|(other, _)| other == element)
            .map(|(_, value)| *value)
    };
    for (element, value) in &lefts {
        path.push(element.clone());
        compare_at(&item, Some(value), in_right(element), path, found);
        path.pop();
    }
    for (element, value) in &rights {
        if !lefts.iter().any(|(other, _)| other == element) {
            path.push(element.clone());
            compare_at(&item, None, Some(value), path, found);
            path.pop();
        }
    }
}

/// Notes the fields of a map, and theirs.
fn note_fields(schema: &Schema, value: &Value, path: &mut Vec<String>, set: &mut FieldSet) {
    if shape(schema, Some(value)) != Some(Shape::Map) {
        return;
    }
    for (key, child) in value.as_object().into_iter().flatten() {
        path.push(format!("f:{key}"));
        set.insert(path);
        note_fields(&field_schema(schema, key), child, path, set);
        path.pop();
    }
}

/// The paths that an applied value claims.
pub fn field_set(schema: &Schema, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    match shape(schema, Some(value)) {
        Some(Shape::Map) => {
            for (key, child) in value.as_object().into_iter().flatten() {
                let mut below = field_set(&field_schema(schema, key), child);
                let hollow_map = child.is_null() || child.as_object().is_some_and(Map::is_empty);
                below.member |= hollow_map || !schema.fields.contains_key(key);
                if !below.is_empty() {
                    set.children.insert(format!("f:{key}"), below);
                }
            }
        }
        Some(Shape::List) => {
            let item = item_schema(schema);
            for (element, child) in indexed(schema, Some(value)) {
                let mut below = field_set(&item, child);
                below.member = true;
                set.children.insert(element, below);
            }
        }
        Some(Shape::Leaf) | None => set.member = true,
    }
    set
}

/// The set with the struct fields on the way to each path in it.
#[must_use]
pub fn with_named(schema: &Schema, set: &FieldSet) -> FieldSet {
    let children = set.children.iter().map(|(element, child)| {
        let (below, named) = match element.strip_prefix("f:") {
            Some(name) => (field_schema(schema, name), schema.fields.contains_key(name)),
            None => (item_schema(schema), false),
        };
        let mut child = with_named(&below, child);
        child.member |= named;
        (element.clone(), child)
    });
    FieldSet {
        member: set.member,
        children: children.collect(),
    }
}

/// Refuses an applied value of another type than its schema says.
///
/// # Errors
/// A sentence about the first such value.
pub fn check_types(schema: &Schema, value: &Value, path: Path<'_>) -> Result<(), String> {
    let fits = match (schema.ty, value) {
        (_, Value::Null) | (Type::Any | Type::IntOrString | Type::Quantity, _) => true,
        (Type::Object, Value::Object(fields)) => {
            for (name, value) in fields {
                if let Some(field) = schema.field(name) {
                    check_types(field, value, path.field(name))?;
                }
            }
            true
        }
        (Type::Array, Value::Array(items)) => {
            for (index, value) in items.iter().enumerate() {
                if let Some(item) = &schema.items {
                    check_types(item, value, path.item(index))?;
                }
            }
            true
        }
        (Type::String | Type::Bytes | Type::Time, found) => found.is_string(),
        (Type::Integer | Type::Number, found) => found.is_number(),
        (Type::Boolean, found) => found.is_boolean(),
        (Type::Object | Type::Array, _) => false,
    };
    if fits {
        return Ok(());
    }
    Err(format!(".{path}: expected {:?}, got {value}", schema.ty))
}

/// Merges an applied value into a live one.
///
/// # Errors
/// A sentence about a list item without its keys, or two with the same.
pub fn merge(
    schema: &Schema,
    live: Option<&Value>,
    applied: Option<&Value>,
) -> Result<Option<Value>, String> {
    let (Some(old), Some(new)) = (live, applied) else {
        if let Some(new) = applied {
            check_keys(schema, new)?;
        }
        return Ok(applied.or(live).cloned());
    };
    match common(schema, live, applied) {
        Shape::Leaf => Ok(Some(new.clone())),
        Shape::Map => {
            let mut merged = old.as_object().cloned().unwrap_or_default();
            for (key, value) in new.as_object().into_iter().flatten() {
                let field = field_schema(schema, key);
                if let Some(value) = merge(&field, old.get(key), Some(value))? {
                    merged.insert(key.clone(), value);
                }
            }
            Ok(Some(Value::Object(merged)))
        }
        Shape::List => merge_lists(schema, old, new).map(Some),
    }
}

/// Refuses associative lists in a value whose items lack keys or share them.
fn check_keys(schema: &Schema, value: &Value) -> Result<(), String> {
    match shape(schema, Some(value)) {
        Some(Shape::Map) => value
            .as_object()
            .into_iter()
            .flatten()
            .try_for_each(|(key, value)| check_keys(&field_schema(schema, key), value)),
        Some(Shape::List) => {
            let mut seen = Vec::new();
            for item in items(Some(value)) {
                let element = element_of(schema, item)?;
                if seen.contains(&element) {
                    return Err(format!("duplicate entries for key {element}"));
                }
                seen.push(element);
                check_keys(&item_schema(schema), item)?;
            }
            Ok(())
        }
        Some(Shape::Leaf) | None => Ok(()),
    }
}

/// Merges lists by element: applied items keep their order, live ones stay before what they preceded.
fn merge_lists(schema: &Schema, old: &Value, new: &Value) -> Result<Value, String> {
    check_keys(schema, new)?;
    let (lefts, rights) = (indexed(schema, Some(old)), indexed(schema, Some(new)));
    let item = item_schema(schema);
    let in_left = |element: &str| {
        lefts
            .iter()
            .find(|(other, _)| other == element)
            .map(|(_, value)| *value)
    };
    let in_right = |element: &str| rights.iter().any(|(other, _)| other == element);
    let mut merged = Vec::new();
    let mut left = lefts.iter().peekable();
    for (element, value) in &rights {
        let shared = in_left(element);
        // live items that stand before the shared one, and are not applied, keep their place
        while let Some((next, live)) = left.peek() {
            if in_right(next) {
                if next == element || shared.is_none() {
                    break;
                }
                left.next();
                continue;
            }
            merged.push((*live).clone());
            left.next();
        }
        if left.peek().is_some_and(|(next, _)| next == element) {
            left.next();
        }
        if let Some(value) = merge(&item, shared, Some(value))? {
            merged.push(value);
        }
    }
    merged.extend(
        left.filter(|(element, _)| !in_right(element))
            .map(|(_, live)| (*live).clone()),
    );
    Ok(Value::Array(merged))
}

/// The value without the paths of a set.
#[must_use]
pub fn remove(schema: &Schema, value: &Value, gone: &FieldSet) -> Value {
    match shape(schema, Some(value)) {
        Some(Shape::Map) => {
            let Value::Object(map) = value else {
                return value.clone();
            };
            let mut rest = Map::new();
            for (key, child) in map {
                match gone.children.get(&format!("f:{key}")) {
                    Some(gone) if gone.member => {}
                    Some(gone) => {
                        rest.insert(key.clone(), remove(&field_schema(schema, key), child, gone));
                    }
                    None => {
                        rest.insert(key.clone(), child.clone());
                    }
                }
            }
            if rest.is_empty() && !map.is_empty() {
                Value::Null
            } else {
                Value::Object(rest)
            }
        }
        Some(Shape::List) => {
            let Value::Array(all) = value else {
                return value.clone();
            };
            let mut rest = Vec::new();
            for child in all {
                let element = element_of(schema, child).unwrap_or_default();
                match gone.children.get(&element) {
                    Some(gone) if gone.member => {}
                    Some(gone) => rest.push(remove(&item_schema(schema), child, gone)),
                    None => rest.push(child.clone()),
                }
            }
            if rest.is_empty() && !all.is_empty() {
                Value::Null
            } else {
                Value::Array(rest)
            }
        }
        Some(Shape::Leaf) | None => value.clone(),
    }
}

//! What a server does to the body of a built-in object before it looks at the values.

use serde_json::{Map, Value};

use super::path::Path;
use super::{Fault, Schema, Type, formats, quantity, quote};

/// Brings the body of a built-in object into the form in which the server keeps it: unknown fields
/// out, empty fields out, fields that are always written in. Returns the paths of unknown fields.
/// What is as it was in `old`, which has that form, is not looked at again.
///
/// # Errors
/// The first value of a wrong type.
pub fn decode_builtin(
    schema: &Schema,
    value: &mut Value,
    old: Option<&Value>,
) -> Result<Vec<String>, Fault> {
    let mut unknown = Vec::new();
    decode(schema, value, old, Path::ROOT, &mut unknown)?;
    Ok(unknown)
}

fn decode(
    schema: &Schema,
    value: &mut Value,
    old: Option<&Value>,
    path: Path<'_>,
    unknown: &mut Vec<String>,
) -> Result<(), Fault> {
    match (schema.ty, &mut *value) {
        (Type::Bytes, Value::String(text)) if !formats::fits("byte", text) => {
            Err(mistyped(schema, value, path))
        }
        (Type::Any, _)
        | (_, Value::Null)
        | (Type::String | Type::Bytes | Type::Time | Type::IntOrString, Value::String(_))
        | (Type::Boolean, Value::Bool(_))
        | (Type::Number, Value::Number(_)) => Ok(()),
        (Type::Integer | Type::IntOrString, Value::Number(number))
            if number.is_i64() || number.is_u64() =>
        {
            Ok(())
        }
        (Type::Quantity, Value::String(_) | Value::Number(_)) => {
            let Some(text) = quantity::canonical(value) else {
                return Err(mistyped(schema, value, path));
            };
            *value = Value::String(text);
            Ok(())
        }
        (Type::Array, Value::Array(items)) => {
            let Some(item) = &schema.items else {
                return Ok(());
            };
            for (index, value) in items.iter_mut().enumerate() {
                if value.is_null() && item.ty == Type::Object && !item.pointer {
                    *value = Value::Object(Map::new());
                }
                let old = old.and_then(|old| old.get(index));
                if old != Some(value) {
                    decode(item, value, old, path.item(index), unknown)?;
                }
            }
            Ok(())
        }
        (Type::Object, Value::Object(map)) => decode_object(schema, map, old, path, unknown),
        (
            _,
            Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)
            | Value::Object(_),
        ) => Err(mistyped(schema, value, path)),
    }
}

/// Says what should stand where a value of another type stands.
fn mistyped(schema: &Schema, value: &Value, path: Path<'_>) -> Fault {
    Fault {
        path: path.to_string(),
        found: quote(value),
        action: format!("write {}", schema.ty.words()),
    }
}

fn decode_object(
    schema: &Schema,
    map: &mut Map<String, Value>,
    old: Option<&Value>,
    path: Path<'_>,
    unknown: &mut Vec<String>,
) -> Result<(), Fault> {
    if schema.is_map() {
        for (key, value) in map.iter_mut() {
            if let Some(inner) = &schema.values {
                if value.is_null() && matches!(inner.ty, Type::String | Type::Bytes) {
                    *value = Value::String(String::new());
                }
                decode(inner, value, None, path.key(key), unknown)?;
            }
        }
        return Ok(());
    }
    let mut drop = Vec::new();
    for (key, value) in map.iter_mut() {
        match schema.fields.get(key) {
            None if !schema.preserve => {
                unknown.push(path.field(key).to_string());
                drop.push(key.clone());
            }
            None => {}
            Some(field) => {
                let old = old.and_then(|old| old.get(key));
                if old == Some(value) {
                    continue;
                }
                decode(field, value, old, path.field(key), unknown)?;
                let hollow = field.always && value.as_array().is_some_and(Vec::is_empty);
                if value.is_null() || hollow || (is_zero(field, value) && !field.always) {
                    drop.push(key.clone());
                }
            }
        }
    }
    for key in drop {
        map.remove(&key);
    }
    for (key, field) in &schema.fields {
        if field.always && !map.contains_key(key) {
            let mut zero = zero_of(field);
            if zero.is_object() {
                decode(field, &mut zero, None, Path::ROOT, unknown)?;
            }
            map.insert(key.clone(), zero);
        }
    }
    Ok(())
}

/// An object with nothing in it, as Go writes it.
pub fn blank_builtin(schema: &Schema) -> Value {
    let mut blank = Value::Object(Map::new());
    let decoded = decode_builtin(schema, &mut blank, None);
    debug_assert!(decoded.is_ok(), "nothing is of a wrong type in nothing");
    blank
}

/// True when Go leaves the value out.
fn is_zero(schema: &Schema, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty() && !schema.pointer,
        Value::Object(map) => map.is_empty() && schema.is_map(),
        Value::String(text) => text.is_empty() && !schema.pointer,
        Value::Bool(set) => !set && !schema.pointer,
        Value::Number(number) => {
            number.as_i64() == Some(0) && !schema.pointer && schema.ty == Type::Integer
        }
    }
}

fn zero_of(schema: &Schema) -> Value {
    if schema.pointer {
        return Value::Null;
    }
    match schema.ty {
        Type::Any | Type::Array | Type::Time | Type::Bytes => Value::Null,
        Type::Object if schema.is_map() => Value::Null,
        Type::Object => Value::Object(Map::new()),
        Type::String => Value::from(""),
        Type::Integer | Type::Number | Type::IntOrString => Value::from(0),
        Type::Boolean => Value::from(false),
        Type::Quantity => Value::from("0"),
    }
}

//! The shape of an object: one schema type for the built-in kinds and for custom resources.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value};

use super::path::Path;
use super::rules::Rule;

/// What a value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Type {
    /// Anything: kept as it is.
    #[default]
    Any,
    /// A struct or a map.
    Object,
    /// A list.
    Array,
    /// A string.
    String,
    /// Base64-encoded bytes.
    Bytes,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A whole number or a string.
    IntOrString,
    /// A resource quantity.
    Quantity,
    /// A point in time (RFC 3339).
    Time,
}

/// How a list or a map merges.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Merge {
    /// As one value.
    Atomic,
    /// By value (sets), or by field (maps and structs).
    #[default]
    Granular,
    /// By the values of these fields of each item.
    Keys(Vec<String>),
}

/// The `patchStrategy` of a built-in field.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct StrategicMerge {
    /// The list merges instead of being replaced.
    pub merge: bool,
    /// The field that tells list items apart; none for a list of plain values.
    pub key: Option<String>,
}

/// The schema of one value.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // independent facts of a field
pub struct Schema {
    /// What the value may be.
    pub ty: Type,
    /// The fields of a struct, by name.
    pub fields: BTreeMap<String, Arc<Self>>,
    /// The schema of a map's values.
    pub values: Option<Arc<Self>>,
    /// The schema of a list's items.
    pub items: Option<Arc<Self>>,
    /// How lists and maps merge.
    pub merge: Merge,
    /// Unknown fields are kept (`x-kubernetes-preserve-unknown-fields`).
    pub preserve: bool,
    /// The value is a whole Kubernetes object (`x-kubernetes-embedded-resource`).
    pub embedded: bool,
    /// Null is allowed and kept.
    pub nullable: bool,
    /// What an absent value becomes.
    pub default: Option<Value>,
    /// The fields that must be there.
    pub required: Vec<String>,
    /// Value checks of a custom resource.
    pub checks: Option<Box<Checks>>,
    /// Built-in: the Go field is a pointer, so a zero value stays.
    pub pointer: bool,
    /// Built-in: the field is written even when empty.
    pub always: bool,
    /// Built-in: how a strategic merge patch treats the list.
    pub strategic: StrategicMerge,
}

/// Checks that only custom resources carry.
#[derive(Clone, Debug, Default)]
pub struct Checks {
    /// The allowed values; empty for any.
    pub one_of_values: Vec<Value>,
    /// An unanchored regular expression.
    pub pattern: Option<regex::Regex>,
    /// The `format` of a string or number.
    pub format: Option<String>,
    /// Lower bound, and whether it is excluded.
    pub minimum: Option<(f64, bool)>,
    /// Upper bound, and whether it is excluded.
    pub maximum: Option<(f64, bool)>,
    /// A number that divides the value.
    pub multiple_of: Option<f64>,
    /// Least and greatest count of characters.
    pub length: (Option<u64>, Option<u64>),
    /// Least and greatest count of items.
    pub items: (Option<u64>, Option<u64>),
    /// Least and greatest count of fields.
    pub properties: (Option<u64>, Option<u64>),
    /// Items must differ.
    pub unique: bool,
    /// All of these must hold.
    pub all_of: Vec<Schema>,
    /// At least one of these must hold.
    pub any_of: Vec<Schema>,
    /// Exactly one of these must hold.
    pub one_of: Vec<Schema>,
    /// This must not hold.
    pub not: Option<Box<Schema>>,
    /// CEL rules.
    pub rules: Vec<Rule>,
}

impl Schema {
    /// A schema that keeps everything.
    pub fn any() -> Arc<Self> {
        static ANY: LazyLock<Arc<Schema>> = LazyLock::new(|| {
            Arc::new(Schema {
                preserve: true,
                ..Schema::default()
            })
        });
        ANY.clone()
    }

    /// The schema of a field: a declared one, a map's values, or none.
    pub fn field(&self, name: &str) -> Option<&Arc<Self>> {
        self.fields.get(name).or(self.values.as_ref())
    }

    /// True for a map with free keys.
    pub fn is_map(&self) -> bool {
        self.ty == Type::Object && self.values.is_some()
    }
}

/// The built-in type of this name, such as `apps.v1.Deployment`.
pub fn builtin(name: &str) -> Option<Arc<Schema>> {
    static TYPES: LazyLock<BTreeMap<&'static str, Arc<Schema>>> = LazyLock::new(parse_builtin);
    TYPES.get(name).cloned()
}

type Lines = BTreeMap<&'static str, Vec<&'static str>>;
type Known = BTreeMap<&'static str, Arc<Schema>>;

/// Stands among the fields of a type that merges as one value.
const ATOMIC: &str = "#atomic";

fn parse_builtin() -> Known {
    let mut lines: Lines = BTreeMap::new();
    let mut current = "";
    for line in include_str!("builtin.types").lines() {
        if let Some(field) = line.strip_prefix("  ") {
            lines.entry(current).or_default().push(field);
        } else if !line.starts_with('#') {
            let (name, mark) = line.split_once(' ').unwrap_or((line, ""));
            current = name;
            let fields: &mut Vec<&str> = lines.entry(current).or_default();
            if mark == "atomic" {
                fields.push(ATOMIC);
            }
        }
    }
    let mut known = BTreeMap::new();
    for name in lines.keys() {
        parse_type(name, &lines, &mut known);
    }
    known
}

fn parse_type(name: &'static str, lines: &Lines, known: &mut Known) -> Arc<Schema> {
    if let Some(schema) = known.get(name) {
        return schema.clone();
    }
    let mut schema = Schema {
        ty: Type::Object,
        ..Schema::default()
    };
    for line in lines.get(name).into_iter().flatten() {
        if *line == ATOMIC {
            schema.merge = Merge::Atomic;
            continue;
        }
        let mut words = line.split(' ');
        let (Some(mut field), Some(ty)) = (words.next(), words.next()) else {
            continue;
        };
        let always = field.ends_with('+');
        field = field.trim_end_matches('+');
        if field.ends_with('!') {
            field = field.trim_end_matches('!');
            schema.required.push(field.to_owned());
        }
        let mut shape = parse_shape(ty, lines, known);
        shape.always = always;
        for word in words {
            match word.split_once('=') {
                Some(("keys", keys)) => {
                    shape.merge = Merge::Keys(keys.split(',').map(str::to_owned).collect());
                }
                Some(("patch", patch)) => {
                    let (strategy, key) = patch.split_once(':').unwrap_or((patch, ""));
                    shape.strategic.merge = strategy.contains("merge");
                    shape.strategic.key = (!key.is_empty()).then(|| key.to_owned());
                }
                _ if word == "atomic" => shape.merge = Merge::Atomic,
                _ => shape.merge = Merge::Granular,
            }
        }
        schema.fields.insert(field.to_owned(), Arc::new(shape));
    }
    let schema = Arc::new(schema);
    known.insert(name, schema.clone());
    schema
}

fn parse_shape(ty: &'static str, lines: &Lines, known: &mut Known) -> Schema {
    let plain = |ty| Schema {
        ty,
        ..Schema::default()
    };
    if let Some(inner) = ty.strip_prefix('*') {
        let mut shape = parse_shape(inner, lines, known);
        shape.pointer = true;
        return shape;
    }
    if let Some(inner) = ty.strip_prefix("[]") {
        return Schema {
            items: Some(Arc::new(parse_shape(inner, lines, known))),
            merge: Merge::Atomic,
            ..plain(Type::Array)
        };
    }
    if let Some(inner) = ty.strip_prefix("map:") {
        return Schema {
            values: Some(Arc::new(parse_shape(inner, lines, known))),
            ..plain(Type::Object)
        };
    }
    match ty {
        "string" => plain(Type::String),
        "bytes" => plain(Type::Bytes),
        "int" => plain(Type::Integer),
        "number" => plain(Type::Number),
        "bool" => plain(Type::Boolean),
        "intstr" => plain(Type::IntOrString),
        "quantity" => plain(Type::Quantity),
        "time" => plain(Type::Time),
        "any" => Schema::clone(&Schema::any()),
        name => Schema::clone(&parse_type(name, lines, known)),
    }
}

/// Brings the body of a built-in object into the form in which the server keeps it: unknown fields
/// out, empty fields out, fields that are always written in. Returns the paths of unknown fields.
///
/// # Errors
/// A sentence about the first value of a wrong type.
pub fn decode_builtin(schema: &Schema, value: &mut Value) -> Result<Vec<String>, String> {
    let mut unknown = Vec::new();
    decode(schema, value, Path::ROOT, &mut unknown)?;
    Ok(unknown)
}

fn decode(
    schema: &Schema,
    value: &mut Value,
    path: Path<'_>,
    unknown: &mut Vec<String>,
) -> Result<(), String> {
    let wrong = |what: &str| {
        Err(format!(
            "json: cannot unmarshal {what} into Go struct field {} of type {:?}",
            path, schema.ty
        ))
    };
    match (schema.ty, &mut *value) {
        (Type::Bytes, Value::String(text)) if !super::formats::fits("byte", text) => {
            Err(format!("illegal base64 data at {path}"))
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
            let canonical = super::quantity::canonical(value);
            match canonical {
                Some(text) => {
                    *value = Value::String(text);
                    Ok(())
                }
                None => Err(format!(
                    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$' ({path})"
                )),
            }
        }
        (Type::Array, Value::Array(items)) => {
            let Some(item) = &schema.items else {
                return Ok(());
            };
            for (index, value) in items.iter_mut().enumerate() {
                if value.is_null() && item.ty == Type::Object && !item.pointer {
                    *value = Value::Object(Map::new());
                }
                decode(item, value, path.item(index), unknown)?;
            }
            Ok(())
        }
        (Type::Object, Value::Object(map)) => decode_object(schema, map, path, unknown),
        (_, Value::Bool(_)) => wrong("bool"),
        (_, Value::Number(_)) => wrong("number"),
        (_, Value::String(_)) => wrong("string"),
        (_, Value::Array(_)) => wrong("array"),
        (_, Value::Object(_)) => wrong("object"),
    }
}

fn decode_object(
    schema: &Schema,
    map: &mut Map<String, Value>,
    path: Path<'_>,
    unknown: &mut Vec<String>,
) -> Result<(), String> {
    if schema.is_map() {
        for (key, value) in map.iter_mut() {
            if let Some(inner) = &schema.values {
                if value.is_null() && matches!(inner.ty, Type::String | Type::Bytes) {
                    *value = Value::String(String::new());
                }
                decode(inner, value, path.field(key), unknown)?;
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
                decode(field, value, path.field(key), unknown)?;
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
                decode(field, &mut zero, Path::ROOT, unknown)?;
            }
            map.insert(key.clone(), zero);
        }
    }
    Ok(())
}

/// An object with nothing in it, as Go writes it.
pub fn blank_builtin(schema: &Schema) -> Value {
    let mut blank = Value::Object(Map::new());
    let decoded = decode_builtin(schema, &mut blank);
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

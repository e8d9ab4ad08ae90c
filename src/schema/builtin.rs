//! The shapes of the built-in kinds.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use super::{Merge, Schema, Type};

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

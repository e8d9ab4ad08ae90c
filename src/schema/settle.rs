//! What a server changes in an object before it looks at the values.

use serde_json::Value;

use super::path::Path;
use super::{Fault, Schema, Type, decode_builtin};

/// Up to here a `f64` holds every whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Schema {
    /// Drops the fields that the schema does not describe, fills in defaults, and gives the paths
    /// of what was dropped. What is as it was in `old`, which was settled, is not looked at again.
    ///
    /// # Errors
    /// A value in the metadata that no object can have there.
    pub fn settle(&self, object: &mut Value, old: Option<&Value>) -> Result<Vec<String>, Fault> {
        let mut dropped = self.prune(object, old);
        self.fill_in(object, old);
        if let Some(schema) = self.fields.get("metadata")
            && let Some(metadata) = object.get_mut("metadata")
        {
            let old = old.and_then(|old| old.get("metadata"));
            let more = decode_builtin(schema, metadata, old).map_err(|mut fault| {
                let inner = std::mem::take(&mut fault.path);
                let dot = if inner.is_empty() { "" } else { "." };
                fault.path = format!("metadata{dot}{inner}");
                fault
            })?;
            dropped.extend(more.into_iter().map(|field| format!("metadata.{field}")));
        }
        Ok(dropped)
    }

    /// Drops the fields that the schema does not describe, and gives their paths.
    pub fn prune(&self, object: &mut Value, old: Option<&Value>) -> Vec<String> {
        let mut dropped = Vec::new();
        self.prune_at(object, old, Path::ROOT, &mut dropped);
        dropped
    }

    fn prune_at(
        &self,
        value: &mut Value,
        old: Option<&Value>,
        path: Path<'_>,
        dropped: &mut Vec<String>,
    ) {
        match value {
            Value::Object(map) => {
                let keeps = self.preserve || self.values.is_some();
                let own = |name: &str| {
                    self.embedded && matches!(name, "apiVersion" | "kind" | "metadata")
                };
                map.retain(|name, value| {
                    if let Some(field) = self.field(name) {
                        let old = old.and_then(|old| old.get(name));
                        if old != Some(value) {
                            field.prune_at(value, old, self.entry(&path, name), dropped);
                        }
                        return true;
                    }
                    let known = keeps || own(name);
                    if !known {
                        dropped.push(path.field(name).to_string());
                    }
                    known
                });
            }
            Value::Array(items) => {
                for (index, value) in items.iter_mut().enumerate() {
                    if let Some(item) = &self.items {
                        item.prune_at(value, None, path.item(index), dropped);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Fills in defaults, and drops nulls of fields that cannot be null.
    pub fn fill_in(&self, value: &mut Value, old: Option<&Value>) {
        match value {
            Value::Object(map) => {
                for (name, field) in &self.fields {
                    let absent = match map.get(name) {
                        None => true,
                        Some(found) => found.is_null() && !field.nullable,
                    };
                    match &field.default {
                        Some(default) if absent => {
                            map.insert(name.clone(), default.clone());
                        }
                        None if absent => {
                            map.remove(name);
                        }
                        Some(_) | None => {}
                    }
                }
                if let Some(values) = &self.values {
                    let strict = !values.nullable && values.ty != Type::Any;
                    map.retain(|_, value| !(strict && value.is_null()));
                }
                for (name, value) in map {
                    let old = old.and_then(|old| old.get(name));
                    if let Some(field) = self.field(name)
                        && old != Some(value)
                    {
                        field.fill_in(value, old);
                    }
                }
            }
            Value::Array(items) => {
                for value in items {
                    if let Some(item) = &self.items {
                        item.fill_in(value, None);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
}

/// Writes the whole numbers of an object without a fraction, as a server keeps them.
pub fn plain_numbers(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter_mut().filter(|(name, _)| *name != "metadata");
            fields.for_each(|(_, value)| plain_numbers(value));
        }
        Value::Array(items) => items.iter_mut().for_each(plain_numbers),
        Value::Number(number) if number.is_f64() => {
            let exact = -EXACT..=EXACT;
            let whole = number
                .as_f64()
                .filter(|n| n.fract() == 0.0 && exact.contains(n));
            if let Some(whole) = whole {
                #[expect(clippy::cast_possible_truncation, reason = "whole and within bounds")]
                {
                    *value = Value::from(whole as i64);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

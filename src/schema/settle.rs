//! What a server changes in an object before it looks at the values.

use serde_json::Value;

use super::{Kind, Schema};

/// Fields that every object has and no schema needs to name.
const ENVELOPE: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Up to here a `f64` holds every whole number.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl Schema {
    /// Drops the fields that the schema does not describe, and gives their paths.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        let mut dropped = Vec::new();
        self.prune_at("", true, object, &mut dropped);
        dropped
    }

    fn prune_at(&self, path: &str, root: bool, value: &mut Value, dropped: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                let enveloped = root || self.embedded_resource;
                fields.retain(|name, value| {
                    if enveloped && ENVELOPE.contains(&name.as_str()) {
                        return true;
                    }
                    let path = self.path_of(path, name);
                    if let Some(schema) = self.field(name) {
                        schema.prune_at(&path, false, value, dropped);
                        return true;
                    }
                    if !self.keeps_unknown() {
                        dropped.push(path);
                    }
                    self.keeps_unknown()
                });
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for (index, item) in items.iter_mut().enumerate() {
                        schema.prune_at(&format!("{path}[{index}]"), false, item, dropped);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Fills in defaults, drops nulls of fields that cannot be null, and writes whole numbers
    /// without a fraction.
    pub fn fill_in(&self, value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, value| {
                    !value.is_null() || self.field(name).is_none_or(|schema| schema.nullable)
                });
                for (name, schema) in &self.properties {
                    if let Some(default) = &schema.default {
                        fields
                            .entry(name.clone())
                            .or_insert_with(|| default.clone());
                    }
                }
                for (name, value) in fields.iter_mut() {
                    if let Some(schema) = self.field(name) {
                        schema.fill_in(value);
                    }
                }
            }
            Value::Array(items) => {
                if let Some(schema) = &self.items {
                    for item in items {
                        schema.fill_in(item);
                    }
                }
            }
            Value::Number(number) => {
                let exact = -EXACT..=EXACT;
                let whole = number
                    .as_f64()
                    .filter(|n| n.fract() == 0.0 && exact.contains(n));
                if let Some(whole) = whole.filter(|_| self.kind == Some(Kind::Integer)) {
                    #[expect(clippy::cast_possible_truncation, reason = "whole and within bounds")]
                    {
                        *value = Value::from(whole as i64);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::String(_) => {}
        }
    }
}

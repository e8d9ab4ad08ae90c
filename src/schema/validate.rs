//! Comparing values with the keywords of a schema.

use serde_json::{Map, Number, Value};

use super::{Fault, Kind, Schema};

/// Most characters of a value that a fault repeats.
const QUOTED: usize = 120;

impl Schema {
    /// Lists where a value does not have the shape that the schema describes.
    pub(super) fn compare(&self, object: &Value) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.compare_at("", object, &mut faults);
        faults
    }

    fn compare_at(&self, path: &str, value: &Value, faults: &mut Vec<Fault>) {
        if value.is_null() && self.nullable {
            return;
        }
        let mut blame = |found: String, action: String| {
            faults.push(Fault {
                path: path.to_owned(),
                found,
                action,
            });
        };
        if let Some(wanted) = self.mistyped(value) {
            blame(quote(value), format!("write {wanted}"));
            return;
        }
        if let Some(allowed) = self.allowed.as_ref().filter(|all| !all.contains(value)) {
            let allowed: Vec<String> = allowed.iter().map(quote).collect();
            blame(quote(value), format!("write one of {}", allowed.join(", ")));
        }
        match value {
            Value::String(text) => self.compare_text(text, &mut blame),
            Value::Number(number) => self.compare_number(number, &mut blame),
            Value::Array(items) => {
                let bounds = (self.min_items, self.max_items);
                if let Some(action) = outside(items.len(), bounds, "item") {
                    blame(counted(items.len(), "item"), action);
                }
            }
            Value::Object(fields) => {
                let bounds = (self.min_properties, self.max_properties);
                if let Some(action) = outside(fields.len(), bounds, "field") {
                    blame(counted(fields.len(), "field"), action);
                }
            }
            Value::Null | Value::Bool(_) => {}
        }
        self.compare_branches(value, &mut blame);
        match value {
            Value::Object(fields) => self.compare_fields(path, fields, faults),
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(schema) = &self.items {
                        schema.compare_at(&format!("{path}[{index}]"), item, faults);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn compare_fields(&self, path: &str, fields: &Map<String, Value>, faults: &mut Vec<Fault>) {
        for name in &self.required {
            if !fields.contains_key(name) {
                faults.push(Fault {
                    path: self.path_of(path, name),
                    found: "nothing".to_owned(),
                    action: "write the field: it is required".to_owned(),
                });
            }
        }
        for (name, value) in fields {
            if let Some(schema) = self.field(name) {
                schema.compare_at(&self.path_of(path, name), value, faults);
            }
        }
    }

    /// What should stand where a value of another type stands.
    fn mistyped(&self, value: &Value) -> Option<&'static str> {
        if self.int_or_string {
            let fits = value.is_string() || is_whole(value);
            return (!fits).then_some("a whole number or a text");
        }
        let (fits, wanted) = match self.kind? {
            Kind::Object => (value.is_object(), "a map"),
            Kind::Array => (value.is_array(), "a list"),
            Kind::String => (
                value.is_string(),
                "a text (in quotes if it looks otherwise)",
            ),
            Kind::Boolean => (value.is_boolean(), "true or false"),
            Kind::Integer => (is_whole(value), "a whole number"),
            Kind::Number => (value.is_number(), "a number"),
        };
        (!fits).then_some(wanted)
    }

    fn compare_text(&self, text: &str, blame: &mut impl FnMut(String, String)) {
        let length = text.chars().count();
        if let Some(action) = outside(length, (self.min_length, self.max_length), "character") {
            blame(counted(length, "character"), action);
            return;
        }
        let found = || quote(&Value::from(text));
        if let Some(pattern) = self.pattern.as_ref().filter(|p| !p.0.is_match(text)) {
            blame(found(), format!("write what matches {}", pattern.0));
        }
        let timed = self.format.as_deref() == Some("date-time");
        if timed && text.parse::<jiff::Timestamp>().is_err() {
            blame(
                found(),
                "write a time such as 2006-01-02T15:04:05Z".to_owned(),
            );
        }
    }

    fn compare_number(&self, number: &Number, blame: &mut impl FnMut(String, String)) {
        let Some(value) = number.as_f64() else {
            return;
        };
        let low = self
            .minimum
            .is_some_and(|least| value < least || (self.exclusive_minimum && value <= least));
        let high = self
            .maximum
            .is_some_and(|most| value > most || (self.exclusive_maximum && value >= most));
        if low || high {
            let action = match (self.minimum, self.maximum) {
                (Some(least), Some(most)) => format!("write a number from {least} to {most}"),
                (Some(least), None) => format!("write a number from {least}"),
                (None, Some(most)) => format!("write a number up to {most}"),
                (None, None) => return,
            };
            blame(number.to_string(), action);
        }
    }

    fn compare_branches(&self, value: &Value, blame: &mut impl FnMut(String, String)) {
        let holds = |schema: &&Self| schema.compare(value).is_empty();
        if !self.one_of.is_empty() {
            let meant = self.one_of.iter().filter(holds).count();
            if meant != 1 {
                let sets: Vec<String> = self.one_of.iter().map(Self::describe).collect();
                let action = format!("write exactly one of: {}", sets.join(" | "));
                blame(self.given(value), action);
            }
        }
        if !self.any_of.is_empty() && !self.any_of.iter().any(|schema| holds(&schema)) {
            let sets: Vec<String> = self.any_of.iter().map(Self::describe).collect();
            blame(
                self.given(value),
                format!("write one of: {}", sets.join(" | ")),
            );
        }
        for schema in &self.all_of {
            for fault in schema.compare(value) {
                blame(fault.found, fault.action);
            }
        }
        if self.not.as_deref().is_some_and(|schema| holds(&schema)) {
            blame(quote(value), "write something else".to_owned());
        }
    }

    /// A branch of `oneOf` or `anyOf`, in words.
    fn describe(&self) -> String {
        self.required.join(" + ")
    }

    /// Which of the fields that the branches of `oneOf` and `anyOf` ask for are there.
    fn given(&self, value: &Value) -> String {
        let mut names: Vec<&str> = Vec::new();
        for branch in self.one_of.iter().chain(&self.any_of) {
            for name in &branch.required {
                if value.get(name).is_some() && !names.contains(&name.as_str()) {
                    names.push(name);
                }
            }
        }
        if names.is_empty() {
            "none of the fields".to_owned()
        } else {
            names.join(" + ")
        }
    }
}

/// What to do about a count that is out of bounds.
fn outside(count: usize, bounds: (Option<usize>, Option<usize>), of: &str) -> Option<String> {
    let (least, most) = bounds;
    if let Some(least) = least.filter(|least| count < *least) {
        return Some(format!("write at least {}", counted(least, of)));
    }
    let most = most.filter(|most| count > *most)?;
    Some(format!("write at most {}", counted(most, of)))
}

/// A count in words.
fn counted(count: usize, of: &str) -> String {
    match count {
        0 => "nothing".to_owned(),
        1 => format!("1 {of}"),
        more => format!("{more} {of}s"),
    }
}

/// Whether a value is a number without fraction, as JSON Schema counts.
fn is_whole(value: &Value) -> bool {
    value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|n| n.fract() == 0.0)
}

/// A value as a fault repeats it: JSON, cut off when long.
fn quote(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

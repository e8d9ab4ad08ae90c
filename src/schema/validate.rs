//! Comparing values with the keywords of a schema.

use serde_json::{Map, Value};

use super::path::Path;
use super::{Checks, Merge, Reason, Schema, Type, Violation, formats, quote};

impl Schema {
    /// Lists where an object does not have the shape that the schema describes. What has not
    /// changed since `old` is not looked at again.
    pub fn misfits(&self, object: &Value, old: Option<&Value>) -> Vec<Violation> {
        let mut found = Vec::new();
        self.compare(object, old, Path::ROOT, &mut found);
        found
    }

    fn compare(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: Path<'_>,
        found: &mut Vec<Violation>,
    ) {
        if old == Some(value) || (value.is_null() && self.nullable) {
            return;
        }
        if !self.ty.admits(value) {
            let action = format!("write {}", self.ty.words());
            let mut mistyped = Violation::at(path, Reason::Type, quote(value), action);
            if let Some(checks) = &self.checks {
                checks.compare_branches(value, path, &mut mistyped.within);
            }
            found.push(mistyped);
            return;
        }
        if let Some(checks) = &self.checks {
            checks.compare(value, path, found);
        }
        match value {
            Value::Object(fields) => self.compare_fields(fields, old, path, found),
            Value::Array(items) => self.compare_items(items, old, path, found),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn compare_fields(
        &self,
        fields: &Map<String, Value>,
        old: Option<&Value>,
        path: Path<'_>,
        found: &mut Vec<Violation>,
    ) {
        for name in &self.required {
            if !fields.contains_key(name) {
                let action = "write the field: it is required";
                let path = self.entry(&path, name);
                found.push(Violation::at(path, Reason::Required, "nothing", action));
            }
        }
        for (name, value) in fields {
            // Every object has these, and they are looked at elsewhere.
            if path.is_root() && matches!(name.as_str(), "metadata" | "apiVersion" | "kind") {
                continue;
            }
            if let Some(schema) = self.field(name) {
                let before = old.and_then(|old| old.get(name));
                schema.compare(value, before, self.entry(&path, name), found);
            }
        }
    }

    fn compare_items(
        &self,
        items: &[Value],
        old: Option<&Value>,
        path: Path<'_>,
        found: &mut Vec<Violation>,
    ) {
        for (index, item) in items.iter().enumerate() {
            if let Some(schema) = &self.items {
                let before = self.old_item(old, item, index);
                schema.compare(item, before, path.item(index), found);
            }
        }
        let same = |one: &Value, other: &Value| match &self.merge {
            Merge::Keys(keys) => keys.iter().all(|key| one[key] == other[key]),
            Merge::Granular => one == other,
            Merge::Atomic => false,
        };
        for (index, item) in items.iter().enumerate() {
            if items.iter().take(index).any(|other| same(item, other)) {
                let path = path.item(index);
                let action = "keep one of those that are equal";
                found.push(Violation::at(path, Reason::Duplicate, quote(item), action));
            }
        }
    }

    /// The item of the stored list that an item continues: by its keys where the list has them.
    pub(super) fn old_item<'a>(
        &self,
        old: Option<&'a Value>,
        item: &Value,
        index: usize,
    ) -> Option<&'a Value> {
        let items = old?.as_array()?;
        match &self.merge {
            Merge::Keys(keys) => items
                .iter()
                .find(|old| keys.iter().all(|key| old[key] == item[key])),
            Merge::Atomic | Merge::Granular => items.get(index).filter(|old| *old == item),
        }
    }
}

impl Type {
    /// Whether a value is of this type, as a schema of a custom resource counts.
    fn admits(self, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::Object => value.is_object(),
            Self::Array => value.is_array(),
            Self::String | Self::Bytes | Self::Time => value.is_string(),
            Self::Boolean => value.is_boolean(),
            Self::Integer => is_whole(value),
            Self::Number => value.is_number(),
            Self::IntOrString => value.is_string() || is_whole(value),
            Self::Quantity => value.is_string() || value.is_number(),
        }
    }

    /// What stands there, in words.
    pub(super) fn words(self) -> &'static str {
        match self {
            Self::Any => "anything",
            Self::Object => "a map",
            Self::Array => "a list",
            Self::String => "a text (in quotes if it looks otherwise)",
            Self::Bytes => "a text in base64",
            Self::Integer => "a whole number",
            Self::Number => "a number",
            Self::Boolean => "true or false",
            Self::IntOrString => "a whole number or a text",
            Self::Quantity => "a quantity such as 500m or 1Gi",
            Self::Time => "a time such as 2006-01-02T15:04:05Z",
        }
    }
}

impl Checks {
    fn compare(&self, value: &Value, path: Path<'_>, found: &mut Vec<Violation>) {
        let mut blame = |reason, what: String, action: String| {
            found.push(Violation::at(path, reason, what, action));
        };
        if !self.one_of_values.is_empty() && !self.one_of_values.contains(value) {
            let allowed: Vec<String> = self.one_of_values.iter().map(quote).collect();
            let action = format!("write one of {}", allowed.join(", "));
            blame(Reason::Unsupported, quote(value), action);
        }
        match value {
            Value::String(text) => self.compare_text(text, value, &mut blame),
            Value::Number(_) => self.compare_number(value, &mut blame),
            Value::Array(items) => {
                compare_count(items.len(), self.items, "item", Reason::TooMany, &mut blame);
                let twice =
                    |(index, item)| items.iter().take(index).any(|other: &Value| other == item);
                if self.unique && items.iter().enumerate().any(twice) {
                    let action = "keep one of those that are equal".to_owned();
                    blame(Reason::Invalid, quote(value), action);
                }
            }
            Value::Object(fields) => {
                let bounds = self.properties;
                compare_count(fields.len(), bounds, "field", Reason::TooMany, &mut blame);
            }
            Value::Null | Value::Bool(_) => {}
        }
        self.compare_branches(value, path, found);
    }

    fn compare_text(
        &self,
        text: &str,
        value: &Value,
        blame: &mut impl FnMut(Reason, String, String),
    ) {
        let length = text.chars().count();
        let fits = compare_count(length, self.length, "character", Reason::TooLong, blame);
        if let Some(pattern) = self.pattern.as_ref().filter(|p| fits && !p.is_match(text)) {
            let action = format!("write what matches {pattern}");
            blame(Reason::Invalid, quote(value), action);
        }
        if let Some(format) = self.format.as_ref().filter(|f| !formats::fits(f, text)) {
            let action = match format.as_str() {
                "date-time" => format!("write {}", Type::Time.words()),
                other => format!("write a text of the format {other}"),
            };
            blame(Reason::Type, quote(value), action);
        }
    }

    fn compare_number(&self, value: &Value, blame: &mut impl FnMut(Reason, String, String)) {
        let Some(number) = value.as_f64() else {
            return;
        };
        let low = self
            .minimum
            .is_some_and(|(least, open)| number < least || (open && number <= least));
        let high = self
            .maximum
            .is_some_and(|(most, open)| number > most || (open && number >= most));
        if low || high {
            let action = match (self.minimum, self.maximum) {
                (Some((least, _)), Some((most, _))) => {
                    format!("write a number from {least} to {most}")
                }
                (Some((least, _)), None) => format!("write a number from {least}"),
                (None, Some((most, _))) => format!("write a number up to {most}"),
                (None, None) => return,
            };
            blame(Reason::Invalid, value.to_string(), action);
        }
        if let Some(step) = self
            .multiple_of
            .filter(|step| (number / step).fract() != 0.0)
        {
            let action = format!("write a multiple of {step}");
            blame(Reason::Invalid, value.to_string(), action);
        }
    }

    /// The combining keywords. Where no branch fits, a server tells the faults of the nearest too.
    fn compare_branches(&self, value: &Value, path: Path<'_>, found: &mut Vec<Violation>) {
        let faults_of = |branch: &Schema| {
            let mut found = Vec::new();
            branch.compare(value, None, path, &mut found);
            found
        };
        let all = |branches: &[Schema]| branches.iter().map(faults_of).collect::<Vec<_>>();
        let mut blame = |what: String, action: String, within| {
            let combination = Violation::at(path, Reason::Combination, what, action);
            found.push(Violation {
                within,
                ..combination
            });
        };
        for faults in all(&self.all_of) {
            if let Some(first) = faults.first().map(|first| first.fault.clone()) {
                blame(first.found, first.action, faults);
            }
        }
        let any = all(&self.any_of);
        if !any.is_empty() && any.iter().all(|faults| !faults.is_empty()) {
            let action = format!("write one of: {}", choices(&self.any_of));
            blame(self.given(value), action, nearest(any));
        }
        let one = all(&self.one_of);
        let fitting = one.iter().filter(|faults| faults.is_empty()).count();
        if !one.is_empty() && fitting != 1 {
            let action = format!("write exactly one of: {}", choices(&self.one_of));
            blame(self.given(value), action, nearest(one));
        }
        if self
            .not
            .as_ref()
            .is_some_and(|not| faults_of(not).is_empty())
        {
            blame(quote(value), "write something else".to_owned(), Vec::new());
        }
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

/// The faults of the branch that fits best; none when one fits.
fn nearest(branches: Vec<Vec<Violation>>) -> Vec<Violation> {
    let nearest = branches.into_iter().min_by_key(Vec::len);
    nearest.unwrap_or_default()
}

/// The branches of `oneOf` or `anyOf`, in words.
fn choices(branches: &[Schema]) -> String {
    let words = branches.iter().map(|branch| branch.required.join(" + "));
    words.collect::<Vec<_>>().join(" | ")
}

/// Blames a count that is out of bounds, and says whether it is not.
fn compare_count(
    count: usize,
    (least, most): (Option<u64>, Option<u64>),
    of: &str,
    above: Reason,
    blame: &mut impl FnMut(Reason, String, String),
) -> bool {
    let found = count as u64;
    let (reason, action) = if let Some(most) = most.filter(|most| found > *most) {
        (above, format!("write at most {}", counted(most, of)))
    } else if let Some(least) = least.filter(|least| found < *least) {
        let action = format!("write at least {}", counted(least, of));
        (Reason::Invalid, action)
    } else {
        return true;
    };
    blame(reason, counted(found, of), action);
    false
}

/// A count in words.
fn counted(count: u64, of: &str) -> String {
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

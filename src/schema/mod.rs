//! Schemas of Kubernetes objects, and what an API server does with them.
//!
//! One schema type serves built-in kinds ([`builtin`]) and custom resources ([`Schema::read`]). On
//! entry, unknown fields are dropped and defaults filled in ([`Schema::settle`]); then values are
//! compared with the schema and its CEL rules evaluated, in the order and with the results of a
//! server. The server in memory (`sim::server`) answers with what is found here, in the words of a
//! server; [`Schema::admit`] says it to the owner of a manifest. Both are held to a real server.

mod builtin;
mod decode;
pub mod formats;
pub mod metadata;
pub mod names;
pub mod path;
mod quantity;
mod read;
mod rules;
mod settle;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, LazyLock};

use serde_json::Value;

pub use builtin::builtin;
pub use decode::{blank_builtin, decode_builtin};
pub use rules::Rule;
pub use settle::plain_numbers;

use path::Path;

/// One thing that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The field, for example `spec.analysis.stepWeights[1]`; empty for the whole object.
    pub path: String,
    /// What was found there.
    pub found: String,
    /// What to do about it.
    pub action: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            path,
            found,
            action,
        } = self;
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        write!(f, "found {found}; {action}")
    }
}

impl std::error::Error for Fault {}

/// How a server classes a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The value breaks a rule.
    Invalid,
    /// A field is missing.
    Required,
    /// The field may not be there, or not change.
    Forbidden,
    /// The value is not among those that are allowed.
    Unsupported,
    /// An item is there twice.
    Duplicate,
    /// A text has too many characters.
    TooLong,
    /// A list or map has too many entries.
    TooMany,
    /// The value has a wrong type or format.
    Type,
    /// The branches of a combining keyword do not fit; a server names no field then.
    Combination,
}

/// A fault as a server sees it.
#[derive(Clone, Debug)]
pub struct Violation {
    /// What is said to people.
    pub fault: Fault,
    /// The field as servers spell it in a cause.
    pub field: String,
    /// Its class.
    pub reason: Reason,
    /// What a server says beside it: the faults of the branch that fits best.
    pub within: Vec<Self>,
}

impl Violation {
    /// A violation at a path.
    fn at(
        path: Path<'_>,
        reason: Reason,
        found: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        Self {
            field: format!("{path:#}"),
            reason,
            within: Vec::new(),
            fault: Fault {
                path: path.to_string(),
                found: found.into(),
                action: action.into(),
            },
        }
    }
}

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
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of a field"
)]
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
    /// Rules stand here or below.
    pub ruled: bool,
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

    /// The path of an entry of the value at a path.
    fn entry<'a>(&self, path: &'a Path<'a>, name: &'a str) -> Path<'a> {
        if self.fields.contains_key(name) || self.values.is_none() {
            path.field(name)
        } else {
            path.key(name)
        }
    }

    /// Does what a server does to an object on entry: drops unknown fields, fills in defaults,
    /// and lists what is wrong. Rules are evaluated only when the values have the right shape.
    pub fn admit(&self, object: &mut Value) -> Vec<Fault> {
        match self.settle(object, None) {
            Ok(_) => {
                plain_numbers(object);
                self.validate(object)
            }
            Err(fault) => vec![fault],
        }
    }

    /// Lists what is wrong with an object whose unknown fields are dropped and whose defaults
    /// are filled in.
    pub fn validate(&self, object: &Value) -> Vec<Fault> {
        let mut violations = self.misfits(object, None);
        if violations.is_empty() {
            violations = self.broken_rules(object, None);
        }
        let faults = violations.into_iter().map(|violation| violation.fault);
        faults.collect()
    }
}

/// Most characters of a value that a fault repeats.
const QUOTED: usize = 120;

/// A value as a fault repeats it: JSON, cut off when long.
fn quote(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(QUOTED) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests;

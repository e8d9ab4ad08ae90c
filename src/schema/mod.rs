//! Structural schemas of custom resources: what an API server does to an object on entry.
//!
//! [`Schema::admit`] drops unknown fields, fills in defaults, compares values with the schema and
//! evaluates its CEL rules, in the order and with the results of a server.

pub(crate) mod rules;
mod settle;
mod validate;

use std::{collections::BTreeMap, fmt};

use regex::Regex;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use rules::Rule;

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

/// A structural schema, ready to be applied. Keywords that bind nothing are left out.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "the keywords are booleans of their own"
)]
pub struct Schema {
    #[serde(rename = "type")]
    kind: Option<Kind>,
    properties: BTreeMap<String, Self>,
    additional_properties: Option<Additional>,
    items: Option<Box<Self>>,
    required: Vec<String>,
    #[serde(rename = "enum")]
    allowed: Option<Vec<Value>>,
    pattern: Option<Pattern>,
    format: Option<String>,
    minimum: Option<f64>,
    maximum: Option<f64>,
    exclusive_minimum: bool,
    exclusive_maximum: bool,
    min_length: Option<usize>,
    max_length: Option<usize>,
    min_items: Option<usize>,
    max_items: Option<usize>,
    min_properties: Option<usize>,
    max_properties: Option<usize>,
    one_of: Vec<Self>,
    any_of: Vec<Self>,
    all_of: Vec<Self>,
    not: Option<Box<Self>>,
    nullable: bool,
    #[serde(deserialize_with = "present")]
    default: Option<Value>,
    #[serde(rename = "x-kubernetes-int-or-string")]
    int_or_string: bool,
    #[serde(rename = "x-kubernetes-preserve-unknown-fields")]
    preserve_unknown_fields: bool,
    #[serde(rename = "x-kubernetes-embedded-resource")]
    embedded_resource: bool,
    #[serde(rename = "x-kubernetes-validations")]
    rules: Vec<Rule>,
}

/// The type of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Object,
    Array,
    String,
    Boolean,
    Integer,
    Number,
}

/// The schema of fields that are not named.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Additional {
    Any(bool),
    Like(Box<Schema>),
}

/// A compiled `pattern`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "String")]
struct Pattern(Regex);

impl TryFrom<String> for Pattern {
    type Error = regex::Error;

    fn try_from(text: String) -> Result<Self, regex::Error> {
        Regex::new(&text).map(Self)
    }
}

/// Tells a default of null from no default.
fn present<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(source).map(Some)
}

impl Schema {
    /// Reads the `openAPIV3Schema` of one version of a `CustomResourceDefinition`.
    ///
    /// # Errors
    /// When a keyword has a wrong type, a pattern is no regular expression, or a rule no CEL.
    pub fn read(schema: &Value) -> Result<Self, serde_json::Error> {
        Self::deserialize(schema)
    }

    /// Does what a server does to an object on entry: drops unknown fields, fills in defaults,
    /// and lists what is wrong. Rules are evaluated only when the values have the right shape.
    pub fn admit(&self, object: &mut Value) -> Vec<Fault> {
        self.prune(object);
        self.fill_in(object);
        self.validate(object)
    }

    /// Lists what is wrong with an object whose unknown fields are dropped and whose defaults
    /// are filled in.
    pub fn validate(&self, object: &Value) -> Vec<Fault> {
        let faults = self.compare(object);
        if faults.is_empty() {
            self.judge(object)
        } else {
            faults
        }
    }

    /// The schema of a field.
    fn field(&self, name: &str) -> Option<&Self> {
        self.properties.get(name).or_else(|| self.values())
    }

    /// The schema of the values of a map.
    fn values(&self) -> Option<&Self> {
        match &self.additional_properties {
            Some(Additional::Like(schema)) => Some(schema),
            Some(Additional::Any(_)) | None => None,
        }
    }

    /// Whether fields that no schema describes are kept.
    fn keeps_unknown(&self) -> bool {
        self.preserve_unknown_fields
            || matches!(self.additional_properties, Some(Additional::Any(true)))
    }

    /// The path of a field of the value at a path.
    fn path_of(&self, path: &str, name: &str) -> String {
        if !self.properties.contains_key(name) && self.values().is_some() {
            format!("{path}[{name}]")
        } else if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    }
}

#[cfg(test)]
mod tests;

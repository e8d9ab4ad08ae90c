//! What admission asks of the custom resources beyond their shape.
//!
//! The tables of this module are laid over the schemas that the types give. The API server and
//! `haldane check` read the result, so both refuse the same manifests.

mod analysis;
mod canary;
mod providers;
mod service;

use serde_json::{Map, Value, json};

/// One line of a table: a place in the schema, and what is asked there.
///
/// Places are names joined by `.`; `[]` stands for the items of a list and `{}` for the values of
/// a map.
pub(crate) type Line = (&'static str, &'static [Ask]);

/// Something that is asked of a value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    /// A whole number in these bounds.
    Range(i64, i64),
    /// At least and at most this many characters.
    Length(u32, u32),
    /// At least and at most this many items.
    Items(u32, u32),
    /// At most this many entries of a map.
    Entries(u32),
    /// A text that matches an RE2 expression.
    Pattern(&'static str),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// These fields.
    Fields(&'static [&'static str]),
    /// All fields of exactly one of these sets.
    FieldSets(&'static [&'static [&'static str]]),
    /// No fields but these; others are pruned.
    Only(&'static [&'static str]),
    /// This text when absent.
    Default(&'static str),
    /// A CEL expression that is true.
    Rule(Rule),
}

/// A CEL rule and what it says when it is broken: `found FOUND; ACTION`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// The expression; `self` is the value.
    pub test: &'static str,
    /// What was found.
    pub found: Found,
    /// What to do about it.
    pub action: &'static str,
    /// The field to blame, below the value.
    pub at: Option<&'static str>,
}

/// What a broken rule found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Found {
    /// These words.
    Text(&'static str),
    /// This text, with `%s` for what the CEL expressions give. (Joining texts by `+` would cost
    /// the server too much: it knows no bound for the length of a number.)
    Format(&'static str, &'static str),
}

/// Name of a Kubernetes object.
const NAME: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// Name of a namespace, or nothing.
const NAMESPACE: &str = "^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$";
/// Address of an HTTP server.
const URL: &str = r"^https?://[^\s/]\S*$";
/// Address of an HTTP server, or nothing.
const OPTIONAL_URL: &str = r"^(https?://[^\s/]\S*)?$";
/// Duration, or nothing. What matches can be read by [`duration::parse`](super::duration::parse).
const DURATION: &str = r"^([0-9]{1,9}(\.[0-9]{1,9})?(h|m|s|ms))*$";
/// Interval of checks and metrics.
const INTERVAL: &str = "^([0-9]{1,7}(m|s))+$";

/// The lines for a kind.
pub(crate) fn lines(kind: &str) -> Vec<Line> {
    match kind {
        "Canary" => [canary::LINES, service::LINES, analysis::LINES].concat(),
        "MetricTemplate" => providers::METRIC_TEMPLATE.to_vec(),
        "AlertProvider" => providers::ALERT_PROVIDER.to_vec(),
        _ => Vec::new(),
    }
}

/// Lays lines over a schema. Gives the places that the schema does not have.
pub(crate) fn lay_over(schema: &mut Value, lines: &[Line]) -> Vec<&'static str> {
    let mut missing = Vec::new();
    for (place, asks) in lines {
        match find(schema, place) {
            Some(node) => asks.iter().for_each(|ask| ask.write(node)),
            None => missing.push(*place),
        }
    }
    missing
}

/// The node of a schema at a place.
fn find<'a>(schema: &'a mut Value, place: &str) -> Option<&'a mut Map<String, Value>> {
    let mut node = schema;
    for name in place.split('.') {
        let field = name.trim_end_matches("[]").trim_end_matches("{}");
        node = node.get_mut("properties")?.get_mut(field)?;
        if name.ends_with("[]") {
            node = node.get_mut("items")?;
        } else if name.ends_with("{}") {
            node = node.get_mut("additionalProperties")?;
        }
    }
    node.as_object_mut()
}

impl Ask {
    /// Writes the keywords into a node of a schema.
    fn write(self, node: &mut Map<String, Value>) {
        let mut set = |key: &str, value: Value| {
            node.insert(key.to_owned(), value);
        };
        match self {
            Self::Range(least, most) => {
                set("minimum", json!(least));
                set("maximum", json!(most));
            }
            Self::Length(least, most) => {
                if least > 0 {
                    set("minLength", json!(least));
                }
                set("maxLength", json!(most));
            }
            Self::Items(least, most) => {
                if least > 0 {
                    set("minItems", json!(least));
                }
                set("maxItems", json!(most));
            }
            Self::Entries(most) => set("maxProperties", json!(most)),
            Self::Pattern(pattern) => set("pattern", json!(pattern)),
            Self::OneOf(texts) => set("enum", json!(texts)),
            Self::Fields(names) => set("required", json!(names)),
            Self::FieldSets(sets) => {
                let sets: Vec<Value> = sets.iter().map(|s| json!({"required": s})).collect();
                set("oneOf", json!(sets));
            }
            Self::Only(names) => {
                if let Some(fields) = node.get_mut("properties").and_then(Value::as_object_mut) {
                    fields.retain(|name, _| names.contains(&name.as_str()));
                }
            }
            Self::Default(text) => set("default", json!(text)),
            Self::Rule(rule) => {
                let rules = node
                    .entry("x-kubernetes-validations")
                    .or_insert_with(|| json!([]));
                if let Some(rules) = rules.as_array_mut() {
                    rules.push(rule.to_json());
                }
            }
        }
    }
}

impl Rule {
    /// The rule as the schema spells it.
    fn to_json(self) -> Value {
        let action = self.action;
        let (message, computed) = match self.found {
            Found::Text(found) => (format!("found {found}; {action}"), None),
            Found::Format(found, values) => (
                action.to_owned(),
                Some(format!("'found {found}; {action}'.format([{values}])")),
            ),
        };
        let fields = [
            ("rule", Some(self.test.to_owned())),
            ("message", Some(message)),
            ("messageExpression", computed),
            ("fieldPath", self.at.map(str::to_owned)),
            ("reason", Some("FieldValueInvalid".to_owned())),
        ];
        fields
            .into_iter()
            .filter_map(|(name, text)| Some((name.to_owned(), Value::from(text?))))
            .collect()
    }
}

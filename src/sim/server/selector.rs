//! Label and field selectors.

use serde_json::Value;

use super::error::Refusal;
use super::resource::Resource;
use crate::schema::names::{is_label_key, is_label_value};

/// One term of a selector.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

/// A label selector and a field selector; empty ones match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    labels: Vec<Term>,
    fields: Vec<Term>,
}

impl Selector {
    /// Reads the two query parameters.
    ///
    /// # Errors
    /// 400 for a selector that cannot be read or a field that cannot be selected by.
    pub fn parse(
        labels: &str,
        fields: &str,
        resource: &Resource,
        version: &str,
    ) -> Result<Self, Refusal> {
        let labels = parse_labels(labels)?;
        let fields = parse_fields(fields)?;
        let selectable = resource.version(version).map(|version| &version.selectable);
        for term in &fields {
            let known = term.key == "metadata.name"
                || (term.key == "metadata.namespace" && (resource.namespaced || resource.custom))
                || selectable.is_some_and(|list| list.contains(&term.key));
            if !known {
                return Err(Refusal::bad_request(format!(
                    "field label not supported: {} (resource {}.{})",
                    term.key, resource.plural, resource.group
                )));
            }
        }
        Ok(Self { labels, fields })
    }

    /// True when nothing is asked.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// True when an object matches.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = &object["metadata"]["labels"];
        self.labels.iter().all(|term| {
            term.test
                .holds(labels.get(&term.key).and_then(Value::as_str))
        }) && self.fields.iter().all(|term| {
            let found = field_text(object, &term.key);
            term.test.holds(Some(&found))
        })
    }
}

impl Test {
    fn holds(&self, found: Option<&str>) -> bool {
        match self {
            Self::In(values) => {
                found.is_some_and(|found| values.iter().any(|value| value == found))
            }
            Self::NotIn(values) => {
                !found.is_some_and(|found| values.iter().any(|value| value == found))
            }
            Self::Exists => found.is_some(),
            Self::Absent => found.is_none(),
        }
    }
}

/// The text of the field at a dotted path; empty when absent.
fn field_text(object: &Value, path: &str) -> String {
    let path = match path {
        "source" => "source.component",
        path => path,
    };
    let mut found = object;
    for part in path.split('.') {
        found = &found[part];
    }
    match found {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    }
}

fn parse_fields(text: &str) -> Result<Vec<Term>, Refusal> {
    let mut terms = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (key, value, equal) = match part.split_once("!=") {
            Some((key, value)) => (key, value, false),
            None => match part.split_once("==").or_else(|| part.split_once('=')) {
                Some((key, value)) => (key, value, true),
                None => {
                    return Err(Refusal::bad_request(format!(
                        "invalid selector: '{text}'; can't understand '{part}'"
                    )));
                }
            },
        };
        let values = vec![value.to_owned()];
        terms.push(Term {
            key: key.to_owned(),
            test: if equal {
                Test::In(values)
            } else {
                Test::NotIn(values)
            },
        });
    }
    Ok(terms)
}

fn parse_labels(text: &str) -> Result<Vec<Term>, Refusal> {
    let mut terms = Vec::new();
    let mut depth = 0_i32;
    let parts = text.split(|c| {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        c == ',' && depth == 0
    });
    for part in parts.map(str::trim).filter(|part| !part.is_empty()) {
        terms.push(parse_label(part).ok_or_else(|| {
            Refusal::bad_request(format!(
                "unable to parse requirement: found '{part}' in label selector"
            ))
        })?);
    }
    Ok(terms)
}

fn parse_label(part: &str) -> Option<Term> {
    let term = |key: &str, test| {
        let key = key.trim();
        is_label_key(key).then(|| Term {
            key: key.to_owned(),
            test,
        })
    };
    if let Some(key) = part.strip_prefix('!') {
        return term(key, Test::Absent);
    }
    if let Some(open) = part.find('(') {
        let list = part.get(open + 1..)?.strip_suffix(')')?;
        let values = list
            .split(',')
            .map(|value| value.trim().to_owned())
            .collect();
        let mut head = part.get(..open)?.split_whitespace();
        let (key, operator) = (head.next()?, head.next()?);
        return match (operator, head.next()) {
            ("in", None) => term(key, Test::In(values)),
            ("notin", None) => term(key, Test::NotIn(values)),
            _ => None,
        };
    }
    let one = |value: &str| {
        let value = value.trim();
        is_label_value(value).then(|| vec![value.to_owned()])
    };
    if let Some((key, value)) = part.split_once("!=") {
        return term(key, Test::NotIn(one(value)?));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return term(key, Test::In(one(value)?));
    }
    term(part, Test::Exists)
}

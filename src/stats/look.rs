//! What the judge is shown after each scrape.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// One look: every metric's numbers since the previous look, both sides read at the same time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Look {
    /// When, in seconds.
    #[serde(serialize_with = "super::finding::whole")]
    pub t: f64,
    /// Seconds since the previous look.
    #[serde(default, deserialize_with = "or_default")]
    pub dt: f64,
    /// The step of the release; another step than before starts new pass evidence.
    #[serde(default)]
    pub step: StepId,
    /// w', the canary's share of traffic after this step, in (0, 1]; anything else counts as 1,
    /// which is promotion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<f64>,
    /// Whether over a fifth of the canary's ready pods are younger than 60 s.
    #[serde(default, deserialize_with = "or_default")]
    pub cold: bool,
    /// The numbers, by metric name. A metric that is missing showed nothing.
    #[serde(default, deserialize_with = "or_default")]
    pub metrics: BTreeMap<String, Reading>,
}

/// Names a step: a number or a text, echoed in the result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StepId {
    /// By index.
    Index(i64),
    /// By name.
    Name(String),
}

impl Default for StepId {
    fn default() -> Self {
        Self::Index(0)
    }
}

/// One metric's numbers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Reading {
    /// Histograms: the upper boundaries of the buckets without +Inf, ascending. Empty otherwise.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub le: Vec<f64>,
    /// The primary's numbers.
    #[serde(skip_serializing_if = "Side::is_absent")]
    pub primary: Side,
    /// The canary's numbers.
    #[serde(skip_serializing_if = "Side::is_absent")]
    pub canary: Side,
}

/// One side's numbers, as they came: what is not a number where one should be is NaN, and is
/// taken as absent by whoever uses it.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Side {
    /// Nothing could be read.
    #[default]
    Absent,
    /// A scalar.
    Scalar(f64),
    /// Increments since the previous look: `[requests, bad]`, or cumulative bucket counts with
    /// the total last.
    Increments(Vec<f64>),
    /// The same as raw cumulative counters, by series.
    Counters(BTreeMap<String, Vec<f64>>),
}

impl Side {
    /// Whether nothing could be read.
    pub fn is_absent(&self) -> bool {
        *self == Self::Absent
    }

    fn from_json(value: &Value) -> Self {
        match value {
            Value::Number(_) => Self::Scalar(number(value)),
            Value::Array(items) => Self::Increments(numbers(items)),
            Value::Object(series) => {
                let series = series.iter().map(|(name, value)| {
                    let items = value.as_array().map_or(&[][..], Vec::as_slice);
                    (name.clone(), numbers(items))
                });
                Self::Counters(series.collect())
            }
            Value::Null | Value::Bool(_) | Value::String(_) => Self::Absent,
        }
    }
}

impl Serialize for Side {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Absent => to.serialize_none(),
            Self::Scalar(value) => value.serialize(to),
            Self::Increments(values) => values.serialize(to),
            Self::Counters(series) => series.serialize(to),
        }
    }
}

/// Reads any JSON: a server's nonsense is missing data, not an error.
impl<'de> Deserialize<'de> for Reading {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(from)?;
        let side = |key: &str| value.get(key).map_or(Side::Absent, Side::from_json);
        let le = value
            .get("le")
            .and_then(Value::as_array)
            .map_or_else(Vec::new, |items| numbers(items));
        Ok(Self {
            le,
            primary: side("primary"),
            canary: side("canary"),
        })
    }
}

fn numbers(items: &[Value]) -> Vec<f64> {
    items.iter().map(number).collect()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// Null counts as missing.
fn or_default<'de, D, T>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reading_of_nonsense_is_absent() {
        for json in ["null", "7", "[]", r#"{"primary":"x","canary":true}"#] {
            let reading: Reading = serde_json::from_str(json).unwrap();
            assert_eq!(reading, Reading::default(), "{json}");
        }
    }

    #[test]
    fn look_with_nulls_is_one_that_lacks_them() {
        let nulls = r#"{"t":1,"dt":null,"next":null,"cold":null,"metrics":null}"#;
        let nulls: Look = serde_json::from_str(nulls).unwrap();
        assert_eq!(nulls, serde_json::from_str(r#"{"t":1}"#).unwrap());
    }

    #[test]
    fn look_with_counters_round_trips() {
        let json = r#"{"t":15,"dt":15.0,"step":"5%","cold":false,"metrics":{"e":{"primary":{"a":[1.0,0.0]},"canary":[2.0,1.0]}}}"#;
        let look: Look = serde_json::from_str(json).unwrap();
        assert_eq!(serde_json::to_string(&look).unwrap(), json);
    }
}

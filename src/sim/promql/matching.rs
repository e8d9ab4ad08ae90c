//! Operators between two values, and which series of two vectors belong together.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    PromqlError,
    eval::{Labels, Value},
    parse::{Many, Matching},
};

/// An operator between two values.
///
/// # Errors
/// When the values do not go together.
pub fn binary(
    operator: &str,
    boolean: bool,
    matching: &Matching,
    left: Value,
    right: Value,
) -> Result<Value, PromqlError> {
    if matches!(operator, "or" | "and" | "unless") {
        return sets(operator, matching, left, right);
    }
    let comparison = matches!(operator, "==" | "!=" | ">=" | "<=" | ">" | "<");
    let compute = |a: f64, b: f64| compute(operator, a, b);
    // A comparison between vectors keeps the left value where it holds.
    let keep = |a: f64, result: f64| match (comparison, boolean) {
        (false, _) | (true, true) => Some(result),
        (true, false) => (result > 0.0).then_some(a),
    };
    let nameless = |mut labels: Labels| {
        if !comparison || boolean {
            labels.remove("__name__");
        }
        labels
    };
    match (left, right) {
        (Value::Scalar(_), Value::Scalar(_)) if comparison && !boolean => Err(PromqlError(
            "comparisons between numbers must use the word bool".to_owned(),
        )),
        (Value::Scalar(a), Value::Scalar(b)) => Ok(Value::Scalar(compute(a, b))),
        (Value::Vector(vector), Value::Scalar(b)) => Ok(Value::Vector(
            vector
                .into_iter()
                .filter_map(|(labels, a)| Some((nameless(labels), keep(a, compute(a, b))?)))
                .collect(),
        )),
        (Value::Scalar(a), Value::Vector(vector)) => Ok(Value::Vector(
            vector
                .into_iter()
                .filter_map(|(labels, b)| Some((nameless(labels), keep(b, compute(a, b))?)))
                .collect(),
        )),
        (Value::Vector(left), Value::Vector(right)) => {
            let pairs = matching.pairs(left, right)?;
            let results = pairs.into_iter().filter_map(|pair| {
                let value = keep(pair.left, compute(pair.left, pair.right))?;
                Some((nameless(pair.labels), value))
            });
            Ok(Value::Vector(unique(results.collect())?))
        }
        (Value::Ranges, _) | (_, Value::Ranges) => {
            Err(PromqlError("expected a vector, found a range".to_owned()))
        }
    }
}

/// Two values that belong together, and the labels of what they come to.
struct Pair {
    labels: Labels,
    left: f64,
    right: f64,
}

fn ambiguous() -> PromqlError {
    PromqlError("series match more than one another".to_owned())
}

/// No two series have the same labels.
fn unique(vector: Vec<(Labels, f64)>) -> Result<Vec<(Labels, f64)>, PromqlError> {
    let labels: BTreeSet<&Labels> = vector.iter().map(|(labels, _)| labels).collect();
    if labels.len() < vector.len() {
        return Err(ambiguous());
    }
    Ok(vector)
}

impl Matching {
    /// The values of the two sides that belong together.
    fn pairs(
        &self,
        left: Vec<(Labels, f64)>,
        right: Vec<(Labels, f64)>,
    ) -> Result<Vec<Pair>, PromqlError> {
        // Where one side has nothing, the other is not even looked at.
        if left.is_empty() || right.is_empty() {
            return Ok(Vec::new());
        }
        let turned = self.many.as_ref().is_some_and(|many| !many.left);
        let (many, one) = if turned { (right, left) } else { (left, right) };
        let mut others: BTreeMap<Labels, (Labels, f64)> = BTreeMap::new();
        for (labels, value) in one {
            if others.insert(self.key(&labels), (labels, value)).is_some() {
                return Err(ambiguous());
            }
        }
        let (mut matched, mut pairs) = (BTreeSet::new(), Vec::new());
        for (labels, a) in many {
            let key = self.key(&labels);
            let Some((other, b)) = others.get(&key) else {
                continue;
            };
            if !matched.insert(key) && self.many.is_none() {
                return Err(ambiguous());
            }
            let (left, right) = if turned { (*b, a) } else { (a, *b) };
            pairs.push(Pair {
                labels: self.result(labels, other),
                left,
                right,
            });
        }
        Ok(pairs)
    }

    /// What has to be the same in series that belong together.
    fn key(&self, labels: &Labels) -> Labels {
        let mut key = labels.clone();
        key.retain(|label, _| &**label != "__name__" && self.labels.contains(label) == self.on);
        key
    }

    /// The labels of a result: of the side that may have many, or those that were compared.
    fn result(&self, mut labels: Labels, one: &Labels) -> Labels {
        let Some(Many { taken, .. }) = &self.many else {
            labels.retain(|label, _| {
                &**label == "__name__" && !self.on || self.labels.contains(label) == self.on
            });
            return labels;
        };
        for label in taken {
            match one.get(label) {
                Some(value) => labels.insert(label.clone(), value.clone()),
                None => labels.remove(label),
            };
        }
        labels
    }
}

/// Series by whether the other side has ones that belong to them.
fn sets(
    operator: &str,
    matching: &Matching,
    left: Value,
    right: Value,
) -> Result<Value, PromqlError> {
    let (Value::Vector(mut left), Value::Vector(right)) = (left, right) else {
        return Err(PromqlError(format!("{operator} is between vectors only")));
    };
    let keys = |vector: &[(Labels, f64)]| -> BTreeSet<Labels> {
        vector
            .iter()
            .map(|(labels, _)| matching.key(labels))
            .collect()
    };
    let (on_left, on_right) = (keys(&left), keys(&right));
    match operator {
        "and" => left.retain(|(labels, _)| on_right.contains(&matching.key(labels))),
        "unless" => left.retain(|(labels, _)| !on_right.contains(&matching.key(labels))),
        _ => left.extend(
            right
                .into_iter()
                .filter(|(labels, _)| !on_left.contains(&matching.key(labels))),
        ),
    }
    Ok(Value::Vector(left))
}

#[allow(clippy::float_cmp, reason = "as Prometheus compares")]
fn compute(operator: &str, a: f64, b: f64) -> f64 {
    let truth = |holds: bool| f64::from(u8::from(holds));
    match operator {
        "+" => a + b,
        "-" => a - b,
        "*" => a * b,
        "/" => a / b,
        "%" => a % b,
        "==" => truth(a == b),
        "!=" => truth(a != b),
        ">=" => truth(a >= b),
        "<=" => truth(a <= b),
        ">" => truth(a > b),
        "<" => truth(a < b),
        _ => f64::NAN,
    }
}

//! Expressions become values, as Prometheus computes them.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::{
    Expression, PromqlError,
    matching::binary,
    parse::{Matcher, parse},
};

/// Labels of a series, `__name__` among them.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// A series: its labels and its samples in order of time (milliseconds since 1970). NaN marks
/// where the series ended.
#[derive(Clone, Debug, Default)]
pub struct Series {
    /// The labels.
    pub labels: Arc<Labels>,
    /// Times and values.
    pub samples: Vec<(i64, f64)>,
}

/// What an expression comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A number.
    Scalar(f64),
    /// One value per series.
    Vector(Vec<(Labels, f64)>),
    /// A range of values per series.
    Ranges,
}

/// How far back the latest value of a series may lie.
const LOOK_BACK: i64 = 300_000;

/// Answers a query at a time, in milliseconds since 1970.
///
/// # Errors
/// When the query is no PromQL, or more of it than is understood here.
pub fn evaluate(query: &str, series: &[Series], at: i64) -> Result<Value, PromqlError> {
    Evaluation { series, at }.value(&parse(query)?)
}

/// Most steps of a subquery.
const MOST_STEPS: i64 = 11_000;

/// Samples by series, and the end and length of their range in milliseconds.
type Ranges = (Vec<(Labels, Vec<(i64, f64)>)>, (i64, i64));

struct Evaluation<'a> {
    series: &'a [Series],
    at: i64,
}

impl Evaluation<'_> {
    fn value(&self, expression: &Expression) -> Result<Value, PromqlError> {
        match expression {
            Expression::Number(number) => Ok(Value::Scalar(*number)),
            Expression::Selector { range: Some(_), .. } | Expression::Subquery { .. } => {
                Ok(Value::Ranges)
            }
            Expression::Selector {
                matchers, offset, ..
            } => {
                let at = self.at - millis(*offset);
                let latest = |series: &Series| {
                    let end = series.samples.partition_point(|(time, _)| *time <= at);
                    let (time, value) = *series.samples.get(end.checked_sub(1)?)?;
                    (time > at - LOOK_BACK && !value.is_nan())
                        .then(|| ((*series.labels).clone(), value))
                };
                Ok(Value::Vector(
                    self.selected(matchers).filter_map(latest).collect(),
                ))
            }
            Expression::Call(name, arguments) => self.call(name, arguments),
            Expression::Aggregate {
                operation,
                labels,
                without,
                inner,
            } => {
                let inner = self.vector(inner)?;
                Ok(Value::Vector(aggregate(operation, labels, *without, inner)))
            }
            Expression::Binary {
                operator,
                boolean,
                matching,
                left,
                right,
            } => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                binary(operator, *boolean, matching, left, right)
            }
        }
    }

    fn selected(&self, matchers: &[Matcher]) -> impl Iterator<Item = &Series> {
        self.series.iter().filter(|series| {
            matchers.iter().all(|matcher| {
                let value = series.labels.get(&matcher.label);
                matcher.fits(value.map_or("", |value| value))
            })
        })
    }

    fn vector(&self, expression: &Expression) -> Result<Vec<(Labels, f64)>, PromqlError> {
        match self.value(expression)? {
            Value::Vector(vector) => Ok(vector),
            Value::Scalar(_) => Err(PromqlError("expected a vector, found a number".to_owned())),
            Value::Ranges => Err(PromqlError("expected a vector, found a range".to_owned())),
        }
    }

    fn scalar(&self, expression: &Expression) -> Result<f64, PromqlError> {
        match self.value(expression)? {
            Value::Scalar(number) => Ok(number),
            Value::Vector(_) | Value::Ranges => Err(PromqlError("expected a number".to_owned())),
        }
    }

    /// Samples over a range, and where it ends and how long it is, in milliseconds.
    fn ranges(&self, expression: &Expression) -> Result<Ranges, PromqlError> {
        match expression {
            Expression::Selector {
                matchers,
                range: Some(range),
                offset,
            } => {
                let (end, length) = (self.at - millis(*offset), millis(*range));
                let window = |series: &Series| {
                    let from = series.samples.partition_point(|(t, _)| *t <= end - length);
                    let to = series.samples.partition_point(|(t, _)| *t <= end);
                    let samples = series.samples.get(from..to).unwrap_or_default();
                    let samples = samples.iter().copied().filter(|(_, value)| !value.is_nan());
                    ((*series.labels).clone(), samples.collect())
                };
                let found = self.selected(matchers).map(window);
                Ok((found.collect(), (end, length)))
            }
            Expression::Subquery {
                inner,
                range,
                step,
                offset,
            } => {
                let (end, length) = (self.at - millis(*offset), millis(*range));
                let step = millis(*step).max(1);
                if length / step > MOST_STEPS {
                    return Err(PromqlError(format!("more than {MOST_STEPS} steps")));
                }
                let mut found: BTreeMap<Labels, Vec<(i64, f64)>> = BTreeMap::new();
                // Steps are at whole multiples of their length.
                let mut at = (end - length).div_euclid(step) * step + step;
                while at <= end {
                    let then = Evaluation {
                        series: self.series,
                        at,
                    };
                    let values = match then.value(inner)? {
                        Value::Scalar(value) => vec![(Labels::new(), value)],
                        Value::Vector(vector) => vector,
                        Value::Ranges => {
                            return Err(PromqlError("expected a vector, found a range".to_owned()));
                        }
                    };
                    for (labels, value) in values {
                        found.entry(labels).or_default().push((at, value));
                    }
                    at += step;
                }
                Ok((found.into_iter().collect(), (end, length)))
            }
            Expression::Number(_)
            | Expression::Selector { .. }
            | Expression::Call(..)
            | Expression::Aggregate { .. }
            | Expression::Binary { .. } => Err(PromqlError("expected a range".to_owned())),
        }
    }

    fn call(&self, name: &str, arguments: &[Expression]) -> Result<Value, PromqlError> {
        match (name, arguments) {
            ("histogram_quantile", [quantile, buckets]) => {
                let quantile = self.scalar(quantile)?;
                Ok(Value::Vector(quantiles(quantile, self.vector(buckets)?)))
            }
            ("vector", [number]) => Ok(Value::Vector(vec![(Labels::new(), self.scalar(number)?)])),
            ("scalar", [inner]) => Ok(Value::Scalar(match self.vector(inner)?.as_slice() {
                [(_, value)] => *value,
                _ => f64::NAN,
            })),
            ("absent", [inner]) => Ok(Value::Vector(if self.vector(inner)?.is_empty() {
                vec![(told(inner), 1.0)]
            } else {
                Vec::new()
            })),
            ("clamp_min" | "clamp_max", [inner, bound]) => {
                let (mut vector, bound) = (self.vector(inner)?, self.scalar(bound)?);
                for (labels, value) in &mut vector {
                    labels.remove("__name__");
                    // What is not a number makes the result none.
                    *value = match name {
                        _ if value.is_nan() || bound.is_nan() => f64::NAN,
                        "clamp_min" => value.max(bound),
                        _ => value.min(bound),
                    };
                }
                Ok(Value::Vector(vector))
            }
            ("abs" | "ceil" | "floor" | "sqrt", [inner]) => {
                let mut vector = self.vector(inner)?;
                for (labels, value) in &mut vector {
                    labels.remove("__name__");
                    *value = match name {
                        "abs" => value.abs(),
                        "ceil" => value.ceil(),
                        "floor" => value.floor(),
                        _ => value.sqrt(),
                    };
                }
                Ok(Value::Vector(vector))
            }
            ("absent_over_time", [inner]) => {
                let (ranges, _) = self.ranges(inner)?;
                let some = ranges.iter().any(|(_, samples)| !samples.is_empty());
                let absent = (!some).then(|| (told(inner), 1.0));
                Ok(Value::Vector(absent.into_iter().collect()))
            }
            (
                name,
                [
                    inner @ (Expression::Selector { range: Some(_), .. }
                    | Expression::Subquery { .. }),
                ],
            ) => {
                let over = over_time(name)?;
                let (ranges, (end, length)) = self.ranges(inner)?;
                let value = |(mut labels, samples): (Labels, Vec<(i64, f64)>)| {
                    if name != "last_over_time" {
                        labels.remove("__name__");
                    }
                    Some((labels, over(&samples, end, length)?))
                };
                Ok(Value::Vector(
                    ranges.into_iter().filter_map(value).collect(),
                ))
            }
            (name, _) => Err(PromqlError(format!(
                "{name} with these arguments is not known here"
            ))),
        }
    }
}

/// The labels that a selector tells of what it does not find.
fn told(expression: &Expression) -> Labels {
    let Expression::Selector { matchers, .. } = expression else {
        return Labels::new();
    };
    let named = |label: &str| matchers.iter().filter(|m| *m.label == *label).count();
    matchers
        .iter()
        .filter(|matcher| &*matcher.label != "__name__" && named(&matcher.label) == 1)
        .filter_map(|matcher| Some((matcher.label.clone(), matcher.wanted()?.into())))
        .filter(|(_, value): &(Arc<str>, Arc<str>)| !value.is_empty())
        .collect()
}

/// A function of the samples in a range that ends at a time and is so long, in milliseconds.
type OverTime = fn(&[(i64, f64)], i64, i64) -> Option<f64>;

fn over_time(name: &str) -> Result<OverTime, PromqlError> {
    Ok(match name {
        "rate" => {
            |samples, end, length| Some(increase(samples, end, length)? / (float(length) / 1000.0))
        }
        "increase" => increase,
        "irate" => |samples, _, _| {
            let [.., (t0, v0), (t1, v1)] = samples else {
                return None;
            };
            let grown = if v1 < v0 { *v1 } else { v1 - v0 };
            Some(grown / (float(t1 - t0) / 1000.0))
        },
        "sum_over_time" => {
            |samples, _, _| nonempty(samples).map(|s| s.iter().map(|(_, v)| v).sum())
        }
        "avg_over_time" => |samples, _, _| {
            nonempty(samples).map(|s| s.iter().map(|(_, v)| v).sum::<f64>() / count(s))
        },
        "min_over_time" => |samples, _, _| samples.iter().map(|(_, v)| *v).reduce(f64::min),
        "max_over_time" => |samples, _, _| samples.iter().map(|(_, v)| *v).reduce(f64::max),
        "count_over_time" => |samples, _, _| nonempty(samples).map(count),
        "last_over_time" => |samples, _, _| samples.last().map(|(_, v)| *v),
        name => return Err(PromqlError(format!("function {name} is not known here"))),
    })
}

fn nonempty(samples: &[(i64, f64)]) -> Option<&[(i64, f64)]> {
    (!samples.is_empty()).then_some(samples)
}

#[allow(clippy::cast_precision_loss, reason = "counts are small")]
fn count(samples: &[(i64, f64)]) -> f64 {
    samples.len() as f64
}

#[allow(clippy::cast_precision_loss, reason = "times of ranges are small")]
fn float(millis: i64) -> f64 {
    millis as f64
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The increase of a counter over a range, extrapolated to its ends as Prometheus does: to an end
/// that is nearer than 1.1 times the usual distance of samples, else by half that distance, and
/// never to before the counter was zero.
fn increase(samples: &[(i64, f64)], end: i64, length: i64) -> Option<f64> {
    let ((first, begin), (last, finish)) = (samples.first()?, samples.last()?);
    if samples.len() < 2 {
        return None;
    }
    let mut grown = finish - begin;
    for pair in samples.windows(2) {
        if let [(_, before), (_, after)] = pair
            && after < before
        {
            grown += before;
        }
    }
    let covered = float(last - first);
    let usual = covered / (count(samples) - 1.0);
    let near = |distance: f64| {
        if distance >= usual * 1.1 {
            usual / 2.0
        } else {
            distance
        }
    };
    let mut to_start = near(float(first - (end - length)));
    if grown > 0.0 && *begin >= 0.0 {
        to_start = to_start.min(covered * (begin / grown));
    }
    let to_end = near(float(end - last));
    Some(grown * (covered + to_start + to_end) / covered)
}

fn aggregate(
    operation: &str,
    labels: &[Arc<str>],
    without: bool,
    inner: Vec<(Labels, f64)>,
) -> Vec<(Labels, f64)> {
    let mut groups: BTreeMap<Labels, Vec<(i64, f64)>> = BTreeMap::new();
    for (mut key, value) in inner {
        key.retain(|label, _| &**label != "__name__" && labels.contains(label) != without);
        groups.entry(key).or_default().push((0, value));
    }
    let combine = |values: &[(i64, f64)]| {
        let sum: f64 = values.iter().map(|(_, value)| value).sum();
        let extreme = |f: fn(f64, f64) -> f64| values.iter().map(|(_, v)| *v).reduce(f);
        match operation {
            "avg" => sum / count(values),
            "min" => extreme(f64::min).unwrap_or(f64::NAN),
            "max" => extreme(f64::max).unwrap_or(f64::NAN),
            "count" => count(values),
            _ => sum,
        }
    };
    groups
        .into_iter()
        .map(|(key, values)| (key, combine(&values)))
        .collect()
}

/// Quantiles of histograms: one for each set of labels but `le`.
fn quantiles(quantile: f64, buckets: Vec<(Labels, f64)>) -> Vec<(Labels, f64)> {
    let mut histograms: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
    for (mut labels, value) in buckets {
        let bound = labels.remove("le");
        labels.remove("__name__");
        if let Some(bound) = bound.and_then(|bound| match &*bound {
            "+Inf" => Some(f64::INFINITY),
            bound => bound.parse().ok(),
        }) {
            histograms.entry(labels).or_default().push((bound, value));
        }
    }
    histograms
        .into_iter()
        .map(|(labels, buckets)| (labels, quantile_of(quantile, buckets)))
        .collect()
}

fn quantile_of(quantile: f64, mut buckets: Vec<(f64, f64)>) -> f64 {
    buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut most = 0.0_f64;
    for (_, count) in &mut buckets {
        most = most.max(*count);
        *count = most;
    }
    let [rest @ .., (top, total)] = buckets.as_slice() else {
        return f64::NAN;
    };
    let Some((highest, _)) = rest.last() else {
        return f64::NAN;
    };
    if !top.is_infinite() || *total <= 0.0 || quantile.is_nan() {
        return f64::NAN;
    }
    if quantile < 0.0 {
        return f64::NEG_INFINITY;
    }
    if quantile > 1.0 {
        return f64::INFINITY;
    }
    let rank = quantile * total;
    let Some(index) = rest.iter().position(|(_, count)| *count >= rank) else {
        return *highest;
    };
    let (upper, count) = rest.get(index).copied().unwrap_or_default();
    let below = index.checked_sub(1).and_then(|before| rest.get(before));
    let (lower, before) = match below {
        Some(below) => *below,
        None if upper <= 0.0 => return upper,
        None => (0.0, 0.0),
    };
    lower + (upper - lower) * ((rank - before) / (count - before))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;

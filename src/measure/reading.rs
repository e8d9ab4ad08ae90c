//! What a Prometheus server answered, and what becomes of it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use prometheus_http_query::{
    error::{PrometheusError, PrometheusErrorType},
    response::{Data, PromqlResult, Sample as Point},
};
use serde::Deserialize;

use crate::plan::{MetricQuery, Outcome};

use super::{QueryError, Sample, metrics::NO_VALUES, native, text};

/// Most bytes that are read of an answer.
pub(super) const LIMIT: usize = 1024 * 1024;

/// Most bytes that are read of an answer with values at many times.
pub(super) const RANGE_LIMIT: usize = 8 * LIMIT;

/// Age from which a value says nothing about the canary of now.
const STALE: Duration = Duration::from_mins(5);

#[derive(Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
enum Body {
    Success { data: PromqlResult },
    Error(PrometheusError),
}

/// Reads the answer to an instant query. Nothing that the server wrote gets into an error.
///
/// # Errors
/// When the server reports an error, or the answer holds something other than samples.
pub(super) fn samples(status: u16, body: &[u8]) -> Result<Vec<Sample>, QueryError> {
    match contents(status, body, LIMIT)? {
        Data::Scalar(point) => Ok(vec![sample([].into(), point)?]),
        Data::Vector(series) => series
            .into_iter()
            .map(|series| {
                let (labels, point) = series.into_inner();
                sample(labels.into_iter().collect(), point)
            })
            .collect(),
        Data::Matrix(_) => Err(QueryError::Ranges),
    }
}

/// Reads the answer to a query of counters: as [`samples`], native histograms included.
///
/// # Errors
/// As [`samples`].
pub(super) fn counters(status: u16, body: &[u8]) -> Result<Vec<Sample>, QueryError> {
    with_native(samples(status, body), body)
}

fn with_native(
    read: Result<Vec<Sample>, QueryError>,
    body: &[u8],
) -> Result<Vec<Sample>, QueryError> {
    match read {
        Err(QueryError::Unreadable(why)) => {
            native::samples(body).ok_or(QueryError::Unreadable(why))
        }
        read => read,
    }
}

/// Reads the answer to a range query: every value of every series.
///
/// # Errors
/// When the server reports an error, or the answer holds something other than series over time.
pub(super) fn ranges(status: u16, body: &[u8]) -> Result<Vec<Sample>, QueryError> {
    with_native(numbers_over_time(status, body), body)
}

fn numbers_over_time(status: u16, body: &[u8]) -> Result<Vec<Sample>, QueryError> {
    let Data::Matrix(series) = contents(status, body, RANGE_LIMIT)? else {
        return Err(QueryError::Unreadable("it holds no series over time"));
    };
    let mut all = Vec::new();
    for series in series {
        let (labels, points) = series.into_inner();
        let labels: std::collections::BTreeMap<String, String> = labels.into_iter().collect();
        for point in points {
            all.push(sample(labels.clone(), point)?);
        }
    }
    Ok(all)
}

/// What a successful answer holds.
fn contents(status: u16, body: &[u8], limit: usize) -> Result<Data, QueryError> {
    let ok = (200..300).contains(&status);
    if body.len() > limit {
        return Err(if ok {
            QueryError::TooLarge(limit)
        } else {
            QueryError::Refused { status, kind: None }
        });
    }
    let data = match serde_json::from_slice(body) {
        Ok(Body::Success { data }) if ok => data,
        Ok(Body::Error(error)) => {
            tracing::debug!(
                status,
                error = text::first_line(error.message()),
                "metrics server refused a query"
            );
            return Err(QueryError::Refused {
                status,
                kind: word(error.error_type()),
            });
        }
        Ok(Body::Success { .. }) | Err(_) if !ok => {
            return Err(QueryError::Refused { status, kind: None });
        }
        Ok(Body::Success { .. }) => return Err(QueryError::Unreadable("unknown status")),
        Err(error) => {
            return Err(QueryError::Unreadable(match error.classify() {
                serde_json::error::Category::Data => {
                    "it holds something other than series with one number each"
                }
                serde_json::error::Category::Eof => "the JSON ends too early",
                serde_json::error::Category::Syntax | serde_json::error::Category::Io => {
                    "it is not JSON"
                }
            }));
        }
    };
    let (data, _) = data.into_inner();
    Ok(data)
}

fn sample(
    labels: std::collections::BTreeMap<String, String>,
    point: Point,
) -> Result<Sample, QueryError> {
    let timestamp = SignedDuration::try_from_secs_f64(point.timestamp())
        .ok()
        .and_then(|since| Timestamp::from_duration(since).ok())
        .ok_or(QueryError::Unreadable("a value's time is out of range"))?;
    Ok(Sample {
        labels,
        timestamp,
        value: point.value(),
    })
}

/// Prometheus' word for an error; its list may grow.
fn word(kind: PrometheusErrorType) -> Option<&'static str> {
    const KINDS: [(PrometheusErrorType, &str); 7] = [
        (PrometheusErrorType::Timeout, "timeout"),
        (PrometheusErrorType::Canceled, "canceled"),
        (PrometheusErrorType::Execution, "execution"),
        (PrometheusErrorType::BadData, "bad_data"),
        (PrometheusErrorType::Internal, "internal"),
        (PrometheusErrorType::Unavailable, "unavailable"),
        (PrometheusErrorType::NotFound, "not_found"),
    ];
    KINDS
        .iter()
        .find(|(known, _)| *known == kind)
        .map(|(_, word)| *word)
}

/// What the answer to a query comes to: a value only when there is exactly one series with a
/// finite and fresh value.
///
/// | answer | outcome |
/// |---|---|
/// | no series | `NoData` |
/// | NaN or infinite | `NoData` |
/// | more than 5 minutes from `at` | `NoData` |
/// | several series | `Unavailable`: which one counts is not for us to guess |
/// | anything else | `Unavailable` |
pub(super) fn outcome(
    query: &MetricQuery,
    answer: Result<Vec<Sample>, QueryError>,
    at: Timestamp,
) -> Outcome {
    let samples = match answer {
        Ok(samples) => samples,
        Err(error) => return Outcome::Unavailable(error.to_string()),
    };
    let sample = match samples.as_slice() {
        [] => return Outcome::NoData(NO_VALUES.to_owned()),
        [sample] => sample,
        several => {
            return Outcome::Unavailable(format!(
                "the query returned {} series, one is wanted; aggregate them, for example with \
                 sum()",
                several.len()
            ));
        }
    };
    if sample.timestamp.duration_since(at).unsigned_abs() > STALE {
        return Outcome::NoData(format!(
            "the value is of {}, asked for at {}; check the server's clock and its scraping",
            sample.timestamp, at
        ));
    }
    let value = sample.value * query.scale;
    if !value.is_finite() {
        return Outcome::NoData(format!("found {value}, which is not a number to judge by"));
    }
    Outcome::Value(if query.whole { value.trunc() } else { value })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::analysis::ThresholdRange,
        plan::{MetricServer, MetricSource},
    };

    fn query() -> MetricQuery {
        MetricQuery {
            name: "errors".to_owned(),
            source: MetricSource::Inline,
            server: MetricServer::prometheus(String::new()),
            query: String::new(),
            interval: String::new(),
            scale: 1.0,
            whole: false,
            bound: ThresholdRange::default(),
        }
    }

    /// What an answer at 1000 s comes to.
    fn outcome_of(status: u16, body: &str) -> Outcome {
        let at = Timestamp::from_second(1000).unwrap();
        outcome(&query(), samples(status, body.as_bytes()), at)
    }

    fn vector(series: &[(i64, &str)]) -> String {
        let series: Vec<_> = series
            .iter()
            .enumerate()
            .map(|(n, (at, value))| json!({"metric": {"n": n.to_string()}, "value": [at, value]}))
            .collect();
        json!({"status": "success", "data": {"resultType": "vector", "result": series}}).to_string()
    }

    #[test]
    fn one_fresh_number_is_a_value_and_nothing_else_is() {
        assert_eq!(
            outcome_of(200, &vector(&[(1000, "99.5")])),
            Outcome::Value(99.5)
        );
        let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[999,"3"]}}"#;
        assert_eq!(outcome_of(200, scalar), Outcome::Value(3.0));
        assert_eq!(
            outcome_of(200, &vector(&[])),
            Outcome::NoData(NO_VALUES.to_owned())
        );
        for none in [(1000, "NaN"), (1000, "+Inf"), (600, "1"), (1400, "1")] {
            let found = outcome_of(200, &vector(&[none]));
            assert!(matches!(found, Outcome::NoData(_)), "{none:?}: {found:?}");
        }
        let several = outcome_of(200, &vector(&[(1000, "1"), (1000, "2")]));
        assert!(
            matches!(&several, Outcome::Unavailable(why) if why.contains("2 series")),
            "{several:?}"
        );
    }

    #[test]
    fn answer_that_cannot_be_read_says_how_and_never_what_the_server_wrote() {
        let secret = "hunter2";
        let refused = json!({"status": "error", "errorType": "bad_data", "error": secret});
        let matrix = json!({"status": "success", "data": {"resultType": "matrix", "result": [
            {"metric": {"secret": secret}, "values": [[1000, "1"]]},
        ]}});
        let text = vector(&[(1000, secret)]);
        for (status, body, said) in [
            (400, refused.to_string(), "HTTP 400, bad_data"),
            (503, secret.to_owned(), "HTTP 503"),
            (200, secret.to_owned(), "not JSON"),
            (
                200,
                vector(&[(1000, "1")])[..40].to_owned(),
                "ends too early",
            ),
            (200, text, "one number each"),
            (200, matrix.to_string(), "multiple values"),
            (200, " ".repeat(LIMIT + 1), "bytes"),
        ] {
            let Outcome::Unavailable(why) = outcome_of(status, &body) else {
                panic!("{said}");
            };
            assert!(why.contains(said) && !why.contains(secret), "{said}: {why}");
        }
    }

    #[test]
    fn durations_are_brought_to_whole_milliseconds() {
        let query = MetricQuery {
            scale: 1000.0,
            whole: true,
            ..query()
        };
        let at = Timestamp::from_second(1000).unwrap();
        let answer = samples(200, vector(&[(1000, "0.5007")]).as_bytes());
        assert_eq!(outcome(&query, answer, at), Outcome::Value(500.0));
    }
}

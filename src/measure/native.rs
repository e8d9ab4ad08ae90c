//! Native histograms of a Prometheus server, as the buckets of classic ones.
//!
//! A native histogram has a bucket wherever there was a value, so that boundaries differ between
//! series and over time. What all of those with standard schemas have in common are the powers of
//! two: at these they are cut, and counted up as classic buckets are.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::Sample;

/// Boundaries are the powers of two from the first of these to the last: a quarter of a
/// millisecond to four hours in seconds, a millisecond and more in milliseconds.
const POWERS: std::ops::RangeInclusive<i32> = -12..=14;

#[derive(Deserialize)]
struct Body {
    data: Contents,
}

#[derive(Deserialize)]
struct Contents {
    result: Vec<Series>,
}

/// One series, at one time or at several.
#[derive(Deserialize)]
struct Series {
    #[serde(default)]
    metric: BTreeMap<String, String>,
    #[serde(default)]
    value: Option<(f64, String)>,
    #[serde(default)]
    values: Vec<(f64, String)>,
    #[serde(default)]
    histogram: Option<(f64, Histogram)>,
    #[serde(default)]
    histograms: Vec<(f64, Histogram)>,
}

#[derive(Deserialize)]
struct Histogram {
    count: String,
    /// Which ends belong to the bucket, its ends, and its count.
    #[serde(default)]
    buckets: Vec<(u8, String, String, String)>,
}

/// The samples of a successful answer that holds native histograms, cut to classic buckets;
/// `None` when it cannot be read.
pub(super) fn samples(body: &[u8]) -> Option<Vec<Sample>> {
    let body: Body = serde_json::from_slice(body).ok()?;
    let mut all = Vec::new();
    for series in body.data.result {
        for (at, value) in series.value.into_iter().chain(series.values) {
            all.push(Sample {
                labels: series.metric.clone(),
                timestamp: time(at)?,
                value: value.parse().ok()?,
            });
        }
        for (at, histogram) in series.histogram.into_iter().chain(series.histograms) {
            let timestamp = time(at)?;
            for (le, value) in classic(&histogram)? {
                let mut labels = series.metric.clone();
                labels.insert("le".to_owned(), le);
                all.push(Sample {
                    labels,
                    timestamp,
                    value,
                });
            }
        }
    }
    Some(all)
}

fn time(seconds: f64) -> Option<Timestamp> {
    let since = SignedDuration::try_from_secs_f64(seconds).ok()?;
    Timestamp::from_duration(since).ok()
}

/// Counts up to each boundary, all of them last.
fn classic(histogram: &Histogram) -> Option<Vec<(String, f64)>> {
    let buckets = histogram
        .buckets
        .iter()
        .map(|(_, _, right, count)| Some((right.parse::<f64>().ok()?, count.parse::<f64>().ok()?)))
        .collect::<Option<Vec<_>>>()?;
    let up_to = |le: f64| -> f64 {
        let within = buckets.iter().filter(|(right, _)| *right <= le);
        within.map(|(_, count)| count).sum()
    };
    let all = histogram.count.parse().ok()?;
    let mut counts: Vec<(String, f64)> = POWERS
        .map(|power| {
            let le = 2_f64.powi(power);
            (le.to_string(), up_to(le))
        })
        .collect();
    counts.push(("+Inf".to_owned(), all));
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 12 requests: 2 up to 0.001, 3 up to 0.25, 4 up to 0.297, 3 up to 1.
    const HISTOGRAM: &str = r#"{"count": "12", "sum": "4.5", "buckets": [
        [3, "-0.001", "0.001", "2"], [0, "0.21", "0.25", "3"], [0, "0.25", "0.297", "4"],
        [0, "0.84", "1", "3"]]}"#;

    fn counts(samples: &[Sample], le: &str) -> Vec<f64> {
        let at = samples.iter().filter(|sample| sample.labels["le"] == le);
        at.map(|sample| sample.value).collect()
    }

    #[test]
    fn native_histogram_is_cut_to_classic_buckets() {
        let body = format!(
            r#"{{"status": "success", "data": {{"resultType": "vector", "result": [
                {{"metric": {{"pod": "a"}}, "histogram": [1767225600, {HISTOGRAM}]}}]}}}}"#
        );
        let samples = samples(body.as_bytes()).unwrap();
        for (le, count) in [
            ("0.00048828125", 0.0),
            ("0.001953125", 2.0),
            ("0.25", 5.0),
            ("0.5", 9.0),
            ("1", 12.0),
            ("16384", 12.0),
            ("+Inf", 12.0),
        ] {
            assert_eq!(counts(&samples, le), [count], "{le}");
        }
        assert!(samples.iter().all(|sample| sample.labels["pod"] == "a"));
    }

    #[test]
    fn native_histograms_over_time_are_cut_at_each_time() {
        let body = format!(
            r#"{{"status": "success", "data": {{"resultType": "matrix", "result": [
                {{"metric": {{}}, "histograms": [[1767225600, {HISTOGRAM}], [1767225615, {HISTOGRAM}]]}}]}}}}"#
        );
        let samples = samples(body.as_bytes()).unwrap();
        assert_eq!(counts(&samples, "0.25"), [5.0, 5.0]);
    }

    #[test]
    fn histogram_with_nonsense_is_not_read() {
        for histogram in [
            r#"{"count": "many"}"#,
            r#"{"count": "1", "buckets": [[0, "0", "wide", "1"]]}"#,
            "{}",
        ] {
            let body = format!(
                r#"{{"data": {{"result": [{{"metric": {{}}, "histogram": [1, {histogram}]}}]}}}}"#
            );
            assert_eq!(samples(body.as_bytes()), None, "{histogram}");
        }
    }
}

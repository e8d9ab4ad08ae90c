//! What the judge looks at: raw counters of both sides at the same evaluation times.

use std::collections::BTreeMap;

use futures::future::try_join_all;
use jiff::Timestamp;

use crate::{
    api::judge::JudgeKind,
    plan::{LookAnswer, LookColumn, LookMetric, LookRequest, SeriesCounts, SeriesQuery},
};

use super::{
    InstantQuery, Outside, QueryError, Sample,
    history::{self, Times},
    run::credentials_of,
};

/// Time in which all answers of one evaluation time must be there.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Asks for all columns of a look. One query that fails fails the look: both sides count over the
/// same time or not at all.
///
/// More than two times are the look back before a release: all but the last show the primary only,
/// by one range query, and are left out when the server has too much to say.
///
/// # Errors
/// The text says which query failed, and how.
pub async fn look(request: &LookRequest, outside: &dyn Outside) -> LookAnswer {
    let mut columns = Vec::with_capacity(request.times.len());
    let mut times = request.times.as_slice();
    if let [before @ .., last] = times
        && before.len() > 1
    {
        let past = tokio::time::timeout(TIMEOUT, past(request, before, outside)).await;
        match past {
            Ok(Ok(past)) => columns.extend(past),
            Ok(Err(why)) => tracing::info!(why, "the primary's past is not known to the judge"),
            Err(_) => tracing::info!("the primary's past is not known to the judge: no answer"),
        }
        times = std::slice::from_ref(last);
    }
    for at in times {
        let asked = tokio::time::timeout(TIMEOUT, column(request, *at, outside)).await;
        columns.push(asked.unwrap_or_else(|_| Err(QueryError::TimedOut(TIMEOUT).to_string()))?);
    }
    Ok(columns)
}

/// The primary's counters at times that are equally far apart.
async fn past(
    request: &LookRequest,
    times: &[Timestamp],
    outside: &dyn Outside,
) -> Result<Vec<LookColumn>, String> {
    let (Some(from), Some(second), Some(to)) = (times.first(), times.get(1), times.last()) else {
        return Ok(Vec::new());
    };
    let primaries: Vec<LookMetric> = request
        .metrics
        .iter()
        .map(|metric| {
            let [primary, _] = &metric.sides;
            LookMetric {
                sides: [primary.clone(), Vec::new()],
                ..metric.clone()
            }
        })
        .collect();
    let times = Times {
        from: *from,
        to: *to,
        every: second.as_second() - from.as_second(),
    };
    history::counters(&primaries, times, outside).await
}

async fn column(
    request: &LookRequest,
    at: Timestamp,
    outside: &dyn Outside,
) -> Result<LookColumn, String> {
    let metrics = request.metrics.iter().map(|metric| async move {
        let [primary, canary] = &metric.sides;
        let (primary, canary) = futures::future::try_join(
            side(metric, primary, at, outside),
            side(metric, canary, at, outside),
        )
        .await?;
        Ok::<_, String>((metric.name.clone(), [primary, canary]))
    });
    Ok(LookColumn {
        at,
        metrics: try_join_all(metrics).await?.into_iter().collect(),
    })
}

async fn side(
    metric: &LookMetric,
    queries: &[SeriesQuery],
    at: Timestamp,
    outside: &dyn Outside,
) -> Result<BTreeMap<String, SeriesCounts>, String> {
    let answers = queries.iter().map(|query| async move {
        let credentials = credentials_of(&query.server, outside).await?;
        let question = InstantQuery {
            server: &query.server,
            credentials: &credentials,
            query: &query.query,
            at,
            pinned: true,
        };
        let samples = outside.instant_query(question).await;
        samples.map_err(|error| format!("query of {}: {error}", metric.name))
    });
    let answers = try_join_all(answers).await?;
    let mut counts = BTreeMap::new();
    for (query, samples) in queries.iter().zip(answers) {
        add(metric.kind, query, samples, &mut counts);
    }
    Ok(counts)
}

/// Adds the samples of one query. Counts that are no counts are dropped: never a pass.
pub(super) fn add(
    kind: JudgeKind,
    query: &SeriesQuery,
    samples: Vec<Sample>,
    counts: &mut BTreeMap<String, SeriesCounts>,
) {
    for Sample {
        mut labels, value, ..
    } in samples
    {
        if !value.is_finite() {
            continue;
        }
        labels.remove("__name__");
        match kind {
            JudgeKind::Ratio => {
                let code = query.code.and_then(|label| labels.get(label));
                // Server errors by status, or Linkerd's word for them.
                let is_bad = query.bad
                    || code.is_some_and(|code| code.starts_with('5') || code == "failure");
                let total = if query.bad { 0.0 } else { value };
                let bad = if is_bad { value } else { 0.0 };
                let name = format!("{}{labels:?}", if query.bad { "bad " } else { "" });
                counts.insert(name, SeriesCounts::Pair(total, bad));
            }
            JudgeKind::Histogram => {
                let Some(le) = labels.remove("le").and_then(|le| le.parse::<f64>().ok()) else {
                    continue;
                };
                let series = counts
                    .entry(format!("{labels:?}"))
                    .or_insert_with(|| SeriesCounts::Buckets(Vec::new()));
                if let SeriesCounts::Buckets(buckets) = series {
                    let at = buckets.partition_point(|(bound, _)| *bound < le);
                    buckets.insert(at, (le, value));
                }
            }
            JudgeKind::Scalar => {
                counts.insert(format!("{labels:?}"), SeriesCounts::Number(value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        measure::columns::{keep, readings},
        stats::Side,
    };

    fn sample(labels: &[(&str, &str)], value: f64) -> Sample {
        let labels = labels.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        Sample {
            labels: labels.collect(),
            timestamp: Timestamp::UNIX_EPOCH,
            value,
        }
    }

    fn query(code: Option<&'static str>) -> SeriesQuery {
        let server = crate::plan::MetricServer::prometheus(String::new());
        SeriesQuery {
            server,
            query: String::new(),
            code,
            bad: false,
        }
    }

    fn column(kind: JudgeKind, samples: Vec<Sample>) -> LookColumn {
        let mut canary = BTreeMap::new();
        add(kind, &query(Some("code")), samples, &mut canary);
        LookColumn {
            at: Timestamp::UNIX_EPOCH,
            metrics: BTreeMap::from([("m".to_owned(), [BTreeMap::new(), canary])]),
        }
    }

    fn metric(kind: JudgeKind) -> [LookMetric; 1] {
        [LookMetric {
            name: "m".to_owned(),
            kind,
            sides: [Vec::new(), Vec::new()],
        }]
    }

    fn canary_of(kind: JudgeKind, column: &LookColumn) -> Side {
        let mut all = readings(&metric(kind), &[column]);
        all.remove(0).remove("m").unwrap_or_default().canary
    }

    #[test]
    fn errors_are_told_by_the_code_and_numbers_that_are_none_are_dropped() {
        let column = column(
            JudgeKind::Ratio,
            vec![
                sample(&[("code", "200")], 90.0),
                sample(&[("code", "503")], 10.0),
                sample(&[("code", "500")], f64::NAN),
            ],
        );
        let Side::Counters(series) = canary_of(JudgeKind::Ratio, &column) else {
            unreachable!("no counters");
        };
        let counts: Vec<_> = series.into_values().collect();
        assert_eq!(counts, [vec![90.0, 0.0], vec![10.0, 10.0]]);
    }

    #[test]
    fn boundaries_that_differ_are_cut_to_those_that_all_have() {
        let of = |pod: &str, le: &str, value| sample(&[("pod", pod), ("le", le)], value);
        let column = column(
            JudgeKind::Histogram,
            vec![
                of("a", "+Inf", 9.0),
                of("a", "10", 5.0),
                of("a", "5", 2.0),
                of("b", "10", 6.0),
                of("b", "20", 7.0),
                of("b", "+Inf", 8.0),
            ],
        );
        let Side::Counters(series) = canary_of(JudgeKind::Histogram, &column) else {
            unreachable!("no counters");
        };
        let counts: Vec<_> = series.into_values().collect();
        assert_eq!(counts, [vec![5.0, 9.0], vec![6.0, 8.0]]);
    }

    #[test]
    fn nothing_read_is_absent() {
        let column = column(JudgeKind::Ratio, Vec::new());
        assert_eq!(canary_of(JudgeKind::Ratio, &column), Side::Absent);
    }

    #[test]
    fn series_that_vanishes_for_a_scrape_is_not_new_when_it_is_back() {
        let there = column(JudgeKind::Ratio, vec![sample(&[("code", "200")], 90.0)]);
        let gone = column(JudgeKind::Ratio, Vec::new());
        assert_eq!(keep(Some(&there), &gone).metrics, there.metrics);
    }
}

//! What metrics servers still know of the past: the operator's questions, asked for times gone by.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use crate::{
    api::Canary,
    plan::{LookColumn, LookMetric, MetricQuery, MetricServer, Outcome},
    settings::Settings,
};

use super::{
    Outside, QueryError, RangeQuery, Sample, look::add, metrics::default_server, reading,
    run::credentials_of,
};

/// Time in which one answer must be there. The past is more to read than the present.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Most times of one question whose answer has many series, so that the answer stays small.
const MOST_OF_MANY: i64 = 40;

/// Most times of one question whose answer has one series.
const MOST_OF_ONE: i64 = 4000;

/// Evaluation times, equally far apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    /// The first, in whole seconds.
    pub from: Timestamp,
    /// No time is after this one.
    pub to: Timestamp,
    /// Seconds between two, at least 1.
    pub every: i64,
}

impl Times {
    /// All times, ascending.
    pub fn all(self) -> impl Iterator<Item = Timestamp> {
        let every = usize::try_from(self.every).unwrap_or(1).max(1);
        (self.from.as_second()..=self.to.as_second())
            .step_by(every)
            .filter_map(|second| Timestamp::from_second(second).ok())
    }

    /// The same times in parts of at most `most`.
    fn parts(self, most: i64) -> impl Iterator<Item = Self> {
        let every = self.every.max(1);
        let length = usize::try_from(every.saturating_mul(most)).unwrap_or(usize::MAX);
        let last = self.to.as_second();
        (self.from.as_second()..=last)
            .step_by(length)
            .filter_map(move |from| {
                let to = last.min(from.saturating_add((most - 1).saturating_mul(every)));
                Some(Self {
                    from: Timestamp::from_second(from).ok()?,
                    to: Timestamp::from_second(to).ok()?,
                    every,
                })
            })
    }
}

/// The counters of both sides at each time.
///
/// # Errors
/// The text says which query failed, and how.
pub async fn counters(
    metrics: &[LookMetric],
    times: Times,
    outside: &dyn Outside,
) -> Result<Vec<LookColumn>, String> {
    let empty = |metric: &LookMetric| (metric.name.clone(), [BTreeMap::new(), BTreeMap::new()]);
    let column = |at| {
        let metrics = metrics.iter().map(empty).collect();
        (at, LookColumn { at, metrics })
    };
    let mut columns: BTreeMap<Timestamp, LookColumn> = times.all().map(column).collect();
    for metric in metrics {
        for (side, queries) in metric.sides.iter().enumerate() {
            for query in queries {
                let samples = ask(&query.server, &query.query, times, MOST_OF_MANY, outside).await;
                let samples = samples.map_err(|why| format!("query of {}: {why}", metric.name))?;
                for sample in samples {
                    let column = columns.get_mut(&sample.timestamp);
                    let sides = column.and_then(|column| column.metrics.get_mut(&metric.name));
                    if let Some(counts) = sides.and_then(|sides| sides.get_mut(side)) {
                        add(metric.kind, query, vec![sample], counts);
                    }
                }
            }
        }
    }
    Ok(columns.into_values().collect())
}

/// What a threshold's query came to at each time.
///
/// # Errors
/// The text says which query failed, and how.
pub async fn outcomes(
    query: &MetricQuery,
    times: Times,
    outside: &dyn Outside,
) -> Result<Vec<(Timestamp, Outcome)>, String> {
    let samples = ask(&query.server, &query.query, times, MOST_OF_ONE, outside).await;
    let samples = samples.map_err(|why| format!("query of {}: {why}", query.name))?;
    let mut at: BTreeMap<Timestamp, Vec<Sample>> = BTreeMap::new();
    for sample in samples {
        at.entry(sample.timestamp).or_default().push(sample);
    }
    let outcome = |time| {
        let samples = at.remove(&time).unwrap_or_default();
        (time, reading::outcome(query, Ok(samples), time))
    };
    Ok(times.all().map(outcome).collect())
}

/// The values of a query with one series, by time. It is asked of the server of the Canary's builtin
/// metrics.
///
/// # Errors
/// The text says how it failed.
pub async fn values(
    canary: &Canary,
    settings: &Settings,
    query: &str,
    times: Times,
    outside: &dyn Outside,
) -> Result<BTreeMap<Timestamp, f64>, String> {
    let server = default_server(canary, settings);
    let samples = ask(&server, query, times, MOST_OF_ONE, outside).await?;
    let value = |sample: Sample| (sample.timestamp, sample.value);
    Ok(samples.into_iter().map(value).collect())
}

async fn ask(
    server: &MetricServer,
    query: &str,
    times: Times,
    most: i64,
    outside: &dyn Outside,
) -> Result<Vec<Sample>, String> {
    let credentials = credentials_of(server, outside).await?;
    let mut all = Vec::new();
    for part in times.parts(most) {
        let question = RangeQuery {
            server,
            credentials: &credentials,
            query,
            from: part.from,
            to: part.to,
            every: part.every,
        };
        let answer = tokio::time::timeout(TIMEOUT, outside.range_query(question)).await;
        let answer = answer.unwrap_or(Err(QueryError::TimedOut(TIMEOUT)));
        all.extend(answer.map_err(|error| error.to_string())?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(from: i64, to: i64, every: i64) -> Times {
        Times {
            from: Timestamp::from_second(from).unwrap(),
            to: Timestamp::from_second(to).unwrap(),
            every,
        }
    }

    #[test]
    fn parts_are_the_same_times_and_each_is_small() {
        for (from, to, every) in [
            (0, 0, 15),
            (7, 1000, 15),
            (0, 600, 15),
            (5, 4, 1),
            (0, 9, 0),
        ] {
            let whole = times(from, to, every);
            let parts: Vec<_> = whole
                .parts(4)
                .map(|part| part.all().collect::<Vec<_>>())
                .collect();
            assert!(parts.iter().all(|part| (1..=4).contains(&part.len())));
            assert_eq!(parts.concat(), whole.all().collect::<Vec<_>>());
        }
    }
}

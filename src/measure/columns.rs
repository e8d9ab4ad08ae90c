//! Columns of counters as readings of the judge.

use std::collections::BTreeMap;

use crate::{
    api::judge::JudgeKind,
    plan::{LookColumn, LookMetric, SeriesCounts},
    stats::{Reading, Side},
};

/// The last value of every series up to a column: what vanished for a while is not new when it is
/// back.
pub fn keep(before: Option<&LookColumn>, column: &LookColumn) -> LookColumn {
    let mut kept = column.clone();
    for (name, sides) in before.iter().flat_map(|before| &before.metrics) {
        if let Some(now) = kept.metrics.get_mut(name) {
            for (side, before) in now.iter_mut().zip(sides) {
                for (series, counts) in before {
                    side.entry(series.clone()).or_insert_with(|| counts.clone());
                }
            }
        }
    }
    kept
}

/// Columns as readings by metric name, all with the boundaries that every series has.
pub fn readings(request: &[LookMetric], columns: &[&LookColumn]) -> Vec<BTreeMap<String, Reading>> {
    let mut all = vec![BTreeMap::new(); columns.len()];
    for metric in request {
        let le = boundaries(&metric.name, columns);
        for (column, readings) in columns.iter().zip(&mut all) {
            if let Some([primary, canary]) = column.metrics.get(&metric.name) {
                let reading = Reading {
                    le: if metric.kind == JudgeKind::Histogram {
                        le.clone()
                    } else {
                        Vec::new()
                    },
                    primary: counters(metric.kind, primary, &le),
                    canary: counters(metric.kind, canary, &le),
                };
                readings.insert(metric.name.clone(), reading);
            }
        }
    }
    all
}

/// The finite boundaries that all series have in all columns.
fn boundaries(metric: &str, columns: &[&LookColumn]) -> Vec<f64> {
    let series = columns
        .iter()
        .filter_map(|column| column.metrics.get(metric))
        .flatten()
        .flat_map(BTreeMap::values);
    let mut common: Option<Vec<f64>> = None;
    for counts in series {
        let SeriesCounts::Buckets(buckets) = counts else {
            continue;
        };
        let has = |le: f64| {
            buckets
                .iter()
                .any(|(bound, _)| bound.total_cmp(&le).is_eq())
        };
        if let Some(common) = &mut common {
            common.retain(|le| has(*le));
        } else {
            let finite = buckets
                .iter()
                .map(|(le, _)| *le)
                .filter(|le| le.is_finite());
            common = Some(finite.collect());
        }
    }
    common.unwrap_or_default()
}

fn counters(kind: JudgeKind, side: &BTreeMap<String, SeriesCounts>, le: &[f64]) -> Side {
    if kind == JudgeKind::Scalar {
        let mut numbers = side.values();
        return match (numbers.next(), numbers.next()) {
            (Some(SeriesCounts::Number(value)), None) => Side::Scalar(*value),
            _ => Side::Absent,
        };
    }
    let series = side.iter().filter_map(|(name, counts)| {
        let values = match counts {
            SeriesCounts::Pair(total, bad) => vec![*total, *bad],
            SeriesCounts::Buckets(buckets) => le
                .iter()
                .chain(&[f64::INFINITY])
                .map(|le| {
                    let found = buckets
                        .iter()
                        .find(|(bound, _)| bound.total_cmp(le).is_eq());
                    found.map(|(_, count)| *count)
                })
                .collect::<Option<Vec<f64>>>()?,
            SeriesCounts::Number(_) => return None,
        };
        Some((name.clone(), values))
    });
    let series: BTreeMap<_, _> = series.collect();
    if series.is_empty() {
        Side::Absent
    } else {
        Side::Counters(series)
    }
}

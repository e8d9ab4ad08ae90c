//! A finding as the status tells it.

use std::collections::BTreeMap;

use crate::{
    api::judge_status::{JudgeStatus, JudgeVerdict, JudgedMetric},
    stats::{
        self, Finding, Judge, JudgeConfig, MetricKind, Reading, Verdict,
        config::{Compare, MetricConfig},
    },
};

/// What a critical metric lacks, and what to do; `None` when all of them were read.
pub(super) fn missing(
    config: &JudgeConfig,
    readings: &BTreeMap<String, Reading>,
) -> Option<String> {
    let critical = config.metrics.iter().filter(|metric| metric.critical);
    let lacks: Vec<String> = critical
        .flat_map(|metric| {
            let reading = readings.get(&metric.name);
            let canary = reading.is_none_or(|reading| reading.canary.is_absent());
            let primary =
                needs_primary(metric) && reading.is_none_or(|reading| reading.primary.is_absent());
            [(canary, "canary"), (primary, "primary")]
                .into_iter()
                .filter(|(lacks, _)| *lacks)
                .map(|(_, side)| format!("{} of the {side}", metric.name))
        })
        .collect();
    (!lacks.is_empty()).then(|| {
        format!(
            "the judge found no {}; see that requests reach them, that the metrics server scrapes \
             them, and that the queries find their series",
            lacks.join(", no ")
        )
    })
}

fn needs_primary(metric: &MetricConfig) -> bool {
    match &metric.kind {
        MetricKind::Ratio(settings) => {
            settings.compare == Compare::Primary && settings.objective.is_none()
        }
        MetricKind::Histogram(settings) => {
            settings.compare == Compare::Primary && settings.objective.is_none()
        }
        MetricKind::Scalar(settings) => settings.min.is_none() && settings.max.is_none(),
    }
}

/// Writes down what a look came to. What lacks data does not pass.
pub(super) fn write(
    record: &mut JudgeStatus,
    judge: &Judge,
    finding: &Finding,
    missing: Option<String>,
) {
    record.verdict = match (&finding.verdict, &missing) {
        (Verdict::Fail { .. }, _) => JudgeVerdict::Fail,
        (Verdict::Pass, None) => JudgeVerdict::Pass,
        (Verdict::Pass, Some(_)) | (Verdict::Undecided { .. }, _) => JudgeVerdict::Undecided,
    };
    (record.requests_needed, record.seconds_needed) = match (&finding.verdict, &missing) {
        (Verdict::Undecided { needs, withheld }, None) if withheld.is_empty() => {
            (needs.requests, needs.seconds.map(f64::ceil))
        }
        (Verdict::Undecided { .. } | Verdict::Fail { .. } | Verdict::Pass, _) => (None, None),
    };
    record.message = match missing {
        Some(missing) if record.verdict == JudgeVerdict::Undecided => missing,
        Some(_) | None => finding.sentence(),
    };
    record.evidence = short(finding.log_e_all.exp());
    record.metrics = finding
        .log_e
        .iter()
        .map(|(name, log_e)| {
            let mut told = counted(name, judge, finding);
            told.evidence = short(log_e.exp());
            told
        })
        .collect();
    record.state = serde_json::to_string(judge.state()).ok();
}

/// Why a step may not end yet.
pub(super) fn doubt(record: &JudgeStatus) -> String {
    match record.requests_needed {
        Some(requests) => format!(
            "the judge is undecided: {}",
            stats::needs(requests, record.seconds_needed)
        ),
        None if record.message.starts_with("the judge") => record.message.clone(),
        None => format!("the judge is undecided: {}", record.message),
    }
}

/// The counts of the stream with the most evidence.
fn counted(name: &str, judge: &Judge, finding: &Finding) -> JudgedMetric {
    let mut told = JudgedMetric {
        name: name.to_owned(),
        ..JudgedMetric::default()
    };
    let streams = judge
        .state()
        .metrics
        .get(name)
        .map(|metric| &metric.streams);
    let largest = streams
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(at, stream)| (at, stream.bettor.log_evidence(), stream))
        .reduce(|best, other| if other.1 > best.1 { other } else { best });
    let Some((at, _, stream)) = largest else {
        return told;
    };
    let slice = stream.strata.all();
    told.canary_requests = slice.n1;
    told.canary_bad = slice.x1;
    told.primary_requests = slice.n0;
    told.primary_bad = slice.x0;
    let Some(detail) = finding.detail.get(name) else {
        return told;
    };
    told.bound = detail
        .bounds
        .as_ref()
        .and_then(|bounds| bounds.get(at))
        .copied();
    if let Some(Some(ratio)) = detail.ratio.get(at) {
        told.ratio = ratio.estimate.and_then(short);
        told.ratio_low = short(ratio.low);
        told.ratio_high = ratio.high.and_then(short);
    }
    told
}

/// Three digits, as people read a number; none for what JSON cannot say.
fn short(value: f64) -> Option<f64> {
    let magnitude = value.abs().log10().floor();
    if !value.is_finite() || !magnitude.is_finite() {
        return (value == 0.0).then_some(0.0);
    }
    let unit = 10_f64.powf(magnitude - 2.0);
    Some((value / unit).round() * unit)
        .filter(|short| short.is_finite())
        .map(|short| {
            if unit < 1.0 {
                (short * 1e9).round() / 1e9
            } else {
                short.round()
            }
        })
}

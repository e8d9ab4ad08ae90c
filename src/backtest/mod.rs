//! Policies on releases of the past: what they would have decided, and when.
//!
//! The questions are the operator's own, asked of the metrics server for times gone by
//! ([`crate::measure::history`]); the answers are judged by the operator's own judge and thresholds
//! ([`replay`]).

mod past;
pub mod replay;
mod versions;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    api::{Canary, MetricTemplate, judge::JudgeSpec},
    measure::{
        Outside,
        history::{self, Times},
        judging::queries,
        metrics::{metric_query, template_key},
    },
    object::Key,
    settings::Settings,
    stats::JudgeConfig,
};

pub use past::{Ended, Past};
use replay::{Decision, Exposure, by_thresholds, judged};
pub use versions::{InvalidVersions, Versions};

/// How long before a release the judge looks at the primary, as before a live one.
const BASELINE: SignedDuration = SignedDuration::from_mins(10);

/// What is tried on the past.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The Canary: its thresholds, its judge and its steps.
    pub canary: Canary,
    /// What the operator is told at start.
    pub settings: Settings,
    /// Templates that the Canary refers to.
    pub templates: BTreeMap<Key, MetricTemplate>,
    /// How versions are told apart when they had no primary and canary of their own.
    pub versions: Option<Versions>,
}

/// Which releases are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Those that an operator's metrics tell of, from the first time to the second.
    Found(Timestamp, Timestamp),
    /// One, from the first time to the second.
    Given(Timestamp, Timestamp),
}

/// A release of the past, and what would have been decided on it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replayed {
    /// The release.
    pub release: Past,
    /// The thresholds of `analysis.metrics`; `None` when there are none.
    pub thresholds: Option<Decision>,
    /// The judge.
    pub judge: Decision,
}

/// Replays the policy on every release of the window.
///
/// # Errors
/// The text says which question failed, or what of the policy cannot be used.
pub async fn backtest(
    policy: &Policy,
    window: Window,
    outside: &dyn Outside,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<Replayed>, String> {
    let judge = policy
        .canary
        .spec
        .analysis
        .judge
        .clone()
        .unwrap_or_default();
    let releases = past::releases(policy, &judge, window, outside).await?;
    let count = releases.len();
    let mut all = Vec::new();
    for (release, course) in releases {
        progress(all.len(), count);
        all.push(replay(policy, &judge, release, &course, outside).await?);
    }
    Ok(all)
}

async fn replay(
    policy: &Policy,
    spec: &JudgeSpec,
    release: Past,
    course: &[Exposure],
    outside: &dyn Outside,
) -> Result<Replayed, String> {
    let Policy {
        canary, settings, ..
    } = policy;
    let analysis = &canary.spec.analysis;
    let config: JudgeConfig = spec
        .config(analysis.strategy())
        .map_err(|error| format!("spec.analysis.judge: {error}"))?;
    let metrics = spec
        .metrics()
        .iter()
        .map(|metric| {
            let template = template_key(canary, metric.template_ref.as_ref())
                .and_then(|key| policy.templates.get(&key));
            let ask = |metric: &_| {
                queries(canary, settings, metric, template).map_err(|error| error.to_string())
            };
            match &policy.versions {
                Some(versions) => versions.tell_apart(metric, template, ask),
                None => ask(metric),
            }
        })
        .collect::<Result<Vec<_>, _>>()?;
    let times = Times {
        from: whole(
            release
                .from
                .saturating_sub(BASELINE)
                .unwrap_or(release.from),
        ),
        to: release.to,
        every: seconds(spec.every(analysis.interval())),
    };
    let columns = history::counters(&metrics, times, outside).await?;
    let judge = judged(config, &metrics, &columns, course).map_err(|error| error.to_string())?;

    let mut checked = Vec::new();
    let interval = seconds(analysis.interval());
    let checks = Times {
        from: whole(
            release
                .from
                .saturating_add(SignedDuration::from_secs(interval))
                .unwrap_or(release.to),
        ),
        to: release.to,
        every: interval,
    };
    for metric in analysis.metrics.iter().flatten() {
        let template = template_key(canary, metric.template_ref.as_ref())
            .and_then(|key| policy.templates.get(&key));
        let mut metric = metric.clone();
        if let Some(versions) = &policy.versions {
            versions.name(&mut metric.template_variables);
        }
        let asked =
            metric_query(canary, settings, &metric, template).map_err(|error| error.to_string())?;
        for mut query in asked {
            if let Some(versions) = &policy.versions {
                versions.choose_canary(&mut query);
            }
            let outcomes = history::outcomes(&query, checks, outside).await?;
            checked.push((query, outcomes));
        }
    }
    let thresholds =
        (!checked.is_empty()).then(|| by_thresholds(canary, settings, &checked, course));
    Ok(Replayed {
        release,
        thresholds,
        judge,
    })
}

/// A time cut to whole seconds, as questions have it.
fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

fn seconds(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX).max(1)
}

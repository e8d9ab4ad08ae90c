//! What a policy would have decided on what was seen: pure.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::{
    api::Canary,
    measure::{columns, metrics::halt_message},
    plan::{LookColumn, LookMetric, MetricQuery, Outcome},
    settings::Settings,
    stats::{ConfigError, Finding, Judge, JudgeConfig, Look, Reading, Side, StepId, Verdict},
};

/// Who had the canary from some time on.
#[derive(Clone, Debug, PartialEq)]
pub struct Exposure {
    /// From when.
    pub since: Timestamp,
    /// The step's name; `None` while nobody has the canary.
    pub step: Option<String>,
    /// The canary's share of traffic after this step, in (0, 1].
    pub next: f64,
}

/// What a way to judge would have done with a release.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "decision", rename_all = "camelCase")]
pub enum Decision {
    /// Rolled it back.
    RolledBack(Moment),
    /// Kept it where it was, in want of evidence.
    Held(Moment),
    /// Promoted it.
    Promoted {
        /// What was found at the end.
        because: String,
    },
    /// Nothing was known about the release.
    Unknown {
        /// What is missing.
        because: String,
    },
}

/// When something would have been decided, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Moment {
    /// The time.
    pub at: Timestamp,
    /// The step under way.
    pub step: String,
    /// Why.
    pub because: String,
}

/// Who had the canary at a time.
pub fn exposure(course: &[Exposure], at: Timestamp) -> Option<&Exposure> {
    course.iter().rev().find(|exposure| exposure.since <= at)
}

/// What the judge would have decided: to roll back at the first look at which it says so, or to hold
/// a step that ended without a pass.
///
/// The looks after a step that would have been held are of a share of traffic that the judge would
/// not have allowed; a later rollback still tells that the release was bad.
///
/// # Errors
/// When the configuration cannot be used.
pub fn judged(
    config: JudgeConfig,
    metrics: &[LookMetric],
    seen: &[LookColumn],
    course: &[Exposure],
) -> Result<Decision, ConfigError> {
    let mut judge = Judge::new(config)?;
    let kept = kept(seen);
    let columns: Vec<&LookColumn> = kept.iter().collect();
    let readings = columns::readings(metrics, &columns);
    let mut last: Option<(String, Moment, bool)> = None;
    let mut held = None;
    let mut before: Option<(Timestamp, &BTreeMap<String, Reading>)> = None;
    let mut exposed = false;
    for (column, readings) in columns.iter().zip(&readings) {
        let Some((since, base)) = before.replace((column.at, readings)) else {
            judge.rebase(&look(column.at, None, readings.clone(), "before", 1.0));
            continue;
        };
        let now = exposure(course, column.at);
        let next = now.map_or(1.0, |exposure| exposure.next);
        let Some(step) = now.and_then(|exposure| exposure.step.as_deref()) else {
            // What pods of a release before count while they go is not this canary's.
            let alone = without_canary(readings);
            judge.look(&look(column.at, Some(since), alone, "before", next));
            continue;
        };
        if !exposed {
            judge.rebase(&look(since, None, base.clone(), "before", next));
            exposed = true;
        }
        if let Some((ended, moment, passed)) = last.take()
            && ended != step
            && !passed
        {
            held.get_or_insert(moment);
        }
        let finding = judge.look(&look(column.at, Some(since), readings.clone(), step, next));
        let moment = |finding: &Finding| Moment {
            at: column.at,
            step: step.to_owned(),
            because: finding.sentence(),
        };
        if matches!(finding.verdict, Verdict::Fail { .. }) {
            return Ok(Decision::RolledBack(moment(&finding)));
        }
        let passed = finding.verdict == Verdict::Pass;
        last = Some((step.to_owned(), moment(&finding), passed));
    }
    let has_canary = kept
        .iter()
        .any(|column| column.metrics.values().any(|[_, c]| !c.is_empty()));
    Ok(match (held, last) {
        _ if !has_canary => Decision::Unknown {
            because:
                "the queries give nothing for the canary; does the server still have that time?"
                    .to_owned(),
        },
        (Some(moment), _) | (None, Some((_, moment, false))) => Decision::Held(moment),
        (None, Some((_, moment, true))) => Decision::Promoted {
            because: moment.because,
        },
        (None, None) => Decision::Unknown {
            because: "nobody had the canary".to_owned(),
        },
    })
}

/// Columns in which no series is ever gone again: what vanishes for a scrape is not new when it is
/// back.
fn kept(seen: &[LookColumn]) -> Vec<LookColumn> {
    let mut all: Vec<LookColumn> = Vec::with_capacity(seen.len());
    for column in seen {
        all.push(columns::keep(all.last(), column));
    }
    all
}

fn without_canary(readings: &BTreeMap<String, Reading>) -> BTreeMap<String, Reading> {
    let mut readings = readings.clone();
    for reading in readings.values_mut() {
        reading.canary = Side::Absent;
    }
    readings
}

fn look(
    at: Timestamp,
    since: Option<Timestamp>,
    metrics: BTreeMap<String, Reading>,
    step: &str,
    next: f64,
) -> Look {
    Look {
        t: at.as_duration().as_secs_f64(),
        dt: since.map_or(0.0, |since| at.duration_since(since).as_secs_f64()),
        step: StepId::Name(step.to_owned()),
        next: Some(next),
        cold: false,
        metrics,
    }
}

/// A threshold and what it came to at each check.
pub type Checked = (MetricQuery, Vec<(Timestamp, Outcome)>);

/// What thresholds would have decided: to roll back at the check at which as many checks have failed
/// as the analysis allows, else to promote.
pub fn by_thresholds(
    canary: &Canary,
    settings: &Settings,
    checked: &[Checked],
    course: &[Exposure],
) -> Decision {
    let mut failures: BTreeMap<Timestamp, Option<String>> = BTreeMap::new();
    for (query, outcomes) in checked {
        for (at, outcome) in outcomes {
            let failure = failures.entry(*at).or_default();
            if failure.is_none() {
                *failure = halt_message(canary, settings, query, outcome);
            }
        }
    }
    let allowed = canary.spec.analysis.threshold();
    let (mut failed, mut checks) = (0, 0);
    for (at, failure) in failures {
        let Some(step) = exposure(course, at).and_then(|exposure| exposure.step.as_deref()) else {
            continue;
        };
        checks += 1;
        let Some(because) = failure else {
            continue;
        };
        failed += 1;
        if failed >= allowed {
            return Decision::RolledBack(Moment {
                at,
                step: step.to_owned(),
                because: format!("{failed} of {checks} checks failed, at last: {because}"),
            });
        }
    }
    if checks == 0 {
        return Decision::Unknown {
            because: "the release was over before its first check".to_owned(),
        };
    }
    Decision::Promoted {
        because: format!("{failed} of {checks} checks failed, {allowed} roll back"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::judge::{JudgeKind, JudgeSpec},
        plan::{MetricServer, MetricSource, SeriesCounts},
    };

    const EVERY: i64 = 15;

    fn at(look: i64) -> Timestamp {
        Timestamp::from_second(look * EVERY).unwrap()
    }

    /// Looks at a service of 40 requests a second whose canary, from look 40 on, gets a tenth; each
    /// side fails this share of its requests, in percent. What `lost` names is a scrape without series.
    fn seen(
        primary_fails: f64,
        canary_fails: f64,
        looks: i64,
        lost: Option<i64>,
    ) -> Vec<LookColumn> {
        let side = |name: &str, all: f64, fails: f64| {
            let pair = SeriesCounts::Pair(all.floor(), (all * fails / 100.0).floor());
            BTreeMap::from([(name.to_owned(), pair)])
        };
        (0..looks)
            .map(|look| {
                #[expect(clippy::cast_precision_loss, reason = "few looks")]
                let (all, after) = ((look * 600) as f64, ((look - 40).max(0) * 60) as f64);
                let mut sides = [
                    side("primary", 1e6 + all - after, primary_fails),
                    side("canary", 5e3 + after, canary_fails),
                ];
                if lost == Some(look) {
                    sides = [BTreeMap::new(), BTreeMap::new()];
                }
                LookColumn {
                    at: at(look),
                    metrics: BTreeMap::from([("errors".to_owned(), sides)]),
                }
            })
            .collect()
    }

    fn course() -> Vec<Exposure> {
        [
            (0, None, 0.1),
            (40, Some("10 %"), 0.2),
            (70, Some("20 %"), 1.0),
        ]
        .map(|(look, step, next)| Exposure {
            since: at(look),
            step: step.map(str::to_owned),
            next,
        })
        .into()
    }

    fn judge(seen: &[LookColumn]) -> Decision {
        let spec: JudgeSpec =
            serde_json::from_value(json!({"metrics": [{"name": "errors", "kind": "ratio"}]}))
                .unwrap();
        let metrics = [LookMetric {
            name: "errors".to_owned(),
            kind: JudgeKind::Ratio,
            sides: [vec![], vec![]],
        }];
        let config = spec.config(crate::api::Strategy::Canary).unwrap();
        judged(config, &metrics, seen, &course()).unwrap()
    }

    #[test]
    fn canary_with_ten_times_the_errors_would_be_rolled_back_in_its_first_step() {
        let Decision::RolledBack(moment) = judge(&seen(0.5, 5.0, 100, None)) else {
            panic!("not rolled back");
        };
        assert_eq!(moment.step, "10 %");
        assert!(moment.because.contains("errors"), "{}", moment.because);
    }

    #[test]
    fn canary_as_good_as_the_primary_would_not_be_rolled_back() {
        for lost in [None, Some(20), Some(50), Some(75)] {
            let decision = judge(&seen(0.5, 0.5, 400, lost));
            assert!(
                !matches!(decision, Decision::RolledBack(_)),
                "{lost:?}: {decision:?}"
            );
            assert!(
                !matches!(decision, Decision::Unknown { .. }),
                "{lost:?}: {decision:?}"
            );
        }
    }

    #[test]
    fn errors_before_the_release_are_not_the_canarys() {
        let mut seen = seen(0.5, 0.5, 100, None);
        for column in &mut seen[..30] {
            let [_, canary] = column.metrics.get_mut("errors").unwrap();
            canary.insert("canary".to_owned(), SeriesCounts::Pair(0.0, 0.0));
        }
        let decision = judge(&seen);
        assert!(!matches!(decision, Decision::RolledBack(_)), "{decision:?}");
    }

    #[test]
    fn release_of_which_nothing_is_left_is_unknown() {
        let mut seen = seen(0.5, 0.5, 100, None);
        for column in &mut seen {
            column.metrics.get_mut("errors").unwrap()[1].clear();
        }
        assert!(matches!(judge(&seen), Decision::Unknown { .. }));
        assert!(matches!(judge(&[]), Decision::Unknown { .. }));
    }

    #[test]
    fn thresholds_roll_back_at_as_many_failed_checks_as_allowed() {
        let canary: Canary = serde_json::from_value(json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
            "metadata": {"name": "shop", "namespace": "prod"},
            "spec": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"},
                "analysis": {"threshold": 2},
            },
        }))
        .unwrap();
        let query = MetricQuery {
            name: "errors".to_owned(),
            source: MetricSource::Inline,
            server: MetricServer::prometheus(String::new()),
            query: String::new(),
            interval: String::new(),
            scale: 1.0,
            whole: false,
            bound: crate::api::analysis::ThresholdRange {
                min: None,
                max: Some(1.0),
            },
        };
        let decide = |values: &[(i64, Outcome)]| {
            let outcomes = values
                .iter()
                .map(|(look, value)| (at(*look), value.clone()))
                .collect();
            by_thresholds(
                &canary,
                &Settings::default(),
                &[(query.clone(), outcomes)],
                &course(),
            )
        };
        let (good, bad) = (Outcome::Value(0.5), Outcome::Value(3.0));
        let nothing = Outcome::NoData("no values found".to_owned());
        let early = [
            (10, bad.clone()),
            (20, bad.clone()),
            (44, good.clone()),
            (48, bad.clone()),
        ];
        assert!(
            matches!(decide(&early), Decision::Promoted { .. }),
            "before anybody had it"
        );
        let twice = [(44, bad), (48, good), (72, nothing)];
        let Decision::RolledBack(moment) = decide(&twice) else {
            panic!("not rolled back");
        };
        assert_eq!((moment.at, moment.step.as_str()), (at(72), "20 %"));
        assert!(matches!(decide(&[]), Decision::Unknown { .. }));
    }
}

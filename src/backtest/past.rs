//! Releases that an operator's metrics tell of, its own or Flagger's.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::{
    api::{Canary, Strategy, judge::JudgeSpec},
    decide::steps::{next_share, strategy},
    measure::{
        Outside,
        history::{self, Times},
    },
    route::{self, Capabilities},
};

use super::{Policy, Window, replay::Exposure, seconds, whole};

/// Time without any sample that does not yet end a release: operators restart.
const GAP: SignedDuration = SignedDuration::from_mins(5);

/// A release of the past.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Past {
    /// When it began.
    pub from: Timestamp,
    /// When it was over, or the last that is known of it.
    pub to: Timestamp,
    /// What became of it; `None` when that is not known.
    pub ended: Option<Ended>,
}

/// What became of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Ended {
    /// It was promoted.
    Promoted,
    /// It was rolled back.
    RolledBack,
}

/// The releases of a window, each with who had the canary when.
pub(super) async fn releases(
    policy: &Policy,
    judge: &JudgeSpec,
    window: Window,
    outside: &dyn Outside,
) -> Result<Vec<(Past, Vec<Exposure>)>, String> {
    let Policy {
        canary, settings, ..
    } = policy;
    let every = seconds(judge.every(canary.spec.analysis.interval()));
    let times = |from, to| Times {
        from: whole(from),
        to,
        every,
    };
    let name = canary.metadata.name.as_deref().unwrap_or_default();
    let found = match window {
        Window::Given(from, to) => vec![Past {
            from,
            to,
            ended: None,
        }],
        Window::Found(from, to) => {
            let query = of_canary(canary, &format!("flagger_canary_status{{name=\"{name}\""));
            let states = history::values(canary, settings, &query, times(from, to), outside).await;
            running(&states.map_err(|why| format!("query of past releases: {why}"))?)
        }
    };
    let workload = &canary.spec.target_ref.name;
    let query = of_canary(
        canary,
        &format!("flagger_canary_weight{{workload=\"{workload}\""),
    );
    let mut all = Vec::new();
    for release in found {
        let times = times(release.from, release.to);
        let weights = history::values(canary, settings, &query, times, outside).await;
        let weights = weights.map_err(|why| format!("query of past weights: {why}"))?;
        all.push(course(policy, release, &weights));
    }
    Ok(all)
}

/// A query for one series about a Canary, whichever label has its namespace after the scrape.
fn of_canary(canary: &Canary, selector: &str) -> String {
    let namespace = canary.metadata.namespace.as_deref().unwrap_or_default();
    format!(
        "max({selector},namespace=\"{namespace}\"}} or {selector},exported_namespace=\"{namespace}\"}})"
    )
}

/// The times at which the status was 0, running, and what it was next.
fn running(states: &BTreeMap<Timestamp, f64>) -> Vec<Past> {
    let mut all: Vec<Past> = Vec::new();
    let mut open = false;
    for (at, state) in states {
        match all.last_mut().filter(|_| open) {
            Some(last) if at.duration_since(last.to) <= GAP => {
                last.to = *at;
                if *state >= 1.0 {
                    last.ended = Some(if *state < 2.0 {
                        Ended::Promoted
                    } else {
                        Ended::RolledBack
                    });
                    open = false;
                }
            }
            _ if *state < 1.0 => {
                all.push(Past {
                    from: *at,
                    to: *at,
                    ended: None,
                });
                open = true;
            }
            _ => open = false,
        }
    }
    all
}

/// Who had the canary when, by its weights; without any, everybody is taken to have had it.
fn course(
    policy: &Policy,
    mut release: Past,
    weights: &BTreeMap<Timestamp, f64>,
) -> (Past, Vec<Exposure>) {
    let spec = &policy.canary.spec;
    let provider = spec.provider.unwrap_or(policy.settings.mesh_provider);
    // A route API that this build does not know was Flagger's, and could do all.
    let can = route::router(provider).map_or(
        Capabilities {
            weights: true,
            headers: true,
            mirror: true,
            sticky: true,
        },
        |router| router.capabilities(spec.service.as_ref()),
    );
    let analysis = &spec.analysis;
    let strategy = strategy(analysis, can);
    if weights.is_empty() {
        let everybody = Exposure {
            since: release.from,
            step: Some("all".to_owned()),
            next: 1.0,
        };
        return (release, vec![everybody]);
    }
    if strategy == Strategy::Canary
        && let Some((last, _)) = weights.iter().rfind(|(_, weight)| **weight > 0.0)
    {
        // Then the primary had everybody again.
        release.to = *last;
    }
    let mut course: Vec<Exposure> = Vec::new();
    for (at, weight) in weights {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "a percentage, cut to its range"
        )]
        let weight = weight.clamp(0.0, 100.0) as i32;
        let step = match (weight, strategy) {
            (1.., _) => Some(format!("{weight} %")),
            (_, Strategy::Canary) => None,
            (_, Strategy::AbTesting) => Some("matched".to_owned()),
            (_, Strategy::BlueGreen) => Some("tested".to_owned()),
        };
        if course.last().is_none_or(|last| last.step != step) {
            course.push(Exposure {
                since: *at,
                step,
                next: next_share(analysis, can, weight),
            });
        }
    }
    (release, course)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn releases_are_where_the_status_is_running() {
        let states = [
            (0, 1.0),
            (15, 0.0),
            (30, 0.0),
            // The operator restarts.
            (200, 0.0),
            (215, 2.0),
            (230, 2.0),
            (300, 0.0),
            (315, 1.0),
            (1000, 0.0),
            (2000, 0.0),
        ];
        let states = states.map(|(second, state)| (at(second), state)).into();
        let found: Vec<_> = running(&states)
            .iter()
            .map(|past| (past.from.as_second(), past.to.as_second(), past.ended))
            .collect();
        assert_eq!(
            found,
            [
                (15, 215, Some(Ended::RolledBack)),
                (300, 315, Some(Ended::Promoted)),
                (1000, 1000, None),
                (2000, 2000, None),
            ]
        );
    }
}

//! How often thresholds and the judge decide wrongly, and how late they decide rightly.
//!
//! The product's own judge decides on releases whose requests are drawn at random, slice by slice
//! of 15 s: numbers of requests Poisson, errors binomial, latencies lognormal (median 60 ms, σ 0.8)
//! in Istio's buckets. Thresholds are Flagger's defaults. Each release has a seed of its own, so
//! that the same call gives the same table on any number of cores.

mod policies;
mod rows;
mod service;
mod table;

use std::sync::{
    Mutex,
    atomic::{AtomicU32, Ordering},
};

use serde::Serialize;

use super::Dice;
use policies::{INTERVAL, Judged, Policy, Thresholds, Word};
use rows::{Kind, ROWS, Row};
use service::{Moment, SLICE};

pub use table::markdown;

/// Looks before the canary has traffic: ten minutes.
const BASELINE: u32 = 40;

/// Seconds that a release is followed.
const HOUR: f64 = 3600.0;

/// Shares of the canary in a ramp.
const RAMP: [f64; 4] = [0.01, 0.05, 0.2, 0.5];

/// What both ways to judge made of one kind of service.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Compared {
    /// What kind of service.
    pub service: &'static str,
    /// What the row is about.
    pub question: &'static str,
    /// What thresholds made of it.
    pub thresholds: Tally,
    /// What the judge made of it.
    pub judge: Tally,
}

/// Many releases of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Tally {
    /// How many.
    pub releases: u32,
    /// How many were rolled back.
    pub rolled_back: u32,
    /// How many passed, or were promoted, before any rollback.
    pub passed: u32,
    /// Seconds to the rollback, of those rolled back: median and 90th percentile. Ramps: to the
    /// end, whichever.
    pub seconds: Option<[f64; 2]>,
    /// Seconds to the first pass, of those that passed: median and 90th percentile.
    pub pass_seconds: Option<[f64; 2]>,
    /// Requests that the new version failed in an hour: mean.
    pub failed_requests: f64,
}

/// One release.
#[derive(Clone, Copy, Debug, Default)]
struct Release {
    rolled_back: Option<f64>,
    passed: Option<f64>,
    failed: f64,
}

/// Compares both ways on every kind of service; `tell` hears of each one that is done.
pub fn compare(releases: u32, seed: u64, tell: impl Fn(usize, usize) + Sync) -> Vec<Compared> {
    ROWS.iter()
        .enumerate()
        .map(|(at, row)| {
            let compared = Compared {
                service: row.name,
                question: row.kind.question(),
                thresholds: tally::<Thresholds>(row, releases, seed),
                judge: tally::<Judged>(row, releases, seed),
            };
            tell(at + 1, ROWS.len());
            compared
        })
        .collect()
}

fn tally<P: Policy>(row: &Row, releases: u32, seed: u64) -> Tally {
    let done = Mutex::new(Vec::new());
    let next = AtomicU32::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= releases {
                        return;
                    }
                    let dice = Dice::new(Dice::new(seed ^ u64::from(at) << 20).roll());
                    let release = match row.kind {
                        Kind::Healthy { share } | Kind::Defect { share, .. } => {
                            hold::<P>(row, share, dice)
                        }
                        Kind::Ramp { shares } => ramp::<P>(row, shares, dice),
                    };
                    if let Ok(mut done) = done.lock() {
                        done.push(release);
                    }
                }
            });
        }
    });
    sum_up(row, &done.into_inner().unwrap_or_default())
}

fn sum_up(row: &Row, releases: &[Release]) -> Tally {
    let count = |of: fn(&Release) -> bool| {
        u32::try_from(releases.iter().filter(|r| of(r)).count()).unwrap_or(u32::MAX)
    };
    let ended = |r: &Release| match row.kind {
        Kind::Ramp { .. } => r.rolled_back.or(r.passed),
        Kind::Defect { onset, .. } => r.rolled_back.map(|seconds| seconds - onset),
        Kind::Healthy { .. } => r.rolled_back,
    };
    let all = f64::from(u32::try_from(releases.len()).unwrap_or(u32::MAX)).max(1.0);
    Tally {
        releases: count(|_| true),
        rolled_back: count(|r| r.rolled_back.is_some()),
        passed: count(|r| {
            r.passed
                .is_some_and(|passed| r.rolled_back.is_none_or(|back| passed < back))
        }),
        seconds: quantiles(releases.iter().filter_map(ended).collect()),
        pass_seconds: quantiles(releases.iter().filter_map(|r| r.passed).collect()),
        failed_requests: releases.iter().map(|r| r.failed).sum::<f64>() / all,
    }
}

/// Median and 90th percentile; none of nothing.
fn quantiles(mut values: Vec<f64>) -> Option<[f64; 2]> {
    values.sort_by(f64::total_cmp);
    let at = |tenths: usize| values.get((values.len() * tenths / 10).min(values.len().max(1) - 1));
    Some([*at(5)?, *at(9)?])
}

/// A release that stays at one share for an hour.
fn hold<P: Policy>(row: &Row, share: f64, mut dice: Dice) -> Release {
    let mut release = Release::default();
    let mut follow = Follow::<P>::new(row, &mut dice);
    while follow.seconds < HOUR {
        let (word, failed) = follow.slice(share, 0, 1.0);
        release.failed += failed;
        match word {
            Word::RollBack => {
                release.rolled_back = Some(follow.seconds);
                return release;
            }
            Word::Pass if follow.seconds >= INTERVAL => {
                release.passed.get_or_insert(follow.seconds);
            }
            Word::Pass | Word::Wait => {}
        }
    }
    release
}

/// A release that goes up step by step and is promoted, followed for an hour.
fn ramp<P: Policy>(row: &Row, shares: &[f64], mut dice: Dice) -> Release {
    let mut release = Release::default();
    let mut follow = Follow::<P>::new(row, &mut dice);
    let mut step = 0;
    let mut since = 0.0;
    while follow.seconds < HOUR {
        let Some(share) = shares.get(step) else {
            // Promoted: everyone is on the new version.
            release.failed += follow.unjudged(1.0);
            continue;
        };
        let next = shares.get(step + 1).copied().unwrap_or(1.0);
        let (word, failed) = follow.slice(*share, i64::try_from(step).unwrap_or(0), next);
        release.failed += failed;
        match word {
            Word::RollBack => {
                release.rolled_back = Some(follow.seconds);
                return release;
            }
            Word::Pass if follow.seconds - since >= INTERVAL => {
                step += 1;
                since = follow.seconds;
                if step == shares.len() {
                    release.passed = Some(follow.seconds);
                }
            }
            Word::Pass | Word::Wait => {}
        }
    }
    release
}

/// A release under way.
struct Follow<'a, P> {
    row: &'a Row,
    dice: &'a mut Dice,
    pods: service::Pods,
    policy: P,
    seconds: f64,
}

impl<'a, P: Policy> Follow<'a, P> {
    fn new(row: &'a Row, dice: &'a mut Dice) -> Self {
        let pods = row.service.pods(dice);
        let before = Moment {
            seconds: 0.0,
            share: 0.0,
        };
        let baseline: Vec<_> = (0..BASELINE)
            .map(|_| row.service.draw(dice, pods, before)[0])
            .collect();
        Self {
            row,
            dice,
            pods,
            policy: P::new(&baseline),
            seconds: 0.0,
        }
    }

    /// One slice: what the policy says, and how many requests the new version failed.
    fn slice(&mut self, share: f64, step: i64, next: f64) -> (Word, f64) {
        self.seconds += SLICE;
        let at = Moment {
            seconds: self.seconds,
            share,
        };
        let slice = self.row.service.draw(self.dice, self.pods, at);
        let cold = !self.row.service.warm && at.seconds <= 60.0;
        let word = self.policy.see(at, step, next, cold, &slice);
        (word, slice[1].failed)
    }

    fn unjudged(&mut self, share: f64) -> f64 {
        self.seconds += SLICE;
        let at = Moment {
            seconds: self.seconds,
            share,
        };
        self.row.service.draw(self.dice, self.pods, at)[1].failed
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn row(name: &str) -> &'static Row {
        ROWS.iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn healthy_release_of_little_traffic_is_rolled_back_by_thresholds_alone() {
        let row = row("10 requests/s, 5 % on the canary");
        assert!(tally::<Thresholds>(row, 30, 1).rolled_back >= 27);
        assert_eq!(tally::<Judged>(row, 30, 1).rolled_back, 0);
    }

    #[test]
    fn tenfold_errors_are_rolled_back_sooner_by_the_judge() {
        let row = row("errors 0.5 % → 5 %, 20 % on the canary");
        let [thresholds, judge] = [tally::<Thresholds>(row, 30, 1), tally::<Judged>(row, 30, 1)];
        assert_eq!((thresholds.rolled_back, judge.rolled_back), (30, 30));
        assert_eq!(judge.passed, 0);
        assert!(judge.seconds.unwrap()[1] < thresholds.seconds.unwrap()[0] / 2.0);
    }

    #[test]
    fn ramp_of_a_bad_version_fails_few_requests_under_the_judge() {
        let row = row("errors 0.1 % → 1 %");
        let [thresholds, judge] = [tally::<Thresholds>(row, 20, 1), tally::<Judged>(row, 20, 1)];
        assert!(thresholds.passed > 0);
        assert_eq!(judge.passed, 0);
        assert!(judge.failed_requests < thresholds.failed_requests / 10.0);
    }

    #[test]
    fn comparison_is_the_same_each_time() {
        let row = row("100 requests/s, 5 % on the canary");
        assert_eq!(tally::<Judged>(row, 8, 5), tally::<Judged>(row, 8, 5));
        assert_ne!(tally::<Judged>(row, 8, 5), tally::<Judged>(row, 8, 6));
    }

    #[test]
    fn quantiles_of_nothing_are_none() {
        assert_eq!(quantiles(Vec::new()), None);
        assert_eq!(quantiles(vec![2.0, 1.0]), Some([2.0, 2.0]));
    }
}

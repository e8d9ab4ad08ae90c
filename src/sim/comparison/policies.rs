//! The two ways to judge, fed with the same slices.

use std::collections::BTreeMap;

use crate::stats::{Judge, JudgeConfig, Look, Reading, Side, StepId, Verdict};

use super::service::{BUCKETS, Moment, Requests, SLICE};

/// Seconds between checks, and the least that a step lasts.
pub(super) const INTERVAL: f64 = 60.0;

/// What a way to judge says after a slice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Roll back.
    RollBack,
    /// The step may end.
    Pass,
    /// Neither.
    Wait,
}

/// A way to judge.
pub(super) trait Policy {
    /// A new release; `baseline` is what the primary showed before.
    fn new(baseline: &[Requests]) -> Self;
    /// One slice. `step` counts steps, `next` is the canary's share after this step.
    fn see(&mut self, at: Moment, step: i64, next: f64, cold: bool, slice: &[Requests; 2]) -> Word;
}

/// Flagger's thresholds: every minute over the last one, success of at least 99 % and an
/// interpolated 99th percentile of at most 500 ms; the fifth failed check rolls back; a minute
/// without requests passes.
#[derive(Debug, Default)]
pub(super) struct Thresholds {
    minute: Requests,
    failed: u32,
}

impl Policy for Thresholds {
    fn new(_: &[Requests]) -> Self {
        Self::default()
    }

    fn see(&mut self, at: Moment, _: i64, _: f64, _: bool, [_, canary]: &[Requests; 2]) -> Word {
        self.minute.all += canary.all;
        self.minute.failed += canary.failed;
        for (sum, count) in self.minute.buckets.iter_mut().zip(canary.buckets) {
            *sum += count;
        }
        if at.seconds % INTERVAL > 0.0 {
            return Word::Wait;
        }
        let minute = std::mem::take(&mut self.minute);
        let good = minute.all <= 0.0
            || (minute.failed / minute.all <= 0.01 && percentile(&minute, 0.99) <= 500.0);
        if good {
            return Word::Pass;
        }
        self.failed += 1;
        if self.failed >= 5 {
            Word::RollBack
        } else {
            Word::Wait
        }
    }
}

/// A percentile, milliseconds, interpolated within its bucket as Prometheus does.
fn percentile(requests: &Requests, share: f64) -> f64 {
    let rank = share * requests.all;
    let (mut low, mut below) = (0.0, 0.0);
    for (le, count) in BUCKETS.into_iter().zip(requests.buckets) {
        if count >= rank {
            return low + (le - low) * (rank - below) / (count - below).max(f64::MIN_POSITIVE);
        }
        (low, below) = (le, count);
    }
    low
}

/// The judge with its defaults, on errors and latency.
#[derive(Debug)]
pub(super) struct Judged(Judge);

impl Policy for Judged {
    fn new(baseline: &[Requests]) -> Self {
        let config = JudgeConfig::default();
        #[allow(clippy::expect_used, reason = "a test holds the defaults to be valid")]
        let mut judged = Self(Judge::new(config).expect("the defaults are valid"));
        let mut t = 0.0;
        for primary in baseline {
            t += SLICE;
            judged.look(t, 0, 1.0, false, &[*primary, Requests::default()]);
        }
        judged
    }

    fn see(&mut self, at: Moment, step: i64, next: f64, cold: bool, slice: &[Requests; 2]) -> Word {
        match self.look(at.seconds, step, next, cold, slice) {
            Verdict::Fail { .. } => Word::RollBack,
            Verdict::Pass => Word::Pass,
            Verdict::Undecided { .. } => Word::Wait,
        }
    }
}

impl Judged {
    fn look(
        &mut self,
        t: f64,
        step: i64,
        next: f64,
        cold: bool,
        [primary, canary]: &[Requests; 2],
    ) -> Verdict {
        let errors = |side: &Requests| Side::Increments(vec![side.all, side.failed]);
        let latency = |side: &Requests| Side::Increments(side.buckets.to_vec());
        let metrics = BTreeMap::from([
            (
                "errors".to_owned(),
                Reading {
                    primary: errors(primary),
                    canary: errors(canary),
                    ..Reading::default()
                },
            ),
            (
                "latency".to_owned(),
                Reading {
                    le: BUCKETS.to_vec(),
                    primary: latency(primary),
                    canary: latency(canary),
                },
            ),
        ]);
        let look = Look {
            t,
            dt: SLICE,
            step: StepId::Index(step),
            next: Some(next),
            cold,
            metrics,
        };
        self.0.look(&look).verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentile_is_interpolated_within_its_bucket() {
        let mut requests = Requests {
            all: 1000.0,
            ..Requests::default()
        };
        requests.buckets[8..].fill(1000.0);
        requests.buckets[7] = 980.0;
        // Half of the twenty requests between 250 and 500 ms.
        assert!((percentile(&requests, 0.99) - 375.0).abs() < 1e-9);
    }

    #[test]
    fn thresholds_roll_back_at_the_fifth_failed_minute() {
        let bad = Requests {
            all: 10.0,
            failed: 1.0,
            buckets: [10.0; BUCKETS.len() + 1],
        };
        let mut thresholds = Thresholds::new(&[]);
        let words: Vec<Word> = (1..=20)
            .map(|slice| {
                let at = Moment {
                    seconds: f64::from(slice) * SLICE,
                    share: 0.1,
                };
                thresholds.see(at, 0, 1.0, false, &[Requests::default(), bad])
            })
            .collect();
        assert_eq!(words.iter().position(|w| *w == Word::RollBack), Some(19));
    }

    #[test]
    fn judge_has_valid_defaults() {
        assert!(JudgeConfig::default().validate().is_ok());
    }
}

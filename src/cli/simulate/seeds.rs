//! Many releases of one policy: how often it promotes a bad version and rolls back a good one.

use std::{
    io::{self, IsTerminal, Write, stderr},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde::Serialize;

use crate::{
    cli::screen::{duration, number},
    sim::{
        Scenario,
        rollout::{Figures, Release, RolloutError, Verdict, perform},
        scenario::Deserved,
    },
};

/// How releases of one version ended.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcomes {
    /// What the version is like.
    pub about: String,
    /// What the version deserves.
    pub deserves: Deserved,
    /// Releases.
    pub releases: usize,
    /// Those that were promoted.
    pub promoted: usize,
    /// Those that were rolled back.
    pub rolled_back: usize,
    /// Those that were neither in time.
    pub undecided: usize,
    /// Seconds from the release to its end.
    pub seconds: Spread,
    /// Requests of users that failed or were dropped.
    pub failed_requests: Spread,
}

/// The middle of many numbers, and what nine in ten do not exceed.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// Half are at most this.
    pub median: u64,
    /// Nine in ten are at most this.
    pub percentile90: u64,
}

impl Spread {
    fn of(mut numbers: Vec<u64>) -> Self {
        numbers.sort_unstable();
        let at = |percent: usize| {
            let rank = (numbers.len() * percent).div_ceil(100).saturating_sub(1);
            numbers.get(rank).copied().unwrap_or_default()
        };
        Self {
            median: at(50),
            percentile90: at(90),
        }
    }
}

/// Releases one Canary with each seed, a good version and a bad one: the scenario's own, and for
/// comparison one that differs from the old version in nothing or fails as in `errors`.
///
/// # Errors
/// When the manifests do not make a release that can begin.
pub fn compare(release: &Release, count: u64) -> Result<Vec<Outcomes>, RolloutError> {
    let scenario = &release.options.scenario;
    let mut other = scenario.clone();
    if scenario.deserves == Deserved::Rollback {
        other.release = scenario.stable.clone();
        other.deserves = Deserved::Promotion;
        "as good as the old version".clone_into(&mut other.about);
    } else {
        other.release = Scenario::named("errors").unwrap_or_default().release;
        other.deserves = Deserved::Rollback;
        "one in eight requests to the new version fails".clone_into(&mut other.about);
    }
    let mut versions = [scenario.clone(), other];
    versions.sort_by_key(|version| version.deserves == Deserved::Promotion);
    versions
        .iter()
        .map(|version| outcomes(release, version, count))
        .collect()
}

fn outcomes(release: &Release, scenario: &Scenario, count: u64) -> Result<Outcomes, RolloutError> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let total = usize::try_from(count).unwrap_or(usize::MAX);
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let ended: Mutex<Vec<(Verdict, Figures)>> = Mutex::default();
    let fault: Mutex<Option<RolloutError>> = Mutex::default();
    let shows = stderr().is_terminal();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= total {
                return;
            }
            let mut one = release.clone();
            one.options.scenario = scenario.clone();
            one.seed = release.seed.wrapping_add(index as u64);
            match perform(&one) {
                Ok(recording) => ended
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push((recording.verdict, recording.figures)),
                Err(error) => {
                    *fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    next.store(total, Ordering::Relaxed);
                    return;
                }
            }
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if shows {
                // Progress that cannot be shown is not missed.
                let _ = write!(stderr(), "\r{done} of {total} releases\u{1b}[K");
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..threads.min(total) {
            scope.spawn(work);
        }
        work();
    });
    if shows {
        let _ = write!(stderr(), "\r\u{1b}[K");
    }
    if let Some(error) = fault.into_inner().unwrap_or_else(PoisonError::into_inner) {
        return Err(error);
    }
    let ended = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
    let how_many = |verdict| ended.iter().filter(|(found, _)| *found == verdict).count();
    Ok(Outcomes {
        about: scenario.about.clone(),
        deserves: scenario.deserves,
        releases: ended.len(),
        promoted: how_many(Verdict::Promoted),
        rolled_back: how_many(Verdict::RolledBack),
        undecided: how_many(Verdict::Undecided),
        seconds: Spread::of(ended.iter().map(|(_, figures)| figures.seconds).collect()),
        failed_requests: Spread::of(
            ended
                .iter()
                .map(|(_, figures)| figures.failed + figures.dropped)
                .collect(),
        ),
    })
}

/// Writes the outcomes in plain words.
pub fn write(out: &mut impl Write, outcomes: &[Outcomes]) -> io::Result<()> {
    for outcome in outcomes {
        let word = match outcome.deserves {
            Deserved::Promotion => "A good version",
            Deserved::Rollback => "A bad version",
        };
        writeln!(out, "  {word}: {}", outcome.about)?;
        for (label, count) in [
            ("promoted", outcome.promoted),
            ("rolled back", outcome.rolled_back),
            ("undecided", outcome.undecided),
        ] {
            writeln!(out, "    {label:<12} {count:>5} of {}", outcome.releases)?;
        }
        let (time, failed) = (outcome.seconds, outcome.failed_requests);
        writeln!(
            out,
            "    it took      {} in half of the cases, at most {} in nine of ten",
            duration(time.median),
            duration(time.percentile90)
        )?;
        writeln!(
            out,
            "    users saw    {} failed requests in half of the cases, at most {} in nine of ten",
            number(failed.median),
            number(failed.percentile90)
        )?;
    }
    writeln!(out)?;
    for line in advice(outcomes) {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// What the outcomes mean for the policy.
fn advice(outcomes: &[Outcomes]) -> Vec<String> {
    let mut lines = Vec::new();
    for outcome in outcomes {
        let (wrong, word, cure) = match outcome.deserves {
            Deserved::Rollback => (
                outcome.promoted,
                "promoted a bad version",
                "lower analysis.threshold, add a metric that sees the fault, or take more or longer steps",
            ),
            Deserved::Promotion => (
                outcome.rolled_back,
                "rolled back a good version",
                "raise analysis.threshold, allow more in thresholdRange, or look at a longer metric interval",
            ),
        };
        lines.push(format!(
            "This policy {word} {wrong} times in {} releases.",
            outcome.releases
        ));
        if wrong > 0 {
            lines.push(format!(
                "  To make that rarer: {cure}; then run this again and compare."
            ));
        } else {
            let bound = unseen(outcome.releases);
            lines.push(format!(
                "  That still allows for {bound} in 100 (with 95 % confidence); more seeds say it more exactly."
            ));
        }
    }
    lines
}

/// The largest share, in percent, of what was not seen once in so many tries, with 95 %
/// confidence.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a percentage of a count"
)]
fn unseen(tries: usize) -> u64 {
    (100.0 * (1.0 - 0.05_f64.powf(1.0 / tries.max(1) as f64))).ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_is_of_the_numbers_that_occur() {
        let spread = Spread::of((1..=10).rev().collect());
        assert_eq!((spread.median, spread.percentile90), (5, 9));
        let one = Spread::of(vec![7]);
        assert_eq!((one.median, one.percentile90), (7, 7));
        assert_eq!(Spread::of(Vec::new()).median, 0);
    }

    #[test]
    fn what_was_never_seen_gets_rarer_with_more_tries() {
        assert_eq!([1, 4, 20, 100, 300].map(unseen), [95, 53, 14, 3, 1]);
    }
}

//! Which latency bounds to test, and what "8 % slower" means at each.

use serde::{Deserialize, Serialize};

use super::config::HistogramSettings;
use super::look::Reading;

/// Primary requests that must have been seen before the tail's shape is trusted.
const ENOUGH: f64 = 500.0;
/// Requests beyond a boundary for the chord up to it to count.
const ENOUGH_BEYOND: f64 = 10.0;
/// Shares of slower primary requests that bounds are chosen near.
const TAILS: [f64; 3] = [0.01, 0.05, 0.25];
/// More boundaries than any exporter's classic histogram has; keeps the state bounded.
const MOST_BOUNDARIES: usize = 256;

/// A latency metric's bounds and ratios, or the sum they will be chosen from.
///
/// Everything is chosen from looks before the one that is judged by it, and stays for the
/// release.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LatencyState {
    /// The bounds T, a stream each; descending, in the unit of the histogram. Empty before they
    /// are chosen.
    pub bounds: Vec<f64>,
    /// (ρ, `ρ_b`) per bound; empty before the canary's first requests.
    pub ratios: Vec<(f64, f64)>,
    /// The primary's summed histogram; dropped once the ratios are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sum: Option<HistogramSum>,
}

/// The primary's histograms summed over looks; only those whose boundaries are the first seen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HistogramSum {
    le: Vec<f64>,
    /// Cumulative counts over `le`, the total last.
    counts: Vec<f64>,
}

/// The boundaries of a reading that can be used: ascending, finite, at least 0, at most 256.
pub fn boundaries(reading: &Reading) -> Option<&[f64]> {
    let le = reading.le.as_slice();
    let ascending = le
        .windows(2)
        .all(|pair| matches!(pair, [low, high] if low < high));
    let fits = |bound: &f64| *bound >= 0.0 && bound.is_finite();
    (!le.is_empty() && le.len() <= MOST_BOUNDARIES && ascending && le.iter().all(fits))
        .then_some(le)
}

/// The requests and the slower ones of one side at the bound `le[at]`.
pub fn count_slower(counts: Option<&Vec<f64>>, at: usize) -> Option<(f64, f64)> {
    let counts = counts?;
    let (total, below) = (*counts.last()?, *counts.get(at)?);
    Some((total, (total - below).max(0.0)))
}

impl LatencyState {
    /// Choose bounds if they are not yet; `le` is that of this look's histogram, if there is one,
    /// the sum is of earlier ones.
    ///
    /// A bound the user set is the nearest boundary in |ln|, the smaller on a tie, at the first
    /// look with a histogram. Otherwise, once the primary showed 500 requests, for each f in
    /// {0.01, 0.05, 0.25} the boundary whose share t of slower requests is nearest to f in
    /// |ln(t/f)| among f/5 ≤ t ≤ 5f, the larger on a tie; duplicates merge.
    pub fn choose_bounds(&mut self, settings: &HistogramSettings, le: Option<&[f64]>) {
        if !self.bounds.is_empty() {
            return;
        }
        if let Some(bound) = settings.bound {
            self.bounds.extend(le.and_then(|le| nearest(le, bound)));
            return;
        }
        let Some(sum) = self.sum.as_ref().filter(|sum| sum.total() >= ENOUGH) else {
            return;
        };
        let mut bounds: Vec<f64> = TAILS
            .iter()
            .filter_map(|tail| sum.boundary_near(*tail))
            .collect();
        bounds.sort_by(|a, b| b.total_cmp(a));
        bounds.dedup();
        self.bounds = bounds;
    }

    /// Fix what "slower" means at each bound, at the first look with bounds in which the canary
    /// has requests: ρ = (1 + maxSlower)^slope, `ρ_b` = (1 + badSlower)^slope.
    pub fn choose_ratios(&mut self, settings: &HistogramSettings) {
        let sum = self.sum.take();
        let ratios = self.bounds.iter().map(|bound| {
            let slope = sum.as_ref().map_or(2.0, |sum| sum.slope(*bound));
            (
                (1.0 + settings.max_slower).powf(slope),
                (1.0 + settings.bad_slower).powf(slope),
            )
        });
        self.ratios = ratios.collect();
    }

    /// Whether the ratios are still to be chosen.
    pub fn is_open(&self) -> bool {
        self.ratios.is_empty()
    }

    /// Add the primary's histogram of one look, after that look was judged.
    pub fn learn(&mut self, le: &[f64], counts: &[f64]) {
        if !self.is_open() {
            return;
        }
        match &mut self.sum {
            None => {
                self.sum = Some(HistogramSum {
                    le: le.to_vec(),
                    counts: counts.to_vec(),
                });
            }
            Some(sum) if sum.le == le => {
                for (total, count) in sum.counts.iter_mut().zip(counts) {
                    *total += count;
                }
            }
            Some(_) => {}
        }
    }

    /// Whether this can be the state of a latency metric with `streams` streams.
    pub(super) fn is_sound(&self, streams: usize) -> bool {
        let fits = |value: &f64| *value >= 0.0 && value.is_finite();
        let sum = self.sum.iter().all(|sum| {
            sum.counts.len() == sum.le.len() + 1 && sum.le.iter().chain(&sum.counts).all(fits)
        });
        self.bounds.len() == streams
            && self.bounds.iter().all(fits)
            && (self.ratios.is_empty() || self.ratios.len() == streams)
            && self.ratios.iter().all(|(max, bad)| fits(max) && fits(bad))
            && sum
    }
}

fn nearest(le: &[f64], bound: f64) -> Option<f64> {
    let distance = |boundary: f64| (boundary / bound).ln().abs();
    // The first of equals, which is the smaller.
    le.iter()
        .copied()
        .min_by(|a, b| distance(*a).total_cmp(&distance(*b)))
}

impl HistogramSum {
    fn total(&self) -> f64 {
        self.counts.last().copied().unwrap_or_default()
    }

    /// Requests beyond the boundary `le[at]`.
    fn beyond(&self, at: usize) -> f64 {
        self.counts
            .get(at)
            .map_or(0.0, |count| (self.total() - count).max(0.0))
    }

    fn share_beyond(&self, at: usize) -> f64 {
        self.beyond(at) / self.total()
    }

    fn boundary_near(&self, tail: f64) -> Option<f64> {
        let candidates = self.le.iter().enumerate().filter_map(|(at, bound)| {
            let share = self.share_beyond(at);
            (tail / 5.0..=5.0 * tail)
                .contains(&share)
                .then(|| ((share / tail).ln().abs(), *bound))
        });
        // From the largest down, the first of equals, which is the larger.
        candidates
            .rev()
            .min_by(|(a, _), (b, _)| a.total_cmp(b))
            .map(|(_, bound)| bound)
    }

    /// The slope of the tail at `bound` in log-log, as the primary's own requests show it.
    ///
    /// chord(i) = ln(t_{`i−1}/t_i)/ln(le_i/le`_{i−1}); with at least 10 requests beyond the next
    /// boundary the mean of the chords below and above; in \[1, 8\]. 2 if nothing can be said.
    fn slope(&self, bound: f64) -> f64 {
        let at = self
            .le
            .iter()
            .position(|le| le.total_cmp(&bound).is_eq())
            .unwrap_or(0);
        if at == 0 || self.total() < ENOUGH || self.beyond(at) <= 0.0 {
            return 2.0;
        }
        let slope = if at + 1 < self.le.len() && self.beyond(at + 1) >= ENOUGH_BEYOND {
            f64::midpoint(self.chord(at), self.chord(at + 1))
        } else {
            self.chord(at)
        };
        slope.clamp(1.0, 8.0)
    }

    fn chord(&self, at: usize) -> f64 {
        let boundary = |at: usize| self.le.get(at).copied().unwrap_or(f64::NAN);
        let before = at.saturating_sub(1);
        let fall = (self.share_beyond(before) / self.share_beyond(at)).ln();
        let chord = fall / (boundary(at) / boundary(before)).ln();
        if chord.is_nan() { 2.0 } else { chord }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]
    use super::*;

    fn state(le: &[f64], counts: &[f64]) -> LatencyState {
        let mut state = LatencyState::default();
        state.learn(le, counts);
        state
    }

    #[test]
    fn choose_bounds_before_enough_requests_waits() {
        let mut state = state(&[0.1, 0.2], &[300.0, 450.0, 499.0]);
        state.choose_bounds(&HistogramSettings::default(), None);
        assert_eq!(state.bounds, [0.0; 0]);
    }

    #[test]
    fn choose_bounds_takes_the_boundaries_nearest_to_the_tails() {
        // Shares beyond: 0.30, 0.04, 0.012, 0.
        let mut state = state(
            &[0.1, 0.2, 0.5, 1.0],
            &[700.0, 960.0, 988.0, 1000.0, 1000.0],
        );
        state.choose_bounds(&HistogramSettings::default(), None);
        assert_eq!(state.bounds, [0.5, 0.2, 0.1]);
    }

    #[test]
    fn choose_bounds_with_the_users_takes_the_smaller_of_equals() {
        let settings = HistogramSettings {
            bound: Some(0.2),
            ..HistogramSettings::default()
        };
        let mut state = LatencyState::default();
        state.choose_bounds(&settings, Some(&[0.05, 0.1, 0.4]));
        assert_eq!(state.bounds, [0.1]);
    }

    #[test]
    fn choose_ratios_on_a_power_law_finds_its_exponent() {
        // t = le^-3 from 1 on.
        let le = [1.0, 2.0, 4.0];
        let counts = [
            0.0,
            100_000.0 * (1.0 - 0.125),
            100_000.0 * (1.0 - 0.125 * 0.125),
            100_000.0,
        ];
        let mut state = state(&le, &counts);
        state.bounds = vec![4.0, 2.0, 1.0];
        state.choose_ratios(&HistogramSettings::default());
        let expected = [1.08_f64.powi(3), 1.08_f64.powi(3), 1.08_f64.powi(2)];
        for ((max, _), expected) in state.ratios.iter().zip(expected) {
            assert!((max - expected).abs() < 1e-9);
        }
        assert_eq!(state.sum, None);
    }

    #[test]
    fn boundaries_out_of_order_are_unusable() {
        for le in [vec![], vec![2.0, 1.0], vec![1.0, f64::NAN], vec![-1.0, 1.0]] {
            assert_eq!(
                boundaries(&Reading {
                    le,
                    ..Reading::default()
                }),
                None
            );
        }
    }
}

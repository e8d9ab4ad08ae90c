//! How bursty the primary's bad requests are.

use serde::{Deserialize, Serialize};

use super::primitive::Slice;

const FORGET: f64 = 0.98;
/// One pair of slices counts as at most this much, and surprises at most this much.
const LARGEST_WEIGHT: f64 = 30.0;
const LARGEST: f64 = 20.0;

/// A running estimate of φ, the variance of bad counts over that of independent ones.
///
/// It comes from the primary alone, and from slices before the one judged, so a canary cannot
/// hide its defect in it. Successive slices are compared with each other, so slow drift cancels:
/// for (n', x'), (n, x) with m = x + x', q = n/(n+n'), q' = n'/(n+n'),
///
/// ```text
/// z = min((x q' − x' q)² / (m q q'), 30)    w = min(m, 30)
/// A ← 0.98 A + w z    W ← 0.98 W + w    φ = clamp((15 + A)/(10 + W), 1, 20)
/// ```
///
/// E\[z\] = 1 for plain counts; φ is 1.5 until something is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dispersion {
    /// A, the weighted sum of surprises.
    surprise: f64,
    /// W, the sum of weights.
    weight: f64,
    /// The primary's last slice that had requests: requests and bad ones.
    last: Option<(f64, f64)>,
}

impl Dispersion {
    /// φ for the next slice; in \[1, 20\].
    pub fn estimate(&self) -> f64 {
        ((15.0 + self.surprise) / (10.0 + self.weight)).clamp(1.0, LARGEST)
    }

    /// Learn from the primary's side of a slice, after that slice was judged.
    pub fn learn(&mut self, slice: Slice) {
        let (n, x) = (slice.n0, slice.x0);
        if n <= 0.0 {
            return;
        }
        if let Some((earlier_n, earlier_x)) = self.last {
            let both = n + earlier_n;
            let (q, earlier_q) = (n / both, earlier_n / both);
            let bad = x + earlier_x;
            let variance = bad * q * earlier_q;
            if variance > 0.0 {
                let surprise =
                    ((x * earlier_q - earlier_x * q).powi(2) / variance).min(LARGEST_WEIGHT);
                let weight = bad.min(LARGEST_WEIGHT);
                self.surprise = FORGET * self.surprise + weight * surprise;
                self.weight = FORGET * self.weight + weight;
            }
        }
        self.last = Some((n, x));
    }

    /// Whether every number is one that [`Self::learn`] can produce.
    pub(super) fn is_sound(&self) -> bool {
        let sums = [self.surprise, self.weight].into_iter();
        let last = self.last.into_iter().flat_map(|(n, x)| [n, x]);
        sums.chain(last).all(super::primitive::is_count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]
    use super::*;

    fn primary(n0: f64, x0: f64) -> Slice {
        Slice {
            n0,
            x0,
            ..Slice::default()
        }
    }

    #[test]
    fn estimate_before_any_slice_is_one_and_a_half() {
        assert_eq!(Dispersion::default().estimate(), 1.5);
    }

    #[test]
    fn learn_from_two_slices_follows_the_formula() {
        let mut dispersion = Dispersion::default();
        dispersion.learn(primary(100.0, 1.0));
        dispersion.learn(primary(0.0, 0.0));
        dispersion.learn(primary(100.0, 3.0));
        // z = (3/2 − 1/2)²/(4/4) = 1, w = 4
        assert!((dispersion.estimate() - 19.0 / 14.0).abs() < 1e-12);
    }

    #[test]
    fn learn_from_bursts_raises_the_estimate() {
        let mut dispersion = Dispersion::default();
        for turn in 0..50 {
            dispersion.learn(primary(1000.0, if turn % 5 == 0 { 40.0 } else { 0.0 }));
        }
        assert!(dispersion.estimate() > 8.0);
    }
}

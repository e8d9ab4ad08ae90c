//! How many times the primary's rate the canary's is, with an interval that holds at all times.

use serde::{Deserialize, Serialize};

use super::primitive::{Slice, log_sum_exp};

const MOST_STRATA: usize = 4;
/// The mixture's ratios `r_j` = 2^((j−96)/16), j = 0…192: 1/64 to 64.
const MIXTURE: u32 = 193;
/// Ratios are searched in ln r over ± this.
const REACH: f64 = 60.0;

/// Totals of one stream, a stratum a step; the two oldest merge beyond four.
///
/// Strata keep a base rate that moved between steps from passing for a difference of the sides.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Strata {
    /// `[n0, x0, n1, x1]` per step, the current one last.
    totals: Vec<[f64; 4]>,
}

/// The canary's rate over the primary's: an estimate with the ends of its confidence sequence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(
    from = "(Option<f64>, f64, Option<f64>)",
    into = "(Option<f64>, f64, Option<f64>)"
)]
pub struct RatioInterval {
    /// The likeliest ratio; none when unbounded, since no request was bad at the primary.
    pub estimate: Option<f64>,
    /// The lower end; 0 if no request was bad at the canary.
    pub low: f64,
    /// The upper end; none for unbounded.
    pub high: Option<f64>,
}

impl From<(Option<f64>, f64, Option<f64>)> for RatioInterval {
    fn from((estimate, low, high): (Option<f64>, f64, Option<f64>)) -> Self {
        Self {
            estimate,
            low,
            high,
        }
    }
}

impl From<RatioInterval> for (Option<f64>, f64, Option<f64>) {
    fn from(interval: RatioInterval) -> Self {
        (interval.estimate, interval.low, interval.high)
    }
}

impl Strata {
    /// Open a stratum for a new step, unless the current one is still empty.
    pub fn begin_step(&mut self) {
        if self.current() == Slice::default() {
            return;
        }
        if self.totals.len() == MOST_STRATA {
            let oldest = self.totals.remove(0);
            if let Some(next) = self.totals.first_mut() {
                *next = added(*next, oldest);
            }
        }
        self.totals.push([0.0; 4]);
    }

    /// Add a usable slice to the current stratum.
    pub fn add(&mut self, slice: Slice) {
        let values = [slice.n0, slice.x0, slice.n1, slice.x1];
        match self.totals.last_mut() {
            Some(current) => *current = added(*current, values),
            None => self.totals.push(values),
        }
    }

    /// This step's totals.
    pub fn current(&self) -> Slice {
        let [n0, x0, n1, x1] = self.totals.last().copied().unwrap_or_default();
        Slice { n0, x0, n1, x1 }
    }

    /// All steps' totals.
    pub fn all(&self) -> Slice {
        let [n0, x0, n1, x1] = self.totals.iter().copied().fold([0.0; 4], added);
        Slice { n0, x0, n1, x1 }
    }

    /// The confidence sequence of the ratio r at level 1 − `alpha`; none without any bad request
    /// in a stratum with both sides.
    ///
    /// With `q_k(r)` = r n1/(r n1 + n0) in stratum k and L(r) = Σ \[x1 ln q + x0 ln(1−q)\]/φ:
    ///
    /// ```text
    /// {r : L(r) > lse_j L(r_j) − ln 193 − ln(1/α)}
    /// ```
    ///
    /// L is concave in ln r, so the ends are found by bisection over ln r in ±60; an end beyond
    /// is 0 below and unbounded above. Johari et al., arXiv 1512.04922; Lindon, Malek, arXiv
    /// 2011.03567.
    pub fn ratio(&self, dispersion: f64, alpha: f64) -> Option<RatioInterval> {
        let likelihood = Likelihood::new(&self.totals, dispersion);
        let (x0, x1) = likelihood.bad();
        if x0 + x1 <= 0.0 {
            return None;
        }
        let mixture = (0..MIXTURE)
            .map(|j| likelihood.at((f64::from(j) - 96.0) / 16.0 * std::f64::consts::LN_2));
        let threshold = log_sum_exp(mixture) - f64::from(MIXTURE).ln() + alpha.ln();
        let inside = |log_ratio: f64| likelihood.at(log_ratio) > threshold;
        let peak = if x1 <= 0.0 {
            -REACH
        } else if x0 <= 0.0 {
            REACH
        } else {
            bisect(-REACH, REACH, |log_ratio| likelihood.rises_at(log_ratio))
        };
        let low = if x1 <= 0.0 || inside(-REACH) {
            0.0
        } else {
            bisect(-REACH, peak, |r| !inside(r)).exp()
        };
        let high = if x0 <= 0.0 || inside(REACH) {
            None
        } else {
            Some(bisect(peak, REACH, inside).exp())
        };
        let estimate = if x1 <= 0.0 {
            Some(0.0)
        } else if x0 <= 0.0 {
            None
        } else {
            Some(peak.exp())
        };
        Some(RatioInterval {
            estimate,
            low,
            high,
        })
    }

    /// Whether every number is one that [`Self::add`] can produce.
    pub(super) fn is_sound(&self) -> bool {
        self.totals.len() <= MOST_STRATA
            && self
                .totals
                .iter()
                .flatten()
                .all(|total| *total >= 0.0 && total.is_finite())
    }
}

fn added(mut one: [f64; 4], other: [f64; 4]) -> [f64; 4] {
    one.iter_mut()
        .zip(other)
        .for_each(|(total, more)| *total += more);
    one
}

/// The conditional binomial likelihood of ln r over the strata that have both sides.
struct Likelihood {
    /// (ln n1 − ln n0, x0, x1)
    strata: Vec<(f64, f64, f64)>,
    dispersion: f64,
}

impl Likelihood {
    fn new(totals: &[[f64; 4]], dispersion: f64) -> Self {
        let both = totals
            .iter()
            .filter(|[n0, _, n1, _]| *n0 > 0.0 && *n1 > 0.0);
        let strata = both
            .map(|[n0, x0, n1, x1]| (n1.ln() - n0.ln(), *x0, *x1))
            .collect();
        Self { strata, dispersion }
    }

    fn bad(&self) -> (f64, f64) {
        self.strata
            .iter()
            .fold((0.0, 0.0), |(x0, x1), (_, y0, y1)| (x0 + y0, x1 + y1))
    }

    /// L at ln r.
    fn at(&self, log_ratio: f64) -> f64 {
        let terms = self.strata.iter().map(|(offset, x0, x1)| {
            let d = log_ratio + offset;
            -x1 * softplus(-d) - x0 * softplus(d)
        });
        terms.sum::<f64>() / self.dispersion
    }

    /// Whether L grows with ln r.
    fn rises_at(&self, log_ratio: f64) -> bool {
        let terms = self.strata.iter().map(|(offset, x0, x1)| {
            let q = 1.0 / (1.0 + (-(log_ratio + offset)).exp());
            x1 - (x0 + x1) * q
        });
        terms.sum::<f64>() > 0.0
    }
}

/// ln(1 + e^v) without overflow.
fn softplus(value: f64) -> f64 {
    value.max(0.0) + (-value.abs()).exp().ln_1p()
}

/// Where `holds` turns from true at `from` to false at `to`.
fn bisect(from: f64, to: f64, holds: impl Fn(f64) -> bool) -> f64 {
    let (mut yes, mut no) = (from, to);
    for _ in 0..200 {
        let middle = f64::midpoint(yes, no);
        if middle <= yes || middle >= no {
            break;
        }
        if holds(middle) {
            yes = middle;
        } else {
            no = middle;
        }
    }
    f64::midpoint(yes, no)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]
    use super::*;

    fn strata(slices: &[[f64; 4]]) -> Strata {
        let mut strata = Strata::default();
        for [n0, x0, n1, x1] in slices.iter().copied() {
            strata.begin_step();
            strata.add(Slice { n0, x0, n1, x1 });
        }
        strata
    }

    #[test]
    fn ratio_of_one_stratum_is_the_ratio_of_rates() {
        let ratio = strata(&[[1000.0, 10.0, 500.0, 15.0]])
            .ratio(1.0, 0.01)
            .unwrap();
        assert!((ratio.estimate.unwrap() - 3.0).abs() < 1e-9);
        assert!(ratio.low > 0.5 && ratio.low < 3.0 && ratio.high.unwrap() > 3.0);
    }

    #[test]
    fn ratio_without_bad_requests_on_one_side_is_open_there() {
        let clean_canary = strata(&[[1000.0, 10.0, 500.0, 0.0]])
            .ratio(1.0, 0.01)
            .unwrap();
        assert_eq!((clean_canary.estimate, clean_canary.low), (Some(0.0), 0.0));
        assert!(clean_canary.high.is_some());
        let clean_primary = strata(&[[1000.0, 0.0, 500.0, 9.0]])
            .ratio(1.0, 0.01)
            .unwrap();
        assert_eq!((clean_primary.estimate, clean_primary.high), (None, None));
        assert!(clean_primary.low > 0.0);
    }

    #[test]
    fn ratio_without_any_bad_request_is_unknown() {
        assert_eq!(strata(&[[1000.0, 0.0, 500.0, 0.0]]).ratio(1.0, 0.01), None);
        assert_eq!(strata(&[[0.0, 0.0, 500.0, 9.0]]).ratio(1.0, 0.01), None);
    }

    #[test]
    fn begin_step_beyond_four_merges_the_oldest() {
        let steps: Vec<[f64; 4]> = (1..=6).map(|n| [f64::from(n), 0.0, 1.0, 0.0]).collect();
        let strata = strata(&steps);
        let primary: Vec<f64> = strata.totals.iter().map(|[n0, ..]| *n0).collect();
        assert_eq!(primary, [1.0 + 2.0 + 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(strata.current().n0, 6.0);
    }
}

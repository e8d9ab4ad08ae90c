//! The e-value of one slice, and sums in log space.
//!
//! Everything else in this module is bookkeeping around [`log_wealth`]: what one bet on one slice
//! of time multiplies its stake by.

/// The largest number that counts as a count of requests.
///
/// Exact up to 2^53; far beyond that the judge still only loses precision, and past this bound
/// products could overflow, so such a number counts as absent.
pub const LARGEST_COUNT: f64 = 1e100;

/// What one slice of time showed: requests and bad requests on either side.
///
/// All four are finite and at least 0, and no side has more bad requests than requests. `n0 = 0`
/// or `n1 = 0` means that the side had no traffic or could not be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slice {
    /// Requests at the primary.
    pub n0: f64,
    /// Bad requests at the primary.
    pub x0: f64,
    /// Requests at the canary.
    pub n1: f64,
    /// Bad requests at the canary.
    pub x1: f64,
}

impl Slice {
    /// A slice from the two sides' `(requests, bad)`.
    ///
    /// A side that is missing, negative, not finite or beyond [`LARGEST_COUNT`] counts as absent
    /// (no requests); more bad requests than requests count as all requests.
    pub fn new(primary: Option<(f64, f64)>, canary: Option<(f64, f64)>) -> Self {
        let (n0, x0) = count_pair(primary);
        let (n1, x1) = count_pair(canary);
        Self { n0, x0, n1, x1 }
    }
}

fn count_pair(pair: Option<(f64, f64)>) -> (f64, f64) {
    match pair {
        Some((n, x)) if is_count(n) && is_count(x) => (n, x.min(n)),
        Some(_) | None => (0.0, 0.0),
    }
}

/// Whether `value` can be a count of requests: finite, not negative, at most [`LARGEST_COUNT`].
pub fn is_count(value: f64) -> bool {
    (0.0..=LARGEST_COUNT).contains(&value)
}

/// A bound on the canary's rate of bad requests: p1 against `ratio`·p0 + `increase`.
///
/// `ratio = 0` is a fixed objective that needs no primary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Boundary {
    /// ρ, the factor on the primary's rate; at least 0.
    pub ratio: f64,
    /// δ, what is added to it, as a share of requests; at least 0.
    pub increase: f64,
}

/// l(κ): the log of what a bet κ multiplies its stake by in one slice.
///
/// With φ = `dispersion` ≥ 1, b = (n0 + ρ n1)/(n0 + κρ n1) and a = κb:
///
/// ```text
/// l(κ) = [ x1 ln a + x0 ln b − n1 δ (a − 1) ] / φ
/// ```
///
/// E\[e^l\] ≤ 1 for κ > 1 whenever p1 ≤ ρp0 + δ, and for 0 < κ < 1 whenever p1 ≥ ρp0 + δ, however
/// p0 moves from slice to slice (1 + y ≤ e^y; Jensen for φ > 1). For δ = 0 it is the likelihood
/// ratio of X1 given X0 + X1, binomial, at ratio κρ against ρ. 0 when a side that is needed has
/// no requests. Finite for every [`Slice`].
///
/// Lindon, Sanden, Shirikian, arXiv 2205.14762; Turner, Ly, Grünwald, arXiv 2106.02693.
pub fn log_wealth(bet: f64, boundary: Boundary, slice: Slice, dispersion: f64) -> f64 {
    let Slice { n0, x0, n1, x1 } = slice;
    let Boundary { ratio, increase } = boundary;
    if n1 <= 0.0 || (ratio > 0.0 && n0 <= 0.0) {
        return 0.0;
    }
    let (a_less_one, ln_b) = if ratio > 0.0 {
        let a_less_one = (bet - 1.0) * n0 / (n0 + bet * ratio * n1);
        let ln_b = -((bet - 1.0) * ratio * n1 / (n0 + ratio * n1)).ln_1p();
        (a_less_one, ln_b)
    } else {
        (bet - 1.0, 0.0)
    };
    // a ≥ κ and 1/b ≥ κ for κ < 1, so neither logarithm meets 0.
    (x1 * a_less_one.ln_1p() + x0 * ln_b - n1 * increase * a_less_one) / dispersion
}

/// ln Σ e^v with the maximum taken out; −∞ for nothing, or for nothing but −∞.
pub fn log_sum_exp(values: impl IntoIterator<Item = f64> + Clone) -> f64 {
    let largest = values.clone().into_iter().fold(f64::NEG_INFINITY, f64::max);
    if largest == f64::NEG_INFINITY {
        return largest;
    }
    let sum: f64 = values.into_iter().map(|v| (v - largest).exp()).sum();
    largest + sum.ln()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]
    use super::*;

    const EVEN: Boundary = Boundary {
        ratio: 1.0,
        increase: 0.0,
    };

    #[test]
    fn slice_from_bad_numbers_counts_them_absent() {
        for bad in [f64::NAN, f64::INFINITY, -1.0, 1e200] {
            let slice = Slice::new(Some((bad, 0.0)), Some((10.0, bad)));
            assert_eq!(slice, Slice::default());
        }
    }

    #[test]
    fn slice_with_more_bad_than_requests_clamps() {
        let slice = Slice::new(Some((5.0, 9.0)), None);
        assert_eq!((slice.n0, slice.x0, slice.n1), (5.0, 5.0, 0.0));
    }

    #[test]
    fn wealth_without_a_needed_side_is_zero() {
        let no_canary = Slice {
            n0: 10.0,
            x0: 1.0,
            ..Slice::default()
        };
        let no_primary = Slice {
            n1: 10.0,
            x1: 1.0,
            ..Slice::default()
        };
        assert_eq!(log_wealth(3.0, EVEN, no_canary, 1.0), 0.0);
        assert_eq!(log_wealth(3.0, EVEN, no_primary, 1.0), 0.0);
        let objective = Boundary {
            ratio: 0.0,
            increase: 0.01,
        };
        assert!(log_wealth(3.0, objective, no_primary, 1.0) > 0.0);
    }

    #[test]
    fn wealth_without_increase_is_the_binomial_likelihood_ratio() {
        let slice = Slice {
            n0: 700.0,
            x0: 5.0,
            n1: 300.0,
            x1: 9.0,
        };
        let (ratio, bet) = (1.25, 3.0);
        let share = |r: f64| r * slice.n1 / (r * slice.n1 + slice.n0);
        let expected = slice.x1 * (share(bet * ratio) / share(ratio)).ln()
            + slice.x0 * ((1.0 - share(bet * ratio)) / (1.0 - share(ratio))).ln();
        let boundary = Boundary {
            ratio,
            increase: 0.0,
        };
        assert!((log_wealth(bet, boundary, slice, 1.0) - expected).abs() < 1e-9);
    }

    #[test]
    fn log_sum_exp_of_nothing_is_minus_infinity() {
        assert_eq!(log_sum_exp([]), f64::NEG_INFINITY);
        assert_eq!(log_sum_exp([f64::NEG_INFINITY; 2]), f64::NEG_INFINITY);
        assert!((log_sum_exp([1000.0, 1000.0]) - 1000.0 - 2f64.ln()).abs() < 1e-12);
    }
}

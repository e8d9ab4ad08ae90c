//! Metrics that are one number per look, without counts.

use super::config::{ScalarSettings, Worse};

/// Bets q on a look of a tolerable canary being worse more often than [`TOLERATED_SHARE`].
pub const FAIL_BETS: [f64; 3] = [0.6, 0.75, 0.9];
/// Bets q on a look of a bad canary being worse less often than [`BAD_SHARE`].
pub const PASS_BETS: [f64; 3] = [0.5, 0.2, 0.05];
/// π of "tolerated": worse in at most half of the looks.
pub const TOLERATED_SHARE: f64 = 0.5;
/// π of "bad": worse in at least four looks of five.
pub const BAD_SHARE: f64 = 0.8;

/// Whether the canary's number is worse than allowed; none if a number that is needed is missing
/// or not finite.
///
/// With a `min` or `max` the canary is worse outside of it. Otherwise it is compared with the
/// primary: worse above maxRatio·primary + maxIncrease (higher is worse) or below
/// primary/maxRatio − maxIncrease (lower is worse).
pub fn is_worse(
    settings: &ScalarSettings,
    primary: Option<f64>,
    canary: Option<f64>,
) -> Option<bool> {
    let finite = |value: Option<f64>| value.filter(|v| v.is_finite());
    let canary = finite(canary)?;
    if settings.min.is_some() || settings.max.is_some() {
        let below = settings.min.is_some_and(|min| canary < min);
        let above = settings.max.is_some_and(|max| canary > max);
        return Some(below || above);
    }
    let primary = finite(primary)?;
    Some(match settings.worse {
        Worse::Higher => canary > settings.max_ratio * primary + settings.max_increase,
        Worse::Lower => canary < primary / settings.max_ratio - settings.max_increase,
    })
}

/// l(q) = ln(q/π) if worse, ln((1−q)/(1−π)) if not: the log-likelihood ratio of one look.
///
/// E\[e^l\] ≤ 1 for q > π while the chance of "worse", given the past, is at most π, and for
/// q < π while it is at least π.
pub fn log_wealth(bet: f64, share: f64, worse: bool) -> f64 {
    if worse {
        (bet / share).ln()
    } else {
        ((1.0 - bet) / (1.0 - share)).ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lower() -> ScalarSettings {
        ScalarSettings {
            worse: Worse::Lower,
            max_ratio: 1.25,
            ..ScalarSettings::default()
        }
    }

    #[test]
    fn is_worse_compares_with_the_primary() {
        let higher = ScalarSettings {
            max_ratio: 1.2,
            max_increase: 1.0,
            ..ScalarSettings::default()
        };
        assert_eq!(is_worse(&higher, Some(10.0), Some(13.0)), Some(false));
        assert_eq!(is_worse(&higher, Some(10.0), Some(13.1)), Some(true));
        assert_eq!(is_worse(&lower(), Some(10.0), Some(8.0)), Some(false));
        assert_eq!(is_worse(&lower(), Some(10.0), Some(7.9)), Some(true));
    }

    #[test]
    fn is_worse_without_a_needed_number_is_unknown() {
        assert_eq!(is_worse(&lower(), None, Some(1.0)), None);
        assert_eq!(is_worse(&lower(), Some(f64::NAN), Some(1.0)), None);
        assert_eq!(is_worse(&lower(), Some(1.0), Some(f64::INFINITY)), None);
    }

    #[test]
    fn is_worse_with_a_range_needs_no_primary() {
        let range = ScalarSettings {
            min: Some(1.0),
            max: Some(2.0),
            ..ScalarSettings::default()
        };
        assert_eq!(is_worse(&range, None, Some(0.9)), Some(true));
        assert_eq!(is_worse(&range, None, Some(2.0)), Some(false));
        assert_eq!(is_worse(&range, None, Some(2.1)), Some(true));
    }

    #[test]
    fn log_wealth_at_the_boundary_is_fair() {
        for (bets, share) in [(FAIL_BETS, TOLERATED_SHARE), (PASS_BETS, BAD_SHARE)] {
            for bet in bets {
                let mean = share * log_wealth(bet, share, true).exp()
                    + (1.0 - share) * log_wealth(bet, share, false).exp();
                assert!((mean - 1.0).abs() < 1e-12);
            }
        }
    }
}

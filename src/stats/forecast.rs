//! How many more canary requests a decision needs, if things go on as in this step.

use super::primitive::{Boundary, Slice, log_sum_exp, log_wealth};

/// The canary requests N after which lse(have + N·gain) reaches `goal`.
///
/// `gain` holds what each bet's log wealth grows by per canary request. 0 if reached already;
/// none if no bet gains. The sum is convex in N and starts below the goal, so it crosses once and
/// bisection finds it.
pub fn requests_until(have: &[f64], gain: &[f64], goal: f64) -> Option<f64> {
    let after = |requests: f64| {
        log_sum_exp(
            have.iter()
                .zip(gain)
                .map(|(have, gain)| have + requests * gain),
        )
    };
    if after(0.0) >= goal {
        return Some(0.0);
    }
    // One bet alone gets there by this.
    let alone = have.iter().zip(gain).filter(|(_, gain)| **gain > 0.0);
    let alone = alone
        .map(|(have, gain)| (goal - have) / gain)
        .fold(f64::INFINITY, f64::min);
    if !alone.is_finite() {
        return None;
    }
    let (mut short, mut enough) = (0.0, alone);
    for _ in 0..200 {
        let middle = f64::midpoint(short, enough);
        if middle <= short || middle >= enough {
            break;
        }
        if after(middle) >= goal {
            enough = middle;
        } else {
            short = middle;
        }
    }
    Some(enough)
}

/// The rates that a step has shown, per canary request.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Primary requests for each of the canary's.
    requests: f64,
    /// p̂0 = (x0 + ½)/(n0 + 1).
    primary: f64,
    /// p̂1 = (x1 + ½)/(n1 + 1).
    canary: f64,
}

impl Pace {
    /// The pace of a step's totals; none without canary requests.
    pub fn of(step: Slice) -> Option<Self> {
        let requests = step.n0 / step.n1;
        (step.n1 > 0.0 && requests.is_finite()).then(|| Self {
            requests,
            primary: (step.x0 + 0.5) / (step.n0 + 1.0),
            canary: (step.x1 + 0.5) / (step.n1 + 1.0),
        })
    }

    /// The same with a canary that is just bad: p̂1 = `min(ρ_b` p̂0 + `δ_b`, 1).
    #[must_use]
    pub fn with_bad_canary(self, bad: Boundary) -> Self {
        Self {
            canary: (bad.ratio * self.primary + bad.increase).min(1.0),
            ..self
        }
    }

    /// g(κ): what each bet's log wealth grows by per canary request.
    pub fn gains(self, bets: &[f64], boundary: Boundary, dispersion: f64) -> Vec<f64> {
        let one = Slice {
            n0: self.requests,
            x0: self.requests * self.primary,
            n1: 1.0,
            x1: self.canary,
        };
        bets.iter()
            .map(|bet| log_wealth(*bet, boundary, one, dispersion))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]
    use super::*;

    #[test]
    fn requests_until_a_goal_of_one_bet_is_a_division() {
        let requests = requests_until(&[1.0], &[0.5], 4.0).unwrap();
        assert!((requests - 6.0).abs() < 1e-9);
    }

    #[test]
    fn requests_until_a_goal_already_reached_is_zero() {
        assert_eq!(requests_until(&[5.0], &[-1.0], 4.0), Some(0.0));
    }

    #[test]
    fn requests_until_without_gain_is_none() {
        assert_eq!(requests_until(&[1.0, 0.0], &[-0.5, 0.0], 4.0), None);
    }

    #[test]
    fn pace_without_canary_requests_is_none() {
        assert!(
            Pace::of(Slice {
                n0: 10.0,
                ..Slice::default()
            })
            .is_none()
        );
    }
}

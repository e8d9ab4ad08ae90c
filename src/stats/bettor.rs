//! Evidence against "tolerated": money bet at fair odds that the canary is worse.

use serde::{Deserialize, Serialize};

use super::primitive::log_sum_exp;

/// A mixture of e-processes begun at every slice, in constant space.
///
/// The bettor starts with cash C = 1. At each usable slice it moves a part of its cash into every
/// bet `κ_k`, then each bet's stake is multiplied by `e^l(κ_k)`:
///
/// ```text
/// part = 1/2 first, 1/4 at the first slice of a step, else 1/(s + 16)
/// U_k ← lse(U_k, ln(C part/K)) + min(l(κ_k), cap)    C ← C (1 − part)
/// ln E = lse(ln C, U_1 … U_K)
/// ```
///
/// By Ville's inequality P(E ≥ 1/α at any time) ≤ α while the canary is tolerable. Early good
/// evidence cannot drown a late defect, since cash is kept for it; and no single slice can reach
/// 1/α, since growth is capped at 0.9 ln(1/α).
///
/// Ville 1939; Waudby-Smith, Ramdas, arXiv 2010.09686; Shin, Ramdas, Rinaldo, arXiv 2203.03532.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bettor {
    /// C, the cash not yet bet; in \[0, 1\].
    cash: f64,
    /// `U_k`, the natural log of each bet's money; −∞ (null in JSON) before the first slice.
    #[serde(with = "super::state::log_list")]
    bets: Vec<f64>,
    /// s, the usable slices so far.
    used: u64,
    /// Whether the next usable slice is the first of a step.
    fresh: bool,
}

impl Bettor {
    /// A bettor with `bets` bets and all its money in cash.
    pub fn new(bets: usize) -> Self {
        Self {
            cash: 1.0,
            bets: vec![f64::NEG_INFINITY; bets],
            used: 0,
            fresh: false,
        }
    }

    /// ln E, the log of all the money; 0 at the start.
    pub fn log_evidence(&self) -> f64 {
        log_sum_exp(self.bets.iter().copied().chain([self.cash.ln()]))
    }

    /// Bet on one usable slice: `log_wealth` holds `l(κ_k)` in the order of the bets, `cap` bounds
    /// each from above.
    pub fn play(&mut self, log_wealth: &[f64], cap: f64) {
        let part = self.next_part();
        let stake = self.stake(part);
        for (bet, growth) in self.bets.iter_mut().zip(log_wealth) {
            *bet = log_sum_exp([*bet, stake]) + growth.min(cap);
        }
        self.cash *= 1.0 - part;
        self.used = self.used.saturating_add(1);
        self.fresh = false;
    }

    /// A step begins: put fresh money on its first slice.
    pub fn begin_step(&mut self) {
        self.fresh = true;
    }

    /// What each bet would have if an ordinary part of the cash were added now; the start of a
    /// forecast.
    pub fn staked(&self) -> Vec<f64> {
        let stake = self.stake(self.late_part());
        self.bets
            .iter()
            .map(|bet| log_sum_exp([*bet, stake]))
            .collect()
    }

    fn next_part(&self) -> f64 {
        if self.used == 0 {
            0.5
        } else if self.fresh {
            0.25
        } else {
            self.late_part()
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "slices stay far below 2^53")]
    fn late_part(&self) -> f64 {
        1.0 / (self.used as f64 + 16.0)
    }

    #[expect(clippy::cast_precision_loss, reason = "a handful of bets")]
    fn stake(&self, part: f64) -> f64 {
        (self.cash * part / self.bets.len() as f64).ln()
    }

    /// Whether this can be the state of a bettor with `bets` bets.
    pub(super) fn is_sound(&self, bets: usize) -> bool {
        (0.0..=1.0).contains(&self.cash)
            && self.bets.len() == bets
            && self
                .bets
                .iter()
                .all(|bet| !bet.is_nan() && *bet < f64::INFINITY)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]
    use super::*;

    #[test]
    fn play_on_even_slices_keeps_the_money() {
        let mut bettor = Bettor::new(5);
        assert_eq!(bettor.log_evidence(), 0.0);
        for turn in 0..100 {
            if turn % 10 == 0 {
                bettor.begin_step();
            }
            bettor.play(&[0.0; 5], 4.0);
            assert!(bettor.log_evidence().abs() < 1e-12);
        }
    }

    #[test]
    fn play_on_a_huge_slice_stays_below_the_cap() {
        let mut bettor = Bettor::new(5);
        bettor.play(&[1e9; 5], 4.0);
        assert!(bettor.log_evidence() < 4.0);
    }

    #[test]
    fn play_after_a_long_good_time_still_finds_a_defect() {
        let mut bettor = Bettor::new(5);
        for _ in 0..10_000 {
            bettor.play(&[-1.0; 5], 4.0);
        }
        for _ in 0..30 {
            bettor.play(&[1.0; 5], 4.0);
        }
        assert!(bettor.log_evidence() > 5.0);
    }
}

//! Evidence against "bad": what lets a step pass.

use serde::{Deserialize, Serialize};

use super::primitive::log_sum_exp;

/// `V_k` = Σ `l(κ_k)` since the start of the step, for bets `κ_k` < 1 on the boundary of "bad".
///
/// ln P = lse(V) − ln K, the log of the mean of the bets' money: a step passes by its own
/// evidence, P(P ≥ 1/β at any look | bad throughout the step) ≤ β. With a fixed φ the sums do not
/// depend on the order of slices. Ville 1939.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Passing {
    /// `V_k`, natural logs; 0 at the start of a step.
    #[serde(with = "super::state::log_list")]
    sums: Vec<f64>,
}

impl Passing {
    /// `bets` bets with nothing seen.
    pub fn new(bets: usize) -> Self {
        Self {
            sums: vec![0.0; bets],
        }
    }

    /// ln P; 0 at the start of a step.
    #[expect(clippy::cast_precision_loss, reason = "a handful of bets")]
    pub fn log_evidence(&self) -> f64 {
        log_sum_exp(self.sums.iter().copied()) - (self.sums.len() as f64).ln()
    }

    /// Add one usable slice: `log_wealth` holds `l(κ_k)` in the order of the bets.
    pub fn play(&mut self, log_wealth: &[f64]) {
        for (sum, growth) in self.sums.iter_mut().zip(log_wealth) {
            *sum += growth;
        }
    }

    /// A step begins: its evidence starts anew.
    pub fn begin_step(&mut self) {
        self.sums.fill(0.0);
    }

    /// `V_k`, in the order of the bets.
    pub fn sums(&self) -> &[f64] {
        &self.sums
    }

    /// Whether this can be the state of `bets` bets.
    pub(super) fn is_sound(&self, bets: usize) -> bool {
        self.sums.len() == bets && self.sums.iter().all(|sum| sum.is_finite())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp)]
    use super::*;

    #[test]
    fn begin_step_after_evidence_forgets_it() {
        let mut passing = Passing::new(4);
        passing.play(&[3.0, 2.0, 1.0, 0.5]);
        assert!(passing.log_evidence() > 0.0);
        passing.begin_step();
        assert_eq!(passing.log_evidence(), 0.0);
    }
}

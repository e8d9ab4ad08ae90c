//! One stream of evidence: a metric, or one latency bound of it.

use serde::{Deserialize, Serialize};

use super::bettor::Bettor;
use super::config::{Compare, DispersionSetting};
use super::dispersion::Dispersion;
use super::forecast::{Pace, requests_until};
use super::interval::{RatioInterval, Strata};
use super::passing::Passing;
use super::primitive::{Boundary, Slice, log_wealth};

/// Bets κ > 1 on the boundary of "tolerated".
pub const FAIL_BETS: [f64; 5] = [1.3, 1.8, 3.0, 6.0, 20.0];
/// Bets κ < 1 on the boundary of "bad".
pub const PASS_BETS: [f64; 4] = [0.02, 0.1, 0.3, 0.55];

/// What is kept of one stream between looks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamState {
    /// Evidence against "tolerated".
    pub bettor: Bettor,
    /// Evidence against "bad", of this step.
    pub passing: Passing,
    /// The primary's burstiness.
    pub dispersion: Dispersion,
    /// Totals per step.
    pub strata: Strata,
    /// Whether the last used slice was judged by the objective.
    pub by_objective: bool,
    /// `δ_b` of the last used slice.
    pub bad_increase: f64,
}

/// How a stream's slices are judged; fixed before the slice is seen.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// ρ and δ.
    pub tolerated: Boundary,
    /// `ρ_b` and `δ_b`.
    pub bad: Boundary,
    /// The allowed share without a primary.
    pub objective: Option<f64>,
    /// What the canary is compared with.
    pub compare: Compare,
    /// Where φ comes from.
    pub dispersion: DispersionSetting,
}

impl Rules {
    /// The boundaries of "tolerated" and "bad", by the objective or relative to the primary.
    fn boundaries(&self, by_objective: bool) -> (Boundary, Boundary) {
        match self.objective.filter(|_| by_objective) {
            Some(share) => (
                Boundary {
                    ratio: 0.0,
                    increase: share,
                },
                Boundary {
                    ratio: 0.0,
                    increase: share + self.bad.increase,
                },
            ),
            None => (self.tolerated, self.bad),
        }
    }

    /// Whether a slice is judged by the objective; none if it cannot be judged at all.
    fn by_objective(&self, slice: Slice) -> Option<bool> {
        if slice.n1 <= 0.0 {
            return None;
        }
        match self.compare {
            Compare::Objective => Some(true),
            Compare::Primary if slice.n0 > 0.0 => Some(false),
            Compare::Primary => self.objective.map(|_| true),
        }
    }
}

impl StreamState {
    /// A stream that counts requests.
    pub fn counting() -> Self {
        Self::with_bets(FAIL_BETS.len(), PASS_BETS.len())
    }

    /// A stream with so many bets on either side.
    pub fn with_bets(fail: usize, pass: usize) -> Self {
        Self {
            bettor: Bettor::new(fail),
            passing: Passing::new(pass),
            dispersion: Dispersion::default(),
            strata: Strata::default(),
            by_objective: false,
            bad_increase: 0.0,
        }
    }

    /// φ for the next slice.
    pub fn phi(&self, setting: DispersionSetting) -> f64 {
        match setting {
            DispersionSetting::Fixed(phi) => phi,
            DispersionSetting::Auto => self.dispersion.estimate(),
        }
    }

    /// A step begins.
    pub fn begin_step(&mut self) {
        self.bettor.begin_step();
        self.passing.begin_step();
        self.strata.begin_step();
    }

    /// Judge one slice, then learn the primary's burstiness from it. A `cold` slice is only
    /// learned from. Returns the canary requests that were judged.
    pub fn play(&mut self, slice: Slice, rules: &Rules, cold: bool, cap: f64) -> f64 {
        let mut gained = 0.0;
        if let Some(by_objective) = rules.by_objective(slice).filter(|_| !cold) {
            let phi = self.phi(rules.dispersion);
            let (tolerated, bad) = rules.boundaries(by_objective);
            self.bettor.play(
                &FAIL_BETS.map(|bet| log_wealth(bet, tolerated, slice, phi)),
                cap,
            );
            self.passing
                .play(&PASS_BETS.map(|bet| log_wealth(bet, bad, slice, phi)));
            self.strata.add(slice);
            self.by_objective = by_objective;
            self.bad_increase = rules.bad.increase;
            gained = slice.n1;
        }
        self.dispersion.learn(slice);
        gained
    }

    /// The ratio's confidence sequence at 1 − `alpha`.
    pub fn ratio(&self, rules: &Rules, alpha: f64) -> Option<RatioInterval> {
        self.strata.ratio(self.phi(rules.dispersion), alpha)
    }

    /// Whether the primary's share of bad requests in this step is above `limit`; never when the
    /// last used slice was judged by the objective.
    pub fn is_primary_sick(&self, limit: f64) -> bool {
        let step = self.strata.current();
        !self.by_objective && step.x0 > limit * step.n0
    }

    /// Canary requests until this stream alone carries ln E to `goal`, at this step's pace; with
    /// `bad`, as if the canary were just bad.
    pub fn requests_to_fail(&self, rules: &Rules, goal: f64, bad: bool) -> Option<f64> {
        let (tolerated, bad_boundary) = self.boundaries_as_last(rules);
        let pace = Pace::of(self.strata.current())?;
        let pace = if bad {
            pace.with_bad_canary(bad_boundary)
        } else {
            pace
        };
        let gains = pace.gains(&FAIL_BETS, tolerated, self.phi(rules.dispersion));
        requests_until(&self.bettor.staked(), &gains, goal)
    }

    /// Canary requests until P ≥ 1/`beta`, at this step's pace.
    #[expect(clippy::cast_precision_loss, reason = "a handful of bets")]
    pub fn requests_to_pass(&self, rules: &Rules, beta: f64) -> Option<f64> {
        let (_, bad) = self.boundaries_as_last(rules);
        let gains =
            Pace::of(self.strata.current())?.gains(&PASS_BETS, bad, self.phi(rules.dispersion));
        requests_until(
            self.passing.sums(),
            &gains,
            (PASS_BETS.len() as f64).ln() - beta.ln(),
        )
    }

    fn boundaries_as_last(&self, rules: &Rules) -> (Boundary, Boundary) {
        let bad = Boundary {
            increase: self.bad_increase,
            ..rules.bad
        };
        Rules { bad, ..*rules }.boundaries(self.by_objective)
    }

    /// Whether this can be the state of a stream with so many bets on either side.
    pub(super) fn is_sound(&self, fail: usize, pass: usize) -> bool {
        self.bettor.is_sound(fail)
            && self.passing.is_sound(pass)
            && self.dispersion.is_sound()
            && self.strata.is_sound()
            && (0.0..=1.0).contains(&self.bad_increase)
    }
}

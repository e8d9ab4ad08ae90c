//! Properties that hold exactly, checked by enumeration or generated cases.

use haldane::stats::config::{Compare, DispersionSetting};
use haldane::stats::primitive::{Boundary, Slice, log_wealth};
use haldane::stats::stream::{FAIL_BETS, PASS_BETS, Rules, StreamState};
use proptest::prelude::*;

/// The distribution of the number of bad requests among independent ones that are bad with these
/// chances.
fn bad_counts(chances: &[f64]) -> Vec<f64> {
    let mut counts = vec![1.0];
    for chance in chances {
        let mut next = vec![0.0; counts.len() + 1];
        for (x, mass) in counts.iter().enumerate() {
            next[x] += mass * (1.0 - chance);
            next[x + 1] += mass * chance;
        }
        counts = next;
    }
    counts
}

/// E[e^l(κ)] over all outcomes of a slice whose bad requests come in bursts of `burst`.
fn mean_growth(
    bet: f64,
    boundary: Boundary,
    primary: &[f64],
    canary: &[f64],
    burst: u32,
    phi: f64,
) -> f64 {
    let size = f64::from(burst);
    let count = |chances: &[f64]| f64::from(u32::try_from(chances.len()).expect("few")) * size;
    let mut mean = 0.0;
    for (bursts1, mass1) in bad_counts(canary).iter().enumerate() {
        for (bursts0, mass0) in bad_counts(primary).iter().enumerate() {
            let bad = |bursts: usize| f64::from(u32::try_from(bursts).expect("few")) * size;
            let slice = Slice {
                n0: count(primary),
                x0: bad(bursts0),
                n1: count(canary),
                x1: bad(bursts1),
            };
            mean += mass1 * mass0 * log_wealth(bet, boundary, slice, phi).exp();
        }
    }
    mean
}

/// Chances around a mean, alternating by `spread` of it.
fn around(mean: f64, spread: f64, requests: usize) -> Vec<f64> {
    (0..requests - requests % 2)
        .map(|at| {
            mean * if at % 2 == 0 {
                1.0 + spread
            } else {
                1.0 - spread
            }
        })
        .collect()
}

/// Every bet on every boundary is fair or worse, at the edge of its hypothesis and inside it, for
/// alike and for uneven requests, single and in bursts.
#[test]
fn growth_of_every_bet_under_its_hypothesis_has_a_mean_of_at_most_one() {
    let mut tightest = 0.0_f64;
    for (ratio, increase) in [
        (1.25, 0.0005),
        (1.0, 0.0),
        (2.0, 0.01),
        (1.15, 0.001),
        (0.0, 0.01),
    ] {
        let boundary = Boundary { ratio, increase };
        for (n0, n1) in [(2, 2), (12, 4), (4, 12), (20, 2)] {
            for p0 in [0.0, 0.001, 0.02, 0.1] {
                for (spread, burst, phi) in [
                    (0.0, 1, 1.0),
                    (0.9, 1, 1.0),
                    (0.0, 1, 3.5),
                    (0.5, 3, 3.0),
                    (0.0, 2, 5.0),
                ] {
                    let edge: f64 = ratio * p0 + increase;
                    let primary = around(p0, spread, n0);
                    for (bet, inside) in FAIL_BETS
                        .map(|bet| (bet, 0.5))
                        .into_iter()
                        .chain(PASS_BETS.map(|bet| (bet, 1.5)))
                    {
                        for p1 in [edge, edge * inside] {
                            let canary = around(p1, spread, n1);
                            let mean = mean_growth(bet, boundary, &primary, &canary, burst, phi);
                            assert!(
                                mean <= 1.0 + 1e-12,
                                "E[e^l({bet})] = {mean}: {boundary:?}, n0 {n0}, n1 {n1}, p0 {p0}, p1 {p1}, bursts of {burst}, phi {phi}"
                            );
                            tightest = tightest.max(if p1 > 0.0 { mean } else { 0.0 });
                        }
                    }
                }
            }
        }
    }
    assert!(
        tightest > 0.999,
        "no case comes near 1, so none tests the bound: {tightest}"
    );
}

/// Outside of its hypothesis a bet does grow.
#[test]
fn growth_of_a_bet_outside_its_hypothesis_has_a_mean_above_one() {
    let boundary = Boundary {
        ratio: 1.25,
        increase: 0.0005,
    };
    let primary = around(0.01, 0.0, 20);
    assert!(mean_growth(3.0, boundary, &primary, &around(0.1, 0.0, 10), 1, 1.0) > 1.1);
    assert!(mean_growth(0.3, boundary, &primary, &around(0.001, 0.0, 10), 1, 1.0) > 1.01);
}

fn rules(phi: f64) -> Rules {
    Rules {
        tolerated: Boundary {
            ratio: 1.25,
            increase: 0.0005,
        },
        bad: Boundary {
            ratio: 2.0,
            increase: 0.01,
        },
        objective: Some(0.01),
        compare: Compare::Primary,
        dispersion: DispersionSetting::Fixed(phi),
    }
}

fn slice() -> impl Strategy<Value = Slice> {
    (0_u32..2000, 0_u32..30, 0_u32..500, 0_u32..30).prop_map(|(n0, x0, n1, x1)| {
        Slice::new(
            Some((f64::from(n0), f64::from(x0))),
            Some((f64::from(n1), f64::from(x1))),
        )
    })
}

proptest! {
    #[test]
    fn passing_evidence_with_a_fixed_dispersion_ignores_the_order_of_slices(
        (slices, shuffled) in prop::collection::vec(slice(), 1..40).prop_flat_map(|slices| {
            let shuffled = Just(slices.clone()).prop_shuffle();
            (Just(slices), shuffled)
        }),
        phi in 1.0..5.0,
    ) {
        let evidence = |slices: &[Slice]| {
            let mut stream = StreamState::counting();
            for slice in slices {
                stream.play(*slice, &rules(phi), false, 4.0);
            }
            stream.passing.sums().to_vec()
        };
        for (one, other) in evidence(&slices).into_iter().zip(evidence(&shuffled)) {
            prop_assert!((one - other).abs() <= 1e-9 * one.abs().max(1.0), "{one} {other}");
        }
    }
}

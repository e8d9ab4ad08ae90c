//! The promises on error rates, by simulated releases with fixed seeds.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use haldane::stats::config::{Compare, DispersionSetting};
use haldane::stats::primitive::{Boundary, Slice};
use haldane::stats::stream::{Rules, StreamState};
use haldane::stats::{Judge, JudgeConfig, Look, Reading, Side, StepId, Verdict};

use crate::random::Random;

const RELEASES: u32 = 2000;

/// The most events of chance `chance` in `RELEASES` that luck explains (four deviations).
fn bound(chance: f64) -> f64 {
    let n = f64::from(RELEASES);
    n * chance + 4.0 * (n * chance * (1.0 - chance)).sqrt()
}

fn rules(dispersion: DispersionSetting) -> Rules {
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
        dispersion,
    }
}

/// A slice whose base rate itself moves at random, alike for both sides.
fn slice(random: &mut Random, p0: f64, p1: impl Fn(f64) -> f64) -> Slice {
    let p0 = p0 * (0.5 + random.unit());
    let (primary, canary) = (random.bad(1200, p0), random.bad(300, p1(p0)));
    Slice::new(
        Some((1200.0, f64::from(primary))),
        Some((300.0, f64::from(canary))),
    )
}

/// How many releases of 60 slices ever reach 1/α.
fn fails(seed: u64, alpha: f64, setting: DispersionSetting, p1: impl Fn(f64) -> f64) -> u32 {
    let mut random = Random(seed);
    let rules = rules(setting);
    let fail = |_: &u32| {
        let mut stream = StreamState::counting();
        (0..60).any(|at| {
            if at % 15 == 0 {
                stream.begin_step();
            }
            stream.play(
                slice(&mut random, 0.01, &p1),
                &rules,
                false,
                -0.9 * alpha.ln(),
            );
            stream.bettor.log_evidence() >= -alpha.ln()
        })
    };
    u32::try_from((0..RELEASES).filter(fail).count()).unwrap()
}

#[test]
fn releases_at_the_edge_of_tolerated_fail_at_most_at_alpha() {
    let edge = |p0: f64| 1.25 * p0 + 0.0005;
    let settings = [
        (0.2, DispersionSetting::Fixed(1.0)),
        (0.05, DispersionSetting::Auto),
    ];
    for (alpha, setting) in settings {
        let failed = f64::from(fails(7, alpha, setting, edge));
        assert!(
            failed <= bound(alpha),
            "{failed} of {RELEASES} at alpha {alpha}"
        );
    }
}

#[test]
fn releases_well_beyond_tolerated_nearly_all_fail() {
    let failed = fails(7, 0.01, DispersionSetting::Auto, |p0| 3.0 * p0);
    assert!(failed > RELEASES * 99 / 100, "only {failed} of {RELEASES}");
}

/// How many steps of 60 slices ever reach 1/β.
fn passes(seed: u64, beta: f64, p1: impl Fn(f64) -> f64) -> u32 {
    let mut random = Random(seed);
    let rules = rules(DispersionSetting::Fixed(1.0));
    let pass = |_: &u32| {
        let mut stream = StreamState::counting();
        (0..60).any(|_| {
            stream.play(slice(&mut random, 0.01, &p1), &rules, false, 4.0);
            stream.passing.log_evidence() >= -beta.ln()
        })
    };
    u32::try_from((0..RELEASES).filter(pass).count()).unwrap()
}

#[test]
fn steps_at_the_edge_of_bad_pass_at_most_at_beta() {
    let passed = f64::from(passes(11, 0.05, |p0| 2.0 * p0 + 0.01));
    assert!(passed <= bound(0.05), "{passed} of {RELEASES}");
    assert!(
        passed >= 1.0,
        "none passes at the edge: the test has no power"
    );
}

#[test]
fn steps_of_a_canary_like_its_primary_nearly_all_pass() {
    let passed = passes(11, 0.05, |p0| p0);
    assert!(passed > RELEASES * 99 / 100, "only {passed} of {RELEASES}");
}

/// Looks every 15 s at 100 requests a second, a fifth of them at the canary, after ten minutes of
/// baseline; the seconds until the verdict.
fn seconds_to(seed: u64, p0: f64, p1: f64, decided: impl Fn(&Verdict) -> bool) -> u32 {
    let mut random = Random(seed);
    let mut judge = Judge::new(
        serde_json::from_str::<JudgeConfig>(r#"{"metrics":[{"name":"errors","kind":"ratio"}]}"#)
            .unwrap(),
    )
    .unwrap();
    let mut look = |t: u32, requests: [u32; 2], bad: [u32; 2]| {
        let [primary, canary] =
            [0, 1].map(|side| Side::Increments(vec![requests[side].into(), bad[side].into()]));
        let reading = Reading {
            primary,
            canary,
            ..Reading::default()
        };
        let metrics = BTreeMap::from([("errors".to_owned(), reading)]);
        let step = StepId::Index(0);
        judge
            .look(&Look {
                t: t.into(),
                dt: 15.0,
                step,
                next: Some(1.0),
                cold: false,
                metrics,
            })
            .verdict
    };
    for at in 0..40 {
        look(at * 15, [1500, 0], [random.bad(1500, p0), 0]);
    }
    for at in 1..=240 {
        let bad = [random.bad(1200, p0), random.bad(300, p1)];
        if decided(&look(600 + at * 15, [1200, 300], bad)) {
            return at * 15;
        }
    }
    u32::MAX
}

fn median(seconds: impl Iterator<Item = u32>) -> u32 {
    let mut seconds: Vec<u32> = seconds.collect();
    seconds.sort_unstable();
    seconds[seconds.len() / 2]
}

#[test]
fn a_tenfold_error_rate_is_rolled_back_within_two_looks() {
    let fail = |verdict: &Verdict| matches!(verdict, Verdict::Fail { .. });
    assert_eq!(
        median((0..21).map(|seed| seconds_to(seed, 0.005, 0.05, fail))),
        30
    );
}

#[test]
fn a_healthy_canary_passes_within_minutes() {
    let pass = |verdict: &Verdict| matches!(verdict, Verdict::Pass);
    let median = median((0..21).map(|seed| seconds_to(seed, 0.005, 0.005, pass)));
    assert!((45..=180).contains(&median), "{median} s");
}

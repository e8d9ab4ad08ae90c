//! Looks that no honest server sends: never a panic, a NaN or a pass without data.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use haldane::stats::primitive::LARGEST_COUNT;
use haldane::stats::{
    Finding, Judge, JudgeConfig, JudgeState, Look, Reading, Side, StepId, Verdict,
};
use proptest::prelude::*;

const CONFIG: &str = r#"{"minRequests":0,"metrics":[
    {"name":"errors","kind":"ratio"},
    {"name":"objective","kind":"ratio","compare":"objective","objective":0.02},
    {"name":"latency","kind":"histogram"},
    {"name":"bound","kind":"histogram","bound":0.3,"objective":0.05,"skipCold":false},
    {"name":"queue","kind":"scalar"},
    {"name":"memory","kind":"scalar","max":500,"critical":false}]}"#;

const METRICS: [&str; 6] = ["errors", "objective", "latency", "bound", "queue", "memory"];

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (0_u32..2000).prop_map(f64::from),
        1 => prop::sample::select(vec![
            0.0, -0.0, 0.5, -1.0, 5e-324, 1e-300, 1e17, 1e99, 1e100, 1e300, f64::MAX, f64::NAN,
            f64::INFINITY, f64::NEG_INFINITY, 9_007_199_254_740_992.0,
        ]),
        1 => any::<f64>(),
    ]
}

fn numbers() -> impl Strategy<Value = Vec<f64>> {
    prop_oneof![
        3 => prop::collection::vec(number(), 2),
        3 => prop::collection::vec(number(), 4),
        2 => prop::collection::vec((0_u32..900).prop_map(f64::from), 4).prop_map(|mut counts| {
            counts.sort_by(f64::total_cmp);
            counts
        }),
        1 => prop::collection::vec(number(), 0..6),
    ]
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![
        1 => Just(Side::Absent),
        2 => number().prop_map(Side::Scalar),
        4 => numbers().prop_map(Side::Increments),
        2 => prop::collection::btree_map("[ab]", numbers(), 0..3).prop_map(Side::Counters),
    ]
}

fn reading() -> impl Strategy<Value = Reading> {
    let le =
        prop_oneof![4 => Just(vec![0.1, 0.25, 0.5]), 1 => prop::collection::vec(number(), 0..5)];
    (le, side(), side()).prop_map(|(le, primary, canary)| Reading {
        le,
        primary,
        canary,
    })
}

fn look() -> impl Strategy<Value = Look> {
    let metrics = prop::collection::btree_map(
        prop::sample::select(&METRICS).prop_map(str::to_owned),
        reading(),
        0..7,
    );
    (
        number(),
        number(),
        0_i64..4,
        prop::option::of(number()),
        any::<bool>(),
        metrics,
    )
        .prop_map(|(t, dt, step, next, cold, metrics)| Look {
            t,
            dt,
            step: StepId::Index(step),
            next,
            cold,
            metrics,
        })
}

fn judge() -> Judge {
    Judge::new(serde_json::from_str::<JudgeConfig>(CONFIG).unwrap()).unwrap()
}

fn numbers_of(finding: &Finding) -> Vec<f64> {
    let mut numbers = vec![finding.log_e_all, finding.p_value];
    numbers.extend(finding.log_e.values());
    numbers.extend(finding.log_pass.values().flatten());
    for detail in finding.detail.values() {
        numbers.extend(&detail.phi);
        numbers.extend(detail.max_ratio.iter().flatten().flatten());
        for ratio in detail.ratio.iter().flatten() {
            numbers.push(ratio.low);
            numbers.extend(ratio.estimate.into_iter().chain(ratio.high));
        }
    }
    if let Verdict::Undecided { needs, .. } = &finding.verdict {
        numbers.extend(
            [needs.requests, needs.seconds, needs.requests_if_bad]
                .into_iter()
                .flatten(),
        );
    }
    numbers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn hostile_looks_give_finite_findings_and_a_state_that_round_trips(
        looks in prop::collection::vec(look(), 1..16),
    ) {
        let mut judge = judge();
        for look in &looks {
            let finding = judge.look(look);
            for number in numbers_of(&finding) {
                prop_assert!(number.is_finite(), "{number} in {finding:?}");
            }
            prop_assert!((0.0..=1.0).contains(&finding.p_value));
            prop_assert!(finding.log_e_all <= finding.log_e.values().copied().fold(0.0, f64::max) + 1e-9);
            prop_assert!(!finding.sentence().contains("NaN"));
            if look.t.is_finite() {
                let saved = serde_json::to_string(judge.state()).unwrap();
                let state: JudgeState = serde_json::from_str(&saved).unwrap();
                prop_assert_eq!(&state, judge.state());
                prop_assert!(Judge::resume(judge.config().clone(), state).is_ok());
            }
        }
    }

    /// No number of looks without canary requests lets a step pass.
    #[test]
    fn looks_without_a_canary_never_pass(looks in prop::collection::vec(look(), 1..10)) {
        let mut judge = judge();
        for mut look in looks {
            for reading in look.metrics.values_mut() {
                reading.canary = Side::Absent;
            }
            let finding = judge.look(&look);
            prop_assert!(matches!(finding.verdict, Verdict::Undecided { .. }), "{:?}", finding);
        }
    }
}

#[test]
fn counts_up_to_the_largest_give_finite_findings_that_resume() {
    let counts = [0.0, 1.0, 1e6, 9_007_199_254_740_992.0, LARGEST_COUNT];
    let config = r#"{"metrics":[{"name":"errors","kind":"ratio"}]}"#;
    for n0 in counts {
        for n1 in counts {
            for (share0, share1) in [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.01, 0.02)] {
                let mut judge = Judge::new(serde_json::from_str(config).unwrap()).unwrap();
                for t in 0..5 {
                    let primary = Side::Increments(vec![n0, n0 * share0]);
                    let canary = Side::Increments(vec![n1, n1 * share1]);
                    let reading = Reading {
                        primary,
                        canary,
                        ..Reading::default()
                    };
                    let metrics = BTreeMap::from([("errors".to_owned(), reading)]);
                    let step = StepId::Index(t / 2);
                    let look = Look {
                        t: f64::from(i32::try_from(t).unwrap()),
                        dt: 15.0,
                        step,
                        next: None,
                        cold: false,
                        metrics,
                    };
                    let finding = judge.look(&look);
                    assert!(
                        numbers_of(&finding).into_iter().all(f64::is_finite),
                        "{finding:?}"
                    );
                    Judge::resume(judge.config().clone(), judge.state().clone()).unwrap();
                }
            }
        }
    }
}

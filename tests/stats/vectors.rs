//! Every vector: the findings agree with the expected ones within 1e-6·max(1, |v|).

#![allow(clippy::unwrap_used, clippy::panic)]

use haldane::stats::{Judge, JudgeConfig, JudgeState, Look};
use serde::Deserialize;
use serde_json::Value;

const VECTORS: &str = include_str!("../vectors/analysis.json");

#[derive(Deserialize)]
struct Vector {
    name: String,
    input: Input,
    expected: Vec<Value>,
}

#[derive(Deserialize)]
struct Input {
    config: JudgeConfig,
    looks: Vec<Look>,
}

/// The largest deviation between two JSON values relative to max(1, |expected|); panics where
/// they differ in shape.
fn deviation(path: &str, actual: &Value, expected: &Value) -> f64 {
    match (actual, expected) {
        (Value::Number(a), Value::Number(e)) => {
            let (a, e) = (a.as_f64().unwrap(), e.as_f64().unwrap());
            let deviation = (a - e).abs() / e.abs().max(1.0);
            assert!(deviation <= 1e-6, "{path}: {a} instead of {e}");
            deviation
        }
        (Value::Array(a), Value::Array(e)) => {
            assert_eq!(a.len(), e.len(), "{path}: {actual} instead of {expected}");
            let deviations = a
                .iter()
                .zip(e)
                .enumerate()
                .map(|(at, (a, e))| deviation(&format!("{path}[{at}]"), a, e));
            deviations.fold(0.0, f64::max)
        }
        (Value::Object(a), Value::Object(e)) => {
            let keys = |object: &serde_json::Map<String, Value>| {
                object
                    .keys()
                    .cloned()
                    .collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(keys(a), keys(e), "{path}: other keys");
            e.iter()
                .map(|(key, e)| deviation(&format!("{path}.{key}"), &a[key], e))
                .fold(0.0, f64::max)
        }
        _ => {
            assert_eq!(actual, expected, "{path}");
            0.0
        }
    }
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(VECTORS).unwrap()
}

#[test]
fn findings_agree_with_every_vector() {
    let mut largest = 0.0_f64;
    for vector in vectors() {
        let mut judge = Judge::new(vector.input.config).unwrap();
        assert_eq!(vector.input.looks.len(), vector.expected.len());
        for (look, expected) in vector.input.looks.iter().zip(&vector.expected) {
            let actual = serde_json::to_value(judge.look(look)).unwrap();
            largest = largest.max(deviation(
                &format!("{} t={}", vector.name, look.t),
                &actual,
                expected,
            ));
        }
    }
    // The expected numbers are rounded to twelve digits.
    assert!(largest < 1e-9, "largest deviation {largest:e}");
}

/// Saving and restoring between any two looks changes no bit of any finding.
#[test]
fn findings_across_restarts_are_the_same_bit_for_bit() {
    for vector in vectors() {
        let mut steady = Judge::new(vector.input.config.clone()).unwrap();
        let mut restarted = Judge::new(vector.input.config.clone()).unwrap();
        for (at, look) in vector.input.looks.iter().enumerate() {
            let saved = serde_json::to_string(restarted.state()).unwrap();
            let state: JudgeState = serde_json::from_str(&saved).unwrap();
            restarted = Judge::resume(vector.input.config.clone(), state).unwrap();
            for earlier in &vector.input.looks[..at] {
                restarted.rebase(earlier);
            }
            assert_eq!(
                steady.look(look),
                restarted.look(look),
                "{} t={}",
                vector.name,
                look.t
            );
            assert_eq!(steady.state(), restarted.state());
        }
    }
}

#![allow(clippy::unwrap_used)]

use super::*;

/// A series with a sample each 10 s from second 0.
fn series(labels: &[(&str, &str)], values: &[f64]) -> Series {
    Series {
        labels: Arc::new(
            labels
                .iter()
                .map(|(key, value)| ((*key).into(), (*value).into()))
                .collect(),
        ),
        samples: (0..).step_by(10_000).zip(values.iter().copied()).collect(),
    }
}

/// The only value; NaN when there is none.
fn one(query: &str, series: &[Series], second: i64) -> f64 {
    match evaluate(query, series, second * 1000).unwrap() {
        Value::Scalar(value) => value,
        Value::Vector(vector) => match vector.as_slice() {
            [(_, value)] => *value,
            _ => f64::NAN,
        },
        Value::Ranges => f64::NAN,
    }
}

#[track_caller]
fn near(found: f64, wanted: f64) {
    assert!((found - wanted).abs() < 1e-9, "found {found}, not {wanted}");
}

#[test]
fn rate_is_extrapolated_to_the_ends_of_its_range() {
    let steady = [series(
        &[("__name__", "m")],
        &[0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0],
    )];
    near(one("rate(m[1m])", &steady, 60), 1.0);
    near(one("increase(m[1m])", &steady, 60), 60.0);
    // Samples at 50 and 60 s; the range reaches 5 s before and 4 s after them.
    near(
        one("increase(m[19s])", &steady, 64),
        10.0 * (10.0 + 5.0 + 4.0) / 10.0,
    );
    // A counter is never extrapolated to before it was zero.
    let young = [series(&[("__name__", "m")], &[1.0, 11.0])];
    near(
        one("increase(m[1m])", &young, 10),
        10.0 * (10.0 + 1.0) / 10.0,
    );
}

#[test]
fn rate_of_a_counter_that_starts_again_counts_what_came_after() {
    let reset = [series(
        &[("__name__", "m")],
        &[100.0, 110.0, 5.0, 15.0, 25.0, 35.0, 45.0],
    )];
    // 5 at the reset and 40 after it, in 50 of 60 s.
    near(one("increase(m[1m])", &reset, 60), 45.0 * 60.0 / 50.0);
    assert!(
        one("rate(m[5s])", &reset, 60).is_nan(),
        "one sample has no rate"
    );
}

#[test]
fn selectors_choose_by_all_four_tests() {
    let all = [
        series(&[("__name__", "m"), ("code", "200"), ("app", "a")], &[1.0]),
        series(&[("__name__", "m"), ("code", "500"), ("app", "a")], &[2.0]),
        series(&[("__name__", "m"), ("code", "503"), ("app", "b")], &[4.0]),
        series(&[("__name__", "other")], &[8.0]),
    ];
    for (query, wanted) in [
        (r#"sum(m{code="200"})"#, 1.0),
        (r#"sum(m{code!="200"})"#, 6.0),
        (r#"sum(m{code=~"5.*"})"#, 6.0),
        (r#"sum(m{code!~"5.*", app="a"})"#, 1.0),
        (r#"sum(m{code=~"5"})"#, f64::NAN),
        (r#"sum(m{missing=""})"#, 7.0),
        (r#"sum({__name__=~"m|other"})"#, 15.0),
        ("count(m)", 3.0),
        ("avg(m{app='a'})", 1.5),
        ("max(m) - min(m)", 3.0),
        ("sum(m) without (code, app)", 7.0),
        (r#"m{code="503"}"#, 4.0),
    ] {
        let found = one(query, &all, 1);
        assert!(
            (found - wanted).abs() < 1e-9 || found.is_nan() && wanted.is_nan(),
            "{query}: {found}"
        );
    }
}

#[test]
fn sum_by_keeps_the_labels_that_it_names() {
    let all = [
        series(&[("__name__", "m"), ("app", "a"), ("pod", "1")], &[1.0]),
        series(&[("__name__", "m"), ("app", "a"), ("pod", "2")], &[2.0]),
        series(&[("__name__", "m"), ("app", "b"), ("pod", "3")], &[4.0]),
    ];
    let by = |app: &str| Labels::from([("app".into(), app.into())]);
    let wanted = Value::Vector(vec![(by("a"), 3.0), (by("b"), 4.0)]);
    assert_eq!(evaluate("sum(m) by (app)", &all, 0), Ok(wanted.clone()));
    assert_eq!(evaluate("sum by (app) (m)", &all, 0), Ok(wanted));
}

#[test]
fn histogram_quantile_interpolates_inside_the_bucket() {
    let bucket = |le: &str, count: f64| series(&[("__name__", "b"), ("le", le)], &[count]);
    let all = [
        bucket("0.1", 50.0),
        bucket("0.2", 90.0),
        bucket("0.4", 100.0),
        bucket("+Inf", 100.0),
    ];
    near(one("histogram_quantile(0.5, b)", &all, 1), 0.1);
    near(
        one("histogram_quantile(0.99, sum(b) by (le))", &all, 1),
        0.2 + 0.2 * 0.9,
    );
    let beyond = [bucket("0.1", 50.0), bucket("+Inf", 100.0)];
    near(one("histogram_quantile(0.99, b)", &beyond, 1), 0.1);
    let empty = [bucket("0.1", 0.0), bucket("+Inf", 0.0)];
    assert!(one("histogram_quantile(0.99, b)", &empty, 1).is_nan());
}

#[test]
fn arithmetic_binds_as_usual_and_zero_by_zero_is_not_a_number() {
    for (query, wanted) in [
        ("1 + 2 * 3", 7.0),
        ("(1 + 2) * 3", 9.0),
        ("-2 * 3 - 1", -7.0),
        ("7 % 4 / 2", 1.5),
        ("2e-1 * 10", 2.0),
        ("3 > bool 2", 1.0),
    ] {
        near(one(query, &[], 0), wanted);
    }
    let zero = [series(&[("__name__", "m")], &[0.0])];
    assert!(one("sum(m) / sum(m) * 100", &zero, 0).is_nan());
    assert_eq!(
        evaluate("sum(m) / sum(n)", &zero, 0),
        Ok(Value::Vector(Vec::new()))
    );
}

#[test]
fn sides_are_matched_as_documented() {
    let all = [
        series(
            &[("__name__", "errors"), ("code", "500"), ("app", "a")],
            &[24.0],
        ),
        series(
            &[("__name__", "errors"), ("code", "404"), ("app", "a")],
            &[30.0],
        ),
        series(
            &[("__name__", "errors"), ("code", "500"), ("app", "b")],
            &[6.0],
        ),
        series(&[("__name__", "requests"), ("app", "a")], &[600.0]),
        series(&[("__name__", "requests"), ("app", "b")], &[120.0]),
    ];
    for (query, wanted) in [
        // The documentation's example of ignoring.
        (
            r#"sum(errors{code="500"} / ignoring(code) requests)"#,
            0.04 + 0.05,
        ),
        (r#"errors{code="500",app="b"} / on(app) requests"#, 0.05),
        ("sum(missing) or vector(0)", 0.0),
        ("sum(rate(missing[1m])) or on() vector(7)", 7.0),
        ("sum(requests) or vector(0)", 720.0),
        ("sum(requests) or on() vector(0)", 720.0),
        (r#"count(errors and on(app) requests{app="a"})"#, 2.0),
        (r#"sum(errors unless on(app) requests{app="a"})"#, 6.0),
        ("1 + 2 > bool 2", 1.0),
        ("clamp_max(sum(requests), 100)", 100.0),
        ("clamp_min(sum(requests), 1000)", 1000.0),
        ("count(requests > 200)", 1.0),
        ("sum(requests > bool 200)", 1.0),
        ("count(requests offset 1m)", f64::NAN),
    ] {
        let found = one(query, &all, 1);
        assert!(
            (found - wanted).abs() < 1e-9 || found.is_nan() && wanted.is_nan(),
            "{query}: {found}"
        );
    }
    for query in [
        "errors / on(app) requests",
        "requests / on(app) errors",
        "1 or vector(1)",
        "1 > 2",
        "delta(requests[1m])",
    ] {
        assert!(evaluate(query, &all, 1000).is_err(), "{query}");
    }
}

#[test]
fn series_that_ended_or_is_too_old_has_no_value() {
    let ended = [series(&[("__name__", "m")], &[1.0, f64::NAN])];
    near(one("m", &ended, 5), 1.0);
    assert_eq!(evaluate("m", &ended, 11_000), Ok(Value::Vector(Vec::new())));
    let old = [series(&[("__name__", "m")], &[1.0])];
    assert_eq!(evaluate("m", &old, 301_000), Ok(Value::Vector(Vec::new())));
}

#[test]
fn queries_that_are_not_understood_are_refused() {
    for query in [
        "",
        "sum(",
        "m{",
        r#"m{a="}"#,
        "m[",
        "rate(m)",
        "predict_linear(m[1m], 5)",
        "m{a=b}",
        "1 +",
        "m m",
        "§",
        "m{a=~\"(\"}",
        "rate(m[0s])",
        "sum(1)",
    ] {
        assert!(evaluate(query, &[], 0).is_err(), "{query}");
    }
    assert!(parse(&"(".repeat(100_000)).is_err());
    assert_eq!(evaluate("m[1m]", &[], 0), Ok(Value::Ranges));
}

//! Is the Prometheus in memory equal to a real one?
//!
//! The same series are loaded into both and the same queries asked, written ones and ones made by chance.
//! What the real one answered is recorded in `transcripts/prometheus.json`. With `HALDANE_TEST_PROMTOOL`,
//! the path of Prometheus's own `promtool`, it is asked again, and with `HALDANE_RECORD=1` its answers
//! become the record.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use haldane::sim::promql::{Labels, Series, Value, evaluate};
use serde_json::json;

use crate::generated::Dice;

/// Milliseconds between two samples: no sample but the first, which is left out, lies on the edge of a range,
/// which servers before version 3 count in and later ones do not. Counters start at 0, for what was counted
/// before a series began is another thing that they differ in.
const INTERVAL: i64 = 5001;

/// When queries are asked, in seconds.
const TIMES: [i64; 4] = [32, 302, 403, 702];

/// Queries made by chance.
const CHANCE: u64 = 400;

/// The labels of a result and its value, in order of the labels; none for a refusal.
type Answer = Option<Vec<(Labels, f64)>>;

/// The series: how promtool writes each, and its samples, where none is a gap and NaN the end.
fn series() -> Vec<(String, Vec<Option<f64>>)> {
    let mut all = Vec::new();
    let mut add = |labels: String, value: &dyn Fn(u32) -> Option<f64>| {
        all.push((
            labels,
            (0..81).map(|at: u32| value(at.checked_sub(1)?)).collect(),
        ));
    };
    for (pod, app, rate) in [("a-1", "a", 7), ("a-2", "a", 3), ("b-1", "b", 5)] {
        for (code, share) in [("200", 10), ("500", 1)] {
            let labels = format!(r#"{{pod="{pod}",app="{app}",code="{code}"}}"#);
            let count = move |at: u32| f64::from(at * rate * share);
            add(format!("requests_total{labels}"), &move |at| {
                let restart = if pod == "a-2" { 30 } else { 0 };
                Some(count(if at >= restart { at - restart } else { at }))
            });
        }
        let mut below = 0;
        for (le, part) in [("0.1", 2), ("0.5", 5), ("1", 2), ("+Inf", 1)] {
            below += part;
            let labels = format!(r#"{{pod="{pod}",app="{app}",le="{le}"}}"#);
            add(format!("seconds_bucket{labels}"), &move |at| {
                Some(f64::from(at * rate * below))
            });
        }
        add(
            format!(
                r#"owner{{pod="{pod}",team="{}",level="1"}}"#,
                app.to_uppercase()
            ),
            &|_| Some(1.0),
        );
        add(
            format!(r#"memory{{pod="{pod}",app="{app}"}}"#),
            &move |at| Some(f64::from(at % 7 * rate) - 4.0),
        );
    }
    let ended = |at| match at {
        0..40 => Some(f64::from(at)),
        40 => Some(f64::NAN),
        _ => None,
    };
    add(
        r#"requests_total{pod="c-1",app="c",code="200"}"#.to_owned(),
        &ended,
    );
    add(r#"memory{pod="late"}"#.to_owned(), &|at| {
        (at > 50).then(|| f64::from(at))
    });
    add(r#"memory{pod="gaps",app="a"}"#.to_owned(), &|at| {
        (at % 9 == 0).then_some(2.5)
    });
    add(r#"empty_bucket{le="1"}"#.to_owned(), &|_| Some(0.0));
    add(r#"empty_bucket{le="+Inf"}"#.to_owned(), &|_| Some(0.0));
    add(r#"infinite{pod="a-1"}"#.to_owned(), &|_| {
        Some(f64::INFINITY)
    });
    all
}

/// Name and labels of `name{label="value",…}`.
fn labels(text: &str) -> Labels {
    let (name, rest) = text.split_once('{').unwrap();
    let named = (!name.is_empty()).then(|| ("__name__".into(), name.into()));
    let pairs = rest
        .trim_end_matches('}')
        .split(',')
        .filter(|pair| !pair.is_empty());
    let pairs = pairs.map(|pair| {
        let (label, value) = pair.split_once('=').unwrap();
        (label.trim().into(), value.trim_matches('"').into())
    });
    named.into_iter().chain(pairs).collect()
}

const WRITTEN: [&str; 74] = [
    "1 + 2 * 3 - 4 / 8",
    "7 % 4",
    "1 / 0",
    "0 / 0",
    "1 > bool 2",
    "-memory",
    "memory",
    "memory offset 1m",
    "requests_total{code=~\"5..\"}",
    "requests_total{code!~\"5..\",app!=\"b\"}",
    "requests_total{team=\"\"}",
    "rate(requests_total[1m])",
    "rate(requests_total{pod=\"a-2\"}[3m])",
    "rate(requests_total{app=\"c\"}[4m])",
    "increase(requests_total[5m])",
    "irate(requests_total[1m])",
    "rate(requests_total[6s])",
    "rate(memory[1m])",
    "rate(requests_total[1m] offset 90s)",
    "sum(rate(requests_total[1m]))",
    "sum(rate(requests_total[1m])) by (app)",
    "sum by (app, code) (rate(requests_total[1m]))",
    "sum without (pod) (rate(requests_total[1m]))",
    "avg(memory)",
    "min(memory) by (app)",
    "max(memory) by (app)",
    "count(memory)",
    "count(nothing)",
    "sum(nothing) or vector(0)",
    "100 * sum(rate(requests_total{code!~\"5.*\"}[1m])) / sum(rate(requests_total[1m]))",
    "100 - sum(rate(requests_total{app=\"a\",code!~\"5.*\"}[1m])) / sum(rate(requests_total{app=\"a\"}[1m])) * 100",
    "histogram_quantile(0.99, sum(rate(seconds_bucket{app=\"a\"}[1m])) by (le))",
    "histogram_quantile(0.5, sum(rate(seconds_bucket[1m])) by (le, app))",
    "histogram_quantile(0.01, rate(seconds_bucket[1m]))",
    "histogram_quantile(1, rate(seconds_bucket[1m]))",
    "histogram_quantile(1.5, seconds_bucket)",
    "histogram_quantile(-1, seconds_bucket)",
    "histogram_quantile(0.9, empty_bucket)",
    "histogram_quantile(0.9, seconds_bucket{le!=\"+Inf\"})",
    "histogram_quantile(0.9, memory)",
    "avg_over_time(memory[1m])",
    "min_over_time(memory[1m])",
    "max_over_time(memory[1m])",
    "sum_over_time(memory[1m])",
    "count_over_time(memory[1m])",
    "last_over_time(memory[10m])",
    "max_over_time(rate(requests_total[1m])[5m:30s])",
    "avg_over_time(sum(rate(requests_total[1m]))[4m:])",
    "count_over_time((memory > 3)[3m:10s])",
    "sum_over_time(vector(2)[1m:10s])",
    "absent(nothing)",
    "absent(nothing{app=\"a\",pod=~\".*\",code!=\"x\"})",
    "absent(memory)",
    "absent(sum(nothing))",
    "absent_over_time(nothing{app=\"a\"}[5m])",
    "absent_over_time(memory[5m])",
    "requests_total / on (pod) group_left memory",
    "requests_total * on (pod) group_left (team) owner",
    "owner * on (pod) group_right (team) requests_total",
    "requests_total * ignoring (app, code, team, level) group_left (team, level) owner",
    "sum by (team) (rate(requests_total[1m]) * on (pod) group_left (team) owner)",
    "requests_total > on (pod) group_left memory",
    "memory < on (pod) group_right requests_total",
    "memory * on (pod) requests_total",
    "memory * on (app) group_left owner",
    "memory and on (pod) owner",
    "memory unless on (pod) owner",
    "memory or owner",
    "infinite == infinite",
    "infinite - infinite",
    "clamp_min(memory, 0)",
    "clamp_max(memory, 3)",
    "abs(memory) + ceil(memory / 2) + floor(memory / 2)",
    "scalar(sum(memory)) + vector(1)",
];

/// Queries made by chance, from parts that go together.
fn by_chance(seed: u64) -> String {
    let mut dice = Dice::new(seed);
    let depth = 2;
    vector(&mut dice, depth)
}

fn vector(dice: &mut Dice, depth: usize) -> String {
    let selector = |dice: &mut Dice| {
        let name = dice.pick(&["requests_total", "memory", "seconds_bucket", "owner"]);
        let matcher = dice.pick(&[
            "",
            "{app=\"a\"}",
            "{pod=~\"a-.\"}",
            "{app!=\"a\"}",
            "{code=~\"2..|5..\"}",
        ]);
        format!("{name}{matcher}")
    };
    let range = |dice: &mut Dice| dice.pick(&["[30s]", "[1m]", "[4m]"]);
    if depth == 0 {
        return selector(dice);
    }
    let inner = |dice: &mut Dice| vector(dice, depth - 1);
    let labels = |dice: &mut Dice| dice.pick(&["app", "pod", "app, code", "le", ""]);
    match dice.roll(12) {
        0 | 1 => {
            let function = dice.pick(&[
                "rate",
                "increase",
                "irate",
                "avg_over_time",
                "max_over_time",
                "last_over_time",
            ]);
            format!("{function}({}{})", selector(dice), range(dice))
        }
        2..=4 => {
            let operation = dice.pick(&["sum", "avg", "min", "max", "count"]);
            let grouping = dice.pick(&["by", "without"]);
            format!(
                "{operation} {grouping} ({}) ({})",
                labels(dice),
                inner(dice)
            )
        }
        5 => format!(
            "histogram_quantile({}, {})",
            dice.pick(&["0.5", "0.95"]),
            inner(dice)
        ),
        6 => {
            let operator = dice.pick(&["+", "-", "*", "/", ">", "<=", "==", "!="]);
            let number = dice.pick(&["0", "2", "100", "0.5"]);
            format!("({}) {operator} {number}", inner(dice))
        }
        7 | 8 => {
            let operator = dice.pick(&["+", "*", "/", "> bool", ">"]);
            let matching = dice.pick(&[
                "",
                "on (app)",
                "on (pod)",
                "ignoring (code)",
                "on (pod) group_left",
                "on (app) group_right ()",
                "on (pod) group_left (team)",
            ]);
            format!("({}) {operator} {matching} ({})", inner(dice), inner(dice))
        }
        9 => {
            let operator = dice.pick(&["and", "or", "unless"]);
            let matching = dice.pick(&["", "on (app)", "on (pod)", "ignoring (code, le)"]);
            format!("({}) {operator} {matching} ({})", inner(dice), inner(dice))
        }
        10 => {
            let function = dice.pick(&["avg_over_time", "max_over_time", "count_over_time"]);
            format!("{function}(({})[2m:17s])", inner(dice))
        }
        _ => format!(
            "{}({})",
            dice.pick(&["abs", "ceil", "absent", "sqrt"]),
            inner(dice)
        ),
    }
}

/// Every query with the second at which it is asked.
fn questions() -> Vec<(String, i64)> {
    let written = WRITTEN.map(str::to_owned).into_iter();
    let all: Vec<String> = written.chain((0..CHANCE).map(by_chance)).collect();
    let times = |query: String| TIMES.map(|at| (query.clone(), at));
    all.into_iter().flat_map(times).collect()
}

fn in_memory(series: &[Series], query: &str, at: i64) -> Answer {
    let mut answer = match evaluate(query, series, 1000 * at).ok()? {
        Value::Scalar(value) => vec![(Labels::new(), value)],
        Value::Vector(vector) => vector,
        Value::Ranges => panic!("{query} is a range"),
    };
    answer.sort_by(|a, b| a.0.cmp(&b.0));
    Some(answer)
}

fn loaded() -> Vec<Series> {
    let all = series().into_iter().map(|(name, samples)| {
        let times = samples.into_iter().zip((0..).map(|index| INTERVAL * index));
        Series {
            labels: Arc::new(labels(&name)),
            samples: times.filter_map(|(value, at)| Some((at, value?))).collect(),
        }
    });
    all.collect()
}

/// Equal but for the last digits, which depend on the order of sums.
fn equal(wanted: &Answer, found: &Answer) -> bool {
    let (Some(wanted), Some(found)) = (wanted, found) else {
        return wanted.is_none() && found.is_none();
    };
    let near = |a: f64, b: f64| {
        a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
    };
    wanted.len() == found.len()
        && wanted
            .iter()
            .zip(found)
            .all(|(a, b)| a.0 == b.0 && near(a.1, b.1))
}

/// Asks the real server: promtool is told wrong answers, and says the right ones.
fn real(promtool: &Path, questions: &[(String, i64)]) -> Vec<Answer> {
    let mut input = Vec::new();
    for (name, samples) in series() {
        let mut values = String::new();
        for value in samples {
            match value {
                None => values.push_str("_ "),
                Some(value) if value.is_nan() => values.push_str("stale "),
                Some(value) if value.is_infinite() => values.push_str("Inf "),
                Some(value) => write!(values, "{value} ").unwrap(),
            }
        }
        input.push(json!({"series": name, "values": values}));
    }
    let wrong = json!([{"labels": "wrong{}", "value": 1}]);
    let asked = questions.iter().map(
        |(query, at)| json!({"expr": query, "eval_time": format!("{at}s"), "exp_samples": wrong}),
    );
    let file = json!({
        "rule_files": [], "evaluation_interval": "1m",
        "tests": [{"interval": format!("{INTERVAL}ms"), "input_series": input, "promql_expr_test": asked.collect::<Vec<_>>()}],
    });
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("promql.yaml");
    fs::write(&path, file.to_string()).unwrap();
    let output = Command::new(promtool)
        .args(["test", "rules"])
        .arg(&path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    let mut answers = Vec::new();
    for part in text.split("    expr: ").skip(1) {
        answers.push(match part.split_once("        got: ") {
            None => {
                assert!(part.contains(", err: "), "{part}");
                None
            }
            Some((_, "nil")) => Some(Vec::new()),
            Some((_, got)) => Some(read(got)),
        });
    }
    assert_eq!(answers.len(), questions.len(), "{text}");
    answers
}

/// Reads promtool's samples: `{pod="a"} 2.5E+01, {pod="b"} +Inf`.
fn read(got: &str) -> Vec<(Labels, f64)> {
    let got = got.lines().next().unwrap_or_default().trim();
    let mut samples: Vec<(Labels, f64)> = Vec::new();
    let mut rest = if got == "nil" { "" } else { got };
    while let Some((name, tail)) = rest.split_once("} ") {
        let (value, after) = tail.split_once(", ").unwrap_or((tail, ""));
        samples.push((labels(name), value.parse().unwrap()));
        rest = after;
    }
    samples.sort_by(|a, b| a.0.cmp(&b.0));
    samples
}

fn record() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/transcripts/prometheus.json")
}

/// An answer as text: `null` for a refusal, and the labels and value of each series.
fn text(answer: &Answer) -> String {
    let Some(answer) = answer else {
        return "refused".to_owned();
    };
    let series = answer.iter().map(|(labels, value)| {
        let labels = labels
            .iter()
            .map(|(label, value)| format!("{label}=\"{value}\""));
        format!("{{{}}} {value:e}", labels.collect::<Vec<_>>().join(","))
    });
    series.collect::<Vec<_>>().join(", ")
}

fn from_text(text: &str) -> Answer {
    (text != "refused").then(|| read(text))
}

fn differences(wanted: &[Answer], questions: &[(String, i64)]) -> Vec<String> {
    let series = loaded();
    let mut lines = Vec::new();
    for ((query, at), wanted) in questions.iter().zip(wanted) {
        let found = in_memory(&series, query, *at);
        if !equal(wanted, &found) {
            let (wanted, found) = (text(wanted), text(&found));
            lines.push(format!(
                "{query} at {at} s:\n  real  {wanted}\n  found {found}"
            ));
        }
    }
    lines
}

#[test]
fn queries_are_answered_as_recorded() {
    let text = fs::read_to_string(record()).unwrap();
    let recorded: BTreeMap<String, String> = serde_json::from_str(&text).unwrap();
    let questions = questions();
    let wanted: Vec<Answer> = questions
        .iter()
        .map(|(query, at)| {
            from_text(
                recorded
                    .get(&format!("{at} {query}"))
                    .unwrap_or_else(|| panic!("no record of {query} at {at} s")),
            )
        })
        .collect();
    let some = wanted
        .iter()
        .flatten()
        .filter(|answer| !answer.is_empty())
        .count();
    assert!(some > 800, "only {some} of {} have values", wanted.len());
    let lines = differences(&wanted, &questions);
    assert!(
        lines.is_empty(),
        "{} differ:\n{}",
        lines.len(),
        lines.join("\n")
    );
}

#[test]
#[ignore = "needs Prometheus's promtool (HALDANE_TEST_PROMTOOL)"]
fn queries_are_answered_as_by_a_real_prometheus() {
    let promtool = std::env::var("HALDANE_TEST_PROMTOOL")
        .expect("HALDANE_TEST_PROMTOOL is the path of promtool");
    let questions = questions();
    let answers = real(Path::new(&promtool), &questions);
    if std::env::var("HALDANE_RECORD").is_ok() {
        let recorded: BTreeMap<String, String> = questions
            .iter()
            .zip(&answers)
            .map(|((query, at), answer)| (format!("{at} {query}"), text(answer)))
            .collect();
        fs::write(
            record(),
            serde_json::to_string_pretty(&recorded).unwrap() + "\n",
        )
        .unwrap();
    }
    let lines = differences(&answers, &questions);
    assert!(
        lines.is_empty(),
        "{} of {} differ:\n{}",
        lines.len(),
        questions.len(),
        lines.join("\n")
    );
}

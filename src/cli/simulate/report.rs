//! The report: one HTML file that needs nothing else.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{
    Tried,
    chart::{Axis, Curve, Sign, escape, lines, rows},
};
use crate::{
    api::status::MetricStatus,
    cli::{ending::ending, screen::clock},
    sim::{
        Scenario,
        rollout::{Frame, Recording, Verdict},
        traffic::Impression,
    },
};

/// Most points of a curve, and most hints of a picture.
const POINTS: usize = 480;
const HINTS: usize = 120;

/// Seconds that an impression looks back.
const WINDOW: f64 = 10.0;

const STYLE: &str = include_str!("report.css");

/// What a report says about how it was made.
pub struct Origin {
    /// The command line.
    pub command: String,
    /// The scenario.
    pub scenario: Scenario,
    /// The seed.
    pub seed: u64,
}

/// The report about releases.
pub fn report(origin: &Origin, tried: &[Tried]) -> String {
    let names: Vec<_> = tried.iter().map(|tried| tried.canary.as_str()).collect();
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{}, scenario {}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n",
        escape(&names.join(", ")),
        escape(&origin.scenario.name)
    );
    for tried in tried {
        release(&mut html, origin, tried);
    }
    // Writing to a string does not fail, here and below.
    let _ = write!(
        html,
        "<footer>Made by haldane {} with <code>{}</code>; seed {}. The same command gives the same file.</footer>\n\
         </main>\n</body>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
        escape(&origin.command),
        origin.seed
    );
    html
}

fn release(html: &mut String, origin: &Origin, tried: &Tried) {
    let recording = &tried.recording;
    let mut words = ending(&tried.canary, recording, str::to_owned)
        .into_iter()
        .map(|line| line.render(false));
    let class = match recording.verdict {
        Verdict::Promoted => "promoted",
        Verdict::RolledBack => "rolled-back",
        Verdict::Undecided => "undecided",
    };
    let _ = write!(
        html,
        "<section>\n<p class=\"what\">{}.{} · scenario <b>{}</b>: {}</p>\n<h1 class=\"{class}\">{}</h1>\n<ul class=\"figures\">\n",
        escape(&tried.canary),
        escape(&tried.namespace),
        escape(&origin.scenario.name),
        escape(&origin.scenario.about),
        escape(words.next().unwrap_or_default().trim())
    );
    for line in words {
        let _ = writeln!(html, "<li>{}</li>", escape(line.trim()));
    }
    html.push_str("</ul>\n");
    pictures(html, recording);
    events(html, recording);
    checks(html, recording);
    html.push_str("</section>\n");
}

/// Every n-th frame, so that no more than `most` remain.
fn sampled(frames: &[Frame], most: usize) -> impl Iterator<Item = &Frame> {
    frames.iter().step_by(frames.len().div_ceil(most).max(1))
}

fn curve(
    recording: &Recording,
    class: &'static str,
    label: &str,
    value: impl Fn(&Frame) -> Option<f64>,
) -> Curve {
    Curve {
        class,
        label: label.to_owned(),
        points: sampled(&recording.frames, POINTS)
            .map(|frame| (frame.at.as_secs(), value(frame)))
            .collect(),
        steps: false,
    }
}

/// A pair of curves: what users saw of the old and of the new version.
fn pair(recording: &Recording, value: impl Fn(Impression) -> f64) -> Vec<Curve> {
    vec![
        curve(recording, "old", "old version", |frame| {
            frame.stable.map(&value)
        }),
        curve(recording, "new", "new version", |frame| {
            frame.release.map(&value)
        }),
    ]
}

fn pictures(html: &mut String, recording: &Recording) {
    let frames = &recording.frames;
    let axis = Axis {
        seconds: frames.last().map_or(1, |frame| frame.at.as_secs()),
        hints: sampled(frames, HINTS)
            .map(|frame| (frame.at.as_secs(), hint(frame)))
            .collect(),
        marks: vec![recording.figures.seconds],
    };
    let mut weight = curve(recording, "new", "new version", |frame| {
        Some(f64::from(frame.weight))
    });
    weight.steps = true;
    let mut add = |title: &str, note: &str, svg: String| {
        let _ = write!(
            html,
            "<figure>\n<figcaption><b>{title}</b> {note}</figcaption>\n{svg}</figure>\n"
        );
    };
    add(
        "Weight",
        "share of requests that the new version is to get",
        lines("Weight over time", &axis, &[weight], (0.0, 100.0), " %"),
    );
    let mut success = pair(recording, |seen| seen.success_percent);
    success.extend(bound(recording, "request-success-rate"));
    let low = least(&success).min(95.0);
    add(
        "Success rate",
        "requests without a server's error, over the last 10 seconds",
        lines(
            "Success rate over time",
            &axis,
            &success,
            ((low / 5.0).floor() * 5.0, 100.0),
            " %",
        ),
    );
    let mut latency = pair(recording, |seen| seen.p99_ms);
    latency.extend(bound(recording, "request-duration"));
    add(
        "Latency",
        "what the slowest 1 % of requests took at least",
        lines(
            "Latency over time",
            &axis,
            &latency,
            (0.0, round_up(most(&latency))),
            " ms",
        ),
    );
    #[allow(clippy::cast_precision_loss, reason = "counts are small")]
    let rate = pair(recording, |seen| seen.requests as f64 / WINDOW);
    add(
        "Requests each second",
        "by version",
        lines(
            "Requests each second over time",
            &axis,
            &rate,
            (0.0, round_up(most(&rate))),
            "",
        ),
    );
    let signs = signs(recording);
    if !signs.is_empty() {
        add(
            "Checks and events",
            "● passed, ✕ failed, ○ no answer, ▲ warning; the dashed line is the end",
            rows("Checks and events over time", &axis, &signs),
        );
    }
}

fn hint(frame: &Frame) -> String {
    let mut text = format!(
        "{} {}, weight {} %",
        clock(frame.at.as_secs()),
        frame.phase.as_str(),
        frame.weight
    );
    for (version, seen) in [("old", frame.stable), ("new", frame.release)] {
        if let Some(seen) = seen {
            let _ = write!(
                text,
                "\n{version}: {:.1} % succeeded, slowest 1 % {:.0} ms",
                seen.success_percent, seen.p99_ms
            );
        }
    }
    text
}

/// A line at what a metric may be, from its first check on.
fn bound(recording: &Recording, metric: &str) -> Option<Curve> {
    let mut checks = recording
        .frames
        .iter()
        .flat_map(|frame| frame.checks.iter().map(move |check| (frame, check)));
    let (frame, check) = checks.find(|(_, check)| check.name == metric)?;
    let text = check.bound.as_deref()?;
    let value: f64 = text.split_whitespace().last()?.parse().ok()?;
    let last = recording.frames.last()?;
    Some(Curve {
        class: "bound",
        label: format!("allowed {text}"),
        points: vec![
            (frame.at.as_secs(), Some(value)),
            (last.at.as_secs(), Some(value)),
        ],
        steps: false,
    })
}

fn values(curves: &[Curve]) -> impl Iterator<Item = f64> {
    curves
        .iter()
        .flat_map(|curve| &curve.points)
        .filter_map(|(_, value)| *value)
}

fn least(curves: &[Curve]) -> f64 {
    values(curves).fold(100.0, f64::min)
}

fn most(curves: &[Curve]) -> f64 {
    values(curves).fold(0.0, f64::max)
}

/// The next number that reads well at the top of an axis.
fn round_up(value: f64) -> f64 {
    let unit = 10_f64.powf(value.max(1.0).log10().floor());
    [1.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        .into_iter()
        .map(|step| step * unit)
        .find(|top| *top >= value)
        .unwrap_or(value)
}

fn mark(verdict: &str) -> (&'static str, &'static str) {
    match verdict {
        "Pass" => ("pass", "●"),
        "Fail" => ("fail", "✕"),
        _ => ("none", "○"),
    }
}

fn told(check: &MetricStatus) -> String {
    let value = check
        .value
        .map_or_else(|| "no value".to_owned(), |value| format!("{value:.2}"));
    let bound = check
        .bound
        .as_deref()
        .map(|bound| format!(", allowed {bound}"))
        .unwrap_or_default();
    format!("{}: {value}{bound}: {}", check.name, check.verdict)
}

fn signs(recording: &Recording) -> Vec<(String, Vec<Sign>)> {
    let mut metrics: BTreeMap<String, Vec<Sign>> = BTreeMap::new();
    let mut events = Vec::new();
    for frame in &recording.frames {
        for check in &frame.checks {
            let (class, shape) = mark(&check.verdict);
            let text = format!("{} {}", clock(frame.at.as_secs()), told(check));
            metrics.entry(check.name.clone()).or_default().push((
                frame.at.as_secs(),
                class,
                shape,
                text,
            ));
        }
        for told in &frame.events {
            let (class, shape) = if told.warning {
                ("fail", "▲")
            } else {
                ("event", "▪")
            };
            events.push((
                told.at_seconds,
                class,
                shape,
                format!("{} {}", clock(told.at_seconds), told.message),
            ));
        }
    }
    let short = |name: String| match name.strip_prefix("request-") {
        Some(rest) => rest.to_owned(),
        None => name,
    };
    metrics
        .into_iter()
        .map(|(name, signs)| (short(name), signs))
        .chain([("events".to_owned(), events)])
        .collect()
}

fn events(html: &mut String, recording: &Recording) {
    html.push_str("<h2>Events</h2>\n<table>\n<tbody>\n");
    for told in recording.frames.iter().flat_map(|frame| &frame.events) {
        let (class, sign) = if told.warning {
            ("fail", "▲")
        } else {
            ("", "")
        };
        let _ = writeln!(
            html,
            "<tr><td class=\"time\">{}</td><td class=\"{class}\">{sign}</td><td>{}</td></tr>",
            clock(told.at_seconds),
            escape(&told.message)
        );
    }
    html.push_str("</tbody>\n</table>\n");
}

fn checks(html: &mut String, recording: &Recording) {
    html.push_str(
        "<h2>Checks</h2>\n<table>\n<thead><tr><th>time</th><th></th><th>metric</th><th>value</th><th>allowed</th><th>verdict</th></tr></thead>\n<tbody>\n",
    );
    for frame in &recording.frames {
        for check in &frame.checks {
            let (class, shape) = mark(&check.verdict);
            let _ = writeln!(
                html,
                "<tr><td class=\"time\">{}</td><td class=\"{class}\">{shape}</td><td>{}</td><td class=\"number\">{}</td><td>{}</td><td>{}</td></tr>",
                clock(frame.at.as_secs()),
                escape(&check.name),
                check
                    .value
                    .map_or_else(|| "–".to_owned(), |value| format!("{value:.2}")),
                escape(check.bound.as_deref().unwrap_or("–")),
                escape(&check.verdict)
            );
        }
    }
    html.push_str("</tbody>\n</table>\n");
}

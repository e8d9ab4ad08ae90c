//! One of the demo's releases, as a column of text.

use crate::{
    api::Phase,
    cli::{
        ending::ending,
        screen::{Line, Style, bar, clock, sparkline, wrap},
    },
    sim::{
        Scenario,
        rollout::{Frame, Recording, Told},
        traffic::Impression,
    },
};

/// Lines of a column beside its events.
pub const FIXED: usize = 10;

/// Success rates are shown from here to 100 percent.
const LOWEST_SUCCESS: f64 = 80.0;

/// Times of requests are shown up to here, in milliseconds.
const LONGEST: f64 = 500.0;

/// One release.
pub struct Lane {
    name: &'static str,
    judged: bool,
    about: String,
    recording: Recording,
}

impl Lane {
    /// A release of an application from 1.0 to 1.1.
    pub fn new(
        name: &'static str,
        judged: bool,
        scenario: &Scenario,
        recording: Recording,
    ) -> Self {
        Self {
            name,
            judged,
            about: scenario.about.clone(),
            recording,
        }
    }

    /// Length of the recording.
    pub fn seconds(&self) -> usize {
        self.recording.frames.len()
    }

    /// What is released, and what will happen.
    pub fn headline(&self) -> String {
        format!("{} 1.0 → 1.1, {}: {}", self.name, self.way(), self.about)
    }

    /// How the release is judged.
    fn way(&self) -> &'static str {
        if self.judged {
            "against the primary"
        } else {
            "by thresholds"
        }
    }

    /// Each event with what users saw at its time.
    pub fn lines(&self) -> impl Iterator<Item = (u64, String)> {
        self.recording.frames.iter().flat_map(move |frame| {
            frame.events.iter().map(move |told| {
                let seen = [("1.0", frame.stable), ("1.1", frame.release)]
                    .into_iter()
                    .filter_map(|(version, seen)| Some((version, seen?)))
                    .map(|(version, seen)| format!("{version}: {}", words(seen)))
                    .collect::<Vec<_>>()
                    .join(", ");
                let line = format!(
                    "{}  {:>3} %  {}  [{seen}]",
                    self.name,
                    frame.weight,
                    self.short(told)
                );
                (told.at_seconds, line)
            })
        })
    }

    /// An event without the name of its Canary, which stands above it.
    fn short(&self, told: &Told) -> String {
        let name = self.name;
        let mut text = told.message.clone();
        for (long, short) in [
            (format!(" for {name}.default"), ""),
            (format!(" {name}.default"), ""),
            (format!(" {name}-primary.default"), " the primary"),
        ] {
            text = text.replace(&long, short);
        }
        text
    }

    /// The column at a second: [`FIXED`] lines and those of so many events.
    pub fn picture(&self, at: usize, width: usize, events: usize) -> Vec<Line> {
        let frames = &self.recording.frames;
        let at = at.min(frames.len().saturating_sub(1));
        let past = frames.get(..=at).unwrap_or(frames);
        let Some(now) = past.last() else {
            return Vec::new();
        };
        let mut lines = vec![
            Line::new()
                .and(Style::Bold, self.name)
                .and(Style::Plain, " 1.0 → 1.1 ")
                .and(Style::Dim, self.way()),
        ];
        let mut about = wrap(&self.about, width);
        about.resize(2, String::new());
        lines.extend(
            about
                .into_iter()
                .map(|text| Line::new().and(Style::Dim, text)),
        );
        lines.push(Line::new());
        lines.push(state(now));
        let room = width.saturating_sub(7);
        let reach = reach(now);
        lines.push(
            Line::new()
                .and(Style::Active, bar(reach, room))
                .and(Style::Plain, format!(" {:>3.0} %", 100.0 * reach)),
        );
        lines.push(heading(width));
        lines.push(row("1.0", past, |frame| frame.stable, width));
        lines.push(row("1.1", past, |frame| frame.release, width));
        lines.push(Line::new());
        let told: Vec<_> = past
            .iter()
            .flat_map(|frame| &frame.events)
            .flat_map(|told| self.event(told, width))
            .collect();
        let start = told.len().saturating_sub(events);
        lines.extend(told.into_iter().skip(start));
        lines.resize(FIXED + events, Line::new());
        lines
    }

    /// An event with its time, in as many lines as it needs.
    fn event(&self, told: &Told, width: usize) -> impl Iterator<Item = Line> {
        let style = if told.warning {
            Style::Warning
        } else {
            Style::Plain
        };
        let time = clock(told.at_seconds);
        let indent = " ".repeat(time.len());
        wrap(&self.short(told), width.saturating_sub(time.len() + 1))
            .into_iter()
            .enumerate()
            .map(move |(index, text)| {
                let margin = if index == 0 { &time } else { &indent };
                Line::new()
                    .and(Style::Dim, format!("{margin} "))
                    .and(style, text)
            })
    }

    /// How the release ended, in plain words.
    pub fn summary(&self) -> Vec<Line> {
        ending(&format!("{} 1.1", self.name), &self.recording, |text| {
            text.replace(&format!(" {}.default", self.name), "")
        })
    }
}

/// Where a release stands, in plain words.
fn state(frame: &Frame) -> Line {
    let (style, word) = match frame.phase {
        Phase::New | Phase::Initializing | Phase::Initialized => {
            (Style::Dim, "1.0 serves everyone".to_owned())
        }
        Phase::Waiting => (Style::Warning, "waits at a gate".to_owned()),
        Phase::Progressing if frame.weight == 0 => (Style::Active, "pods of 1.1 start".to_owned()),
        Phase::Progressing => (
            Style::Active,
            format!("{} % should reach 1.1", frame.weight),
        ),
        Phase::WaitingPromotion => (Style::Warning, "waits to be promoted".to_owned()),
        Phase::Promoting => (Style::Active, "primary pods take over 1.1".to_owned()),
        Phase::Finalising => (Style::Active, "traffic returns to the primary".to_owned()),
        Phase::Succeeded => (Style::Good, "1.1 serves everyone".to_owned()),
        Phase::Failed => (Style::Bad, "1.0 serves everyone".to_owned()),
        Phase::Terminating | Phase::Terminated => (Style::Dim, "is being deleted".to_owned()),
    };
    let phase = frame.phase.as_str();
    Line::new()
        .and(style, phase)
        .and(Style::Dim, format!("  {word}"))
}

/// What the columns of [`row`] are.
fn heading(width: usize) -> Line {
    let room = width.saturating_sub(27) / 2;
    let text = format!(
        "     {:<room$}           {:<room$}",
        "success", "slowest 1 %"
    );
    Line::new().and(Style::Dim, text)
}

/// What users see of a version, now and before.
fn row(
    version: &str,
    past: &[Frame],
    seen: impl Fn(&Frame) -> Option<Impression>,
    width: usize,
) -> Line {
    let room = width.saturating_sub(27) / 2;
    let shown = past.get(past.len().saturating_sub(room)..).unwrap_or(past);
    let values = |f: &dyn Fn(Impression) -> f64| -> Vec<Option<f64>> {
        shown.iter().map(|frame| seen(frame).map(f)).collect()
    };
    let success = values(&|i| (i.success_percent - LOWEST_SUCCESS) / (100.0 - LOWEST_SUCCESS));
    let times = values(&|i| i.p99_ms / LONGEST);
    let now = past.last().and_then(&seen);
    let grade = |good: bool| if good { Style::Good } else { Style::Bad };
    let Some(now) = now else {
        return Line::new()
            .and(Style::Plain, format!("{version}  "))
            .and(Style::Dim, sparkline(&success, room))
            .and(Style::Dim, "      –    ")
            .and(Style::Dim, sparkline(&times, room))
            .and(Style::Dim, "        –");
    };
    Line::new()
        .and(Style::Plain, format!("{version}  "))
        .and(
            grade(now.success_percent >= 99.0),
            sparkline(&success, room),
        )
        .and(Style::Plain, format!(" {:>5.1} %   ", now.success_percent))
        .and(grade(now.p99_ms <= LONGEST), sparkline(&times, room))
        .and(Style::Plain, format!(" {:>5.0} ms", now.p99_ms))
}

/// The share of requests that reach 1.1.
#[allow(clippy::cast_precision_loss, reason = "counts are small")]
fn reach(frame: &Frame) -> f64 {
    let count = |seen: Option<Impression>| seen.map_or(0.0, |seen| seen.requests as f64);
    let (old, new) = (count(frame.stable), count(frame.release));
    if old + new > 0.0 {
        new / (old + new)
    } else {
        0.0
    }
}

fn words(seen: Impression) -> String {
    format!("{:.1} % {:.0} ms", seen.success_percent, seen.p99_ms)
}

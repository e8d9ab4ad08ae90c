//! How a simulated release ended, in plain words with numbers.

use super::screen::{Line, Style, duration, number};
use crate::sim::rollout::{Recording, Verdict};

/// How a release ended: a line about the verdict, and lines of figures. `short` leaves out of the
/// operator's words what the reader knows.
pub fn ending(name: &str, recording: &Recording, short: impl Fn(&str) -> String) -> Vec<Line> {
    let figures = &recording.figures;
    let (style, word) = match recording.verdict {
        Verdict::Promoted => (
            Style::Good,
            format!("promoted in {}", duration(figures.seconds)),
        ),
        Verdict::RolledBack => (
            Style::Bad,
            match figures.seconds_until_rollback {
                Some(seconds) => {
                    format!("rolled back {} after its first request", duration(seconds))
                }
                None => format!(
                    "rolled back after {}, before users got it",
                    duration(figures.seconds)
                ),
            },
        ),
        Verdict::Undecided => (
            Style::Warning,
            format!(
                "neither promoted nor rolled back in {}",
                duration(figures.seconds)
            ),
        ),
    };
    let all = figures.served + figures.failed + figures.dropped;
    let mut lines = vec![
        Line::new()
            .and(Style::Bold, format!("{name} "))
            .and(style, word),
        Line::new().and(
            Style::Plain,
            format!(
                "  {} requests of users: {} served, {} failed ({:.2} %), {} dropped",
                number(all),
                number(figures.served),
                number(figures.failed),
                share(figures.failed, all),
                number(figures.dropped),
            ),
        ),
        Line::new().and(
            Style::Plain,
            format!(
                "  {} requests of the operator to the API server, {} of them writes",
                number(figures.api_requests),
                number(figures.api_writes),
            ),
        ),
    ];
    if let Some(reason) = &figures.reason
        && recording.verdict != Verdict::Promoted
    {
        lines.push(Line::new().and(Style::Plain, format!("  {}", short(reason))));
    }
    lines
}

#[allow(clippy::cast_precision_loss, reason = "counts are small")]
fn share(part: u64, of: u64) -> f64 {
    if of == 0 {
        return 0.0;
    }
    100.0 * part as f64 / of as f64
}

//! Lines of text with colours, bars and sparklines, on a terminal or not.

use std::fmt::Write as _;

/// How a piece of text looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As it is.
    Plain,
    /// Stands out.
    Bold,
    /// Stays back.
    Dim,
    /// Went well.
    Good,
    /// Went badly.
    Bad,
    /// Needs a look.
    Warning,
    /// Is under way.
    Active,
}

impl Style {
    fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Good => "32",
            Self::Bad => "31",
            Self::Warning => "33",
            Self::Active => "36",
        }
    }
}

/// A line: pieces of text, each with its looks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line(Vec<(Style, String)>);

impl Line {
    /// An empty line.
    pub fn new() -> Self {
        Self::default()
    }

    /// The line with a piece more.
    #[must_use]
    pub fn and(mut self, style: Style, text: impl Into<String>) -> Self {
        self.0.push((style, text.into()));
        self
    }

    /// The line with all pieces of another.
    #[must_use]
    pub fn then(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Columns that the line takes.
    pub fn width(&self) -> usize {
        self.0.iter().map(|(_, text)| text.chars().count()).sum()
    }

    /// The line in exactly so many columns: cut with an ellipsis, or filled with blanks.
    #[must_use]
    pub fn fit(mut self, width: usize) -> Self {
        let surplus = self.width().checked_sub(width + 1);
        if surplus.is_none() {
            let blanks = " ".repeat(width - self.width());
            self.0.push((Style::Plain, blanks));
            return self;
        }
        let mut left = width.saturating_sub(1);
        for (_, text) in &mut self.0 {
            let kept: String = text.chars().take(left).collect();
            left -= kept.chars().count();
            *text = kept;
        }
        self.0.push((Style::Plain, "…".to_owned()));
        self
    }

    /// The text, with or without colours.
    pub fn render(&self, colours: bool) -> String {
        let mut out = String::new();
        for (style, text) in &self.0 {
            if colours && *style != Style::Plain {
                // Writing to a string does not fail.
                let _ = write!(out, "\u{1b}[{}m{text}\u{1b}[0m", style.code());
            } else {
                out.push_str(text);
            }
        }
        out
    }
}

const EIGHTHS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A share, from 0 to 1, as a bar of so many columns.
pub fn bar(share: f64, width: usize) -> String {
    let full = scale(share, width);
    "█".repeat(full) + &"░".repeat(width - full)
}

/// Values, from 0 to 1, as a line of so many columns, the latest at its right; absent ones are
/// dots.
pub fn sparkline(values: &[Option<f64>], width: usize) -> String {
    let recent = values
        .get(values.len().saturating_sub(width)..)
        .unwrap_or(values);
    let mark = |value: &Option<f64>| match value {
        None => '·',
        Some(value) => EIGHTHS.get(scale(*value, 7) + 1).copied().unwrap_or('█'),
    };
    let blanks = width - recent.len();
    std::iter::repeat_n(' ', blanks)
        .chain(recent.iter().map(mark))
        .collect()
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "the share is clamped and widths are small"
)]
fn scale(share: f64, most: usize) -> usize {
    ((share.clamp(0.0, 1.0) * most as f64).round() as usize).min(most)
}

/// A time of minutes and seconds.
pub fn clock(seconds: u64) -> String {
    format!("{:02}:{:02}", seconds / 60, seconds % 60)
}

/// A time in words.
pub fn duration(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, seconds) => format!("{minutes} min {seconds} s"),
    }
}

/// A number with its thousands apart.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A text in lines of at most so many columns.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_fits_its_columns() {
        let line = Line::new().and(Style::Bold, "abc").and(Style::Dim, "def");
        assert_eq!(line.clone().fit(8).render(false), "abcdef  ");
        assert_eq!(line.clone().fit(6).render(false), "abcdef");
        assert_eq!(line.clone().fit(5).render(false), "abcd…");
        assert_eq!(line.fit(2).render(false), "a…");
    }

    #[test]
    fn line_without_colours_has_no_escapes() {
        let line = Line::new()
            .and(Style::Good, "ok")
            .and(Style::Plain, " then");
        assert_eq!(line.render(false), "ok then");
        assert_eq!(line.render(true), "\u{1b}[32mok\u{1b}[0m then");
    }

    #[test]
    fn pictures_show_shares() {
        assert_eq!(bar(0.3, 10), "███░░░░░░░");
        assert_eq!(bar(7.0, 2), "██");
        assert_eq!(sparkline(&[Some(0.0), None, Some(1.0)], 5), "  ▁·█");
        assert_eq!(sparkline(&[Some(0.0), None, Some(1.0)], 2), "·█");
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(number(1_234_567), "1,234,567");
        assert_eq!(number(12), "12");
        assert_eq!(duration(112), "1 min 52 s");
        assert_eq!(clock(125), "02:05");
        assert_eq!(wrap("one in eight", 6), ["one in", "eight"]);
    }
}

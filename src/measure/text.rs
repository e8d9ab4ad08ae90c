//! Numbers as Go prints them, because event readers know them so, and text of others made safe.

use std::fmt::Write as _;

/// Most characters of a text of others that are shown.
const SHOWN: usize = 200;

/// A number in its shortest form: `99`, `0.5`, `1e-05`.
pub(super) fn number(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else {
        return scientific;
    };
    match exponent.parse::<i32>() {
        Ok(exponent) if value != 0.0 && !(-4..21).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
        }
        _ => value.to_string(),
    }
}

/// A number of whole milliseconds as a duration: `0s`, `250ms`, `1.5s`, `1m30s`.
pub(super) fn milliseconds(value: f64) -> String {
    #[expect(clippy::cast_possible_truncation, reason = "saturates, as intended")]
    let total = value as i64;
    let sign = if total < 0 { "-" } else { "" };
    let total = total.unsigned_abs();
    if total == 0 {
        return "0s".to_owned();
    }
    if total < 1000 {
        return format!("{sign}{total}ms");
    }
    let (hours, minutes) = (total / 3_600_000, total / 60_000 % 60);
    let (seconds, rest) = (total / 1000 % 60, total % 1000);
    let mut text = sign.to_owned();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    let _ = write!(text, "{seconds}");
    if rest > 0 {
        let fraction = format!(".{rest:03}");
        text.push_str(fraction.trim_end_matches('0'));
    }
    text.push('s');
    text
}

/// A time-out as a duration.
#[expect(
    clippy::cast_precision_loss,
    reason = "a time-out is far below 2^53 milliseconds"
)]
pub(super) fn seconds(duration: std::time::Duration) -> String {
    milliseconds(duration.as_millis() as f64)
}

/// The first line with anything in it, without what does not print, cut to 200 characters.
pub(super) fn first_line(text: &str) -> String {
    text.lines()
        .map(|line| {
            let shown: String = line.chars().filter(|c| prints(*c)).take(SHOWN).collect();
            shown.trim().to_owned()
        })
        .find(|line| !line.is_empty())
        .unwrap_or_default()
}

/// Whether a character shows as itself and leaves the direction of the text alone.
fn prints(c: char) -> bool {
    !c.is_control()
        && !matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffd}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_has_its_shortest_form() {
        for (value, text) in [
            (99.0, "99"),
            (99.5, "99.5"),
            (0.0, "0"),
            (-1.0, "-1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1e20, "100000000000000000000"),
            (1.5e21, "1.5e+21"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn milliseconds_read_as_a_duration() {
        for (value, text) in [
            (0.0, "0s"),
            (250.0, "250ms"),
            (1000.0, "1s"),
            (1500.0, "1.5s"),
            (1005.0, "1.005s"),
            (90_000.0, "1m30s"),
            (3_600_000.0, "1h0m0s"),
            (-20.0, "-20ms"),
        ] {
            assert_eq!(milliseconds(value), text);
        }
    }

    #[test]
    fn text_of_others_is_one_short_printable_line() {
        assert_eq!(
            first_line("  \n\u{1b}[31mno\u{202e} way\r\nmore"),
            "[31mno way"
        );
        assert_eq!(first_line(""), "");
        assert_eq!(first_line(&"ä".repeat(500)).chars().count(), 200);
    }
}

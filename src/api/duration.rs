//! Durations as manifests write them.

use std::time::Duration;

/// Why a duration could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}; write a number and a unit, for example 30s, 5m or 1h")]
pub struct InvalidDuration {
    found: String,
}

/// Reads a duration in Go's notation: `1h30m`, `10s`, `1.5s`, `500ms`. What is smaller than a
/// millisecond is cut off.
///
/// # Errors
/// When the text is empty, has no unit, an unknown unit, a sign, or is too large.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration {
        found: text.to_owned(),
    };
    let is_numeric = |c: char| c.is_ascii_digit() || c == '.';
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c| !is_numeric(c)).ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(is_numeric).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let scale: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(invalid()),
        };
        total = millis(number, scale)
            .map(Duration::from_millis)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(invalid)?;
        rest = tail;
    }
    if text.is_empty() {
        return Err(invalid());
    }
    Ok(total)
}

/// A decimal number of units of `scale` milliseconds, in milliseconds.
fn millis(number: &str, scale: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if fraction.len() > 9 {
        return None;
    }
    let parts: u64 = fraction.parse().ok()?;
    let of = 10_u64.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = parts.checked_mul(scale)?.checked_div(of)?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(scale)?
        .checked_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_in_gos_notation_is_read() {
        for (text, seconds) in [("10s", 10), ("1m", 60), ("1h30m", 5400), ("0s", 0)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for (text, millis) in [("500ms", 500), ("1.5s", 1500), ("0.25h", 900_000)] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn duration_that_is_unreadable_is_an_error() {
        for text in [
            "",
            "10",
            "s",
            "-5s",
            "1.m",
            ".5m",
            "1.2.3s",
            "1.0000000001s",
            "5 m",
            "5d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

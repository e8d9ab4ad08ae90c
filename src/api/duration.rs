//! Durations as manifests write them.

use std::time::Duration;

/// Why a duration could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}; write a number and a unit, for example 30s, 5m or 1h")]
pub struct InvalidDuration {
    found: String,
}

/// Reads a duration in Go's notation without fractions of a millisecond: `1h30m`, `10s`, `500ms`.
///
/// # Errors
/// When the text is empty, has no unit, an unknown unit, a sign, or is too large.
pub fn parse(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration {
        found: text.to_owned(),
    };
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(invalid)?;
        let (number, tail) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| invalid())?;
        let unit = tail
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let millis = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(invalid()),
        };
        total = number
            .checked_mul(millis)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_in_gos_notation_is_read() {
        for (text, seconds) in [("10s", 10), ("1m", 60), ("1h30m", 5400), ("0s", 0)] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
    }

    #[test]
    fn duration_that_is_unreadable_is_an_error() {
        for text in [
            "",
            "10",
            "s",
            "-5s",
            "1.5m",
            "5 m",
            "5d",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}

//! PromQL's words.

use std::time::Duration;

use super::PromqlError;

/// A word of PromQL.
#[derive(Clone, Debug, PartialEq)]
pub enum Token {
    /// A name.
    Name(String),
    /// A quoted text.
    Text(String),
    /// A number.
    Number(f64),
    /// A duration.
    Duration(Duration),
    /// A sign.
    Sign(&'static str),
}

/// Longer signs first: the first that fits is taken.
const SIGNS: [&str; 22] = [
    "=~", "!~", "!=", "==", ">=", "<=", ">", "<", "=", "{", "}", "(", ")", "[", "]", ",", "+", "-",
    "*", "/", "%", "^",
];

/// Splits a query into words.
///
/// # Errors
/// When a text does not end, or a character belongs to no word.
pub fn tokens(query: &str) -> Result<Vec<Token>, PromqlError> {
    let mut rest = query.trim_start();
    let mut tokens = Vec::new();
    while let Some(first) = rest.chars().next() {
        let (token, length) = if let Some(sign) = SIGNS.iter().find(|s| rest.starts_with(**s)) {
            (Token::Sign(sign), sign.len())
        } else if first == '"' || first == '\'' || first == '`' {
            text(rest, first)?
        } else if first.is_ascii_digit() || first == '.' {
            number(rest)?
        } else if first.is_ascii_alphabetic() || first == '_' || first == ':' {
            let length = run(rest, |c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
            (Token::Name(rest[..length].to_owned()), length)
        } else if first == '#' {
            rest = rest.find('\n').map_or("", |end| &rest[end..]).trim_start();
            continue;
        } else {
            return Err(PromqlError(format!("unexpected character {first:?}")));
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// Length of the start in which every character fits.
fn run(text: &str, fits: impl Fn(char) -> bool) -> usize {
    text.find(|c| !fits(c)).unwrap_or(text.len())
}

fn text(rest: &str, quote: char) -> Result<(Token, usize), PromqlError> {
    let mut value = String::new();
    let mut characters = rest.char_indices().skip(1);
    while let Some((index, c)) = characters.next() {
        if c == quote {
            return Ok((Token::Text(value), index + 1));
        }
        if c == '\\' && quote != '`' {
            match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, c @ ('\\' | '"' | '\''))) => value.push(c),
                _ => return Err(PromqlError("unknown escape in a text".to_owned())),
            }
        } else {
            value.push(c);
        }
    }
    Err(PromqlError("a text does not end".to_owned()))
}

fn number(rest: &str) -> Result<(Token, usize), PromqlError> {
    let digits = run(rest, |c| c.is_ascii_digit() || c == '.');
    let unit = run(&rest[digits..], |c| c.is_ascii_alphanumeric());
    if unit > 0 && !rest[digits..].starts_with(['e', 'E']) {
        let text = &rest[..digits + unit];
        let duration = crate::api::duration::parse(&in_hours(text))
            .map_err(|_| PromqlError(format!("bad duration {text:?}")))?;
        return Ok((Token::Duration(duration), digits + unit));
    }
    let mut length = digits + unit;
    if unit == 1 {
        // An exponent with a sign: 1e-3.
        let sign = rest[length..].starts_with(['+', '-']);
        length += usize::from(sign);
        length += run(&rest[length..], |c| c.is_ascii_digit());
    }
    let value = rest[..length].parse();
    let value = value.map_err(|_| PromqlError(format!("bad number {:?}", &rest[..length])))?;
    Ok((Token::Number(value), length))
}

/// Days and weeks, which PromQL knows, in hours.
fn in_hours(text: &str) -> String {
    for (unit, hours) in [('d', 24), ('w', 168)] {
        if let Some(count) = text.strip_suffix(unit)
            && let Ok(count) = count.parse::<u64>()
        {
            return format!("{}h", count.saturating_mul(hours));
        }
    }
    text.to_owned()
}

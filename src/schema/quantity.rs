//! Resource quantities in the form in which the server keeps them.

use serde_json::Value;

/// Nano-units of a quantity with its family of suffixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Binary,
    Decimal,
    Exponent,
}

const BINARY: [(&str, i128); 6] = [
    ("Ei", 1 << 60),
    ("Pi", 1 << 50),
    ("Ti", 1 << 40),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
];
const DECIMAL: [(&str, i32); 10] = [
    ("E", 18),
    ("P", 15),
    ("T", 12),
    ("G", 9),
    ("M", 6),
    ("k", 3),
    ("", 0),
    ("m", -3),
    ("u", -6),
    ("n", -9),
];
const NANO: i128 = 1_000_000_000;

/// The canonical text of a quantity, such as `500m` for `0.5`; none when it is not one.
pub fn canonical(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    let end = text
        .find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let (scale, family) = scale_of(suffix)?;
    let nano = nano_units(digits, scale)?;
    Some(render(nano, family))
}

/// The factor of a suffix as (multiplier, power of ten).
fn scale_of(suffix: &str) -> Option<((i128, i32), Family)> {
    if let Some((_, factor)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some(((*factor, 0), Family::Binary));
    }
    if let Some((_, power)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some(((1, *power), Family::Decimal));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?.parse::<i32>().ok()?;
    (-9..=18)
        .contains(&exponent)
        .then_some(((1, exponent), Family::Exponent))
}

fn nano_units(digits: &str, (factor, power): (i128, i32)) -> Option<i128> {
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, digits.strip_prefix('+').unwrap_or(digits)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.len() > 18 || whole.len() > 18 {
        return None;
    }
    let joined = format!("{whole}{fraction}").parse::<i128>().ok()?;
    let power = power + 9 - i32::try_from(fraction.len()).ok()?;
    let scaled = joined.checked_mul(factor)?;
    let ten = 10_i128.checked_pow(power.unsigned_abs())?;
    let nano = if power >= 0 {
        scaled.checked_mul(ten)?
    } else {
        // precision below a nano-unit is rounded up
        scaled.checked_add(ten - 1)? / ten
    };
    Some(if negative { -nano } else { nano })
}

fn render(nano: i128, family: Family) -> String {
    if nano == 0 {
        return "0".to_owned();
    }
    if family == Family::Binary && nano % NANO == 0 {
        let units = nano / NANO;
        if units.abs() >= 1024 {
            for (suffix, factor) in BINARY {
                if units % factor == 0 {
                    return format!("{}{suffix}", units / factor);
                }
            }
        }
        return units.to_string();
    }
    for (suffix, power) in DECIMAL {
        let unit = 10_i128.pow(u32::try_from(power + 9).unwrap_or_default());
        if nano % unit == 0 {
            return match (family, power) {
                (Family::Exponent, power) if power != 0 => format!("{}e{power}", nano / unit),
                _ => format!("{}{suffix}", nano / unit),
            };
        }
    }
    nano.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantity_in_any_spelling_becomes_canonical() {
        for (given, wanted) in [
            ("0.5", "500m"),
            ("1024Mi", "1Gi"),
            ("1000m", "1"),
            ("100m", "100m"),
            ("1500Mi", "1500Mi"),
            ("0", "0"),
            ("1e3", "1e3"),
            ("2000", "2k"),
            ("0.5Gi", "512Mi"),
        ] {
            assert_eq!(
                canonical(&Value::from(given)).as_deref(),
                Some(wanted),
                "{given}"
            );
        }
        assert_eq!(canonical(&Value::from("lots")), None);
        assert_eq!(canonical(&Value::from("")), None);
    }
}

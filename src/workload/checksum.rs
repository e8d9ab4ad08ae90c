//! Checksums of configuration, equal to those that Flagger wrote to `status.trackedConfigs`.

use std::fmt::Write;

use serde_json::Value;

use crate::object::digest;

/// Checksum of `.data` of a ConfigMap or Secret: 16 hexadecimal digits.
///
/// The first 8 bytes of the SHA-256 of the text that Go's `encoding/json` gives for the map:
/// sorted keys, no spaces, `<`, `>`, `&`, U+2028 and U+2029 escaped, `null` for a missing map.
/// Values of a Secret stay in base64.
pub fn checksum(data: &Value) -> String {
    digest(go_json(data).as_bytes(), 8)
}

/// A value as Go prints it. Outside strings JSON has none of the characters that Go escapes, so
/// the whole text can be searched.
fn go_json(data: &Value) -> String {
    let mut text = String::new();
    for character in data.to_string().chars() {
        match character {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\u{:04x}", u32::from(character));
            }
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn checksum_equals_that_of_go() {
        // Each computed by Go: sha256.Sum256(json.Marshal(data))[:8].
        for (data, wanted) in [
            (Value::Null, "74234e98afe7498f"),
            (json!({}), "44136fa355b3678a"),
            (json!({"b": "2", "a": "1"}), "21f76dfbfe6dfe21"),
            (
                json!({"html": "<a href=\"x\">&\u{2028}\u{2029}\n\t\u{1}\u{8}\u{c}\u{7f} é 😀\\"}),
                "f4a23027ce6b7171",
            ),
            (
                json!({"password": "czNjcjN0Pj8=", "empty": ""}),
                "08684467dcbf9be7",
            ),
        ] {
            assert_eq!(checksum(&data), wanted, "{data}");
        }
    }
}

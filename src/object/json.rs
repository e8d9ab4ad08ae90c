//! JSON text that compares, hashes and prints the same whatever wrote it.

use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// A JSON value as compact text with sorted keys: small to keep, exact to compare.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Json(Arc<str>);

impl Json {
    /// The text of a value. Keys come out sorted, as `serde_json`'s map is a `BTreeMap`.
    pub fn of(value: &Value) -> Self {
        Self(value.to_string().into())
    }

    /// The value again.
    pub fn value(&self) -> Value {
        // The text came from a value; `Null` cannot happen.
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// First `bytes` bytes of the text's SHA-256, in hexadecimal.
    pub fn digest(&self, bytes: usize) -> String {
        digest(self.0.as_bytes(), bytes)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().serialize(serializer)
    }
}

/// First `bytes` bytes of the SHA-256 of `data`, in hexadecimal.
pub fn digest(data: &[u8], bytes: usize) -> String {
    let mut text = String::with_capacity(2 * bytes);
    for byte in Sha256::digest(data).iter().take(bytes) {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(nibble.into(), 16).unwrap_or_default());
        }
    }
    text
}

/// The JSON merge patch (RFC 7396) that turns `old` into `new`; `None` when they are equal.
///
/// Objects are compared field by field, everything else as a whole. Fields that only `old` has
/// are removed by `null`.
pub fn merge_diff(old: &Value, new: &Value) -> Option<Value> {
    let (Value::Object(before), Value::Object(after)) = (old, new) else {
        return (old != new).then(|| new.clone());
    };
    let mut patch = Map::new();
    for key in before.keys().filter(|key| !after.contains_key(*key)) {
        patch.insert(key.clone(), Value::Null);
    }
    for (key, value) in after {
        match before.get(key) {
            None => {
                patch.insert(key.clone(), value.clone());
            }
            Some(previous) => {
                if let Some(change) = merge_diff(previous, value) {
                    patch.insert(key.clone(), change);
                }
            }
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn merge_diff_of_equal_values_is_none() {
        let value = json!({"a": [1, {"b": 2}], "c": null});
        assert_eq!(merge_diff(&value, &value), None);
    }

    #[test]
    fn merge_diff_removes_adds_and_replaces_lists_whole() {
        let old = json!({"keep": 1, "drop": 2, "list": [1, 2], "deep": {"x": 1, "y": 2}});
        let new = json!({"keep": 1, "list": [1], "deep": {"x": 1, "y": 3}, "add": true});
        assert_eq!(
            merge_diff(&old, &new),
            Some(json!({"drop": null, "list": [1], "deep": {"y": 3}, "add": true}))
        );
    }

    #[test]
    fn digest_does_not_depend_on_key_order() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"b":{"d":3,"c":2},"a":1}"#).unwrap();
        assert_eq!(Json::of(&one).digest(32), Json::of(&two).digest(32));
    }
}

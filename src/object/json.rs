//! JSON text that compares, hashes and prints the same whatever wrote it.

use std::{
    cmp::Ordering,
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

/// A JSON value as compact text with sorted keys: small to keep, exact to compare.
#[derive(Clone)]
pub struct Json(Arc<Kept>);

struct Kept {
    /// Rendered when somebody asks for it, or the value is let go.
    text: OnceLock<Box<str>>,
    value: Mutex<Held>,
    /// What was made of the text before.
    derived: OnceLock<Box<str>>,
}

/// The value of a text.
enum Held {
    /// It was made of this value, which stays until [`Json::let_go`].
    Warm(Arc<Value>),
    /// What it was last read to, while somebody holds that.
    Cold(Weak<Value>),
}

impl Json {
    /// The text of a value. Keys come out sorted, as `serde_json`'s map is a `BTreeMap`.
    pub fn of(value: &Value) -> Self {
        Self::with(OnceLock::from(rendered(value)), Held::Cold(Weak::new()))
    }

    /// The text of a value that is soon read again, and holds it until [`Json::let_go`].
    pub fn warm(value: Value) -> Self {
        Self::with(OnceLock::new(), Held::Warm(Arc::new(value)))
    }

    fn with(text: OnceLock<Box<str>>, held: Held) -> Self {
        Self(Arc::new(Kept {
            text,
            value: Mutex::new(held),
            derived: OnceLock::new(),
        }))
    }

    /// The value that it was made of, from now on held by the caller alone. `None` when it was let
    /// go before.
    pub fn let_go(&self) -> Option<Arc<Value>> {
        // INVARIANT: there is a text wherever the value may be gone.
        self.as_str();
        let mut held = self.held();
        let Held::Warm(value) = &*held else {
            return None;
        };
        let value = Arc::clone(value);
        *held = Held::Cold(Arc::downgrade(&value));
        Some(value)
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // What a panic elsewhere left behind is whole: it is replaced at once.
        self.0.value.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The value again, to be changed.
    pub fn value(&self) -> Value {
        Arc::unwrap_or_clone(self.read())
    }

    /// The value again. It is read from the text only when nobody holds it, and gone with the last
    /// who does.
    pub fn read(&self) -> Arc<Value> {
        let mut held = self.held();
        let before = match &*held {
            Held::Warm(value) => Some(Arc::clone(value)),
            Held::Cold(value) => value.upgrade(),
        };
        if let Some(value) = before {
            return value;
        }
        // The text came from a value; `Null` cannot happen.
        let value = Arc::new(serde_json::from_str(self.as_str()).unwrap_or_default());
        *held = Held::Cold(Arc::downgrade(&value));
        value
    }

    /// What `of` makes of the value, made once: all who ask of one text ask for the same.
    pub fn derived(&self, of: impl FnOnce(&Value) -> String) -> &str {
        self.0.derived.get_or_init(|| of(&self.read()).into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.text.get_or_init(|| rendered(&self.read()))
    }

    /// First `bytes` bytes of the text's SHA-256, in hexadecimal.
    pub fn digest(&self, bytes: usize) -> String {
        digest(self.as_str().as_bytes(), bytes)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Json").field(&self.as_str()).finish()
    }
}

/// Into bytes, not by a formatter: this is done for every object that is seen.
fn rendered(value: &Value) -> Box<str> {
    serde_json::to_string(value).unwrap_or_default().into()
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl PartialOrd for Json {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Json {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.read().serialize(serializer)
    }
}

/// Reads JSON by pointers (RFC 6901), as `Value::pointer` does, without a copy of each name on the
/// way.
pub trait At {
    /// What is there.
    fn at(&self, pointer: &str) -> Option<&Value>;
}

impl At for Value {
    fn at(&self, pointer: &str) -> Option<&Value> {
        let (mut value, mut rest) = (self, pointer);
        while !rest.is_empty() {
            let names = rest.strip_prefix('/')?;
            // Byte by byte: names are so short that no search for a character pays.
            let end = names.bytes().position(|byte| byte == b'/');
            let (name, after) = names.split_at(end.unwrap_or(names.len()));
            value = match value {
                Self::Object(fields) if name.bytes().any(|byte| byte == b'~') => {
                    fields.get(&name.replace("~1", "/").replace("~0", "~"))?
                }
                Self::Object(fields) => fields.get(name)?,
                Self::Array(elements) => elements.get(name.parse::<usize>().ok()?)?,
                Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => return None,
            };
            rest = after;
        }
        Some(value)
    }
}

/// An object of these fields. They are moved into it; `json!` copies every value that it is given.
pub fn map_of<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let fields = fields.map(|(name, value)| (name.to_owned(), value));
    Value::Object(Map::from_iter(fields))
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
    fn value_is_read_once_while_it_is_held() {
        let json = Json::of(&json!({"a": [1]}));
        let held = json.read();
        assert!(Arc::ptr_eq(&held, &json.clone().read()));
        let mut changed = json.value();
        changed["a"] = json!(2);
        assert_eq!(*json.read(), json!({"a": [1]}));
        assert_eq!(json.as_str(), r#"{"a":[1]}"#);
    }

    #[test]
    fn warm_value_is_held_until_it_is_let_go() {
        let json = Json::warm(json!({"a": [1]}));
        let first = Arc::downgrade(&json.read());
        assert!(first.upgrade().is_some(), "nobody else holds it");
        drop(json.let_go());
        assert!(first.upgrade().is_none());
        assert_eq!(json.let_go(), None);
        assert_eq!(*json.read(), json!({"a": [1]}));
    }

    #[test]
    fn digest_does_not_depend_on_key_order() {
        let one: Value = serde_json::from_str(r#"{"a":1,"b":{"c":2,"d":3}}"#).unwrap();
        let two: Value = serde_json::from_str(r#"{"b":{"d":3,"c":2},"a":1}"#).unwrap();
        assert_eq!(Json::of(&one).digest(32), Json::of(&two).digest(32));
    }
}

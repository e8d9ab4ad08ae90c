//! The rules of `metadata` that bind every object.

use serde_json::Value;

use super::names::{is_dns_label, is_label_key, is_label_value, is_subdomain};
use super::{Fault, Reason, Violation};

/// What a name may look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain: dots allowed, up to 253 characters.
    Subdomain,
    /// RFC 1123 label: up to 63 characters.
    Label,
    /// RFC 1035 label: starts with a letter.
    Label1035,
    /// A path segment, as for RBAC objects.
    Segment,
}

impl NameRule {
    /// True when a name has this form.
    fn admits(self, name: &str) -> bool {
        let label = name.len() <= 63 && is_dns_label(name);
        match self {
            Self::Subdomain => is_subdomain(name),
            Self::Label => label,
            Self::Label1035 => label && name.starts_with(|c: char| c.is_ascii_lowercase()),
            Self::Segment => !matches!(name, "." | "..") && !name.contains(['/', '%']),
        }
    }

    /// The form in words.
    fn words(self) -> &'static str {
        match self {
            Self::Subdomain => "write a name of a-z, 0-9, - and .",
            Self::Label => "write a name of a-z, 0-9 and -",
            Self::Label1035 => "write a name of a-z, 0-9 and - that starts with a letter",
            Self::Segment => "write a name without / and %",
        }
    }
}

/// The bytes that all annotations of an object may have.
const ANNOTATIONS: usize = 256 * 1024;

/// Lists what is wrong with the metadata of an object whose names follow `rule`; `custom` tells
/// custom resources, whose finalizers are named more freely.
pub fn violations(object: &Value, rule: NameRule, custom: bool) -> Vec<Violation> {
    let meta = &object["metadata"];
    let mut found = Vec::new();
    let name = meta["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        let made = meta["generateName"].as_str().unwrap_or_default();
        if made.is_empty() {
            let action = "name the object";
            found.push(violation("name", Reason::Required, "nothing", action));
        }
    } else if !rule.admits(name) {
        let action = rule.words();
        found.push(violation(
            "name",
            Reason::Invalid,
            format!("{name:?}"),
            action,
        ));
    }
    for (key, value) in meta["labels"].as_object().into_iter().flatten() {
        if !is_label_key(key) || !value.as_str().is_some_and(is_label_value) {
            let action = "write up to 63 letters, digits, -, _ and .";
            let what = format!("{key}: {value}");
            found.push(violation("labels", Reason::Invalid, what, action));
        }
    }
    judge_annotations(&meta["annotations"], &mut found);
    judge_owners(&meta["ownerReferences"], &mut found);
    for (index, finalizer) in list(&meta["finalizers"]).iter().enumerate() {
        let text = finalizer.as_str().unwrap_or_default();
        let qualified =
            text.contains('/') || matches!(text, "orphan" | "foregroundDeletion" | "kubernetes");
        let action = "write a qualified name such as example.com/name";
        let mut blame = |path: &str| {
            found.push(violation(
                path,
                Reason::Invalid,
                format!("{text:?}"),
                action,
            ));
        };
        if !is_label_key(text) {
            blame("finalizers");
        }
        if !qualified && !custom {
            blame(&format!("finalizers[{index}]"));
        }
    }
    found
}

fn violation(path: &str, reason: Reason, found: impl Into<String>, action: &str) -> Violation {
    let path = format!("metadata.{path}");
    Violation {
        field: path.clone(),
        reason,
        within: Vec::new(),
        fault: Fault {
            path,
            found: found.into(),
            action: action.to_owned(),
        },
    }
}

fn judge_annotations(annotations: &Value, found: &mut Vec<Violation>) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        if !is_label_key(&key.to_lowercase()) {
            let action = "write a qualified name such as example.com/name";
            let what = format!("{key:?}");
            found.push(violation("annotations", Reason::Invalid, what, action));
        }
    }
    if size > ANNOTATIONS {
        let action = format!("write at most {ANNOTATIONS} bytes");
        let what = format!("{size} bytes");
        found.push(violation("annotations", Reason::TooLong, what, &action));
    }
}

fn judge_owners(owners: &Value, found: &mut Vec<Violation>) {
    let mut controllers = Vec::new();
    for owner in list(owners) {
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let path = format!("ownerReferences.{field}");
                let action = "write the field: it is required";
                found.push(violation(&path, Reason::Invalid, "nothing", action));
            }
        }
        if owner["controller"] == true {
            controllers.push(owner["name"].as_str().unwrap_or_default());
        }
    }
    if let [first, second, ..] = controllers.as_slice() {
        let what = format!("the controllers {first} and {second}");
        let action = "keep one controller";
        found.push(violation("ownerReferences", Reason::Invalid, what, action));
    }
}

/// The items of a list; none for anything else.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

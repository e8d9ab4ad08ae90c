//! The rules of `metadata`: what may be written, and what may change.

use serde_json::Value;

use super::error::Cause;
use super::resource::{NameRule, Resource};
use super::selector::{is_dns_label, is_label_key, is_label_value, is_subdomain};
use super::store::Object;

/// The faults of the metadata of a new or changed object.
pub fn faults(object: &Value, resource: &Resource) -> Vec<Cause> {
    let meta = &object["metadata"];
    let mut causes = Vec::new();
    let name = meta["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        causes.push(Cause::required(
            "metadata.name",
            "name or generateName is required",
        ));
    } else if !name_fits(name, resource.conduct.name) {
        causes.push(Cause::invalid(
            "metadata.name",
            format!("Invalid value: \"{name}\": not a valid name of this kind"),
        ));
    }
    for (key, value) in meta["labels"].as_object().into_iter().flatten() {
        if !is_label_key(key) || !value.as_str().is_some_and(is_label_value) {
            let text = format!("Invalid value: \"{key}={value}\": not a valid label");
            causes.push(Cause::invalid("metadata.labels", text));
        }
    }
    annotation_faults(&meta["annotations"], &mut causes);
    owner_faults(&meta["ownerReferences"], &mut causes);
    for (index, finalizer) in list(&meta["finalizers"]).iter().enumerate() {
        let text = finalizer.as_str().unwrap_or_default();
        let qualified =
            text.contains('/') || matches!(text, "orphan" | "foregroundDeletion" | "kubernetes");
        if !is_label_key(text) {
            causes.push(Cause::invalid(
                "metadata.finalizers",
                format!("Invalid value: \"{text}\": not a qualified name"),
            ));
        }
        if !qualified && !resource.custom {
            causes.push(Cause::invalid(
                format!("metadata.finalizers[{index}]"),
                format!("Invalid value: \"{text}\": name is neither a standard finalizer name nor is it fully qualified"),
            ));
        }
    }
    causes
}

fn annotation_faults(annotations: &Value, causes: &mut Vec<Cause>) {
    let mut size = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        size += key.len() + value.as_str().map_or(0, str::len);
        if !is_label_key(&key.to_lowercase()) {
            let text = format!("Invalid value: \"{key}\": not a qualified name");
            causes.push(Cause::invalid("metadata.annotations", text));
        }
    }
    if size > 256 * 1024 {
        let text = "Too long: may not be more than 262144 bytes";
        causes.push(Cause::new(
            "FieldValueTooLong",
            "metadata.annotations",
            text,
        ));
    }
}

fn owner_faults(owners: &Value, causes: &mut Vec<Cause>) {
    let mut controllers = Vec::new();
    for owner in list(owners) {
        let at = |field: &str| format!("metadata.ownerReferences.{field}");
        for field in ["apiVersion", "kind", "name", "uid"] {
            if owner[field].as_str().unwrap_or_default().is_empty() {
                let text = "Invalid value: \"\": must not be empty";
                causes.push(Cause::invalid(at(field), text));
            }
        }
        if owner["controller"] == true {
            controllers.push(owner["name"].as_str().unwrap_or_default());
        }
    }
    if let [first, second, ..] = controllers.as_slice() {
        let text = format!(
            "Invalid value: Only one reference can have Controller set to true. Found \"true\" in references for {first} and {second}"
        );
        causes.push(Cause::invalid("metadata.ownerReferences", text));
    }
}

/// The faults of a change of metadata.
pub fn change_faults(old: &Object, new: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    let meta = &new["metadata"];
    for field in ["name", "namespace", "uid"] {
        let found = meta[field].as_str().unwrap_or_default();
        if found != old.meta(field) {
            let text = format!("Invalid value: \"{found}\": field is immutable");
            causes.push(Cause::invalid(format!("metadata.{field}"), text));
        }
    }
    if old.terminating() {
        let before = list(&old.value()["metadata"]["finalizers"]);
        let added: Vec<&str> = list(&meta["finalizers"])
            .iter()
            .filter(|finalizer| !before.contains(finalizer))
            .filter_map(Value::as_str)
            .collect();
        if !added.is_empty() {
            let text = format!(
                "Forbidden: no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
            );
            causes.push(Cause::forbidden("metadata.finalizers", text));
        }
    }
    causes
}

/// True when a name has the form that the resource asks for.
fn name_fits(name: &str, rule: NameRule) -> bool {
    match rule {
        NameRule::Subdomain => is_subdomain(name),
        NameRule::Label => name.len() <= 63 && is_dns_label(name),
        NameRule::Label1035 => {
            name.len() <= 63
                && is_dns_label(name)
                && name.starts_with(|c: char| c.is_ascii_lowercase())
        }
        NameRule::Segment => !matches!(name, "." | "..") && !name.contains(['/', '%']),
    }
}

/// The items of a list; none for anything else.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

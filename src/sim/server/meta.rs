//! The rules of `metadata`: what may change.

use serde_json::Value;

use super::error::Cause;
use super::store::Object;
pub use crate::schema::metadata::list;

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

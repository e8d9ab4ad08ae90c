//! The manifests of this folder, for the tests of `haldane check` and of the API server.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The table of misoperations.
#[derive(Deserialize)]
pub struct Refused {
    bases: BTreeMap<String, Value>,
    /// Refused by the server and by `haldane check`.
    pub cases: Vec<Case>,
    /// Refused by `haldane check` alone.
    pub beyond: Vec<Case>,
}

/// One misoperation.
#[derive(Deserialize)]
pub struct Case {
    /// What it is.
    pub name: String,
    base: String,
    patch: Value,
    /// The field to blame.
    pub path: String,
    /// A part of what is said.
    pub says: String,
}

impl Refused {
    /// Reads the table.
    pub fn read() -> Self {
        serde_saphyr::from_str(include_str!("refused.yaml")).unwrap()
    }

    /// The manifest of a case.
    pub fn manifest(&self, case: &Case) -> Value {
        let mut manifest = self.bases[&case.base].clone();
        merge(&mut manifest, &case.patch);
        manifest
    }
}

/// The manifests that are admitted.
pub fn admitted() -> Vec<Value> {
    serde_saphyr::from_multiple(include_str!("admitted.yaml")).unwrap()
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        target.clone_from(patch);
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    let fields = target.as_object_mut().unwrap();
    for (name, change) in patch {
        if change.is_null() {
            fields.remove(name);
        } else {
            merge(fields.entry(name.clone()).or_insert(Value::Null), change);
        }
    }
}

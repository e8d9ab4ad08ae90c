//! The manifests of this folder, for the tests of `haldane check` and of the API server.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};

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
        json_patch::merge(&mut manifest, &case.patch);
        manifest
    }
}

/// The manifests that are admitted.
pub fn admitted() -> Vec<Value> {
    serde_saphyr::from_multiple(include_str!("admitted.yaml")).unwrap()
}

/// Admitted manifests of which up to three values are replaced by others.
pub fn changed() -> impl Strategy<Value = Value> {
    let manifests = admitted();
    let edits = prop::collection::vec((any::<prop::sample::Index>(), values()), 1..4);
    (any::<prop::sample::Index>(), edits).prop_map(move |(which, edits)| {
        let mut manifest = which.get(&manifests).clone();
        for (place, value) in edits {
            let mut places = Vec::new();
            pointers(&manifest["spec"], "/spec", &mut places);
            if let Some(target) = manifest.pointer_mut(place.get(&places).as_str()) {
                *target = value;
            }
        }
        manifest
    })
}

/// Values of all sorts, among them those that fields of a Canary have.
fn values() -> impl Strategy<Value = Value> {
    let leaves = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-5_i64..160).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "1m",
            "10s",
            "istio",
            "rollout",
            "a",
            "http://a/",
            "%s",
            "x\ny"
        ])
        .prop_map(Value::from),
    ];
    leaves.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4).prop_map(|m| json!(m)),
        ]
    })
}

/// The paths of all values within a value.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(value, &format!("{at}/{name}"), all);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                pointers(value, &format!("{at}/{index}"), all);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

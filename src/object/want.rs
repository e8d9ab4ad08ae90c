//! Objects as Haldane wants them, and the least write that gets them there.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Key, Object, Owner, merge_diff};

/// An object as Haldane wants it: the fields that are Haldane's, and no others.
///
/// Fields of an existing object that are not named here belong to somebody else and stay.
#[derive(Clone, Debug, PartialEq)]
pub struct Want {
    /// Where it is.
    pub key: Key,
    /// Labels that must be there.
    pub labels: BTreeMap<String, String>,
    /// Annotations that must be there.
    pub annotations: BTreeMap<String, String>,
    /// The owner to be set when the object is created.
    pub owner: Option<Owner>,
    /// Wanted fields beside `metadata`, such as `{"spec": {…}}`. Lists are wanted as a whole;
    /// objects field by field, except below [`exact`](Self::exact).
    pub body: Value,
    /// JSON pointers to objects that must have no other fields, such as `/spec/selector`.
    pub exact: Vec<&'static str>,
    /// Fields set when the object is created and left alone afterwards.
    pub initial: Value,
}

impl Want {
    /// A wanted object without labels, annotations or owner.
    pub fn new(key: Key, body: Value) -> Self {
        Self {
            key,
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            owner: None,
            body,
            exact: Vec::new(),
            initial: Value::Null,
        }
    }

    /// The whole object, for its creation.
    pub fn manifest(&self) -> Value {
        let mut metadata = json!({ "name": self.key.name });
        if !self.key.namespace.is_empty() {
            metadata["namespace"] = json!(self.key.namespace);
        }
        if !self.labels.is_empty() {
            metadata["labels"] = json!(self.labels);
        }
        if !self.annotations.is_empty() {
            metadata["annotations"] = json!(self.annotations);
        }
        if let Some(owner) = &self.owner {
            metadata["ownerReferences"] = json!([{
                "apiVersion": super::Kind::Canary.api_version(),
                "kind": owner.kind,
                "name": owner.name,
                "uid": owner.uid,
                "controller": owner.controller,
                "blockOwnerDeletion": true,
            }]);
        }
        let mut manifest = self.body.clone();
        if !manifest.is_object() {
            manifest = Value::Object(Map::new());
        }
        merge(&mut manifest, &self.initial);
        drop_nulls(&mut manifest);
        manifest["apiVersion"] = json!(self.key.kind.api_version());
        manifest["kind"] = json!(self.key.kind.to_string());
        manifest["metadata"] = metadata;
        manifest
    }

    /// The merge patch that brings an existing object to what is wanted; `None` when it is there.
    pub fn patch(&self, existing: &Object) -> Option<Value> {
        let observed = existing.body.read();
        let mut patch = Map::new();
        if let Some(Value::Object(change)) = self.change(&mut String::new(), &observed, &self.body)
        {
            patch = change;
        }
        let mut metadata = Map::new();
        for (field, wanted, found) in [
            ("labels", &self.labels, &existing.labels),
            ("annotations", &self.annotations, &existing.annotations),
        ] {
            let missing: Map<String, Value> = wanted
                .iter()
                .filter(|(key, value)| found.get(*key) != Some(value))
                .map(|(key, value)| (key.clone(), json!(value)))
                .collect();
            if !missing.is_empty() {
                metadata.insert(field.to_owned(), Value::Object(missing));
            }
        }
        if !metadata.is_empty() {
            patch.insert("metadata".to_owned(), Value::Object(metadata));
        }
        (!patch.is_empty()).then_some(Value::Object(patch))
    }

    /// The change below a pointer, which is the same afterwards.
    fn change(&self, pointer: &mut String, found: &Value, wanted: &Value) -> Option<Value> {
        let Value::Object(fields) = wanted else {
            return (found != wanted).then(|| wanted.clone());
        };
        if self.exact.contains(&pointer.as_str()) || !found.is_object() {
            return merge_diff(found, wanted);
        }
        let mut patch = Map::new();
        for (key, value) in fields {
            let above = pointer.len();
            pointer.extend(["/", key]);
            let change = match (found.get(key), value) {
                // An explicit null asks for the field's absence.
                (None, Value::Null) => None,
                (None, _) => Some(value.clone()),
                (Some(current), _) => self.change(pointer, current, value),
            };
            pointer.truncate(above);
            if let Some(change) = change {
                patch.insert(key.clone(), change);
            }
        }
        (!patch.is_empty()).then_some(Value::Object(patch))
    }
}

/// Adds the fields of `extra` to `base`, object by object.
fn merge(base: &mut Value, extra: &Value) {
    match (base, extra) {
        (Value::Object(base), Value::Object(extra)) => {
            for (key, value) in extra {
                merge(base.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {}
        (base, extra) => *base = extra.clone(),
    }
}

/// Takes out fields whose absence is wanted: a new object does not have them.
fn drop_nulls(value: &mut Value) {
    if let Value::Object(fields) = value {
        fields.retain(|_, field| !field.is_null());
        fields.values_mut().for_each(drop_nulls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Kind;

    fn existing(body: &Value) -> Object {
        let mut value = body.clone();
        value["metadata"] = json!({
            "name": "a", "namespace": "n", "uid": "u", "resourceVersion": "1",
            "labels": {"theirs": "x"},
        });
        Object::read(Kind::Service, value).unwrap()
    }

    fn want(body: Value) -> Want {
        Want::new(Key::new(Kind::Service, "n", "a"), body)
    }

    #[test]
    fn want_keeps_fields_of_others() {
        let found = existing(&json!({"spec": {"type": "LoadBalancer", "selector": {"a": "b"}}}));
        assert_eq!(
            want(json!({"spec": {"selector": {"a": "b"}}})).patch(&found),
            None
        );
    }

    #[test]
    fn want_replaces_exact_objects_whole() {
        let found = existing(&json!({"spec": {"type": "LoadBalancer", "selector": {"a": "b"}}}));
        let mut wanted = want(json!({"spec": {"selector": {"c": "d"}}}));
        wanted.exact.push("/spec/selector");
        assert_eq!(
            wanted.patch(&found),
            Some(json!({"spec": {"selector": {"a": null, "c": "d"}}}))
        );
    }

    #[test]
    fn want_of_absence_removes_the_field_and_is_not_in_the_manifest() {
        let wanted = want(json!({"spec": {"type": null, "selector": {"a": "b"}}}));
        assert_eq!(wanted.manifest()["spec"], json!({"selector": {"a": "b"}}));
        let found = existing(&json!({"spec": {"type": "LoadBalancer", "selector": {"a": "b"}}}));
        assert_eq!(wanted.patch(&found), Some(json!({"spec": {"type": null}})));
        assert_eq!(wanted.patch(&existing(&wanted.manifest())), None);
    }

    #[test]
    fn want_adds_labels_beside_those_of_others() {
        let found = existing(&json!({"spec": {}}));
        let mut wanted = want(json!({}));
        wanted.labels.insert("ours".into(), "y".into());
        assert_eq!(
            wanted.patch(&found),
            Some(json!({"metadata": {"labels": {"ours": "y"}}}))
        );
    }
}

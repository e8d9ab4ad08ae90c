//! Sets of field paths, as `managedFields` writes them (`FieldsV1`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of paths as a tree. A path element is written as in `FieldsV1`: `f:name`, `k:{"name":"a"}`, `v:"x"`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSet {
    /// The path to this node is itself in the set.
    pub member: bool,
    /// The paths below.
    pub children: BTreeMap<String, Self>,
}

impl FieldSet {
    /// True when no path is in the set.
    pub fn is_empty(&self) -> bool {
        !self.member && self.children.values().all(Self::is_empty)
    }

    /// Puts a path in.
    pub fn insert<S: AsRef<str>>(&mut self, path: &[S]) {
        let node = path.iter().fold(self, |node, element| {
            node.children
                .entry(element.as_ref().to_owned())
                .or_default()
        });
        node.member = true;
    }

    /// The paths that are in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut all = self.clone();
        all.absorb(other);
        all
    }

    /// Puts all paths of another set in.
    pub fn absorb(&mut self, other: &Self) {
        self.member |= other.member;
        for (element, child) in &other.children {
            match self.children.get_mut(element) {
                Some(mine) => mine.absorb(child),
                None => {
                    self.children.insert(element.clone(), child.clone());
                }
            }
        }
    }

    /// The paths that are in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, child)| {
            let both = child.intersection(other.children.get(element)?);
            (!both.is_empty()).then(|| (element.clone(), both))
        });
        Self {
            member: self.member && other.member,
            children: children.collect(),
        }
    }

    /// The paths that are not in the other.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, child)| {
            let rest = match other.children.get(element) {
                Some(other) => child.difference(other),
                None => child.clone(),
            };
            (!rest.is_empty()).then(|| (element.clone(), rest))
        });
        Self {
            member: self.member && !other.member,
            children: children.collect(),
        }
    }

    /// The paths that are neither in the other nor below one of its paths.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let children = self.children.iter().filter_map(|(element, child)| {
            let rest = match other.children.get(element) {
                Some(other) if other.member => return None,
                Some(other) => child.without(other),
                None => child.clone(),
            };
            (!rest.is_empty()).then(|| (element.clone(), rest))
        });
        Self {
            member: self.member && !other.member,
            children: children.collect(),
        }
    }

    /// True when every path of this set is in one written as `fieldsV1`.
    pub fn is_within(&self, json: &Value) -> bool {
        self.children.iter().all(|(element, child)| {
            json.get(element)
                .is_some_and(|below| (!child.member || owns(below)) && child.is_within(below))
                || child.is_empty()
        })
    }

    /// True when some path of this set is in one written as `fieldsV1`.
    pub fn touches(&self, json: &Value) -> bool {
        self.children.iter().any(|(element, child)| {
            json.get(element)
                .is_some_and(|below| (child.member && owns(below)) || child.touches(below))
        })
    }

    /// The set as `fieldsV1`.
    pub fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            map.insert(element.clone(), child.to_json());
        }
        Value::Object(map)
    }

    /// Reads `fieldsV1`.
    pub fn from_json(json: &Value) -> Self {
        let mut set = Self::node(json);
        set.member = false;
        set
    }

    fn node(json: &Value) -> Self {
        let entries = || json.as_object().into_iter().flatten();
        Self {
            member: entries().next().is_none() || entries().any(|(element, _)| element == "."),
            children: entries()
                .filter(|(element, _)| *element != ".")
                .map(|(element, child)| (element.clone(), Self::node(child)))
                .collect(),
        }
    }

    /// The paths as people read them, such as `.spec.ports[k:{"port":80}].name`.
    pub fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        self.collect_paths("", &mut paths);
        paths
    }

    fn collect_paths(&self, path: &str, paths: &mut Vec<String>) {
        if self.member {
            paths.push(path.to_owned());
        }
        for (element, child) in &self.children {
            let below = match element.split_once(':') {
                Some(("f", name)) => format!("{path}.{name}"),
                Some(("k", keys)) => format!("{path}[{}]", bracket(keys)),
                Some((_, value)) => format!("{path}[={value}]"),
                None => path.to_owned(),
            };
            child.collect_paths(&below, paths);
        }
    }
}

/// Whether a node of `fieldsV1` is itself owned.
fn owns(node: &Value) -> bool {
    node.as_object()
        .is_none_or(|map| map.is_empty() || map.contains_key("."))
}

/// `{"name":"a","port":1}` as `name="a",port=1`.
fn bracket(keys: &str) -> String {
    let Ok(Value::Object(map)) = serde_json::from_str(keys) else {
        return keys.to_owned();
    };
    let parts: Vec<String> = map
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    parts.join(",")
}

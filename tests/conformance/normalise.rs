//! What two runs of the same script have in common.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// Puts symbols in the place of what differs from run to run.
pub struct Normaliser {
    space: String,
    names: BTreeMap<String, String>,
    revisions: BTreeSet<u64>,
}

impl Normaliser {
    pub fn new(space: &str) -> Self {
        Self {
            space: space.to_owned(),
            names: BTreeMap::new(),
            revisions: BTreeSet::new(),
        }
    }

    /// The answers of a script as they are compared.
    pub fn transcript(mut self, answers: &[(u16, Value)]) -> Vec<Value> {
        for (_, body) in answers {
            self.collect(body);
        }
        let ranks: BTreeMap<String, usize> = self
            .revisions
            .iter()
            .enumerate()
            .map(|(rank, revision)| (revision.to_string(), rank))
            .collect();
        answers
            .iter()
            .map(|(code, body)| json!({"code": code, "body": self.tree(body, "", &ranks)}))
            .collect()
    }

    /// Notes the revisions of objects. Lists and bookmarks carry the revision of the whole cluster, which
    /// counts the writes of others too.
    fn collect(&mut self, body: &Value) {
        match body {
            Value::Object(map) => {
                let meta = &body["metadata"];
                if meta["uid"].is_string()
                    && let Some(revision) = meta["resourceVersion"]
                        .as_str()
                        .and_then(|text| text.parse().ok())
                {
                    self.revisions.insert(revision);
                }
                map.values().for_each(|value| self.collect(value));
            }
            Value::Array(items) => items.iter().for_each(|item| self.collect(item)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    fn symbol(&mut self, kind: &str, text: &str) -> Value {
        let count = self
            .names
            .values()
            .filter(|name| name.starts_with(kind))
            .count();
        let name = self
            .names
            .entry(text.to_owned())
            .or_insert_with(|| format!("{kind}-{count}"));
        Value::from(name.as_str())
    }

    fn tree(&mut self, value: &Value, key: &str, ranks: &BTreeMap<String, usize>) -> Value {
        match value {
            Value::Object(map)
                if map.get("kind") == Some(&json!("Status")) && map.contains_key("metadata") =>
            {
                self.status(value)
            }
            Value::Object(map) => self.object(map, ranks),
            Value::Array(items) if key == "managedFields" => {
                let mut entries: Vec<Value> = items
                    .iter()
                    .map(|item| self.tree(item, "", ranks))
                    .collect();
                entries.sort_by_key(|entry| {
                    ["operation", "manager", "apiVersion", "subresource"]
                        .map(|field| entry[field].to_string())
                });
                Value::Array(entries)
            }
            Value::Array(items) => items
                .iter()
                .map(|item| self.tree(item, key, ranks))
                .collect(),
            Value::String(text) => self.text(text, key, ranks),
            Value::Number(_) if key == "nodePort" => json!("port"),
            Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
        }
    }

    fn object(&mut self, map: &Map<String, Value>, ranks: &BTreeMap<String, usize>) -> Value {
        let mut result = Map::new();
        // lists and bookmarks carry the revision of the whole cluster
        let whole = map.contains_key("items") || map.get("type") == Some(&json!("BOOKMARK"));
        let none = BTreeMap::new();
        for (key, value) in map {
            if key == "message" || key == "selfLink" {
                continue;
            }
            let ranks = if whole && matches!(key.as_str(), "metadata" | "object") {
                &none
            } else {
                ranks
            };
            result.insert(key.clone(), self.tree(value, key, ranks));
        }
        if let (Some(prefix), Some(Value::String(name))) =
            (map.get("generateName"), result.get("name").cloned())
        {
            let prefix = prefix.as_str().unwrap_or_default();
            if name.len() == prefix.len() + 5 && name.starts_with(prefix) {
                result.insert("name".into(), self.symbol("generated", &name));
            }
        }
        Value::Object(result)
    }

    fn text(&mut self, text: &str, key: &str, ranks: &BTreeMap<String, usize>) -> Value {
        match key {
            "uid" => return self.symbol("uid", text),
            "resourceVersion" => {
                return ranks
                    .get(text)
                    .map_or_else(|| json!("rv"), |rank| json!(format!("rv-{rank}")));
            }
            "clusterIP" | "clusterIPs" if text.starts_with("10.96.") => {
                return self.symbol("ip", text);
            }
            "continue" if !text.is_empty() => return json!("token"),
            _ => {}
        }
        if text.len() >= 20 && text.parse::<jiff::Timestamp>().is_ok() {
            return json!("time");
        }
        Value::from(text.replace(&self.space, "$ns"))
    }

    /// Of a refusal counts what a program can read, not the words.
    fn status(&mut self, status: &Value) -> Value {
        let details = &status["details"];
        let causes: Option<Vec<Value>> = details["causes"].as_array().map(|causes| {
            let mut causes: Vec<Value> = causes
                .iter()
                .map(|cause| json!([cause["reason"], cause["field"]]))
                .collect();
            causes.sort_by_key(Value::to_string);
            causes
        });
        let plain = |value: &Value| value.as_str().map(|text| text.replace(&self.space, "$ns"));
        json!({
            "status": status["status"], "reason": status["reason"], "code": status["code"], "causes": causes,
            "group": plain(&details["group"]), "kind": details["kind"], "name": plain(&details["name"]),
            "continue": status["metadata"]["continue"].is_string(),
        })
    }
}

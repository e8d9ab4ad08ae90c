//! The live route with other weights, and nothing else changed: for when a Canary's spec was
//! edited to something that describes no route, while users are on the canary.

use serde_json::{Map, Value, json};

use super::{Names, Traffic};
use crate::object::{At, Object, Want};

/// How a route API spells rules and backends.
pub(super) struct Spelling {
    /// Fields of the spec that hold lists of rules.
    pub rules: &'static [&'static str],
    /// Field of a rule that holds its backends.
    pub backends: &'static str,
    /// JSON pointer to the name in a backend.
    pub name: &'static str,
    /// Field of a backend with what is done to its requests and responses.
    pub changes: &'static str,
    /// Takes copies of requests to this backend out of a rule.
    pub unmirror: fn(&mut Map<String, Value>, &str),
}

/// The route with the canary's weight as wanted. `None` when it does not name the canary, or
/// while an A/B test runs, whose weights do not change.
pub(super) fn reweigh(
    route: &Object,
    spelling: &Spelling,
    names: &Names,
    traffic: &Traffic,
) -> Option<Want> {
    if traffic.ab {
        return None;
    }
    let body = route.body.read();
    let mut spec = Map::new();
    for field in spelling.rules {
        let rules = body.get("spec").and_then(|spec| spec.get(field));
        let Some(mut rules) = rules.and_then(Value::as_array).cloned() else {
            continue;
        };
        // Rules before the last that names the canary are for users with cookies.
        let Some(last) = rules
            .iter()
            .rposition(|rule| spelling.has(rule, &names.canary))
        else {
            continue;
        };
        for (index, rule) in rules.iter_mut().enumerate() {
            let holds_canary = spelling.has(rule, &names.canary);
            let concerned = match traffic.canary() {
                0 => holds_canary,
                100 => holds_canary || spelling.has(rule, &names.primary),
                _ => index == last,
            };
            if let Some(rule) = rule.as_object_mut() {
                if concerned {
                    spelling.split(rule, names, traffic.canary());
                }
                if !traffic.mirrors() {
                    (spelling.unmirror)(rule, &names.canary);
                }
            }
        }
        spec.insert((*field).to_owned(), Value::Array(rules));
    }
    (!spec.is_empty()).then(|| Want::new(route.key.clone(), json!({ "spec": spec })))
}

impl Spelling {
    fn is(&self, backend: &Value, name: &str) -> bool {
        backend.at(self.name).and_then(Value::as_str) == Some(name)
    }

    fn has(&self, rule: &Value, name: &str) -> bool {
        rule.get(self.backends)
            .and_then(Value::as_array)
            .is_some_and(|all| all.iter().any(|backend| self.is(backend, name)))
    }

    /// Divides a rule's requests between primary and canary; backends of others keep theirs.
    fn split(&self, rule: &mut Map<String, Value>, names: &Names, canary: i32) {
        let Some(backends) = rule.get_mut(self.backends).and_then(Value::as_array_mut) else {
            return;
        };
        for (name, model) in [
            (&names.primary, &names.canary),
            (&names.canary, &names.primary),
        ] {
            if backends.iter().any(|backend| self.is(backend, name)) {
                continue;
            }
            let Some(mut added) = backends.iter().find(|b| self.is(b, model)).cloned() else {
                return;
            };
            if let Some(place) = added.pointer_mut(self.name) {
                *place = json!(name);
            }
            if let Some(fields) = added.as_object_mut() {
                fields.remove(self.changes);
                fields.insert("weight".to_owned(), json!(0));
            }
            backends.push(added);
        }
        let weight = |backend: &Value| backend.get("weight").and_then(Value::as_i64);
        let total = if backends.len() == 2 {
            100
        } else {
            backends
                .iter()
                .filter(|b| self.is(b, &names.primary) || self.is(b, &names.canary))
                .filter_map(weight)
                .sum()
        };
        let canary = total * i64::from(canary) / 100;
        for backend in backends {
            let weight = if self.is(backend, &names.canary) {
                canary
            } else if self.is(backend, &names.primary) {
                total - canary
            } else {
                continue;
            };
            if let Some(fields) = backend.as_object_mut() {
                fields.insert("weight".to_owned(), json!(weight));
            }
        }
    }
}

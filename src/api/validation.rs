//! Whether a manifest is admitted: the rules of the API server, and what they cannot say.

use std::collections::BTreeMap;

use regex::Regex;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Canary, MetricTemplate, crds, istio::StringMatch};
use crate::schema::{
    Fault, Schema,
    metadata::{self, NameRule},
    names::is_dns_label,
    plain_numbers,
};

/// API group of the custom resources.
const GROUP: &str = "flagger.app";

/// The rules of admission for all custom resources.
#[derive(Debug)]
pub struct Admission {
    schemas: BTreeMap<String, Schema>,
}

/// What admission says of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Why the object is refused; empty when it is admitted.
    pub faults: Vec<Fault>,
    /// Paths of fields that the server drops because it does not know them.
    pub dropped: Vec<String>,
}

impl Admission {
    /// Reads the rules out of the `CustomResourceDefinition`s.
    ///
    /// # Errors
    /// When a schema cannot be applied. A test shows that those of this version can.
    pub fn new() -> Result<Self, Fault> {
        let mut schemas = BTreeMap::new();
        for crd in crds::crds() {
            for version in crd.spec.versions {
                let schema = version.schema.and_then(|schema| schema.open_api_v3_schema);
                let schema = serde_json::to_value(schema).map_err(|error| Fault {
                    path: crd.spec.names.kind.clone(),
                    found: "a schema that is no JSON".to_owned(),
                    action: error.to_string(),
                })?;
                let schema = Schema::read(&schema)?;
                schemas.insert(crd.spec.names.kind.clone(), schema);
            }
        }
        Ok(Self { schemas })
    }

    /// Judges an object as the API server and the operator would, and changes it as the server
    /// does on entry. `None` when the object is of another API group.
    pub fn judge(&self, object: &mut Value) -> Option<Verdict> {
        let text = |name| object.get(name).and_then(Value::as_str).unwrap_or_default();
        let (version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
        if version.split('/').next() != Some(GROUP) {
            return None;
        }
        let Some(schema) = self
            .schemas
            .get(&kind)
            .filter(|_| version == "flagger.app/v1beta1")
        else {
            let kinds: Vec<&str> = self.schemas.keys().map(String::as_str).collect();
            return Some(Verdict {
                faults: vec![Fault {
                    path: "apiVersion".to_owned(),
                    found: format!("{version} {kind}"),
                    action: format!("write flagger.app/v1beta1 and one of {}", kinds.join(", ")),
                }],
                dropped: Vec::new(),
            });
        };
        let dropped = match schema.settle(object, None) {
            Ok(dropped) => dropped,
            Err(fault) => {
                return Some(Verdict {
                    faults: vec![fault],
                    dropped: Vec::new(),
                });
            }
        };
        plain_numbers(object);
        let found = metadata::violations(object, NameRule::Subdomain, true).into_iter();
        let mut faults: Vec<Fault> = found.map(|violation| violation.fault).collect();
        faults.extend(namespace_fault(object));
        faults.extend(schema.validate(object));
        if faults.is_empty() {
            faults = match kind.as_str() {
                "Canary" => read(object, self::faults),
                "MetricTemplate" => read(object, template_faults),
                _ => Vec::new(),
            };
        }
        Some(Verdict { faults, dropped })
    }
}

/// What is wrong with an object of the right shape.
fn read<T: DeserializeOwned>(object: &Value, judge: impl FnOnce(&T) -> Vec<Fault>) -> Vec<Fault> {
    match T::deserialize(object) {
        Ok(object) => judge(&object),
        // Nothing that the schema admits comes here; a test generates it.
        Err(error) => vec![Fault {
            path: String::new(),
            found: "what cannot be read".to_owned(),
            action: error.to_string(),
        }],
    }
}

/// What is wrong with the namespace of an object.
fn namespace_fault(object: &Value) -> Option<Fault> {
    let namespace = object.get("metadata")?.get("namespace")?.as_str()?;
    let fits = namespace.is_empty() || (namespace.len() <= 63 && is_dns_label(namespace));
    (!fits).then(|| Fault {
        path: "metadata.namespace".to_owned(),
        found: format!("{namespace:?}"),
        action: "write a name of a-z, 0-9 and -".to_owned(),
    })
}

/// What is wrong with an admitted Canary for reasons that a schema cannot tell. The operator asks
/// for each Canary that it sees; an empty list means that a release can start.
pub fn faults(canary: &Canary) -> Vec<Fault> {
    let comparisons = comparisons(canary).into_iter();
    let metrics = canary.spec.analysis.metrics.iter().flatten().enumerate();
    let queries = metrics.filter_map(|(index, metric)| {
        let path = format!("spec.analysis.metrics[{index}].query");
        query_fault(path, metric.query.as_deref()?)
    });
    comparisons
        .filter_map(|(path, comparison)| regex_fault(&path, comparison.regex.as_deref()?))
        .chain(queries)
        .chain(judge_faults(canary))
        .collect()
}

/// What is wrong with `spec.analysis.judge`.
fn judge_faults(canary: &Canary) -> Vec<Fault> {
    let analysis = &canary.spec.analysis;
    let setting = analysis.judge_fault().map(|(field, why)| Fault {
        path: format!("spec.analysis.judge.{field}"),
        found: why,
        action: "correct the setting, or remove it for its default".to_owned(),
    });
    let metrics = analysis.judge.iter().flat_map(|judge| &judge.metrics);
    let queries = metrics.flatten().enumerate().flat_map(|(index, metric)| {
        [("query", &metric.query), ("total", &metric.total)].map(|(name, query)| {
            let path = format!("spec.analysis.judge.metrics[{index}].{name}");
            query_fault(path, query.as_deref()?)
        })
    });
    setting.into_iter().chain(queries.flatten()).collect()
}

/// What is wrong with a regular expression.
fn regex_fault(path: &str, pattern: &str) -> Option<Fault> {
    let error = Regex::new(pattern).err()?.to_string();
    // The last line says what is wrong; those before draw a picture.
    let reason = error.lines().last().unwrap_or_default().trim();
    let reason = reason.trim_start_matches("error: ");
    Some(Fault {
        path: format!("{path}.regex"),
        found: format!("{pattern:?}"),
        action: format!("write a regular expression: {reason}"),
    })
}

/// What is wrong with an admitted `MetricTemplate` for reasons that a schema cannot tell.
pub fn template_faults(template: &MetricTemplate) -> Vec<Fault> {
    let spec = &template.spec;
    let total = spec.total.as_deref();
    query_fault("spec.query".to_owned(), &spec.query)
        .into_iter()
        .chain(total.and_then(|total| query_fault("spec.total".to_owned(), total)))
        .collect()
}

/// What is wrong with a query.
fn query_fault(path: String, query: &str) -> Option<Fault> {
    unknown_expression(query).map(|expression| Fault {
        path,
        found: format!("{{{{ {expression} }}}}"),
        action: format!("use {{{{ NAME }}}} with one of {}", EXPRESSIONS.join(", ")),
    })
}

/// All string comparisons of a Canary with their paths.
fn comparisons(canary: &Canary) -> Vec<(String, &StringMatch)> {
    let service = canary.spec.service.as_ref();
    let places = [
        (
            "spec.service.match",
            service.and_then(|s| s.matches.as_ref()),
        ),
        ("spec.analysis.match", canary.spec.analysis.matches.as_ref()),
    ];
    let mut all = Vec::new();
    for (place, matches) in places {
        for (index, entry) in matches.into_iter().flatten().enumerate() {
            let single = [
                ("uri", &entry.uri),
                ("scheme", &entry.scheme),
                ("method", &entry.method),
                ("authority", &entry.authority),
            ];
            for (name, comparison) in single {
                all.extend(
                    comparison
                        .iter()
                        .map(|c| (format!("{place}[{index}].{name}"), c)),
                );
            }
            let maps = [
                ("headers", &entry.headers),
                ("queryParams", &entry.query_params),
                ("withoutHeaders", &entry.without_headers),
            ];
            for (name, map) in maps {
                for (key, comparison) in map.iter().flatten() {
                    all.push((format!("{place}[{index}].{name}[{key}]"), comparison));
                }
            }
        }
    }
    all
}

/// What a query can refer to between `{{` and `}}`.
const EXPRESSIONS: [&str; 8] = [
    "name",
    "namespace",
    "target",
    "service",
    "ingress",
    "route",
    "interval",
    "variables.KEY",
];

/// The first expression of a query that is not known.
fn unknown_expression(query: &str) -> Option<String> {
    query.split("{{").skip(1).find_map(|part| {
        let Some((expression, _)) = part.split_once("}}") else {
            return Some(part.chars().take(20).collect());
        };
        let expression = expression
            .trim_start_matches('-')
            .trim_end_matches('-')
            .trim();
        let known = EXPRESSIONS.contains(&expression)
            || expression
                .strip_prefix("variables.")
                .is_some_and(|key| !key.is_empty());
        (!known).then(|| expression.to_owned())
    })
}

#[cfg(test)]
#[path = "validation_tests.rs"]
mod tests;

//! Crashes at every write: a release must end as it does without them.

use std::{collections::BTreeMap, sync::Mutex, thread};

use serde_json::{Value, json};

use super::{
    operator::Cut,
    rollout::{Recording, Release, RolloutError, perform},
    server::{ApiServer, Call},
};
use crate::api::FLAGGER_ID;

/// What a world came to, as far as users and operators can tell: objects by kind and name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndState(BTreeMap<String, Value>);

/// Kinds that are compared.
const KINDS: [(&str, &str); 9] = [
    ("flagger.app", "canaries"),
    ("apps", "deployments"),
    ("apps", "daemonsets"),
    ("", "services"),
    ("", "configmaps"),
    ("networking.istio.io", "virtualservices"),
    ("networking.istio.io", "destinationrules"),
    ("gateway.networking.k8s.io", "httproutes"),
    ("autoscaling", "horizontalpodautoscalers"),
];

impl EndState {
    /// The state of a cluster now.
    pub fn of(server: &ApiServer) -> Self {
        let copies = copies(server);
        let mut objects = BTreeMap::new();
        for (group, plural) in KINDS {
            for object in server.list(group, plural, "") {
                let mut object = object.value().clone();
                let metadata = &object["metadata"];
                let (namespace, name) = (text(&metadata["namespace"]), text(&metadata["name"]));
                let own = copies.get(&(namespace.to_owned(), name.to_owned()));
                let name = own
                    .filter(|_| plural == "configmaps")
                    .map_or(name, String::as_str);
                let name = format!("{plural} {namespace}/{name}");
                let namespace = namespace.to_owned();
                name_copies(&mut object["spec"]["template"]["spec"], &|name| {
                    copies.get(&(namespace.clone(), name.to_owned())).cloned()
                });
                objects.insert(name, lasting(&object));
            }
        }
        Self(objects)
    }

    /// What lasts of an object, such as `deployments default/shop`.
    pub fn object(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// What is different, one line for each object.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(other.0.keys()).collect();
        names
            .into_iter()
            .filter_map(|name| match (self.0.get(name), other.0.get(name)) {
                (Some(a), Some(b)) if a == b => None,
                (Some(a), Some(b)) => {
                    let change = crate::object::merge_diff(a, b).unwrap_or_default();
                    Some(format!("{name} has {change}"))
                }
                (Some(_), None) => Some(format!("{name} is missing")),
                (None, _) => Some(format!("{name} is too much")),
            })
            .collect()
    }
}

/// How copies of ConfigMaps would be called if each had its Canary's name in its own, by namespace
/// and name. Of two Canaries that use one ConfigMap whoever comes first gets the shorter name for
/// its copy, and so it may be the one or the other.
fn copies(server: &ApiServer) -> BTreeMap<(String, String), String> {
    let mut copies = BTreeMap::new();
    for map in server.list("", "configmaps", "") {
        let owners = map.value()["metadata"]["ownerReferences"].as_array();
        let mut owners = owners.into_iter().flatten();
        let Some(owner) = owners.find(|owner| owner["kind"] == "Canary") else {
            continue;
        };
        let (name, owner) = (map.name(), text(&owner["name"]));
        let Some((source, end)) = name.rsplit_once("-primary") else {
            continue;
        };
        let longer = format!("-{owner}");
        let source = source.strip_suffix(&longer).unwrap_or(source);
        let key = (map.namespace().to_owned(), name.to_owned());
        copies.insert(key, format!("{source}-{owner}-primary{end}"));
    }
    copies
}

/// Gives the ConfigMaps that a pod spec uses the names that they would have.
fn name_copies(spec: &mut Value, named: &impl Fn(&str) -> Option<String>) {
    match spec {
        Value::Object(fields) => {
            for (field, value) in fields {
                let reference = ["configMap", "configMapRef", "configMapKeyRef"];
                if reference.contains(&field.as_str())
                    && let Some(name) = value["name"].as_str().and_then(named)
                {
                    value["name"] = json!(name);
                }
                name_copies(value, named);
            }
        }
        Value::Array(elements) => {
            for element in elements {
                name_copies(element, named);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What stays the same from run to run: no identities, versions, addresses and times.
fn lasting(object: &Value) -> Value {
    let mut spec = object["spec"].clone();
    if let Some(annotations) = spec.pointer_mut("/template/metadata/annotations") {
        // Of the Canary's identity, among others.
        annotations
            .as_object_mut()
            .map(|annotations| annotations.remove(FLAGGER_ID));
    }
    if let Some(spec) = spec.as_object_mut() {
        for field in ["clusterIP", "clusterIPs"] {
            spec.remove(field);
        }
    }
    let status = &object["status"];
    let mut kept = json!({
        "labels": object["metadata"]["labels"], "spec": spec, "data": object["data"],
    });
    for field in [
        "phase",
        "canaryWeight",
        "failedChecks",
        "iterations",
        "lastAppliedSpec",
        "lastPromotedSpec",
        "trackedConfigs",
        "scaledDown",
        "replicas",
        "availableReplicas",
    ] {
        if !status[field].is_null() {
            kept[field] = status[field].clone();
        }
    }
    kept
}

/// A crash after which a release ended otherwise.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// Where the operator was cut off.
    pub cut: Cut,
    /// What it was about to write, or had written.
    pub write: String,
    /// What came of it.
    pub differences: Vec<String>,
}

/// What crashes at every write came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Crashes that were tried.
    pub crashes: usize,
    /// Those that mattered.
    pub divergences: Vec<Divergence>,
}

/// Tries a release once without a crash, then once for each write and each side of it, and
/// compares how they end. Every `stride`-th write is tried; all of them when it is 1.
///
/// # Errors
/// When the release cannot begin.
pub fn enumerate(release: &Release, stride: usize) -> Result<Report, RolloutError> {
    let calm = perform(release)?;
    let cuts: Vec<Cut> = (1_u64..)
        .take(calm.writes.len())
        .step_by(stride.max(1))
        .flat_map(|write| [false, true].map(|after| Cut { write, after }))
        .collect();
    let waiting = Mutex::new(cuts.clone().into_iter());
    let next = || waiting.lock().ok().and_then(|mut cuts| cuts.next());
    let worker = || {
        let mut found = Vec::new();
        while let Some(cut) = next() {
            found.extend(crash(release, &calm, cut));
        }
        found
    };
    let count = thread::available_parallelism().map_or(1, usize::from);
    let mut divergences: Vec<Divergence> = thread::scope(|scope| {
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(worker)).collect();
        workers
            .into_iter()
            .filter_map(|worker| worker.join().ok())
            .flatten()
            .collect()
    });
    divergences.sort_by_key(|divergence| divergence.cut);
    Ok(Report {
        crashes: cuts.len(),
        divergences,
    })
}

fn crash(release: &Release, calm: &Recording, cut: Cut) -> Option<Divergence> {
    let index = usize::try_from(cut.write).unwrap_or_default();
    let write = calm.writes.get(index.saturating_sub(1)).map(said);
    let crashed = perform(&Release {
        cut: Some(cut),
        ..release.clone()
    });
    let differences = match crashed {
        Err(error) => vec![error.to_string()],
        Ok(crashed) => {
            let mut found = calm.end.differences(&crashed.end);
            if crashed.verdict != calm.verdict {
                found.push(format!("{:?}, not {:?}", crashed.verdict, calm.verdict));
            }
            if crashed.figures.dropped > calm.figures.dropped {
                found.push(format!("{} requests dropped", crashed.figures.dropped));
            }
            found
        }
    };
    (!differences.is_empty()).then(|| Divergence {
        cut,
        write: write.unwrap_or_default(),
        differences,
    })
}

fn said(call: &Call) -> String {
    let sub = call.subresource.map_or("", |sub| sub.as_str());
    format!(
        "{} {} {} {sub}",
        call.verb.as_str(),
        call.resource,
        call.name
    )
}

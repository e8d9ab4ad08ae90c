//! What Deployments, ReplicaSets and Services do, as far as releases notice.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use haldane::object::{Key, Kind, Object};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::toy::image;

/// Seconds from a pod's birth to its readiness.
const START: i64 = 5;

/// Which pods do not get ready.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Deployment and image of pods that never become ready.
    pub broken: BTreeSet<(String, String)>,
    /// Deployments whose pods are not ready now, whatever they run.
    pub down: BTreeSet<String>,
}

#[derive(Clone, Debug, Default)]
pub struct Workloads {
    pub faults: Faults,
    deployments: BTreeMap<String, Deployment>,
}

#[derive(Clone, Debug, Default)]
struct Deployment {
    uid: String,
    sets: Vec<Set>,
    /// When a new set was made or a pod became ready.
    progressed: Option<Timestamp>,
    available_before: usize,
    unavailable_since: Option<Timestamp>,
    stalled: Option<Timestamp>,
}

#[derive(Clone, Debug)]
struct Set {
    name: String,
    number: u32,
    template: Value,
    image: String,
    pods: Vec<Pod>,
}

#[derive(Clone, Debug)]
struct Pod {
    name: String,
    born: Timestamp,
}

impl Workloads {
    /// Reacts to what the objects ask for; gives the Deployments whose status changed.
    pub fn step(&mut self, objects: &BTreeMap<Key, Value>, now: Timestamp) -> Vec<(Key, Value)> {
        let mut changed = Vec::new();
        let faults = self.faults.clone();
        self.forget_gone(objects);
        for (key, object) in objects
            .iter()
            .filter(|(key, _)| key.kind == Kind::Deployment)
        {
            let deployment = self.deployments.entry(key.name.clone()).or_default();
            object["metadata"]["uid"]
                .as_str()
                .unwrap()
                .clone_into(&mut deployment.uid);
            let next = deployment.step(&key.name, object, &faults, now);
            if next != *object {
                changed.push((key.clone(), next));
            }
        }
        changed
    }

    /// Templates are told apart as the server shows them, with the defaults that it has now.
    pub fn default_templates(&mut self, default: &Value) {
        let deployments = self.deployments.values_mut();
        for set in deployments.flat_map(|deployment| &mut deployment.sets) {
            json_patch::merge(&mut set.template, default);
        }
    }

    /// Pods go with their Deployment.
    pub fn forget_gone(&mut self, objects: &BTreeMap<Key, Value>) {
        self.deployments.retain(|name, deployment| {
            objects
                .get(&Key::new(Kind::Deployment, "test", name.clone()))
                .is_some_and(|o| o["metadata"]["uid"] == json!(deployment.uid))
        });
    }

    /// When something will change by itself.
    pub fn next_event(&self, objects: &BTreeMap<Key, Value>, now: Timestamp) -> Option<Timestamp> {
        let mut events = Vec::new();
        for (name, deployment) in &self.deployments {
            for pod in deployment.sets.iter().flat_map(|set| &set.pods) {
                events.push(pod.born + SignedDuration::from_secs(START));
            }
            let object = &objects[&Key::new(Kind::Deployment, "test", name.clone())];
            events.extend(deployment.deadline(object));
        }
        events.into_iter().filter(|time| *time > now).min()
    }

    pub fn replica_sets(
        &self,
        objects: &BTreeMap<Key, Value>,
    ) -> BTreeMap<String, Vec<Arc<Object>>> {
        self.deployments
            .iter()
            .map(|(name, deployment)| {
                let owner = &objects[&Key::new(Kind::Deployment, "test", name.clone())]["metadata"]["uid"];
                let sets = deployment
                    .sets
                    .iter()
                    .map(|set| {
                        read(Kind::ReplicaSet, json!({"metadata": {
                            "name": set.name, "namespace": "test",
                            "uid": set.name, "resourceVersion": "1",
                            "annotations": {"deployment.kubernetes.io/revision": set.number.to_string()},
                            "ownerReferences": [{
                                "kind": "Deployment", "name": name, "uid": owner, "controller": true,
                            }],
                        }}))
                    })
                    .collect();
                (name.clone(), sets)
            })
            .collect()
    }

    pub fn slices(&self, objects: &BTreeMap<Key, Value>) -> BTreeMap<String, Vec<Arc<Object>>> {
        objects
            .iter()
            .filter(|(key, _)| key.kind == Kind::Service)
            .map(|(key, service)| {
                let endpoints: Vec<Value> = self
                    .behind(objects, service)
                    .map(|(pod, ready)| json!({
                        "conditions": {"ready": ready},
                        "targetRef": {"kind": "Pod", "name": pod},
                    }))
                    .collect();
                let slice = read(Kind::EndpointSlice, json!({
                    "metadata": {
                        "name": key.name, "namespace": "test", "uid": "slice", "resourceVersion": "1",
                    },
                    "endpoints": endpoints,
                }));
                (key.name.clone(), vec![slice])
            })
            .collect()
    }

    /// Pods that a service selects, with their readiness.
    fn behind<'a>(
        &'a self,
        objects: &'a BTreeMap<Key, Value>,
        service: &'a Value,
    ) -> impl Iterator<Item = (&'a str, bool)> {
        self.deployments.iter().flat_map(move |(name, deployment)| {
            let object = &objects[&Key::new(Kind::Deployment, "test", name.clone())];
            // Pods carry their readiness by the status of their Deployment.
            let ready = object["status"]["readyPods"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            deployment
                .sets
                .iter()
                .filter(move |set| selects(service, &set.template))
                .flat_map(move |set| {
                    let ready = ready.clone();
                    set.pods
                        .iter()
                        .map(move |pod| (pod.name.as_str(), ready.iter().any(|n| *n == pod.name)))
                })
        })
    }

    /// Ready pods behind a service of a given image, or of any.
    pub fn ready(&self, objects: &BTreeMap<Key, Value>, service: &str, of: Option<&str>) -> usize {
        let Some(service) = objects.get(&Key::new(Kind::Service, "test", service)) else {
            return 0;
        };
        let pods: BTreeMap<&str, &str> = self
            .deployments
            .values()
            .flat_map(|d| &d.sets)
            .flat_map(|set| {
                set.pods
                    .iter()
                    .map(|pod| (pod.name.as_str(), set.image.as_str()))
            })
            .collect();
        self.behind(objects, service)
            .filter(|(pod, ready)| *ready && of.is_none_or(|of| pods[pod] == of))
            .count()
    }
}

impl Deployment {
    fn deadline(&self, object: &Value) -> Option<Timestamp> {
        let seconds = object["spec"]["progressDeadlineSeconds"]
            .as_i64()
            .unwrap_or(600);
        (self.unavailable_since.is_some() && self.stalled.is_none()).then(|| {
            self.progressed
                .map(|t| t + SignedDuration::from_secs(seconds))
        })?
    }

    fn step(&mut self, name: &str, object: &Value, faults: &Faults, now: Timestamp) -> Value {
        let wanted = usize::try_from(object["spec"]["replicas"].as_i64().unwrap_or(1)).unwrap();
        let template = object["spec"]["template"].clone();
        let image = image(object);
        let latest = self.sets.iter().map(|set| set.number).max().unwrap_or(0);
        let current = self.sets.iter().position(|set| set.template == template);
        let index = current.unwrap_or(self.sets.len());
        if current.is_none_or(|index| self.sets[index].number != latest) {
            let number = latest + 1;
            self.progressed = Some(now);
            self.stalled = None;
            match current {
                Some(index) => self.sets[index].number = number,
                None => self.sets.push(Set {
                    name: format!("{name}-r{number}"),
                    number,
                    template,
                    image,
                    pods: Vec::new(),
                }),
            }
        }
        let set = &mut self.sets[index];
        while set.pods.len() < wanted {
            let pod = format!("{}-p{}x{}", set.name, set.pods.len(), now.as_second());
            set.pods.push(Pod {
                name: pod,
                born: now,
            });
            if self.progressed.is_none_or(|t| t < now) && self.stalled.is_none() {
                self.progressed = Some(now);
            }
        }
        set.pods.truncate(wanted);
        let is_ready = |set: &Set, pod: &Pod| {
            now >= pod.born + SignedDuration::from_secs(START)
                && !faults.down.contains(name)
                && !faults
                    .broken
                    .contains(&(name.to_owned(), set.image.clone()))
        };
        let set = &self.sets[index];
        let updated = set.pods.len();
        let available = set.pods.iter().filter(|pod| is_ready(set, pod)).count();
        // Old pods go as new ones become ready.
        let mut old_left = wanted - available.min(wanted);
        for (at, old) in self.sets.iter_mut().enumerate() {
            if at != index {
                old.pods.truncate(old_left);
                old_left -= old.pods.len();
            }
        }
        let all_ready: Vec<&str> = self
            .sets
            .iter()
            .flat_map(|set| set.pods.iter().map(move |pod| (set, pod)))
            .filter(|(set, pod)| is_ready(set, pod))
            .map(|(_, pod)| pod.name.as_str())
            .collect();
        let total: usize = self.sets.iter().map(|set| set.pods.len()).sum();
        if available > self.available_before {
            self.progressed = Some(now);
            self.stalled = None;
        }
        self.available_before = available;
        let complete = available >= wanted && total == updated;
        if complete {
            self.unavailable_since = None;
            self.stalled = None;
        } else {
            self.unavailable_since.get_or_insert(now);
            let seconds = object["spec"]["progressDeadlineSeconds"]
                .as_i64()
                .unwrap_or(600);
            if self
                .progressed
                .is_some_and(|t| now >= t + SignedDuration::from_secs(seconds))
            {
                self.stalled.get_or_insert(now);
            }
        }
        let number = self.sets[index].number;
        let mut next = object.clone();
        next["metadata"]["annotations"]["deployment.kubernetes.io/revision"] =
            json!(number.to_string());
        next["status"] = json!({
            "observedGeneration": object["metadata"]["generation"],
            "replicas": total, "updatedReplicas": updated,
            "readyReplicas": all_ready.len(), "availableReplicas": all_ready.len(),
            "readyPods": all_ready,
            "conditions": self.conditions(all_ready.len() < wanted),
        });
        next
    }

    fn conditions(&self, is_short: bool) -> Value {
        let mut conditions = Vec::new();
        if let Some(since) = self.unavailable_since.filter(|_| is_short) {
            conditions.push(json!({
                "type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable",
                "lastUpdateTime": since.to_string(),
            }));
        }
        if let Some(since) = self.stalled {
            conditions.push(json!({
                "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                "lastUpdateTime": since.to_string(),
            }));
        }
        json!(conditions)
    }
}

fn selects(service: &Value, template: &Value) -> bool {
    let labels = &template["metadata"]["labels"];
    service["spec"]["selector"]
        .as_object()
        .is_some_and(|selector| selector.iter().all(|(key, value)| labels[key] == *value))
}

fn read(kind: Kind, value: Value) -> Arc<Object> {
    Arc::new(Object::read(kind, value).unwrap())
}

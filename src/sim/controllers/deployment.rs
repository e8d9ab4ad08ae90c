//! Deployments: one ReplicaSet per template, old ones give way as new pods become available.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Controllers, condition, integer, next_condition, owner_reference, text};
use crate::{
    object::{Json, map_of},
    sim::server::{DeleteOptions, Object},
};

/// Label of a template's digest.
const HASH: &str = "pod-template-hash";

/// Annotation that numbers templates.
const REVISION: &str = "deployment.kubernetes.io/revision";

const DEPLOYMENTS: (&str, &str) = ("apps", "deployments");
const REPLICA_SETS: (&str, &str) = ("apps", "replicasets");

/// What a Deployment's counts say about its rollout.
#[derive(Clone, Copy)]
struct Counts {
    /// All pods are new and available.
    complete: bool,
    /// Some count changed.
    moved: bool,
    /// No pod is an old one.
    all_updated: bool,
}

impl Controllers {
    pub(super) fn deployments(&mut self) {
        for deployment in self.server.list("apps", "deployments", "") {
            if !deployment.terminating() {
                let mut reads = self.owned_by(REPLICA_SETS, &deployment);
                let sets = reads.clone();
                if deployment.value()["spec"]["strategy"]["type"] == "Recreate" {
                    // New pods wait for the last old one to go.
                    let pods = sets.iter().map(|set| self.owned_by(("", "pods"), set));
                    reads.extend(pods.flatten().collect::<Vec<_>>());
                }
                self.look_at(&deployment, &reads, |this| {
                    this.deployment(&deployment, &sets);
                });
            }
        }
    }

    fn deployment(&mut self, deployment: &Arc<Object>, sets: &[Arc<Object>]) {
        let spec = &deployment.value()["spec"];
        let wanted = integer(spec, "/replicas").unwrap_or(1);
        let hash = self.hash(deployment);
        let is_new = |set: &Object| set.value()["metadata"]["labels"][HASH] == hash.as_str();
        let (new, mut old): (Vec<_>, Vec<_>) = sets.iter().cloned().partition(|set| is_new(set));
        old.sort_by_key(|set| number(set));
        let highest = old.iter().map(|set| number(set)).max().unwrap_or_default();
        let Some(new) = new.into_iter().next() else {
            if spec["paused"] != true {
                self.add_replica_set(deployment, &hash, highest + 1);
            }
            return;
        };
        if number(&new) <= highest {
            self.merge(REPLICA_SETS, &new, numbered(highest + 1));
        }
        let number = number(&new).max(highest + 1);
        if text(
            deployment.value(),
            "/metadata/annotations/deployment.kubernetes.io~1revision",
        ) != number.to_string()
        {
            self.merge(DEPLOYMENTS, deployment, numbered(number));
        }
        if spec["strategy"]["type"] == "Recreate" {
            self.recreate(&new, &old, wanted);
        } else {
            self.roll(spec, &new, &old, wanted);
        }
        self.forget_old(spec, &old);
        self.report_rollout(deployment, &new, &old, wanted);
    }

    /// The digest of a Deployment's template.
    fn hash(&mut self, deployment: &Object) -> String {
        let generation = integer(deployment.value(), "/metadata/generation").unwrap_or_default();
        let known = self.hashes.get(deployment.uid());
        if let Some((_, hash)) = known.filter(|(of, _)| *of == generation) {
            return hash.clone();
        }
        let hash = Json::of(&deployment.value()["spec"]["template"]).digest(5);
        let uid = deployment.uid().to_owned();
        self.hashes.insert(uid, (generation, hash.clone()));
        hash
    }

    fn add_replica_set(&self, deployment: &Object, hash: &str, number: i64) {
        let spec = &deployment.value()["spec"];
        let mut template = spec["template"].clone();
        template["metadata"]["labels"][HASH] = json!(hash);
        let mut selector = spec["selector"].clone();
        selector["matchLabels"][HASH] = json!(hash);
        let made = self.server.put(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {
                "name": format!("{}-{hash}", deployment.name()),
                "namespace": deployment.namespace(),
                "labels": template["metadata"]["labels"],
                "annotations": { REVISION: number.to_string() },
                "ownerReferences": owner_reference("Deployment", deployment),
            },
            "spec": {
                "replicas": 0, "selector": selector, "template": template,
                "minReadySeconds": integer(spec, "/minReadySeconds").unwrap_or_default(),
            },
        }));
        if let Err(refusal) = made {
            tracing::debug!(?refusal, "ReplicaSet not made");
        }
    }

    fn scale(&self, set: &Object, replicas: i64) {
        if replicas != size(set) {
            let mut spec = set.value()["spec"].clone();
            spec["replicas"] = json!(replicas);
            self.report(REPLICA_SETS, set, [("spec", spec)]);
        }
    }

    fn recreate(&self, new: &Object, old: &[Arc<Object>], wanted: i64) {
        for set in old {
            self.scale(set, 0);
        }
        let left: i64 = old
            .iter()
            .map(|set| self.owned_by(("", "pods"), set).len())
            .map(|pods| i64::try_from(pods).unwrap_or(i64::MAX))
            .sum();
        if left == 0 {
            self.scale(new, wanted);
        }
    }

    /// Makes new pods as far as the surge allows, ends old ones as far as availability allows.
    fn roll(&self, spec: &Value, new: &Object, old: &[Arc<Object>], wanted: i64) {
        let rolling = &spec["strategy"]["rollingUpdate"];
        let surge = share(&rolling["maxSurge"], wanted, true);
        let mut unavailable = share(&rolling["maxUnavailable"], wanted, false);
        if surge == 0 && unavailable == 0 {
            unavailable = 1;
        }
        let of_old: i64 = old.iter().map(|set| size(set)).sum();
        let of_new = size(new);
        let next = if of_new >= wanted {
            wanted
        } else {
            let room = wanted + surge - of_new - of_old;
            of_new + room.clamp(0, wanted - of_new)
        };
        if next != of_new {
            self.scale(new, next);
            return;
        }
        if of_old == 0 {
            return;
        }
        let least = wanted - unavailable;
        let new_unavailable = (of_new - available(new)).max(0);
        let mut spare = (of_old + of_new - least - new_unavailable).max(0);
        let mut free = available(new) + old.iter().map(|set| available(set)).sum::<i64>() - least;
        for set in old {
            // Pods that serve nobody go first; others while enough remain.
            let idle = (size(set) - available(set)).clamp(0, spare);
            spare -= idle;
            let serving = (size(set) - idle).min(free.max(0)).min(spare);
            spare -= serving;
            free -= serving;
            self.scale(set, size(set) - idle - serving);
        }
    }

    fn forget_old(&self, spec: &Value, old: &[Arc<Object>]) {
        let limit = integer(spec, "/revisionHistoryLimit").unwrap_or(10);
        let idle: Vec<_> = old
            .iter()
            .filter(|set| size(set) == 0 && count(set, "replicas") == 0 && !set.terminating())
            .collect();
        let surplus = idle
            .len()
            .saturating_sub(usize::try_from(limit).unwrap_or_default());
        for set in idle.into_iter().take(surplus) {
            let _ = self.server.delete(
                REPLICA_SETS,
                (set.namespace(), set.name()),
                &DeleteOptions::default(),
            );
        }
    }

    fn report_rollout(
        &mut self,
        deployment: &Object,
        new: &Object,
        old: &[Arc<Object>],
        wanted: i64,
    ) {
        let body = deployment.value();
        let spec = &body["spec"];
        let sum =
            |field: &str| count(new, field) + old.iter().map(|set| count(set, field)).sum::<i64>();
        let (all, ready, available) = (
            sum("replicas"),
            sum("readyReplicas"),
            sum("availableReplicas"),
        );
        let updated = count(new, "replicas");
        let unavailable = share(
            &spec["strategy"]["rollingUpdate"]["maxUnavailable"],
            wanted,
            false,
        );
        let enough = available >= wanted - unavailable;
        let now = self.now();
        let complete = updated == wanted && all == wanted && available == wanted;
        let moved = [
            "replicas",
            "updatedReplicas",
            "readyReplicas",
            "availableReplicas",
        ]
        .into_iter()
        .zip([all, updated, ready, available])
        .any(|(field, now)| body["status"][field].as_i64().unwrap_or(0) != now);
        let counts = Counts {
            complete,
            moved,
            all_updated: all == updated,
        };
        let progressing = self.progress(deployment, new, counts, &now);
        let (state, reason, has) = if enough {
            ("True", "MinimumReplicasAvailable", "has")
        } else {
            ("False", "MinimumReplicasUnavailable", "does not have")
        };
        let message = format!("Deployment {has} minimum availability.");
        let available_enough = next_condition(body, &now, ("Available", state, reason, message));
        let mut status = map_of([
            ("observedGeneration", body["metadata"]["generation"].clone()),
            (
                "conditions",
                Value::Array(vec![available_enough, progressing]),
            ),
        ]);
        for (field, value) in [
            ("replicas", all),
            ("updatedReplicas", updated),
            ("readyReplicas", ready),
            ("availableReplicas", available),
            ("unavailableReplicas", (wanted.max(all) - available).max(0)),
        ] {
            if value > 0 {
                status[field] = json!(value);
            }
        }
        self.write_status(DEPLOYMENTS, deployment, status);
    }

    /// The condition `Progressing`: its update time counts from the last progress.
    fn progress(
        &mut self,
        deployment: &Object,
        new: &Object,
        Counts {
            complete,
            moved,
            all_updated,
        }: Counts,
        now: &str,
    ) -> Value {
        let body = deployment.value();
        let name = new.name();
        let next = |status, reason, message| {
            next_condition(body, now, ("Progressing", status, reason, message))
        };
        let before = condition(body, "Progressing");
        let reason = before.map_or("", |before| text(before, "/reason"));
        let fresh = before.is_none_or(|before| !text(before, "/message").contains(name));
        if complete {
            return next(
                "True",
                "NewReplicaSetAvailable",
                format!("ReplicaSet \"{name}\" has successfully progressed."),
            );
        }
        if reason == "NewReplicaSetAvailable" && !fresh && all_updated {
            // Complete once: pods that come or go later do not make a rollout late.
            return before.cloned().unwrap_or_default();
        }
        if moved || fresh {
            let mut condition = next(
                "True",
                "ReplicaSetUpdated",
                format!("ReplicaSet \"{name}\" is progressing."),
            );
            condition["lastUpdateTime"] = json!(now);
            self.wake_when_late(deployment, now);
            return condition;
        }
        let before = before.cloned().unwrap_or_default();
        if reason != "ReplicaSetUpdated" {
            return before;
        }
        let since = text(&before, "/lastUpdateTime");
        if self.wake_when_late(deployment, since) {
            return next(
                "False",
                "ProgressDeadlineExceeded",
                format!("ReplicaSet \"{name}\" has timed out progressing."),
            );
        }
        before
    }

    /// Whether the progress deadline has passed; looks again when it does.
    fn wake_when_late(&mut self, deployment: &Object, since: &str) -> bool {
        let deadline = integer(deployment.value(), "/spec/progressDeadlineSeconds").unwrap_or(600);
        let Ok(since) = since.parse::<jiff::Timestamp>() else {
            return false;
        };
        let Ok(ends) = since.checked_add(jiff::SignedDuration::from_secs(deadline)) else {
            return false;
        };
        if ends <= self.clock.now() {
            return true;
        }
        self.wake_at(ends);
        false
    }
}

fn numbered(number: i64) -> Value {
    json!({"metadata": {"annotations": { REVISION: number.to_string() }}})
}

fn number(set: &Object) -> i64 {
    let text = set.value()["metadata"]["annotations"][REVISION].as_str();
    text.and_then(|text| text.parse().ok()).unwrap_or_default()
}

fn size(set: &Object) -> i64 {
    set.value()["spec"]["replicas"].as_i64().unwrap_or_default()
}

fn count(set: &Object, field: &str) -> i64 {
    set.value()["status"][field].as_i64().unwrap_or_default()
}

fn available(set: &Object) -> i64 {
    count(set, "availableReplicas").min(size(set))
}

/// A number of pods, given as such or in percent of all.
fn share(value: &Value, of: i64, up: bool) -> i64 {
    if let Some(count) = value.as_i64() {
        return count;
    }
    let percent: i64 = value
        .as_str()
        .and_then(|text| text.strip_suffix('%'))
        .and_then(|text| text.parse().ok())
        .unwrap_or_default();
    (of * percent + if up { 99 } else { 0 }) / 100
}

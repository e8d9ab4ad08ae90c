//! ReplicaSets: as many pods as they should have.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use super::{Controllers, integer, items, later, owner_reference, text};
use crate::sim::server::{DeleteOptions, Object};

const REPLICA_SETS: (&str, &str) = ("apps", "replicasets");

impl Controllers {
    pub(super) fn replica_sets(&mut self) {
        for set in self.server.list("apps", "replicasets", "") {
            let pods = self.owned_by(("", "pods"), &set);
            self.look_at(&set, &pods.clone(), |this| this.replica_set(&set, pods));
        }
    }

    fn replica_set(&mut self, set: &Arc<Object>, mut pods: Vec<Arc<Object>>) {
        let spec = &set.value()["spec"];
        let wanted = integer(spec, "/replicas").unwrap_or(1).max(0);
        let wanted = usize::try_from(wanted).unwrap_or_default();
        pods.retain(|pod| !pod.terminating());
        if !set.terminating() {
            for _ in pods.len()..wanted {
                self.add_pod("ReplicaSet", set, None);
            }
            if pods.len() > wanted {
                // Those that serve nobody go first, then the youngest.
                let mut order = pods.clone();
                order.sort_by_key(|pod| (is_ready(pod), std::cmp::Reverse(pod_number(pod))));
                for pod in order.iter().take(pods.len() - wanted) {
                    self.remove_pod(pod);
                }
            }
        }
        let (ready, available) = self.count_pods(&pods, spec);
        let mut status = json!({
            "replicas": pods.len(),
            "observedGeneration": set.value()["metadata"]["generation"],
        });
        for (field, value) in [
            ("fullyLabeledReplicas", pods.len()),
            ("readyReplicas", ready),
            ("availableReplicas", available),
        ] {
            if value > 0 {
                status[field] = json!(value);
            }
        }
        self.write_status(REPLICA_SETS, set, status);
    }

    /// How many pods are ready, and for long enough.
    pub(super) fn count_pods(&mut self, pods: &[Arc<Object>], spec: &Value) -> (usize, usize) {
        let least = integer(spec, "/minReadySeconds").unwrap_or_default();
        let least = Duration::from_secs(u64::try_from(least).unwrap_or_default());
        let (mut ready, mut available) = (0, 0);
        for pod in pods.iter().filter(|pod| is_ready(pod)) {
            ready += 1;
            let since = self.runs.get(pod.uid()).and_then(|run| run.ready);
            match since.map(|since| later(since, least)) {
                Some(at) if at > self.clock.now() => self.wake_at(at),
                Some(_) | None => available += 1,
            }
        }
        (ready, available)
    }

    pub(super) fn add_pod(&mut self, kind: &str, owner: &Object, node: Option<usize>) {
        let template = &owner.value()["spec"]["template"];
        let mut spec = template["spec"].clone();
        self.addresses += 1;
        let nodes = u32::try_from(self.nodes).unwrap_or(1).max(1);
        let node = node.map_or(self.addresses % nodes, |node| {
            u32::try_from(node).unwrap_or_default()
        });
        spec["nodeName"] = json!(format!("node-{node}"));
        let mut metadata = template["metadata"].clone();
        metadata["generateName"] = json!(format!("{}-", owner.name()));
        metadata["namespace"] = json!(owner.namespace());
        metadata["ownerReferences"] = owner_reference(kind, owner);
        let made = self.server.put(json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec,
        }));
        if let Err(refusal) = made {
            tracing::debug!(?refusal, "pod not made");
        }
    }

    pub(super) fn remove_pod(&self, pod: &Object) {
        let _ = self.server.delete(
            ("", "pods"),
            (pod.namespace(), pod.name()),
            &DeleteOptions::default(),
        );
    }
}

/// Whether a pod is ready by its status.
pub fn is_ready(pod: &Object) -> bool {
    items(pod.value(), "/status/conditions")
        .iter()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

/// Pods are numbered as they are made: the last digits of their UID.
fn pod_number(pod: &Object) -> String {
    text(pod.value(), "/metadata/uid").to_owned()
}

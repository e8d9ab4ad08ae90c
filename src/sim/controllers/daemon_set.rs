//! `DaemonSets`: one pod on each node that they choose.

use std::sync::Arc;

use serde_json::json;

use super::{Controllers, integer, replica_set::is_ready, text};
use crate::{object::Json, sim::server::Object};

const DAEMON_SETS: (&str, &str) = ("apps", "daemonsets");

/// Label of a template's digest.
const HASH: &str = "controller-revision-hash";

impl Controllers {
    pub(super) fn daemon_sets(&mut self) {
        for set in self.server.list(DAEMON_SETS.0, DAEMON_SETS.1, "") {
            if !set.terminating() {
                self.daemon_set(&set);
            }
        }
    }

    fn daemon_set(&mut self, set: &Arc<Object>) {
        let spec = &set.value()["spec"];
        let hash = Json::of(&spec["template"]).digest(5);
        // Nodes have no labels but the one that all have.
        let chosen = spec["template"]["spec"]["nodeSelector"]
            .as_object()
            .is_none_or(|labels| labels.keys().all(|key| key == "kubernetes.io/os"));
        let nodes = if chosen { self.nodes } else { 0 };
        let mut pods = self.owned_by(("", "pods"), set);
        pods.retain(|pod| !pod.terminating());
        let on = |pod: &Object, node: usize| {
            text(pod.value(), "/spec/nodeName") == format!("node-{node}")
        };
        for node in 0..nodes {
            if !pods.iter().any(|pod| on(pod, node)) {
                let mut labelled = set.value().clone();
                labelled["spec"]["template"]["metadata"]["labels"][HASH] = json!(hash);
                self.add_pod("DaemonSet", &Object::new(labelled), Some(node));
            }
        }
        let is_new =
            |pod: &Object| text(pod.value(), "/metadata/labels/controller-revision-hash") == hash;
        for pod in pods
            .iter()
            .filter(|pod| !(0..nodes).any(|node| on(pod, node)))
        {
            self.remove_pod(pod);
        }
        // Old pods give way one by one, those that serve nobody at once.
        let ready = pods.iter().filter(|pod| is_ready(pod)).count();
        let room = integer(spec, "/updateStrategy/rollingUpdate/maxUnavailable").unwrap_or(1);
        let mut room = usize::try_from(room)
            .unwrap_or(1)
            .saturating_sub(nodes.saturating_sub(ready));
        for pod in pods.iter().filter(|pod| !is_new(pod)) {
            if !is_ready(pod) {
                self.remove_pod(pod);
            } else if room > 0 {
                room -= 1;
                self.remove_pod(pod);
            }
        }
        let (ready, available) = self.count_pods(&pods, spec);
        let updated = pods.iter().filter(|pod| is_new(pod)).count();
        let mut status = json!({
            "currentNumberScheduled": pods.len(), "numberMisscheduled": 0,
            "desiredNumberScheduled": nodes, "numberReady": ready,
            "observedGeneration": set.value()["metadata"]["generation"],
        });
        for (field, value) in [
            ("updatedNumberScheduled", updated),
            ("numberAvailable", available),
            ("numberUnavailable", nodes.saturating_sub(available)),
        ] {
            if value > 0 {
                status[field] = json!(value);
            }
        }
        self.write_status(DAEMON_SETS, set, status);
    }
}

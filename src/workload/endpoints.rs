//! Pods that a service can send traffic to, and whose they are.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use super::{count, elements};
use crate::object::Object;

/// Annotation by which a Deployment numbers each ReplicaSet.
const NUMBER: &str = "deployment.kubernetes.io/revision";

/// Longest prefix of a generated name; what is longer is cut off. Five random characters follow.
const LONGEST_PREFIX: usize = 58;

/// How many pods can take traffic from a service, given its EndpointSlices: ready, not
/// terminating, and accepted by `is_wanted`, which is given the pod's name.
///
/// A pod that several slices list, one per address family, counts once.
pub fn ready_endpoints(slices: &[Arc<Object>], is_wanted: impl Fn(&str) -> bool) -> usize {
    let mut pods = BTreeSet::new();
    for slice in slices {
        let body = slice.body.value();
        for endpoint in elements(body.get("endpoints")) {
            let condition = |name: &str| endpoint.get("conditions")?.get(name)?.as_bool();
            // Unknown means ready, and not terminating.
            if condition("ready") == Some(false) || condition("terminating") == Some(true) {
                continue;
            }
            let Some(pod) = endpoint.get("targetRef") else {
                continue;
            };
            if pod.get("kind").and_then(Value::as_str) == Some("Pod")
                && let Some(name) = pod.get("name").and_then(Value::as_str)
                && is_wanted(name)
            {
                pods.insert(name.to_owned());
            }
        }
    }
    pods.len()
}

/// The name of the ReplicaSet that runs a Deployment's newest template; `None` until the
/// Deployment's controller has seen that template and made the ReplicaSet.
pub fn current_replica_set(deployment: &Object, replica_sets: &[Arc<Object>]) -> Option<String> {
    let body = deployment.body.value();
    if count(&body, "/status/observedGeneration") < deployment.generation {
        return None;
    }
    let number = deployment.annotations.get(NUMBER)?;
    replica_sets
        .iter()
        .filter(|set| set.is_controlled_by(&deployment.uid))
        .find(|set| set.annotations.get(NUMBER) == Some(number))
        .map(|set| set.key.name.clone())
}

/// Whether a pod's name is one that a controller of this name (a ReplicaSet or DaemonSet) gives.
pub fn is_pod_of(controller: &str, pod: &str) -> bool {
    let prefix = format!("{controller}-");
    let prefix = prefix.get(..LONGEST_PREFIX).unwrap_or(&prefix);
    pod.strip_prefix(prefix)
        .is_some_and(|suffix| !suffix.is_empty() && !suffix.contains('-'))
}

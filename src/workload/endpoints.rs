//! Pods that a service can send traffic to, and whose they are.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;

use super::{count, elements};
use crate::object::Object;

/// Label of an EndpointSlice that names its service.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Annotation by which a Deployment numbers each ReplicaSet.
const NUMBER: &str = "deployment.kubernetes.io/revision";

/// Longest prefix of a generated name; what is longer is cut off. Five random characters follow.
const LONGEST_PREFIX: usize = 58;

/// How many pods can take traffic from a service, see [`ready_pods`].
pub fn ready_endpoints(slices: &[Arc<Object>], is_wanted: impl Fn(&str) -> bool) -> usize {
    ready_pods(slices, is_wanted).len()
}

/// The pods that can take traffic from a service, given its EndpointSlices: ready, not
/// terminating, and accepted by `is_wanted`, which is given the pod's name.
///
/// A pod that several slices list, one per address family, counts once.
pub fn ready_pods(slices: &[Arc<Object>], is_wanted: impl Fn(&str) -> bool) -> BTreeSet<String> {
    let mut pods = BTreeSet::new();
    for slice in slices {
        let body = slice.body.read();
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
    pods
}

/// The name of the ReplicaSet that runs a Deployment's newest template; `None` until the
/// Deployment's controller has seen that template and made the ReplicaSet.
pub fn current_replica_set(deployment: &Object, replica_sets: &[Arc<Object>]) -> Option<String> {
    let body = deployment.body.read();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        object::Kind,
        workload::fixtures::{deployment, object, patched},
    };

    fn slice(endpoints: &str) -> Arc<Object> {
        let text = format!("{{metadata: {{name: s}}, addressType: IPv4, endpoints: {endpoints}}}");
        Arc::new(object(Kind::EndpointSlice, &text))
    }

    #[test]
    fn ready_endpoints_counts_ready_pods_of_the_wanted_revision_once() {
        let slices = [
            slice(
                "[{conditions: {ready: true}, targetRef: {kind: Pod, name: a-1}},
                  {conditions: {}, targetRef: {kind: Pod, name: a-2}},
                  {targetRef: {kind: Pod, name: a-3}},
                  {conditions: {ready: false}, targetRef: {kind: Pod, name: a-4}},
                  {conditions: {ready: true, terminating: true}, targetRef: {kind: Pod, name: a-5}},
                  {conditions: {ready: true}, targetRef: {kind: Node, name: a-6}},
                  {conditions: {ready: true}},
                  {conditions: {ready: true}, targetRef: {kind: Pod, name: b-1}}]",
            ),
            // The same pod under its address of the other family.
            slice("[{conditions: {ready: true}, targetRef: {kind: Pod, name: a-1}}]"),
            slice("null"),
        ];
        assert_eq!(ready_endpoints(&slices, |pod| is_pod_of("a", pod)), 3);
        assert_eq!(ready_endpoints(&slices, |_| true), 4);
        assert_eq!(ready_endpoints(&[], |_| true), 0);
    }

    fn replica_set(name: &str, number: &str, owner: &str) -> Arc<Object> {
        let text = format!(
            "metadata:
  name: {name}
  annotations: {{deployment.kubernetes.io/revision: '{number}'}}
  ownerReferences: [{{kind: Deployment, name: x, uid: {owner}, controller: true}}]
"
        );
        Arc::new(object(Kind::ReplicaSet, &text))
    }

    #[test]
    fn current_replica_set_is_the_one_of_the_newest_template() {
        let target = deployment();
        let sets = [
            replica_set("podinfo-6", "6", &target.uid),
            replica_set("other-7", "7", "another"),
            replica_set("podinfo-7", "7", &target.uid),
        ];
        assert_eq!(
            current_replica_set(&target, &sets).as_deref(),
            Some("podinfo-7")
        );
        assert_eq!(current_replica_set(&target, &sets[..2]), None);
    }

    #[test]
    fn current_replica_set_of_an_unobserved_template_is_unknown() {
        let target = deployment();
        let sets = [replica_set("podinfo-7", "7", &target.uid)];
        let mut changed = patched(&target, &serde_json::json!({}));
        changed.generation += 1;
        assert_eq!(current_replica_set(&changed, &sets), None);
    }

    #[test]
    fn is_pod_of_knows_generated_names() {
        assert!(is_pod_of("podinfo-7d4", "podinfo-7d4-x2x9z"));
        for foreign in [
            "podinfo-7d4",
            "podinfo-7d4-",
            "podinfo-7d4-9c-x2x9z",
            "other-x",
        ] {
            assert!(!is_pod_of("podinfo-7d4", foreign), "{foreign}");
        }
        // Names over 58 characters are cut before the random part is added.
        let long = "a".repeat(60);
        assert!(is_pod_of(&long, &format!("{}x2x9z", "a".repeat(58))));
    }
}

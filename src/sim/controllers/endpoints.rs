//! EndpointSlices: which pods a Service reaches.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value, json};

use super::{Controllers, items, owner_reference, replica_set::is_ready, text};
use crate::{
    sim::server::{DeleteOptions, Object},
    workload::SERVICE_NAME,
};

const SLICES: (&str, &str) = ("discovery.k8s.io", "endpointslices");

impl Controllers {
    pub(super) fn endpoint_slices(&mut self) {
        let mut slices: BTreeMap<(String, String), Vec<Arc<Object>>> = BTreeMap::new();
        for slice in self.server.list(SLICES.0, SLICES.1, "") {
            let service = text(
                slice.value(),
                "/metadata/labels/kubernetes.io~1service-name",
            );
            slices
                .entry((slice.namespace().to_owned(), service.to_owned()))
                .or_default()
                .push(slice);
        }
        let pods = self.server.list("", "pods", "");
        for service in self.server.list("", "services", "") {
            let key = (service.namespace().to_owned(), service.name().to_owned());
            let mut present = slices.remove(&key).unwrap_or_default();
            let Some(selector) = service.value()["spec"]["selector"].as_object() else {
                continue;
            };
            if selector.is_empty() || service.terminating() {
                continue;
            }
            let chosen: Vec<_> = pods
                .iter()
                .filter(|pod| pod.namespace() == service.namespace() && selects(selector, pod))
                .cloned()
                .collect();
            let reads = [present.clone(), chosen.clone()].concat();
            self.look_at(&service, &reads, |this| {
                this.write_slice(&service, present.pop(), &chosen);
                for surplus in present {
                    this.remove_slice(&surplus);
                }
            });
        }
        for orphan in slices.into_values().flatten() {
            self.remove_slice(&orphan);
        }
    }

    fn remove_slice(&self, slice: &Object) {
        let _ = self.server.delete(
            SLICES,
            (slice.namespace(), slice.name()),
            &DeleteOptions::default(),
        );
    }

    fn write_slice(&self, service: &Object, present: Option<Arc<Object>>, pods: &[Arc<Object>]) {
        let endpoints = pods
            .iter()
            .filter(|pod| !text(pod.value(), "/status/podIP").is_empty())
            .map(|pod| endpoint(pod));
        let endpoints = Value::Array(endpoints.collect());
        let ports = Value::Array(ports(service, pods.first().map(|pod| pod.value())));
        if let Some(slice) = present {
            let fields = [("endpoints", endpoints), ("ports", ports)];
            return self.report(SLICES, &slice, fields);
        }
        let made = self.server.put(json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {
                "generateName": format!("{}-", service.name()),
                "namespace": service.namespace(),
                "labels": {
                    SERVICE_NAME: service.name(),
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
                "ownerReferences": owner_reference("Service", service),
            },
            "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
        }));
        if let Err(refusal) = made {
            tracing::debug!(?refusal, "EndpointSlice not made");
        }
    }
}

fn selects(selector: &Map<String, Value>, pod: &Object) -> bool {
    let labels = &pod.value()["metadata"]["labels"];
    selector.iter().all(|(key, value)| labels[key] == *value)
}

fn endpoint(pod: &Object) -> Value {
    let ready = is_ready(pod);
    json!({
        "addresses": [text(pod.value(), "/status/podIP")],
        "conditions": {
            "ready": ready && !pod.terminating(),
            "serving": ready,
            "terminating": pod.terminating(),
        },
        "nodeName": text(pod.value(), "/spec/nodeName"),
        "targetRef": {
            "kind": "Pod", "name": pod.name(), "namespace": pod.namespace(), "uid": pod.uid(),
        },
    })
}

/// The Service's ports with the numbers that they have in the pods.
fn ports(service: &Object, pod: Option<&Value>) -> Vec<Value> {
    let number = |target: &Value| match target {
        Value::String(name) => pod
            .into_iter()
            .flat_map(|pod| items(pod, "/spec/containers"))
            .flat_map(|container| items(container, "/ports"))
            .find(|port| port["name"] == name.as_str())
            .map_or(Value::Null, |port| port["containerPort"].clone()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            target.clone()
        }
    };
    items(service.value(), "/spec/ports")
        .iter()
        .map(|port| {
            json!({
                "name": text(port, "/name"),
                "protocol": port["protocol"].as_str().unwrap_or("TCP"),
                "port": number(if port["targetPort"].is_null() { &port["port"] } else { &port["targetPort"] }),
            })
        })
        .map(|mut port| {
            if port["port"].is_null()
                && let Some(map) = port.as_object_mut()
            {
                map.remove("port");
            }
            port
        })
        .collect()
}

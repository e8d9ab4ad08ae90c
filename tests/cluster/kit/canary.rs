//! Manifests that read as sentences.

use serde_json::{Value, json};

/// A Deployment `podinfo`-like: one replica, one port, selected by `app`.
pub fn deployment(name: &str, image: &str) -> Value {
    workload("Deployment", name, image)
}

/// A workload of a kind.
pub fn workload(kind: &str, name: &str, image: &str) -> Value {
    let mut manifest = json!({
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "selector": { "matchLabels": { "app": name } },
            "template": {
                "metadata": { "labels": { "app": name } },
                "spec": { "containers": [{
                    "name": "app",
                    "image": image,
                    "ports": [{ "name": "http", "containerPort": 8080 }],
                }]},
            },
        },
    });
    if kind == "Deployment" {
        manifest["spec"]["replicas"] = json!(1);
    }
    manifest
}

/// A Canary in the making.
#[derive(Clone, Debug)]
pub struct CanaryManifest(Value);

/// The Canary of a Deployment of the same name: one step of 50 %, checked each 10 s, rolled back
/// at the second failed check.
pub fn canary(name: &str) -> CanaryManifest {
    CanaryManifest(json!({
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": { "name": name },
        "spec": {
            "targetRef": { "apiVersion": "apps/v1", "kind": "Deployment", "name": name },
            "service": { "port": 80, "targetPort": 8080 },
            "analysis": { "interval": "10s", "threshold": 2, "stepWeight": 50, "maxWeight": 50 },
        },
    }))
}

#[allow(
    clippy::needless_pass_by_value,
    reason = "callers write the fields in place"
)]
impl CanaryManifest {
    /// Sets fields of the spec; null removes.
    pub fn spec(mut self, fields: Value) -> Self {
        json_patch::merge(&mut self.0["spec"], &fields);
        self
    }

    /// Sets fields of the analysis; null removes.
    pub fn analysis(mut self, fields: Value) -> Self {
        json_patch::merge(&mut self.0["spec"]["analysis"], &fields);
        self
    }

    /// Takes these weights one after the other.
    pub fn weights(self, weights: &[i32]) -> Self {
        self.analysis(json!({ "stepWeight": null, "maxWeight": null, "stepWeights": weights }))
    }

    /// Blue/green: this many checks before the switch.
    pub fn iterations(self, count: i32) -> Self {
        self.analysis(json!({ "stepWeight": null, "maxWeight": null, "iterations": count }))
    }

    /// A/B: users with this header get the canary.
    pub fn for_header(self, header: &str, value: &str) -> Self {
        self.analysis(json!({ "match": [{ "headers": { header: { "exact": value } } }] }))
    }

    /// Counts failed checks up to this number.
    pub fn threshold(self, count: i32) -> Self {
        self.analysis(json!({ "threshold": count }))
    }

    /// Judges a metric by its range, over the last ten seconds.
    pub fn metric(mut self, name: &str, range: &Value) -> Self {
        push(
            &mut self.0["spec"]["analysis"]["metrics"],
            json!({ "name": name, "interval": "10s", "thresholdRange": range }),
        );
        self
    }

    /// At least this share of requests, in percent, must be answered.
    pub fn success_rate(self, min: i32) -> Self {
        self.metric("request-success-rate", &json!({ "min": min }))
    }

    /// Calls a webhook of a type.
    pub fn hook(mut self, kind: &str, name: &str, url: &str) -> Self {
        push(
            &mut self.0["spec"]["analysis"]["webhooks"],
            json!({ "name": name, "type": kind, "url": url, "timeout": "3s" }),
        );
        self
    }

    /// The manifest.
    pub fn build(self) -> Value {
        self.0
    }
}

fn push(list: &mut Value, item: Value) {
    match list.as_array_mut() {
        Some(list) => list.push(item),
        None => *list = json!([item]),
    }
}

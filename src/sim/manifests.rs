//! Manifests of the world: route APIs that no other code defines, and the demo's application.

use serde_json::{Value, json};

/// Definitions of the custom resources of others that the operator writes or reads: any content, as
/// far as the schema goes.
pub fn definitions() -> Vec<Value> {
    let istio = ("networking.istio.io", "v1beta1");
    let gateway = ("gateway.networking.k8s.io", "v1");
    let keda = ("keda.sh", "v1alpha1");
    [
        (istio, "VirtualService", "virtualservices"),
        (istio, "DestinationRule", "destinationrules"),
        (gateway, "HTTPRoute", "httproutes"),
        (keda, "ScaledObject", "scaledobjects"),
    ]
    .map(|((group, version), kind, plural)| {
        let schema = json!({
            "type": "object",
            "properties": {
                "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            },
        });
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.{group}")},
            "spec": {
                "group": group, "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
                "versions": [{
                    "name": version, "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                }],
            },
        })
    })
    .to_vec()
}

/// The demo's application: a Deployment of two pods and its Canary, released in steps of 10 % each
/// 20 seconds.
pub fn application(name: &str) -> Vec<Value> {
    let labels = json!({ "app": name });
    let metric = |name: &str, range: Value| json!({"name": name, "interval": "20s", "thresholdRange": range});
    vec![
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [{
                        "name": "app", "image": format!("{name}:1.0"),
                        "ports": [{"name": "http", "containerPort": 8080}],
                    }]},
                },
            },
        }),
        json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "provider": "istio",
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
                "service": {"port": 80, "targetPort": "http"},
                "analysis": {
                    "interval": "20s", "threshold": 2, "stepWeight": 10, "maxWeight": 50,
                    "metrics": [
                        metric("request-success-rate", json!({"min": 99})),
                        metric("request-duration", json!({"max": 500})),
                    ],
                },
            },
        }),
    ]
}

/// Whether the simulated cluster has a kind.
pub fn is_known(api_version: &str, kind: &str) -> bool {
    matches!(
        (api_version, kind),
        ("v1", "ConfigMap" | "Secret" | "Service" | "ServiceAccount")
            | ("apps/v1", "Deployment" | "DaemonSet")
            | ("autoscaling/v2", "HorizontalPodAutoscaler")
            | (
                "flagger.app/v1beta1",
                "Canary" | "MetricTemplate" | "AlertProvider"
            )
            | (
                "networking.istio.io/v1beta1",
                "VirtualService" | "DestinationRule"
            )
            | ("gateway.networking.k8s.io/v1", "HTTPRoute")
            | ("keda.sh/v1alpha1", "ScaledObject")
    )
}

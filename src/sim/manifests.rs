//! Manifests of the world: route APIs that no other code defines, and the demo's application.

use serde_json::{Value, json};

/// Definitions of Istio's `VirtualService` and `DestinationRule`: any content, as far as the
/// schema goes.
pub fn istio_definitions() -> Vec<Value> {
    [
        ("VirtualService", "virtualservices"),
        ("DestinationRule", "destinationrules"),
    ]
    .map(|(kind, plural)| {
        let schema = json!({
            "type": "object",
            "properties": {
                "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            },
        });
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.networking.istio.io")},
            "spec": {
                "group": "networking.istio.io", "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase(), "listKind": format!("{kind}List")},
                "versions": [{
                    "name": "v1beta1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                }],
            },
        })
    })
    .to_vec()
}

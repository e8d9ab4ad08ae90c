//! What the operator was told at start and decisions depend on.

use std::time::Duration;

use serde::Serialize;

use crate::api::Provider;

/// What the operator was told at start and decisions depend on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Settings {
    /// Route API of Canaries that name none.
    pub mesh_provider: Provider,
    /// Prometheus server of Canaries that name none.
    pub metrics_server: String,
    /// Labels of which one must be in a target's selector, in order of preference.
    pub selector_labels: Vec<String>,
    /// Prefixes of the labels that primaries and config copies take over; `*` for all.
    pub include_label_prefix: Vec<String>,
    /// Whether ConfigMaps and Secrets are copied for the primary and watched for changes.
    pub config_tracking: bool,
    /// Whether references to other namespaces are refused.
    pub no_cross_namespace_refs: bool,
    /// Name of the cluster, for alerts.
    pub cluster_name: Option<String>,
    /// How long pods stay after their traffic was taken away, so that proxies and open
    /// connections can follow.
    pub drain: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mesh_provider: Provider::Istio,
            metrics_server: "http://prometheus:9090".to_owned(),
            selector_labels: ["app", "name", "app.kubernetes.io/name"]
                .map(str::to_owned)
                .to_vec(),
            include_label_prefix: Vec::new(),
            config_tracking: true,
            no_cross_namespace_refs: false,
            cluster_name: None,
            drain: Duration::from_mins(2),
        }
    }
}

impl Settings {
    /// Whether primaries and config copies take over a label.
    pub fn includes_label(&self, key: &str) -> bool {
        self.include_label_prefix
            .iter()
            .any(|prefix| prefix == "*" || key.starts_with(prefix.as_str()))
    }
}

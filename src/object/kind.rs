//! The closed set of kinds that Haldane reads or writes.

use std::fmt;

use kube::api::{ApiResource, GroupVersionKind};
use serde::Serialize;

/// A kind of object that Haldane reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[expect(missing_docs, reason = "Kubernetes' own names")]
pub enum Kind {
    Canary,
    MetricTemplate,
    AlertProvider,
    Deployment,
    DaemonSet,
    ReplicaSet,
    Service,
    EndpointSlice,
    ConfigMap,
    Secret,
    HorizontalPodAutoscaler,
    ScaledObject,
    VirtualService,
    DestinationRule,
    HttpRoute,
    Event,
}

/// How much of a kind is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Whole objects.
    Whole,
    /// Metadata alone: contents never enter the cache.
    Metadata,
    /// Not watched.
    None,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 16] = [
        Self::Canary,
        Self::MetricTemplate,
        Self::AlertProvider,
        Self::Deployment,
        Self::DaemonSet,
        Self::ReplicaSet,
        Self::Service,
        Self::EndpointSlice,
        Self::ConfigMap,
        Self::Secret,
        Self::HorizontalPodAutoscaler,
        Self::ScaledObject,
        Self::VirtualService,
        Self::DestinationRule,
        Self::HttpRoute,
        Self::Event,
    ];

    /// Group, version, kind and plural.
    pub const fn names(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Canary => ("flagger.app", "v1beta1", "Canary", "canaries"),
            Self::MetricTemplate => (
                "flagger.app",
                "v1beta1",
                "MetricTemplate",
                "metrictemplates",
            ),
            Self::AlertProvider => ("flagger.app", "v1beta1", "AlertProvider", "alertproviders"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::DaemonSet => ("apps", "v1", "DaemonSet", "daemonsets"),
            Self::ReplicaSet => ("apps", "v1", "ReplicaSet", "replicasets"),
            Self::Service => ("", "v1", "Service", "services"),
            Self::EndpointSlice => ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::HorizontalPodAutoscaler => (
                "autoscaling",
                "v2",
                "HorizontalPodAutoscaler",
                "horizontalpodautoscalers",
            ),
            Self::ScaledObject => ("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects"),
            Self::VirtualService => (
                "networking.istio.io",
                "v1beta1",
                "VirtualService",
                "virtualservices",
            ),
            Self::DestinationRule => (
                "networking.istio.io",
                "v1beta1",
                "DestinationRule",
                "destinationrules",
            ),
            Self::HttpRoute => ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
            Self::Event => ("", "v1", "Event", "events"),
        }
    }

    /// How much of the kind is watched.
    pub const fn scope(self) -> Scope {
        match self {
            Self::Canary
            | Self::MetricTemplate
            | Self::AlertProvider
            | Self::Deployment
            | Self::DaemonSet
            | Self::Service
            | Self::EndpointSlice
            | Self::HorizontalPodAutoscaler
            | Self::ScaledObject
            | Self::VirtualService
            | Self::DestinationRule
            | Self::HttpRoute => Scope::Whole,
            Self::ReplicaSet | Self::ConfigMap | Self::Secret => Scope::Metadata,
            Self::Event => Scope::None,
        }
    }

    /// Whether the kind's API may be missing from a server.
    pub const fn is_optional(self) -> bool {
        matches!(
            self,
            Self::ScaledObject | Self::VirtualService | Self::DestinationRule | Self::HttpRoute
        )
    }

    /// `group/version`, or `version` for the core group.
    pub fn api_version(self) -> String {
        let (group, version, _, _) = self.names();
        if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        }
    }

    /// The kind's resource for dynamic clients.
    pub fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = self.names();
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names().2)
    }
}

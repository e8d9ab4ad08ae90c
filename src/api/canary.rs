//! `Canary`: the release policy of one workload.

#![allow(
    clippy::duplicated_attributes,
    reason = "printer columns repeat their keys"
)]

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{analysis::Analysis, service::Service, status::CanaryStatus};

/// How new versions of one workload reach its users.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "flagger.app",
    version = "v1beta1",
    kind = "Canary",
    plural = "canaries",
    namespaced,
    category = "all",
    status = "CanaryStatus",
    derive = "PartialEq",
    doc = "How new versions of one workload reach its users",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Weight", type_ = "string", json_path = ".status.canaryWeight"),
    printcolumn(
        name = "Suspended",
        type_ = "boolean",
        json_path = ".spec.suspend",
        priority = 1
    ),
    printcolumn(
        name = "FailedChecks",
        type_ = "string",
        json_path = ".status.failedChecks",
        priority = 1
    ),
    printcolumn(
        name = "Interval",
        type_ = "string",
        json_path = ".spec.analysis.interval",
        priority = 1
    ),
    printcolumn(
        name = "Mirror",
        type_ = "boolean",
        json_path = ".spec.analysis.mirror",
        priority = 1
    ),
    printcolumn(
        name = "StepWeight",
        type_ = "string",
        json_path = ".spec.analysis.stepWeight",
        priority = 1
    ),
    printcolumn(
        name = "StepWeights",
        type_ = "string",
        json_path = ".spec.analysis.stepWeights",
        priority = 1
    ),
    printcolumn(
        name = "MaxWeight",
        type_ = "string",
        json_path = ".spec.analysis.maxWeight",
        priority = 1
    ),
    printcolumn(
        name = "LastTransitionTime",
        type_ = "string",
        json_path = ".status.lastTransitionTime"
    )
)]
#[serde(rename_all = "camelCase")]
pub struct CanarySpec {
    /// The route API that carries the traffic. Default: the operator's `--mesh-provider`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Provider>,
    /// Address of the Prometheus server for builtin checks and inline queries.
    /// Default: the operator's `--metrics-server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_server: Option<String>,
    /// The workload whose new versions are released. It becomes the canary.
    pub target_ref: TargetRef,
    /// The autoscaler of the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaler_ref: Option<AutoscalerRef>,
    /// The Ingress that routes to the apex service (NGINX, Skipper).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress_ref: Option<ObjectRef>,
    /// The `ApisixRoute` that routes to the apex service (APISIX).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_ref: Option<ObjectRef>,
    /// The Gloo Upstream whose settings the generated upstreams copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream_ref: Option<UpstreamRef>,
    /// The services and routes in front of the workload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// How a new version is judged and how fast it advances.
    pub analysis: Analysis,
    /// Seconds that a workload may take to become ready before the release is rolled back.
    /// Counted from when the revision started. Default 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress_deadline_seconds: Option<i32>,
    /// Promote new versions without analysing them. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skip_analysis: Option<bool>,
    /// Give the workload, its service and routes back to what they were when this Canary is
    /// deleted. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert_on_deletion: Option<bool>,
    /// Do nothing until this is false again. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspend: Option<bool>,
}

/// A route API that can carry the traffic of a Canary.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema,
)]
#[expect(missing_docs, reason = "the names are those of the products")]
pub enum Provider {
    #[serde(rename = "apisix")]
    Apisix,
    #[serde(rename = "appmesh")]
    AppMesh,
    #[serde(rename = "appmesh:v1beta2")]
    AppMeshV1Beta2,
    #[serde(rename = "contour")]
    Contour,
    #[serde(rename = "gatewayapi:v1")]
    GatewayApiV1,
    #[serde(rename = "gatewayapi:v1beta1")]
    GatewayApiV1Beta1,
    #[serde(rename = "gloo")]
    Gloo,
    #[serde(rename = "istio")]
    Istio,
    #[serde(rename = "knative")]
    Knative,
    #[serde(rename = "kubernetes")]
    Kubernetes,
    #[serde(rename = "kuma")]
    Kuma,
    #[serde(rename = "linkerd")]
    Linkerd,
    #[serde(rename = "nginx")]
    Nginx,
    #[serde(rename = "osm")]
    Osm,
    #[serde(rename = "skipper")]
    Skipper,
    #[serde(rename = "smi:v1alpha1")]
    SmiV1Alpha1,
    #[serde(rename = "smi:v1alpha2")]
    SmiV1Alpha2,
    #[serde(rename = "smi:v1alpha3")]
    SmiV1Alpha3,
    #[serde(rename = "traefik")]
    Traefik,
}

impl Provider {
    /// All route APIs, in the order of their names.
    pub const ALL: [Self; 19] = [
        Self::Apisix,
        Self::AppMesh,
        Self::AppMeshV1Beta2,
        Self::Contour,
        Self::GatewayApiV1,
        Self::GatewayApiV1Beta1,
        Self::Gloo,
        Self::Istio,
        Self::Knative,
        Self::Kubernetes,
        Self::Kuma,
        Self::Linkerd,
        Self::Nginx,
        Self::Osm,
        Self::Skipper,
        Self::SmiV1Alpha1,
        Self::SmiV1Alpha2,
        Self::SmiV1Alpha3,
        Self::Traefik,
    ];

    /// The route API as manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apisix => "apisix",
            Self::AppMesh => "appmesh",
            Self::AppMeshV1Beta2 => "appmesh:v1beta2",
            Self::Contour => "contour",
            Self::GatewayApiV1 => "gatewayapi:v1",
            Self::GatewayApiV1Beta1 => "gatewayapi:v1beta1",
            Self::Gloo => "gloo",
            Self::Istio => "istio",
            Self::Knative => "knative",
            Self::Kubernetes => "kubernetes",
            Self::Kuma => "kuma",
            Self::Linkerd => "linkerd",
            Self::Nginx => "nginx",
            Self::Osm => "osm",
            Self::Skipper => "skipper",
            Self::SmiV1Alpha1 => "smi:v1alpha1",
            Self::SmiV1Alpha2 => "smi:v1alpha2",
            Self::SmiV1Alpha3 => "smi:v1alpha3",
            Self::Traefik => "traefik",
        }
    }
}

/// The name of a route API that is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found {found:?}; write one of {}", Provider::ALL.map(Provider::as_str).join(", "))]
pub struct UnknownProvider {
    found: String,
}

impl FromStr for Provider {
    type Err = UnknownProvider;

    /// Reads the value of `--mesh-provider`: the names of manifests, and `gatewayapi` for its
    /// newest version.
    fn from_str(text: &str) -> Result<Self, UnknownProvider> {
        if text == "gatewayapi" {
            return Ok(Self::GatewayApiV1);
        }
        Self::ALL
            .into_iter()
            .find(|provider| provider.as_str() == text)
            .ok_or_else(|| UnknownProvider {
                found: text.to_owned(),
            })
    }
}

/// A reference to the workload of a Canary, in its namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetRef {
    /// API group and version, for example `apps/v1`.
    pub api_version: String,
    /// Kind of the workload.
    pub kind: TargetKind,
    /// Name of the workload.
    pub name: String,
}

/// The kinds of workload that a Canary can release.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema,
)]
pub enum TargetKind {
    /// `apps/v1` DaemonSet.
    DaemonSet,
    /// `apps/v1` Deployment.
    Deployment,
    /// `v1` Service, or a Knative Service with apiVersion `serving.knative.dev/v1`.
    Service,
}

impl TargetKind {
    /// The kind as manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DaemonSet => "DaemonSet",
            Self::Deployment => "Deployment",
            Self::Service => "Service",
        }
    }
}

/// A reference to the autoscaler of the workload, in the Canary's namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalerRef {
    /// API group and version, for example `autoscaling/v2`.
    pub api_version: String,
    /// Kind of the autoscaler.
    pub kind: AutoscalerKind,
    /// Name of the autoscaler.
    pub name: String,
    /// KEDA: queries of the primary's triggers, by trigger name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_scaler_queries: Option<BTreeMap<String, String>>,
    /// Bounds of the primary's autoscaler where they differ from the workload's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_scaler_replicas: Option<ScalerReplicas>,
}

/// The kinds of autoscaler that a Canary can look after.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema,
)]
pub enum AutoscalerKind {
    /// `autoscaling/v2` HorizontalPodAutoscaler.
    HorizontalPodAutoscaler,
    /// KEDA ScaledObject.
    ScaledObject,
}

/// Bounds of an autoscaler.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScalerReplicas {
    /// Fewest replicas, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_replicas: Option<i32>,
    /// Most replicas, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_replicas: Option<i32>,
}

/// A reference to an object in the Canary's namespace.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectRef {
    /// API group and version.
    pub api_version: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
}

/// A reference to a Gloo Upstream.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpstreamRef {
    /// API group and version.
    pub api_version: String,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Namespace of the object. Default: the Canary's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl CanarySpec {
    /// Name of the apex service: `service.name`, else the target's name.
    pub fn apex_name(&self) -> &str {
        self.service
            .as_ref()
            .and_then(|s| s.name.as_deref())
            .filter(|n| !n.is_empty())
            .unwrap_or(&self.target_ref.name)
    }

    /// Name of the service whose pods are the primary's.
    pub fn primary_service(&self) -> String {
        format!("{}-primary", self.apex_name())
    }

    /// Name of the service whose pods are the canary's.
    pub fn canary_service(&self) -> String {
        format!("{}-canary", self.apex_name())
    }

    /// Name of the primary workload.
    pub fn primary_name(&self) -> String {
        format!("{}-primary", self.target_ref.name)
    }

    /// Seconds that a workload may take to become ready.
    pub fn progress_deadline(&self) -> i64 {
        self.progress_deadline_seconds.map_or(600, i64::from)
    }

    /// [`Self::progress_deadline`] as a length of time; none of a deadline below zero.
    pub fn progress_time(&self) -> Duration {
        Duration::from_secs(u64::try_from(self.progress_deadline()).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provider_of_a_flag_is_read_as_manifests_spell_it() {
        for provider in Provider::ALL {
            assert_eq!(provider.as_str().parse(), Ok(provider));
            let spelled = serde_json::to_value(provider).unwrap();
            assert_eq!(spelled, provider.as_str());
        }
        assert_eq!("gatewayapi".parse(), Ok(Provider::GatewayApiV1));
    }

    #[test]
    fn provider_that_is_unknown_is_named_with_the_known_ones() {
        let error = "istoi".parse::<Provider>().unwrap_err().to_string();
        assert!(
            error.starts_with(r#"found "istoi"; write one of apisix, "#),
            "{error}"
        );
    }
}

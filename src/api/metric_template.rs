//! `MetricTemplate`: a query that several Canaries can share.

use std::collections::BTreeMap;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A query that several Canaries can share.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, JsonSchema)]
#[kube(
    group = "flagger.app",
    version = "v1beta1",
    kind = "MetricTemplate",
    plural = "metrictemplates",
    namespaced,
    category = "all",
    status = "MetricTemplateStatus",
    derive = "PartialEq",
    doc = "A query that several Canaries can share",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Provider", type_ = "string", json_path = ".spec.provider.type")
)]
pub struct MetricTemplateSpec {
    /// The server that answers.
    pub provider: MetricProvider,
    /// The query, in the server's language, with `{{ name }}` and the like.
    pub query: String,
    /// For judges: the query of all requests, among which `query` counts the bad ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<String>,
}

/// The server that answers a query.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MetricProvider {
    /// Kind of server.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<MetricProviderType>,
    /// Address of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Headers of every request (Prometheus).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, Vec<String>>>,
    /// Secret with the credentials, in the template's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
    /// Region (CloudWatch).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Accept any TLS certificate. Default false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure_skip_verify: Option<bool>,
}

/// Kind of a metrics server.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of the products")]
pub enum MetricProviderType {
    Prometheus,
    Influxdb,
    Datadog,
    Stackdriver,
    Cloudwatch,
    Newrelic,
    Graphite,
    Dynatrace,
    Keptn,
    Splunk,
    Externalmetrics,
}

/// A reference to an object in the same namespace.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct LocalRef {
    /// Name.
    pub name: String,
}

/// Status of a `MetricTemplate`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct MetricTemplateStatus {
    /// Declared by Flagger, never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<super::status::Condition>>,
}

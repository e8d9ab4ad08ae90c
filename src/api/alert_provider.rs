//! `AlertProvider`: a chat room that is told about releases.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::metric_template::LocalRef;

/// A chat room that is told about releases.
#[derive(CustomResource, Serialize, Deserialize, Clone, Debug, PartialEq, Eq, JsonSchema)]
#[kube(
    group = "flagger.app",
    version = "v1beta1",
    kind = "AlertProvider",
    plural = "alertproviders",
    namespaced,
    category = "all",
    status = "AlertProviderStatus",
    derive = "PartialEq",
    doc = "A chat room that is told about releases",
    annotation("helm.sh/resource-policy", "keep"),
    printcolumn(name = "Type", type_ = "string", json_path = ".spec.type")
)]
#[serde(rename_all = "camelCase")]
pub struct AlertProviderSpec {
    /// Kind of the chat.
    #[serde(rename = "type")]
    pub kind: AlertProviderType,
    /// Room. Default `general`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Name of the sender. Default `flagger`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Address of the incoming webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// HTTP proxy on the way there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<String>,
    /// Secret with the keys `address` and, for Slack, `token`, in the same namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalRef>,
}

/// Kind of a chat.
#[derive(
    Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names are those of the products")]
pub enum AlertProviderType {
    Slack,
    Msteams,
    Discord,
    Rocket,
    Gchat,
}

/// Status of an `AlertProvider`.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq, JsonSchema)]
pub struct AlertProviderStatus {
    /// Declared by Flagger, never written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<super::status::Condition>>,
}

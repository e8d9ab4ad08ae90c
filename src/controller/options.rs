//! What `haldane run` was told, apart from what decisions depend on ([`Settings`]).

use std::{collections::BTreeSet, fmt, path::PathBuf};

use kube::config::{Config, InferConfigError, KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::lease::Timing;
use crate::{measure::Egress, settings::Settings};

/// Everything that `haldane run` was told.
#[derive(Clone, Debug, PartialEq)]
pub struct RunOptions {
    /// What decisions depend on.
    pub settings: Settings,
    /// The API server.
    pub server: ApiServer,
    /// Namespaces whose Canaries are looked after; empty for all.
    pub namespaces: BTreeSet<String>,
    /// TCP port of `/metrics`, `/healthz` and `/readyz`.
    pub port: u16,
    /// Leader election; `None` where nobody else runs for sure.
    pub election: Option<Election>,
    /// Which addresses are called for others.
    pub egress: Egress,
    /// Alerts of Canaries that name no alert provider.
    pub notifier: Option<Notifier>,
    /// Where every event is posted to.
    pub event_webhook: Option<Sensitive>,
}

/// How to reach the API server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiServer {
    /// File with the address and credentials. `None`: `$KUBECONFIG`, `~/.kube/config`, or those of
    /// the pod.
    pub kubeconfig: Option<PathBuf>,
    /// Address that replaces the one in the file.
    pub address: Option<http::Uri>,
}

/// Why the API server's address or credentials are unknown.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The named file cannot be used.
    #[error("kubeconfig {path} cannot be used: {source}")]
    Kubeconfig {
        /// The file.
        path: String,
        /// Why.
        source: Box<KubeconfigError>,
    },
    /// Neither a file nor a pod's credentials were found.
    #[error(
        "found no way to reach a cluster: {0}; give --kubeconfig, set KUBECONFIG, or run in a pod"
    )]
    Infer(Box<InferConfigError>),
}

impl ApiServer {
    /// Address and credentials for a client.
    ///
    /// # Errors
    /// When there are none, or the file that names them cannot be read.
    pub async fn config(&self) -> Result<Config, ConnectError> {
        let mut config = match &self.kubeconfig {
            Some(path) => {
                let unusable = |source| ConnectError::Kubeconfig {
                    path: path.display().to_string(),
                    source: Box::new(source),
                };
                let file = Kubeconfig::read_from(path).map_err(unusable)?;
                Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
                    .await
                    .map_err(unusable)?
            }
            None => Config::infer()
                .await
                .map_err(|error| ConnectError::Infer(Box::new(error)))?,
        };
        if let Some(address) = &self.address {
            config.cluster_url = address.clone();
        }
        Ok(config)
    }
}

/// Which Lease decides who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Election {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub lease: String,
    /// How long a lease lasts and how often it is renewed.
    pub timing: Timing,
}

/// Alerts of Canaries that name no alert provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notifier {
    /// Slack, or a server that speaks its protocol.
    Slack {
        /// Incoming webhook, or the API's address where a token is given.
        url: Sensitive,
        /// Bot token.
        token: Option<Sensitive>,
        /// HTTP proxy.
        proxy: Option<String>,
        /// Name that messages are signed with.
        user: String,
        /// Channel; the webhook's own when absent.
        channel: Option<String>,
    },
    /// Microsoft Teams.
    MsTeams {
        /// Incoming webhook.
        url: Sensitive,
        /// HTTP proxy.
        proxy: Option<String>,
    },
}

/// A text that is never shown, such as a webhook's address with its key.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive(String);

impl Sensitive {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the request that needs it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sensitive_text_is_not_shown() {
        let url = Sensitive::new("https://hooks.example.com/key");
        assert_eq!(format!("{url:?}"), "(hidden)");
        assert_eq!(url.reveal(), "https://hooks.example.com/key");
    }

    #[tokio::test]
    async fn kubeconfig_that_is_missing_is_named_in_the_error() {
        let server = ApiServer {
            kubeconfig: Some(PathBuf::from("/nowhere/kubeconfig")),
            address: None,
        };
        let error = server.config().await.err().map(|e| e.to_string());
        assert!(
            error.is_some_and(|e| e.contains("/nowhere/kubeconfig")),
            "the file is named"
        );
    }
}

//! Alerts: what chats are told about a release.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;

use crate::{
    api::{
        Alert, AlertProvider, AlertProviderType, Canary, Severity, Strategy, status::AlertNotice,
    },
    object::{Key, Kind},
    settings::Settings,
};

use super::{Outside, Post, PostError, deliver};

#[path = "alerts/discord.rs"]
mod discord;
#[path = "alerts/gchat.rs"]
mod gchat;
#[path = "alerts/rocket.rs"]
mod rocket;
#[path = "alerts/slack.rs"]
mod slack;
#[path = "alerts/teams.rs"]
mod teams;

/// Time in which a chat must have taken an alert.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Most characters of an alert's text.
const LENGTH: usize = 2000;

/// A named value in an alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name.
    pub name: &'static str,
    /// Value.
    pub value: String,
}

/// What a chat is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `NAME.NAMESPACE` of the Canary.
    pub subject: String,
    /// The text.
    pub text: String,
    /// Named values.
    pub fields: Vec<Field>,
    /// Severity.
    pub severity: Severity,
}

/// Where alerts go.
#[derive(Clone, PartialEq, Eq)]
pub struct Chat {
    /// Kind of the chat.
    pub kind: AlertProviderType,
    /// Address of the incoming webhook; a secret.
    pub address: String,
    /// Bearer token (Slack); a secret.
    pub token: Option<String>,
    /// HTTP proxy on the way.
    pub proxy: Option<String>,
    /// Name of the sender.
    pub username: String,
    /// Room.
    pub channel: String,
}

impl Message {
    /// The message of an alert about a Canary.
    pub fn new(canary: &Canary, settings: &Settings, alert: &AlertNotice) -> Self {
        Self {
            subject: format!(
                "{}.{}",
                canary.metadata.name.as_deref().unwrap_or_default(),
                canary.metadata.namespace.as_deref().unwrap_or_default()
            ),
            text: alert.message.clone(),
            fields: fields(canary, settings, alert.metadata),
            severity: alert.severity,
        }
    }
}

/// The named values of an alert: the cluster's name if it has one and, with `metadata`, what the
/// Canary releases and how.
pub fn fields(canary: &Canary, settings: &Settings, metadata: bool) -> Vec<Field> {
    let mut fields = Vec::new();
    if let Some(cluster) = &settings.cluster_name {
        fields.push(Field {
            name: "Cluster",
            value: cluster.clone(),
        });
    }
    if !metadata {
        return fields;
    }
    let spec = &canary.spec;
    let target = &spec.target_ref;
    fields.extend([
        Field {
            name: "Target",
            value: format!(
                "{}/{}.{}",
                target.kind.as_str(),
                target.name,
                canary.metadata.namespace.as_deref().unwrap_or_default()
            ),
        },
        Field {
            name: "Failed checks threshold",
            value: spec.analysis.threshold().to_string(),
        },
        Field {
            name: "Progress deadline",
            value: format!("{}s", spec.progress_deadline()),
        },
    ]);
    fields.extend(routing(canary).map(|value| Field {
        name: "Traffic routing",
        value,
    }));
    fields
}

fn routing(canary: &Canary) -> Option<String> {
    let analysis = &canary.spec.analysis;
    let steps = analysis.step_weights.as_deref().unwrap_or_default();
    match (analysis.step_weight, steps, analysis.strategy()) {
        (Some(step), _, _) if step > 0 => Some(format!(
            "Weight step: {step} max: {}",
            analysis.max_weight.unwrap_or(100)
        )),
        (_, [.., last], _) => {
            let steps: Vec<_> = steps.iter().map(i32::to_string).collect();
            Some(format!(
                "Weight steps: {} max: {}",
                steps.join(","),
                last.min(&100)
            ))
        }
        (_, [], Strategy::AbTesting) => Some("A/B Testing".to_owned()),
        (_, [], Strategy::BlueGreen) => Some("Blue/Green".to_owned()),
        (_, [], Strategy::Canary) => None,
    }
}

/// Whether an alert of this severity is sent: it is at least the wanted one, by default all are.
pub fn wanted(alert: &Alert, severity: Severity) -> bool {
    severity >= alert.severity.unwrap_or_default()
}

/// The `AlertProvider` that an alert refers to, by default in the Canary's namespace.
///
/// # Errors
/// When it is in another namespace and the operator refuses that.
pub fn provider_key(canary: &Canary, settings: &Settings, alert: &Alert) -> Result<Key, String> {
    let own = canary.metadata.namespace.as_deref().unwrap_or_default();
    let name = &alert.provider_ref.name;
    let namespace = alert
        .provider_ref
        .namespace
        .as_deref()
        .filter(|namespace| !namespace.is_empty())
        .unwrap_or(own);
    if settings.no_cross_namespace_refs && namespace != own {
        return Err(format!(
            "can't access alert provider {name}.{namespace}, cross-namespace references are blocked"
        ));
    }
    Ok(Key::new(Kind::AlertProvider, namespace, name.as_str()))
}

/// The chat of a provider; its Secret, if it names one, gives address and token.
///
/// # Errors
/// When there is no address; the text names what is missing, never a value.
pub async fn chat(outside: &dyn Outside, provider: &AlertProvider) -> Result<Chat, String> {
    let spec = &provider.spec;
    let namespace = provider.metadata.namespace.as_deref().unwrap_or_default();
    let mut address = spec.address.clone();
    let mut token = None;
    if let Some(secret) = &spec.secret_ref {
        let failed = |why: &str| format!("secret {namespace}/{}: {why}", secret.name);
        let data = tokio::time::timeout(TIMEOUT, outside.secret(namespace, &secret.name))
            .await
            .map_err(|_| failed("the API server did not answer in time"))?
            .map_err(|error| failed(&error.to_string()))?;
        let text = |key: &str| {
            data.get(key)
                .and_then(|value| std::str::from_utf8(value).ok())
                .map(|value| value.trim().to_owned())
        };
        address = Some(text("address").ok_or_else(|| failed("key address is missing"))?);
        token = text("token");
    }
    Ok(Chat {
        kind: spec.kind,
        address: address
            .filter(|address| !address.is_empty())
            .ok_or("spec.address is empty; set it, or a Secret with the key address")?,
        token,
        proxy: spec.proxy.clone().filter(|proxy| !proxy.is_empty()),
        username: or(spec.username.as_ref(), "flagger"),
        channel: or(spec.channel.as_ref(), "general"),
    })
}

fn or(value: Option<&String>, default: &str) -> String {
    value
        .filter(|value| !value.is_empty())
        .map_or(default, String::as_str)
        .to_owned()
}

impl Chat {
    /// The request that tells the chat a message.
    pub fn encode(&self, message: &Message) -> Post {
        let mut headers = BTreeMap::new();
        let mut url = self.address.clone();
        let body = match self.kind {
            AlertProviderType::Slack => {
                if let Some(token) = &self.token {
                    headers.insert("Authorization".to_owned(), format!("Bearer {token}"));
                }
                slack::encode(self, message)
            }
            AlertProviderType::Discord => {
                url = discord::address(&url);
                discord::encode(self, message)
            }
            AlertProviderType::Rocket => rocket::encode(self, message),
            AlertProviderType::Msteams => teams::encode(message),
            AlertProviderType::Gchat => gchat::encode(message),
        };
        Post {
            url,
            body,
            headers,
            timeout: TIMEOUT,
            disable_tls: false,
            proxy: self.proxy.clone(),
        }
    }

    /// Tells the chat a message, once.
    ///
    /// # Errors
    /// When the chat did not take it; the text holds no secret.
    pub async fn tell(&self, outside: &dyn Outside, message: &Message) -> Result<(), String> {
        let reply = deliver(outside, &self.encode(message))
            .await
            .map_err(|error: PostError| error.to_string())?;
        if (200..300).contains(&reply.status) {
            return Ok(());
        }
        Err(format!("the chat answered HTTP {}", reply.status))
    }
}

/// The JSON text of a payload.
fn json(payload: &impl Serialize) -> Vec<u8> {
    // Structures of texts always serialize.
    serde_json::to_vec(payload).unwrap_or_default()
}

/// Text of others, cut, in one colour: no mentions, and `&`, `<` and `>` as entities, by which
/// Slack's kind of markup and HTML mean the characters themselves.
fn quoted(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars().take(LENGTH) {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            c => safe.push(c),
        }
    }
    unmentioned(&safe)
}

/// Breaks what would call everybody in a room by a character without width.
fn unmentioned(text: &str) -> String {
    let mut safe: String = text.chars().take(LENGTH).collect();
    for name in ["everyone", "here", "channel", "all"] {
        safe = safe.replace(&format!("@{name}"), &format!("@\u{200b}{name}"));
    }
    safe
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn alert_without_a_severity_is_sent_for_everything() {
        let alert = |severity: serde_json::Value| -> Alert {
            let provider = json!({"name": "on-call"});
            serde_json::from_value(
                json!({"name": "a", "severity": severity, "providerRef": provider}),
            )
            .unwrap()
        };
        let all = [Severity::Info, Severity::Warn, Severity::Error];
        for (least, sent) in [
            (json!(null), [true, true, true]),
            (json!("info"), [true, true, true]),
            (json!("warn"), [false, true, true]),
            (json!("error"), [false, false, true]),
        ] {
            let alert = alert(least.clone());
            assert_eq!(
                all.map(|severity| wanted(&alert, severity)),
                sent,
                "{least}"
            );
        }
    }
}

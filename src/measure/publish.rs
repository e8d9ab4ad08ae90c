//! Tells the world what happened to a release.

use std::collections::BTreeMap;

use futures::future::{join, join_all, join3};
use jiff::Timestamp;

use crate::{
    api::{AlertProvider, Canary, HookType, Phase, status::AlertNotice, status::Notice},
    object::Key,
    plan::Outcome,
    settings::Settings,
};

use super::{
    Outside,
    alert::{self, Chat, Message},
    webhook,
};

/// Listeners that the operator was started with.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Listeners {
    /// Webhook that is told every event of Canaries that have no event webhook of their own.
    pub event_webhook: Option<String>,
    /// Chats that are told of Canaries that have no alerts of their own.
    pub chats: Vec<Chat>,
}

/// Whom a notice is about, and who is told.
#[derive(Clone, Copy)]
pub struct Audience<'a> {
    /// The Canary.
    pub canary: &'a Canary,
    /// Its phase when the notice was made.
    pub phase: Phase,
    /// What the operator was told at start.
    pub settings: &'a Settings,
    /// Listeners that the operator was started with.
    pub listeners: &'a Listeners,
    /// All `AlertProvider`s that the Canary refers to.
    pub providers: &'a BTreeMap<Key, AlertProvider>,
    /// The way out.
    pub outside: &'a dyn Outside,
    /// The time of the notice.
    pub now: Timestamp,
}

/// Sends a notice's alert and its event to those who listen, and calls the post-rollout hooks if
/// it asks for that. The Kubernetes Event is for the caller to write.
///
/// All are told side by side; one that fails keeps none of the others from hearing, and is
/// logged. Returned is what the post-rollout hooks came to, as notices of their own.
pub async fn publish(notice: &Notice, audience: Audience<'_>) -> Vec<Notice> {
    let alerts = async {
        if let Some(alert) = &notice.alert {
            send_alerts(alert, audience).await;
        }
    };
    let hooks = async {
        if notice.post_rollout {
            call_post_rollout(audience).await
        } else {
            Vec::new()
        }
    };
    let ((), (), follow_up) = join3(alerts, send_event(notice, audience), hooks).await;
    follow_up
}

async fn send_event(notice: &Notice, audience: Audience<'_>) {
    let canary = audience.canary;
    let mut hooks: Vec<_> = canary
        .spec
        .analysis
        .hooks(HookType::Event)
        .cloned()
        .collect();
    if hooks.is_empty() {
        let global = audience.listeners.event_webhook.as_deref();
        hooks.extend(global.map(webhook::global_listener));
    }
    join_all(hooks.iter().map(|hook| async move {
        let call = webhook::event_call(canary, hook, audience.phase, notice, audience.now);
        if let Outcome::Refused(why) = webhook::call(audience.outside, &call).await {
            tracing::error!(
                canary = subject(canary),
                hook = hook.name,
                why,
                "error sending event to webhook"
            );
        }
    }))
    .await;
}

async fn call_post_rollout(audience: Audience<'_>) -> Vec<Notice> {
    let canary = audience.canary;
    join_all(
        canary
            .spec
            .analysis
            .hooks(HookType::PostRollout)
            .map(|hook| async move {
                let call = webhook::hook_call(canary, hook, audience.phase);
                let outcome = webhook::call(audience.outside, &call).await;
                let (warning, message) = match outcome {
                    Outcome::Agreed => (false, format!("Post-rollout check {} passed", hook.name)),
                    Outcome::Refused(why) | Outcome::NoData(why) | Outcome::Unavailable(why) => (
                        true,
                        format!("Post-rollout hook {} failed {why}", hook.name),
                    ),
                    Outcome::Value(_) => (true, format!("Post-rollout hook {} failed", hook.name)),
                };
                Notice {
                    warning,
                    message,
                    alert: None,
                    post_rollout: false,
                }
            }),
    )
    .await
}

async fn send_alerts(notice: &AlertNotice, audience: Audience<'_>) {
    let Audience {
        canary,
        settings,
        outside,
        ..
    } = audience;
    let message = Message::new(canary, settings, notice);
    let message = &message;
    let own = canary.spec.analysis.alerts.as_deref().unwrap_or_default();
    let failed = |to: &str, why: String| {
        tracing::error!(canary = subject(canary), to, why, "alert can't be sent");
    };
    let tell = |to: String, chat: Result<Chat, String>| async move {
        let told = match chat {
            Ok(chat) => chat.tell(outside, message).await,
            Err(why) => Err(why),
        };
        if let Err(why) = told {
            failed(&to, why);
        }
    };
    let own_alerts = own
        .iter()
        .filter(|alert| alert::wanted(alert, notice.severity))
        .map(|alert| async move {
            let chat = match alert::provider_key(canary, settings, alert) {
                Err(why) => Err(why),
                Ok(key) => match audience.providers.get(&key) {
                    Some(provider) => alert::chat(outside, provider).await,
                    None => Err(format!(
                        "alert provider {}.{} not found",
                        key.name, key.namespace
                    )),
                },
            };
            tell(alert.name.clone(), chat).await;
        });
    let global = audience
        .listeners
        .chats
        .iter()
        .filter(|_| own.is_empty())
        .map(|chat| tell("global".to_owned(), Ok(chat.clone())));
    join(join_all(own_alerts), join_all(global)).await;
}

fn subject(canary: &Canary) -> String {
    format!(
        "{}.{}",
        canary.metadata.name.as_deref().unwrap_or_default(),
        canary.metadata.namespace.as_deref().unwrap_or_default()
    )
}

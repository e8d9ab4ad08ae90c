//! Webhooks: gates, checks, load tests and listeners of a release.

use std::{collections::BTreeMap, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use jiff::Timestamp;

use crate::{
    api::{Canary, HookType, Phase, Webhook, duration, status::Notice},
    plan::{HookCall, HookPayload, Outcome},
};

use super::{Outside, Post, PostError, Reply, deliver, text};

/// Time-out of one try where the manifest gives none.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Waits between tries: 1 s, 2 s, 4 s … 30 s.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// The call that a webhook of a Canary asks for.
///
/// A time-out that cannot be read, or is zero, is the default of 10 s.
pub fn hook_call(canary: &Canary, webhook: &Webhook, phase: Phase) -> HookCall {
    HookCall {
        name: webhook.name.clone(),
        kind: webhook.kind.unwrap_or_default(),
        url: webhook.url.clone(),
        timeout: webhook
            .timeout
            .as_deref()
            .and_then(|text| duration::parse(text).ok())
            .filter(|timeout| !timeout.is_zero())
            .unwrap_or(TIMEOUT),
        retries: webhook
            .retries
            .and_then(|retries| u32::try_from(retries).ok())
            .unwrap_or_default(),
        disable_tls: webhook.disable_tls.unwrap_or_default(),
        payload: HookPayload {
            name: canary.metadata.name.clone().unwrap_or_default(),
            namespace: canary.metadata.namespace.clone().unwrap_or_default(),
            phase: phase.as_str().to_owned(),
            checksum: checksum(canary),
            metadata: webhook
                .metadata
                .clone()
                .filter(|metadata| !metadata.is_empty()),
        },
    }
}

/// Identifies the revision that the status speaks of.
fn checksum(canary: &Canary) -> String {
    let status = canary.status.clone().unwrap_or_default();
    HookPayload::checksum_of(
        &status.last_applied_spec.unwrap_or_default(),
        &status.tracked_configs.unwrap_or_default(),
    )
}

/// The call that tells a listener of an event: the event's text, type and time in milliseconds
/// since 1970 are in the metadata, beside the webhook's own where the keys differ.
pub fn event_call(
    canary: &Canary,
    webhook: &Webhook,
    phase: Phase,
    notice: &Notice,
    now: Timestamp,
) -> HookCall {
    let mut call = hook_call(canary, webhook, phase);
    let mut metadata = call.payload.metadata.take().unwrap_or_default();
    metadata.extend(BTreeMap::from([
        ("eventMessage".to_owned(), notice.message.clone()),
        (
            "eventType".to_owned(),
            if notice.warning { "Warning" } else { "Normal" }.to_owned(),
        ),
        ("timestamp".to_owned(), now.as_millisecond().to_string()),
    ]));
    call.payload.metadata = Some(metadata);
    call
}

/// The listener that the operator was started with.
pub fn global_listener(url: &str) -> Webhook {
    Webhook {
        name: "events".to_owned(),
        kind: Some(HookType::Event),
        url: url.to_owned(),
        ..Webhook::default()
    }
}

/// Calls a webhook, as often as its retries allow, and says whether it agreed: HTTP 200, 201 or
/// 202.
///
/// Tried again are lost connections, HTTP 429 and HTTP 5xx other than 501. The first line of a
/// refusal's body is the reason, because people read there why a gate refused.
pub async fn call(outside: &dyn Outside, hook: &HookCall) -> Outcome {
    let body = match serde_json::to_vec(&hook.payload) {
        Ok(body) => body,
        Err(error) => return Outcome::Refused(format!("the payload cannot be written: {error}")),
    };
    let post = Post {
        url: hook.url.clone(),
        body,
        headers: BTreeMap::new(),
        timeout: hook.timeout,
        disable_tls: hook.disable_tls,
        proxy: None,
    };
    let backoff = ExponentialBuilder::default()
        .with_min_delay(BACKOFF.0)
        .with_max_delay(BACKOFF.1)
        .with_max_times(usize::try_from(hook.retries).unwrap_or(usize::MAX));
    let result = (|| async { judge(deliver(outside, &post).await) })
        .retry(backoff)
        .sleep(tokio::time::sleep)
        .when(|refusal: &Refusal| refusal.again)
        .await;
    match result {
        Ok(()) => Outcome::Agreed,
        Err(refusal) => Outcome::Refused(refusal.why),
    }
}

/// Why a webhook did not agree.
struct Refusal {
    why: String,
    /// Whether another try may help.
    again: bool,
}

fn judge(result: Result<Reply, PostError>) -> Result<(), Refusal> {
    let reply = result.map_err(|error| Refusal {
        again: match error {
            PostError::Connection(_) | PostError::TimedOut(_) => true,
            PostError::Invalid(_) | PostError::Denied(_) | PostError::Certificate(_) => false,
        },
        why: match error {
            PostError::Certificate(why) => format!("{why}, or set disableTLS: true"),
            PostError::Invalid(_)
            | PostError::Denied(_)
            | PostError::Connection(_)
            | PostError::TimedOut(_) => error.to_string(),
        },
    })?;
    if (200..=202).contains(&reply.status) {
        return Ok(());
    }
    let said = text::first_line(&String::from_utf8_lossy(&reply.body));
    let why = match reply.status {
        300..=399 => format!(
            "HTTP {}: redirects are not followed; set the final address",
            reply.status
        ),
        status if said.is_empty() => format!("HTTP {status}"),
        _ => said,
    };
    Err(Refusal {
        why,
        again: matches!(reply.status, 429 | 500 | 502..=599),
    })
}

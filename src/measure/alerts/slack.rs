//! Slack, and what its kind of payload is the model for.

use serde::Serialize;

use crate::api::Severity;

use super::{Chat, Message, json, quoted};

#[derive(Serialize)]
struct Payload<'a> {
    channel: &'a str,
    username: &'a str,
    icon_url: &'a str,
    icon_emoji: &'a str,
    attachments: [Attachment<'a>; 1],
}

#[derive(Serialize)]
struct Attachment<'a> {
    color: &'a str,
    author_name: String,
    text: String,
    mrkdwn_in: [&'a str; 1],
    fields: Vec<Field<'a>>,
}

#[derive(Serialize)]
struct Field<'a> {
    title: &'a str,
    value: String,
    short: bool,
}

/// The payload for Slack.
pub(super) fn encode(chat: &Chat, message: &Message) -> Vec<u8> {
    attachment(chat, message, "good", "danger", quoted)
}

/// A payload of Slack's kind with these colours; `safe` makes text of others harmless.
pub(super) fn attachment(
    chat: &Chat,
    message: &Message,
    good: &str,
    bad: &str,
    safe: fn(&str) -> String,
) -> Vec<u8> {
    json(&Payload {
        channel: &chat.channel,
        username: &chat.username,
        icon_url: "",
        icon_emoji: ":rocket:",
        attachments: [Attachment {
            color: match message.severity {
                Severity::Info | Severity::Warn => good,
                Severity::Error => bad,
            },
            author_name: message.subject.clone(),
            text: safe(&message.text),
            mrkdwn_in: ["text"],
            fields: message
                .fields
                .iter()
                .map(|field| Field {
                    title: field.name,
                    value: safe(&field.value),
                    short: false,
                })
                .collect(),
        }],
    })
}

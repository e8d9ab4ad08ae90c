//! Microsoft Teams: message cards.

use serde::Serialize;

use crate::api::Severity;

use super::{Message, json, unmentioned};

#[derive(Serialize)]
struct Card<'a> {
    #[serde(rename = "@type")]
    kind: &'a str,
    #[serde(rename = "@context")]
    context: &'a str,
    #[serde(rename = "themeColor")]
    color: &'a str,
    summary: &'a str,
    sections: [Section<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Section<'a> {
    activity_title: String,
    activity_subtitle: &'a str,
    facts: Vec<Fact<'a>>,
}

#[derive(Serialize)]
struct Fact<'a> {
    name: &'a str,
    value: String,
}

/// The payload for Microsoft Teams.
pub(super) fn encode(message: &Message) -> Vec<u8> {
    json(&Card {
        kind: "MessageCard",
        context: "http://schema.org/extensions",
        color: match message.severity {
            Severity::Info | Severity::Warn => "0076D7",
            Severity::Error => "FF0000",
        },
        summary: &message.subject,
        sections: [Section {
            activity_title: unmentioned(&message.text),
            activity_subtitle: &message.subject,
            facts: message
                .fields
                .iter()
                .map(|field| Fact {
                    name: field.name,
                    value: unmentioned(&field.value),
                })
                .collect(),
        }],
    })
}

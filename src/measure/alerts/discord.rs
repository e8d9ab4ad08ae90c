//! Discord, by its intake for Slack's kind of payload.

use super::{Chat, Message, slack, unmentioned};

/// The address of the intake: the webhook's with `/slack` at the end of its path.
pub(super) fn address(address: &str) -> String {
    let (path, query) = match address.split_once('?') {
        Some((path, query)) => (path, format!("?{query}")),
        None => (address, String::new()),
    };
    if path.ends_with("/slack") {
        return address.to_owned();
    }
    format!("{}/slack{query}", path.trim_end_matches('/'))
}

/// The payload for Discord.
pub(super) fn encode(chat: &Chat, message: &Message) -> Vec<u8> {
    slack::attachment(chat, message, "good", "danger", unmentioned)
}

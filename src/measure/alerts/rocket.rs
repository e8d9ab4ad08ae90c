//! Rocket.Chat: Slack's kind of payload with colours by number.

use super::{Chat, Message, slack, unmentioned};

/// The payload for Rocket.Chat.
pub(super) fn encode(chat: &Chat, message: &Message) -> Vec<u8> {
    slack::attachment(chat, message, "#0076D7", "#FF0000", unmentioned)
}

//! What happens at a time after the release begins: people edit, Git operations revert, versions
//! change their ways, webhooks answer differently.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::behaviour::Behaviour;

/// Something that happens once, or again and again.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Event {
    /// Seconds since the release.
    pub at_seconds: u64,
    /// Seconds until it happens again; absent: it happens once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub every_seconds: Option<u64>,
    /// Somebody edits an object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edit: Option<Edit>,
    /// Git operations apply an object again, as the files have it; the released workload with its
    /// new version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reapply: Option<Subject>,
    /// A version behaves differently from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behave: Option<Change>,
    /// Webhooks answer differently from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhooks: Option<Answers>,
    /// Chats answer with this HTTP status from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert_status: Option<u16>,
}

/// An object, in the Canary's namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Subject {
    /// API version, such as `apps/v1`.
    pub api_version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Name.
    pub name: String,
}

/// An edit of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Edit {
    /// API version, such as `apps/v1`.
    pub api_version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Merge patch (RFC 7396).
    pub patch: Value,
}

/// One of the two versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Version {
    /// The one that runs at the start.
    Stable,
    /// The one that is released.
    Release,
}

/// A change of how a version behaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Change {
    /// The version.
    pub version: Version,
    /// How it behaves from now on.
    pub like: Behaviour,
}

/// What webhooks answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Answers {
    /// HTTP status.
    pub status: u16,
    /// Only those whose URL contains this text; absent: all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub containing: String,
}

impl Event {
    /// How often it has happened by a second after the release.
    pub fn count_by(&self, second: u64) -> u64 {
        let Some(passed) = second.checked_sub(self.at_seconds) else {
            return 0;
        };
        let again = self
            .every_seconds
            .and_then(|every| passed.checked_div(every));
        1 + again.unwrap_or(0)
    }

    /// What makes no sense, with the field's name.
    pub fn fault(&self) -> Option<String> {
        let deeds = [
            self.edit.is_some(),
            self.reapply.is_some(),
            self.behave.is_some(),
            self.webhooks.is_some(),
            self.alert_status.is_some(),
        ];
        if deeds.into_iter().filter(|deed| *deed).count() != 1 {
            let names = "edit, reapply, behave, webhooks, alertStatus";
            return Some(format!("must have one of {names}, and no more"));
        }
        if self.every_seconds == Some(0) {
            return Some("everySeconds: must be more than 0".to_owned());
        }
        if let Some(edit) = &self.edit
            && !edit.patch.is_object()
        {
            return Some("edit.patch: must be an object, as a merge patch is".to_owned());
        }
        if let Some((field, range)) = self.behave.as_ref().and_then(|to| to.like.fault()) {
            return Some(format!("behave.like.{field}: must be {range}"));
        }
        let status = self.webhooks.as_ref().map(|to| to.status);
        let wrong = |status: u16| !(100..=599).contains(&status);
        if status.or(self.alert_status).is_some_and(wrong) {
            return Some("must be an HTTP status, from 100 to 599".to_owned());
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_happens_at_its_time_and_as_often_as_it_says() {
        let once = Event {
            at_seconds: 10,
            ..Event::default()
        };
        assert_eq!([9, 10, 99].map(|second| once.count_by(second)), [0, 1, 1]);
        let often = Event {
            every_seconds: Some(5),
            ..once
        };
        assert_eq!(
            [9, 10, 14, 15, 20].map(|second| often.count_by(second)),
            [0, 1, 1, 2, 3]
        );
    }
}

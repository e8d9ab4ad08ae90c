//! Refusals: what the API server answers when it does not do what was asked.

use serde_json::{Value, json};

use crate::schema::{Reason, Violation};

/// One cause of a refusal: its type, the field and a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// The kind of cause, such as `FieldValueInvalid`.
    pub reason: &'static str,
    /// The path of the field, such as `spec.replicas`.
    pub field: String,
    /// A sentence for people.
    pub message: String,
}

impl Cause {
    /// A cause about `field`.
    pub fn new(reason: &'static str, field: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            reason,
            field: field.into(),
            message: message.into(),
        }
    }

    /// `FieldValueInvalid` at `field`.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new("FieldValueInvalid", field, message)
    }

    /// `FieldValueRequired` at `field`.
    pub fn required(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new("FieldValueRequired", field, message)
    }

    /// `FieldValueForbidden` at `field`.
    pub fn forbidden(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new("FieldValueForbidden", field, message)
    }
}

/// What a server says of a violation: itself, and the faults of the branch that fits best.
pub fn causes_of(violation: Violation) -> Vec<Cause> {
    let (reason, label) = match violation.reason {
        Reason::Invalid | Reason::Combination => ("FieldValueInvalid", "Invalid value"),
        Reason::Type => ("FieldValueTypeInvalid", "Invalid value"),
        Reason::Required => ("FieldValueRequired", "Required value"),
        Reason::Forbidden => ("FieldValueForbidden", "Forbidden"),
        Reason::Unsupported => ("FieldValueNotSupported", "Unsupported value"),
        Reason::Duplicate => ("FieldValueDuplicate", "Duplicate value"),
        Reason::TooLong => ("FieldValueTooLong", "Too long"),
        Reason::TooMany => ("FieldValueTooMany", "Too many"),
    };
    let nameless = violation.reason == Reason::Combination;
    let field = if nameless {
        "<nil>".to_owned()
    } else {
        violation.field
    };
    let (found, action) = (violation.fault.found, violation.fault.action);
    let own = Cause::new(reason, field, format!("{label}: found {found}; {action}"));
    let within = violation.within.into_iter().flat_map(causes_of);
    std::iter::once(own).chain(within).collect()
}

/// A refusal: the HTTP code, the reason and the details of a `Status` object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The HTTP status code.
    pub code: u16,
    /// The machine-readable reason, such as `Conflict`.
    pub reason: &'static str,
    /// What else the answer carries.
    pub details: Box<Details>,
}

/// The parts of a refusal that not every one has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Details {
    /// A sentence for people.
    pub message: String,
    /// The causes, one a field.
    pub causes: Vec<Cause>,
    /// The API group of the object.
    pub group: String,
    /// The resource (or the kind, for `Invalid`) that was refused.
    pub kind: String,
    /// The name of the object.
    pub name: String,
    /// Seconds after which the client may try again.
    pub retry_after: Option<u32>,
    /// A token to go on with an expired list from now.
    pub resume: Option<String>,
}

impl Refusal {
    /// A refusal with a code, a reason and a message.
    pub fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        let details = Details {
            message: message.into(),
            ..Details::default()
        };
        Self {
            code,
            reason,
            details: Box::new(details),
        }
    }

    /// The refusal, saying which object it is about.
    #[must_use]
    pub fn about(mut self, group: &str, kind: &str, name: &str) -> Self {
        group.clone_into(&mut self.details.group);
        kind.clone_into(&mut self.details.kind);
        name.clone_into(&mut self.details.name);
        self
    }

    /// The refusal with one more cause.
    #[must_use]
    pub fn because(mut self, cause: Cause) -> Self {
        self.details.causes.push(cause);
        self
    }

    /// The refusal with a `Retry-After` of so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.details.retry_after = Some(seconds);
        self
    }

    /// 400 `BadRequest`.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    /// 403 `Forbidden` for an object.
    pub fn forbidden(group: &str, resource: &str, name: &str, message: &str) -> Self {
        let what = dotted(resource, group);
        let text = if name.is_empty() {
            format!("{what} is forbidden: {message}")
        } else {
            format!("{what} \"{name}\" is forbidden: {message}")
        };
        Self::new(403, "Forbidden", text).about(group, resource, name)
    }

    /// 404 `NotFound` for an object.
    pub fn not_found(group: &str, resource: &str, name: &str) -> Self {
        let text = format!("{} \"{name}\" not found", dotted(resource, group));
        Self::new(404, "NotFound", text).about(group, resource, name)
    }

    /// 404 for a path that leads nowhere.
    pub fn no_such_path() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    /// 405 `MethodNotAllowed`.
    pub fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    /// 409 `AlreadyExists` for an object.
    pub fn already_exists(group: &str, resource: &str, name: &str) -> Self {
        let text = format!("{} \"{name}\" already exists", dotted(resource, group));
        Self::new(409, "AlreadyExists", text).about(group, resource, name)
    }

    /// 409 `Conflict` for an object.
    pub fn conflict(group: &str, resource: &str, name: &str, message: &str) -> Self {
        let what = dotted(resource, group);
        let text = format!("Operation cannot be fulfilled on {what} \"{name}\": {message}");
        Self::new(409, "Conflict", text).about(group, resource, name)
    }

    /// 410 `Expired`.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    /// 415 `UnsupportedMediaType`.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, "UnsupportedMediaType", message)
    }

    /// 422 `Invalid` for an object of `kind`, with its causes.
    pub fn invalid(group: &str, kind: &str, name: &str, causes: Vec<Cause>) -> Self {
        let list: Vec<String> = causes
            .iter()
            .map(|cause| format!("{}: {}", cause.field, cause.message))
            .collect();
        let list = match list.len() {
            1 => list.concat(),
            _ => format!("[{}]", list.join(", ")),
        };
        let text = format!("{} \"{name}\" is invalid: {list}", dotted(kind, group));
        let mut refusal = Self::new(422, "Invalid", text).about(group, kind, name);
        refusal.details.causes = causes;
        refusal
    }

    /// The refusal as a `Status` object.
    pub fn to_status(&self) -> Value {
        let mut details = serde_json::Map::new();
        let mut put = |key: &str, value: Value| details.insert(key.to_owned(), value);
        let said = &self.details;
        for (key, text) in [
            ("name", &said.name),
            ("group", &said.group),
            ("kind", &said.kind),
        ] {
            if !text.is_empty() {
                put(key, json!(text));
            }
        }
        if let Some(seconds) = said.retry_after {
            put("retryAfterSeconds", json!(seconds));
        }
        if !said.causes.is_empty() {
            let causes = said.causes.iter().map(|cause| {
                let mut entry = json!({"message": cause.message});
                if !cause.reason.is_empty() {
                    entry["reason"] = json!(cause.reason);
                }
                if !cause.field.is_empty() {
                    entry["field"] = json!(cause.field);
                }
                entry
            });
            put("causes", causes.collect());
        }
        let mut metadata = json!({});
        if let Some(token) = &said.resume {
            metadata["continue"] = json!(token);
        }
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": metadata, "status": "Failure",
            "message": said.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            status["reason"] = json!(self.reason);
        }
        if !details.is_empty() {
            status["details"] = Value::Object(details);
        }
        status
    }
}

/// `deployments.apps`, or the bare resource for the core group.
fn dotted(resource: &str, group: &str) -> String {
    if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    }
}

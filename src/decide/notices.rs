//! Texts of events and alerts, as dashboards and scripts know them.

use crate::{
    api::{
        Severity,
        status::{AlertNotice, Notice},
    },
    observe::Snapshot,
};

/// A Normal event.
pub(super) fn normal(message: impl Into<String>) -> Notice {
    Notice {
        warning: false,
        message: message.into(),
        alert: None,
        post_rollout: false,
    }
}

/// A Warning event.
pub(super) fn warning(message: impl Into<String>) -> Notice {
    Notice {
        warning: true,
        ..normal(message)
    }
}

/// An alert that goes with an event.
pub(super) fn alert(mut notice: Notice, severity: Severity, message: impl Into<String>) -> Notice {
    notice.alert = Some(AlertNotice {
        severity,
        message: message.into(),
        metadata: false,
    });
    notice
}

/// The same alert with target, thresholds and traffic routing listed.
pub(super) fn with_metadata(mut notice: Notice) -> Notice {
    if let Some(alert) = &mut notice.alert {
        alert.metadata = true;
    }
    notice
}

/// Call post-rollout hooks with this notice.
pub(super) fn ends_release(mut notice: Notice) -> Notice {
    notice.post_rollout = true;
    notice
}

/// `NAME.NAMESPACE` of the Canary.
pub(super) fn full_name(s: &Snapshot) -> String {
    format!("{}.{}", s.name(), s.namespace())
}

/// `TARGET.NAMESPACE`.
pub(super) fn target(s: &Snapshot) -> String {
    format!("{}.{}", s.canary.spec.target_ref.name, s.namespace())
}

/// `TARGET-primary.NAMESPACE`.
pub(super) fn primary(s: &Snapshot) -> String {
    format!("{}.{}", s.canary.spec.primary_name(), s.namespace())
}

//! Whether a workload can take traffic.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{count, elements, replicas};
use crate::object::{Kind, Object};

/// Which of the two workloads is asked about; messages differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The workload that serves users.
    Primary,
    /// The workload under analysis.
    Canary,
}

/// Whether a workload can take traffic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It can.
    Ready,
    /// It cannot yet.
    NotReady {
        /// Why, in Flagger's words.
        message: String,
        /// Whether it had its time: waiting longer is of no use.
        expired: bool,
        /// When its time is over, if nothing changes before.
        again: Option<Timestamp>,
    },
}

/// Whether a workload can take traffic: its newest template runs in all replicas and at least
/// `threshold` percent of them, and at least one, are available.
///
/// No replicas are never ready. Services have no pods of their own and always are.
///
/// The deadline, in seconds, counts from `started`: when the revision, or its promotion, began.
/// Pass `None` for a workload that was ready before: its deadline counts from when its Deployment
/// lost availability. A Deployment's own verdict that it makes no progress ends the wait too,
/// unless it was given before `started`.
pub fn readiness(
    object: &Object,
    who: Side,
    threshold: i32,
    started: Option<Timestamp>,
    deadline: i64,
    now: Timestamp,
) -> Readiness {
    let body = object.body.value();
    let is_observed = count(&body, "/status/observedGeneration") >= object.generation;
    let kind = object.key.kind;
    let reason = if kind == Kind::Deployment {
        waits_for_deployment(object, &body, is_observed, threshold)
    } else if kind == Kind::DaemonSet {
        waits_for_daemon_set(&body, is_observed, threshold)
    } else {
        None
    };
    let Some(reason) = reason else {
        return Readiness::Ready;
    };
    let stalled = is_observed && has_stalled(&body, started);
    let ends = started
        .or_else(|| unavailable_since(&body).filter(|_| is_observed))
        .and_then(|from| from.checked_add(SignedDuration::from_secs(deadline)).ok());
    let expired = stalled || ends.is_some_and(|ends| ends <= now);
    let name = &object.key.name;
    let namespace = &object.key.namespace;
    let message = if kind == Kind::DaemonSet {
        let reason = if expired {
            format!("exceeded its progressDeadlineSeconds: {deadline}")
        } else {
            reason
        };
        match who {
            Side::Primary => format!("primary daemonset {name}.{namespace} not ready: {reason}"),
            Side::Canary => format!(
                "canary damonset {name}.{namespace} not ready with retryable {}: {reason}",
                !expired
            ),
        }
    } else {
        let reason = if stalled {
            format!("deployment {name:?} exceeded its progress deadline")
        } else {
            reason
        };
        match who {
            Side::Primary => format!("{name}.{namespace} not ready: {reason}"),
            Side::Canary => format!("canary deployment {name}.{namespace} not ready: {reason}"),
        }
    };
    Readiness::NotReady {
        message,
        expired,
        again: ends.filter(|_| !expired),
    }
}

fn waits_for_deployment(
    object: &Object,
    body: &Value,
    is_observed: bool,
    threshold: i32,
) -> Option<String> {
    const WAITING: &str = "waiting for rollout to finish:";
    if !is_observed {
        return Some(format!(
            "{WAITING} observed deployment generation less than desired generation"
        ));
    }
    let wanted = replicas(object);
    let all = count(body, "/status/replicas");
    let updated = count(body, "/status/updatedReplicas");
    let available = count(body, "/status/availableReplicas");
    if wanted < 1 {
        Some(format!("{WAITING} it is scaled to zero replicas"))
    } else if updated < wanted {
        Some(format!(
            "{WAITING} {updated} out of {wanted} new replicas have been updated"
        ))
    } else if all > updated {
        let old = all - updated;
        Some(format!(
            "{WAITING} {old} old replicas are pending termination"
        ))
    } else {
        let needed = share(updated, threshold);
        (available < needed).then(|| {
            format!(
                "{WAITING} {available} of {needed} (readyThreshold {threshold}%) \
                 updated replicas are available"
            )
        })
    }
}

fn waits_for_daemon_set(body: &Value, is_observed: bool, threshold: i32) -> Option<String> {
    const WAITING: &str = "waiting for rollout to finish:";
    if !is_observed {
        return Some(format!(
            "{WAITING} observed daemonset generation less than desired generation"
        ));
    }
    let wanted = count(body, "/status/desiredNumberScheduled");
    let updated = count(body, "/status/updatedNumberScheduled");
    let available = count(body, "/status/numberAvailable");
    if wanted < 1 {
        Some(format!("{WAITING} it is scheduled on no node"))
    } else if updated < wanted {
        Some(format!(
            "{WAITING} {updated} out of {wanted} new pods have been updated"
        ))
    } else {
        let needed = share(wanted, threshold);
        (available < needed).then(|| {
            format!(
                "{WAITING} {available} of {needed} (readyThreshold {threshold}%) \
                 updated pods are available"
            )
        })
    }
}

/// A share of pods, in percent, rounded down but never to none.
fn share(pods: i64, percent: i32) -> i64 {
    (pods.saturating_mul(percent.clamp(0, 100).into()) / 100).max(1)
}

/// Whether the Deployment controller gave up on what was started. What it says from before the
/// start is about another attempt.
fn has_stalled(body: &Value, started: Option<Timestamp>) -> bool {
    condition(body, "Progressing").is_some_and(|progressing| {
        text(progressing, "reason") == Some("ProgressDeadlineExceeded")
            && started.is_none_or(|started| {
                time(progressing, "lastUpdateTime").is_none_or(|said| said >= started)
            })
    })
}

/// Since when a Deployment has fewer available replicas than it must have.
fn unavailable_since(body: &Value) -> Option<Timestamp> {
    let available = condition(body, "Available")?;
    (text(available, "status") == Some("False")
        && text(available, "reason") == Some("MinimumReplicasUnavailable"))
    .then(|| time(available, "lastUpdateTime"))?
}

fn condition<'a>(body: &'a Value, kind: &str) -> Option<&'a Value> {
    elements(body.pointer("/status/conditions"))
        .find(|condition| text(condition, "type") == Some(kind))
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field)?.as_str()
}

fn time(value: &Value, field: &str) -> Option<Timestamp> {
    text(value, field)?.parse().ok()
}

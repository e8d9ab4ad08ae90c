//! Whether a workload can take traffic.

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{count, elements, replicas};
use crate::object::{At, Kind, Object};

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
    let body = object.body.read();
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
    elements(body.at("/status/conditions")).find(|condition| text(condition, "type") == Some(kind))
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field)?.as_str()
}

fn time(value: &Value, field: &str) -> Option<Timestamp> {
    text(value, field)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workload::fixtures::{daemon_set, deployment, object, patched};

    fn at(text: &str) -> Timestamp {
        format!("2026-01-01T{text}Z").parse().unwrap()
    }

    const NOON: &str = "12:00:00";

    fn asked(object: &Object, who: Side, threshold: i32) -> Readiness {
        readiness(object, who, threshold, None, 600, at(NOON))
    }

    #[expect(clippy::needless_pass_by_value, reason = "reads better in tests")]
    fn with_status(object: &Object, status: Value) -> Object {
        patched(object, &json!({ "status": status }))
    }

    fn message(readiness: Readiness) -> String {
        match readiness {
            Readiness::Ready => "ready".to_owned(),
            Readiness::NotReady { message, .. } => message,
        }
    }

    #[test]
    fn readiness_of_a_deployment_uses_the_words_of_flagger() {
        for (status, threshold, wanted) in [
            (json!({}), 100, "ready"),
            (
                json!({"observedGeneration": 2}),
                100,
                "waiting for rollout to finish: observed deployment generation less than desired generation",
            ),
            (
                json!({"updatedReplicas": null}),
                100,
                "waiting for rollout to finish: 0 out of 3 new replicas have been updated",
            ),
            (
                json!({"replicas": 4}),
                100,
                "waiting for rollout to finish: 1 old replicas are pending termination",
            ),
            (
                json!({"availableReplicas": 1}),
                100,
                "waiting for rollout to finish: 1 of 3 (readyThreshold 100%) updated replicas are available",
            ),
            (
                json!({"availableReplicas": 1}),
                70,
                "waiting for rollout to finish: 1 of 2 (readyThreshold 70%) updated replicas are available",
            ),
            (json!({"availableReplicas": 1}), 50, "ready"),
            (
                json!({"availableReplicas": 0}),
                0,
                "waiting for rollout to finish: 0 of 1 (readyThreshold 0%) updated replicas are available",
            ),
        ] {
            let object = with_status(&deployment(), status.clone());
            let primary = message(asked(&object, Side::Primary, threshold));
            let canary = message(asked(&object, Side::Canary, threshold));
            if wanted == "ready" {
                assert_eq!(
                    (primary.as_str(), canary.as_str()),
                    (wanted, wanted),
                    "{status}"
                );
            } else {
                assert_eq!(primary, format!("podinfo.test not ready: {wanted}"));
                assert_eq!(
                    canary,
                    format!("canary deployment podinfo.test not ready: {wanted}")
                );
            }
        }
    }

    #[test]
    fn readiness_of_no_replicas_is_never_given() {
        let zero = patched(
            &deployment(),
            &json!({"spec": {"replicas": 0}, "status": {"replicas": 0, "updatedReplicas": 0, "availableReplicas": 0}}),
        );
        let nowhere = with_status(&daemon_set(), json!({"observedGeneration": 1}));
        for object in [zero, nowhere] {
            for threshold in [0, 50, 100] {
                assert_ne!(asked(&object, Side::Primary, threshold), Readiness::Ready);
            }
        }
    }

    #[test]
    fn readiness_of_one_replica_needs_one_at_any_threshold() {
        let one = patched(
            &deployment(),
            &json!({"spec": {"replicas": 1}, "status": {"replicas": 1, "updatedReplicas": 1, "availableReplicas": 0}}),
        );
        for threshold in [0, 1, 50, 99] {
            assert_ne!(asked(&one, Side::Canary, threshold), Readiness::Ready);
        }
    }

    #[test]
    fn readiness_of_a_daemon_set_uses_the_words_of_flagger() {
        let scheduled = |updated: i64, available: i64| {
            json!({"observedGeneration": 1, "desiredNumberScheduled": 4,
                "updatedNumberScheduled": updated, "numberAvailable": available})
        };
        for (status, threshold, wanted) in [
            (scheduled(4, 4), 100, "ready"),
            (scheduled(4, 2), 50, "ready"),
            (
                scheduled(3, 3),
                100,
                "waiting for rollout to finish: 3 out of 4 new pods have been updated",
            ),
            (
                scheduled(4, 1),
                50,
                "waiting for rollout to finish: 1 of 2 (readyThreshold 50%) updated pods are available",
            ),
        ] {
            let object = with_status(&daemon_set(), status.clone());
            let found = message(asked(&object, Side::Canary, threshold));
            if wanted == "ready" {
                assert_eq!(found, wanted, "{status}");
            } else {
                assert_eq!(
                    found,
                    format!("canary damonset podinfo.test not ready with retryable true: {wanted}")
                );
            }
        }
    }

    #[test]
    fn readiness_expires_when_the_deadline_of_the_start_is_over() {
        let object = with_status(&deployment(), json!({"availableReplicas": 0}));
        let ends = at("12:10:00");
        for (now, expired, again) in [
            ("12:09:59", false, Some(ends)),
            ("12:10:00", true, None),
            ("13:00:00", true, None),
        ] {
            let found = readiness(&object, Side::Canary, 100, Some(at(NOON)), 600, at(now));
            let Readiness::NotReady {
                expired: is_expired,
                again: next,
                ..
            } = found
            else {
                panic!("ready at {now}");
            };
            assert_eq!((is_expired, next), (expired, again), "{now}");
        }
        let daemons = with_status(&daemon_set(), json!({"observedGeneration": 1}));
        let late = readiness(
            &daemons,
            Side::Primary,
            100,
            Some(at(NOON)),
            600,
            at("13:00:00"),
        );
        assert_eq!(
            message(late),
            "primary daemonset podinfo.test not ready: exceeded its progressDeadlineSeconds: 600"
        );
    }

    fn conditions(kind: &str, status: &str, reason: &str, time: &str) -> Value {
        json!({
            "availableReplicas": 0,
            "conditions": [{"type": kind, "status": status, "reason": reason,
                "lastUpdateTime": format!("2026-01-01T{time}Z")}],
        })
    }

    #[test]
    fn readiness_expires_when_the_deployment_gave_up_on_this_attempt() {
        let gave_up = |time| {
            let status = conditions("Progressing", "False", "ProgressDeadlineExceeded", time);
            with_status(&deployment(), status)
        };
        let asked =
            |object: &Object, started| readiness(object, Side::Canary, 100, started, 600, at(NOON));
        let Readiness::NotReady {
            message, expired, ..
        } = asked(&gave_up("11:59:00"), Some(at("11:58:00")))
        else {
            panic!("ready");
        };
        assert!(expired);
        assert_eq!(
            message,
            "canary deployment podinfo.test not ready: deployment \"podinfo\" exceeded its progress deadline"
        );
        // What was said before the start is about the attempt before.
        let stale = asked(&gave_up("11:00:00"), Some(at("11:58:00")));
        assert!(matches!(stale, Readiness::NotReady { expired: false, .. }));
        // So is what was said about another generation.
        let unobserved = with_status(&gave_up("11:59:00"), json!({"observedGeneration": 2}));
        let stale = asked(&unobserved, Some(at("11:58:00")));
        assert!(matches!(stale, Readiness::NotReady { expired: false, .. }));
    }

    #[test]
    fn readiness_without_start_counts_from_the_loss_of_availability() {
        let lost = |time| {
            let status = conditions("Available", "False", "MinimumReplicasUnavailable", time);
            with_status(&deployment(), status)
        };
        for (time, wanted) in [("11:49:59", true), ("11:51:00", false)] {
            let found = readiness(&lost(time), Side::Canary, 100, None, 600, at(NOON));
            let Readiness::NotReady { expired, again, .. } = found else {
                panic!("ready");
            };
            assert_eq!(expired, wanted, "{time}");
            assert_eq!(again, (!wanted).then(|| at("12:01:00")));
        }
        // Without that condition nothing says when to give up.
        let object = with_status(&deployment(), json!({"availableReplicas": 0}));
        let found = readiness(&object, Side::Canary, 100, None, 600, at(NOON));
        assert!(matches!(
            found,
            Readiness::NotReady {
                expired: false,
                again: None,
                ..
            }
        ));
    }

    #[test]
    fn readiness_of_a_service_is_given() {
        let service = object(Kind::Service, "metadata: {name: s}");
        assert_eq!(asked(&service, Side::Primary, 100), Readiness::Ready);
    }

    #[test]
    fn readiness_with_absurd_numbers_does_not_overflow() {
        let object = with_status(
            &deployment(),
            json!({"replicas": i64::MAX, "updatedReplicas": i64::MAX, "availableReplicas": i64::MIN}),
        );
        let found = readiness(
            &object,
            Side::Canary,
            i32::MAX,
            Some(at(NOON)),
            i64::MAX,
            at(NOON),
        );
        assert!(matches!(found, Readiness::NotReady { expired: false, .. }));
    }
}

//! The nodes' agents: pods start, get ready or crash, and end.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use super::{Controllers, behaviour, condition, integer, later, text};
use crate::sim::server::{DeleteOptions, Object};

/// How long a pod takes to end once it was told to.
const STOP: Duration = Duration::from_secs(2);

/// The life of one pod.
#[derive(Clone, Debug)]
pub struct Run {
    created: Timestamp,
    /// Since when the pod is ready.
    pub ready: Option<Timestamp>,
    ends: Option<Timestamp>,
    address: String,
}

impl Controllers {
    pub(super) fn pods(&mut self) {
        let pods = self.server.list("", "pods", "");
        for pod in &pods {
            self.look_at(pod, [], |this| this.pod(pod));
        }
        self.runs
            .retain(|uid, _| pods.iter().any(|pod| pod.uid() == uid));
    }

    fn pod(&mut self, pod: &Object) {
        let now = self.clock.now();
        let count = self.runs.len();
        let run = self
            .runs
            .entry(pod.uid().to_owned())
            .or_insert_with(|| Run {
                created: now,
                ready: None,
                ends: None,
                address: address(pod, count),
            });
        if pod.terminating() {
            let grace = integer(pod.value(), "/metadata/deletionGracePeriodSeconds").unwrap_or(30);
            let seconds = |n: i64| Duration::from_secs(u64::try_from(n).unwrap_or_default());
            // A pod that waits before it stops serves those who have not yet heard of its end.
            let waits = "/spec/containers/0/lifecycle/preStop/sleep/seconds";
            let waits = seconds(integer(pod.value(), waits).unwrap_or(0));
            let ends = later(now, seconds(grace).min(waits + STOP));
            let ends = *run.ends.get_or_insert(ends);
            if ends <= now {
                let options = DeleteOptions {
                    grace: Some(0),
                    ..DeleteOptions::default()
                };
                let _ = self
                    .server
                    .delete(("", "pods"), (pod.namespace(), pod.name()), &options);
            } else {
                self.wake_at(ends);
            }
            return;
        }
        let image = text(pod.value(), "/spec/containers/0/image");
        let behaviour = behaviour(&self.behaviours, image);
        let due = behaviour
            .start_seconds
            .map(|seconds| later(run.created, Duration::from_secs_f64(seconds.max(0.0))));
        // A behaviour that changes concerns pods that are yet to get ready.
        let ready = run.ready.is_some() || due.is_some_and(|due| due <= now);
        if ready && run.ready.is_none() {
            run.ready = Some(now);
        }
        let run = run.clone();
        if let Some(due) = due.filter(|due| *due > now) {
            self.wake_at(due);
        }
        self.write_pod_status(pod, &run, ready, due.is_none() && !ready);
    }

    fn write_pod_status(&self, pod: &Object, run: &Run, ready: bool, crashes: bool) {
        let known =
            condition(pod.value(), "Ready").is_some_and(|c| (c["status"] == "True") == ready);
        if known {
            return;
        }
        let now = self.now();
        let word = if ready { "True" } else { "False" };
        let state = if crashes {
            json!({"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}})
        } else {
            json!({"running": {"startedAt": now}})
        };
        let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(|kind| {
            let early = matches!(kind, "PodScheduled" | "Initialized");
            json!({
                "type": kind, "status": if early { "True" } else { word },
                "lastTransitionTime": now,
            })
        });
        let status = json!({
            "phase": "Running", "podIP": run.address, "podIPs": [{"ip": run.address}],
            "hostIP": "192.168.0.1", "startTime": pod.value()["metadata"]["creationTimestamp"],
            "conditions": conditions,
            "containerStatuses": [{
                "name": text(pod.value(), "/spec/containers/0/name"),
                "image": text(pod.value(), "/spec/containers/0/image"), "imageID": "",
                "ready": ready, "started": ready, "restartCount": u32::from(crashes),
                "state": state,
            }],
        });
        self.write_status(("", "pods"), pod, status);
    }
}

/// An address that no other pod has: the last digits of its UID.
fn address(pod: &Object, count: usize) -> String {
    let uid = pod.uid();
    let number = uid
        .get(uid.len().saturating_sub(4)..)
        .and_then(|digits| u16::from_str_radix(digits, 16).ok())
        .map_or(count, usize::from);
    format!("10.244.{}.{}", number / 256, number % 256)
}

//! Stand-in for scheduler and kubelet: binds every pod to the one Node and says that it runs.
//!
//! Pods with an image tagged `broken` start and never become ready; those tagged `broken-primary`
//! fail so in primaries alone.

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt,
        watcher::{Config, Event, watcher},
    },
};
use serde_json::{Value, json};
use tokio::time::sleep;

/// Pods looked after at a time.
const AT_ONCE: usize = 64;

/// How long a container takes to start: long enough that whoever does not wait for it is caught.
const START: Duration = Duration::from_millis(700);

/// Looks after all pods of the cluster, for ever.
pub async fn run(client: Client) {
    watcher(Api::<Pod>::all(client.clone()), Config::default())
        .default_backoff()
        .for_each_concurrent(AT_ONCE, |event| {
            let client = client.clone();
            async move {
                if let Ok(Event::Apply(pod) | Event::InitApply(pod)) = event {
                    // Pods come and go meanwhile; their next event says what is left to do.
                    let _ = look_after(client, &pod).await;
                }
            }
        })
        .await;
}

async fn look_after(client: Client, pod: &Pod) -> Result<(), kube::Error> {
    let (name, namespace) = (pod.name_any(), pod.namespace().unwrap_or_default());
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    if pod.metadata.deletion_timestamp.is_some() {
        let now = DeleteParams::default().grace_period(0);
        return pods.delete(&name, &now).await.map(drop);
    }
    let bound = pod.spec.as_ref().is_some_and(|s| s.node_name.is_some());
    if !bound {
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": name, "namespace": namespace },
            "target": { "apiVersion": "v1", "kind": "Node", "name": "node" },
        });
        let _: Value = pods
            .create_subresource("binding", &name, &PostParams::default(), &binding)
            .await?;
    }
    let running = pod
        .status
        .as_ref()
        .is_some_and(|status| status.phase.as_deref() == Some("Running"));
    if running {
        return Ok(());
    }
    sleep(START).await;
    let status = status(pod);
    pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(status))
        .await
        .map(drop)
}

fn status(pod: &Pod) -> Value {
    let primary = pod.name_any().contains("-primary-");
    let broken = pod
        .spec
        .iter()
        .flat_map(|spec| &spec.containers)
        .filter_map(|container| container.image.as_deref())
        .any(|image| image.ends_with(":broken") || primary && image.ends_with(":broken-primary"));
    let ready = if broken { "False" } else { "True" };
    let now = Timestamp::now().to_string();
    let condition = |kind: &str, status: &str| json!({ "type": kind, "status": status, "lastTransitionTime": now });
    let address = address(pod);
    json!({ "status": {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{ "ip": address }],
        "hostIP": "10.255.255.1",
        "startTime": now,
        "conditions": [
            condition("PodScheduled", "True"),
            condition("Initialized", "True"),
            condition("ContainersReady", ready),
            condition("Ready", ready),
        ],
    }})
}

/// An address that follows from the pod's identity, so that no two pods have the same.
fn address(pod: &Pod) -> String {
    let uid = pod.uid().unwrap_or_default();
    let byte = |at: usize| {
        uid.get(at..at + 2)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok())
            .unwrap_or_default()
    };
    format!("10.{}.{}.{}", byte(0), byte(2), byte(4))
}

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams, WatchParams};
use serde_json::json;

use super::server;

/// 60 requests seen by three watches each cost little enough to simulate a whole rollout in an instant.
#[tokio::test]
#[ignore = "measures: run with --release --nocapture"]
async fn sixty_writes_and_their_events_take_little_time() {
    let mut best = Duration::MAX;
    for _ in 0..50 {
        let server = server();
        let api: Api<Deployment> = Api::default_namespaced(server.client());
        let web: Deployment = serde_json::from_value(json!({
            "metadata": {"name": "web"},
            "spec": {"selector": {"matchLabels": {"app": "a"}}, "template": {
                "metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}},
        }))
        .unwrap();
        api.create(&PostParams::default(), &web).await.unwrap();
        let from = server.revision().to_string();
        let mut watches = Vec::new();
        for _ in 0..3 {
            watches.push(
                api.watch(&WatchParams::default(), &from)
                    .await
                    .unwrap()
                    .boxed(),
            );
        }
        let begun = Instant::now();
        for replicas in 2..62 {
            let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
            api.patch("web", &PatchParams::default(), &patch)
                .await
                .unwrap();
            for watch in &mut watches {
                watch.next().await.unwrap().unwrap();
            }
        }
        best = best.min(begun.elapsed());
    }
    println!("60 writes, 180 events: {best:?}");
}

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use serde_json::json;

use super::server;
use crate::sim::server::{
    After, ApiServer, Before, Call, Delivery, Interceptor, Outcome, Refusal, Verb,
    WatchEvent as Change,
};

fn config_map(name: &str, tier: &str) -> ConfigMap {
    serde_json::from_value(json!({"metadata": {"name": name, "labels": {"tier": tier}}})).unwrap()
}

async fn relabel(api: &Api<ConfigMap>, name: &str, tier: &str) {
    let patch = Patch::Merge(json!({"metadata": {"labels": {"tier": tier}}}));
    api.patch(name, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

fn word(event: &WatchEvent<ConfigMap>) -> String {
    let named = |what: &str, object: &ConfigMap| {
        format!(
            "{what} {}",
            object.metadata.name.clone().unwrap_or_default()
        )
    };
    match event {
        WatchEvent::Added(object) => named("added", object),
        WatchEvent::Modified(object) => named("modified", object),
        WatchEvent::Deleted(object) => named("deleted", object),
        WatchEvent::Bookmark(_) => "bookmark".to_owned(),
        WatchEvent::Error(status) => format!("error {}", status.code),
    }
}

#[tokio::test]
async fn watch_with_a_selector_sees_objects_come_and_go() {
    let server = server();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    let start = server.revision().to_string();
    let params = WatchParams::default().labels("tier=x").timeout(1);
    let stream = api.watch(&params, &start).await.unwrap();
    api.create(&PostParams::default(), &config_map("a", "x"))
        .await
        .unwrap();
    api.create(&PostParams::default(), &config_map("b", "y"))
        .await
        .unwrap();
    relabel(&api, "b", "x").await;
    relabel(&api, "a", "y").await;
    relabel(&api, "a", "z").await;
    api.delete("b", &DeleteParams::default()).await.unwrap();
    let seen: Vec<String> = stream
        .map_ok(|event| word(&event))
        .try_collect()
        .await
        .unwrap();
    assert_eq!(seen, ["added a", "added b", "deleted a", "deleted b"]);
}

async fn follow(strategy: watcher::Config) {
    let server = server();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    api.create(&PostParams::default(), &config_map("a", "x"))
        .await
        .unwrap();
    let mut events = watcher::watcher(api.clone(), strategy).boxed();
    let mut names = Vec::new();
    loop {
        match events.next().await.unwrap().unwrap() {
            Event::Init => {}
            Event::InitApply(object) => names.push(object.metadata.name.unwrap()),
            Event::InitDone => break,
            other @ (Event::Apply(_) | Event::Delete(_)) => {
                panic!("before the first list ended: {other:?}")
            }
        }
    }
    assert_eq!(names, ["a"]);
    api.create(&PostParams::default(), &config_map("b", "x"))
        .await
        .unwrap();
    assert!(
        matches!(events.next().await.unwrap().unwrap(), Event::Apply(object) if object.metadata.name.as_deref() == Some("b"))
    );
    // the watch is closed by its own timeout and resumed: nothing is seen twice or lost
    let again = tokio::time::timeout(Duration::from_millis(1500), events.next()).await;
    assert!(again.is_err(), "{again:?}");
    let watches = server
        .calls()
        .iter()
        .filter(|call| call.verb == Verb::Watch)
        .count();
    assert!(watches >= 2, "the watch was not resumed");
    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(
        matches!(events.next().await.unwrap().unwrap(), Event::Delete(object) if object.metadata.name.as_deref() == Some("a"))
    );
}

#[tokio::test]
async fn watcher_that_lists_follows_changes_over_closed_watches() {
    follow(watcher::Config::default().timeout(1)).await;
}

#[tokio::test]
async fn watcher_that_streams_its_list_follows_changes_over_closed_watches() {
    follow(watcher::Config::default().timeout(1).streaming_lists()).await;
}

#[tokio::test]
async fn watcher_lists_again_when_history_is_forgotten() {
    let server = server();
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    let mut events = watcher::watcher(api.clone(), watcher::Config::default()).boxed();
    while !matches!(events.next().await.unwrap().unwrap(), Event::InitDone) {}
    api.create(&PostParams::default(), &config_map("a", "x"))
        .await
        .unwrap();
    server.forget_history();
    let (mut names, mut errors) = (Vec::new(), 0);
    loop {
        match events.next().await.unwrap() {
            Err(error) => {
                assert!(error.to_string().contains("too old"), "{error}");
                errors += 1;
                assert!(errors < 3, "the watch never recovers");
            }
            Ok(Event::InitApply(object)) => names.push(object.metadata.name.unwrap()),
            Ok(Event::InitDone) => break,
            Ok(Event::Init | Event::Apply(_) | Event::Delete(_)) => {}
        }
    }
    assert!(
        errors > 0,
        "the watch did not notice that its history is gone"
    );
    assert_eq!(names, ["a"]);
}

#[tokio::test]
async fn metadata_watcher_gets_metadata_only() {
    let server = server();
    let whole: Api<ConfigMap> = Api::default_namespaced(server.client());
    let api: Api<PartialObjectMeta<ConfigMap>> = Api::default_namespaced(server.client());
    let mut events = watcher::watcher(api, watcher::Config::default()).boxed();
    while !matches!(events.next().await.unwrap().unwrap(), Event::InitDone) {}
    whole
        .create(&PostParams::default(), &config_map("a", "x"))
        .await
        .unwrap();
    assert!(
        matches!(events.next().await.unwrap().unwrap(), Event::Apply(meta) if meta.metadata.name.as_deref() == Some("a"))
    );
}

/// Does one thing to each write and one to each event.
struct Faults {
    before: Mutex<Before>,
    after: Mutex<After>,
    event: Mutex<Delivery>,
}

impl Faults {
    fn install(server: &ApiServer) -> Arc<Self> {
        let faults = Arc::new(Self {
            before: Mutex::default(),
            after: Mutex::default(),
            event: Mutex::default(),
        });
        server.intercept(faults.clone());
        faults
    }
}

impl Interceptor for Faults {
    fn before(&self, call: &Call) -> Before {
        if call.verb == Verb::Watch {
            return Before::Proceed;
        }
        std::mem::take(&mut *self.before.lock().unwrap())
    }

    fn after(&self, _: &Call, _: Outcome<'_>) -> After {
        std::mem::take(&mut *self.after.lock().unwrap())
    }

    fn event(&self, _: &Call, _: Change<'_>) -> Delivery {
        self.event.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn refused_request_changes_nothing_and_lost_answer_leaves_the_write() {
    let server = server();
    let faults = Faults::install(&server);
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    *faults.before.lock().unwrap() = Before::Refuse(Refusal::new(
        503,
        "ServiceUnavailable",
        "etcd has no leader",
    ));
    assert!(
        api.create(&PostParams::default(), &config_map("a", "x"))
            .await
            .is_err()
    );
    assert!(server.get("", "configmaps", "default", "a").is_none());
    for after in [
        After::Lose,
        After::Replace(Refusal::new(504, "Timeout", "request timed out")),
    ] {
        *faults.after.lock().unwrap() = after;
        let name = format!("b{}", server.revision());
        assert!(
            api.create(&PostParams::default(), &config_map(&name, "x"))
                .await
                .is_err()
        );
        assert!(server.get("", "configmaps", "default", &name).is_some());
    }
}

#[tokio::test]
async fn stale_read_sees_the_past_and_delay_takes_its_time() {
    let server = server();
    let faults = Faults::install(&server);
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    api.create(&PostParams::default(), &config_map("a", "x"))
        .await
        .unwrap();
    relabel(&api, "a", "y").await;
    *faults.before.lock().unwrap() = Before::Stale(1);
    assert_eq!(
        api.get("a").await.unwrap().metadata.labels.unwrap()["tier"],
        "x"
    );
    *faults.before.lock().unwrap() = Before::Delay(Duration::from_millis(30));
    let begun = tokio::time::Instant::now();
    assert_eq!(
        api.get("a").await.unwrap().metadata.labels.unwrap()["tier"],
        "y"
    );
    assert!(begun.elapsed() >= Duration::from_millis(30));
}

#[tokio::test]
async fn held_events_wait_until_they_are_released_and_keep_their_order() {
    let server = server();
    let faults = Faults::install(&server);
    *faults.event.lock().unwrap() = Delivery::Wait;
    let api: Api<ConfigMap> = Api::default_namespaced(server.client());
    let params = WatchParams::default().timeout(3600);
    let mut stream = api
        .watch(&params, &server.revision().to_string())
        .await
        .unwrap()
        .boxed();
    for name in ["a", "b"] {
        api.create(&PostParams::default(), &config_map(name, "x"))
            .await
            .unwrap();
    }
    let early = tokio::time::timeout(Duration::from_millis(20), stream.next()).await;
    assert!(early.is_err(), "{early:?}");
    server.stop_intercepting();
    for wanted in ["added a", "added b"] {
        assert_eq!(word(&stream.next().await.unwrap().unwrap()), wanted);
    }
}

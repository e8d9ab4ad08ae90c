//! The watches that keep the [`Cache`] up to date.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use backon::ExponentialBuilder;
use futures::{StreamExt, TryStreamExt, stream::FuturesUnordered};
use kube::{
    Client,
    api::{Api, DynamicObject, PartialObjectMeta},
    runtime::{
        WatchStreamExt,
        utils::{Backoff, ResetTimerBackoff},
        watcher::{self, Event, ExponentialBackoff, watcher},
    },
};
use serde_json::{Value, json};
use tokio::sync::watch::Sender;

use crate::object::{Kind, Object, Raw, Scope};

use super::cache::Cache;

/// How long to wait before asking again for an API that a Canary needs and the server does not
/// have: twice as long each time.
const MISSING_API_WAITS: RangeInclusive<Duration> =
    Duration::from_secs(15)..=Duration::from_mins(10);

/// The watches of one operator.
#[derive(Debug)]
pub struct Watches {
    filled: Mutex<BTreeMap<String, bool>>,
    /// Whether every watch has shown all that exists.
    all_filled: Sender<bool>,
}

impl Watches {
    /// Watches that have shown nothing yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            filled: Mutex::default(),
            all_filled: Sender::new(false),
        })
    }

    /// Waits until every watch has shown all that exists, or its API is missing.
    pub async fn filled(&self) {
        let mut all = self.all_filled.subscribe();
        // The sender lives in `self`; it cannot be gone.
        let _ = all.wait_for(|all| *all).await;
    }

    fn expect(&self, name: &str) {
        self.filled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(name.to_owned())
            .or_insert(false);
    }

    fn fill(&self, name: &str) {
        let mut filled = self.filled.lock().unwrap_or_else(PoisonError::into_inner);
        filled.insert(name.to_owned(), true);
        if filled.values().all(|filled| *filled) {
            self.all_filled.send_replace(true);
        }
    }
}

/// Watches all kinds in the given namespaces (all namespaces when there are none) until dropped.
pub async fn watch(
    client: Client,
    cache: Arc<Cache>,
    watches: Arc<Watches>,
    namespaces: &BTreeSet<String>,
    config_tracking: bool,
) {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        let config = matches!(kind, Kind::ConfigMap | Kind::Secret);
        if kind.scope() == Scope::None || config && !config_tracking {
            continue;
        }
        let scopes: Vec<Option<String>> = if namespaces.is_empty() {
            vec![None]
        } else {
            namespaces.iter().cloned().map(Some).collect()
        };
        for namespace in scopes {
            let name = format!("{kind}/{}", namespace.as_deref().unwrap_or("*"));
            watches.expect(&name);
            all.push(watch_kind(
                client.clone(),
                Arc::clone(&cache),
                Arc::clone(&watches),
                kind,
                namespace,
                name,
            ));
        }
    }
    // Only those are polled that have something to say.
    let mut all: FuturesUnordered<_> = all.into_iter().collect();
    while all.next().await.is_some() {}
}

async fn watch_kind(
    client: Client,
    cache: Arc<Cache>,
    watches: Arc<Watches>,
    kind: Kind,
    namespace: Option<String>,
    name: String,
) {
    let mut wait = *MISSING_API_WAITS.start();
    let mut refused = false;
    loop {
        if kind.is_optional() && (std::mem::take(&mut refused) || !is_served(&client, kind).await) {
            cache.set_missing(kind, true);
            watches.fill(&name);
            if cache.is_read(kind) {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(*MISSING_API_WAITS.end());
            } else {
                wait = *MISSING_API_WAITS.start();
            }
            // An API that no Canary needs is not asked for.
            cache.read(kind).await;
            continue;
        }
        wait = *MISSING_API_WAITS.start();
        cache.set_missing(kind, false);
        let resource = kind.resource();
        let mut config = watcher::Config::default();
        if kind == Kind::Secret {
            // Helm keeps its releases in Secrets, many and large; no workload uses them.
            config = config.fields("type!=helm.sh/release.v1");
        }
        let events = if kind.scope() == Scope::Metadata {
            let api: Api<PartialObjectMeta<DynamicObject>> = match &namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            watcher(api, config)
                .map_ok(|event| map(event, |partial| object_of_partial(kind, partial)))
                .boxed()
        } else {
            let api: Api<Raw> = match &namespace {
                Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
                None => Api::all_with(client.clone(), &resource),
            };
            watcher(api, config)
                .map_ok(|event| {
                    map(event, |raw| {
                        Object::of(kind, raw.metadata, Value::Object(raw.body))
                    })
                })
                .boxed()
        };
        let mut events = std::pin::pin!(events.backoff(backoff(kind)));
        let mut present = BTreeSet::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(Event::Init) => present.clear(),
                Ok(Event::InitApply(object)) => {
                    if let Some(object) = object {
                        present.insert(object.key.clone());
                        cache.listed(object);
                    }
                }
                Ok(Event::InitDone) => {
                    cache.retain(kind, namespace.as_deref(), &present);
                    present.clear();
                    watches.fill(&name);
                }
                Ok(Event::Apply(object)) => {
                    if let Some(object) = object {
                        cache.saw(object);
                    }
                }
                Ok(Event::Delete(object)) => {
                    if let Some(object) = object {
                        cache.lost(&object);
                    }
                }
                Err(error) => {
                    tracing::warn!(%kind, error = %error, "watch failed, trying again");
                    if kind.is_optional() && answers(&error, 404) {
                        cache.retain(kind, namespace.as_deref(), &BTreeSet::new());
                        // What the server has is told late, after an API is gone too.
                        refused = true;
                        break;
                    }
                    // The revision is forgotten: only a new list leads on.
                    if answers(&error, 410) {
                        break;
                    }
                }
            }
        }
    }
}

/// How long a watch that failed waits: as clients of Kubernetes do, spread by kind, and the same in
/// every run of a simulation.
fn backoff(kind: Kind) -> impl Backoff {
    let waits = ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(800))
        .with_max_delay(Duration::from_secs(30))
        .with_factor(2.0)
        .with_jitter()
        .with_jitter_seed(kind as u64)
        .without_max_times();
    ResetTimerBackoff::new(ExponentialBackoff::from(waits), Duration::from_mins(2))
}

/// Whether the server has the API of an optional kind. When it cannot tell, the watch will.
async fn is_served(client: &Client, kind: Kind) -> bool {
    let (_, _, name, _) = kind.names();
    match client.list_api_group_resources(&kind.api_version()).await {
        Ok(list) => list.resources.iter().any(|resource| resource.kind == name),
        Err(kube::Error::Api(status)) => status.code != 404,
        Err(_) => true,
    }
}

/// Whether the server refused a watch by this HTTP status.
fn answers(error: &watcher::Error, code: u16) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == code
    )
}

fn map<A, B>(event: Event<A>, f: impl FnOnce(A) -> B) -> Event<B> {
    match event {
        Event::Init => Event::Init,
        Event::InitApply(a) => Event::InitApply(f(a)),
        Event::InitDone => Event::InitDone,
        Event::Apply(a) => Event::Apply(f(a)),
        Event::Delete(a) => Event::Delete(f(a)),
    }
}

/// A cached object of what the API answered; `None` when it is not one.
pub fn object_of(kind: Kind, object: DynamicObject) -> Option<Object> {
    let body = if object.data.is_object() {
        object.data
    } else {
        json!({})
    };
    Object::of(kind, object.metadata, body)
}

fn object_of_partial(kind: Kind, partial: PartialObjectMeta<DynamicObject>) -> Option<Object> {
    Object::of(kind, partial.metadata, json!({}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        object::Key,
        sim::{manifests::definitions, server::ApiServer},
    };
    use jiff::Timestamp;
    use serde_json::json;
    use tokio::time::{sleep, timeout};

    /// How often the server was asked which resources an API has.
    fn questions(server: &ApiServer, kind: Kind) -> usize {
        let path = format!("/apis/{}", kind.api_version());
        let calls = server.calls();
        calls.iter().filter(|call| call.path == path).count()
    }

    #[tokio::test(start_paused = true)]
    async fn missing_api_is_asked_for_only_while_a_canary_needs_it() {
        let server = ApiServer::new(Timestamp::now);
        for definition in crate::api::crds::crds() {
            server.install_crd(json!(definition)).unwrap();
        }
        let (sender, mut changed) = tokio::sync::mpsc::unbounded_channel();
        let cache = Arc::new(Cache::new(sender));
        let watches = Watches::new();
        let watching = {
            let (client, cache, watches) = (server.client(), cache.clone(), watches.clone());
            async move { watch(client, cache, watches, &BTreeSet::new(), true).await }
        };
        let watching = tokio::spawn(watching);
        watches.filled().await;
        let kind = Kind::DestinationRule;
        let asked = || questions(&server, kind);
        // VirtualServices are of the same group.
        let once = asked();
        sleep(Duration::from_hours(5)).await;
        assert_eq!(asked(), once, "no Canary needs it");

        let canary = Key::new(Kind::Canary, "n", "c");
        let rule = Key::new(kind, "n", "rule");
        let needs = || cache.look(&canary, |view| view.object(&rule));
        let misses = || cache.look(&canary, |view| view.missing_apis().contains(&kind));
        needs();
        sleep(Duration::from_hours(1)).await;
        let hourly = asked() - once;
        assert!(
            (5..=12).contains(&hourly),
            "asked {hourly} times in an hour"
        );

        assert!(misses());
        needs();
        for definition in definitions() {
            server.install_crd(definition).unwrap();
        }
        while changed.try_recv().is_ok() {}
        assert_eq!(
            timeout(Duration::from_hours(1), changed.recv()).await,
            Ok(Some(canary.clone())),
            "the API is there"
        );
        assert!(!misses());
        needs();
        let rule = json!({
            "apiVersion": kind.api_version(), "kind": "DestinationRule",
            "metadata": {"name": "rule", "namespace": "n"}, "spec": {"host": "h"},
        });
        server.ensure_namespace("n");
        server.put(rule).unwrap();
        assert_eq!(
            timeout(Duration::from_hours(1), changed.recv()).await,
            Ok(Some(canary.clone()))
        );
        assert!(needs().is_some());
        watching.abort();
    }
}

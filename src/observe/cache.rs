//! What the watches have seen, and who has to look again when it changes.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "kinds are kept as they are but for a few"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use serde_json::{Map, Value};
use tokio::sync::{mpsc, watch};

use crate::{
    object::{At, Json, Key, Kind, Object},
    workload::SERVICE_NAME,
};

/// The key of a Canary.
pub type CanaryKey = Key;

/// Something that can be looked at and can change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    /// One object.
    Object(Key),
    /// All objects of a kind that belong to something: the EndpointSlices of a service, the
    /// ReplicaSets of a Deployment, the Canaries of a target.
    Group(Kind, String, String),
}

impl Topic {
    const fn kind(&self) -> Kind {
        match self {
            Self::Object(key) => key.kind,
            Self::Group(kind, ..) => *kind,
        }
    }
}

/// Watched objects. Whoever looks at something is told when it changes: by looking.
#[derive(Debug)]
pub struct Cache {
    inner: Mutex<Inner>,
    changed: mpsc::UnboundedSender<CanaryKey>,
    /// Kinds of which somebody looks at objects.
    kinds: watch::Sender<BTreeSet<Kind>>,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<Key, Arc<Object>>,
    groups: BTreeMap<Topic, BTreeSet<Key>>,
    readers: BTreeMap<Topic, BTreeSet<CanaryKey>>,
    read: BTreeMap<CanaryKey, BTreeSet<Topic>>,
    /// How many topics of a kind have readers.
    kinds: BTreeMap<Kind, usize>,
    missing_apis: BTreeSet<Kind>,
    /// Bodies that came since the last look, and those that it saw: what was just read is not read
    /// from its text again by who looks at it.
    fresh: Vec<Arc<Value>>,
    looked_at: Vec<Arc<Value>>,
}

/// Most bodies that are held for the next look.
const MOST_FRESH: usize = 64;

impl Cache {
    /// An empty cache that reports Canaries to look at again.
    pub fn new(changed: mpsc::UnboundedSender<CanaryKey>) -> Self {
        Self {
            inner: Mutex::default(),
            changed,
            kinds: watch::Sender::default(),
        }
    }

    /// Whether any Canary looks at objects of this kind.
    pub fn is_read(&self, kind: Kind) -> bool {
        self.kinds.borrow().contains(&kind)
    }

    /// Waits until any Canary looks at objects of this kind.
    pub async fn read(&self, kind: Kind) {
        let mut kinds = self.kinds.subscribe();
        // The sender lives in `self`; it cannot be gone.
        let _ = kinds.wait_for(|kinds| kinds.contains(&kind)).await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere leaves the maps whole: each change is one insert or remove.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A watch began anew and listed an object.
    pub fn listed(&self, object: Object) {
        self.put(object, |_| true);
    }

    /// A watch showed a change of an object, or a write of ours was answered with it. The two
    /// come over different connections, in any order: the newer state is kept.
    pub fn saw(&self, object: Object) {
        let version = version(&object);
        self.put(object, |cached| {
            version.is_none() || version > self::version(cached)
        });
    }

    fn put(&self, object: Object, is_news: impl FnOnce(&Object) -> bool) {
        let object = prune(object);
        let body = object.body.clone();
        let mut inner = self.lock();
        if let Some(cached) = inner.objects.get(&object.key)
            && (!is_news(cached) || **cached == object)
        {
            return;
        }
        let readers = inner.put(object);
        let body = body.let_go();
        if !readers.is_empty() && inner.fresh.len() < MOST_FRESH {
            inner.fresh.extend(body);
        }
        drop(inner);
        self.report(readers);
    }

    /// A watch showed that an object is gone.
    pub fn lost(&self, object: &Object) {
        let mut inner = self.lock();
        let recreated = inner
            .objects
            .get(&object.key)
            .is_some_and(|cached| cached.uid != object.uid && version(cached) > version(object));
        if recreated {
            return;
        }
        let readers = inner.remove(&object.key);
        drop(inner);
        self.report(readers);
    }

    /// A watch began anew and showed all objects of a kind in a namespace (all namespaces when
    /// `None`): others are gone.
    pub fn retain(&self, kind: Kind, namespace: Option<&str>, present: &BTreeSet<Key>) {
        let mut inner = self.lock();
        let gone: Vec<Key> = inner
            .objects
            .keys()
            .filter(|key| key.kind == kind && namespace.is_none_or(|n| n == key.namespace))
            .filter(|key| !present.contains(key))
            .cloned()
            .collect();
        let mut readers = BTreeSet::new();
        for key in gone {
            readers.extend(inner.remove(&key));
        }
        drop(inner);
        self.report(readers);
    }

    /// The server has no API for this kind, or has it again.
    pub fn set_missing(&self, kind: Kind, missing: bool) {
        let mut inner = self.lock();
        let changed = if missing {
            inner.missing_apis.insert(kind)
        } else {
            inner.missing_apis.remove(&kind)
        };
        let all: BTreeSet<CanaryKey> = if changed {
            inner.read.keys().cloned().collect()
        } else {
            BTreeSet::new()
        };
        drop(inner);
        self.report(all);
    }

    /// Keys of all Canaries.
    pub fn canaries(&self) -> Vec<CanaryKey> {
        self.lock()
            .objects
            .keys()
            .filter(|key| key.kind == Kind::Canary)
            .cloned()
            .collect()
    }

    /// The Canary is gone: nobody has to look for it any more.
    pub fn forget(&self, canary: &CanaryKey) {
        self.subscribe(&mut self.lock(), canary, BTreeSet::new());
    }

    /// Looks at the cache for one Canary. All that is looked at in one call belongs together,
    /// and wakes the Canary when it changes later.
    pub fn look<T>(&self, canary: &CanaryKey, look: impl FnOnce(&mut View) -> T) -> T {
        let mut inner = self.lock();
        inner.looked_at = std::mem::take(&mut inner.fresh);
        let mut view = View {
            inner: &inner,
            topics: BTreeSet::new(),
        };
        let seen = look(&mut view);
        let topics = view.topics;
        self.subscribe(&mut inner, canary, topics);
        seen
    }

    fn subscribe(&self, inner: &mut Inner, canary: &CanaryKey, topics: BTreeSet<Topic>) {
        if inner.read.get(canary) == Some(&topics) {
            return;
        }
        inner.subscribe(canary, topics);
        self.kinds.send_if_modified(|kinds| {
            let changed = !kinds.iter().eq(inner.kinds.keys());
            if changed {
                *kinds = inner.kinds.keys().copied().collect();
            }
            changed
        });
    }

    fn report(&self, readers: BTreeSet<CanaryKey>) {
        for reader in readers {
            // The receiver lives as long as the controller; after it nobody needs to know.
            let _ = self.changed.send(reader);
        }
    }
}

impl Inner {
    fn put(&mut self, object: Object) -> BTreeSet<CanaryKey> {
        let key = object.key.clone();
        let mut readers = self.readers_of(&Topic::Object(key.clone()));
        let groups = groups(&object);
        if let Some(old) = self.objects.insert(key.clone(), Arc::new(object)) {
            readers.extend(self.leave(&old));
        }
        for group in groups {
            readers.extend(self.readers_of(&group));
            self.groups.entry(group).or_default().insert(key.clone());
        }
        if key.kind == Kind::Canary {
            // A Canary always has to be looked at, also before it looked at itself.
            readers.insert(key);
        }
        readers
    }

    fn remove(&mut self, key: &Key) -> BTreeSet<CanaryKey> {
        let mut readers = self.readers_of(&Topic::Object(key.clone()));
        if let Some(old) = self.objects.remove(key) {
            readers.extend(self.leave(&old));
        }
        if key.kind == Kind::Canary {
            readers.insert(key.clone());
        }
        readers
    }

    /// Takes an object out of its groups.
    fn leave(&mut self, object: &Object) -> BTreeSet<CanaryKey> {
        let mut readers = BTreeSet::new();
        for group in groups(object) {
            readers.extend(self.readers_of(&group));
            if let Some(keys) = self.groups.get_mut(&group) {
                keys.remove(&object.key);
                if keys.is_empty() {
                    self.groups.remove(&group);
                }
            }
        }
        readers
    }

    fn readers_of(&self, topic: &Topic) -> BTreeSet<CanaryKey> {
        self.readers.get(topic).cloned().unwrap_or_default()
    }

    fn subscribe(&mut self, canary: &CanaryKey, topics: BTreeSet<Topic>) {
        for topic in self.read.remove(canary).unwrap_or_default() {
            if let Some(readers) = self.readers.get_mut(&topic) {
                readers.remove(canary);
                if readers.is_empty() {
                    self.readers.remove(&topic);
                    let count = self.kinds.entry(topic.kind()).or_default();
                    *count = count.saturating_sub(1);
                }
            }
        }
        for topic in &topics {
            let readers = self.readers.entry(topic.clone()).or_default();
            if readers.is_empty() {
                *self.kinds.entry(topic.kind()).or_default() += 1;
            }
            readers.insert(canary.clone());
        }
        self.kinds.retain(|_, count| *count > 0);
        if !topics.is_empty() {
            self.read.insert(canary.clone(), topics);
        }
    }
}

/// The cache as one Canary looks at it.
#[derive(Debug)]
pub struct View<'a> {
    inner: &'a Inner,
    topics: BTreeSet<Topic>,
}

impl View<'_> {
    /// One object.
    pub fn object(&mut self, key: &Key) -> Option<Arc<Object>> {
        self.topics.insert(Topic::Object(key.clone()));
        self.inner.objects.get(key).cloned()
    }

    /// The objects of a kind that belong to `owner`, by name.
    pub fn group(&mut self, kind: Kind, namespace: &str, owner: &str) -> Vec<Arc<Object>> {
        let topic = Topic::Group(kind, namespace.to_owned(), owner.to_owned());
        let found = self
            .inner
            .groups
            .get(&topic)
            .into_iter()
            .flatten()
            .filter_map(|key| self.inner.objects.get(key).cloned())
            .collect();
        self.topics.insert(topic);
        found
    }

    /// Kinds whose API the server does not have.
    pub fn missing_apis(&self) -> BTreeSet<Kind> {
        self.inner.missing_apis.clone()
    }
}

/// Group of a Canary by its target.
pub(super) fn by_target(name: &str) -> String {
    format!("target/{name}")
}

/// Group of a Canary by its apex service.
pub(super) fn by_apex(name: &str) -> String {
    format!("apex/{name}")
}

/// A version as a number: servers count one number up for all objects. `None` when it is not one.
pub(super) fn number(version: &str) -> Option<u64> {
    version.parse().ok()
}

/// The version of an object; `None` when it was pruned because it tells nothing.
fn version(object: &Object) -> Option<u64> {
    number(&object.resource_version)
}

/// The groups that an object belongs to.
fn groups(object: &Object) -> Vec<Topic> {
    let group = |name: String| Topic::Group(object.key.kind, object.key.namespace.clone(), name);
    match object.key.kind {
        Kind::EndpointSlice => object
            .labels
            .get(SERVICE_NAME)
            .map(|service| group(service.clone()))
            .into_iter()
            .collect(),
        Kind::ReplicaSet => object
            .controller()
            .map(|owner| group(owner.name.clone()))
            .into_iter()
            .collect(),
        Kind::Canary => {
            // No name has a line break.
            let names = object.body.derived(|body| {
                let text = |pointer| body.at(pointer).and_then(Value::as_str);
                let target = text("/spec/targetRef/name").unwrap_or_default();
                let apex = text("/spec/service/name").filter(|name| !name.is_empty());
                format!("{target}\n{}", apex.unwrap_or(target))
            });
            let (target, apex) = names.split_once('\n').unwrap_or_default();
            [(target, by_target as fn(&str) -> String), (apex, by_apex)]
                .into_iter()
                .filter(|(name, _)| !name.is_empty())
                .map(|(name, by)| group(by(name)))
                .collect()
        }
        _ => Vec::new(),
    }
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Drops what no decision reads, so that the cache stays small and changes that mean nothing
/// wake nobody.
fn prune(mut object: Object) -> Object {
    match object.key.kind {
        Kind::EndpointSlice => {
            object.annotations.clear();
            object.owners.clear();
            object.labels.retain(|key, _| key == SERVICE_NAME);
            object.body = Json::warm(endpoints(&object.body.read()));
            object.generation = 0;
            object.resource_version.clear();
        }
        Kind::ReplicaSet => {
            object.labels.clear();
            object
                .annotations
                .retain(|key, _| key == "deployment.kubernetes.io/revision");
            object.body = Json::of(&Value::Null);
            object.generation = 0;
            object.resource_version.clear();
        }
        Kind::ConfigMap | Kind::Secret => {
            object.annotations.retain(|key, _| {
                key.starts_with("flagger.app/") || key.starts_with("haldane.dev/")
            });
            object.body = Json::of(&Value::Null);
        }
        Kind::Service | Kind::VirtualService => {}
        _ => {
            object.annotations.remove(LAST_APPLIED);
        }
    }
    object
}

/// The readiness of an EndpointSlice's endpoints, and nothing else.
fn endpoints(body: &Value) -> Value {
    let kept = body
        .get("endpoints")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|endpoint| {
            let pick = |key: &str| endpoint.get(key).cloned().unwrap_or_default();
            let target = pick("targetRef");
            serde_json::json!({
                "conditions": pick("conditions"),
                "targetRef": {"kind": target["kind"], "name": target["name"]},
            })
        });
    let kept = Value::Array(kept.collect());
    Value::Object(Map::from_iter([("endpoints".to_owned(), kept)]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(kind: Kind, name: &str, version: &str, body: Value) -> Object {
        let mut value = body;
        value["metadata"] = json!({
            "name": name, "namespace": "n", "uid": "u", "resourceVersion": version,
        });
        Object::read(kind, value).unwrap()
    }

    fn cache() -> (Cache, mpsc::UnboundedReceiver<CanaryKey>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Cache::new(sender), receiver)
    }

    fn canary() -> CanaryKey {
        Key::new(Kind::Canary, "n", "c")
    }

    #[test]
    fn reader_is_told_of_objects_that_it_missed() {
        let (cache, mut changed) = cache();
        let key = Key::new(Kind::Service, "n", "s");
        assert!(cache.look(&canary(), |view| view.object(&key)).is_none());
        cache.saw(object(Kind::Service, "s", "1", json!({})));
        assert_eq!(changed.try_recv(), Ok(canary()));
        cache.saw(object(Kind::Service, "other", "2", json!({})));
        assert!(changed.try_recv().is_err(), "nobody looked at it");
    }

    #[test]
    fn kind_is_read_while_a_canary_looks_at_one_of_its_objects() {
        let (cache, _changed) = cache();
        let is_read = || cache.is_read(Kind::HttpRoute);
        assert!(!is_read());
        let other = Key::new(Kind::Canary, "n", "other");
        for reader in [canary(), other.clone()] {
            cache.look(&reader, |view| {
                view.object(&Key::new(Kind::HttpRoute, "n", "r"));
            });
        }
        cache.forget(&other);
        assert!(is_read(), "one of two is left");
        cache.look(&canary(), |view| {
            view.object(&Key::new(Kind::VirtualService, "n", "r"));
        });
        assert!(!is_read(), "its provider is another one now");
    }

    #[test]
    fn newer_state_is_kept_in_whatever_order_states_come() {
        let (cache, _changed) = cache();
        let key = Key::new(Kind::Service, "n", "s");
        let version = || {
            cache
                .look(&canary(), |view| view.object(&key))
                .map(|o| o.resource_version.clone())
        };
        cache.saw(object(Kind::Service, "s", "1", json!({"spec": 1})));
        cache.saw(object(Kind::Service, "s", "5", json!({"spec": 2})));
        cache.saw(object(Kind::Service, "s", "1", json!({"spec": 1})));
        assert_eq!(version().as_deref(), Some("5"));
        cache.saw(object(Kind::Service, "s", "7", json!({"spec": 3})));
        cache.saw(object(Kind::Service, "s", "6", json!({"spec": 2})));
        assert_eq!(version().as_deref(), Some("7"), "an answer that came late");
    }

    #[test]
    fn group_of_a_service_follows_its_slices() {
        let (cache, mut changed) = cache();
        let slice = |version: &str, ready: bool| {
            let mut slice = object(
                Kind::EndpointSlice,
                "s-abc",
                version,
                json!({"endpoints": [{"conditions": {"ready": ready}}]}),
            );
            slice.labels.insert(SERVICE_NAME.into(), "s".into());
            slice
        };
        let look = || cache.look(&canary(), |v| v.group(Kind::EndpointSlice, "n", "s").len());
        assert_eq!(look(), 0);
        cache.saw(slice("1", false));
        assert_eq!(changed.try_recv(), Ok(canary()));
        assert_eq!(look(), 1);
        cache.lost(&slice("3", true));
        assert_eq!(changed.try_recv(), Ok(canary()));
        assert_eq!(look(), 0);
    }
}

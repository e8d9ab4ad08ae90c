//! A Kubernetes API server in memory, below `kube::Client`.
//!
//! ```text
//! http::Request ─▶ before ─▶ request ─▶ read | write | watch ─▶ after ─▶ http::Response
//!                 (faults)              (state: store, schemas)  (faults)
//! ```
//!
//! It is deterministic: the time comes from a clock that is passed in, UIDs from a counter, and nothing
//! is random. It answers as a real kube-apiserver does; the transcripts of one are what it is held to
//! (`tests/conformance`). Controllers that a cluster has besides (garbage collection, Deployments, …) do
//! not run by themselves: the world calls them.

mod answer;
mod builtin_rules;
mod crd;
mod defaults;
mod defect;
mod delete;
mod discovery;
mod error;
mod fields;
mod http;
mod intercept;
mod managed;
mod meta;
mod patch;
mod rbac;
mod read;
mod request;
mod resource;
mod scale;
mod selector;
mod shape;
mod state;
mod store;
mod throttle;
mod typed;
mod validate;
mod watch;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use jiff::Timestamp;
use serde_json::Value;

pub use self::defect::Defect;
pub use self::delete::{DeleteOptions, Propagation};
pub use self::error::{Cause, Details, Refusal};
pub use self::http::{Connection, ConnectionReset, ResponseBody};
pub use self::intercept::{After, Before, Call, Delivery, Interceptor, Outcome, WatchEvent};
pub use self::request::{PatchKind, Subresource, Verb};
use self::request::{Request, Route, Target};
pub use self::resource::Resource;
use self::state::{State, WriteOptions};
pub use self::store::{Action, Change, Object};
pub use self::throttle::Limit;

/// The API server. A clone is another handle to the same one.
#[derive(Clone)]
pub struct ApiServer {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    interceptor: RwLock<Option<Arc<dyn Interceptor>>>,
    calls: Mutex<Vec<Call>>,
    rights: RwLock<rbac::Rights>,
    shares: Mutex<throttle::Shares>,
    /// How often each HTTP status of a refusal was answered.
    refusals: Mutex<BTreeMap<u16, u64>>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("revision", &self.revision())
            .finish()
    }
}

impl ApiServer {
    /// An empty cluster that takes the time from `clock`.
    pub fn new(clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self::with(State::new(Arc::new(clock)))
    }

    /// Another cluster that is in the same state now, and takes the time from `clock`. Nobody has
    /// spoken to it yet, and nobody intercepts.
    #[must_use]
    pub fn copy(&self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self::with(self.look(|state| state.copy(Arc::new(clock))))
    }

    fn with(state: State) -> Self {
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                interceptor: RwLock::new(None),
                calls: Mutex::new(Vec::new()),
                rights: RwLock::default(),
                shares: Mutex::default(),
                refusals: Mutex::default(),
            }),
        }
    }

    /// A client with all rights, in the namespace `default`. A tokio runtime must be running.
    pub fn client(&self) -> kube::Client {
        self.client_for("system:admin")
    }

    /// A client of a user. A tokio runtime must be running.
    pub fn client_for(&self, user: &str) -> kube::Client {
        kube::Client::new(self.service_for(user), "default")
    }

    /// The server as a tower service that one user speaks to.
    pub fn service_for(&self, user: &str) -> Connection {
        Connection::new(self.clone(), user)
    }

    /// Asks `interceptor` about every request and watch event from now on.
    pub fn intercept(&self, interceptor: Arc<dyn Interceptor>) {
        let mut place = self
            .shared
            .interceptor
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *place = Some(interceptor);
    }

    /// Lets every request through again, and every event that waits.
    pub fn stop_intercepting(&self) {
        *self
            .shared
            .interceptor
            .write()
            .unwrap_or_else(PoisonError::into_inner) = None;
        self.wake_watches();
    }

    /// Gives a user the rules of a `Role` or `ClusterRole`, in one namespace or (empty) in all. From then
    /// on that user may do only what was given; a user who was never given anything may do everything.
    pub fn grant(&self, user: &str, role: &Value, namespace: &str) {
        if self.look(|state| state.has(Defect::RightsIgnored)) {
            return;
        }
        let mut rights = self
            .shared
            .rights
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        rights.grant(user, role, namespace);
    }

    /// Takes all rights from a user.
    pub fn revoke(&self, user: &str) {
        if self.look(|state| state.has(Defect::RightsIgnored)) {
            return;
        }
        self.shared
            .rights
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .revoke(user);
    }

    /// Notes no owners of fields in objects that are made from now on, but for those that are
    /// applied by the server: most of an object's text, which nobody here reads.
    pub fn leave_untracked(&self) {
        self.look_mut(|state| state.untracked = true);
    }

    /// Lets a user ask for no more than this from now on: the rest is answered with 429.
    pub fn limit(&self, user: &str, limit: Limit) {
        let now = self.look(State::timestamp);
        self.shares().limit(user, limit, now);
    }

    /// Breaks a rule, for tests of the tests.
    pub fn plant(&self, defect: Defect) {
        self.look_mut(|state| state.defect = Some(defect));
    }

    /// The requests that arrived so far, in order; direct access (as by the world) is not counted.
    pub fn calls(&self) -> Vec<Call> {
        self.call_log().clone()
    }

    /// How often each HTTP status of a refusal was answered.
    pub fn refusals(&self) -> BTreeMap<u16, u64> {
        let counts = self.shared.refusals.lock();
        counts.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count_refusal(&self, code: u16) {
        let counts = self.shared.refusals.lock();
        let mut counts = counts.unwrap_or_else(PoisonError::into_inner);
        *counts.entry(code).or_default() += 1;
    }

    /// The revision of the last write.
    pub fn revision(&self) -> u64 {
        self.look(|state| state.store.revision())
    }

    /// The revision of the last write, as it changes.
    pub fn follow(&self) -> tokio::sync::watch::Receiver<u64> {
        self.look(|state| state.store.follow())
    }

    /// Forgets all history, as etcd's compaction does: a watch or page that needs it gets 410.
    pub fn forget_history(&self) {
        self.look_mut(|state| {
            let revision = state.store.revision();
            state.store.compact(revision);
        });
    }

    /// Lets every watch look again whether events that wait may leave.
    pub fn wake_watches(&self) {
        self.look(|state| state.store.wake_all());
    }

    /// Makes a namespace, unless it is there.
    pub fn ensure_namespace(&self, name: &str) {
        self.look_mut(|state| state.ensure_namespace(name));
    }

    /// Serves the custom resources of a `CustomResourceDefinition`.
    ///
    /// # Errors
    /// 422 when the definition lacks a field, or has a rule that this server cannot evaluate.
    pub fn install_crd(&self, definition: Value) -> Result<(), Refusal> {
        self.put(definition).map(drop)
    }

    /// The resource of a group and plural name.
    pub fn resource(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.look(|state| state.registry.find(group, plural))
    }

    /// The resource of an API version and kind.
    pub fn resource_of(&self, api_version: &str, kind: &str) -> Option<Arc<Resource>> {
        self.look(|state| Some(state.registry.of_kind(api_version, kind)?.0))
    }

    /// One object, read without a request.
    pub fn get(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<Object>> {
        self.look(|state| {
            let resource = state.registry.find(group, plural)?;
            state.store.get(resource.index, namespace, name).cloned()
        })
    }

    /// All objects of a resource in order of namespace and name, read without a request. An empty
    /// namespace means all of them.
    pub fn list(&self, group: &str, plural: &str, namespace: &str) -> Vec<Arc<Object>> {
        self.look(|state| {
            let Some(resource) = state.registry.find(group, plural) else {
                return Vec::new();
            };
            let objects = state.store.objects(resource.index).values();
            objects
                .filter(|object| namespace.is_empty() || object.namespace() == namespace)
                .cloned()
                .collect()
        })
    }

    /// Creates or replaces an object by its `apiVersion`, `kind` and metadata, without a request.
    ///
    /// # Errors
    /// What the API server refuses; 404 for a kind that it does not know.
    pub fn put(&self, object: Value) -> Result<Arc<Object>, Refusal> {
        self.look_mut(|state| {
            let target = target_of(state, &object)?;
            let options = WriteOptions::default();
            let there = state
                .store
                .get(target.resource.index, &target.namespace, &target.name);
            match there.map(|there| there.meta("resourceVersion").to_owned()) {
                None => state.create(&target, object, &options),
                Some(revision) => {
                    let mut object = object;
                    let meta = state::metadata(&mut object);
                    meta.entry("resourceVersion")
                        .or_insert(Value::from(revision));
                    state
                        .update(&target, object, &options)
                        .map(|written| written.object().clone())
                }
            }
        })
    }

    /// Patches an object, or its subresource, without a request.
    ///
    /// # Errors
    /// What the API server refuses; 404 for a resource that it does not know.
    pub fn patch(
        &self,
        resource: (&str, &str),
        object: (&str, &str),
        sub: Option<Subresource>,
        kind: PatchKind,
        patch: Value,
    ) -> Result<Arc<Object>, Refusal> {
        self.look_mut(|state| {
            let mut target = stored(state, resource, object)?;
            target.sub = sub;
            let options = WriteOptions {
                manager: "world".to_owned(),
                named: true,
                ..WriteOptions::default()
            };
            let written = state.patch(&target, kind, patch, &options)?;
            Ok(written.object().clone())
        })
    }

    /// Takes what a controller of the cluster says of an object, most often its status, as it is:
    /// each of these fields as a whole.
    ///
    /// # Errors
    /// 404 when there is no such object.
    pub fn report<const N: usize>(
        &self,
        resource: (&str, &str),
        object: &Object,
        fields: [(&str, Value); N],
    ) -> Result<(), Refusal> {
        self.look_mut(|state| {
            let target = stored(state, resource, (object.namespace(), object.name()))?;
            state.report(&target, fields)
        })
    }

    /// Deletes an object without a request.
    ///
    /// # Errors
    /// What the API server refuses; 404 for a resource that it does not know.
    pub fn delete(
        &self,
        resource: (&str, &str),
        object: (&str, &str),
        options: &DeleteOptions,
    ) -> Result<(), Refusal> {
        self.look_mut(|state| {
            let target = stored(state, resource, object)?;
            state.delete(&target, options)?;
            Ok(())
        })
    }

    /// The changes of all resources after a revision, oldest first. History that was forgotten is left out.
    pub fn changes_since(&self, revision: u64) -> Vec<Arc<Change>> {
        self.look(|state| {
            let from = revision.max(state.store.compacted());
            state
                .store
                .since(from)
                .into_iter()
                .flatten()
                .cloned()
                .collect()
        })
    }

    /// One pass of the garbage collector and the namespace controller: how many objects it touched.
    pub fn collect_garbage(&self) -> usize {
        self.look_mut(State::collect_garbage)
    }

    fn look<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.lock())
    }

    fn look_mut<T>(&self, write: impl FnOnce(&mut State) -> T) -> T {
        write(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn call_log(&self) -> MutexGuard<'_, Vec<Call>> {
        self.shared
            .calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn interceptor(&self) -> Option<Arc<dyn Interceptor>> {
        let place = self
            .shared
            .interceptor
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        place.clone()
    }

    fn shares(&self) -> MutexGuard<'_, throttle::Shares> {
        self.shared
            .shares
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses a request of a user who asks too often.
    fn throttle(&self, call: &Call) -> Result<(), Refusal> {
        let now = self.look(State::timestamp);
        self.shares().take(&call.user, now)
    }

    fn authorize(&self, call: &Call) -> Result<(), Refusal> {
        self.allows(&call.user, &rbac::Asked::of(call))
    }

    fn allows(&self, user: &str, asked: &rbac::Asked<'_>) -> Result<(), Refusal> {
        self.shared
            .rights
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .check(user, asked)
    }

    fn deliver(&self, call: &Call, event: WatchEvent<'_>) -> Delivery {
        self.interceptor().map_or(Delivery::Deliver, |interceptor| {
            interceptor.event(call, event)
        })
    }

    /// Notes a request in the log.
    fn enter(&self, user: &str, request: &Request, path: &str) -> Call {
        let mut log = self.call_log();
        let mut call = Call {
            sequence: log.len() as u64 + 1,
            user: user.to_owned(),
            verb: request.verb,
            group: String::new(),
            resource: String::new(),
            subresource: None,
            namespace: String::new(),
            name: String::new(),
            path: path.to_owned(),
        };
        if let Route::Objects(target) = &request.route {
            call.group.clone_from(&target.resource.group);
            call.resource.clone_from(&target.resource.plural);
            call.subresource = target.sub;
            call.namespace.clone_from(&target.namespace);
            call.name.clone_from(&target.name);
        }
        log.push(call.clone());
        call
    }
}

/// A stored object, by group and plural name of its resource, and by its namespace and name.
fn stored(
    state: &State,
    (group, plural): (&str, &str),
    (namespace, name): (&str, &str),
) -> Result<Target, Refusal> {
    let resource = state.registry.find(group, plural);
    let resource = resource.ok_or_else(Refusal::no_such_path)?;
    Ok(Target::stored(&resource, namespace, name))
}

fn target_of(state: &State, object: &Value) -> Result<Target, Refusal> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let Some((resource, version)) = state.registry.of_kind(&version, &kind) else {
        return Err(Refusal::not_found("", &kind, &version));
    };
    let meta = &object["metadata"];
    let mut namespace = text(&meta["namespace"]);
    if !resource.namespaced {
        namespace.clear();
    } else if namespace.is_empty() {
        "default".clone_into(&mut namespace);
    }
    Ok(Target {
        resource,
        version,
        namespace,
        name: text(&meta["name"]),
        sub: None,
    })
}

//! A test's own namespace, and what is done and awaited in it.

use std::{
    collections::BTreeSet,
    fmt::Write,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use haldane::{
    api::{Canary, Phase},
    object::Kind,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
    runtime::wait::await_condition,
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::AbortHandle, time::timeout};

use super::{
    canary::{CanaryManifest, deployment},
    cluster::cluster,
    history::{History, Moment, record},
    operator,
    prometheus::Flow,
};
use crate::admin;

/// Longest time that anything may take to happen.
const PATIENCE: Duration = Duration::from_secs(90);

/// Lines of the operator's log that a failure shows.
const LOG_LINES: usize = 60;

/// A namespace of its own with a Canary `podinfo`, unless said otherwise.
pub struct Scene {
    client: Client,
    namespace: String,
    history: watch::Receiver<History>,
    recorder: AbortHandle,
    /// Moments before this one were awaited already.
    seen: AtomicUsize,
}

impl Scene {
    /// A new namespace.
    pub async fn new(test: &str) -> Self {
        cluster();
        let client = admin().await;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let mut namespace = Namespace::default();
        namespace.metadata.generate_name = Some(format!("{test}-"));
        let namespace = namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap()
            .name_any();
        let (sender, history) = watch::channel(History::default());
        let recorder =
            tokio::spawn(record(client.clone(), namespace.clone(), sender)).abort_handle();
        Self {
            client,
            namespace,
            history,
            recorder,
            seen: AtomicUsize::new(0),
        }
    }

    /// A new namespace with Deployment `podinfo` in its first version, healthy traffic, and a
    /// Canary.
    pub async fn with(test: &str, canary: CanaryManifest) -> Self {
        Self::of(test, deployment("podinfo", "podinfo:1"), canary).await
    }

    /// A new namespace with a workload `podinfo`, healthy traffic, and a Canary.
    pub async fn of(test: &str, workload: Value, canary: CanaryManifest) -> Self {
        let scene = Self::new(test).await;
        scene.flow(Flow::HEALTHY);
        scene.create(workload).await;
        scene.create(canary.build()).await;
        scene
    }

    /// Its name.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// `podinfo` with the namespace, as events name it.
    pub fn full_name(&self) -> String {
        format!("podinfo.{}", self.namespace)
    }

    /// From now on, users of the canary see this.
    pub fn flow(&self, flow: Flow) {
        cluster().traffic.set(&self.namespace, "podinfo", flow);
    }

    /// From now on, users of the canary and of the primary see this.
    pub fn flows(&self, canary: Flow, primary: Flow) {
        self.flow(canary);
        cluster()
            .traffic
            .set(&self.namespace, "podinfo-primary", primary);
    }

    /// Creates an object from its manifest.
    pub async fn create(&self, manifest: Value) -> DynamicObject {
        let object: DynamicObject = serde_json::from_value(manifest).unwrap();
        let types = object.types.clone().unwrap();
        let (group, version) = types
            .api_version
            .split_once('/')
            .unwrap_or(("", &types.api_version));
        let kind = GroupVersionKind::gvk(group, version, &types.kind);
        let api: Api<DynamicObject> = Api::namespaced_with(
            self.client.clone(),
            &self.namespace,
            &ApiResource::from_gvk(&kind),
        );
        api.create(&PostParams::default(), &object).await.unwrap()
    }

    /// Objects of a kind.
    pub fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    /// An object as it is.
    pub async fn get(&self, kind: Kind, name: &str) -> Value {
        let found = self.api(kind).get(name).await;
        serde_json::to_value(found.unwrap_or_else(|e| panic!("{kind} {name}: {e}"))).unwrap()
    }

    /// Changes an object by a merge patch.
    pub async fn change(&self, kind: Kind, name: &str, patch: Value) {
        self.api(kind)
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// Changes an object's status by a merge patch.
    pub async fn change_status(&self, kind: Kind, name: &str, status: Value) {
        let patch = Patch::Merge(json!({ "status": status }));
        self.api(kind)
            .patch_status(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Deletes an object.
    pub async fn delete(&self, kind: Kind, name: &str) {
        self.api(kind)
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// Gives Deployment `podinfo` a new image.
    pub async fn release(&self, image: &str) {
        self.release_of(Kind::Deployment, image).await;
    }

    /// Gives workload `podinfo` a new image.
    pub async fn release_of(&self, kind: Kind, image: &str) {
        let template = json!({ "spec": { "containers": [{ "name": "app", "image": image }] } });
        let patch = Patch::Strategic(json!({ "spec": { "template": template } }));
        self.api(kind)
            .patch("podinfo", &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// The images that a Deployment ever ran.
    pub async fn images_of(&self, name: &str) -> BTreeSet<String> {
        let sets = self
            .api(Kind::ReplicaSet)
            .list(&ListParams::default())
            .await;
        sets.unwrap()
            .into_iter()
            .filter(|set| {
                let owner = set.metadata.owner_references.iter().flatten().next();
                owner.is_some_and(|owner| owner.name == name)
            })
            .filter_map(|set| {
                let image = set.data.pointer("/spec/template/spec/containers/0/image")?;
                Some(image.as_str()?.to_owned())
            })
            .collect()
    }

    /// Asks something of the release by annotation.
    pub async fn request(&self, request: &str) {
        let patch = json!({ "metadata": { "annotations": { haldane::api::REQUEST: request } } });
        self.change(Kind::Canary, "podinfo", patch).await;
    }

    /// Waits until the Canary gets into a phase, after those that were awaited before.
    pub async fn reaches(&self, phase: Phase) -> Canary {
        self.passes(&format!("podinfo reaches {phase}"), |m| m.phase == phase)
            .await
    }

    /// Waits until the Canary passes through a state, after those that were awaited before; the
    /// Canary as it is then.
    pub async fn passes(&self, what: &str, holds: impl Fn(&Moment) -> bool) -> Canary {
        let from = self.seen.load(Ordering::Relaxed);
        let (found, canary) = self
            .until(what, |history| {
                let found = history
                    .moments
                    .iter()
                    .skip(from)
                    .position(|m| m.canary == "podinfo" && holds(m))?;
                Some((found, history.canaries.get("podinfo").cloned()?))
            })
            .await;
        self.seen.store(from + found, Ordering::Relaxed);
        canary
    }

    /// Waits until a Canary is as described.
    pub async fn becomes(&self, name: &str, what: &str, holds: impl Fn(&Canary) -> bool) -> Canary {
        self.until(&format!("{name} {what}"), |history| {
            history.canaries.get(name).filter(|c| holds(c)).cloned()
        })
        .await
    }

    /// Waits for an event of a Canary whose message contains a text.
    pub async fn told(&self, text: &str) {
        self.until(&format!("event {text:?}"), |history| {
            let told = history.told.iter().any(|(_, m)| m.contains(text));
            told.then_some(())
        })
        .await;
    }

    /// Waits until a text is part of so many events; there must not be more.
    pub async fn is_told(&self, text: &str, times: usize) {
        self.until(&format!("{times} events {text:?}"), |history| {
            let told = history.told.iter().filter(|(_, m)| m.contains(text));
            (told.count() >= times).then_some(())
        })
        .await;
        assert_eq!(self.times_told(text), times, "{text}\n{}", self.report());
    }

    /// Waits until anything happens.
    pub async fn stirs(&self) {
        let mut changes = self.history.clone();
        changes.mark_unchanged();
        changes.changed().await.unwrap();
    }

    /// How often a text is part of an event so far.
    pub fn times_told(&self, text: &str) -> usize {
        let history = self.history.borrow();
        history
            .told
            .iter()
            .filter(|(_, m)| m.contains(text))
            .count()
    }

    /// Waits until these are the weights that the route gave the canary, one after the other
    /// and no other ones.
    pub async fn routes(&self, weights: &[i64]) {
        self.until(&format!("routed {weights:?}"), |history| {
            (history.routed == weights).then_some(())
        })
        .await;
    }

    /// Waits until a service has ready endpoints.
    pub async fn has_endpoints(&self, service: &str) {
        self.until(&format!("{service} has endpoints"), |history| {
            (history.endpoints(service) > 0).then_some(())
        })
        .await;
    }

    /// Waits until Deployment `podinfo` has no pods, as between two releases.
    pub async fn rests(&self) {
        self.sees(Kind::Deployment, "podinfo", "rests", |d| {
            d["spec"]["replicas"] == 0 && d["status"].get("replicas").is_none()
        })
        .await;
        self.until("podinfo-canary has no endpoints", |history| {
            (history.endpoints("podinfo-canary") == 0).then_some(())
        })
        .await;
    }

    /// Asserts that the route never sent users to a service without ready endpoints.
    pub fn served_its_users(&self) {
        let outages = self.history.borrow().outages();
        assert!(outages.is_empty(), "{outages:#?}\n{}", self.report());
    }

    /// Waits until something is found in the history.
    async fn until<T>(&self, what: &str, find: impl Fn(&History) -> Option<T>) -> T {
        let mut changes = self.history.clone();
        let found = async {
            let history = changes.wait_for(|history| find(history).is_some()).await;
            find(&history.unwrap()).unwrap()
        };
        timeout(PATIENCE, found)
            .await
            .unwrap_or_else(|_| panic!("{what}: not within {PATIENCE:?}\n{}", self.report()))
    }

    /// Waits until an object is as described.
    pub async fn sees(&self, kind: Kind, name: &str, what: &str, holds: impl Fn(&Value) -> bool) {
        let condition = |object: Option<&DynamicObject>| {
            object.is_some_and(|object| holds(&serde_json::to_value(object).unwrap()))
        };
        let found = await_condition(self.api(kind), name, condition);
        if timeout(PATIENCE, found).await.is_err() {
            let found = self.api(kind).get_opt(name).await.unwrap();
            panic!(
                "{kind} {name} {what}: not within {PATIENCE:?}; found {}\n{}",
                serde_json::to_string_pretty(&found).unwrap(),
                self.report()
            );
        }
    }

    /// Waits until an object is gone.
    pub async fn gone(&self, kind: Kind, name: &str) {
        let condition = |object: Option<&DynamicObject>| object.is_none();
        let gone = await_condition(self.api(kind), name, condition);
        assert!(
            timeout(PATIENCE, gone).await.is_ok(),
            "{kind} {name} is gone: not within {PATIENCE:?}
{}",
            self.report()
        );
    }

    /// Waits until a workload runs an image with this number of replicas asked for.
    pub async fn runs(&self, name: &str, image: &str, replicas: i64) {
        let what = format!("runs {image} with {replicas} replicas");
        self.sees(Kind::Deployment, name, &what, |d| {
            d["spec"]["template"]["spec"]["containers"][0]["image"] == image
                && d["spec"]["replicas"] == replicas
        })
        .await;
    }

    /// What a failure shows.
    fn report(&self) -> String {
        let history = self.history.borrow();
        let mut report = format!("namespace {}\n", self.namespace);
        for moment in &history.moments {
            writeln!(report, "  {moment}").unwrap();
        }
        writeln!(report, "routed: {:?}\nevents:", history.routed).unwrap();
        for (canary, message) in &history.told {
            writeln!(report, "  {canary}: {message}").unwrap();
        }
        for (name, canary) in &history.canaries {
            let status = serde_json::to_string_pretty(&canary.status).unwrap();
            writeln!(report, "status of {name}: {status}").unwrap();
        }
        let log = operator::log(&self.namespace);
        let lines = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<&str> = lines.lines().collect();
        writeln!(report, "end of {}:", log.display()).unwrap();
        for line in lines.iter().skip(lines.len().saturating_sub(LOG_LINES)) {
            writeln!(report, "  {line}").unwrap();
        }
        report
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.recorder.abort();
        cluster().traffic.forget(&self.namespace);
        // What a failed test leaves behind is worth looking at.
        if !std::thread::panicking() {
            cluster().delete_later(&self.namespace);
        }
    }
}

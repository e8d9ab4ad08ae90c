//! Gathers a [`Snapshot`] from the cache, and from the API what must not be cached.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::{
    Client,
    api::{Api, DynamicObject},
    core::ObjectMeta,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    api::{AlertProvider, Canary, CanarySpec, CanaryStatus, MetricTemplate},
    measure::metrics::template_key,
    object::{Key, Kind, Object},
    route,
    settings::Settings,
    workload,
};

use super::{
    cache::{Cache, CanaryKey, View, by_apex, by_target, number},
    snapshot::{CheckState, Config, LookState, Snapshot},
};

/// Longest time that reading one ConfigMap or Secret may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a Canary could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// The Canary cannot be read: the API server holds one that its schema does not allow.
    #[error("Canary {namespace}/{name} cannot be read: {source}")]
    Undecodable {
        /// Namespace of the Canary.
        namespace: String,
        /// Name of the Canary.
        name: String,
        /// Why.
        source: serde_json::Error,
    },
    /// A ConfigMap or Secret could not be read.
    #[error("reading {key}: {source}")]
    Read {
        /// The object.
        key: Key,
        /// Why.
        source: Box<kube::Error>,
    },
    /// A ConfigMap or Secret is gone, or the server that was asked does not know it yet.
    #[error("reading {key}: not found")]
    Missing {
        /// The object.
        key: Key,
    },
    /// The server that was asked knows an older state of a ConfigMap or Secret than its watch showed.
    #[error("reading {key}: older than what its watch showed")]
    Outdated {
        /// The object.
        key: Key,
    },
    /// The API server did not answer in time.
    #[error("reading {key}: no answer within {READ_TIMEOUT:?}")]
    TimedOut {
        /// The object.
        key: Key,
    },
}

/// What this process remembers about a Canary between two looks.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Checks under way or answered.
    pub checks: BTreeMap<String, CheckState>,
    /// The judge's last look at the counters.
    pub look: Option<Arc<LookState>>,
    /// Since when each pod was seen ready behind the canary service.
    pub ready_since: BTreeMap<String, Timestamp>,
    /// Since when all plans were quiet.
    pub quiet_since: Option<Timestamp>,
}

/// Since when each pod was seen ready behind the canary service: as before, or since now.
pub fn ready_since(
    before: &BTreeMap<String, Timestamp>,
    canary: &[Arc<Object>],
    now: Timestamp,
) -> BTreeMap<String, Timestamp> {
    workload::ready_pods(canary, |_| true)
        .into_iter()
        .map(|pod| {
            let since = before.get(&pod).copied().unwrap_or(now);
            (pod, since)
        })
        .collect()
}

/// Gathers snapshots.
pub struct Observer {
    client: Client,
    cache: Arc<Cache>,
    settings: Arc<Settings>,
    /// Checksums by object; the version tells whether they still hold.
    checksums: Mutex<BTreeMap<Key, Checksum>>,
    /// The Canary that was read last, and the object that it was read from.
    latest: Mutex<Option<(Arc<Object>, Arc<Canary>)>>,
}

#[derive(Clone, Debug)]
struct Checksum {
    version: String,
    /// `None`: a Secret of a type that is not tracked.
    sum: Option<String>,
}

/// What one look at the cache found.
struct Look {
    canary: Arc<Canary>,
    objects: BTreeMap<Key, Arc<Object>>,
    slices: BTreeMap<String, Vec<Arc<Object>>>,
    replica_sets: BTreeMap<String, Vec<Arc<Object>>>,
    configs: Vec<Arc<Object>>,
    templates: BTreeMap<Key, Arc<MetricTemplate>>,
    providers: BTreeMap<Key, AlertProvider>,
    missing_apis: BTreeSet<Kind>,
    rival: Option<String>,
}

impl Observer {
    /// An observer of one cluster.
    pub fn new(client: Client, cache: Arc<Cache>, settings: Arc<Settings>) -> Self {
        Self {
            client,
            cache,
            settings,
            checksums: Mutex::default(),
            latest: Mutex::default(),
        }
    }

    /// All facts about a Canary; `None` when it does not exist.
    ///
    /// # Errors
    /// When the Canary cannot be decoded, or a config's contents cannot be read.
    pub async fn observe(
        &self,
        key: &CanaryKey,
        memory: &Memory,
        now: Timestamp,
    ) -> Result<Option<Snapshot>, ObserveError> {
        let Some(look) = self.cache.look(key, |view| self.look(key, view)) else {
            self.cache.forget(key);
            return Ok(None);
        };
        let look = look?;
        let mut configs = BTreeMap::new();
        for object in look.configs {
            let checksum = if workload::is_tracked(&self.settings, &object) {
                Box::pin(self.checksum(&object)).await?
            } else {
                None
            };
            configs.insert(object.key.clone(), Config { object, checksum });
        }
        let service = look.canary.spec.canary_service();
        let pods = look.slices.get(&service).map_or(&[][..], Vec::as_slice);
        let ready_since = ready_since(&memory.ready_since, pods, now);
        Ok(Some(Snapshot {
            now,
            settings: Arc::clone(&self.settings),
            canary: look.canary,
            objects: look.objects,
            slices: look.slices,
            replica_sets: look.replica_sets,
            configs,
            templates: look.templates,
            providers: Arc::new(look.providers),
            missing_apis: look.missing_apis,
            quiet_since: memory.quiet_since,
            rival: look.rival,
            checks: memory.checks.clone(),
            look: memory.look.clone(),
            ready_since,
        }))
    }

    /// The Canary of an object, which is the same as last time for most looks.
    fn canary(&self, object: &Arc<Object>) -> Result<Arc<Canary>, serde_json::Error> {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read, canary)) = &*latest
            && Arc::ptr_eq(read, object)
        {
            return Ok(Arc::clone(canary));
        }
        let canary = Arc::new(canary(object)?);
        *latest = Some((Arc::clone(object), Arc::clone(&canary)));
        Ok(canary)
    }

    fn look(&self, key: &CanaryKey, view: &mut View) -> Option<Result<Look, ObserveError>> {
        let (namespace, name) = (&key.namespace, &key.name);
        let object = view.object(key)?;
        let canary = match self.canary(&object) {
            Ok(canary) => canary,
            Err(source) => {
                return Some(Err(ObserveError::Undecodable {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    source,
                }));
            }
        };
        let rival = rival(&object, &canary, view);
        let missing_apis = view.missing_apis();
        let mut objects = BTreeMap::new();
        for key in self.keys(&canary, namespace, &missing_apis) {
            if let Some(object) = view.object(&key) {
                objects.insert(key, object);
            }
        }
        let slices = [canary.spec.primary_service(), canary.spec.canary_service()]
            .map(|service| {
                let slices = view.group(Kind::EndpointSlice, namespace, &service);
                (service, slices)
            })
            .into();
        let target = canary.spec.target_ref.name.clone();
        let replica_sets = [target.clone(), canary.spec.primary_name()]
            .map(|deployment| {
                let sets = view.group(Kind::ReplicaSet, namespace, &deployment);
                (deployment, sets)
            })
            .into();
        let kind = Kind::from(canary.spec.target_ref.kind);
        let mut configs = Vec::new();
        if let Some(target) = objects.get(&Key::new(kind, namespace, target)).cloned()
            && self.settings.config_tracking
        {
            for reference in workload::config_refs(&target) {
                let key = Key::new(reference.kind, namespace, reference.name.clone());
                configs.extend(view.object(&key));
                for copy in workload::copy_names(&reference.name, &target.key.name) {
                    let key = Key::new(reference.kind, namespace, copy);
                    if let Some(copy) = view.object(&key) {
                        objects.insert(key, copy);
                    }
                }
            }
        }
        let primary = Key::new(kind, namespace, canary.spec.primary_name());
        if let Some(primary) = objects.get(&primary).cloned() {
            for reference in workload::config_refs(&primary) {
                let former = workload::former_name(&reference.name);
                for name in [reference.name, former] {
                    let key = Key::new(reference.kind, namespace, name);
                    if let Some(copy) = view.object(&key) {
                        objects.insert(key, copy);
                    }
                }
            }
        }
        let templates = templates(&canary, view);
        let providers = canary
            .spec
            .analysis
            .alerts
            .iter()
            .flatten()
            .map(|alert| {
                let reference = &alert.provider_ref;
                let namespace = reference.namespace.as_deref().unwrap_or(namespace);
                Key::new(Kind::AlertProvider, namespace, reference.name.clone())
            })
            .filter_map(|key| {
                let provider = alert_provider(&*view.object(&key)?)?;
                Some((key, provider))
            })
            .collect();
        Some(Ok(Look {
            canary,
            objects,
            slices,
            replica_sets,
            configs,
            templates,
            providers,
            missing_apis,
            rival,
        }))
    }

    /// The objects around a Canary that have a fixed name.
    fn keys(&self, canary: &Canary, namespace: &str, missing_apis: &BTreeSet<Kind>) -> Vec<Key> {
        let spec = &canary.spec;
        let kind = Kind::from(spec.target_ref.kind);
        let mut keys = vec![
            Key::new(kind, namespace, spec.target_ref.name.clone()),
            Key::new(kind, namespace, spec.primary_name()),
            Key::new(Kind::Service, namespace, spec.apex_name()),
            Key::new(Kind::Service, namespace, spec.primary_service()),
            Key::new(Kind::Service, namespace, spec.canary_service()),
        ];
        if let Some(scaler) = &spec.autoscaler_ref {
            let kind = Kind::from(scaler.kind);
            keys.push(Key::new(kind, namespace, scaler.name.clone()));
            keys.push(Key::new(
                kind,
                namespace,
                format!("{}-primary", scaler.name),
            ));
        }
        let provider = route::provider(canary, self.settings.mesh_provider, missing_apis);
        if let Ok(router) = route::router(provider) {
            keys.extend(router.keys(canary));
        }
        keys
    }

    /// The checksum of a config's data. Contents are read when their version is a new one, and
    /// never kept.
    async fn checksum(&self, object: &Object) -> Result<Option<String>, ObserveError> {
        let version = &object.resource_version;
        let known = self
            .checksums
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&object.key)
            .filter(|known| known.version == *version)
            .cloned();
        if let Some(known) = known {
            return Ok(known.sum);
        }
        let key = &object.key;
        let api: Api<DynamicObject> =
            Api::namespaced_with(self.client.clone(), &key.namespace, &key.kind.resource());
        let read = tokio::time::timeout(READ_TIMEOUT, api.get_opt(&key.name))
            .await
            .map_err(|_| ObserveError::TimedOut { key: key.clone() })?
            .map_err(|source| ObserveError::Read {
                key: key.clone(),
                source: Box::new(source),
            })?;
        // Nothing is known of what the watch still shows and the server has no more: the watch will
        // tell, or the next read. To take it for untracked would give the primary the original.
        let Some(found) = read else {
            return Err(ObserveError::Missing { key: key.clone() });
        };
        let versions = (
            found.metadata.resource_version.as_deref().and_then(number),
            number(version),
        );
        if let (Some(found), Some(shown)) = versions
            && found < shown
        {
            // To take it for what the watch showed would be to lose a revision: nothing would ask
            // for it again.
            return Err(ObserveError::Outdated { key: key.clone() });
        }
        let kind = found.data.get("type").and_then(Value::as_str);
        let tracked =
            key.kind == Kind::ConfigMap || kind.is_none_or(workload::is_tracked_secret_type);
        let sum =
            tracked.then(|| workload::checksum(found.data.get("data").unwrap_or(&Value::Null)));
        self.checksums
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(
                key.clone(),
                Checksum {
                    version: found.metadata.resource_version.unwrap_or_default(),
                    sum: sum.clone(),
                },
            );
        Ok(sum)
    }
}

/// The metric templates that a Canary refers to.
fn templates(canary: &Canary, view: &mut View) -> BTreeMap<Key, Arc<MetricTemplate>> {
    let analysis = &canary.spec.analysis;
    let thresholds = analysis.metrics.iter().flatten();
    let judged = analysis.judge.iter().flat_map(|judge| &judge.metrics);
    thresholds
        .map(|metric| metric.template_ref.as_ref())
        .chain(judged.flatten().map(|metric| metric.template_ref.as_ref()))
        .filter_map(|reference| template_key(canary, reference))
        .filter_map(|key| {
            let template = metric_template(&*view.object(&key)?)?;
            Some((key, Arc::new(template)))
        })
        .collect()
}

/// An older Canary that releases the same target or serves the same apex service.
fn rival(object: &Object, canary: &Canary, view: &mut View) -> Option<String> {
    let namespace = &object.key.namespace;
    let mut others = view.group(
        Kind::Canary,
        namespace,
        &by_target(&canary.spec.target_ref.name),
    );
    others.extend(view.group(Kind::Canary, namespace, &by_apex(canary.spec.apex_name())));
    let age = |o: &Object| (o.created, o.key.name.clone());
    others
        .iter()
        .filter(|other| other.key != object.key && other.deleted.is_none())
        .filter(|other| age(other) < age(object))
        .map(|other| other.key.name.clone())
        .min()
}

/// The Canary in a cached object.
///
/// # Errors
/// When the object is not a Canary that the schema allows.
pub fn canary(object: &Object) -> Result<Canary, serde_json::Error> {
    let body = object.body.read();
    let spec = CanarySpec::deserialize(&body["spec"])?;
    let status = Option::<CanaryStatus>::deserialize(&body["status"])?;
    Ok(Canary {
        metadata: metadata(object),
        spec,
        status,
    })
}

fn metric_template(object: &Object) -> Option<MetricTemplate> {
    let spec = serde_json::from_value(object.body.value()["spec"].take()).ok()?;
    Some(MetricTemplate {
        metadata: metadata(object),
        spec,
        status: None,
    })
}

fn alert_provider(object: &Object) -> Option<AlertProvider> {
    let spec = serde_json::from_value(object.body.value()["spec"].take()).ok()?;
    Some(AlertProvider {
        metadata: metadata(object),
        spec,
        status: None,
    })
}

fn metadata(object: &Object) -> ObjectMeta {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    ObjectMeta {
        name: Some(object.key.name.clone()),
        namespace: Some(object.key.namespace.clone()),
        uid: Some(object.uid.clone()),
        resource_version: Some(object.resource_version.clone()),
        generation: Some(object.generation),
        creation_timestamp: object.created.map(Time),
        deletion_timestamp: object.deleted.map(Time),
        labels: Some(object.labels.clone()),
        annotations: Some(object.annotations.clone()),
        finalizers: Some(object.finalizers.clone()),
        ..ObjectMeta::default()
    }
}

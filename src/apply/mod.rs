//! The only writer: carries out plans, one write at a time.

mod confirm;
mod event;

pub use event::event;

use std::{sync::Arc, time::Duration};

use kube::{
    Client, ResourceExt,
    api::{Api, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    api::{CHECKSUM, status::CanaryStatus},
    object::{Key, Kind, merge_diff},
    observe::{Cache, Snapshot, object_of},
    plan::{ConfigCopy, Effect, Plan, Precondition},
    telemetry::metrics::Metrics,
    workload,
};

/// Name under which the operator's fields are managed.
pub const MANAGER: &str = "haldane";

/// Longest time that one write may take: less than a third of a lease, so that it has ended
/// before another replica can lead.
const WRITE_TIMEOUT: Duration = Duration::from_secs(4);

/// Whether this process may write: no longer than it leads.
pub type Fence = Arc<dyn Fn() -> bool + Send + Sync>;

/// Why a write was not done.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// Another replica leads.
    #[error("{verb} {key}: this replica does not lead any more")]
    NotLeading {
        /// What was to be done.
        verb: &'static str,
        /// The object.
        key: Key,
    },
    /// The API server did not answer in time. The write may have been done.
    #[error("{verb} {key} ({reason}): no answer within {WRITE_TIMEOUT:?}")]
    TimedOut {
        /// What was to be done.
        verb: &'static str,
        /// The object.
        key: Key,
        /// Why.
        reason: &'static str,
    },
    /// The API server refused.
    #[error("{verb} {key} ({reason}): {source}")]
    Refused {
        /// What was to be done.
        verb: &'static str,
        /// The object.
        key: Key,
        /// Why.
        reason: &'static str,
        /// The server's answer.
        source: Box<kube::Error>,
    },
    /// An object is not as it was when it was looked at.
    #[error("{key} changed after it was looked at; it is looked at again")]
    Changed {
        /// The object.
        key: Key,
    },
}

impl ApplyError {
    /// Whether somebody else changed the object meanwhile, so that it must be looked at again.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Changed { .. }) || matches!(self.code(), Some(404 | 409))
    }

    /// What the server answered.
    fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { source, .. } => {
                let kube::Error::Api(status) = &**source else {
                    return None;
                };
                Some(status.code)
            }
            Self::Changed { .. } | Self::NotLeading { .. } | Self::TimedOut { .. } => None,
        }
    }

    /// The error in one word, for metrics and logs.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotLeading { .. } => "not_leading",
            Self::TimedOut { .. } => "timeout",
            Self::Refused { .. } if self.is_conflict() => "conflict",
            Self::Refused { .. } => "refused",
            Self::Changed { .. } => "changed",
        }
    }
}

/// Carries out plans.
#[derive(Clone)]
pub struct Applier {
    client: Client,
    cache: Arc<Cache>,
    fence: Fence,
    metrics: Arc<Metrics>,
}

impl Applier {
    /// A writer that stops writing when `fence` says so.
    pub fn new(client: Client, cache: Arc<Cache>, fence: Fence, metrics: Arc<Metrics>) -> Self {
        Self {
            client,
            cache,
            fence,
            metrics,
        }
    }

    /// Writes the status, if it changes. A decision is persisted before its first effect.
    ///
    /// # Errors
    /// When it could not be written; then no effect may follow.
    pub async fn write_status(&self, s: &Snapshot, next: &CanaryStatus) -> Result<(), ApplyError> {
        let value = |status: &CanaryStatus| serde_json::to_value(status).unwrap_or_default();
        let change = match &s.canary.status {
            Some(before) => merge_diff(&value(before), &value(next)).unwrap_or_else(|| json!({})),
            None => value(next),
        };
        let key = Key::new(Kind::Canary, s.namespace(), s.name());
        let precondition = Precondition {
            uid: s.canary.metadata.uid.clone().unwrap_or_default(),
            resource_version: s.canary.metadata.resource_version.clone(),
        };
        let patch = guarded(json!({ "status": change }), &precondition);
        let api = self.api(&key);
        let written = self
            .write("patch status of", &key, "persist the decision", async {
                api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(&patch))
                    .await
            })
            .await?;
        self.remember(&key, written);
        Ok(())
    }

    /// Carries out the effects of a plan, in order; measurements are not its business.
    ///
    /// # Errors
    /// At the first effect that fails; what follows is left for the next look.
    pub async fn carry_out(&self, plan: &Plan) -> Result<(), ApplyError> {
        for effect in &plan.effects {
            self.apply(effect).await?;
        }
        Ok(())
    }

    async fn apply(&self, effect: &Effect) -> Result<(), ApplyError> {
        match effect {
            Effect::Create { want, reason } => {
                self.create(&want.key, want.manifest(), reason).await
            }
            Effect::Patch {
                key,
                patch,
                precondition,
                reason,
            } => {
                let patch = guarded(patch.clone(), precondition);
                let api = self.api(key);
                let written = self
                    .write("patch", key, reason, async {
                        api.patch(&key.name, &params(), &Patch::Merge(&patch)).await
                    })
                    .await?;
                self.remember(key, written);
                Ok(())
            }
            Effect::CopyConfig(copy) => self.copy_config(copy).await,
            Effect::Measure(_) | Effect::Look(_) => Ok(()),
        }
    }

    async fn create(
        &self,
        key: &Key,
        manifest: Value,
        reason: &'static str,
    ) -> Result<(), ApplyError> {
        let object: DynamicObject = match serde_json::from_value(manifest) {
            Ok(object) => object,
            Err(error) => {
                return Err(ApplyError::Refused {
                    verb: "create",
                    key: key.clone(),
                    reason,
                    source: Box::new(kube::Error::SerdeError(error)),
                });
            }
        };
        let api = self.api(key);
        let options = PostParams {
            field_manager: Some(MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = self
            .write("create", key, reason, async {
                api.create(&options, &object).await
            })
            .await;
        if let Err(error) = &written
            && error.code() == Some(409)
        {
            // It is there, and its watch is late: the next look goes on from what it is.
            let read = async { api.get(&key.name).await };
            if let Ok(found) = self.write("read", key, reason, read).await {
                self.remember(key, found);
            }
        }
        self.remember(key, written?);
        Ok(())
    }

    /// Copies a config whose contents are not cached, if they still are what was analysed.
    async fn copy_config(&self, copy: &ConfigCopy) -> Result<(), ApplyError> {
        let reason = "give the primary its own copy";
        let api = self.api(&copy.from);
        let found = self
            .write("read", &copy.from, reason, async {
                api.get(&copy.from.name).await
            })
            .await?;
        let data = found.data.get("data").cloned().unwrap_or_default();
        let same = match &copy.checksum {
            Some(wanted) => workload::checksum(&data) == *wanted,
            // A copy tells what it carries.
            None => found.annotations().get(CHECKSUM) == copy.to.annotations.get(CHECKSUM),
        };
        if !same {
            return Err(ApplyError::Changed {
                key: copy.from.clone(),
            });
        }
        let mut body = json!({ "data": data });
        if let Some(binary) = found.data.get("binaryData") {
            body["binaryData"] = binary.clone();
        }
        let key = &copy.to.key;
        let mut want = copy.to.clone();
        want.body = body;
        want.exact = vec!["/data", "/binaryData"];
        let api = self.api(key);
        let existing = self
            .write("read", key, reason, async { api.get_opt(&key.name).await })
            .await?;
        let Some(existing) = existing else {
            if let Some(kind) = found.data.get("type") {
                want.body["type"] = kind.clone();
            }
            return self.create(key, want.manifest(), reason).await;
        };
        let owners = owners(&existing, &want);
        let Some(existing) = object_of(key.kind, existing) else {
            return Ok(());
        };
        let this = want.owner.as_ref();
        if !this.is_some_and(|this| workload::is_only_of(this, &existing)) {
            // Another Canary took the name meanwhile: to use its copy would be to follow its
            // promotions.
            return Err(ApplyError::Changed { key: key.clone() });
        }
        let Some(mut patch) = want.patch(&existing) else {
            return Ok(());
        };
        if let Some(owners) = owners {
            patch["metadata"]["ownerReferences"] = owners;
        }
        let precondition = Precondition {
            uid: existing.uid.clone(),
            resource_version: Some(existing.resource_version.clone()),
        };
        let patch = guarded(patch, &precondition);
        let written = self
            .write("patch", key, reason, async {
                api.patch(&key.name, &params(), &Patch::Merge(&patch)).await
            })
            .await?;
        self.remember(key, written);
        Ok(())
    }

    /// Writes an Event. One that exists already was told before.
    ///
    /// # Errors
    /// When it could not be written.
    pub async fn tell(&self, object: &DynamicObject, key: &Key) -> Result<Told, ApplyError> {
        let api = self.api(key);
        let options = PostParams::default();
        let result = self
            .write("create", key, "tell what happened", async {
                api.create(&options, object).await
            })
            .await;
        match result {
            Ok(_) => Ok(Told::Now),
            Err(error) if error.code() == Some(409) => Ok(Told::Before),
            Err(error) => Err(error),
        }
    }

    /// One request: only while this replica leads, and within its time.
    async fn write<T>(
        &self,
        verb: &'static str,
        key: &Key,
        reason: &'static str,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, ApplyError> {
        if !(self.fence)() {
            return Err(ApplyError::NotLeading {
                verb,
                key: key.clone(),
            });
        }
        tracing::debug!(verb, object = %key, reason, "write");
        let answer = tokio::time::timeout(WRITE_TIMEOUT, request).await;
        let code = match &answer {
            Ok(Ok(_)) => Some(200),
            Ok(Err(kube::Error::Api(status))) => Some(status.code),
            Ok(Err(_)) | Err(_) => None,
        };
        self.metrics.api_request(verb, key.kind.names().2, code);
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(source)) => Err(ApplyError::Refused {
                verb,
                key: key.clone(),
                reason,
                source: Box::new(source),
            }),
            Err(_) => Err(ApplyError::TimedOut {
                verb,
                key: key.clone(),
                reason,
            }),
        }
    }

    /// What was written is known before the watch shows it.
    fn remember(&self, key: &Key, written: DynamicObject) {
        if let Some(object) = object_of(key.kind, written) {
            self.cache.saw(object);
        }
    }

    fn api(&self, key: &Key) -> Api<DynamicObject> {
        let resource = key.kind.resource();
        Api::namespaced_with(self.client.clone(), &key.namespace, &resource)
    }
}

/// Whether an Event is told for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is.
    Now,
    /// It was told before a restart.
    Before,
}

fn params() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

/// A merge patch that the server refuses for any other object or version.
fn guarded(mut patch: Value, precondition: &Precondition) -> Value {
    if !patch.get("metadata").is_some_and(Value::is_object) {
        patch["metadata"] = json!({});
    }
    patch["metadata"]["uid"] = json!(precondition.uid);
    if let Some(version) = &precondition.resource_version {
        patch["metadata"]["resourceVersion"] = json!(version);
    }
    patch
}

/// The owners of a copy once this Canary is among them, as after its restoration from a backup: one
/// controller only.
fn owners(existing: &DynamicObject, want: &crate::object::Want) -> Option<Value> {
    let owner = want.owner.as_ref()?;
    let mut all = existing
        .metadata
        .owner_references
        .clone()
        .unwrap_or_default();
    if all.iter().any(|o| o.uid == owner.uid) {
        return None;
    }
    for other in &mut all {
        other.controller = Some(false);
    }
    let mut all = serde_json::to_value(all).ok()?;
    all.as_array_mut()?.push(json!({
        "apiVersion": Kind::Canary.api_version(),
        "kind": owner.kind,
        "name": owner.name,
        "uid": owner.uid,
        "controller": true,
        "blockOwnerDeletion": true,
    }));
    Some(all)
}

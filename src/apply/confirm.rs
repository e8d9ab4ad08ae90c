//! What a decision hangs on is read again before it counts: watches come late, each by itself.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::ListParams;

use super::{Applier, ApplyError};
use crate::{
    object::{Key, Kind},
    observe::{Snapshot, object_of},
    plan::Plan,
    route, workload,
};

impl Applier {
    /// Makes sure that the target is what a decision is made on, before a release begins or is taken
    /// back, and before a process persists its first decision: one whose watch is late would take a
    /// revision of the past for a new one, or raise the weight of pods that are gone.
    ///
    /// # Errors
    /// When the target is another one, or cannot be read; then the decision must not be persisted.
    pub async fn confirm_target(&self, s: &Snapshot) -> Result<(), ApplyError> {
        let key = s.target_key();
        // Only what has pods counts the changes of its spec.
        if !matches!(key.kind, Kind::Deployment | Kind::DaemonSet) {
            return Ok(());
        }
        let seen = s.target();
        self.is_still(&key, "confirm the revision", |found| {
            found.map(|found| (found.generation.unwrap_or_default(), found.uid.as_deref()))
                == seen.map(|seen| (seen.generation, Some(&*seen.uid)))
        })
        .await
    }

    /// Makes sure that the configs of the target are what a decision is made on, before a release
    /// under way is taken back or replaced: it may have begun because another leader saw a change of
    /// them that a late watch does not show here.
    ///
    /// # Errors
    /// When one is another one, or cannot be read; then the decision must not be persisted.
    pub async fn confirm_configs(&self, s: &Snapshot) -> Result<(), ApplyError> {
        for (key, config) in s.configs.iter().filter(|(_, c)| c.checksum.is_some()) {
            let seen = &config.object.resource_version;
            self.is_still_at(key, "confirm the revision", Some(seen))
                .await?;
        }
        Ok(())
    }

    /// Makes sure that users go where they were seen to go, before capacity is taken away, or a
    /// route API is left.
    ///
    /// # Errors
    /// When they go elsewhere, or that cannot be read.
    pub async fn confirm_routes(&self, s: &Snapshot) -> Result<(), ApplyError> {
        let provider = route::provider(&s.canary, s.settings.mesh_provider, &s.missing_apis);
        let mut keys = route::router(provider).map_or_else(|_| Vec::new(), |r| r.keys(&s.canary));
        keys.retain(|key| matches!(key.kind, Kind::VirtualService | Kind::HttpRoute));
        if s.leaves() || !keys.iter().any(|key| s.objects.contains_key(key)) {
            keys.push(s.apex_key());
        }
        for key in keys {
            let seen = s.objects.get(&key).map(|seen| &seen.resource_version);
            self.is_still_at(&key, "confirm where users go", seen)
                .await?;
        }
        Ok(())
    }

    /// Makes sure that what a plan was made of is what the server has, before anything is written
    /// that follows from it. Watches come late, each by itself: with a status of yesterday and a
    /// route of today, users would be sent back to a canary that failed since; with a route of
    /// yesterday, pods would go that users are sent to.
    ///
    /// A status that the plan changes is confirmed by writing it.
    ///
    /// # Errors
    /// When something is another one, or cannot be read; then no effect may follow.
    pub async fn confirm(&self, s: &Snapshot, plan: &Plan) -> Result<(), ApplyError> {
        let mut follows = plan.status.is_none() && plan.writes() > 0;
        if s.leaves() {
            // Users are given back to it.
            self.confirm_target(s).await?;
        }
        if plan.shrinks > 0 {
            // Capacity goes by the version of what it is taken from: a new revision has another one.
            follows &= plan.writes() > plan.shrinks;
            self.confirm_routes(s).await?;
        }
        if follows {
            let key = Key::new(Kind::Canary, s.namespace(), s.name());
            let seen = s.canary.metadata.resource_version.as_ref();
            self.is_still_at(&key, "confirm the status", seen).await?;
        }
        Ok(())
    }

    /// Makes sure that a workload is not ready, before the release ends for that: its watch may be
    /// late.
    ///
    /// # Errors
    /// When the workload changed since, or cannot be read; then the decision must not be persisted.
    pub async fn confirm_unready(&self, s: &Snapshot, key: &Key) -> Result<(), ApplyError> {
        let seen = s.objects.get(key).map(|seen| &seen.resource_version);
        self.is_still_at(key, "confirm that it is not ready", seen)
            .await
    }

    /// Makes sure that users find no pod of the canary, before that is counted against it: the watch
    /// of EndpointSlices may be late.
    ///
    /// # Errors
    /// When they find one, or its EndpointSlices cannot be read; then the decision must not be
    /// persisted.
    pub async fn confirm_unserved(&self, s: &Snapshot) -> Result<(), ApplyError> {
        let name = s.canary.spec.canary_service();
        let service = Key::new(Kind::Service, s.namespace(), name);
        let slices = self.api(&Key::new(Kind::EndpointSlice, s.namespace(), ""));
        let of_service = format!("{}={}", workload::SERVICE_NAME, service.name);
        let of_service = ListParams::default().labels(&of_service);
        let read = async { slices.list(&of_service).await };
        let found = self
            .write(
                "list endpoints of",
                &service,
                "confirm that there are none",
                read,
            )
            .await?;
        let object = |slice| object_of(Kind::EndpointSlice, slice).map(Arc::new);
        let found: Vec<_> = found.items.into_iter().filter_map(object).collect();
        if workload::ready_endpoints(&found, |_| true) > 0 {
            return Err(ApplyError::Changed { key: service });
        }
        Ok(())
    }

    /// Reads an object again, to go on only if it is at the version that was seen; gone where none was.
    async fn is_still_at(
        &self,
        key: &Key,
        reason: &'static str,
        seen: Option<&String>,
    ) -> Result<(), ApplyError> {
        self.is_still(key, reason, |found| {
            found.map(|found| found.resource_version.as_ref()) == seen.map(Some)
        })
        .await
    }

    /// Reads an object again, to go on only if it is what was looked at: `same` is given what there
    /// is, if there is anything.
    async fn is_still(
        &self,
        key: &Key,
        reason: &'static str,
        same: impl Fn(Option<&ObjectMeta>) -> bool,
    ) -> Result<(), ApplyError> {
        let api = self.api(key);
        let read = async { api.get(&key.name).await };
        let found = match self.write("read", key, reason, read).await {
            Ok(found) => Some(found),
            Err(error) if error.code() == Some(404) => None,
            Err(error) => return Err(error),
        };
        if same(found.as_ref().map(|found| &found.metadata)) {
            return Ok(());
        }
        // What is not seen at all is left to its watch: nobody would say again that it is gone.
        if let Some(found) = found
            && !same(None)
        {
            self.remember(key, found);
        }
        Err(ApplyError::Changed { key: key.clone() })
    }
}

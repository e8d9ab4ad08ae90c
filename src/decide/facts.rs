//! What a snapshot means: readiness, revisions and routes of one Canary.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;

use crate::{
    api::{Canary, Phase, Provider, REVISION, Strategy, status::CanaryStatus},
    object::{Key, Kind, Object, Want},
    observe::Snapshot,
    plan::HookPayload,
    route::{self, Capabilities, Router, Weights},
    workload::{self, Copies, Readiness, Services, Side},
};

use super::{steps, world::service_wants};

/// Something that keeps a Canary from being worked on, with what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Obstacle {
    /// One word, for conditions.
    pub reason: &'static str,
    /// One sentence.
    pub message: String,
}

/// What a snapshot means.
#[derive(Debug)]
pub(super) struct Facts {
    /// The target, which runs the canary.
    pub target: Arc<Object>,
    /// The primary workload.
    pub primary: Option<Arc<Object>>,
    /// Revision of the target.
    pub revision: String,
    /// Checksums of the target's ConfigMaps and Secrets, by `configmap/NAME` or `secret/NAME`.
    pub configs: BTreeMap<String, String>,
    /// The services as they should be.
    pub services: Result<Services<Want>, Obstacle>,
    /// Names of the configs' copies for the primary.
    pub copies: Copies,
    /// A ConfigMap or Secret that the target needs is missing.
    pub missing_config: Option<String>,
    /// Identifies revision and configs together.
    pub checksum: String,
    /// Route API.
    pub router: Router,
    /// What the route API can do.
    pub can: Capabilities,
    /// Whether users can be kept on one version by cookies.
    pub sticky: bool,
    /// How a release advances.
    pub strategy: Strategy,
    /// The spec was edited to something that the route API has no words for.
    pub unsayable: Option<String>,
    /// What the live route gives; `None` when there is no route.
    pub live: Option<Weights>,
    /// Whether the target is ready to take traffic.
    pub canary: Readiness,
    /// Ready endpoints of the target's present revision behind the canary service.
    pub canary_endpoints: usize,
    /// Ready endpoints behind the canary service, of whatever revision.
    pub canary_pods: usize,
    /// Whether the primary is ready to take traffic.
    pub primary_readiness: Readiness,
    /// Ready endpoints behind the primary service, of whatever revision.
    pub primary_endpoints: usize,
    /// Ready endpoints of the primary's present revision.
    pub primary_current_endpoints: usize,
}

impl Facts {
    /// Reads a snapshot.
    ///
    /// # Errors
    /// When the Canary cannot be worked on as it is.
    pub fn read(s: &Snapshot) -> Result<Self, Obstacle> {
        let spec = &s.canary.spec;
        let router = router(s)?;
        let kind = Kind::from(spec.target_ref.kind);
        let Some(target) = s.target() else {
            return Err(Obstacle {
                reason: "TargetNotFound",
                message: format!(
                    "{kind} {}.{} not found; create it or correct spec.targetRef",
                    spec.target_ref.name,
                    s.namespace()
                ),
            });
        };
        let primary = s.object(kind, &spec.primary_name()).cloned();
        if let Some(primary) = &primary {
            workload::adopts(&s.canary, primary).map_err(|error| Obstacle {
                reason: "NameConflict",
                message: error.to_string(),
            })?;
        }
        let can = router.capabilities(spec.service.as_ref());
        let (configs, missing_config) = configs(s, target);
        let copies = copies(s)?;
        let revision = primary
            .as_deref()
            .and_then(|primary| workload::shared_revision(&s.settings, target, primary, &copies))
            .unwrap_or_else(|| workload::revision(target));
        let (canary_service, primary_service) = (spec.canary_service(), spec.primary_service());
        let analysis = &spec.analysis;
        let readiness = |object: &Object, side: Side, threshold: Option<i32>| {
            workload::readiness(
                object,
                side,
                threshold.unwrap_or(100),
                started(s, side),
                spec.progress_deadline(),
                s.now,
            )
        };
        let canary = readiness(target, Side::Canary, analysis.canary_ready_threshold);
        let primary_readiness = primary.as_deref().map_or_else(
            || Readiness::NotReady {
                message: format!("{}.{} not found", spec.primary_name(), s.namespace()),
                expired: false,
                again: None,
            },
            |p| readiness(p, Side::Primary, analysis.primary_ready_threshold),
        );
        Ok(Self {
            checksum: HookPayload::checksum_of(&revision, &configs),
            revision,
            configs,
            services: service_wants(s, target),
            copies,
            missing_config,
            router,
            can,
            // Users whom the analysis chooses by condition are kept by it already.
            sticky: can.sticky && analysis.matches.as_ref().is_none_or(Vec::is_empty),
            strategy: steps::strategy(analysis, can),
            live: router.weights(&s.canary, &s.objects),
            unsayable: next_provider(s)
                .map(|next| moved(provider(s), next))
                .or_else(|| Some(router.check(&s.canary).err()?.to_string())),
            canary,
            canary_endpoints: endpoints(s, &canary_service, Some(target)),
            canary_pods: endpoints(s, &canary_service, None),
            primary_readiness,
            primary_endpoints: endpoints(s, &primary_service, None),
            primary_current_endpoints: endpoints(s, &primary_service, primary.as_ref()),
            target: Arc::clone(target),
            primary,
        })
    }

    /// Whether the primary carries a revision with its configs.
    fn primary_carries(
        &self,
        canary: &Canary,
        revision: &str,
        configs: &BTreeMap<String, String>,
    ) -> bool {
        let Some(primary) = &self.primary else {
            return false;
        };
        if primary.key.kind == Kind::Service {
            return primary.annotations.get(REVISION).map(String::as_str) == Some(revision);
        }
        let id = workload::release_id(canary, revision, configs);
        workload::carries(primary, revision, &id)
    }

    /// Whether the target is as the last release had it, whatever came of it.
    pub fn is_applied(&self, status: &CanaryStatus) -> bool {
        status.last_applied_spec.as_deref() == Some(&self.revision)
            && self.configs == status.tracked_configs.clone().unwrap_or_default()
    }

    /// Whether the target is as the primary is.
    pub fn is_promoted(&self, canary: &Canary, status: &CanaryStatus) -> bool {
        let marked = self
            .primary
            .as_ref()
            .is_some_and(|primary| primary.annotations.contains_key(REVISION));
        if marked {
            return self.primary_carries(canary, &self.revision, &self.configs);
        }
        // A primary that Flagger made carries no mark.
        status.last_promoted_spec.as_deref() == Some(&self.revision)
            && self.configs == status.tracked_configs.clone().unwrap_or_default()
    }

    /// Whether the primary carries what the status calls applied.
    pub fn primary_is_applied(&self, canary: &Canary, status: &CanaryStatus) -> bool {
        let configs = status.tracked_configs.clone().unwrap_or_default();
        status
            .last_applied_spec
            .as_deref()
            .is_some_and(|revision| self.primary_carries(canary, revision, &configs))
    }

    /// Whether the canary can take traffic: it is ready, with endpoints of its revision.
    pub fn canary_takes_traffic(&self) -> bool {
        self.canary == Readiness::Ready && self.canary_endpoints > 0
    }

    /// Whether the primary can take traffic: it is ready, with endpoints of its revision.
    pub fn primary_takes_traffic(&self) -> bool {
        self.primary_readiness == Readiness::Ready && self.primary_current_endpoints > 0
    }

    /// Why the canary cannot take traffic.
    pub fn canary_obstacle(&self, s: &Snapshot) -> String {
        match &self.canary {
            Readiness::NotReady { message, .. } => message.clone(),
            Readiness::Ready => format!(
                "service {}-canary.{} has no ready endpoints of the new revision",
                s.canary.spec.apex_name(),
                s.namespace()
            ),
        }
    }

    /// Why the primary cannot take traffic.
    pub fn primary_obstacle(&self, s: &Snapshot) -> String {
        match &self.primary_readiness {
            Readiness::NotReady { message, .. } => message.clone(),
            Readiness::Ready => format!(
                "service {}-primary.{} has no ready endpoints",
                s.canary.spec.apex_name(),
                s.namespace()
            ),
        }
    }
}

/// The route API of a Canary.
pub(super) fn router(s: &Snapshot) -> Result<Router, Obstacle> {
    let provider = provider(s);
    let router = route::router(provider).map_err(|error| Obstacle {
        reason: "UnsupportedProvider",
        message: error.to_string(),
    })?;
    for key in router.keys(&s.canary) {
        if s.missing_apis.contains(&key.kind) {
            return Err(Obstacle {
                reason: "RouteApiMissing",
                message: format!(
                    "the cluster has no {} API ({}); install it or set spec.provider",
                    key.kind,
                    key.kind.api_version()
                ),
            });
        }
    }
    Ok(router)
}

/// Why a release does not go on that began by another route API.
fn moved(from: Provider, to: Provider) -> String {
    format!(
        "spec.provider was changed from {} to {} while users may be on the canary; take it back, \
         or abort the release and the new one counts",
        from.as_str(),
        to.as_str()
    )
}

/// The route API by which a Canary goes.
pub(super) fn provider(s: &Snapshot) -> Provider {
    route::provider(&s.canary, s.settings.mesh_provider, &s.missing_apis)
}

/// The route API that a Canary names, else the operator's, where that is another one than it goes
/// by.
pub(super) fn next_provider(s: &Snapshot) -> Option<Provider> {
    let named = s.canary.spec.provider.unwrap_or(s.settings.mesh_provider);
    (named != provider(s)).then_some(named)
}

/// When a workload's time to become ready began: a canary's with its release, a primary's with
/// its creation or promotion. Once it has been ready its pods may come and go, and what counts is
/// how long it was unavailable.
fn started(s: &Snapshot, side: Side) -> Option<Timestamp> {
    let status = s.canary.status.as_ref()?;
    let starting = match (side, status.phase) {
        (Side::Canary, Phase::Progressing) => {
            status.step.unwrap_or_default() == 0 && status.canary_weight == 0
        }
        (Side::Primary, Phase::Initializing) => true,
        (Side::Primary, Phase::Promoting) => status.next_check_time.is_none(),
        _ => false,
    };
    status.started_time.filter(|_| starting)
}

/// Ready endpoints behind a service; with a workload only those of its present revision.
fn endpoints(s: &Snapshot, service: &str, workload: Option<&Arc<Object>>) -> usize {
    let slices = s.slices.get(service).map(Vec::as_slice).unwrap_or_default();
    let Some(workload) = workload else {
        return workload::ready_endpoints(slices, |_| true);
    };
    // Pods of a DaemonSet do not tell their revision by name: its status does, and readiness has
    // looked at that.
    if workload.key.kind != Kind::Deployment {
        return workload::ready_endpoints(slices, |_| true);
    }
    let sets = s
        .replica_sets
        .get(&workload.key.name)
        .map(Vec::as_slice)
        .unwrap_or_default();
    workload::current_replica_set(workload, sets).map_or(0, |set| {
        workload::ready_endpoints(slices, |pod| workload::is_pod_of(&set, pod))
    })
}

/// Checksums of the configs that the target refers to, and a needed one that is missing.
fn configs(s: &Snapshot, target: &Object) -> (BTreeMap<String, String>, Option<String>) {
    let mut found = BTreeMap::new();
    let mut missing = None;
    if !s.settings.config_tracking {
        return (found, missing);
    }
    for reference in workload::config_refs(target) {
        let key = Key::new(reference.kind, s.namespace(), reference.name.clone());
        match s.configs.get(&key) {
            Some(config) => {
                if let Some(checksum) = &config.checksum {
                    let key = workload::tracked_key(reference.kind, &reference.name);
                    found.insert(key, checksum.clone());
                }
            }
            None if !reference.optional => {
                missing.get_or_insert_with(|| {
                    format!(
                        "{} {}.{} not found; create it, or mark the reference in {} as optional",
                        reference.kind,
                        reference.name,
                        s.namespace(),
                        target.key.name
                    )
                });
            }
            None => {}
        }
    }
    (found, missing)
}

/// Where the copies of the tracked configs are.
fn copies(s: &Snapshot) -> Result<Copies, Obstacle> {
    let mut copies = Copies::new();
    for (key, config) in &s.configs {
        if config.checksum.is_none() {
            continue;
        }
        let name = workload::copy_name(&s.canary, key, |copy| {
            s.objects.get(copy).map(AsRef::as_ref)
        })
        .map_err(|error| Obstacle {
            reason: "NameConflict",
            message: error.to_string(),
        })?;
        copies.insert((key.kind, key.name.clone()), name);
    }
    Ok(copies)
}

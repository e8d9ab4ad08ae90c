//! What the cluster should look like under a status, and the writes that are missing.
//!
//! Everything here follows from the status, so it can be repeated after a crash. Orders that
//! always hold: capacity is ready before traffic arrives; traffic has left before capacity goes;
//! the first write of a rollback is the route.

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::{Phase, Strategy, status::CanaryStatus},
    object::{Kind, Object, Want},
    observe::Snapshot,
    plan::{Effect, Precondition},
    route::{Router, Traffic},
    workload::{self, Services, WorkloadError},
};

use super::{
    copies,
    draft::{Draft, after},
    facts::{Facts, Obstacle},
};

/// The traffic that a status asks for.
pub(super) fn wanted_traffic(s: &Snapshot, facts: &Facts, status: &CanaryStatus) -> Traffic {
    let running = matches!(
        status.phase,
        Phase::Progressing | Phase::WaitingPromotion | Phase::Promoting
    );
    let analysis = &s.canary.spec.analysis;
    let mirror = analysis.mirror.unwrap_or_default() && facts.can.mirror;
    let mirrored = running
        && status.phase != Phase::Promoting
        && mirror
        && status.canary_weight == 0
        && match facts.strategy {
            Strategy::Canary => status.step == Some(1),
            Strategy::BlueGreen => status.iterations > 0,
            Strategy::AbTesting => false,
        };
    Traffic {
        canary_weight: status.canary_weight,
        mirrored,
        ab: running && facts.strategy == Strategy::AbTesting && status.iterations > 0,
        cookie: status.session_affinity_cookie.clone(),
        primary_cookie: status.primary_session_affinity_cookie.clone(),
        previous_cookie: status.previous_session_affinity_cookie.clone(),
    }
}

/// The traffic that can be had now: a backend gets more only with ready endpoints. `None`: the
/// route stays as it is, whatever it is.
fn safe_traffic(s: &Snapshot, facts: &Facts, wanted: &Traffic) -> Option<Traffic> {
    let live = facts.live.map_or(0, |weights| weights.canary);
    let tests = s.canary.spec.analysis.matches.as_ref();
    let everybody = tests.is_none_or(Vec::is_empty);
    // An A/B test that was edited to weights: all of those who matched is nobody of the others.
    let shared = match facts.live {
        Some(weights) if weights.partial && everybody => 0,
        Some(_) | None => live,
    };
    let more = wanted.canary_weight > shared || (wanted.ab && live == 0);
    let less = wanted.canary_weight < live && !wanted.ab;
    if less && facts.primary_endpoints == 0 && facts.canary_pods > 0 {
        return None;
    }
    let mut traffic = wanted.clone();
    if more && facts.canary_endpoints == 0 {
        traffic.canary_weight = shared.min(traffic.canary_weight);
        traffic.ab = false;
    }
    Some(traffic)
}

/// Whether apex service and routes are as the status asks.
pub(super) fn in_place(s: &Snapshot, facts: &Facts, status: &CanaryStatus) -> bool {
    let wanted = wanted_traffic(s, facts, status);
    safe_traffic(s, facts, &wanted).as_ref() == Some(&wanted)
        && (facts.unsayable.is_none() || facts.live.is_some())
        && route_effects(s, facts.router, &wanted).is_empty()
        && apex_effect(s, facts).is_ok_and(|effect| effect.is_none())
}

/// Whether the primary carries what it had before its last promotion.
pub(super) fn can_restore(facts: &Facts) -> bool {
    facts
        .primary
        .as_ref()
        .is_some_and(|primary| workload::restoration(primary).is_some())
}

/// The writes that bring the cluster to what the status asks, in order. `in_place` is what
/// [`in_place`] says of that status.
///
/// # Errors
/// When something that is needed cannot be had; what was found so far is in `effects`.
pub(super) fn converge(
    s: &Snapshot,
    facts: &Facts,
    d: &mut Draft,
    in_place: bool,
    effects: &mut Vec<Effect>,
) -> Result<(), Obstacle> {
    let status = &d.status;
    let users_on_route = status.phase != Phase::New
        && (status.phase != Phase::Initializing || facts.primary_takes_traffic());
    let wanted = wanted_traffic(s, facts, status);
    let leaves = facts
        .live
        .is_some_and(|live| live.canary > wanted.canary_weight);
    let traffic = safe_traffic(s, facts, &wanted);
    if users_on_route
        && leaves
        && !in_place
        && let Some(traffic) = &traffic
    {
        effects.extend(route_effects(s, facts.router, traffic));
    }
    back_services(s, facts, &d.status, effects)?;
    create_primary(s, facts, &d.status, effects)?;
    promote_primary(s, facts, &d.status, effects)?;
    restore_primary(s, facts, &d.status, effects);
    copies::mend(s, facts, &d.status, effects);
    scale(s, facts, d, effects);
    if users_on_route && !in_place {
        // Somebody may have pointed the apex at the target: users stay there while they would
        // find no pods at the primary.
        if facts.primary_endpoints > 0 || facts.canary_pods == 0 {
            effects.extend(apex_effect(s, facts)?);
        }
        if !leaves && let Some(traffic) = &traffic {
            effects.extend(route_effects(s, facts.router, traffic));
        }
    }
    if let Some(message) = &facts.unsayable {
        d.obstacle = Some(Obstacle {
            reason: "RouteInvalid",
            message: message.clone(),
        });
    }
    scalers(s, facts, &d.status, effects)
}

fn obstacle(error: &WorkloadError) -> Obstacle {
    Obstacle {
        reason: error.reason(),
        message: error.to_string(),
    }
}

/// The write that brings one object to what is wanted.
fn write(s: &Snapshot, want: &Want, reason: &'static str) -> Option<Effect> {
    let Some(existing) = s.objects.get(&want.key) else {
        let want = want.clone();
        return Some(Effect::Create { want, reason });
    };
    if existing.deleted.is_some() {
        return None;
    }
    want.patch(existing)
        .map(|change| patch(existing, change, reason))
}

/// A patch that fails if the object was changed since it was looked at.
pub(super) fn patch(object: &Object, patch: Value, reason: &'static str) -> Effect {
    Effect::Patch {
        key: object.key.clone(),
        patch,
        precondition: Precondition {
            uid: object.uid.clone(),
            resource_version: Some(object.resource_version.clone()),
        },
        reason,
    }
}

/// A patch of this very object, at whatever version: for fields that nobody else decides on.
pub(super) fn patch_any(object: &Object, patch: Value, reason: &'static str) -> Effect {
    Effect::Patch {
        key: object.key.clone(),
        patch,
        precondition: Precondition {
            uid: object.uid.clone(),
            resource_version: None,
        },
        reason,
    }
}

/// The writes that bring the routes to some traffic. Where the spec describes no route, the live
/// one gets the weights: what users get never waits for somebody to correct a manifest.
fn route_effects(s: &Snapshot, router: Router, traffic: &Traffic) -> Vec<Effect> {
    router
        .want(&s.canary, traffic, &s.objects)
        .unwrap_or_else(|_| Vec::from_iter(router.reweigh(&s.canary, traffic, &s.objects)))
        .into_iter()
        .filter_map(|want| write(s, &want, "route as the status says"))
        .collect()
}

/// Takes users off the canary as far as the status says so, by the live route alone.
pub(super) fn leave_canary(
    s: &Snapshot,
    facts: &Facts,
    status: &CanaryStatus,
    effects: &mut Vec<Effect>,
) {
    let wanted = wanted_traffic(s, facts, status);
    let leaves = facts
        .live
        .is_some_and(|live| live.canary > wanted.canary_weight);
    if leaves && let Some(traffic) = safe_traffic(s, facts, &wanted) {
        let route = facts.router.reweigh(&s.canary, &traffic, &s.objects);
        effects.extend(route.and_then(|want| write(s, &want, "route as the status says")));
    }
}

/// The services of a target as they should be.
///
/// # Errors
/// When they cannot be made of it.
pub(super) fn service_wants(s: &Snapshot, target: &Object) -> Result<Services<Want>, Obstacle> {
    let spec = &s.canary.spec;
    let observed = |name: &str| s.object(Kind::Service, name).map(AsRef::as_ref);
    let observed = Services {
        canary: observed(&spec.canary_service()),
        primary: observed(&spec.primary_service()),
        apex: observed(spec.apex_name()),
    };
    if target.key.kind == Kind::Service {
        return Ok(workload::service_copies(&s.canary, target, observed));
    }
    workload::services(&s.canary, &s.settings, target, observed).map_err(|error| obstacle(&error))
}

fn apex_effect(s: &Snapshot, facts: &Facts) -> Result<Option<Effect>, Obstacle> {
    let services = facts.services.as_ref().map_err(Clone::clone)?;
    Ok(write(s, &services.apex, "serve users from the primary"))
}

fn back_services(
    s: &Snapshot,
    facts: &Facts,
    status: &CanaryStatus,
    effects: &mut Vec<Effect>,
) -> Result<(), Obstacle> {
    let services = facts.services.as_ref().map_err(Clone::clone)?;
    let mut wants = vec![&services.canary];
    // The primary of a Service target is a Service: written when created and when promoted.
    let is_primary_itself = facts.target.key.kind == Kind::Service;
    if !is_primary_itself || facts.primary.is_none() || must_promote(s, facts, status) {
        wants.push(&services.primary);
    }
    for want in wants {
        if let Some(existing) = s.objects.get(&want.key) {
            workload::adopts(&s.canary, existing).map_err(|error| obstacle(&error))?;
        }
        effects.extend(write(s, want, "give each backend a service"));
    }
    Ok(())
}

/// Whether the primary is to be given the analysed revision now.
///
/// INVARIANT: what is written is what the status calls applied, or nothing.
fn must_promote(s: &Snapshot, facts: &Facts, status: &CanaryStatus) -> bool {
    status.phase == Phase::Promoting
        && !facts.primary_is_applied(&s.canary, status)
        && facts.is_applied(status)
}

fn create_primary(
    s: &Snapshot,
    facts: &Facts,
    status: &CanaryStatus,
    effects: &mut Vec<Effect>,
) -> Result<(), Obstacle> {
    if facts.primary.is_some()
        || facts.missing_config.is_some()
        || facts.target.key.kind == Kind::Service
    {
        return Ok(());
    }
    // Only what was released before, or stands at the very beginning, may serve users. The revision
    // that the status calls promoted says nothing of configs: those are what was promoted only where
    // the last release came to its end.
    let is_promoted = status.last_promoted_spec.as_ref() == Some(&facts.revision)
        && (facts.configs.is_empty() || status.phase.is_promoted() && facts.is_applied(status));
    let proven = matches!(status.phase, Phase::New | Phase::Initializing) || is_promoted;
    if !proven {
        return Err(Obstacle {
            reason: "PrimaryMissing",
            message: format!(
                "{} {}.{} was deleted and the target runs another revision or config; set the \
                 target back to the promoted revision, or delete and create the Canary",
                facts.target.key.kind,
                s.canary.spec.primary_name(),
                s.namespace()
            ),
        });
    }
    copies::copy(s, facts, effects);
    let want = workload::primary(
        &s.canary,
        &s.settings,
        &facts.target,
        &facts.copies,
        &workload::release_id(&s.canary, &facts.revision, &facts.configs),
    )
    .map_err(|error| obstacle(&error))?;
    effects.extend(write(s, &want, "create the primary"));
    Ok(())
}

/// The primary gets what was analysed, configs first.
fn promote_primary(
    s: &Snapshot,
    facts: &Facts,
    status: &CanaryStatus,
    effects: &mut Vec<Effect>,
) -> Result<(), Obstacle> {
    let Some(primary) = &facts.primary else {
        return Ok(());
    };
    if !must_promote(s, facts, status) || primary.key.kind == Kind::Service {
        return Ok(());
    }
    copies::keep(s, facts, effects);
    copies::copy(s, facts, effects);
    let change = workload::promotion(
        &s.canary,
        &s.settings,
        &facts.target,
        primary,
        &facts.copies,
        &workload::release_id(&s.canary, &facts.revision, &facts.configs),
    )
    .map_err(|error| obstacle(&error))?;
    effects.extend(change.map(|change| patch(primary, change, "promote what was analysed")));
    Ok(())
}

/// After a promotion that failed the primary gets back what it had.
fn restore_primary(s: &Snapshot, facts: &Facts, status: &CanaryStatus, effects: &mut Vec<Effect>) {
    let Some(primary) = &facts.primary else {
        return;
    };
    if status.phase == Phase::Failed && facts.primary_is_applied(&s.canary, status) {
        let Some(change) = workload::restoration(primary) else {
            return;
        };
        copies::restore(s, primary, effects);
        effects.push(patch(primary, change, "restore the revision before"));
    }
}

/// The target's size: up while it is released, down when its traffic has left.
fn scale(s: &Snapshot, facts: &Facts, d: &mut Draft, effects: &mut Vec<Effect>) {
    let target = &facts.target;
    let status = &d.status;
    // A missing autoscaler is reported by `scalers`; the target's size does not wait for it.
    let scaler = scaler(s).ok().flatten();
    match status.phase {
        Phase::Progressing | Phase::WaitingPromotion | Phase::Promoting | Phase::Finalising => {
            effects.extend(
                scaler
                    .and_then(workload::resume_scaler)
                    .zip(scaler)
                    .map(|(change, scaler)| patch_any(scaler, change, "resume the autoscaler")),
            );
            effects.extend(
                workload::scale_up(target, facts.primary.as_deref(), scaler)
                    .map(|change| patch_any(target, change, "scale up the canary")),
            );
        }
        Phase::Initialized | Phase::Succeeded | Phase::Failed | Phase::Waiting => {
            if status.canary_weight > 0 || status.scaled_down.unwrap_or_default() {
                return;
            }
            let Some(change) = workload::scale_to_zero(target) else {
                return;
            };
            // INVARIANT: capacity goes only after traffic has left and proxies had time to see
            // it, and only while the primary serves.
            if !d.quiet || facts.primary_endpoints == 0 {
                return;
            }
            let free = after(quiet_since(s), s.settings.drain);
            if s.now < free {
                d.wake_at(free);
            } else {
                let before = effects.len();
                effects.extend(
                    scaler
                        .and_then(workload::pause_scaler)
                        .zip(scaler)
                        .map(|(change, scaler)| patch_any(scaler, change, "pause the autoscaler")),
                );
                effects.push(patch(target, change, "scale the canary to zero"));
                d.shrinks = effects.len() - before;
            }
        }
        Phase::New | Phase::Initializing | Phase::Terminating | Phase::Terminated => {}
    }
}

/// Since when traffic has left what is to lose its capacity: since a look found it so, and not
/// before the status was decided that says so. Whoever hears of a release only after it is over has
/// seen no traffic for long, and still proxies may send some.
pub(super) fn quiet_since(s: &Snapshot) -> Timestamp {
    let quiet = s.quiet_since.unwrap_or(s.now);
    let status = s.canary.status.as_ref();
    let decided = status.and_then(|status| status.last_transition_time);
    quiet.max(decided.map_or(quiet, |decided| decided.min(s.now)))
}

/// The autoscaler of the target.
fn scaler(s: &Snapshot) -> Result<Option<&Object>, Obstacle> {
    let Some(reference) = &s.canary.spec.autoscaler_ref else {
        return Ok(None);
    };
    let kind = Kind::from(reference.kind);
    if let Some(scaler) = s.object(kind, &reference.name) {
        return Ok(Some(scaler));
    }
    Err(Obstacle {
        reason: "AutoscalerNotFound",
        message: format!(
            "{kind} {}.{} not found; create it or remove spec.autoscalerRef",
            reference.name,
            s.namespace()
        ),
    })
}

/// The primary's autoscaler: made once, and brought up to date with each promotion.
fn scalers(
    s: &Snapshot,
    facts: &Facts,
    status: &CanaryStatus,
    effects: &mut Vec<Effect>,
) -> Result<(), Obstacle> {
    let Some(source) = scaler(s)? else {
        return Ok(());
    };
    let want = workload::primary_scaler(&s.canary, source).map_err(|error| obstacle(&error))?;
    match s.objects.get(&want.key) {
        None => effects.extend(write(s, &want, "scale the primary")),
        Some(existing) => {
            workload::adopts(&s.canary, existing).map_err(|error| obstacle(&error))?;
            if status.phase == Phase::Promoting && facts.primary_is_applied(&s.canary, status) {
                effects.extend(write(s, &want, "scale the primary as the target was"));
            }
        }
    }
    Ok(())
}

/// Notes in the status that the target was scaled to zero, so that it is done once a release:
/// whoever scales it up again afterwards is not fought.
pub(super) fn note_scaled_down(facts: &Facts, d: &mut Draft) {
    let settled = matches!(
        d.status.phase,
        Phase::Initialized | Phase::Succeeded | Phase::Failed | Phase::Waiting
    );
    if settled
        && d.status.canary_weight == 0
        && !d.status.scaled_down.unwrap_or_default()
        && workload::is_scaled_to_zero(&facts.target)
    {
        d.status.scaled_down = Some(true);
    }
}

/// Without a target nothing can be judged, but users still follow the status: a release that is
/// rolled back loses its traffic.
pub(super) fn without_target(s: &Snapshot, status: &CanaryStatus, effects: &mut Vec<Effect>) {
    let Ok(router) = super::facts::router(s) else {
        return;
    };
    let leaves = router
        .weights(&s.canary, &s.objects)
        .is_some_and(|live| live.canary > 0);
    if status.phase != Phase::Failed || status.canary_weight > 0 || !leaves {
        return;
    }
    let traffic = Traffic {
        canary_weight: 0,
        mirrored: false,
        ab: false,
        cookie: None,
        primary_cookie: None,
        previous_cookie: status.previous_session_affinity_cookie.clone(),
    };
    effects.extend(route_effects(s, router, &traffic));
}

//! The services in front of a Deployment or DaemonSet.

use std::collections::BTreeMap;

use kube::ResourceExt;
use serde_json::{Map, Value, json};

use super::{
    LAST_APPLIED, Selector, WorkloadError, adopts,
    owner::{is_ours, owner},
    ports,
    selector::selector,
    strings,
};
use crate::{
    api::{
        Canary, FLUX_DISABLED,
        service::{CustomMetadata, Service, UnmanagedMetadata},
    },
    object::{Key, Kind, Object, Want, merge_diff},
    settings::Settings,
};

/// Something for each of the three services of a Canary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Services<T> {
    /// Of `S-canary`, which selects the canary.
    pub canary: T,
    /// Of `S-primary`, which selects the primary.
    pub primary: T,
    /// Of the apex `S`, which users call. It selects the primary once that is ready.
    pub apex: T,
}

/// The services of a Canary whose target is a Deployment or DaemonSet.
///
/// Of existing services only ports and selector are changed; labels and annotations too where
/// this Canary is the controller, but for keys in `unmanagedMetadata`. An apex that was there
/// before is adopted in place.
///
/// # Errors
/// When the Canary has no `spec.service`, the target's selector has no selector label, or an
/// existing service belongs to somebody else (see [`adopts`]).
pub fn services(
    canary: &Canary,
    settings: &Settings,
    target: &Object,
    observed: Services<Option<&Object>>,
) -> Result<Services<Want>, WorkloadError> {
    let service = canary
        .spec
        .service
        .as_ref()
        .ok_or_else(|| WorkloadError::NoService {
            name: canary.name_any(),
            namespace: target.key.namespace.clone(),
            kind: canary.spec.target_ref.kind.as_str(),
        })?;
    for existing in [observed.canary, observed.primary].into_iter().flatten() {
        adopts(canary, existing)?;
    }
    if let Some(existing) = observed.apex
        && is_of_a_canary(existing)
    {
        adopts(canary, existing)?;
    }
    let apex = canary.spec.apex_name();
    let build = Build {
        canary,
        service,
        selector: selector(target, settings)?,
        namespace: &target.key.namespace,
        ports: ports::wanted(service, &target.body.value()),
    };
    let to_canary = build.selector.canary();
    let to_primary = build.selector.primary();
    Ok(Services {
        canary: build.service(
            format!("{apex}-canary"),
            &to_canary,
            service.canary.as_ref(),
            observed.canary,
        ),
        primary: build.service(
            format!("{apex}-primary"),
            &to_primary,
            service.primary.as_ref(),
            observed.primary,
        ),
        apex: build.service(
            apex.to_owned(),
            &to_primary,
            service.apex.as_ref(),
            observed.apex,
        ),
    })
}

struct Build<'a> {
    canary: &'a Canary,
    service: &'a Service,
    selector: Selector,
    namespace: &'a str,
    ports: Vec<Value>,
}

impl Build<'_> {
    fn service(
        &self,
        name: String,
        selector: &BTreeMap<String, String>,
        metadata: Option<&CustomMetadata>,
        observed: Option<&Object>,
    ) -> Want {
        let ours = observed.is_none_or(|existing| is_ours(self.canary, existing));
        let ports = observed.map_or_else(
            || self.ports.clone(),
            |existing| ports::reconciled(&self.ports, existing, ours),
        );
        let key = Key::new(Kind::Service, self.namespace, name);
        let mut want = Want::new(key, json!({"spec": {"ports": ports, "selector": selector}}));
        want.exact.push("/spec/selector");
        want.initial = json!({ "spec": self.initial() });
        want.owner = Some(owner(self.canary));
        if ours {
            want.labels = metadata.and_then(|m| m.labels.clone()).unwrap_or_default();
            want.labels
                .insert(self.selector.label.clone(), want.key.name.clone());
            want.annotations = metadata
                .and_then(|m| m.annotations.clone())
                .unwrap_or_default();
        }
        want.annotations
            .extend(FLUX_DISABLED.map(|(key, value)| (key.to_owned(), value.to_owned())));
        if observed.is_some()
            && let Some(UnmanagedMetadata {
                labels,
                annotations,
            }) = &self.service.unmanaged_metadata
        {
            for key in labels.iter().flatten() {
                want.labels.remove(key);
            }
            for key in annotations.iter().flatten() {
                want.annotations.remove(key);
            }
        }
        want
    }

    /// What is set at creation and never changed afterwards.
    fn initial(&self) -> Value {
        let mut spec = Map::new();
        spec.insert("type".to_owned(), json!("ClusterIP"));
        if self.service.headless == Some(true) {
            spec.insert("clusterIP".to_owned(), json!("None"));
        }
        if let Some(distribution) = self.service.traffic_distribution {
            spec.insert(
                "trafficDistribution".to_owned(),
                json!(distribution.as_str()),
            );
        }
        Value::Object(spec)
    }
}

fn is_of_a_canary(service: &Object) -> bool {
    service
        .controller()
        .is_some_and(|owner| owner.kind == Kind::Canary.to_string())
}

/// The merge patch that gives an adopted apex service back: its selector as last applied, else
/// the target's own, and without the annotations that hold Flux off.
///
/// `None` when there is nothing to give back, or when a Canary controls the service: then it
/// goes with the Canary.
pub fn revert_apex(selector: &Selector, apex: &Object) -> Option<Value> {
    if is_of_a_canary(apex) {
        return None;
    }
    let applied: Value = apex
        .annotations
        .get(LAST_APPLIED)
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let before = strings(applied.pointer("/spec/selector"));
    let wanted = if before.is_empty() {
        selector.canary()
    } else {
        before
    };
    let found = strings(apex.body.value().pointer("/spec/selector"));
    let mut patch = Map::new();
    if let Some(change) = merge_diff(&json!(found), &json!(wanted)) {
        patch.insert("spec".to_owned(), json!({ "selector": change }));
    }
    let their_own = strings(applied.pointer("/metadata/annotations"));
    let ours: Map<String, Value> = FLUX_DISABLED
        .iter()
        .filter(|(key, _)| apex.annotations.contains_key(*key) && !their_own.contains_key(*key))
        .map(|(key, _)| ((*key).to_owned(), Value::Null))
        .collect();
    if !ours.is_empty() {
        patch.insert("metadata".to_owned(), json!({ "annotations": ours }));
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

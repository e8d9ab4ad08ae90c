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
    object::{At, Key, Kind, Object, Want, map_of, merge_diff},
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
    let build = Build {
        canary,
        service,
        selector: selector(target, settings)?,
        namespace: &target.key.namespace,
        ports: ports::wanted(service, &target.body.read()),
    };
    let to_canary = build.selector.canary();
    let to_primary = build.selector.primary();
    Ok(Services {
        canary: build.service(
            canary.spec.canary_service(),
            &to_canary,
            service.canary.as_ref(),
            observed.canary,
        ),
        primary: build.service(
            canary.spec.primary_service(),
            &to_primary,
            service.primary.as_ref(),
            observed.primary,
        ),
        apex: build.service(
            canary.spec.apex_name().to_owned(),
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
        let spec = map_of([
            ("ports", Value::Array(ports)),
            ("selector", json!(selector)),
        ]);
        let mut want = Want::new(key, map_of([("spec", spec)]));
        want.exact.push("/spec/selector");
        want.initial = map_of([("spec", self.initial())]);
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
    let before = strings(applied.at("/spec/selector"));
    let wanted = if before.is_empty() {
        selector.canary()
    } else {
        before
    };
    let found = strings(apex.body.read().at("/spec/selector"));
    let mut patch = Map::new();
    if let Some(change) = merge_diff(&json!(found), &json!(wanted)) {
        patch.insert("spec".to_owned(), json!({ "selector": change }));
    }
    let their_own = strings(applied.at("/metadata/annotations"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::fixtures::{canary, created, deployment, live, object, patched};

    const SPEC: &str = "
service:
  port: 80
  targetPort: 9898
  portDiscovery: true
  trafficDistribution: PreferClose
  apex: {labels: {shown: 'yes'}, annotations: {note: apex}}
  unmanagedMetadata: {labels: [shown], annotations: [note]}
";

    fn wanted(spec: &str, observed: Services<Option<&Object>>) -> Services<Want> {
        services(&canary(spec), &Settings::default(), &deployment(), observed).unwrap()
    }

    /// A created service as the server returns it.
    fn served(want: &Want) -> Object {
        let mut value = want.manifest();
        value["spec"]["clusterIP"] = json!("10.0.0.1");
        value["spec"]["sessionAffinity"] = json!("None");
        value["spec"]["internalTrafficPolicy"] = json!("Cluster");
        value["status"] = json!({"loadBalancer": {}});
        live(Kind::Service, value)
    }

    #[test]
    fn services_select_primary_and_canary() {
        let services = wanted(SPEC, Services::default());
        for (want, name, app) in [
            (&services.canary, "podinfo-canary", "podinfo"),
            (&services.primary, "podinfo-primary", "podinfo-primary"),
            (&services.apex, "podinfo", "podinfo-primary"),
        ] {
            let manifest = want.manifest();
            assert_eq!(want.key.name, name);
            assert_eq!(manifest["spec"]["selector"]["app"], app);
            assert_eq!(manifest["metadata"]["labels"]["app"], name);
            assert_eq!(manifest["spec"]["type"], "ClusterIP");
            assert_eq!(manifest["spec"]["trafficDistribution"], "PreferClose");
            assert_eq!(
                manifest["metadata"]["ownerReferences"][0]["uid"],
                "uid-of-canary"
            );
            for (key, value) in FLUX_DISABLED {
                assert_eq!(manifest["metadata"]["annotations"][key], value);
            }
        }
        // Unmanaged keys are set once, at creation.
        assert_eq!(services.apex.labels["shown"], "yes");
        assert_eq!(services.apex.annotations["note"], "apex");
    }

    #[test]
    fn services_of_a_headless_canary_have_no_address() {
        let services = wanted("{service: {port: 80, headless: true}}", Services::default());
        assert_eq!(services.apex.manifest()["spec"]["clusterIP"], "None");
    }

    #[test]
    fn services_that_exist_are_not_written() {
        let first = wanted(SPEC, Services::default());
        let (c, p, a) = (
            served(&first.canary),
            served(&first.primary),
            served(&first.apex),
        );
        let again = wanted(
            SPEC,
            Services {
                canary: Some(&c),
                primary: Some(&p),
                apex: Some(&a),
            },
        );
        assert_eq!(again.canary.patch(&c), None);
        assert_eq!(again.primary.patch(&p), None);
        assert_eq!(again.apex.patch(&a), None);
    }

    #[test]
    fn services_leave_unmanaged_metadata_alone() {
        let first = wanted(SPEC, Services::default());
        let theirs = patched(
            &created(&first.apex),
            &json!({"metadata": {"labels": {"shown": "no", "app": "wrong"}}}),
        );
        let again = wanted(
            SPEC,
            Services {
                apex: Some(&theirs),
                ..Services::default()
            },
        );
        assert_eq!(
            again.apex.patch(&theirs),
            Some(json!({"metadata": {"labels": {"app": "podinfo"}}}))
        );
    }

    fn preexisting() -> Object {
        object(
            Kind::Service,
            r#"
metadata:
  name: podinfo
  labels: {theirs: x}
  annotations:
    kubectl.kubernetes.io/last-applied-configuration: '{"spec":{"selector":{"app":"podinfo","release":"r1"}}}'
spec:
  type: LoadBalancer
  clusterIP: 10.0.0.9
  selector: {app: podinfo, release: r1}
  ports:
  - {name: http, protocol: TCP, port: 80, targetPort: 9898, nodePort: 30080}
  - {name: admin, protocol: TCP, port: 8081, targetPort: 8081, nodePort: 30081}
"#,
        )
    }

    #[test]
    fn services_adopt_an_existing_apex_in_place() {
        let existing = preexisting();
        let want = wanted(
            "{service: {port: 80, targetPort: 9898}}",
            Services {
                apex: Some(&existing),
                ..Services::default()
            },
        )
        .apex;
        let patch = want.patch(&existing).unwrap();
        assert_eq!(
            patch,
            json!({
                "metadata": {"annotations": {
                    "helm.toolkit.fluxcd.io/driftDetection": "disabled",
                    "kustomize.toolkit.fluxcd.io/reconcile": "disabled",
                }},
                "spec": {"selector": {
                    "app": "podinfo-primary",
                    "app.kubernetes.io/instance": "blue",
                    "release": null,
                }},
            })
        );
        assert_eq!(want.patch(&patched(&existing, &patch)), None);
    }

    #[test]
    fn revert_apex_undoes_the_adoption() {
        let existing = preexisting();
        let want = wanted(
            "{service: {port: 80, targetPort: 9898}}",
            Services {
                apex: Some(&existing),
                ..Services::default()
            },
        )
        .apex;
        let adopted = patched(&existing, &want.patch(&existing).unwrap());
        let selector = selector(&deployment(), &Settings::default()).unwrap();
        let reverted = patched(&adopted, &revert_apex(&selector, &adopted).unwrap());
        assert_eq!(reverted.body, existing.body);
        assert_eq!(reverted.annotations, existing.annotations);
        assert_eq!(revert_apex(&selector, &reverted), None);
    }

    #[test]
    fn revert_apex_without_last_applied_selects_the_target() {
        let selector = selector(&deployment(), &Settings::default()).unwrap();
        let apex = object(
            Kind::Service,
            "{metadata: {name: podinfo}, spec: {selector: {app: podinfo-primary, app.kubernetes.io/instance: blue}}}",
        );
        assert_eq!(
            revert_apex(&selector, &apex),
            Some(json!({"spec": {"selector": {"app": "podinfo"}}}))
        );
        let ours = created(&wanted(SPEC, Services::default()).apex);
        assert_eq!(revert_apex(&selector, &ours), None);
    }

    #[test]
    fn services_under_names_of_others_are_refused() {
        let theirs = object(
            Kind::Service,
            "{metadata: {name: podinfo-canary}, spec: {}}",
        );
        let of_another = object(
            Kind::Service,
            "{metadata: {name: podinfo, ownerReferences: [{kind: Canary, name: b, uid: b, controller: true}]}}",
        );
        for observed in [
            Services {
                canary: Some(&theirs),
                ..Services::default()
            },
            Services {
                apex: Some(&of_another),
                ..Services::default()
            },
        ] {
            let error =
                services(&canary(SPEC), &Settings::default(), &deployment(), observed).unwrap_err();
            assert_eq!(error.reason(), "NameConflict");
        }
    }

    #[test]
    fn services_without_service_spec_say_so() {
        let error = services(
            &canary(""),
            &Settings::default(),
            &deployment(),
            Services::default(),
        )
        .unwrap_err();
        assert_eq!(error.reason(), "NoService");
    }
}

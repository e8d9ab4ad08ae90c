//! Whose an object is.

use kube::{Resource, ResourceExt};
use serde_json::Value;

use super::WorkloadError;
use crate::{
    api::{Canary, FLAGGER_ID, FLUX_DISABLED},
    object::{At, Kind, Object, Owner},
};

/// The Canary as the controller of what it creates.
pub fn owner(canary: &Canary) -> Owner {
    Owner {
        kind: Kind::Canary.to_string(),
        name: canary.name_any(),
        uid: canary.meta().uid.clone().unwrap_or_default(),
        controller: true,
    }
}

/// Whether an owner is this Canary: by identity, or by name when it was restored from a backup.
pub(super) fn is_canary(canary: &Canary, owner: &Owner) -> bool {
    is_same(&self::owner(canary), owner)
}

fn is_same(this: &Owner, owner: &Owner) -> bool {
    owner.kind == this.kind && (owner.uid == this.uid || owner.name == this.name)
}

/// Whether this Canary owns an object and no other Canary does.
pub fn is_only_of(this: &Owner, object: &Object) -> bool {
    let mut canaries = object
        .owners
        .iter()
        .filter(|owner| owner.kind == this.kind)
        .peekable();
    canaries.peek().is_some() && canaries.all(|owner| is_same(this, owner))
}

/// Whether an object is controlled by this Canary.
pub(super) fn is_ours(canary: &Canary, object: &Object) -> bool {
    object
        .controller()
        .is_some_and(|owner| is_canary(canary, owner))
}

/// Whether an existing object under a generated name (`…-primary`, `…-canary`) may be written.
///
/// It may when this Canary controls it; Flagger's owner references name the same Canary, so a
/// taken-over object passes. So does an object without a controller that shows what it was made
/// for: a Canary that is deleted without its dependents leaves those behind. The apex service is
/// adopted in place and may belong to anybody but another Canary.
///
/// # Errors
/// [`WorkloadError::NameConflict`] when it belongs to somebody else.
pub fn adopts(canary: &Canary, object: &Object) -> Result<(), WorkloadError> {
    let holder = match object.controller() {
        Some(controller) if is_canary(canary, controller) => return Ok(()),
        Some(controller) => format!("{} {}", controller.kind, controller.name),
        None if was_generated(canary, object) => return Ok(()),
        None => "nobody".to_owned(),
    };
    Err(WorkloadError::NameConflict {
        key: object.key.clone(),
        holder,
        canary: canary.name_any(),
    })
}

/// Whether an object shows that it was made for a Canary like this one.
fn was_generated(canary: &Canary, object: &Object) -> bool {
    let body = object.body.read();
    let kind = object.key.kind;
    if kind == Kind::Deployment || kind == Kind::DaemonSet {
        body.at("/spec/template/metadata/annotations")
            .is_some_and(|annotations| annotations.get(FLAGGER_ID).is_some())
    } else if kind == Kind::Service {
        FLUX_DISABLED
            .iter()
            .all(|(key, value)| object.annotations.get(*key).map(String::as_str) == Some(*value))
    } else if kind == Kind::HorizontalPodAutoscaler || kind == Kind::ScaledObject {
        body.at("/spec/scaleTargetRef/name").and_then(Value::as_str)
            == Some(&canary.spec.primary_name())
    } else {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::fixtures::{canary, deployment, object, yaml};

    fn owned(kind: Kind, name: &str, uid: &str) -> Object {
        let text = format!(
            "{{metadata: {{name: x, ownerReferences: [{{kind: Canary, name: {name}, uid: {uid}, controller: true}}]}}}}"
        );
        object(kind, &text)
    }

    #[test]
    fn adopts_what_this_canary_controls() {
        let canary = canary("");
        for existing in [
            owned(Kind::Service, "podinfo", "uid-of-canary"),
            owned(Kind::Secret, "podinfo", "uid-before-restore"),
        ] {
            assert_eq!(adopts(&canary, &existing), Ok(()));
        }
    }

    #[test]
    fn is_only_of_a_canary_what_no_other_owns_too() {
        let this = owner(&canary(""));
        let owned = |owners: &str| {
            let text = format!("{{metadata: {{name: x, ownerReferences: [{owners}]}}}}");
            object(Kind::ConfigMap, &text)
        };
        let ours = "{kind: Canary, name: podinfo, uid: uid-of-canary, controller: true}";
        let other = "{kind: Canary, name: another, uid: uid-2}";
        let restored = "{kind: Canary, name: podinfo, uid: uid-before-restore}";
        let chart = "{kind: HelmRelease, name: chart, uid: uid-3}";
        for (owners, expected) in [
            (ours.to_owned(), true),
            (restored.to_owned(), true),
            (format!("{chart}, {ours}"), true),
            (String::new(), false),
            (chart.to_owned(), false),
            (other.to_owned(), false),
            (format!("{ours}, {other}"), false),
        ] {
            assert_eq!(is_only_of(&this, &owned(&owners)), expected, "{owners}");
        }
    }

    #[test]
    fn adopts_refuses_objects_of_others() {
        let canary = canary("");
        for kind in [
            Kind::Deployment,
            Kind::DaemonSet,
            Kind::Service,
            Kind::HorizontalPodAutoscaler,
            Kind::ScaledObject,
            Kind::ConfigMap,
            Kind::Secret,
        ] {
            let error = adopts(&canary, &owned(kind, "another", "uid-2")).unwrap_err();
            assert!(
                error.to_string().contains("belongs to Canary another"),
                "{error}"
            );
            let unowned = object(kind, "{metadata: {name: x}, spec: {}}");
            assert!(adopts(&canary, &unowned).is_err(), "{kind}");
        }
        assert!(adopts(&canary, &deployment()).is_err());
    }

    #[test]
    fn adopts_what_an_orphaning_deletion_left_behind() {
        let canary = canary("");
        for (kind, text) in [
            (
                Kind::Deployment,
                "{metadata: {name: x}, spec: {template: {metadata: {annotations: {flagger-id: a}}}}}",
            ),
            (
                Kind::Service,
                "{metadata: {name: x, annotations: {kustomize.toolkit.fluxcd.io/reconcile: disabled,
                  helm.toolkit.fluxcd.io/driftDetection: disabled}}}",
            ),
            (
                Kind::HorizontalPodAutoscaler,
                "{metadata: {name: x}, spec: {scaleTargetRef: {name: podinfo-primary}}}",
            ),
        ] {
            let existing = Object::read(kind, {
                let mut value = yaml(text);
                value["metadata"]["uid"] = "u".into();
                value["metadata"]["resourceVersion"] = "1".into();
                value
            });
            assert_eq!(adopts(&canary, &existing.unwrap()), Ok(()), "{kind}");
        }
    }
}

//! Whose an object is.

use kube::{Resource, ResourceExt};

use super::WorkloadError;
use crate::{
    api::{Canary, FLAGGER_ID},
    object::{Kind, Object, Owner},
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
    let this = self::owner(canary);
    owner.kind == this.kind && (owner.uid == this.uid || owner.name == this.name)
}

/// Whether an object is controlled by this Canary.
pub(super) fn is_ours(canary: &Canary, object: &Object) -> bool {
    object
        .controller()
        .is_some_and(|owner| is_canary(canary, owner))
}

/// Whether an existing object under a generated name (`…-primary`, `…-canary`) may be written.
///
/// It may when this Canary controls it. Flagger's owner references name the same Canary, so a
/// taken-over object passes. So does a primary that lost its owner when a Canary was deleted
/// without its dependents: its pods carry `flagger-id`. The apex service is exempt from this
/// check, as it is adopted in place.
///
/// # Errors
/// [`WorkloadError::NameConflict`] when it belongs to somebody else.
pub fn adopts(canary: &Canary, object: &Object) -> Result<(), WorkloadError> {
    let holder = match object.controller() {
        Some(controller) if is_canary(canary, controller) => return Ok(()),
        Some(controller) => format!("{} {}", controller.kind, controller.name),
        None if has_flagger_id(object) => return Ok(()),
        None => "nobody".to_owned(),
    };
    Err(WorkloadError::NameConflict {
        key: object.key.clone(),
        holder,
        canary: canary.name_any(),
    })
}

fn has_flagger_id(object: &Object) -> bool {
    object
        .body
        .value()
        .pointer("/spec/template/metadata/annotations")
        .is_some_and(|annotations| annotations.get(FLAGGER_ID).is_some())
}

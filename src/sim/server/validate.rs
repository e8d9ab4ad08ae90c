//! Checking an object against its schema.

use serde_json::Value;

use super::error::{Cause, causes_of};
use super::resource::Resource;
use crate::schema::{Schema, metadata};

/// The faults of the metadata of a new or changed object.
pub fn metadata_faults(object: &Value, resource: &Resource) -> Vec<Cause> {
    let found = metadata::violations(object, resource.conduct.name, resource.custom);
    found.into_iter().flat_map(causes_of).collect()
}

/// The faults of a custom resource. With the stored object, what has not changed is not checked again.
pub fn faults(schema: &Schema, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let misfits = schema.misfits(new, old).into_iter();
    let mut causes: Vec<Cause> = misfits.flat_map(causes_of).collect();
    if !schema.ruled {
        return causes;
    }
    let blocked = causes.iter().any(|cause| {
        matches!(
            cause.reason,
            "FieldValueNotSupported"
                | "FieldValueRequired"
                | "FieldValueTooLong"
                | "FieldValueTooMany"
                | "FieldValueTypeInvalid"
        )
    });
    if blocked {
        let text = "some validation rules were not checked because the object was invalid; \
                    correct the existing errors to complete validation";
        causes.push(Cause::invalid("<nil>", text));
    } else {
        let broken = schema.broken_rules(new, old).into_iter();
        causes.extend(broken.flat_map(causes_of));
    }
    causes
}

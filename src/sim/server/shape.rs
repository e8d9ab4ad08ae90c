//! The form that an object has in the store: unknown fields out, defaults in.

use serde_json::Value;

use super::error::Refusal;
use super::request::Target;
use super::state::WriteOptions;
use super::store::Object;
use super::{crd, defaults};
use crate::schema::{Schema, decode_builtin};

/// Brings an object into the form of its schema: decoded, pruned, defaulted. What is stored has it.
pub fn shape(
    target: &Target,
    old: Option<&Object>,
    new: &mut Value,
    options: &WriteOptions,
) -> Result<(), Refusal> {
    let schema = target.served()?.schema.clone();
    let resource = &target.resource;
    let stored = resource.stored();
    let old = old
        .filter(|old| !old.outdated() && stored.is_some_and(|stored| stored.name == target.version))
        .map(Object::value);
    if resource.custom {
        return shape_custom(target, &schema, old, new, options);
    }
    if crd::is_definition(resource) {
        crd::default_names(new);
        return Ok(());
    }
    let (kind, version) = (new["kind"].take(), new["apiVersion"].take());
    let unknown = decode_builtin(&schema, new, old).map_err(|error| {
        Refusal::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: {error}",
            resource.kind, target.version, resource.kind
        ))
    })?;
    if options.strict && !unknown.is_empty() {
        return Err(Refusal::bad_request(format!(
            "{} in version \"{}\" cannot be handled as a {}: strict decoding error: unknown field {unknown:?}",
            resource.kind, target.version, resource.kind
        )));
    }
    new["kind"] = kind;
    new["apiVersion"] = version;
    defaults::fill_in(&resource.plural, new);
    if let Some(map) = new.as_object_mut() {
        // looking for the spec of a kind that has none leaves a null
        map.retain(|key, value| key != "spec" || !value.is_null());
    }
    Ok(())
}

/// Brings a custom resource into the form of its schema.
fn shape_custom(
    target: &Target,
    schema: &Schema,
    old: Option<&Value>,
    new: &mut Value,
    options: &WriteOptions,
) -> Result<(), Refusal> {
    let resource = &target.resource;
    let refuse = |error: String| {
        let version = resource.api_version(&target.version);
        Refusal::bad_request(format!(
            "{} in version \"{version}\" cannot be handled: {error}",
            resource.kind
        ))
    };
    let unknown = schema
        .settle(new, old)
        .map_err(|fault| refuse(fault.to_string()))?;
    if options.strict && !unknown.is_empty() {
        return Err(refuse(format!(
            "strict decoding error: unknown field {unknown:?}"
        )));
    }
    Ok(())
}

//! Taking over from Flagger: is the primary what the target is?

use serde_json::Value;

use super::{
    Copies, TOOLKIT, affinity, config_refs,
    configs::copy_names,
    rename_configs, revision,
    selector::{Selector, selector},
};
use crate::{
    api::FLAGGER_ID,
    object::{Kind, Object},
    settings::Settings,
};

/// Whether target and primary have the same pod template, but for what making a primary changes:
/// labels, `flagger-id`, names of configs, spreading, and annotations of Flux.
///
/// Asked when the status records a [foreign](super::is_foreign) revision: if they agree, the
/// target's revision is the one that the primary runs, and no release is due.
pub fn agrees(settings: &Settings, target: &Object, primary: &Object) -> bool {
    if target.key.kind == Kind::Service {
        return agree_as_services(target, primary);
    }
    let Ok(selector) = selector(target, settings) else {
        return false;
    };
    let name = &target.key.name;
    let originals: Copies = config_refs(target)
        .into_iter()
        .flat_map(|config| {
            copy_names(&config.name, name).map(|copy| ((config.kind, copy), config.name.clone()))
        })
        .collect();
    let plain = |object: &Object| {
        let mut template = object
            .body
            .value()
            .pointer_mut("/spec/template")
            .map(Value::take)
            .map(revision::template)?;
        undo_metadata(&mut template, &selector);
        if let Some(pod) = template.get_mut("spec") {
            rename_configs(pod, &originals);
            affinity::undo(pod, name, &selector, settings);
        }
        Some(template)
    };
    // The target is undone too: it may itself use a config whose name ends like a copy's.
    matches!((plain(target), plain(primary)), (Some(one), Some(other)) if one == other)
}

fn undo_metadata(template: &mut Value, selector: &Selector) {
    let Some(Value::Object(metadata)) = template.get_mut("metadata") else {
        return;
    };
    for field in ["labels", "annotations"] {
        let Some(Value::Object(entries)) = metadata.get_mut(field) else {
            continue;
        };
        entries.retain(|key, _| !key.contains(TOOLKIT) && key != FLAGGER_ID);
        if let Some(value) = entries.get_mut(&selector.label)
            && value.as_str() == Some(selector.primary_value().as_str())
        {
            *value = Value::String(selector.value.clone());
        }
        if entries.is_empty() {
            metadata.remove(field);
        }
    }
}

/// Whether two services send the same ports to the same pods.
fn agree_as_services(target: &Object, primary: &Object) -> bool {
    let essence = |object: &Object| {
        let body = object.body.value();
        let ports: Vec<Value> = super::elements(body.pointer("/spec/ports"))
            .map(|port| {
                let mut port = port.clone();
                if let Value::Object(fields) = &mut port {
                    fields.remove("nodePort");
                }
                port
            })
            .collect();
        (ports, body.pointer("/spec/selector").cloned())
    };
    essence(target) == essence(primary)
}

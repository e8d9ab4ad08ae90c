//! `CustomResourceDefinition`s: from the object to a served resource.

use std::sync::Arc;

use serde_json::{Value, json};

use super::defect::Defect;
use super::error::{Cause, Refusal};
use super::meta::list;
use super::resource::{Conduct, Resource, ScalePaths, Version};
use super::state::State;
use super::store::{Action, Object};
use crate::schema::{Fault, Schema, metadata::NameRule};

/// True for the resource that holds the definitions.
pub fn is_definition(resource: &Resource) -> bool {
    resource.plural == "customresourcedefinitions" && resource.group == "apiextensions.k8s.io"
}

/// Fills in the names that a definition may leave out.
pub fn default_names(definition: &mut Value) {
    let Some(kind) = definition["spec"]["names"]["kind"]
        .as_str()
        .map(str::to_owned)
    else {
        return;
    };
    let names = &mut definition["spec"]["names"];
    if names["singular"].is_null() {
        names["singular"] = json!(kind.to_lowercase());
    }
    if names["listKind"].is_null() {
        names["listKind"] = json!(format!("{kind}List"));
    }
    if definition["spec"]["conversion"].is_null() {
        definition["spec"]["conversion"] = json!({"strategy": "None"});
    }
}

/// Reads a definition.
///
/// # Errors
/// 422 with the field that is missing, or the rule that this server cannot evaluate.
pub fn parse(definition: &Value) -> Result<Resource, Refusal> {
    let name = definition["metadata"]["name"].as_str().unwrap_or_default();
    let refuse = |causes| {
        Refusal::invalid(
            "apiextensions.k8s.io",
            "CustomResourceDefinition",
            name,
            causes,
        )
    };
    let spec = &definition["spec"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut causes = Vec::new();
    for (field, value) in [
        ("spec.group", &spec["group"]),
        ("spec.scope", &spec["scope"]),
        ("spec.names.plural", &spec["names"]["plural"]),
        ("spec.names.kind", &spec["names"]["kind"]),
    ] {
        if text(value).is_empty() {
            causes.push(Cause::required(field, "Required value"));
        }
    }
    let (group, plural) = (text(&spec["group"]), text(&spec["names"]["plural"]));
    if causes.is_empty() && name != format!("{plural}.{group}") {
        let wanted =
            format!("Invalid value: \"{name}\": must be spec.names.plural+\".\"+spec.group");
        causes.push(Cause::invalid("metadata.name", wanted));
    }
    let mut versions = Vec::new();
    for (index, version) in list(&spec["versions"]).iter().enumerate() {
        match parse_version(version) {
            Ok(version) => versions.push(version),
            Err(error) => causes.push(Cause::invalid(
                format!("spec.versions[{index}].schema.openAPIV3Schema"),
                format!("Invalid value: {error}"),
            )),
        }
    }
    let storage = list(&spec["versions"])
        .iter()
        .position(|version| version["storage"] == true);
    if storage.is_none() {
        let wanted = "Invalid value: must have exactly one version marked as storage version";
        causes.push(Cause::invalid("spec.versions", wanted));
    }
    if !causes.is_empty() {
        return Err(refuse(causes));
    }
    let kind = text(&spec["names"]["kind"]);
    let singular = text(&spec["names"]["singular"]);
    Ok(Resource {
        index: 0,
        singular: if singular.is_empty() {
            kind.to_lowercase()
        } else {
            singular
        },
        short_names: list(&spec["names"]["shortNames"])
            .iter()
            .map(text)
            .collect(),
        namespaced: spec["scope"] == "Namespaced",
        group,
        plural,
        kind,
        versions,
        storage: storage.unwrap_or_default(),
        custom: true,
        edition: format!(
            "{}/{}",
            definition["metadata"]["uid"], definition["metadata"]["generation"]
        ),
        conduct: Conduct {
            generation: true,
            unconditional_update: false,
            create_on_update: false,
            returns_deleted: false,
            name: NameRule::Subdomain,
        },
    })
}

fn parse_version(version: &Value) -> Result<Version, Fault> {
    let schema = match version["schema"].get("openAPIV3Schema") {
        Some(schema) => Arc::new(Schema::read(schema)?),
        None => Schema::any(),
    };
    let subresources = &version["subresources"];
    let path = |value: &Value| {
        let path = value.as_str().unwrap_or_default();
        path.trim_start_matches('.').to_owned()
    };
    let scale = subresources["scale"].is_object().then(|| ScalePaths {
        spec: path(&subresources["scale"]["specReplicasPath"]),
        status: path(&subresources["scale"]["statusReplicasPath"]),
        selector: subresources["scale"].get("labelSelectorPath").map(path),
    });
    Ok(Version {
        name: version["name"].as_str().unwrap_or_default().to_owned(),
        served: version["served"] == true,
        schema,
        status: subresources["status"].is_object(),
        scale,
        selectable: list(&version["selectableFields"])
            .iter()
            .map(|field| path(&field["jsonPath"]))
            .collect(),
    })
}

impl State {
    /// Follows a change of a definition: serves it, and says so in its status, or takes it out of service
    /// with all its objects. Returns the definition as it is then.
    pub fn follow_definition(&mut self, object: Arc<Object>, gone: bool) -> Arc<Object> {
        let Ok(resource) = parse(object.value()) else {
            return object;
        };
        if gone {
            let objects: Vec<Arc<Object>> = self
                .registry
                .find(&resource.group, &resource.plural)
                .map(|known| self.store.objects(known.index).values().cloned().collect())
                .unwrap_or_default();
            if let Some(known) = self.registry.find(&resource.group, &resource.plural) {
                for object in objects {
                    self.store
                        .commit(&known, Action::Deleted, object.value().clone());
                }
            }
            self.registry.remove(&resource.group, &resource.plural);
            return object;
        }
        let before = self.registry.find(&resource.group, &resource.plural);
        let resource = self.registry.add(resource);
        let changed = before.is_none_or(|before| before.edition != resource.edition);
        if changed && !self.has(Defect::DefinitionUnread) {
            self.store.renew(resource.index, |object| {
                if let Some(version) = resource.stored() {
                    // Metadata that no object can have does not come here.
                    let _ = version.schema.settle(object, None);
                }
            });
        }
        let mut new = object.value().clone();
        let stored = resource.stored().map(|version| version.name.clone());
        let condition = |ty: &str, reason: &str, message: &str| {
            json!({
                "type": ty, "status": "True", "reason": reason, "message": message,
                "lastTransitionTime": self.now(),
            })
        };
        if new["status"]["conditions"].is_null() {
            new["status"] = json!({
                "acceptedNames": new["spec"]["names"],
                "conditions": [
                    condition("NamesAccepted", "NoConflicts", "no conflicts found"),
                    condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
                ],
                "storedVersions": [stored],
            });
        }
        if new == *object.value() {
            return object;
        }
        let Some(definitions) = self
            .registry
            .find("apiextensions.k8s.io", "customresourcedefinitions")
        else {
            return object;
        };
        self.store.commit(&definitions, Action::Modified, new)
    }
}

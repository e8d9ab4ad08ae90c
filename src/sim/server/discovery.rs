//! Documents about the API itself.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::error::Refusal;
use super::resource::{Registry, Resource, Version};

/// The document at a path.
///
/// # Errors
/// 404 for a path that leads nowhere.
pub fn discover(path: &[&str], registry: &Registry) -> Result<Value, Refusal> {
    match path {
        ["version"] => Ok(json!({
            "major": "1", "minor": "34", "gitVersion": "v1.34.0", "gitCommit": "", "gitTreeState": "clean",
            "buildDate": "2025-08-27T00:00:00Z", "goVersion": "", "compiler": "gc", "platform": "embedded",
        })),
        ["healthz" | "livez" | "readyz", ..] => Ok(json!("ok")),
        ["api"] => Ok(json!({
            "kind": "APIVersions", "versions": ["v1"],
            "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "embedded"}],
        })),
        ["apis"] => {
            let groups = group_versions(registry);
            let groups: Vec<Value> = groups
                .iter()
                .map(|(name, versions)| group(name, versions))
                .collect();
            Ok(json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}))
        }
        ["apis", name] => {
            let groups = group_versions(registry);
            let versions = groups.get(name).ok_or_else(Refusal::no_such_path)?;
            let mut document = group(name, versions);
            document["kind"] = json!("APIGroup");
            document["apiVersion"] = json!("v1");
            Ok(document)
        }
        ["api", version] => resources(registry, "", version),
        ["apis", group, version] => resources(registry, group, version),
        _ => Err(Refusal::no_such_path()),
    }
}

fn served(resource: &Resource) -> impl Iterator<Item = &Version> {
    resource.versions.iter().filter(|version| version.served)
}

fn group_versions(registry: &Registry) -> BTreeMap<&str, Vec<&str>> {
    let mut groups: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for resource in registry
        .all()
        .iter()
        .filter(|resource| !resource.group.is_empty())
    {
        for version in served(resource) {
            let versions = groups.entry(&resource.group).or_default();
            if !versions.contains(&version.name.as_str()) {
                versions.push(&version.name);
            }
        }
    }
    groups
}

fn group(name: &str, versions: &[&str]) -> Value {
    let entry =
        |version: &&str| json!({"groupVersion": format!("{name}/{version}"), "version": version});
    let all: Vec<Value> = versions.iter().map(entry).collect();
    json!({"name": name, "versions": all, "preferredVersion": versions.first().map(entry)})
}

fn resources(registry: &Registry, group: &str, version: &str) -> Result<Value, Refusal> {
    let mut entries = Vec::new();
    for resource in registry
        .all()
        .iter()
        .filter(|resource| resource.group == group)
    {
        let Some(spoken) = resource.version(version) else {
            continue;
        };
        let mut entry = json!({
            "name": resource.plural, "singularName": resource.singular, "namespaced": resource.namespaced,
            "kind": resource.kind, "storageVersionHash": "",
            "verbs": ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"],
        });
        if !resource.short_names.is_empty() {
            entry["shortNames"] = json!(resource.short_names);
        }
        entries.push(entry);
        let mut part = |name: &str, kind: &str, api: Option<(&str, &str)>| {
            let mut entry = json!({
                "name": format!("{}/{name}", resource.plural), "singularName": "", "namespaced": resource.namespaced,
                "kind": kind, "verbs": ["get", "patch", "update"],
            });
            if let Some((group, version)) = api {
                entry["group"] = json!(group);
                entry["version"] = json!(version);
            }
            entries.push(entry);
        };
        if spoken.status {
            part("status", &resource.kind, None);
        }
        if spoken.scale.is_some() {
            part("scale", "Scale", Some(("autoscaling", "v1")));
        }
    }
    if entries.is_empty() {
        return Err(Refusal::no_such_path());
    }
    let name = if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    };
    Ok(
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": entries}),
    )
}

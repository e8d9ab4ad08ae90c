//! The rules of built-in kinds: fields that must be there, values that must fit, fields that never change.

use serde_json::Value;

use super::error::Cause;
use super::meta::list;
use crate::schema::names::is_label_value;

/// The faults of a new or changed built-in object.
pub fn faults(plural: &str, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    let spec = &new["spec"];
    match plural {
        "deployments" | "replicasets" | "daemonsets" | "statefulsets" => {
            workload(plural, new, old, &mut causes);
        }
        "services" => service(new, old, &mut causes),
        "configmaps" | "secrets" => contents(plural, new, old, &mut causes),
        "horizontalpodautoscalers" => autoscaler(spec, &mut causes),
        "ingresses" => ingress(spec, &mut causes),
        "endpointslices" => slice(new, old, &mut causes),
        "pods" => {
            pod(spec, "spec", &mut causes);
            if old.is_some_and(|old| lasting(&old["spec"]) != lasting(spec)) {
                let text = "Forbidden: pod updates may not change fields other than a few";
                causes.push(Cause::forbidden("spec", text));
            }
        }
        "leases" => {
            for field in ["leaseDurationSeconds", "leaseTransitions"] {
                let least = i64::from(field == "leaseDurationSeconds");
                if spec[field].as_i64().is_some_and(|count| count < least) {
                    causes.push(Cause::invalid(
                        format!("spec.{field}"),
                        "Invalid value: must be positive",
                    ));
                }
            }
        }
        "events" if new["apiVersion"] == "v1" => {
            let (own, about) = (
                &new["metadata"]["namespace"],
                &new["involvedObject"]["namespace"],
            );
            let empty = about.as_str().unwrap_or_default().is_empty();
            if (!empty || *own != "default") && own != about {
                let text = format!("Invalid value: {about}: does not match event.namespace");
                causes.push(Cause::invalid("involvedObject.namespace", text));
            }
        }
        _ => {}
    }
    causes
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn not_negative(spec: &Value, field: &str, causes: &mut Vec<Cause>) {
    if let Some(count) = spec[field].as_i64().filter(|count| *count < 0) {
        let text = format!("Invalid value: {count}: must be greater than or equal to 0");
        causes.push(Cause::invalid(format!("spec.{field}"), text));
    }
}

fn workload(plural: &str, new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &new["spec"];
    not_negative(spec, "replicas", causes);
    not_negative(spec, "minReadySeconds", causes);
    not_negative(spec, "revisionHistoryLimit", causes);
    let selector = &spec["selector"];
    let terms = |field: &str| {
        selector[field]
            .as_object()
            .map_or_else(|| list(&selector[field]).len(), serde_json::Map::len)
    };
    if selector.is_null() {
        causes.push(Cause::required("spec.selector", "Required value"));
    } else if terms("matchLabels") + terms("matchExpressions") == 0 {
        let text = "Invalid value: {}: empty selector is invalid for this kind";
        causes.push(Cause::invalid("spec.selector", text));
    }
    for (key, value) in selector["matchLabels"].as_object().into_iter().flatten() {
        if !value.as_str().is_some_and(is_label_value) {
            let text = format!("Invalid value: {value}: not a valid label value");
            causes.push(Cause::invalid(
                "spec.selector.matchLabels",
                format!("{key}: {text}"),
            ));
        }
    }
    let labels = &spec["template"]["metadata"]["labels"];
    let matched = selector["matchLabels"].as_object().is_none_or(|wanted| {
        wanted
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    });
    if !matched || selector.is_null() {
        let text = "Invalid value: `selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", text));
    }
    pod(&spec["template"]["spec"], "spec.template.spec", causes);
    let policy = text(&spec["template"]["spec"]["restartPolicy"]);
    if !matches!(policy, "Always" | "") {
        let text = format!("Unsupported value: \"{policy}\": supported values: \"Always\"");
        causes.push(Cause::new(
            "FieldValueNotSupported",
            "spec.template.spec.restartPolicy",
            text,
        ));
    }
    let ready = spec["minReadySeconds"].as_i64().unwrap_or_default();
    if spec["progressDeadlineSeconds"]
        .as_i64()
        .is_some_and(|deadline| deadline <= ready)
    {
        let text = "Invalid value: must be greater than minReadySeconds";
        causes.push(Cause::invalid("spec.progressDeadlineSeconds", text));
    }
    let strategy = &spec["strategy"];
    if plural == "deployments"
        && strategy["type"] == "Recreate"
        && !strategy["rollingUpdate"].is_null()
    {
        let text = "Forbidden: may not be specified when strategy `type` is 'Recreate'";
        causes.push(Cause::forbidden("spec.strategy.rollingUpdate", text));
    }
    if old.is_some_and(|old| old["spec"]["selector"] != *selector) && plural != "statefulsets" {
        causes.push(Cause::invalid(
            "spec.selector",
            "Invalid value: field is immutable",
        ));
    }
}

fn pod(spec: &Value, at: &str, causes: &mut Vec<Cause>) {
    let containers = list(&spec["containers"]);
    if containers.is_empty() {
        causes.push(Cause::required(
            format!("{at}.containers"),
            "Required value",
        ));
    }
    for (index, container) in containers.iter().enumerate() {
        let place = |field: &str| format!("{at}.containers[{index}].{field}");
        if text(&container["name"]).is_empty() {
            causes.push(Cause::required(place("name"), "Required value"));
        }
        if containers
            .iter()
            .take(index)
            .any(|other| other["name"] == container["name"])
        {
            let text = format!("Duplicate value: {}", container["name"]);
            causes.push(Cause::new("FieldValueDuplicate", place("name"), text));
        }
        if text(&container["image"]).is_empty() {
            causes.push(Cause::required(place("image"), "Required value"));
        }
        for (number, port) in list(&container["ports"]).iter().enumerate() {
            let count = port["containerPort"].as_i64().unwrap_or_default();
            let field = place(&format!("ports[{number}].containerPort"));
            if count == 0 {
                causes.push(Cause::required(field, "Required value"));
            } else if !(1..=65535).contains(&count) {
                let text = "Invalid value: must be between 1 and 65535, inclusive";
                causes.push(Cause::invalid(field, text));
            }
        }
    }
}

/// What of a pod's spec never changes. The node is set by the world's scheduler, which binds by a patch.
fn lasting(spec: &Value) -> Value {
    let mut lasting = spec.clone();
    if let Some(map) = lasting.as_object_mut() {
        for field in ["activeDeadlineSeconds", "tolerations", "nodeName"] {
            map.remove(field);
        }
        for kind in ["containers", "initContainers"] {
            for container in map
                .get_mut(kind)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                container["image"] = Value::Null;
            }
        }
    }
    lasting
}

fn service(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let spec = &new["spec"];
    let ty = text(&spec["type"]);
    if !matches!(
        ty,
        "ClusterIP" | "NodePort" | "LoadBalancer" | "ExternalName"
    ) {
        let text = format!("Unsupported value: \"{ty}\"");
        causes.push(Cause::new("FieldValueNotSupported", "spec.type", text));
    }
    let ports = list(&spec["ports"]);
    let headless = spec["clusterIP"] == "None";
    if ports.is_empty() && !headless && ty != "ExternalName" {
        causes.push(Cause::required("spec.ports", "Required value"));
    }
    for (index, port) in ports.iter().enumerate() {
        let place = |field: &str| format!("spec.ports[{index}].{field}");
        if ports.len() > 1 && text(&port["name"]).is_empty() {
            causes.push(Cause::required(place("name"), "Required value"));
        }
        let name = &port["name"];
        if !name.is_null() && ports.iter().take(index).any(|other| other["name"] == *name) {
            causes.push(Cause::new(
                "FieldValueDuplicate",
                place("name"),
                "Duplicate value",
            ));
        }
        let number = port["port"].as_i64().unwrap_or_default();
        if !(1..=65535).contains(&number) {
            let text = format!("Invalid value: {number}: must be between 1 and 65535, inclusive");
            causes.push(Cause::invalid(place("port"), text.clone()));
            if port["targetPort"] == port["port"] {
                causes.push(Cause::invalid(place("targetPort"), text));
            }
        }
        let same =
            |other: &&Value| other["port"] == port["port"] && other["protocol"] == port["protocol"];
        if ports.iter().take(index).any(|other| same(&other)) {
            causes.push(Cause::new(
                "FieldValueDuplicate",
                format!("spec.ports[{index}]"),
                "Duplicate value",
            ));
        }
    }
    let Some(old) = old else { return };
    let before = text(&old["spec"]["clusterIP"]);
    if !before.is_empty() && before != text(&spec["clusterIP"]) && ty != "ExternalName" {
        let text = format!(
            "Invalid value: {}: may not change once set",
            spec["clusterIPs"]
        );
        causes.push(Cause::invalid("spec.clusterIPs[0]", text));
    }
}

fn contents(plural: &str, new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    for field in ["data", "binaryData"] {
        for key in new[field]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, _)| key)
        {
            let fits = key
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
            if !fits || key.is_empty() || key.len() > 253 || key == "." || key.starts_with("..") {
                let text = format!(
                    "Invalid value: \"{key}\": a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
                );
                causes.push(Cause::invalid(format!("{field}[{key}]"), text));
            }
        }
    }
    let Some(old) = old else { return };
    if plural == "secrets" && old["type"] != new["type"] {
        causes.push(Cause::invalid("type", "Invalid value: field is immutable"));
    }
    if old["immutable"] == true {
        for field in ["immutable", "data", "binaryData"] {
            if old[field] != new[field] {
                let text = "Forbidden: field is immutable when `immutable` is set";
                causes.push(Cause::forbidden(field, text));
            }
        }
    }
}

fn autoscaler(spec: &Value, causes: &mut Vec<Cause>) {
    for field in ["kind", "name"] {
        if text(&spec["scaleTargetRef"][field]).is_empty() {
            causes.push(Cause::required(
                format!("spec.scaleTargetRef.{field}"),
                "Required value",
            ));
        }
    }
    if text(&spec["scaleTargetRef"]["apiVersion"]).is_empty() {
        let text = "Invalid value: apiVersion must specify API group";
        causes.push(Cause::invalid("spec.scaleTargetRef.apiVersion", text));
    }
    let least = spec["minReplicas"].as_i64().unwrap_or(1);
    let most = spec["maxReplicas"].as_i64().unwrap_or_default();
    if least < 1 {
        let text = format!("Invalid value: {least}: must be greater than or equal to 1");
        causes.push(Cause::invalid("spec.minReplicas", text));
        let wakes = |metric: &Value| metric["type"] == "External" || metric["type"] == "Object";
        if least == 0 && !list(&spec["metrics"]).iter().any(wakes) {
            let text = "Forbidden: must specify at least one Object or External metric to support scaling to zero replicas";
            causes.push(Cause::forbidden("spec.metrics", text));
        }
    }
    if most < 1 {
        causes.push(Cause::invalid(
            "spec.maxReplicas",
            "Invalid value: must be greater than 0",
        ));
    }
    if most < least {
        let text = "Invalid value: must be greater than or equal to `minReplicas`";
        causes.push(Cause::invalid("spec.maxReplicas", text));
    }
}

fn ingress(spec: &Value, causes: &mut Vec<Cause>) {
    if list(&spec["rules"]).is_empty() && spec["defaultBackend"].is_null() {
        let text = "Invalid value: either `defaultBackend` or `rules` must be specified";
        causes.push(Cause::invalid("spec", text));
    }
    for (index, rule) in list(&spec["rules"]).iter().enumerate() {
        for (number, path) in list(&rule["http"]["paths"]).iter().enumerate() {
            let place = |field: &str| format!("spec.rules[{index}].http.paths[{number}].{field}");
            let ty = text(&path["pathType"]);
            if ty.is_empty() {
                causes.push(Cause::required(
                    place("pathType"),
                    "Required value: pathType must be specified",
                ));
            } else if ty != "ImplementationSpecific" && !text(&path["path"]).starts_with('/') {
                causes.push(Cause::invalid(
                    place("path"),
                    "Invalid value: must be an absolute path",
                ));
            }
            let service = &path["backend"]["service"];
            if service.is_null() && path["backend"]["resource"].is_null() {
                causes.push(Cause::invalid(
                    place("backend"),
                    "Required value: must specify a service or resource",
                ));
            } else if !service.is_null() && text(&service["name"]).is_empty() {
                causes.push(Cause::required(
                    place("backend.service.name"),
                    "Required value",
                ));
            }
        }
    }
}

fn slice(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let ty = text(&new["addressType"]);
    if ty.is_empty() {
        causes.push(Cause::required("addressType", "Required value"));
    } else if !matches!(ty, "IPv4" | "IPv6" | "FQDN") {
        causes.push(Cause::new(
            "FieldValueNotSupported",
            "addressType",
            "Unsupported value",
        ));
    }
    for (index, endpoint) in list(&new["endpoints"]).iter().enumerate() {
        if list(&endpoint["addresses"]).is_empty() {
            let place = format!("endpoints[{index}].addresses");
            causes.push(Cause::required(
                place,
                "Required value: must contain at least 1 address",
            ));
        }
    }
    if old.is_some_and(|old| old["addressType"] != new["addressType"]) {
        causes.push(Cause::invalid(
            "addressType",
            "Invalid value: field is immutable",
        ));
    }
}

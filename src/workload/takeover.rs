//! Taking over from Flagger: is the primary what the target is?

use serde_json::Value;

use super::{
    TOOLKIT, affinity,
    configs::{copy_names, take_names},
    revision,
    selector::{Selector, selector},
};
use crate::{
    api::FLAGGER_ID,
    object::{At, Kind, Object},
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
    let plain = |object: &Object| {
        let mut template = object
            .body
            .value()
            .pointer_mut("/spec/template")
            .map(Value::take)
            .map(revision::template)?;
        undo_metadata(&mut template, &selector);
        let mut configs = Vec::new();
        if let Some(pod) = template.get_mut("spec") {
            configs = take_names(pod);
            affinity::undo(pod, name, &selector, settings);
        }
        Some((template, configs))
    };
    let (Some((wanted, originals)), Some((found, copies))) = (plain(target), plain(primary)) else {
        return false;
    };
    // Templates that agree use as many configs, each in its place.
    wanted == found
        && originals
            .iter()
            .zip(&copies)
            .all(|(original, copy)| copy == original || copy_names(original, name).contains(copy))
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
        let body = object.body.read();
        let ports: Vec<Value> = super::elements(body.at("/spec/ports"))
            .map(|port| {
                let mut port = port.clone();
                if let Value::Object(fields) = &mut port {
                    fields.remove("nodePort");
                }
                port
            })
            .collect();
        (ports, body.at("/spec/selector").cloned())
    };
    essence(target) == essence(primary)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::workload::fixtures::{deployment, object, patched};

    /// The primary that Flagger makes of the target.
    fn primary_of_flagger() -> Object {
        let mut value = deployment().body.value();
        let template = &mut value["spec"]["template"];
        template["metadata"] = json!({
            "labels": {"app": "podinfo-primary", "app.kubernetes.io/instance": "blue", "version": "v1"},
            "annotations": {"prometheus.io/scrape": "true", "flagger-id": "5f1f2a3b"},
        });
        let text = template["spec"].to_string();
        let text = [
            "colors",
            "environment",
            "files",
            "certificate",
            "database",
            "token",
        ]
        .iter()
        .fold(text, |text, name| {
            text.replace(
                &format!("\"name\":\"{name}\""),
                &format!("\"name\":\"{name}-primary\""),
            )
            .replace(
                &format!("\"secretName\":\"{name}\""),
                &format!("\"secretName\":\"{name}-primary\""),
            )
        });
        let mut pod: Value = serde_json::from_str(&text).unwrap();
        // The volume is called as its config is.
        pod["volumes"][0]["name"] = json!("files");
        pod["volumes"][1]["name"] = json!("certificate");
        let anti = &mut pod["affinity"]["podAntiAffinity"];
        anti["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"]["matchExpressions"]
            [0]["values"] = json!(["podinfo-primary", "other"]);
        anti["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"]["labelSelector"]
            ["matchLabels"]["app"] = json!("podinfo-primary");
        pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]["app"] =
            json!("podinfo-primary");
        template["spec"] = pod;
        value["metadata"] = json!({"name": "podinfo-primary"});
        crate::workload::fixtures::live(Kind::Deployment, value)
    }

    #[test]
    fn agrees_with_the_primary_that_flagger_made() {
        assert!(agrees(
            &Settings::default(),
            &deployment(),
            &primary_of_flagger()
        ));
    }

    #[test]
    fn agrees_not_when_the_pod_template_differs() {
        let primary = primary_of_flagger();
        for change in [
            json!({"metadata": {"annotations": {"restarted": "now"}}}),
            json!({"metadata": {"labels": {"version": "v2"}}}),
            json!({"spec": {"fieldOfTomorrow": {"kept": false}}}),
            json!({"spec": {"volumes": []}}),
        ] {
            let target = patched(&deployment(), &json!({"spec": {"template": change}}));
            assert!(!agrees(&Settings::default(), &target, &primary), "{change}");
        }
    }

    #[test]
    fn agrees_ignores_what_is_not_in_the_template() {
        let target = patched(
            &deployment(),
            &json!({"spec": {"replicas": 0, "minReadySeconds": 9}}),
        );
        assert!(agrees(&Settings::default(), &target, &primary_of_flagger()));
    }

    #[test]
    fn agrees_not_without_templates_or_selector() {
        let empty = object(Kind::Deployment, "metadata: {name: podinfo}");
        assert!(!agrees(&Settings::default(), &empty, &empty));
        assert!(!agrees(&Settings::default(), &deployment(), &empty));
    }

    #[test]
    fn agrees_on_services_with_the_same_ports_and_pods() {
        let service = |name, app, extra| {
            let text = format!(
                "{{metadata: {{name: {name}}}, spec: {{selector: {{app: {app}}}, ports: [{{port: 80{extra}}}]}}}}"
            );
            object(Kind::Service, &text)
        };
        let target = service("a", "v1", ", nodePort: 30000");
        let settings = Settings::default();
        assert!(agrees(&settings, &target, &service("a-primary", "v1", "")));
        assert!(!agrees(&settings, &target, &service("a-primary", "v0", "")));
    }
}

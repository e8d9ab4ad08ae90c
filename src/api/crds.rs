//! The `CustomResourceDefinition`s, made from the types.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::{AlertProvider, Canary, MetricTemplate, admission};

/// The definitions of `Canary`, `MetricTemplate` and `AlertProvider`, in this order.
pub fn crds() -> Vec<CustomResourceDefinition> {
    [Canary::crd(), MetricTemplate::crd(), AlertProvider::crd()]
        .into_iter()
        .map(|mut crd| {
            let kind = crd.spec.names.kind.clone();
            let schemas = crd.spec.versions.iter_mut();
            for schema in schemas.filter_map(|version| version.schema.as_mut()) {
                if let Some(shape) = schema.open_api_v3_schema.take() {
                    schema.open_api_v3_schema = Some(admitted(&kind, shape));
                }
            }
            crd
        })
        .collect()
}

/// [`crds`] as YAML, one document each.
pub fn yaml() -> String {
    let documents = crds()
        .iter()
        .filter_map(|crd| serde_json::to_value(crd).ok())
        .filter_map(|crd| serde_saphyr::to_string(&crd).ok())
        .collect::<Vec<_>>();
    format!("---\n{}", documents.join("---\n"))
}

/// The schema of a kind with what admission asks laid over it.
fn admitted(kind: &str, shape: JSONSchemaProps) -> JSONSchemaProps {
    let Ok(mut schema) = serde_json::to_value(&shape) else {
        return shape;
    };
    settle(&mut schema);
    admission::lay_over(&mut schema, &admission::lines(kind));
    serde_json::from_value(schema).unwrap_or(shape)
}

/// Brings a generated schema into the form of the contract.
///
/// - Absent and null are the same: the server drops nulls of fields that are not nullable.
/// - Nothing is defaulted unless the contract says so.
/// - `format: int32` binds no server, so the bounds do: what is admitted can be read.
fn settle(schema: &mut Value) {
    let Some(node) = schema.as_object_mut() else {
        return;
    };
    for key in ["nullable", "default", "title"] {
        node.remove(key);
    }
    if let Some(values) = node.get_mut("enum").and_then(Value::as_array_mut) {
        values.retain(|value| !value.is_null());
    }
    if node.get("format") == Some(&json!("int32")) {
        node.entry("minimum").or_insert(json!(i32::MIN));
        node.entry("maximum").or_insert(json!(i32::MAX));
    }
    for part in ["items", "additionalProperties"] {
        if let Some(part) = node.get_mut(part) {
            settle(part);
        }
    }
    let fields = node.get_mut("properties").and_then(Value::as_object_mut);
    fields
        .into_iter()
        .flat_map(Map::values_mut)
        .for_each(settle);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns of the contract: name, path, type, priority.
    const COLUMNS: [(&str, &str, &str, i32); 10] = [
        ("Status", ".status.phase", "string", 0),
        ("Weight", ".status.canaryWeight", "string", 0),
        ("Suspended", ".spec.suspend", "boolean", 1),
        ("FailedChecks", ".status.failedChecks", "string", 1),
        ("Interval", ".spec.analysis.interval", "string", 1),
        ("Mirror", ".spec.analysis.mirror", "boolean", 1),
        ("StepWeight", ".spec.analysis.stepWeight", "string", 1),
        ("StepWeights", ".spec.analysis.stepWeights", "string", 1),
        ("MaxWeight", ".spec.analysis.maxWeight", "string", 1),
        (
            "LastTransitionTime",
            ".status.lastTransitionTime",
            "string",
            0,
        ),
    ];

    /// The schema of a kind.
    fn schema(kind: &str) -> Value {
        let crd = crds().into_iter().find(|crd| crd.spec.names.kind == kind);
        let version = crd.unwrap().spec.versions.remove(0);
        serde_json::to_value(version.schema.unwrap().open_api_v3_schema).unwrap()
    }

    #[test]
    fn crds_keep_the_names_and_columns_of_the_contract() {
        let crds = crds();
        for (crd, plural) in crds
            .iter()
            .zip(["canaries", "metrictemplates", "alertproviders"])
        {
            let spec = &crd.spec;
            assert_eq!(crd.metadata.name, Some(format!("{plural}.flagger.app")));
            let annotations = crd.metadata.annotations.as_ref().unwrap();
            assert_eq!(annotations["helm.sh/resource-policy"], "keep");
            assert_eq!(spec.names.categories, Some(vec!["all".to_owned()]));
            assert_eq!(spec.names.short_names, None);
            assert_eq!(spec.scope, "Namespaced");
            let [version] = spec.versions.as_slice() else {
                panic!("more than one version");
            };
            assert_eq!(version.name, "v1beta1");
            let subresources = version.subresources.as_ref().unwrap();
            assert!(subresources.status.is_some() && subresources.scale.is_none());
        }
        let columns: Vec<_> = crds
            .iter()
            .flat_map(|crd| {
                crd.spec.versions[0]
                    .additional_printer_columns
                    .as_ref()
                    .unwrap()
            })
            .map(|c| (&*c.name, &*c.json_path, &*c.type_, c.priority.unwrap_or(0)))
            .collect();
        let others = [
            ("Provider", ".spec.provider.type", "string", 0),
            ("Type", ".spec.type", "string", 0),
        ];
        assert_eq!(columns, [&COLUMNS[..], &others].concat());
    }

    #[test]
    fn schemas_have_what_the_contract_requires_and_are_structural() {
        let canary = schema("Canary");
        let spec = &canary["properties"]["spec"];
        assert_eq!(spec["required"], json!(["analysis", "targetRef"]));
        assert_eq!(
            spec["properties"]["analysis"]["oneOf"],
            json!([
                {"required": ["interval", "threshold", "iterations"]},
                {"required": ["interval", "threshold", "stepWeight"]},
                {"required": ["interval", "threshold", "stepWeights"]},
            ])
        );
        assert_eq!(
            spec["properties"]["service"]["properties"]["targetPort"]["x-kubernetes-int-or-string"],
            true
        );
        let provider =
            schema("MetricTemplate")["properties"]["spec"]["properties"]["provider"].clone();
        assert_eq!(provider["required"], json!(["type"]));
        let text = yaml();
        for leftover in ["anyOf:", "allOf:", "nullable:", "$ref:", "- null"] {
            assert!(!text.contains(leftover), "{leftover}");
        }
    }

    /// The messages that a schema computes.
    fn computed(node: &Value, found: &mut Vec<String>) {
        match node {
            Value::Object(fields) => {
                let message = fields.get("messageExpression").and_then(Value::as_str);
                found.extend(message.map(str::to_owned));
                fields.values().for_each(|field| computed(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| computed(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn computed_messages_have_no_placeholder_that_the_server_would_refuse() {
        let mut messages = Vec::new();
        computed(&schema("Canary"), &mut messages);
        assert!(messages.len() > 20, "{}", messages.len());
        for message in messages {
            let placeholders = message.matches('%').count();
            assert_eq!(placeholders, message.matches("%s").count(), "{message}");
        }
    }

    #[test]
    fn status_with_every_field_is_kept_by_the_schema() {
        let schema = crate::schema::Schema::read(&schema("Canary")).unwrap();
        let time = "2026-01-02T03:04:05Z";
        let judge = json!({
            "verdict": "Fail", "message": "m", "time": time, "step": "20 %",
            "stepStarted": time, "extended": true, "held": true, "evidence": 351.5,
            "requestsNeeded": 120.5, "secondsNeeded": 12.5, "config": "c", "state": "{}",
            "metrics": [{
                "name": "latency", "bound": 250.5, "canaryRequests": 1.5, "canaryBad": 2.5,
                "primaryRequests": 3.5, "primaryBad": 4.5, "ratio": 1.5, "ratioLow": 0.5,
                "ratioHigh": 2.5, "evidence": 3.5,
            }],
        });
        let status = json!({
            "phase": "Progressing", "failedChecks": 1, "canaryWeight": 10, "iterations": 2,
            "trackedConfigs": {"configmap/a": "0123456789abcdef"},
            "lastAppliedSpec": "a", "lastPromotedSpec": "b", "lastTransitionTime": time,
            "sessionAffinityCookie": "a=b", "primarySessionAffinityCookie": "c=d",
            "previousSessionAffinityCookie": "e=f",
            "conditions": [{
                "type": "Promoted", "status": "True", "reason": "r", "message": "m",
                "lastUpdateTime": time, "lastTransitionTime": time,
            }],
            "observedGeneration": 3, "step": 2, "checks": 4, "haltReason": "h",
            "metrics": [{"name": "n", "value": 99.5, "bound": ">= 99", "verdict": "Pass"}],
            "judge": judge,
            "nextCheckTime": time, "startedTime": time, "paused": true,
            "notices": [{
                "warning": true, "message": "m", "postRollout": true,
                "alert": {"severity": "warn", "message": "m", "metadata": true},
            }],
            "history": [{
                "revision": "r", "outcome": "Failed", "reason": "r", "startedTime": time,
                "finishedTime": time,
            }],
        });
        let read: crate::api::CanaryStatus = serde_json::from_value(status.clone()).unwrap();
        assert_eq!(
            serde_json::to_value(&read).unwrap(),
            status,
            "the test knows every field"
        );
        let mut object = json!({"status": status});
        assert_eq!(schema.prune(&mut object, None), Vec::<String>::new());
        let faults = schema.validate(&object);
        assert!(
            faults.iter().all(|fault| !fault.path.starts_with("status")),
            "{faults:?}"
        );
    }

    #[test]
    fn admission_lines_all_have_their_place_in_the_schema() {
        for crd in [Canary::crd(), MetricTemplate::crd(), AlertProvider::crd()] {
            let kind = crd.spec.names.kind;
            let schema = crd.spec.versions[0].schema.as_ref().unwrap();
            let mut schema = serde_json::to_value(&schema.open_api_v3_schema).unwrap();
            let missing = admission::lay_over(&mut schema, &admission::lines(&kind));
            assert_eq!(missing, Vec::<&str>::new(), "{kind}");
        }
    }

    #[test]
    fn crds_file_is_what_the_types_give() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/haldane.yaml");
        if std::env::var_os("HALDANE_BLESS").is_some() {
            std::fs::write(file, yaml()).unwrap();
        }
        let kept = std::fs::read_to_string(file).unwrap_or_default();
        assert!(
            kept == yaml(),
            "crds/haldane.yaml is out of date; run `haldane crds >crds/haldane.yaml`"
        );
    }
}

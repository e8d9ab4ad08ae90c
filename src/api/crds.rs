//! The CustomResourceDefinitions, made from the types.

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
    crds()
        .iter()
        .filter_map(|crd| serde_json::to_value(crd).ok())
        .filter_map(|crd| serde_saphyr::to_string(&crd).ok())
        .fold(String::new(), |all, text| all + "---\n" + &text)
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

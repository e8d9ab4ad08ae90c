use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::server;
use crate::sim::server::ApiServer;

fn definition(schema: &Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {"spec": schema, "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                }},
            }],
        },
    })
}

fn widgets(server: &ApiServer, schema: &Value) -> Api<DynamicObject> {
    server.install_crd(definition(schema)).unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Widget"));
    Api::default_namespaced_with(server.client(), &resource)
}

fn widget(spec: &Value) -> DynamicObject {
    let object = json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec, "status": {"x": 1},
    });
    serde_json::from_value(object).unwrap()
}

async fn fields_refused(api: &Api<DynamicObject>, spec: &Value) -> Vec<(String, String)> {
    match api
        .create(
            &PostParams {
                dry_run: true,
                ..PostParams::default()
            },
            &widget(spec),
        )
        .await
    {
        Ok(_) => Vec::new(),
        Err(kube::Error::Api(status)) => {
            let causes = status
                .details
                .map(|details| details.causes)
                .unwrap_or_default();
            causes
                .into_iter()
                .map(|cause| (cause.reason, cause.field))
                .collect()
        }
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn custom_resource_is_pruned_and_defaulted() {
    let server = server();
    let schema = json!({
        "type": "object",
        "properties": {
            "size": {"type": "integer", "default": 3},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        },
    });
    let api = widgets(&server, &schema);
    let spec = json!({"unknown": 1, "size": null, "free": {"kept": true}});
    let made = api
        .create(&PostParams::default(), &widget(&spec))
        .await
        .unwrap();
    assert_eq!(
        made.data["spec"],
        json!({"size": 3, "free": {"kept": true}})
    );
    assert_eq!(made.data.get("status"), None, "create drops status");
    let status = Patch::Merge(
        json!({"spec": {"size": 9}, "status": {"ok": true}, "metadata": {"labels": {"a": "b"}}}),
    );
    let marked = api
        .patch_status("w", &PatchParams::default(), &status)
        .await
        .unwrap();
    assert_eq!(
        (&marked.data["spec"]["size"], &marked.data["status"]),
        (&json!(3), &json!({"ok": true}))
    );
    assert_eq!(
        (marked.metadata.labels, marked.metadata.generation),
        (None, Some(1))
    );
}

#[tokio::test]
async fn schema_faults_name_their_fields() {
    let server = server();
    let schema = json!({
        "type": "object", "required": ["name"],
        "properties": {
            "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 5},
            "mode": {"type": "string", "enum": ["on", "off"]},
            "count": {"type": "integer", "minimum": 0, "maximum": 10},
            "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        },
    });
    let api = widgets(&server, &schema);
    let refused = |spec: Value| {
        let api = api.clone();
        async move { fields_refused(&api, &spec).await }
    };
    let cause = |reason: &str, field: &str| (format!("FieldValue{reason}"), field.to_owned());
    assert_eq!(
        refused(json!({"name": "a", "mode": "on", "count": 3, "port": "http"})).await,
        []
    );
    assert_eq!(refused(json!({})).await, [cause("Required", "spec.name")]);
    assert_eq!(
        refused(json!({"name": "A"})).await,
        [cause("Invalid", "spec.name")]
    );
    assert_eq!(
        refused(json!({"name": "abcdef"})).await,
        [cause("TooLong", "spec.name")]
    );
    assert_eq!(
        refused(json!({"name": 5})).await,
        [cause("TypeInvalid", "spec.name")]
    );
    assert_eq!(
        refused(json!({"name": "a", "mode": "x"})).await,
        [cause("NotSupported", "spec.mode")]
    );
    assert_eq!(
        refused(json!({"name": "a", "count": 11})).await,
        [cause("Invalid", "spec.count")]
    );
}

#[tokio::test]
async fn cel_rules_refuse_and_see_the_old_object() {
    let server = server();
    let rules = json!([
        {"rule": "!has(self.min) || self.min <= self.max", "message": "min above max", "fieldPath": ".min"},
        {"rule": "self.hosts.all(h, h.matches('^[a-z.]+$')) && size(self.hosts) > 0"},
        {"rule": "self.hosts.exists(h, h.startsWith('a')) || self.max > 5"},
    ]);
    let schema = json!({
        "type": "object", "required": ["max", "hosts"], "x-kubernetes-validations": rules,
        "properties": {
            "min": {"type": "integer"}, "max": {"type": "integer"},
            "hosts": {"type": "array", "items": {"type": "string"}},
            "fixed": {"type": "string", "x-kubernetes-validations": [{"rule": "self == oldSelf"}]},
            "interval": {"type": "string", "default": "1m", "x-kubernetes-validations": [{"rule": "duration(self) >= duration('5s')"}]},
        },
    });
    let api = widgets(&server, &schema);
    let good = json!({"min": 1, "max": 2, "hosts": ["a.b"], "fixed": "x"});
    assert_eq!(fields_refused(&api, &good).await, []);
    let invalid = |field: &str| ("FieldValueInvalid".to_owned(), field.to_owned());
    let bad = json!({"min": 3, "max": 2, "hosts": ["a.b"], "interval": "1s"});
    assert_eq!(
        fields_refused(&api, &bad).await,
        [invalid("spec.min"), invalid("spec.interval")]
    );
    assert_eq!(
        fields_refused(&api, &json!({"max": 2, "hosts": ["A"]}))
            .await
            .len(),
        2
    );
    api.create(&PostParams::default(), &widget(&good))
        .await
        .unwrap();
    let patch = Patch::Merge(json!({"spec": {"fixed": "y"}}));
    assert!(
        api.patch("w", &PatchParams::default(), &patch)
            .await
            .is_err()
    );
}

#[tokio::test]
async fn rule_that_cannot_be_evaluated_is_refused_at_registration() {
    for rule in [
        "self.startsWith(",
        "quantity(self).isLessThan(quantity('1'))",
    ] {
        let schema = json!({"type": "string", "x-kubernetes-validations": [{"rule": rule}]});
        let refused = server().install_crd(definition(&schema)).unwrap_err();
        assert_eq!(refused.code, 422, "{rule}");
        assert!(refused.details.message.contains("spec"), "{refused:?}");
    }
}

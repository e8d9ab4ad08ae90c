//! The API server takes the `CustomResourceDefinition`s, and says of every manifest what
//! `haldane check` says.

use std::collections::BTreeMap;

use haldane::{
    api::{crds, validation::Admission},
    schema::Schema,
};
use k8s_openapi::{
    api::core::v1::Namespace,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind, Status},
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, TestRunner},
};
use serde_json::Value;

use crate::admin;

#[path = "../admission/cases.rs"]
mod cases;

/// A server that has the definitions, and the namespace of the manifests.
async fn server() -> Client {
    let client = admin().await;
    let apply = PatchParams::apply("validation-test").force();
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds::crds() {
        let name = crd.name_any();
        definitions
            .patch(&name, &apply, &Patch::Apply(&crd))
            .await
            .unwrap();
        await_condition(definitions.clone(), &name, is_crd_established())
            .await
            .unwrap();
    }
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("test".to_owned());
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces
        .patch("test", &apply, &Patch::Apply(&namespace))
        .await
        .unwrap();
    client
}

/// What the server would store, or why it refuses.
#[expect(clippy::panic, reason = "a test fails by panicking")]
async fn submit(client: &Client, manifest: &Value) -> Result<Value, Status> {
    let kind = manifest["kind"].as_str().unwrap();
    let kind = GroupVersionKind::gvk("flagger.app", "v1beta1", kind);
    let plural = format!("{}s", kind.kind.to_lowercase()).replace("canarys", "canaries");
    let resource = ApiResource::from_gvk_with_plural(&kind, &plural);
    let objects: Api<DynamicObject> = Api::namespaced_with(client.clone(), "test", &resource);
    let mut object: DynamicObject = serde_json::from_value(manifest.clone()).unwrap();
    object.metadata.uid = None;
    object.metadata.resource_version = None;
    let dry_run = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match objects.create(&dry_run, &object).await {
        Ok(object) => Ok(object.data["spec"].clone()),
        Err(kube::Error::Api(status)) => Err(*status),
        Err(error) => panic!("{manifest}: {error}"),
    }
}

/// A path or message with one spelling for the entries of maps.
fn plain(text: &str) -> String {
    text.replace('[', ".").replace(']', "")
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn misoperations_are_refused_by_the_server_as_by_check() {
    let client = server().await;
    let table = cases::Refused::read();
    let mut disagreements = Vec::new();
    for case in &table.cases {
        match submit(&client, &table.manifest(case)).await {
            Ok(_) => disagreements.push(format!("{}: admitted", case.name)),
            // What rules say is the same in both; for keywords the server has its own words.
            Err(status)
                if plain(&status.message).contains(&plain(&case.path))
                    && (status.message.contains(" in body ")
                        || !status.message.contains(": found ")
                        || status.message.contains(&case.says)) => {}
            Err(status) => disagreements.push(format!("{}: {}", case.name, status.message)),
        }
    }
    for case in &table.beyond {
        if let Err(status) = submit(&client, &table.manifest(case)).await {
            disagreements.push(format!("{}: {}", case.name, status.message));
        }
    }
    assert_eq!(disagreements, Vec::<String>::new());
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn valid_manifests_are_stored_by_the_server_as_check_sees_them() {
    let client = server().await;
    let admission = Admission::new().unwrap();
    for mut manifest in cases::admitted() {
        let name = manifest["metadata"]["name"].clone();
        let stored = submit(&client, &manifest).await;
        let verdict = admission.judge(&mut manifest).unwrap();
        assert_eq!(verdict.faults, [], "{name}");
        assert_eq!(stored.unwrap(), manifest["spec"], "{name}");
    }
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn generated_manifests_are_judged_by_the_server_as_by_the_schema() {
    let client = server().await;
    let schemas: BTreeMap<String, Schema> = crds::crds()
        .into_iter()
        .map(|crd| {
            let version = serde_json::to_value(&crd.spec.versions[0]).unwrap();
            let schema = Schema::read(&version["schema"]["openAPIV3Schema"]).unwrap();
            (crd.spec.names.kind, schema)
        })
        .collect();
    let config = Config::default();
    let generated = config.cases;
    let mut runner = TestRunner::new(config);
    let manifests = cases::changed();
    let (mut disagreements, mut refused) = (Vec::new(), 0);
    for _ in 0..generated {
        let manifest = manifests.new_tree(&mut runner).unwrap().current();
        let mut judged = manifest.clone();
        let faults = schemas[judged["kind"].as_str().unwrap()].admit(&mut judged);
        match submit(&client, &manifest).await {
            Ok(stored) if faults.is_empty() && stored == judged["spec"] => {}
            Err(_) if !faults.is_empty() => refused += 1,
            Ok(stored) => disagreements.push(format!("{manifest}: stored {stored}, {faults:?}")),
            Err(status) => disagreements.push(format!("{manifest}: {}", status.message)),
        }
    }
    assert_eq!(disagreements, Vec::<String>::new());
    assert!(refused > generated / 10, "{refused} of {generated} refused");
}

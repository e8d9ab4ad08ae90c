use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions,
};
use serde_json::{Value, json};

use super::server;
use crate::sim::server::{ApiServer, Verb};

fn config_map(name: &str, labels: &Value) -> ConfigMap {
    serde_json::from_value(
        json!({"metadata": {"name": name, "labels": labels.clone()}, "data": {"a": "1"}}),
    )
    .unwrap()
}

fn deployment(name: &str) -> Deployment {
    serde_json::from_value(json!({
        "metadata": {"name": name},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [{"name": "app", "image": "app:1"}]},
            },
        },
    }))
    .unwrap()
}

fn code(error: &kube::Error) -> (u16, String) {
    let kube::Error::Api(status) = error else {
        panic!("not an answer of the server: {error}")
    };
    (status.code, status.reason.clone())
}

fn config_maps(server: &ApiServer) -> Api<ConfigMap> {
    Api::default_namespaced(server.client())
}

#[tokio::test]
async fn create_of_an_existing_name_is_refused_as_already_exists() {
    let api = config_maps(&server());
    let made = api
        .create(&PostParams::default(), &config_map("a", &json!({})))
        .await
        .unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.resource_version.is_some());
    let again = api
        .create(&PostParams::default(), &config_map("a", &json!({})))
        .await;
    assert_eq!(code(&again.unwrap_err()), (409, "AlreadyExists".to_owned()));
}

#[tokio::test]
async fn put_with_an_old_version_is_refused_as_conflict() {
    let api = config_maps(&server());
    let first = api
        .create(&PostParams::default(), &config_map("a", &json!({})))
        .await
        .unwrap();
    let mut second = first.clone();
    second
        .data
        .get_or_insert_default()
        .insert("b".into(), "2".into());
    api.replace("a", &PostParams::default(), &second)
        .await
        .unwrap();
    let stale = api.replace("a", &PostParams::default(), &first).await;
    assert_eq!(code(&stale.unwrap_err()), (409, "Conflict".to_owned()));
}

#[tokio::test]
async fn put_that_changes_nothing_keeps_the_version_and_is_no_change() {
    let server = server();
    let api = config_maps(&server);
    let first = api
        .create(&PostParams::default(), &config_map("a", &json!({})))
        .await
        .unwrap();
    let revision = server.revision();
    let same = api
        .replace("a", &PostParams::default(), &first)
        .await
        .unwrap();
    assert_eq!(
        same.metadata.resource_version,
        first.metadata.resource_version
    );
    assert_eq!(server.revision(), revision);
}

#[tokio::test]
async fn generation_counts_spec_changes_and_no_others() {
    let api: Api<Deployment> = Api::default_namespaced(server().client());
    let generation = |object: &Deployment| object.metadata.generation.unwrap();
    let made = api
        .create(&PostParams::default(), &deployment("web"))
        .await
        .unwrap();
    assert_eq!(generation(&made), 1);
    let params = PatchParams::default();
    let labelled = Patch::Merge(json!({"metadata": {"labels": {"x": "y"}}}));
    assert_eq!(
        generation(&api.patch("web", &params, &labelled).await.unwrap()),
        1
    );
    let scaled = Patch::Merge(json!({"spec": {"replicas": 3}, "status": {"replicas": 9}}));
    let scaled = api.patch("web", &params, &scaled).await.unwrap();
    assert_eq!(generation(&scaled), 2);
    assert_eq!(
        scaled.status.unwrap().replicas,
        None,
        "the main path does not write status"
    );
    let status = Patch::Merge(json!({"spec": {"replicas": 7}, "status": {"replicas": 3}}));
    let status = api.patch_status("web", &params, &status).await.unwrap();
    assert_eq!(
        (generation(&status), status.spec.unwrap().replicas),
        (2, Some(3))
    );
    assert_eq!(status.status.unwrap().replicas, Some(3));
}

#[tokio::test]
async fn scale_reads_and_writes_the_count_of_replicas() {
    let api: Api<Deployment> = Api::default_namespaced(server().client());
    api.create(&PostParams::default(), &deployment("web"))
        .await
        .unwrap();
    let scale = api.get_scale("web").await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(2));
    let patch = Patch::Merge(json!({"spec": {"replicas": 5}}));
    api.patch_scale("web", &PatchParams::default(), &patch)
        .await
        .unwrap();
    assert_eq!(
        api.get("web").await.unwrap().spec.unwrap().replicas,
        Some(5)
    );
}

#[tokio::test]
async fn json_patch_whose_test_fails_is_refused_as_invalid() {
    let api = config_maps(&server());
    api.create(&PostParams::default(), &config_map("a", &json!({})))
        .await
        .unwrap();
    let operations = json!([
        {"op": "test", "path": "/data/a", "value": "2"}, {"op": "replace", "path": "/data/a", "value": "3"},
    ]);
    let patch: Patch<ConfigMap> = Patch::Json(serde_json::from_value(operations).unwrap());
    let refused = api.patch("a", &PatchParams::default(), &patch).await;
    assert_eq!(code(&refused.unwrap_err()).0, 422);
}

#[tokio::test]
async fn strategic_merge_patch_merges_containers_by_name() {
    let api: Api<Deployment> = Api::default_namespaced(server().client());
    api.create(&PostParams::default(), &deployment("web"))
        .await
        .unwrap();
    let containers = json!([{"name": "app", "image": "app:2"}, {"name": "log", "image": "log:1"}]);
    let patch =
        Patch::Strategic(json!({"spec": {"template": {"spec": {"containers": containers}}}}));
    let patched = api
        .patch("web", &PatchParams::default(), &patch)
        .await
        .unwrap();
    let containers = patched.spec.unwrap().template.spec.unwrap().containers;
    let seen: Vec<_> = containers
        .iter()
        .map(|c| (c.name.as_str(), c.image.as_deref()))
        .collect();
    assert_eq!(seen, [("app", Some("app:2")), ("log", Some("log:1"))]);
}

#[tokio::test]
async fn list_by_labels_pages_over_one_snapshot() {
    let api = config_maps(&server());
    for (name, tier) in [("a", "x"), ("b", "y"), ("c", "x"), ("d", "z")] {
        let object = config_map(name, &json!({"tier": tier}));
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    let names = |list: &kube::core::ObjectList<ConfigMap>| -> Vec<String> {
        list.items
            .iter()
            .map(|item| item.metadata.name.clone().unwrap())
            .collect()
    };
    let some = api
        .list(&ListParams::default().labels("tier in (x,z),tier!=z"))
        .await
        .unwrap();
    assert_eq!(names(&some), ["a", "c"]);
    let first = api.list(&ListParams::default().limit(3)).await.unwrap();
    assert_eq!(first.metadata.remaining_item_count, Some(1));
    api.delete("d", &DeleteParams::default()).await.unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    let rest = api
        .list(&ListParams::default().limit(3).continue_token(&token))
        .await
        .unwrap();
    assert_eq!(
        (names(&first).len(), names(&rest)),
        (3, vec!["d".to_owned()])
    );
    let one = api
        .list(&ListParams::default().fields("metadata.name=b"))
        .await
        .unwrap();
    assert_eq!(names(&one), ["b"]);
    let unknown = api.list(&ListParams::default().fields("data.a=1")).await;
    assert_eq!(code(&unknown.unwrap_err()).0, 400);
}

#[tokio::test]
async fn metadata_requests_return_no_content() {
    let api = config_maps(&server());
    api.create(&PostParams::default(), &config_map("a", &json!({"x": "y"})))
        .await
        .unwrap();
    let one = api.get_metadata("a").await.unwrap();
    assert_eq!(one.metadata.labels.unwrap()["x"], "y");
    assert_eq!(
        api.list_metadata(&ListParams::default())
            .await
            .unwrap()
            .items
            .len(),
        1
    );
}

#[tokio::test]
async fn finalizer_holds_an_object_until_it_is_removed() {
    let api = config_maps(&server());
    let mut held = config_map("a", &json!({}));
    held.metadata.finalizers = Some(vec!["example.com/hold".into()]);
    api.create(&PostParams::default(), &held).await.unwrap();
    let marked = api
        .delete("a", &DeleteParams::default())
        .await
        .unwrap()
        .left()
        .unwrap();
    assert!(marked.metadata.deletion_timestamp.is_some());
    let again = api
        .create(&PostParams::default(), &config_map("a", &json!({})))
        .await;
    assert_eq!(code(&again.unwrap_err()).1, "AlreadyExists");
    let more =
        Patch::Merge(json!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}}));
    let refused = api.patch("a", &PatchParams::default(), &more).await;
    assert_eq!(code(&refused.unwrap_err()).0, 422);
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("a", &PatchParams::default(), &free)
        .await
        .unwrap();
    assert!(api.get_opt("a").await.unwrap().is_none());
}

#[tokio::test]
async fn delete_of_another_life_is_refused_as_conflict() {
    let api = config_maps(&server());
    api.create(&PostParams::default(), &config_map("a", &json!({})))
        .await
        .unwrap();
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: Some("other".into()),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    assert_eq!(
        code(&api.delete("a", &params).await.unwrap_err()).1,
        "Conflict"
    );
}

#[tokio::test]
async fn orphans_are_collected_when_the_collector_runs() {
    let server = server();
    let api = config_maps(&server);
    let owner = api
        .create(&PostParams::default(), &config_map("owner", &json!({})))
        .await
        .unwrap();
    let mut child = config_map("child", &json!({}));
    let reference = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner.metadata.uid}]);
    child.metadata.owner_references = serde_json::from_value(reference).unwrap();
    api.create(&PostParams::default(), &child).await.unwrap();
    assert_eq!(server.collect_garbage(), 0);
    api.delete("owner", &DeleteParams::default()).await.unwrap();
    assert!(
        api.get_opt("child").await.unwrap().is_some(),
        "collection is asynchronous"
    );
    assert_eq!(server.collect_garbage(), 1);
    assert!(api.get_opt("child").await.unwrap().is_none());
}

#[tokio::test]
async fn terminating_namespace_takes_nothing_new_and_empties() {
    let server = server();
    let namespaces: Api<Namespace> = Api::all(server.client());
    let team = Namespace {
        metadata: ObjectMeta {
            name: Some("team".into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    namespaces
        .create(&PostParams::default(), &team)
        .await
        .unwrap();
    let api: Api<ConfigMap> = Api::namespaced(server.client(), "team");
    api.create(&PostParams::default(), &config_map("a", &json!({})))
        .await
        .unwrap();
    namespaces
        .delete("team", &DeleteParams::default())
        .await
        .unwrap();
    let refused = api
        .create(&PostParams::default(), &config_map("b", &json!({})))
        .await;
    assert_eq!(code(&refused.unwrap_err()), (403, "Forbidden".to_owned()));
    while server.collect_garbage() > 0 {}
    assert!(namespaces.get_opt("team").await.unwrap().is_none());
}

#[tokio::test]
async fn lease_is_replaced_only_with_its_version() {
    let server = server();
    let api: Api<Lease> = Api::default_namespaced(server.client());
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": "lock"},
        "spec": {"holderIdentity": "a", "renewTime": "2026-01-01T00:00:00.000000Z"},
    }))
    .unwrap();
    let made = api.create(&PostParams::default(), &lease).await.unwrap();
    assert_eq!(
        code(
            &api.replace("lock", &PostParams::default(), &lease)
                .await
                .unwrap_err()
        )
        .0,
        422
    );
    let mut mine = made.clone();
    mine.spec.get_or_insert_default().holder_identity = Some("b".into());
    api.replace("lock", &PostParams::default(), &mine)
        .await
        .unwrap();
    mine.spec.get_or_insert_default().holder_identity = Some("c".into());
    assert_eq!(
        code(
            &api.replace("lock", &PostParams::default(), &mine)
                .await
                .unwrap_err()
        )
        .1,
        "Conflict"
    );
    let puts = server
        .calls()
        .iter()
        .filter(|call| call.verb == Verb::Update)
        .count();
    assert_eq!(puts, 3);
}

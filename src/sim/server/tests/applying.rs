use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::server;

fn applied(replicas: Option<i64>, image: &str) -> Value {
    let mut object = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"by": "a"}},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "app", "image": image}]},
            },
        },
    });
    if let Some(replicas) = replicas {
        object["spec"]["replicas"] = json!(replicas);
    }
    object
}

async fn apply(
    api: &Api<Deployment>,
    manager: &str,
    object: &Value,
) -> Result<Deployment, kube::Error> {
    api.patch("web", &PatchParams::apply(manager), &Patch::Apply(object))
        .await
}

#[tokio::test]
async fn apply_creates_then_changes_and_repeats_without_a_write() {
    let server = server();
    let api: Api<Deployment> = Api::default_namespaced(server.client());
    apply(&api, "a", &applied(Some(2), "app:1")).await.unwrap();
    let revision = server.revision();
    apply(&api, "a", &applied(Some(2), "app:1")).await.unwrap();
    assert_eq!(
        server.revision(),
        revision,
        "an identical apply writes nothing"
    );
    let changed = apply(&api, "a", &applied(Some(2), "app:2")).await.unwrap();
    assert_eq!(changed.metadata.generation, Some(2));
}

#[tokio::test]
async fn apply_of_a_field_that_another_manager_changed_conflicts_until_forced() {
    let api: Api<Deployment> = Api::default_namespaced(server().client());
    apply(&api, "a", &applied(Some(2), "app:1")).await.unwrap();
    let scaled = Patch::Merge(json!({"spec": {"replicas": 5}}));
    let hpa = PatchParams {
        field_manager: Some("hpa".into()),
        ..PatchParams::default()
    };
    api.patch("web", &hpa, &scaled).await.unwrap();
    let Err(kube::Error::Api(refused)) = apply(&api, "a", &applied(Some(2), "app:1")).await else {
        panic!("not refused")
    };
    assert_eq!((refused.code, refused.reason.as_str()), (409, "Conflict"));
    let causes = refused.details.unwrap().causes;
    assert_eq!(
        (causes[0].reason.as_str(), causes[0].field.as_str()),
        ("FieldManagerConflict", ".spec.replicas")
    );
    // not applying the field leaves it to the other manager
    let left = apply(&api, "a", &applied(None, "app:1")).await.unwrap();
    assert_eq!(left.spec.unwrap().replicas, Some(5));
    let forced = api
        .patch(
            "web",
            &PatchParams::apply("a").force(),
            &Patch::Apply(&applied(Some(3), "app:1")),
        )
        .await;
    assert_eq!(forced.unwrap().spec.unwrap().replicas, Some(3));
}

#[tokio::test]
async fn field_that_is_no_longer_applied_goes_when_nobody_else_owns_it() {
    let api: Api<Deployment> = Api::default_namespaced(server().client());
    apply(&api, "a", &applied(None, "app:1")).await.unwrap();
    let mut more = applied(None, "app:1");
    more["metadata"]["labels"] = json!({"by": "a", "only-a": "x", "both": "x"});
    apply(&api, "a", &more).await.unwrap();
    let shared = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "labels": {"both": "x"}}});
    apply(&api, "b", &shared).await.unwrap();
    let less = apply(&api, "a", &applied(None, "app:1")).await.unwrap();
    let labels = less.metadata.labels.unwrap();
    assert_eq!(labels.keys().collect::<Vec<_>>(), ["both", "by"]);
}

#[tokio::test]
async fn associative_list_items_are_owned_one_by_one() {
    let api: Api<Service> = Api::default_namespaced(server().client());
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]},
    }))
    .unwrap();
    api.create(&PostParams::default(), &service).await.unwrap();
    let ports = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": {"ports": [{"name": "metrics", "port": 9090, "protocol": "TCP"}]},
    });
    let both = api
        .patch("web", &PatchParams::apply("a"), &Patch::Apply(&ports))
        .await
        .unwrap();
    let ports: Vec<i32> = both
        .spec
        .unwrap()
        .ports
        .unwrap()
        .iter()
        .map(|port| port.port)
        .collect();
    assert_eq!(ports, [80, 9090]);
}

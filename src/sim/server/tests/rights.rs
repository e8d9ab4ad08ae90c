use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use super::server;

#[tokio::test]
async fn user_with_a_role_may_do_only_what_it_says() {
    let server = server();
    let role = json!({"rules": [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "create"]},
        {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["mine"], "verbs": ["get"]},
    ]});
    server.grant("operator", &role, "default");
    let maps: Api<ConfigMap> = Api::default_namespaced(server.client_for("operator"));
    let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
    maps.create(&PostParams::default(), &map).await.unwrap();
    maps.get("a").await.unwrap();
    let refused =
        |error: kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
    assert!(
        refused(maps.list(&ListParams::default()).await.unwrap_err()),
        "get is not list"
    );
    let elsewhere: Api<ConfigMap> = Api::namespaced(server.client_for("operator"), "kube-system");
    assert!(refused(elsewhere.get("a").await.unwrap_err()));
    let secrets: Api<Secret> = Api::default_namespaced(server.client_for("operator"));
    assert!(refused(secrets.get("other").await.unwrap_err()));
    assert!(
        secrets.get_opt("mine").await.unwrap().is_none(),
        "allowed, and not there"
    );
    server.revoke("operator");
    assert!(
        refused(maps.get("a").await.unwrap_err()),
        "rights can be lost on the way"
    );
    let free: Api<ConfigMap> = Api::default_namespaced(server.client());
    free.list(&ListParams::default()).await.unwrap();
}

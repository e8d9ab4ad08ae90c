//! Behaviour against a real Kubernetes API server. `tests/run.sh` brings one up and names it in `HALDANE_TEST_KUBECONFIG`;
//! without one every test here is ignored.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod chart;
mod cost;
mod crashes;
mod deletion;
mod drift;
mod gates;
mod gateway;
mod judged;
mod kit;
mod outcomes;
mod reporting;
mod revisions;
mod strategies;
mod takeover;
mod validation;
mod workloads;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

/// A client of the control plane under test, with every right.
async fn admin() -> Client {
    // An error means that another test of this process was first: just as well.
    drop(rustls::crypto::ring::default_provider().install_default());
    let path = std::env::var("HALDANE_TEST_KUBECONFIG")
        .expect("HALDANE_TEST_KUBECONFIG names the control plane's kubeconfig: run tests/run.sh");
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn api_server_answers_its_version() {
    let version = admin().await.apiserver_version().await.unwrap();
    assert_eq!(version.major, "1");
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn virtual_service_definition_is_served_in_v1() {
    let definitions: Api<CustomResourceDefinition> = Api::all(admin().await);
    let definition = definitions
        .get("virtualservices.networking.istio.io")
        .await
        .unwrap();
    let served: Vec<_> = definition
        .spec
        .versions
        .iter()
        .filter(|version| version.served)
        .map(|version| version.name.as_str())
        .collect();
    assert!(served.contains(&"v1"), "served: {served:?}");
}

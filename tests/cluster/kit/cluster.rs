//! The control plane, shared by all tests of this process.

use std::{
    path::PathBuf,
    sync::{Arc, OnceLock, mpsc},
    thread,
};

use haldane::api::crds;
use k8s_openapi::{
    api::core::v1::Namespace,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
    runtime::{conditions::is_crd_established, wait::await_condition},
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    kubelet,
    prometheus::{self, Prometheus, Traffic},
};
use crate::admin;

/// The control plane with what runs beside it for the life of the process.
pub struct Cluster {
    /// Folder of its state and logs.
    pub folder: PathBuf,
    /// What the workloads' users do.
    pub traffic: Arc<Traffic>,
    /// Port of the exporter that shows the traffic.
    pub exporter: u16,
    /// Address of the Prometheus that scrapes it.
    pub prometheus: String,
    leftovers: UnboundedSender<String>,
}

impl Cluster {
    /// Deletes a namespace in the background.
    pub fn delete_later(&self, namespace: &str) {
        // The receiver lives as long as the process.
        let _ = self.leftovers.send(namespace.to_owned());
    }
}

/// The path or address in a variable that `tests/run.sh` sets.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run tests/run.sh"))
}

/// The control plane; prepared by the first test that asks.
///
/// What runs beside it has a thread and runtime of its own, since each test's runtime ends with
/// the test.
pub fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
                .block_on(run(sender));
        });
        receiver.recv().expect("the control plane was prepared")
    })
}

async fn run(ready: mpsc::Sender<Cluster>) {
    let client = admin().await;
    install_definitions(&client).await;
    let traffic = Arc::new(Traffic::default());
    let exporter = prometheus::export(Arc::clone(&traffic)).await;
    let prometheus = Prometheus::start("shared", exporter).await;
    let (leftovers, namespaces) = unbounded_channel();
    ready
        .send(Cluster {
            folder: variable("HALDANE_TEST_CLUSTER_DIR").into(),
            traffic,
            exporter,
            prometheus: prometheus.url(),
            leftovers,
        })
        .unwrap();
    tokio::join!(
        kubelet::run(client.clone()),
        delete(Api::all(client), namespaces)
    );
}

async fn install_definitions(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    let apply = PatchParams::apply("cluster-tests").force();
    for definition in crds::crds() {
        let name = definition.name_any();
        definitions
            .patch(&name, &apply, &Patch::Apply(&definition))
            .await
            .unwrap();
        await_condition(definitions.clone(), &name, is_crd_established())
            .await
            .unwrap();
    }
}

async fn delete(namespaces: Api<Namespace>, mut leftovers: UnboundedReceiver<String>) {
    while let Some(name) = leftovers.recv().await {
        // What cannot be deleted goes with the control plane.
        let _ = namespaces.delete(&name, &DeleteParams::background()).await;
    }
}

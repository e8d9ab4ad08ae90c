//! Routes, endpoints and pods at one moment: what proxies go by.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use serde_json::Value;

use super::{
    behaviour::Behaviour,
    controllers::{self, Behaviours},
    meter::Subject,
    server::{ApiServer, Object, Resource},
    traffic::Application,
};
use crate::{
    object::At,
    route::{
        gateway,
        istio::eval::{Forwarding, Request, Share, forward},
    },
    workload,
};

/// A namespace and a name.
pub type Name = (String, String);

/// Routes, endpoints and pods at one moment.
#[derive(Debug)]
pub struct View {
    /// Pods that can answer.
    pub pods: BTreeMap<Name, Backend>,
    routes: Vec<Arc<Object>>,
    http_routes: Vec<Arc<Object>>,
    endpoints: BTreeMap<Name, Vec<Name>>,
}

/// A pod that can answer.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The pod's UID.
    pub uid: String,
    /// The pod's image.
    pub image: String,
    /// Since when it is ready.
    pub since: Timestamp,
    /// How it behaves.
    pub behaviour: Behaviour,
    /// How it is called in metrics.
    pub subject: Subject,
}

impl View {
    /// Whether a change of such an object can change the view.
    pub fn depends_on(resource: &Resource) -> bool {
        matches!(
            resource.plural.as_str(),
            "endpointslices" | "pods" | "replicasets" | "virtualservices" | "httproutes"
        )
    }

    /// The cluster as it is now.
    pub fn of(server: &ApiServer, behaviours: &Behaviours) -> Self {
        let mut endpoints: BTreeMap<Name, Vec<Name>> = BTreeMap::new();
        for slice in server.list("discovery.k8s.io", "endpointslices", "") {
            let namespace = slice.namespace();
            let body = slice.value();
            let service = body["metadata"]["labels"][workload::SERVICE_NAME]
                .as_str()
                .unwrap_or_default();
            let ready = body["endpoints"]
                .as_array()
                .into_iter()
                .flatten()
                .filter(|endpoint| endpoint["conditions"]["ready"] == true)
                .filter_map(|endpoint| endpoint["targetRef"]["name"].as_str())
                .map(|pod| (namespace.to_owned(), pod.to_owned()));
            endpoints
                .entry((namespace.to_owned(), service.to_owned()))
                .or_default()
                .extend(ready);
        }
        let pods = server
            .list("", "pods", "")
            .iter()
            .filter_map(|pod| Some((pod.key(), Backend::of(server, behaviours, pod)?)))
            .collect();
        Self {
            pods,
            routes: server.list("networking.istio.io", "virtualservices", ""),
            http_routes: server.list("gateway.networking.k8s.io", "httproutes", ""),
            endpoints,
        }
    }

    /// Where requests to an application go: by the VirtualService or HTTPRoute of its host, or to the
    /// Service itself.
    pub fn route(&self, application: &Application, request: &Request) -> Forwarding {
        let Application {
            namespace, host, ..
        } = application;
        let takes = |route: &&Arc<Object>| {
            let body = &route.value()["spec"];
            route.namespace() == namespace
                && match body["hosts"].as_array() {
                    Some(hosts) if !hosts.is_empty() => hosts
                        .iter()
                        .filter_map(Value::as_str)
                        .any(|found| service_of(found, namespace) == Some(host)),
                    // A delegate: another route sends it what is meant for its name.
                    Some(_) | None => route.name() == host,
                }
        };
        let named = |route: &&Arc<Object>| {
            let refused = controllers::is_refused(route.value());
            route.namespace() == namespace && route.name() == host && !refused
        };
        let Some(route) = self.routes.iter().find(takes) else {
            if let Some(route) = self.http_routes.iter().find(named) {
                return gateway::eval::forward(route.value(), request).unwrap_or_default();
            }
            return Forwarding {
                shares: vec![Share {
                    host: host.clone(),
                    percent: 100.0,
                    set_cookies: Vec::new(),
                }],
                mirrors: Vec::new(),
            };
        };
        let gateways = route.value()["spec"]["gateways"].as_array();
        let mut request = request.clone();
        request.gateway = gateways
            .filter(|list| !list.iter().any(|gateway| gateway == "mesh"))
            .and_then(|list| list.first()?.as_str().map(str::to_owned));
        forward(route.value(), &request).unwrap_or_default()
    }

    /// Pods behind a host.
    pub fn endpoints(&self, namespace: &str, host: &str) -> &[Name] {
        let service = service_of(host, namespace).unwrap_or(host);
        self.endpoints
            .get(&(namespace.to_owned(), service.to_owned()))
            .map_or(&[], Vec::as_slice)
    }
}

/// The service of a host in this namespace, as short or as long as it is written.
fn service_of<'a>(host: &'a str, namespace: &str) -> Option<&'a str> {
    let (service, rest) = host.split_once('.').unwrap_or((host, ""));
    let local = [
        String::new(),
        namespace.to_owned(),
        format!("{namespace}.svc"),
        format!("{namespace}.svc.cluster.local"),
    ];
    local.iter().any(|end| end == rest).then_some(service)
}

impl Backend {
    fn of(server: &ApiServer, behaviours: &Behaviours, pod: &Object) -> Option<Self> {
        let body = pod.value();
        let ready = controllers::condition(body, "Ready")?;
        if ready["status"] != "True" {
            return None;
        }
        let image = body["spec"]["containers"][0]["image"].as_str()?.to_owned();
        let app = &body["metadata"]["labels"]["app"];
        Some(Self {
            uid: pod.uid().to_owned(),
            behaviour: controllers::behaviour(behaviours, &image),
            image,
            since: ready["lastTransitionTime"].as_str()?.parse().ok()?,
            subject: Subject {
                namespace: pod.namespace().to_owned(),
                pod: pod.name().to_owned(),
                workload: workload_of(server, pod),
                app: app.as_str().unwrap_or_default().to_owned(),
            },
        })
    }
}

/// The reference to an object's controller.
fn controller_of(object: &Value) -> Option<&Value> {
    object
        .at("/metadata/ownerReferences")?
        .as_array()?
        .iter()
        .find(|owner| owner["controller"] == true)
}

/// The name of the workload that a pod belongs to.
fn workload_of(server: &ApiServer, pod: &Object) -> String {
    let Some(owner) = controller_of(pod.value()) else {
        return pod.name().to_owned();
    };
    let name = owner["name"].as_str().unwrap_or_default();
    if owner["kind"] != "ReplicaSet" {
        return name.to_owned();
    }
    server
        .get("apps", "replicasets", pod.namespace(), name)
        .and_then(|set| {
            let owner = controller_of(set.value())?;
            Some(owner["name"].as_str()?.to_owned())
        })
        .unwrap_or_else(|| name.to_owned())
}

//! All that a namespace's watchers would have seen: each state of its Canaries, each weight of
//! their routes, each event.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    pin::pin,
};

use futures::StreamExt;
use haldane::{
    api::{Canary, Phase},
    object::Kind,
};
use k8s_openapi::api::{core::v1::Event as Told, discovery::v1::EndpointSlice};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::DynamicObject,
    runtime::{
        WatchStreamExt,
        watcher::{Config, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

/// One state of a Canary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Name of the Canary.
    pub canary: String,
    /// Stage of its release.
    pub phase: Phase,
    /// Weight that its canary is to have.
    pub weight: i32,
    /// Iterations done.
    pub iterations: i32,
    /// Failed checks.
    pub failed: i32,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            canary,
            phase,
            weight,
            iterations,
            failed,
        } = self;
        write!(
            f,
            "{canary}: {phase}, weight {weight}, iterations {iterations}, failed {failed}"
        )
    }
}

/// Something that decides whether users are served.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Supply {
    /// The canary's weight in the route.
    Weight(i64),
    /// Ready endpoints of a service.
    Endpoints(String, usize),
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct History {
    /// The Canaries as they are.
    pub canaries: BTreeMap<String, Canary>,
    /// The states that they went through.
    pub moments: Vec<Moment>,
    /// The weights of the canary that routes went through.
    pub routed: Vec<i64>,
    /// The messages of the events, by the name of their Canary.
    pub told: Vec<(String, String)>,
    /// By resource version: one etcd counts all kinds, so this is the order in which it happened.
    supply: BTreeMap<u64, Supply>,
    /// Ready endpoints by slice.
    slices: BTreeMap<String, (String, usize)>,
}

impl History {
    /// Ready endpoints of a service.
    pub fn endpoints(&self, service: &str) -> usize {
        let slices = self.slices.values();
        slices.filter(|(of, _)| of == service).map(|(_, n)| n).sum()
    }

    /// The moments at which the route sent users to a service without ready endpoints.
    pub fn outages(&self) -> Vec<String> {
        let mut weight = None;
        let mut ready = BTreeMap::new();
        let mut outages = Vec::new();
        for (version, supply) in &self.supply {
            match supply {
                Supply::Weight(now) => weight = Some(*now),
                Supply::Endpoints(service, count) => {
                    ready.insert(service.as_str(), *count);
                }
            }
            let Some(weight) = weight else { continue };
            for (service, share) in [
                ("podinfo-canary", weight),
                ("podinfo-primary", 100 - weight),
            ] {
                if share > 0 && ready.get(service).is_none_or(|count| *count == 0) {
                    outages.push(format!(
                        "at {version} ({supply:?}) {service} has {share} % of users and no endpoint"
                    ));
                }
            }
        }
        outages
    }
}

/// Watches a namespace into a history, for ever.
pub async fn record(client: Client, namespace: String, history: watch::Sender<History>) {
    let routes = |kind: Kind| Api::namespaced_with(client.clone(), &namespace, &kind.resource());
    let (meshed, gated) = (routes(Kind::VirtualService), routes(Kind::HttpRoute));
    let about_canaries = Config::default().fields("involvedObject.kind=Canary");
    tokio::join!(
        follow(
            Api::namespaced(client.clone(), &namespace),
            Config::default(),
            &history,
            saw_canary
        ),
        follow(meshed, Config::default(), &history, saw_route),
        follow(gated, Config::default(), &history, saw_route),
        follow(
            Api::namespaced(client.clone(), &namespace),
            Config::default(),
            &history,
            saw_endpoints
        ),
        follow(
            Api::namespaced(client, &namespace),
            about_canaries,
            &history,
            saw_event
        ),
    );
}

/// Watches objects of one kind into a history, for ever.
async fn follow<K>(
    api: Api<K>,
    config: Config,
    history: &watch::Sender<History>,
    saw: fn(&mut History, Event<K>),
) where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut events = pin!(watcher(api, config).default_backoff());
    while let Some(event) = events.next().await {
        if let Ok(event) = event {
            history.send_modify(|history| saw(history, event));
        }
    }
}

fn saw_route(history: &mut History, event: Event<DynamicObject>) {
    if let Event::Apply(route) | Event::InitApply(route) = event
        && let Some(weight) = canary_weight(&route.data)
    {
        let version = version(&route);
        history.supply.insert(version, Supply::Weight(weight));
        if history.routed.last() != Some(&weight) {
            history.routed.push(weight);
        }
    }
}

fn saw_endpoints(history: &mut History, event: Event<EndpointSlice>) {
    let (slice, gone) = match event {
        Event::Apply(slice) | Event::InitApply(slice) => (slice, false),
        Event::Delete(slice) => (slice, true),
        Event::Init | Event::InitDone => return,
    };
    let Some(service) = slice.labels().get("kubernetes.io/service-name").cloned() else {
        return;
    };
    let ready = slice
        .endpoints
        .iter()
        .filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            !gone && conditions.is_some_and(|c| c.ready == Some(true))
        })
        .count();
    history
        .slices
        .insert(slice.name_any(), (service.clone(), ready));
    let total = history.endpoints(&service);
    let supply = Supply::Endpoints(service, total);
    history.supply.insert(version(&slice), supply);
}

/// The resource version of an object.
fn version(object: &impl ResourceExt) -> u64 {
    object.resource_version().unwrap().parse().unwrap()
}

fn saw_event(history: &mut History, event: Event<Told>) {
    if let Event::Apply(event) | Event::InitApply(event) = event {
        let canary = event.involved_object.name.unwrap_or_default();
        let message = event.message.unwrap_or_default();
        history.told.push((canary, message));
    }
}

fn saw_canary(history: &mut History, event: Event<Canary>) {
    let canary = match event {
        Event::Apply(canary) | Event::InitApply(canary) => canary,
        Event::Delete(canary) => {
            history.canaries.remove(&canary.name_any());
            return;
        }
        Event::Init | Event::InitDone => return,
    };
    let name = canary.name_any();
    let status = canary.status.clone().unwrap_or_default();
    let moment = Moment {
        canary: name.clone(),
        phase: status.phase,
        weight: status.canary_weight,
        iterations: status.iterations,
        failed: status.failed_checks,
    };
    history.canaries.insert(name, canary);
    if history.moments.last() != Some(&moment) {
        history.moments.push(moment);
    }
}

/// The canary's weight in the last rule of a `VirtualService` or HTTPRoute, which is the one for
/// everybody.
fn canary_weight(route: &Value) -> Option<i64> {
    let last = |rules: &str| route.pointer(rules)?.as_array()?.last();
    let (rule, destinations, name) = match last("/spec/http") {
        Some(rule) => (rule, "route", "/destination/host"),
        None => (last("/spec/rules")?, "backendRefs", "/name"),
    };
    Some(
        rule.get(destinations)?
            .as_array()?
            .iter()
            .filter(|d| {
                d.pointer(name)
                    .and_then(Value::as_str)
                    .is_some_and(|host| host.ends_with("-canary"))
            })
            .filter_map(|d| d.get("weight").and_then(Value::as_i64))
            .sum(),
    )
}

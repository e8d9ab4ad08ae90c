//! Route APIs: from weights to the objects of a mesh or gateway.
//!
//! A [`Router`] is pure: it is told what traffic should look like and what is there, and answers
//! with the objects that should be there. It never moves traffic by itself: a foreign edit is
//! healed to what [`Traffic`] says and to nothing else.

mod adoption;
mod affinity;
mod matching;
mod request;
mod reweigh;
mod rules;

pub mod gateway;
pub mod istio;

#[cfg(test)]
mod tests;

pub use request::{Forwarding, Request, Share};

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::ResourceExt;
use serde::Serialize;
use serde_json::Value;

use crate::{
    api::{Canary, FLUX_DISABLED, Provider, service::Service},
    object::{Key, Kind, Object, Owner, Want, map_of},
};

/// Objects that exist, by key.
type Observed = BTreeMap<Key, Arc<Object>>;

/// What traffic should look like now, derived from a Canary's status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Share of requests, in percent, that the canary gets; the primary gets the rest. Requests
    /// that an A/B test catches are not counted.
    pub canary_weight: i32,
    /// Send the canary a copy of each request. Holds only while it has no weight.
    pub mirrored: bool,
    /// An A/B test runs: requests that match go to the canary.
    pub ab: bool,
    /// Cookie that keeps users on the canary, `name=value`; `None` outside a release.
    pub cookie: Option<String>,
    /// Cookie that keeps users on the primary, `name=value`.
    pub primary_cookie: Option<String>,
    /// Cookie of the release before, to be taken back from users, `name=value`.
    pub previous_cookie: Option<String>,
}

impl Traffic {
    /// The canary's share in percent, 0 to 100 whatever the status says.
    pub fn canary(&self) -> i32 {
        self.canary_weight.clamp(0, 100)
    }

    /// The primary's share in percent.
    pub fn primary(&self) -> i32 {
        100 - self.canary()
    }

    /// Whether the canary gets copies of requests.
    pub fn mirrors(&self) -> bool {
        self.mirrored && self.canary() == 0
    }
}

/// What the live route gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Weights {
    /// Weight of the primary.
    pub primary: i32,
    /// Weight of the canary.
    pub canary: i32,
    /// Whether requests are copied to the canary.
    pub mirrored: bool,
    /// The weights are those of requests that match some condition of the analysis; the primary
    /// alone gets all others.
    pub partial: bool,
}

/// What a route API can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "a row of a table, not a state"
)]
pub struct Capabilities {
    /// Split requests by weight.
    pub weights: bool,
    /// Choose requests by header (A/B tests).
    pub headers: bool,
    /// Send copies of requests to the canary.
    pub mirror: bool,
    /// Keep users on one version by cookies.
    pub sticky: bool,
}

/// Why a route cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// The provider has no router in this build.
    #[error("spec.provider {found} is not supported; use istio, kubernetes or gatewayapi:v1")]
    Unsupported {
        /// The provider as manifests spell it.
        found: &'static str,
    },
    /// The Canary has no `spec.service`.
    #[error("Canary {canary} has no spec.service; add spec.service.port")]
    NoService {
        /// `NAME.NAMESPACE` of the Canary.
        canary: String,
    },
    /// A Canary of the Gateway API has no `spec.service.gatewayRefs`.
    #[error("Canary {canary} has no spec.service.gatewayRefs; name at least one gateway")]
    NoGateway {
        /// `NAME.NAMESPACE` of the Canary.
        canary: String,
    },
    /// A condition that the Gateway API has no words for.
    #[error("Canary {canary}: {what}, which the Gateway API cannot express")]
    Condition {
        /// `NAME.NAMESPACE` of the Canary.
        canary: String,
        /// Field and what was found.
        what: String,
    },
    /// A delegate VirtualService was given hosts or gateways.
    #[error(
        "VirtualService {route} cannot have hosts and gateways when delegation enabled; \
         remove spec.service.hosts and spec.service.gateways, or spec.service.delegation"
    )]
    Delegation {
        /// `NAME.NAMESPACE` of the VirtualService.
        route: String,
    },
}

/// A route API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Router {
    /// Istio: a VirtualService and two DestinationRules.
    Istio,
    /// Gateway API: an HTTPRoute.
    Gateway,
    /// No route at all: the apex Service selects the primary, and the canary is reached by its
    /// own Service only.
    Kubernetes,
}

/// The router of a provider.
///
/// # Errors
/// [`RouteError::Unsupported`] for a provider without a router.
pub fn router(provider: Provider) -> Result<Router, RouteError> {
    match provider {
        Provider::Istio => Ok(Router::Istio),
        Provider::Kubernetes => Ok(Router::Kubernetes),
        // Servers with the one version have the other too.
        Provider::GatewayApiV1 | Provider::GatewayApiV1Beta1 => Ok(Router::Gateway),
        Provider::Apisix
        | Provider::AppMesh
        | Provider::AppMeshV1Beta2
        | Provider::Contour
        | Provider::Gloo
        | Provider::Knative
        | Provider::Kuma
        | Provider::Linkerd
        | Provider::Nginx
        | Provider::Osm
        | Provider::Skipper
        | Provider::SmiV1Alpha1
        | Provider::SmiV1Alpha2
        | Provider::SmiV1Alpha3
        | Provider::Traefik => Err(RouteError::Unsupported {
            found: provider.as_str(),
        }),
    }
}

/// The route API by which a Canary goes: the one of its last release, while the cluster has that,
/// else what it names, else the operator's.
///
/// INVARIANT: users who are on the canary by one route API are brought back by that one.
pub fn provider(canary: &Canary, default: Provider, missing: &BTreeSet<Kind>) -> Provider {
    let named = canary.spec.provider.unwrap_or(default);
    let before = canary.status.as_ref().and_then(|status| status.provider);
    // An API that is gone sends users nowhere.
    let is_there = |before: &Provider| {
        router(*before).is_ok_and(|router| {
            let keys = router.keys(canary);
            keys.iter().all(|key| !missing.contains(&key.kind))
        })
    };
    before.filter(is_there).unwrap_or(named)
}

impl Router {
    /// What the route API can do for a service.
    pub fn capabilities(self, service: Option<&Service>) -> Capabilities {
        let weights = match self {
            Self::Istio | Self::Gateway => true,
            Self::Kubernetes => false,
        };
        // Connections have no headers and cannot be copied.
        let requests = weights && service.is_none_or(|service| !service.is_tcp());
        Capabilities {
            weights,
            headers: requests,
            mirror: requests,
            sticky: requests,
        }
    }

    /// The objects that the router reads and writes.
    pub fn keys(self, canary: &Canary) -> Vec<Key> {
        match self {
            Self::Istio => istio::keys(canary),
            Self::Gateway => vec![gateway::key(canary)],
            Self::Kubernetes => Vec::new(),
        }
    }

    /// The objects that should be there, in the order in which they are to be written.
    /// `observed` holds those of [`keys`](Self::keys) that exist.
    ///
    /// # Errors
    /// When the Canary's spec describes no route.
    pub fn want(
        self,
        canary: &Canary,
        traffic: &Traffic,
        observed: &Observed,
    ) -> Result<Vec<Want>, RouteError> {
        match self {
            Self::Istio => istio::want(canary, traffic, observed),
            Self::Gateway => gateway::want(canary, traffic, observed).map(|want| vec![want]),
            Self::Kubernetes => Ok(Vec::new()),
        }
    }

    /// Whether the Canary's spec describes a route: whether there is one to [`want`](Self::want).
    ///
    /// # Errors
    /// When it does not.
    pub fn check(self, canary: &Canary) -> Result<(), RouteError> {
        match self {
            Self::Istio => istio::check(canary),
            Self::Gateway => gateway::check(canary),
            Self::Kubernetes => Ok(()),
        }
    }

    /// The live route with the canary's weight as wanted and all else as it is: for a rollback
    /// while the Canary's spec describes no route. `None` when no live route names the canary.
    pub fn reweigh(self, canary: &Canary, traffic: &Traffic, observed: &Observed) -> Option<Want> {
        let names = Names::of(canary);
        let (key, spelling) = match self {
            Self::Istio => (istio::route_key(&names), &istio::SPELLING),
            Self::Gateway => (gateway::key(canary), &gateway::SPELLING),
            Self::Kubernetes => return None,
        };
        reweigh::reweigh(observed.get(&key)?, spelling, &names, traffic)
    }

    /// What the live route gives; `None` when there is no route to the canary. While an A/B test
    /// runs these are the weights of the requests that match.
    pub fn weights(self, canary: &Canary, observed: &Observed) -> Option<Weights> {
        match self {
            Self::Istio => istio::weights(canary, observed),
            Self::Gateway => gateway::weights(canary, observed),
            Self::Kubernetes => None,
        }
    }

    /// The objects as they were before the Canary took them over (`revertOnDeletion`); those of
    /// which nothing is known are left out.
    pub fn restore(self, canary: &Canary, observed: &Observed) -> Vec<Want> {
        match self {
            Self::Istio => Vec::from_iter(istio::restore(canary, observed)),
            Self::Gateway => Vec::from_iter(gateway::restore(canary, observed)),
            Self::Kubernetes => Vec::new(),
        }
    }
}

/// Names that routes are made of.
struct Names {
    namespace: String,
    apex: String,
    primary: String,
    canary: String,
}

impl Names {
    fn of(canary: &Canary) -> Self {
        let spec = &canary.spec;
        Self {
            namespace: canary.namespace().unwrap_or_default(),
            apex: spec.apex_name().to_owned(),
            primary: spec.primary_service(),
            canary: spec.canary_service(),
        }
    }
}

/// The Canary as controller of the objects that are created for it.
fn owner(canary: &Canary) -> Option<Owner> {
    Some(Owner {
        kind: "Canary".to_owned(),
        name: canary.name_any(),
        uid: canary.uid()?,
        controller: true,
    })
}

fn service(canary: &Canary) -> Result<&Service, RouteError> {
    canary
        .spec
        .service
        .as_ref()
        .ok_or_else(|| RouteError::NoService {
            canary: format!(
                "{}.{}",
                canary.name_any(),
                canary.namespace().unwrap_or_default()
            ),
        })
}

/// The wanted route object, with the metadata of the apex service and the annotations that keep
/// Flux from reverting it.
fn wanted_route(key: Key, spec: Value, service: &Service) -> Want {
    let mut route = Want::new(key, map_of([("spec", spec)]));
    let apex = service.apex.clone().unwrap_or_default();
    route.labels = apex.labels.unwrap_or_default();
    route.annotations = apex.annotations.unwrap_or_default();
    route
        .annotations
        .extend(FLUX_DISABLED.map(|(key, value)| (key.to_owned(), value.to_owned())));
    route
}

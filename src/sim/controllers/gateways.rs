//! Gateways: what they say of the routes that name them, late or never.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Controllers, items, later, text};
use crate::sim::server::Object;

const ROUTES: (&str, &str) = ("gateway.networking.k8s.io", "httproutes");

/// Who writes.
const NAME: &str = "example.com/gateway";

/// What gateways say of a route that names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceptance {
    /// They accept each generation of it, and say so this much later.
    After(Duration),
    /// They refuse each generation of it this much later, and route nothing by it.
    RefusedAfter(Duration),
    /// They route by it, and say nothing.
    Silent,
}

impl Default for Acceptance {
    fn default() -> Self {
        Self::After(Duration::from_secs(1))
    }
}

/// When each generation of a route was seen first, by UID.
pub type Seen = BTreeMap<String, (Value, Timestamp)>;

impl Controllers {
    pub(super) fn gateways(&mut self) {
        let (lag, accepted) = match self.acceptance {
            Acceptance::After(lag) => (lag, true),
            Acceptance::RefusedAfter(lag) => (lag, false),
            Acceptance::Silent => return,
        };
        let routes = self.server.list(ROUTES.0, ROUTES.1, "");
        self.routes
            .retain(|uid, _| routes.iter().any(|route| route.uid() == uid));
        let now = self.clock.now();
        for route in routes.iter().filter(|route| !route.terminating()) {
            let generation = &route.value()["metadata"]["generation"];
            let seen = self.routes.entry(route.uid().to_owned());
            let seen = seen.or_insert_with(|| (generation.clone(), now));
            if seen.0 != *generation {
                *seen = (generation.clone(), now);
            }
            let due = later(seen.1, lag);
            if due > now {
                self.wake_at(due);
            } else {
                let status = self.route_status(route, accepted);
                self.write_status(ROUTES, route, status);
            }
        }
    }

    /// The status of a route: what each of its gateways says.
    fn route_status(&self, route: &Object, accepted: bool) -> Value {
        let resolved = items(route.value(), "/spec/rules")
            .iter()
            .flat_map(|rule| items(rule, "/backendRefs"))
            .all(|backend| {
                let name = text(backend, "/name");
                self.server
                    .get("", "services", route.namespace(), name)
                    .is_some()
            });
        let now = self.now();
        let parents = items(route.value(), "/spec/parentRefs").iter();
        let parents = parents.enumerate().map(|(index, parent)| {
            let told = |kind: &str, holds: bool, reasons: (&str, &str)| {
                let status = if holds { "True" } else { "False" };
                let path = format!("/status/parents/{index}/conditions");
                let mut before = items(route.value(), &path).iter();
                let before = before.find(|old| old["type"] == kind && old["status"] == status);
                json!({
                    "type": kind, "status": status, "message": "",
                    "reason": if holds { reasons.0 } else { reasons.1 },
                    "observedGeneration": route.value()["metadata"]["generation"],
                    "lastTransitionTime":
                        before.map_or_else(|| json!(now), |old| old["lastTransitionTime"].clone()),
                })
            };
            json!({
                "controllerName": NAME, "parentRef": parent,
                "conditions": [
                    told("Accepted", accepted, ("Accepted", "NotAllowedByListeners")),
                    told("ResolvedRefs", resolved, ("ResolvedRefs", "BackendNotFound")),
                ],
            })
        });
        json!({ "parents": parents.collect::<Vec<_>>() })
    }
}

/// Whether the gateways of a route refused it: then they route nothing by it.
pub fn is_refused(route: &Value) -> bool {
    let refuses = |parent: &Value| {
        let told = items(parent, "/conditions").iter();
        told.clone()
            .any(|told| told["type"] == "Accepted" && told["status"] == "False")
    };
    let parents = items(route, "/status/parents");
    !parents.is_empty() && parents.iter().all(refuses)
}

//! Users and other people: what they do in a trial, one after the other.

use std::time::Duration;

use haldane::{
    api::Phase,
    route::Request,
    sim::{World, server::DeleteOptions, traffic::Application},
};
use serde_json::{Value, json};

use crate::flow::{Deed, Flow, GATE, Users};

/// Users and other people: what they do, one after the other.
#[derive(Clone, Default)]
pub struct People {
    /// How many acts are done.
    pub done: usize,
    last: Duration,
    initialized: Option<Duration>,
    opened: Option<Duration>,
}

impl People {
    /// Users come when it is time.
    pub fn come(&mut self, world: &World, flow: &Flow, phase: &str) {
        let now = world.elapsed();
        if phase == "Initialized" {
            self.initialized.get_or_insert(now);
        }
        // Proxies have followed the bootstrap of an apex that is new.
        let lag = Duration::from_secs(flow.lag + 2);
        let due = match flow.users {
            Users::WhenReady => self.initialized.map(|at| at + lag),
            Users::BeforeCanary => Some(Duration::from_secs(8) + lag),
            Users::Nobody => None,
        };
        if self.opened.is_none() && due.is_some_and(|due| now > due) {
            self.opened = Some(now);
            world.traffic().open(Application {
                sticky: false,
                namespace: "default".to_owned(),
                host: "shop".to_owned(),
                requests_per_second: 12,
                special: vec![(30.0, Request::get("/").with_header("x-canary", "insider"))],
            });
        }
    }

    /// Does what is due; what was done.
    pub fn act<'a>(&mut self, world: &World, flow: &'a Flow, status: &Value) -> Option<&'a Deed> {
        let act = flow.acts.get(self.done)?;
        let now = world.elapsed();
        let phase = status["phase"].as_str().unwrap_or_default();
        let here = act.when.is_none_or(|(when, weight)| {
            phase == when.as_str() && weight.is_none_or(|weight| status["canaryWeight"] == weight)
        });
        // Metrics need some traffic first.
        let warm = Duration::from_secs(15);
        let known = act.when.is_none()
            || flow.users == Users::Nobody
            || self.opened.is_some_and(|at| now > at + warm);
        let early = now < self.last + Duration::from_secs(act.rest)
            || act.settled && status["scaledDown"] != true;
        if !here || !known || early {
            return None;
        }
        // A neighbour that only starts takes over what stands then, whatever it is.
        let neighbour = world.canary("default", "store");
        let phase = neighbour.map(|canary| canary.status.unwrap_or_default().phase);
        let starts = matches!(phase, Some(Phase::New | Phase::Initializing));
        if act.when.is_some() && starts && !flow.panics {
            return None;
        }
        perform(world, &act.deed);
        self.last = now;
        self.done += 1;
        Some(&act.deed)
    }
}

fn perform(world: &World, deed: &Deed) {
    match deed {
        Deed::Push(image) => {
            world.surroundings().begin();
            let get = |plural| world.server().get("apps", plural, "default", "shop");
            let mut kinds = ["deployments", "daemonsets"].into_iter();
            let (plural, target) = kinds
                .find_map(|plural| Some((plural, get(plural)?)))
                .unwrap();
            let mut containers = target.value()["spec"]["template"]["spec"]["containers"].clone();
            containers[0]["image"] = json!(image);
            let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
            world
                .patch(("apps", plural), ("default", "shop"), patch)
                .unwrap();
        }
        Deed::Ask(text) => {
            let patch = Deed::request(text);
            world
                .patch(("flagger.app", "canaries"), ("default", "shop"), patch)
                .unwrap();
        }
        Deed::Apply(manifest) => {
            world.surroundings().begin();
            world.apply(manifest.clone()).unwrap();
        }
        Deed::Reapply(manifests) => {
            for manifest in manifests {
                let text = |value: &Value| value.as_str().unwrap().to_owned();
                let kind = text(&manifest["kind"]);
                let resource = world
                    .server()
                    .resource_of(&text(&manifest["apiVersion"]), &kind)
                    .unwrap();
                let name = text(&manifest["metadata"]["name"]);
                world
                    .patch(
                        (&resource.group, &resource.plural),
                        ("default", &name),
                        manifest.clone(),
                    )
                    .unwrap();
            }
        }
        // What the server refuses stays as it was.
        Deed::Edit(group, plural, name, patch) => {
            let _ = world.patch((group, plural), ("default", name), patch.clone());
        }
        Deed::Restore(spec) => {
            let canary = world
                .server()
                .get("flagger.app", "canaries", "default", "shop");
            let Some(canary) = canary else { return };
            let mut manifest = canary.value().clone();
            manifest["spec"] = spec.clone();
            world.apply(manifest).unwrap();
        }
        Deed::Delete(group, plural, name) => {
            let target = ("default", *name);
            world
                .server()
                .delete((group, plural), target, &DeleteOptions::default())
                .unwrap();
        }
        Deed::Gate(answer) => world.surroundings().answer(GATE, *answer),
        Deed::Behave(image, behaviour) => world.set_behaviour(image, behaviour.clone()),
    }
}

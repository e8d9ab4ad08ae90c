//! One release in a world with faults, judged after every write.

use std::{cell::Cell, panic, sync::Arc, sync::Once, time::Duration};

use haldane::{
    api::Phase,
    controller::{ANSWER_TIMEOUT, Decider},
    route::Request,
    sim::{
        Answer, Options, World, behaviour::Behaviour, crash::EndState, run, server::DeleteOptions,
        traffic::Application,
    },
};
use serde_json::{Value, json};

use crate::{
    chaos::{Chaos, Error, Fault},
    checker::{Checker, Violation},
    flow::{Act, Deed, Flow, GATE, Users, healthy},
};

/// How long a release may take, with all its faults, where proxies are quick.
const LIMIT: Duration = Duration::from_mins(15);

/// What came of a trial.
#[derive(Debug)]
pub struct Trial {
    pub violation: Option<Violation>,
    pub end: EndState,
    pub calls: u64,
    pub events: u64,
    pub sites: Vec<String>,
    /// When the release had which phase and weight.
    pub story: Vec<(Duration, String, i64)>,
    pub seconds: u64,
    /// Whether each fault happened.
    pub struck: bool,
}

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Counts panics, each in the thread of its world, also those that the operator survives.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.with(|count| count.set(count.get() + 1));
            before(info);
        }));
    });
}

/// Tries a flow under faults.
pub fn try_out(flow: &Flow, faults: &[Fault], seed: u64, decider: &Decider) -> Trial {
    count_panics();
    PANICS.with(|count| count.set(0));
    run(|| trial(flow, faults, seed, decider.clone())).unwrap()
}

/// An empty world with faults, and how versions behave in it.
fn world(flow: &Flow, faults: &[Fault], seed: u64, decider: Decider) -> (World, Arc<Chaos>) {
    let mut options = Options {
        decider,
        ..Options::default()
    };
    options.settings.drain = flow.drain;
    // Often enough that every check sees the errors of its step.
    options.scenario.scrape_seconds = 2;
    options.scenario.proxy_lag_seconds = flow.lag;
    if flow.outage {
        options.scenario.outside.outages = vec![(0.0, 1e9)];
    }
    let world = World::new(seed, options).unwrap();
    let chaos = Arc::new(Chaos::new(
        Arc::clone(world.gate()),
        world.server().clone(),
        faults.to_vec(),
    ));
    world.server().intercept(chaos.clone());
    for image in ["shop:1.0", "shop:1.1", "shop:1.2", "store:1.0", "store:1.1"] {
        world.set_behaviour(image, healthy());
    }
    let failing = Behaviour {
        // So many that no check sees none of them, however few requests a step has.
        error_percent: 90.0,
        ..healthy()
    };
    world.set_behaviour("shop:bad", failing);
    let crashing = Behaviour {
        start_seconds: None,
        ..healthy()
    };
    world.set_behaviour("shop:crash", crashing);
    world.surroundings().answer(GATE, Answer::Status(403));
    (world, chaos)
}

/// Users and other people: what they do, one after the other.
struct People<'a> {
    flow: &'a Flow,
    acts: std::slice::Iter<'a, Act>,
    next: Option<&'a Act>,
    last: Duration,
    initialized: Option<Duration>,
    opened: Option<Duration>,
}

impl<'a> People<'a> {
    fn new(flow: &'a Flow) -> Self {
        let mut acts = flow.acts.iter();
        let next = acts.next();
        let last = Duration::ZERO;
        Self {
            flow,
            acts,
            next,
            last,
            initialized: None,
            opened: None,
        }
    }

    fn come(&mut self, world: &World, phase: &str) {
        let now = world.elapsed();
        if phase == "Initialized" {
            self.initialized.get_or_insert(now);
        }
        // Proxies have followed the bootstrap of an apex that is new.
        let lag = Duration::from_secs(self.flow.lag + 2);
        let due = match self.flow.users {
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
    fn act(&mut self, world: &World, status: &Value) -> Option<&'a Deed> {
        let act = self.next?;
        let now = world.elapsed();
        let phase = status["phase"].as_str().unwrap_or_default();
        let here = act.when.is_none_or(|(when, weight)| {
            phase == when.as_str() && weight.is_none_or(|weight| status["canaryWeight"] == weight)
        });
        // Metrics need some traffic first.
        let warm = Duration::from_secs(15);
        let known = act.when.is_none()
            || self.flow.users == Users::Nobody
            || self.opened.is_some_and(|at| now > at + warm);
        if !here || !known || now < self.last + Duration::from_secs(act.rest) {
            return None;
        }
        // A neighbour that only starts takes over what stands then, whatever it is.
        let neighbour = world.canary("default", "store");
        let phase = neighbour.map(|canary| canary.status.unwrap_or_default().phase);
        let starts = matches!(phase, Some(Phase::New | Phase::Initializing));
        if act.when.is_some() && starts && !self.flow.panics {
            return None;
        }
        perform(world, &act.deed);
        self.last = now;
        self.next = self.acts.next();
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

async fn trial(flow: &Flow, faults: &[Fault], seed: u64, decider: Decider) -> Trial {
    let (mut world, chaos) = world(flow, faults, seed, decider);
    for manifest in &flow.manifests {
        world.apply(manifest.clone()).unwrap();
    }
    let mut checker = Checker::new(flow);
    let mut people = People::new(flow);
    let mut written = (0, Duration::ZERO);
    // A watch without an answer is asked for again after a minute, and tells nothing before.
    let hangs = |fault: &Fault| {
        matches!(
            fault,
            Fault::Fail {
                error: Error::Timeout,
                ..
            }
        )
    };
    let hang = if faults.iter().any(hangs) {
        ANSWER_TIMEOUT
    } else {
        Duration::ZERO
    };
    let rest = flow.drain + Duration::from_secs(45) + hang;
    let ended = |status: &Value, world: &World| {
        let phase = status["phase"].as_str().unwrap_or_default();
        if let Some(end) = flow.end {
            return phase == end.as_str() || (flow.may_fail && phase == "Failed");
        }
        let heir = || world.phase("default", "shop-rival") == Phase::Initialized;
        world.canary("default", "shop").is_none() && (!flow.inherited || heir())
    };
    world
        .run_until(
            |world| {
                checker.look(world, &chaos, flow);
                let status = checker.before.status.clone();
                people.come(world, status["phase"].as_str().unwrap_or_default());
                if let Some(deed) = people.act(world, &status) {
                    checker.sees(deed);
                    written.1 = world.elapsed();
                }
                let deeds = chaos.deeds();
                if deeds != written.0 {
                    written = (deeds, world.elapsed());
                }
                let panics = PANICS.with(Cell::get);
                checker.ensure(world, "B1", panics == 0 || flow.panics, || {
                    format!("{panics} panics")
                });
                checker.ensure(world, "B2", !chaos.flooded(), || {
                    "asks the server again and again without a pause".to_owned()
                });
                let quiet = world.elapsed() > written.1 + rest;
                let done = people.next.is_none() && quiet && ended(&status, world);
                checker.violation.is_some() || done
            },
            LIMIT + Duration::from_secs(20 * flow.lag) + 5 * hang,
        )
        .await;
    checker.look(&world, &chaos, flow);
    let phase = world.phase("default", "shop");
    let status = checker.before.status.clone();
    checker.ensure(&world, "L1", ended(&status, &world), || {
        let wanted = flow.end.map_or("gone", Phase::as_str);
        format!("ends {phase}, not {wanted}: {}", status["haltReason"])
    });
    checker.ensure(&world, "L1", people.next.is_none(), || {
        format!("ends before {:?}", people.next)
    });
    checker.rest(&world, flow);
    let idle = world.elapsed().saturating_sub(written.1);
    checker.ensure(&world, "L6", idle > rest, || {
        format!("still writes {} requests", written.0)
    });
    Trial {
        violation: checker.violation,
        end: EndState::of(world.server()),
        calls: chaos.calls(),
        events: chaos.events(),
        sites: chaos.sites(),
        story: checker.story,
        seconds: world.elapsed().as_secs(),
        struck: chaos.all_struck(),
    }
}

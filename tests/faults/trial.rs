//! One release in a world with faults, judged after every write.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    panic,
    sync::{Arc, Mutex, Once},
    time::Duration,
};

use haldane::{
    api::Phase,
    controller::Decider,
    sim::{Answer, Ground, Moment, Options, World, behaviour::Behaviour, crash::EndState, run},
};
use serde_json::Value;

use crate::{
    chaos::{Chaos, Counts, Fault, Position},
    checker::{Checker, Violation},
    flow::{Flow, GATE, healthy},
    people::People,
};

/// How long a release may take, with all its faults, where proxies are quick.
const LIMIT: Duration = Duration::from_mins(15);

/// How long nothing is written at the end, beside the time to drain and that of the longest fault:
/// longer than anything waits, and that is half a minute.
const REST: Duration = Duration::from_secs(35);

/// What came of a trial.
#[derive(Debug)]
pub struct Trial {
    pub violation: Option<Violation>,
    pub end: EndState,
    pub calls: u64,
    pub events: u64,
    pub sites: Vec<String>,
    /// What the world was like at each request, where there were no faults.
    pub marks: Vec<Mark>,
    /// When the release had which phase and weight.
    pub story: Vec<(Duration, String, i64)>,
    pub seconds: u64,
    /// Whether each fault happened.
    pub struck: bool,
}

/// At a request: all that outlives the process which makes it. Processes that crash at two requests
/// with the same world leave the same behind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Number of the request.
    pub call: u64,
    /// Whether it is carried out.
    pub done: bool,
    pub world: Stand,
}

impl Mark {
    /// A crash there: of a request, and of a moment of it.
    pub fn crash(&self) -> (u64, Position) {
        let position = if self.done {
            Position::AnswerLost
        } else {
            Position::BeforeSending
        };
        (self.call, position)
    }
}

/// Where a world stands: how long it is there, and how much happened in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stand {
    elapsed: Duration,
    revision: u64,
    /// Requests of webhooks and chats that arrived.
    posted: usize,
    /// Seconds of users, what they and others did, and what the checker saw.
    seconds: u64,
    acts: usize,
    seen: u64,
}

impl Stand {
    fn of(ground: &Ground, following: &Following) -> Self {
        Self {
            elapsed: ground.elapsed(),
            revision: ground.server().revision(),
            posted: ground.surroundings().posted().len(),
            seconds: ground.traffic().seconds(),
            acts: following.people.done,
            seen: following.checker.seen,
        }
    }
}

thread_local! {
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

/// Runs a world, and counts the panics in its thread, also those that the operator survives.
fn run_counted<F: Future>(world: impl FnOnce() -> F) -> F::Output {
    static ONCE: Once = Once::new();
    PANICS.with(|count| count.set(0));
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.with(|count| count.set(count.get() + 1));
            before(info);
        }));
    });
    run(world).unwrap()
}

/// Tries a flow under faults.
pub fn try_out(flow: &Flow, faults: &[Fault], seed: u64, decider: &Decider) -> Trial {
    run_counted(|| trial(flow, faults, seed, decider.clone()))
}

/// What the world of a flow is like.
fn options(flow: &Flow, decider: Decider) -> Options {
    let mut options = Options {
        decider,
        ..Options::default()
    };
    options.settings.drain = flow.drain;
    // Often enough that every check sees the errors of its step.
    options.scenario.scrape_seconds = if flow.interval > Flow::INTERVAL {
        10
    } else {
        2
    };
    options.scenario.proxy_lag_seconds = flow.lag;
    if flow.outage {
        options.scenario.outside.outages = vec![(0.0, 1e9)];
    }
    options
}

/// An empty world, and how versions behave in it.
fn world(flow: &Flow, seed: u64, decider: Decider) -> World {
    let world = World::new(seed, options(flow, decider)).unwrap();
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
    for manifest in &flow.manifests {
        world.apply(manifest.clone()).unwrap();
    }
    world
}

/// Who follows a trial: those who act in it, and who judges it.
#[derive(Clone)]
struct Following {
    checker: Checker,
    people: People,
    /// How many requests wrote something, and when the last one did.
    written: (u64, Duration),
}

/// A trial at one request, to go on from.
struct Kept {
    moment: Moment,
    counts: Counts,
    following: Following,
}

impl Following {
    fn new(flow: &Flow) -> Self {
        Self {
            checker: Checker::new(flow),
            people: People::default(),
            written: (0, Duration::ZERO),
        }
    }

    /// Looks, and does what is due; whether there is nothing left to come.
    fn look(&mut self, world: &World, chaos: &Chaos, flow: &Flow, rest: Duration) -> bool {
        let Self {
            checker,
            people,
            written,
        } = self;
        checker.look(world, chaos, flow);
        let status = checker.before.status.clone();
        people.come(world, flow, status["phase"].as_str().unwrap_or_default());
        if let Some(deed) = people.act(world, flow, &status) {
            checker.sees(deed);
            written.1 = world.elapsed();
        }
        let deeds = chaos.deeds();
        if deeds != written.0 {
            *written = (deeds, world.elapsed());
        }
        let panics = PANICS.with(Cell::get);
        checker.ensure(world, "B1", panics == 0 || flow.panics, || {
            format!("{panics} panics")
        });
        checker.ensure(world, "B2", !chaos.flooded(), || {
            "asks the server again and again without a pause".to_owned()
        });
        let quiet = world.elapsed() > written.1 + rest;
        let done = people.done == flow.acts.len() && quiet && ended(flow, &status, world);
        checker.violation.is_some() || done
    }
}

fn ended(flow: &Flow, status: &Value, world: &World) -> bool {
    let phase = status["phase"].as_str().unwrap_or_default();
    if let Some(end) = flow.end {
        return phase == end.as_str() || (flow.may_fail && phase == "Failed");
    }
    let heir = || world.phase("default", "shop-rival") == Phase::Initialized;
    world.canary("default", "shop").is_none() && (!flow.inherited || heir())
}

async fn trial(flow: &Flow, faults: &[Fault], seed: u64, decider: Decider) -> Trial {
    let world = world(flow, seed, decider);
    let (gate, server) = (world.gate().clone(), world.server().clone());
    let following = Arc::new(Mutex::new(Following::new(flow)));
    let marks = Arc::new(Mutex::new(Vec::new()));
    let mut chaos = Chaos::new(gate, server, faults.to_vec());
    if faults.is_empty() {
        let (ground, following, marks) = (world.ground().clone(), following.clone(), marks.clone());
        chaos = chaos.tell(Box::new(move |call, done, _| {
            let world = Stand::of(&ground, &following.lock().unwrap());
            marks.lock().unwrap().push(Mark { call, done, world });
        }));
    }
    let longest = faults.iter().map(Fault::lasts).max().unwrap_or_default();
    let trial = follow(world, &Arc::new(chaos), flow, &following, longest).await;
    let marks = std::mem::take(&mut *marks.lock().unwrap());
    Trial { marks, ..trial }
}

/// Lets a trial come to its end, in which the longest fault lasts so long.
async fn follow(
    mut world: World,
    chaos: &Arc<Chaos>,
    flow: &Flow,
    following: &Mutex<Following>,
    longest: Duration,
) -> Trial {
    world.server().intercept(Arc::clone(chaos) as Arc<_>);
    let rest = flow.drain + REST + longest;
    let limit = LIMIT + Duration::from_secs(20 * flow.lag) + 5 * longest;
    let look = |world: &World| following.lock().unwrap().look(world, chaos, flow, rest);
    let limit = limit.saturating_sub(world.elapsed());
    world.run_until(look, limit).await;
    let Following {
        mut checker,
        people,
        written,
    } = following.lock().unwrap().clone();
    checker.look(&world, chaos, flow);
    let phase = world.phase("default", "shop");
    let status = checker.before.status.clone();
    checker.ensure(&world, "L1", ended(flow, &status, &world), || {
        let wanted = flow.end.map_or("gone", Phase::as_str);
        format!("ends {phase}, not {wanted}: {}", status["haltReason"])
    });
    let next = flow.acts.get(people.done);
    checker.ensure(&world, "L1", next.is_none(), || {
        format!("ends before {next:?}")
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
        marks: Vec::new(),
        story: checker.story,
        seconds: world.elapsed().as_secs(),
        struck: chaos.all_struck(),
    }
}

/// Tries a flow with one crash, once for each of these places: of a request, and of a moment of it.
/// None of a place that the flow does not have. What comes before a crash runs once for all.
pub fn try_crashes(
    flow: &Flow,
    crashes: &[(u64, Position)],
    seed: u64,
    decider: &Decider,
) -> Vec<Option<Trial>> {
    let wanted = crashes.iter().map(|(call, at)| (*call, at.is_done()));
    let kept = run_counted(|| keep(flow, wanted.collect(), seed, decider.clone()));
    let go_on = |(call, at): &(u64, Position)| {
        let kept = kept.get(&(*call, at.is_done()))?;
        Some(run_counted(|| go_on(flow, kept, decider.clone())))
    };
    crashes.iter().map(go_on).collect()
}

/// A flow without faults, as it stands at each of these requests: before it, or once it is done.
async fn keep(
    flow: &Flow,
    wanted: BTreeSet<(u64, bool)>,
    seed: u64,
    decider: Decider,
) -> BTreeMap<(u64, bool), Kept> {
    let world = world(flow, seed, decider);
    let (gate, server) = (Arc::clone(world.gate()), world.server().clone());
    let following = Arc::new(Mutex::new(Following::new(flow)));
    let all = Arc::new(Mutex::new(BTreeMap::new()));
    let witness = {
        let (ground, following, all) = (world.ground().clone(), following.clone(), all.clone());
        move |number: u64, done: bool, counts: &Counts| {
            if wanted.contains(&(number, done)) {
                let kept = Kept {
                    moment: ground.keep(),
                    counts: counts.clone(),
                    following: following.lock().unwrap().clone(),
                };
                all.lock().unwrap().insert((number, done), kept);
            }
        }
    };
    let chaos = Chaos::new(gate, server, Vec::new()).tell(Box::new(witness));
    follow(world, &Arc::new(chaos), flow, &following, Duration::ZERO).await;
    std::mem::take(&mut *all.lock().unwrap())
}

/// What comes of a flow whose operator crashed at this moment.
async fn go_on(flow: &Flow, kept: &Kept, decider: Decider) -> Trial {
    let world = World::resume(&kept.moment, options(flow, decider), 1).await;
    let (gate, server) = (Arc::clone(world.gate()), world.server().clone());
    let chaos = Arc::new(Chaos::resume(gate, server, kept.counts.clone()));
    let following = Mutex::new(kept.following.clone());
    follow(world, &chaos, flow, &following, Duration::ZERO).await
}

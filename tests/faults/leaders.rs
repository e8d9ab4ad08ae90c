//! Two replicas with a real election between them: whoever lost the lead writes nothing, and the
//! release goes on with the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use haldane::{
    api::Phase,
    clock::Clock,
    controller::{
        Decider, Driver, Parts,
        lease::{Candidate, Leadership, Timing},
        options::Election,
        work,
    },
    measure::{Outside, publish::Listeners},
    observe::{self, Cache, Watches},
    settings::Settings,
    sim::{
        Dice, Options, World, run,
        server::{After, ApiServer, Before, Call, Delivery, Interceptor, Outcome, WatchEvent},
        traffic::Application,
    },
    telemetry::metrics::Metrics,
};
use serde_json::json;
use tokio::{sync::mpsc, time::Instant};

use crate::flow::{Flow, healthy};

/// What a replica is started with.
#[derive(Clone)]
struct Kit {
    server: ApiServer,
    clock: Clock,
    outside: Arc<dyn Outside>,
    settings: Settings,
    /// Whether it asks the election before it writes: as the product does.
    fenced: bool,
}

/// One replica, started anew each time that it loses the lead, as a kubelet does.
async fn replica(kit: Kit, name: &'static str) {
    loop {
        let client = kit.server.client_for(name);
        let election = Election {
            namespace: "default".to_owned(),
            lease: "haldane".to_owned(),
            timing: Timing::default(),
        };
        let (candidate, elected) = Candidate::new(client.clone(), election, name.to_owned());
        let leads = if kit.fenced {
            elected
        } else {
            Leadership::always()
        };
        let (again, changed) = mpsc::unbounded_channel();
        let cache = Arc::new(Cache::new(again.clone()));
        let watches = Watches::new();
        let fence = leads.clone();
        let driver = Driver::new(Parts {
            client: client.clone(),
            cache: Arc::clone(&cache),
            again,
            clock: kit.clock,
            outside: Arc::clone(&kit.outside),
            settings: Arc::new(kit.settings.clone()),
            listeners: Arc::new(Listeners::default()),
            metrics: Arc::new(Metrics::new(kit.settings.mesh_provider)),
            fence: Arc::new(move || fence.is_leader()),
            decider: Decider::default(),
        });
        let namespaces = BTreeSet::new();
        let watching = observe::watch(
            client,
            Arc::clone(&cache),
            Arc::clone(&watches),
            &namespaces,
            true,
        );
        let working = async {
            watches.filled().await;
            work(
                driver,
                cache,
                changed,
                leads.clone(),
                || {},
                std::future::pending(),
            )
            .await;
        };
        tokio::select! {
            biased;
            _ = candidate.run(std::future::pending()) => {}
            () = watching => {}
            () = working => {}
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Cuts replicas off the server, and notes who writes while another one holds the Lease.
struct Network {
    server: ApiServer,
    /// Who is cut off, from when, until when.
    cuts: Vec<(&'static str, Instant, Instant)>,
    writes: Mutex<BTreeMap<String, u64>>,
    wrong: Mutex<Vec<String>>,
}

impl Network {
    fn is_cut(&self, user: &str) -> bool {
        let now = Instant::now();
        let mut cuts = self.cuts.iter();
        cuts.any(|(who, from, until)| *who == user && (*from..*until).contains(&now))
    }
}

impl Interceptor for Network {
    fn before(&self, call: &Call) -> Before {
        if self.is_cut(&call.user) {
            Before::Hang
        } else {
            Before::Proceed
        }
    }

    fn after(&self, call: &Call, outcome: Outcome<'_>) -> After {
        let replica = call.user.starts_with("replica-");
        if replica && call.verb.writes() && outcome.code < 300 && call.resource != "leases" {
            let lease = self
                .server
                .get("coordination.k8s.io", "leases", "default", "haldane");
            let holder = lease.map(|lease| lease.value()["spec"]["holderIdentity"].clone());
            if holder != Some(json!(call.user)) {
                let text = format!(
                    "{} {} {} by {} while {holder:?} leads",
                    call.verb.as_str(),
                    call.resource,
                    call.name,
                    call.user
                );
                self.wrong.lock().unwrap().push(text);
            }
            *self
                .writes
                .lock()
                .unwrap()
                .entry(call.user.clone())
                .or_default() += 1;
        }
        After::Deliver
    }

    fn event(&self, call: &Call, _: WatchEvent<'_>) -> Delivery {
        if self.is_cut(&call.user) {
            Delivery::Wait
        } else {
            Delivery::Deliver
        }
    }
}

/// When which replica is cut off, by chance.
fn cuts(seed: u64) -> Vec<(&'static str, Instant, Instant)> {
    let mut dice = Dice::new(seed);
    let mut below = |n: u64| dice.roll() % n;
    let mut at = Instant::now();
    (0..4)
        .map(|_| {
            at += Duration::from_secs(10 + below(60));
            let who = if below(3) == 0 {
                "replica-b"
            } else {
                "replica-a"
            };
            (who, at, at + Duration::from_secs(5 + below(50)))
        })
        .collect()
}

/// A release during which one replica or the other is cut off; what is wrong, and how many writes
/// each replica made.
async fn release(seed: u64, fenced: bool) -> (Vec<String>, BTreeMap<String, u64>) {
    let flow = Flow::named("canary");
    let mut world = World::new(seed, Options::default()).unwrap();
    world.cut_operator();
    let network = Arc::new(Network {
        server: world.server().clone(),
        cuts: cuts(seed),
        writes: Mutex::default(),
        wrong: Mutex::default(),
    });
    world.server().intercept(network.clone());
    for image in ["shop:1.0", "shop:1.1"] {
        world.set_behaviour(image, healthy());
    }
    for manifest in &flow.manifests {
        world.apply(manifest.clone()).unwrap();
    }
    let kit = Kit {
        server: world.server().clone(),
        clock: world.clock(),
        outside: world.outside(),
        settings: Settings {
            drain: flow.drain,
            ..Settings::default()
        },
        fenced,
    };
    let replicas = ["replica-a", "replica-b"].map(|name| tokio::spawn(replica(kit.clone(), name)));
    let limit = Duration::from_mins(30);
    let is = |phase: Phase| move |world: &World| world.phase("default", "shop") == phase;
    let mut wrong = Vec::new();
    if !world.run_until(is(Phase::Initialized), limit).await {
        wrong.push(format!("L1: {}", world.phase("default", "shop")));
    }
    world.run_for(Duration::from_secs(3)).await;
    world.traffic().open(Application {
        sticky: false,
        namespace: "default".to_owned(),
        host: "shop".to_owned(),
        requests_per_second: 12,
        special: Vec::new(),
    });
    world.run_for(Duration::from_secs(15)).await;
    let patch = json!({"spec": {"template": {"spec": {"containers": [{
        "name": "app", "image": "shop:1.1", "ports": [{"name": "http", "containerPort": 8080}],
    }]}}}});
    world
        .patch(("apps", "deployments"), ("default", "shop"), patch)
        .unwrap();
    if !world.run_until(is(Phase::Succeeded), limit).await {
        wrong.push(format!("L1: ends {}", world.phase("default", "shop")));
    }
    world.run_for(Duration::from_mins(1)).await;
    let dropped = world
        .traffic()
        .totals()
        .get("")
        .map_or(0, |totals| totals.dropped);
    if dropped > 0 {
        wrong.push(format!("T3: {dropped} requests dropped"));
    }
    for replica in replicas {
        replica.abort();
    }
    world.server().stop_intercepting();
    wrong.extend(
        network
            .wrong
            .lock()
            .unwrap()
            .iter()
            .map(|text| format!("O2: {text}")),
    );
    let writes = network.writes.lock().unwrap().clone();
    (wrong, writes)
}

#[test]
fn deposed_leader_writes_nothing_and_the_other_goes_on() {
    let mut both = 0;
    for seed in 1..=6 {
        let (wrong, writes) = run(|| release(seed, true)).unwrap();
        assert!(wrong.is_empty(), "seed {seed}: {wrong:#?}");
        both += usize::from(writes.len() == 2);
    }
    println!("6 releases, {both} of them by both replicas");
    assert!(both >= 2, "the lead hardly ever changed");
}

#[test]
fn replica_that_asks_no_election_is_noticed() {
    // Planted: an old leader that goes on (A#2117), no election by default (F13).
    let (wrong, _) = run(|| release(1, false)).unwrap();
    assert!(
        wrong.iter().any(|text| text.starts_with("O2")),
        "{wrong:#?}"
    );
}

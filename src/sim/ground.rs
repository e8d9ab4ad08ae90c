//! What a world is made of beside the operator: a cluster, its users, and what lies outside. It can
//! be copied at any moment, so that what comes to pass from there on can be tried many times.

use std::{
    sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    task::AbortHandle,
    time::{Instant, interval_at},
};

use super::{
    Acceptance, Dice, Scenario, Surroundings,
    behaviour::Behaviour,
    controllers::{Controllers, Shared},
    manifests,
    server::{ApiServer, Refusal},
    traffic::Traffic,
};
use crate::{api::crds, clock::Clock};

/// When every world begins: seconds since 1970.
const EPOCH: i64 = 1_767_225_600;

/// The cluster that every world begins with: it serves the custom resources and holds none. Made
/// once, because reading their schemas and rules takes longer than many a release.
static FOUNDED: LazyLock<Result<ApiServer, Refusal>> = LazyLock::new(|| {
    let epoch = epoch();
    let server = ApiServer::new(move || epoch);
    server.leave_untracked();
    let own = crds::crds().into_iter().map(serde_json::to_value);
    for definition in own.flatten().chain(manifests::definitions()) {
        server.install_crd(definition)?;
    }
    Ok(server)
});

fn epoch() -> Timestamp {
    Timestamp::from_second(EPOCH).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A clock by which the world began at this instant.
fn clock(start: Instant) -> Clock {
    Clock::Virtual {
        epoch: epoch(),
        start,
    }
}

/// A cluster, its users, and what lies outside.
///
/// INVARIANT: what they remember are times of the world, never instants of tokio's clock but for
/// the start; so a copy goes on in another runtime, whose clock began at another instant.
pub struct Ground {
    shared: Shared,
    start: Instant,
    surroundings: Arc<Surroundings>,
    traffic: Arc<Mutex<Traffic>>,
    controllers: Arc<Mutex<Controllers>>,
    scrape_seconds: u64,
}

/// A world as it was at one moment, but for its operator.
pub struct Moment {
    ground: Ground,
    elapsed: Duration,
}

impl Ground {
    /// An empty cluster, at the begin of time.
    ///
    /// # Errors
    /// When the definitions of the custom resources are not accepted.
    pub fn new(
        seed: u64,
        nodes: usize,
        acceptance: Acceptance,
        scenario: &Scenario,
    ) -> Result<Self, Refusal> {
        let start = Instant::now();
        let clock = clock(start);
        let server = FOUNDED.clone()?.copy(move || clock.now());
        let shared = Shared::new(server, clock);
        let mut dice = Dice::new(seed);
        let outside = scenario.outside.clone();
        let surroundings = Surroundings::new(shared.clone(), dice.roll(), outside);
        let dice = Dice::new(dice.roll());
        let traffic = Traffic::new(shared.clone(), dice, scenario.proxy_lag_seconds);
        let controllers = Controllers::new(shared.clone(), nodes, acceptance);
        Ok(Self {
            shared,
            start,
            surroundings: Arc::new(surroundings),
            traffic: Arc::new(Mutex::new(traffic)),
            controllers: Arc::new(Mutex::new(controllers)),
            scrape_seconds: scenario.scrape_seconds.max(1),
        })
    }

    /// The API server.
    pub fn server(&self) -> &ApiServer {
        &self.shared.server
    }

    /// The clock.
    pub fn clock(&self) -> Clock {
        self.shared.clock
    }

    /// Metrics servers, webhooks and chats.
    pub fn surroundings(&self) -> &Arc<Surroundings> {
        &self.surroundings
    }

    /// Users, proxies and pods.
    pub fn traffic(&self) -> MutexGuard<'_, Traffic> {
        lock(&self.traffic)
    }

    /// Time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Pods of this image behave so from now on.
    pub fn set_behaviour(&self, image: &str, behaviour: Behaviour) {
        lock(&self.shared.behaviours).insert(image.to_owned(), behaviour);
        self.traffic().look_again();
        self.shared.nudge.notify_one();
    }

    /// What is there now, to go on from later.
    pub fn keep(&self) -> Moment {
        Moment {
            ground: self.copy(self.start),
            elapsed: self.elapsed(),
        }
    }

    /// The same once more, in a time that began at `start`.
    fn copy(&self, start: Instant) -> Self {
        let shared = self.shared.copy(clock(start));
        let traffic = self.traffic();
        if traffic.is_stale() {
            // Controllers may not have heard yet that pods behave differently.
            shared.nudge.notify_one();
        }
        let traffic = traffic.copy(shared.clone());
        let controllers = lock(&self.controllers).copy(shared.clone());
        Self {
            surroundings: Arc::new(self.surroundings.copy(shared.clone())),
            traffic: Arc::new(Mutex::new(traffic)),
            controllers: Arc::new(Mutex::new(controllers)),
            shared,
            start,
            scrape_seconds: self.scrape_seconds,
        }
    }

    /// Has time pass for controllers and users.
    pub fn start(&self) -> Vec<AbortHandle> {
        let controllers = Controllers::run(Arc::clone(&self.controllers));
        let users = users(
            Arc::clone(&self.traffic),
            Arc::clone(&self.surroundings),
            self.start,
            self.scrape_seconds,
        );
        vec![
            tokio::spawn(controllers).abort_handle(),
            tokio::spawn(users).abort_handle(),
        ]
    }
}

impl Moment {
    /// What was there then. Call it first thing inside [`super::run`]: time jumps to that moment.
    pub async fn ground(&self) -> Ground {
        let start = Instant::now();
        tokio::time::advance(self.elapsed).await;
        self.ground.copy(start)
    }
}

/// Traffic each second, and scrapes.
async fn users(
    traffic: Arc<Mutex<Traffic>>,
    surroundings: Arc<Surroundings>,
    start: Instant,
    scrape_seconds: u64,
) {
    let passed = lock(&traffic).seconds();
    let next = start + Duration::from_secs(passed);
    let mut seconds = interval_at(next, Duration::from_secs(1));
    loop {
        seconds.tick().await;
        let loads = surroundings.loads();
        let mut traffic = lock(&traffic);
        let scrapes = traffic.seconds().is_multiple_of(scrape_seconds);
        traffic.set_loads(loads);
        traffic.tick();
        if scrapes {
            traffic.scrape();
        }
    }
}

/// A panic elsewhere leaves each of them whole.
fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A cluster with its users and the operator, on one virtual clock.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{Arc, MutexGuard},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;
use tokio::{
    sync::watch,
    task::AbortHandle,
    time::{Instant, sleep_until},
};

use super::{
    Ground, Moment, Scenario, Surroundings,
    behaviour::Behaviour,
    controllers::Acceptance,
    operator::{Gate, OPERATOR, Operator},
    server::{ApiServer, Object, PatchKind, Refusal},
    traffic::Traffic,
};
use crate::{
    api::{Canary, Phase},
    clock::Clock,
    controller::{Decider, rbac},
    measure::Outside,
    object::At,
    settings::Settings,
};

/// Where the operator runs.
const OWN_NAMESPACE: &str = "haldane";

/// How often a world is looked at while nothing is written.
const LOOK: Duration = Duration::from_secs(1);

/// What a world is like.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the operator is told at start.
    pub settings: Settings,
    /// Number of nodes.
    pub nodes: usize,
    /// What gateways say of routes.
    pub acceptance: Acceptance,
    /// What happens.
    pub scenario: Scenario,
    /// What decides: the product's own, unless tests are tested.
    pub decider: Decider,
    /// By how many seconds the clock of each next operator goes wrong, in turn.
    pub skew_seconds: Vec<i64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            settings: Settings::default(),
            nodes: 3,
            acceptance: Acceptance::default(),
            scenario: Scenario::default(),
            decider: Decider::default(),
            skew_seconds: Vec::new(),
        }
    }
}

/// A cluster with its users and the operator, on one virtual clock.
pub struct World {
    ground: Arc<Ground>,
    options: Options,
    gate: Arc<Gate>,
    /// Says when the gate cut the operator off.
    cut_off: watch::Receiver<u64>,
    operator: Option<Operator>,
    deposed: Vec<Operator>,
    lives: u64,
    tasks: Vec<AbortHandle>,
}

/// Runs a world to its end, on a clock that jumps whenever everybody waits.
///
/// # Errors
/// When the system gives no thread what a runtime needs.
pub fn run<F: Future>(world: impl FnOnce() -> F) -> std::io::Result<F::Output> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    Ok(runtime.block_on(async { world().await }))
}

impl World {
    /// A world with an empty cluster, in which the operator runs. Call it inside [`run`].
    ///
    /// # Errors
    /// When the definitions of the custom resources are not accepted.
    pub fn new(seed: u64, options: Options) -> Result<Self, Refusal> {
        let (nodes, acceptance) = (options.nodes, options.acceptance);
        let ground = Ground::new(seed, nodes, acceptance, &options.scenario)?;
        Ok(Self::on(ground, options, 0))
    }

    /// A world that goes on from a moment of another one, in which so many lives of the operator
    /// had begun and ended, with the next one. Call it first thing inside [`run`].
    pub async fn resume(moment: &Moment, options: Options, lives: u64) -> Self {
        Self::on(moment.ground().await, options, lives)
    }

    fn on(ground: Ground, options: Options, lives: u64) -> Self {
        let gate = Arc::new(Gate::default());
        ground.server().intercept(gate.clone());
        let tasks = ground.start();
        let mut world = Self {
            ground: Arc::new(ground),
            options,
            cut_off: gate.cut_off(),
            gate,
            operator: None,
            deposed: Vec::new(),
            lives,
            tasks,
        };
        world.start_operator();
        world
    }

    /// All of it but the operator.
    pub fn ground(&self) -> &Arc<Ground> {
        &self.ground
    }

    /// The API server.
    pub fn server(&self) -> &ApiServer {
        self.ground.server()
    }

    /// What stands between the operator and the server.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.gate
    }

    /// The clock.
    pub fn clock(&self) -> Clock {
        self.ground.clock()
    }

    /// Time since the world began.
    pub fn elapsed(&self) -> Duration {
        self.ground.elapsed()
    }

    /// Starts the operator, cutting off the one that runs.
    pub fn start_operator(&mut self) {
        if self.gate.take_deposed() {
            self.deposed.extend(self.operator.take());
        }
        self.cut_operator();
        let skews = &self.options.skew_seconds;
        let turn = usize::try_from(self.lives).unwrap_or_default();
        let skew = turn
            .checked_rem(skews.len())
            .and_then(|turn| skews.get(turn));
        let clock = self.ground.clock();
        let clock = skew.map_or(clock, |seconds| clock.skewed(*seconds));
        self.lives += 1;
        self.admit(&format!("{OPERATOR}{}", self.lives));
        self.operator = Some(Operator::start(
            self.ground.server(),
            self.lives,
            clock,
            (self.options.settings.clone(), self.options.decider.clone()),
            Arc::clone(self.ground.surroundings()) as Arc<dyn Outside>,
        ));
    }

    /// Gives a life of the operator what the chart's roles give it, and no more.
    fn admit(&self, user: &str) {
        let tracking = self.options.settings.config_tracking;
        let role = |rules| rbac::role(rules, tracking);
        self.ground.server().grant(user, &role(rbac::RULES), "");
        self.ground
            .server()
            .grant(user, &role(rbac::OWN_NAMESPACE), OWN_NAMESPACE);
        if let Some(limit) = self.options.scenario.api_limit() {
            self.ground.server().limit(user, limit);
        }
    }

    /// Ends the operator where it stands.
    pub fn cut_operator(&mut self) {
        if let Some(operator) = self.operator.take() {
            operator.cut(&self.gate);
        }
    }

    /// Metrics servers, webhooks and chats, as an operator calls them.
    pub fn outside(&self) -> Arc<dyn Outside> {
        Arc::clone(self.ground.surroundings()) as Arc<dyn Outside>
    }

    /// Metrics servers, webhooks and chats.
    pub fn surroundings(&self) -> &Surroundings {
        self.ground.surroundings()
    }

    /// Users, proxies and pods.
    pub fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.ground.traffic()
    }

    /// Pods of this image behave so from now on.
    pub fn set_behaviour(&self, image: &str, behaviour: Behaviour) {
        self.ground.set_behaviour(image, behaviour);
    }

    /// Creates or replaces an object, as a user does with kubectl.
    ///
    /// # Errors
    /// What the API server refuses.
    pub fn apply(&self, manifest: Value) -> Result<Arc<Object>, Refusal> {
        let namespace = manifest["metadata"]["namespace"]
            .as_str()
            .unwrap_or("default");
        self.ground.server().ensure_namespace(namespace);
        self.ground.server().put(manifest)
    }

    /// Changes an object by a merge patch, as a user does with kubectl.
    ///
    /// # Errors
    /// What the API server refuses.
    pub fn patch(
        &self,
        resource: (&str, &str),
        object: (&str, &str),
        patch: Value,
    ) -> Result<Arc<Object>, Refusal> {
        self.ground
            .server()
            .patch(resource, object, None, PatchKind::Merge, patch)
    }

    /// A Canary as it stands.
    pub fn canary(&self, namespace: &str, name: &str) -> Option<Canary> {
        let object = self
            .server()
            .get("flagger.app", "canaries", namespace, name)?;
        serde_json::from_value(object.value().clone()).ok()
    }

    /// The phase of a Canary; `New` when there is none.
    pub fn phase(&self, namespace: &str, name: &str) -> Phase {
        let object = self
            .ground
            .server()
            .get("flagger.app", "canaries", namespace, name);
        object
            .and_then(|canary| Phase::deserialize(canary.value().at("/status/phase")?).ok())
            .unwrap_or(Phase::New)
    }

    /// Messages of the Events about an object, in the order in which they were written.
    pub fn events(&self, namespace: &str, name: &str) -> Vec<String> {
        let told = self.told(namespace, name).into_iter();
        told.map(|(_, message)| message).collect()
    }

    /// Events about an object, in the order in which they were written: whether each is a warning,
    /// and its message.
    pub fn told(&self, namespace: &str, name: &str) -> Vec<(bool, String)> {
        let mut events: BTreeMap<u64, (bool, String)> = BTreeMap::new();
        for event in self.ground.server().list("", "events", namespace) {
            if let Some(told) = told(&event, namespace, name) {
                events.insert(event.revision(), told);
            }
        }
        events.into_values().collect()
    }

    /// Lets time pass until the predicate holds; whether it does within `limit`. The world is
    /// looked at after each write, and each second.
    pub async fn run_until(
        &mut self,
        mut predicate: impl FnMut(&Self) -> bool,
        limit: Duration,
    ) -> bool {
        let end = Instant::now() + limit;
        let mut revisions = self.ground.server().follow();
        loop {
            revisions.borrow_and_update();
            if predicate(self) {
                return true;
            }
            let now = Instant::now();
            if now >= end {
                return false;
            }
            tokio::select! {
                biased;
                _ = self.cut_off.changed() => self.start_operator(),
                _ = revisions.changed() => {}
                () = sleep_until(end.min(now + LOOK)) => {}
            }
        }
    }

    /// Lets time pass.
    pub async fn run_for(&mut self, time: Duration) {
        self.run_until(|_| false, time).await;
    }
}

/// What an Event about an object of this namespace and name tells: whether it is a warning, and its
/// message.
pub(super) fn told(event: &Object, namespace: &str, name: &str) -> Option<(bool, String)> {
    let body = event.value();
    let about = event.namespace() == namespace && body["involvedObject"]["name"] == name;
    let message = body["message"].as_str().unwrap_or_default();
    about.then(|| (body["type"] == "Warning", message.to_owned()))
}

impl Drop for World {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        self.cut_operator();
        for operator in self.deposed.drain(..) {
            operator.cut(&self.gate);
        }
        self.ground.server().stop_intercepting();
    }
}

//! One Canary at a time: observe → decide → apply → report.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use kube::Client;
use serde_json::Value;
use tokio::{sync::mpsc, task::AbortHandle, time::Instant};

use crate::{
    api::{
        Phase, Strategy,
        status::{CanaryStatus, Notice},
    },
    apply::{Applier, ApplyError, Fence},
    clock::Clock,
    decide::decide,
    measure::{self, Outside, Sharing, publish::Listeners},
    observe::{Cache, CanaryKey, CheckState, LookState, Memory, ObserveError, Observer, Snapshot},
    plan::{Check, Effect, LookRequest, Plan},
    settings::Settings,
    telemetry::metrics::{AnalysisStatus, Metrics, Reconciled},
};

use super::teller::{Teller, Telling};

/// How old an answer may be when it is judged. Older ones are asked for again.
const ANSWER_LIFE: Duration = Duration::from_mins(1);

/// Notices of a status that is older than this were told, or nobody wants to hear them now.
const NOTICE_LIFE: Duration = Duration::from_mins(10);

/// Decides: [`decide`] in every product; tests of tests put a wrong one in its place.
#[derive(Clone)]
pub struct Decider(Arc<dyn Fn(&Snapshot) -> Plan + Send + Sync>);

impl Decider {
    /// A decider of one's own.
    pub fn new(decider: impl Fn(&Snapshot) -> Plan + Send + Sync + 'static) -> Self {
        Self(Arc::new(decider))
    }
}

impl Default for Decider {
    fn default() -> Self {
        Self::new(decide)
    }
}

impl std::fmt::Debug for Decider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Decider")
    }
}

/// Everything that looking after Canaries needs.
pub struct Driver {
    decider: Decider,
    observer: Observer,
    applier: Applier,
    cache: Arc<Cache>,
    clock: Clock,
    outside: Arc<dyn Outside>,
    settings: Arc<Settings>,
    listeners: Arc<Listeners>,
    metrics: Arc<Metrics>,
    /// Canaries to look at again.
    again: mpsc::UnboundedSender<CanaryKey>,
    states: Mutex<BTreeMap<CanaryKey, Arc<Mutex<State>>>>,
    /// Bodies that were read for the last look. The next one is most often at the same Canary.
    bodies: Mutex<Vec<Arc<Value>>>,
}

/// What this process remembers about one Canary.
#[derive(Default)]
struct State {
    /// Identity of the Canary that this is about.
    uid: String,
    memory: Memory,
    answered: Option<Instant>,
    measuring: Option<(String, AbortHandle)>,
    looking: Option<AbortHandle>,
    teller: Option<Teller>,
    failures: u32,
    /// Whether this process knows the target as the server has it: it has read it, or met a new
    /// Canary. Watches may begin in the past, with pods that are gone.
    sure: bool,
}

impl Drop for State {
    fn drop(&mut self) {
        if let Some((_, measuring)) = self.measuring.take() {
            measuring.abort();
        }
        if let Some(looking) = self.looking.take() {
            looking.abort();
        }
    }
}

/// What the driver is built from.
pub struct Parts {
    /// The API server.
    pub client: Client,
    /// What the watches have seen.
    pub cache: Arc<Cache>,
    /// Where [`Cache`] and driver report Canaries to look at.
    pub again: mpsc::UnboundedSender<CanaryKey>,
    /// The time.
    pub clock: Clock,
    /// Metrics servers, webhooks and chats.
    pub outside: Arc<dyn Outside>,
    /// What decisions depend on.
    pub settings: Arc<Settings>,
    /// Who is told of every Canary.
    pub listeners: Arc<Listeners>,
    /// The operator's own metrics.
    pub metrics: Arc<Metrics>,
    /// Whether this process may write.
    pub fence: Fence,
    /// What decides.
    pub decider: Decider,
}

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Observe(#[from] ObserveError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

impl Driver {
    /// A driver of one cluster.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts {
            client,
            cache,
            again,
            clock,
            outside,
            settings,
            listeners,
            metrics,
            fence,
            decider,
        } = parts;
        Arc::new(Self {
            decider,
            observer: Observer::new(client.clone(), Arc::clone(&cache), Arc::clone(&settings)),
            applier: Applier::new(client, Arc::clone(&cache), fence, Arc::clone(&metrics)),
            cache,
            clock,
            outside: Arc::new(Sharing::new(outside)),
            settings,
            listeners,
            metrics,
            again,
            states: Mutex::default(),
            bodies: Mutex::default(),
        })
    }

    /// Looks at one Canary and does what is due; when to look again at the latest.
    pub async fn look(self: Arc<Self>, key: CanaryKey) -> Option<Instant> {
        let state = self.state(&key);
        let result = self.try_look(&key, &state).await;
        let mut state = lock(&state);
        match result {
            Ok((wake, came_to)) => {
                state.failures = 0;
                self.metrics.reconciled(came_to);
                wake
            }
            Err(error) => {
                let conflict = matches!(&error, LookError::Apply(error) if error.is_conflict());
                let canary = format!("{}.{}", key.name, key.namespace);
                if conflict {
                    tracing::debug!(canary, %error, "changed meanwhile, looking again");
                } else {
                    tracing::warn!(canary, %error, "trying again");
                }
                self.metrics.reconciled(if conflict {
                    Reconciled::Conflict
                } else {
                    Reconciled::Failed
                });
                state.failures = state.failures.saturating_add(1);
                Some(Instant::now() + backoff(state.failures))
            }
        }
    }

    async fn try_look(
        self: &Arc<Self>,
        key: &CanaryKey,
        state: &Arc<Mutex<State>>,
    ) -> Result<(Option<Instant>, Reconciled), LookError> {
        let memory = {
            let mut state = lock(state);
            state.drop_old_answers();
            state.memory.clone()
        };
        let started = Instant::now();
        let now = self.clock.now();
        let Some(snapshot) = self.observer.observe(key, &memory, now).await? else {
            self.forget(key);
            return Ok((None, Reconciled::Unchanged));
        };
        let mut snapshot = Arc::new(snapshot);
        if self.meet(&snapshot, state) {
            // What was remembered was about another Canary of this name.
            let snapshot = Arc::make_mut(&mut snapshot);
            snapshot.checks.clear();
            snapshot.look = None;
            snapshot.quiet_since = None;
        }
        *lock(&self.bodies) = snapshot.bodies();
        let plan = (self.decider.0)(&snapshot);
        {
            let mut state = lock(state);
            let since = state.memory.quiet_since.unwrap_or(now);
            state.memory.quiet_since = plan.quiet.then_some(since);
            state.memory.ready_since.clone_from(&snapshot.ready_since);
            let status = plan.status.as_ref().or(snapshot.canary.status.as_ref());
            if !status.is_some_and(|status| status.phase.is_analysed()) {
                // Counters are many, and the next release counts from its own begin.
                state.memory.look = None;
            }
        }
        if let Some(status) = &plan.status {
            let persist = async {
                let target = snapshot.target().is_some();
                if !target || changes_revision(&snapshot, status) || !lock(state).sure {
                    self.applier.confirm_target(&snapshot).await?;
                    lock(state).sure = true;
                }
                if replaces_release(&snapshot, status) {
                    self.applier.confirm_configs(&snapshot).await?;
                }
                if leaves_route_api(&snapshot, status) {
                    self.applier.confirm_routes(&snapshot).await?;
                }
                if let Some(workload) = &plan.unready {
                    self.applier.confirm_unready(&snapshot, workload).await?;
                }
                if plan.unserved {
                    self.applier.confirm_unserved(&snapshot).await?;
                }
                self.applier.write_status(&snapshot, status).await
            };
            // Requests are large, and most looks make none: they are not part of each look.
            Box::pin(persist).await?;
            self.report_end(key, &snapshot, status.phase);
        }
        self.tell(&snapshot, &plan, now, state);
        let carried_out = if plan.writes() > 0 {
            let carry_out = async {
                self.applier.confirm(&snapshot, &plan).await?;
                self.applier.carry_out(&plan).await
            };
            Box::pin(carry_out).await
        } else {
            Ok(())
        };
        // Measuring depends on no write: questions are asked also while the API server balks.
        for effect in &plan.effects {
            match effect {
                Effect::Measure(check) => self.measure(key, check, state),
                Effect::Look(request) => self.read_counters(key, request, state),
                Effect::Create { .. } | Effect::Patch { .. } | Effect::CopyConfig(_) => {}
            }
        }
        self.report(key, &snapshot, &plan, started.elapsed());
        carried_out?;
        let came_to = if plan.status.is_none() && plan.effects.is_empty() {
            Reconciled::Unchanged
        } else {
            Reconciled::Applied
        };
        Ok((plan.wake.map(|time| self.clock.instant(time)), came_to))
    }

    /// Whether this is another Canary than the one that was remembered under its name. Notices
    /// that a process before this one may not have told are told.
    fn meet(self: &Arc<Self>, s: &Arc<Snapshot>, state: &Arc<Mutex<State>>) -> bool {
        let uid = s.canary.metadata.uid.clone().unwrap_or_default();
        let mut held = lock(state);
        if held.uid == uid {
            return false;
        }
        *held = State::default();
        held.uid = uid;
        held.sure = s.canary.status.is_none();
        drop(held);
        if let Some(status) = &s.canary.status
            && let (Some(notices), Some(time)) = (&status.notices, status.last_transition_time)
            && s.now.duration_since(time).unsigned_abs() < NOTICE_LIFE
        {
            self.tell_all(s, notices, status.phase, time, true, state);
        }
        true
    }

    fn tell(
        self: &Arc<Self>,
        s: &Arc<Snapshot>,
        plan: &Plan,
        now: Timestamp,
        state: &Arc<Mutex<State>>,
    ) {
        let status = plan.status.as_ref().or(s.canary.status.as_ref());
        let phase = status.map_or(Phase::New, |status| status.phase);
        // What a process after this one would take the time of these notices to be.
        let time = plan
            .status
            .as_ref()
            .and_then(|next| next.last_transition_time);
        let now = time.unwrap_or(now);
        let mut s = Arc::clone(s);
        if let Some(status) = &plan.status
            && !plan.notices.is_empty()
        {
            // Who is told hears of the revision that the notices are about.
            let canary = Arc::make_mut(&mut Arc::make_mut(&mut s).canary);
            canary.status = Some(status.clone());
        }
        self.tell_all(&s, &plan.notices, phase, now, false, state);
    }

    fn tell_all(
        self: &Arc<Self>,
        s: &Arc<Snapshot>,
        notices: &[Notice],
        phase: Phase,
        time: Timestamp,
        again: bool,
        state: &Arc<Mutex<State>>,
    ) {
        if notices.is_empty() {
            return;
        }
        let mut state = lock(state);
        let teller = state.teller.get_or_insert_with(|| {
            Teller::start(
                self.applier.clone(),
                Arc::clone(&self.outside),
                Arc::clone(&self.settings),
                Arc::clone(&self.listeners),
            )
        });
        for (index, notice) in notices.iter().enumerate() {
            teller.tell(Telling {
                canary: Arc::clone(&s.canary),
                providers: Arc::clone(&s.providers),
                notice: notice.clone(),
                phase,
                time,
                index,
                again,
            });
        }
    }

    /// Asks the questions of a check beside everything else: a server that hangs delays its own
    /// answer and nothing more.
    fn measure(self: &Arc<Self>, key: &CanaryKey, check: &Check, state: &Arc<Mutex<State>>) {
        let mut held = lock(state);
        if held.memory.checks.contains_key(&check.id) {
            return;
        }
        if let Some((_, before)) = held.measuring.take() {
            before.abort();
        }
        held.memory.checks = BTreeMap::from([(check.id.clone(), CheckState::Pending)]);
        let task = {
            let driver = Arc::clone(self);
            let (key, check) = (key.clone(), check.clone());
            let state = Arc::downgrade(state);
            async move {
                let started = Instant::now();
                let now = driver.clock.now();
                let answer = measure::run(&check, &*driver.outside, now).await;
                driver.metrics.check_took(started.elapsed());
                let Some(state) = state.upgrade() else { return };
                let mut state = lock(&state);
                if let Some(pending) = state.memory.checks.get_mut(&check.id) {
                    *pending = CheckState::Done(Arc::new(answer));
                    state.answered = Some(Instant::now());
                    state.measuring = None;
                    drop(state);
                    // The queue lives as long as the driver does.
                    let _ = driver.again.send(key);
                }
            }
        };
        held.measuring = Some((check.id.clone(), tokio::spawn(task).abort_handle()));
    }

    /// Reads the judge's counters beside everything else, as [`Self::measure`] does.
    fn read_counters(
        self: &Arc<Self>,
        key: &CanaryKey,
        request: &LookRequest,
        state: &Arc<Mutex<State>>,
    ) {
        let mut held = lock(state);
        let asked = Arc::new(LookState {
            request: request.clone(),
            answer: None,
        });
        held.memory.look = Some(Arc::clone(&asked));
        let task = {
            let driver = Arc::clone(self);
            let key = key.clone();
            let state = Arc::downgrade(state);
            async move {
                let started = Instant::now();
                let answer = measure::look::look(&asked.request, &*driver.outside).await;
                driver.metrics.check_took(started.elapsed());
                let Some(state) = state.upgrade() else { return };
                let mut state = lock(&state);
                if let Some(pending) = &mut state.memory.look
                    && Arc::ptr_eq(pending, &asked)
                {
                    // Not changed in place: who looks at it now keeps what it saw.
                    *pending = Arc::new(LookState {
                        request: asked.request.clone(),
                        answer: Some(answer),
                    });
                    state.looking = None;
                    drop(state);
                    let _ = driver.again.send(key);
                }
            }
        };
        let looking = tokio::spawn(task).abort_handle();
        if let Some(before) = held.looking.replace(looking) {
            before.abort();
        }
    }

    fn report(&self, key: &CanaryKey, s: &Snapshot, plan: &Plan, took: Duration) {
        let Some(status) = plan.status.as_ref().or(s.canary.status.as_ref()) else {
            return;
        };
        let target = &s.canary.spec.target_ref.name;
        self.metrics.set_phase(key, target, status.phase);
        self.metrics
            .set_weight(key, target, status.canary_weight.clamp(0, 100));
        self.metrics.observe_duration(key, target, took);
        self.metrics.judged(key, target, status.judge.as_ref());
        for metric in status.metrics.iter().flatten() {
            if let Some(value) = metric.value {
                self.metrics.metric_value(key, target, &metric.name, value);
            }
        }
    }

    /// Counts a release that just ended.
    fn report_end(&self, key: &CanaryKey, s: &Snapshot, phase: Phase) {
        let before = s.canary.status.as_ref().map_or(Phase::New, |st| st.phase);
        let target = &s.canary.spec.target_ref.name;
        let strategy: Strategy = s.canary.spec.analysis.strategy();
        let analysis = if s.canary.spec.skip_analysis.unwrap_or_default() {
            AnalysisStatus::Skipped
        } else {
            AnalysisStatus::Completed
        };
        match (before, phase) {
            (Phase::Finalising, Phase::Succeeded) => {
                self.metrics.succeeded(key, target, strategy, analysis);
            }
            (before, Phase::Failed) if before != Phase::Failed => {
                self.metrics.failed(key, target, strategy, analysis);
            }
            _ => {}
        }
    }

    fn forget(&self, key: &CanaryKey) {
        self.lock_states().remove(key);
        self.metrics.forget(key);
        self.cache.forget(key);
    }

    fn state(&self, key: &CanaryKey) -> Arc<Mutex<State>> {
        Arc::clone(self.lock_states().entry(key.clone()).or_default())
    }

    fn lock_states(&self) -> MutexGuard<'_, BTreeMap<CanaryKey, Arc<Mutex<State>>>> {
        lock(&self.states)
    }
}

impl State {
    fn drop_old_answers(&mut self) {
        if self.answered.is_some_and(|at| at.elapsed() > ANSWER_LIFE) {
            self.memory.checks.clear();
            self.answered = None;
        }
    }
}

/// Whether a release of another revision begins, or is taken back.
fn changes_revision(s: &Snapshot, next: &CanaryStatus) -> bool {
    let before = s.canary.status.as_ref();
    let before = before.and_then(|status| status.last_applied_spec.as_ref());
    before.is_some() && before != next.last_applied_spec.as_ref()
}

/// Whether a release under way is taken back, or gives way to that of another revision or configs.
fn replaces_release(s: &Snapshot, next: &CanaryStatus) -> bool {
    s.canary.status.as_ref().is_some_and(|before| {
        before.run_time.is_some()
            && (before.last_applied_spec != next.last_applied_spec
                || before.tracked_configs != next.tracked_configs)
    })
}

/// Whether users are off the canary by the route API of the last release, and another one counts.
fn leaves_route_api(s: &Snapshot, next: &CanaryStatus) -> bool {
    let before = s.canary.status.as_ref();
    next.provider.is_none() && before.is_some_and(|status| status.provider.is_some())
}

/// A panic in one Canary leaves its memory as the last complete change made it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Time until the next try: half a second, doubled with each failure, at most half a minute.
fn backoff(failures: u32) -> Duration {
    Duration::from_millis(250)
        .saturating_mul(1 << failures.min(10))
        .min(Duration::from_secs(30))
}

//! What can be seen of a release, written down second by second.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    World,
    crash::EndState,
    operator::OPERATOR,
    released::Target,
    rollout::{Release, Verdict},
    server::{Action, Call, Object},
    traffic::{Impression, Totals},
    world,
};
use crate::api::{CanaryStatus, Phase, status::MetricStatus};

/// What can be seen at one second.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Frame {
    /// Since the release.
    #[serde(skip)]
    pub at: Duration,
    /// Stage of the release.
    pub phase: Phase,
    /// Share of traffic, in percent, that the canary is to have.
    pub weight: i32,
    /// Steps taken.
    pub step: i32,
    /// What a check found, by metric, in the frame in which it became known; else empty.
    pub checks: Vec<MetricStatus>,
    /// What users saw of the old version.
    pub stable: Option<Impression>,
    /// What users saw of the new version.
    pub release: Option<Impression>,
    /// What the operator told since the frame before.
    pub events: Vec<Told>,
    /// What became of requests since the release.
    pub totals: Totals,
}

/// An Event of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    /// Seconds since the release.
    pub at_seconds: u64,
    /// Whether it is a warning.
    pub warning: bool,
    /// The text.
    pub message: String,
}

/// A release, from its begin to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Recording {
    /// Second by second.
    pub frames: Vec<Frame>,
    /// How it ended.
    pub verdict: Verdict,
    /// Figures about it.
    pub figures: Figures,
    /// What the operator wrote, from the beginning of the world.
    pub writes: Vec<Call>,
    /// What the world came to.
    pub end: EndState,
    /// How often the API server refused a request, by HTTP status.
    pub refusals: BTreeMap<u16, u64>,
}

/// Figures about a release.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    /// From the release to its end, in seconds.
    pub seconds: u64,
    /// From the first request to the new version until a rollback took all traffic from it.
    pub seconds_until_rollback: Option<u64>,
    /// Requests that were answered well.
    pub served: u64,
    /// Requests that were answered with an error.
    pub failed: u64,
    /// Requests that reached no pod.
    pub dropped: u64,
    /// Requests of the operator to the API server.
    pub api_requests: u64,
    /// Those that write.
    pub api_writes: u64,
    /// Queries to the metrics server.
    pub metric_queries: u64,
    /// Why the release halted last, in the operator's words.
    pub reason: Option<String>,
    /// Requests by the cookie that they carried, and by the image that answered; empty without
    /// session affinity.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub cookies: BTreeMap<String, BTreeMap<String, u64>>,
}

/// What tells one check from the next: steps, iterations and failed checks.
type Checked = (Option<i32>, i32, i32);

/// Writes down what can be seen.
pub struct Recorder<'a> {
    release: &'a Release,
    target: &'a Target,
    started: Duration,
    frames: Vec<Frame>,
    told: Vec<Told>,
    /// The API server's revision at the last look.
    seen: u64,
    canary: Option<Arc<Object>>,
    status: CanaryStatus,
    before: Totals,
    queries: u64,
    calls: usize,
    checked: (Checked, Vec<MetricStatus>),
}

impl<'a> Recorder<'a> {
    /// A recorder of a release that begins now.
    pub fn new(world: &World, release: &'a Release, target: &'a Target) -> Self {
        Self {
            release,
            target,
            started: world.elapsed(),
            frames: Vec::new(),
            told: Vec::new(),
            seen: world.server().revision(),
            canary: None,
            status: CanaryStatus::default(),
            before: sum(world),
            queries: world.surroundings().queries(),
            calls: world.server().calls().len(),
            checked: Default::default(),
        }
    }

    /// Time since the release.
    pub fn since(&self, world: &World) -> Duration {
        world.elapsed().saturating_sub(self.started)
    }

    /// Writes down what the scenario does.
    pub fn note(&mut self, world: &World, message: String) {
        self.told.push(Told {
            at_seconds: self.since(world).as_secs(),
            warning: false,
            message,
        });
    }

    /// The step that the release had reached at the last frame.
    pub fn step(&self) -> u32 {
        let step = self.frames.last().map_or(0, |frame| frame.step);
        u32::try_from(step).unwrap_or_default()
    }

    /// Looks at the world, and makes a frame when a second has passed since the last one.
    pub fn look(&mut self, world: &World) {
        let at = self.since(world);
        self.listen(world, at);
        let due = self
            .frames
            .last()
            .is_none_or(|last| at >= last.at + Duration::from_secs(1));
        if !due {
            return;
        }
        let checks = self.read(world);
        let traffic = world.traffic();
        let (stable, release) = (
            traffic.impression(&self.target.image),
            traffic.impression(&self.target.next_image),
        );
        drop(traffic);
        self.frames.push(Frame {
            at: Duration::from_secs(at.as_secs()),
            phase: self.status.phase,
            weight: self.status.canary_weight,
            step: self.status.step.unwrap_or_default(),
            checks,
            stable,
            release,
            events: std::mem::take(&mut self.told),
            totals: self.totals(world),
        });
    }

    /// Takes note of what the operator told since the last look.
    fn listen(&mut self, world: &World, at: Duration) {
        let (server, release) = (world.server(), self.release);
        let revision = server.revision();
        if revision == self.seen {
            return;
        }
        for change in server.changes_since(self.seen) {
            let about_events = change.resource.plural == "events" && change.action == Action::Added;
            if about_events
                && let Some(told) = world::told(&change.object, &release.namespace, &release.canary)
            {
                self.told.push(Told {
                    at_seconds: at.as_secs(),
                    warning: told.0,
                    message: told.1,
                });
            }
        }
        self.seen = revision;
    }

    /// Reads the status if it changed; what checks found, when that is new.
    fn read(&mut self, world: &World) -> Vec<MetricStatus> {
        let (namespace, name) = (&self.release.namespace, &self.release.canary);
        let object = world
            .server()
            .get("flagger.app", "canaries", namespace, name);
        let version = |object: &Option<Arc<Object>>| object.as_ref().map(Arc::as_ptr);
        if version(&object) == version(&self.canary) {
            return Vec::new();
        }
        let read = object
            .as_ref()
            .and_then(|canary| CanaryStatus::deserialize(canary.value().get("status")?).ok());
        self.status = read.unwrap_or_default();
        self.canary = object;
        let status = &self.status;
        let metrics = status.metrics.clone().unwrap_or_default();
        let counts = (status.step, status.iterations, status.failed_checks);
        let checked = (counts, metrics);
        let fresh = checked != self.checked && !checked.1.is_empty();
        let checks = if fresh { checked.1.clone() } else { Vec::new() };
        self.checked = checked;
        checks
    }

    /// What became of requests since the release.
    fn totals(&self, world: &World) -> Totals {
        let now = sum(world);
        Totals {
            served: now.served - self.before.served,
            failed: now.failed - self.before.failed,
            dropped: now.dropped - self.before.dropped,
        }
    }

    /// All that was seen, when the release took so many seconds.
    pub fn end(mut self, world: &World, verdict: Verdict, seconds: u64) -> Recording {
        if let Some(last) = self.frames.last_mut() {
            last.events.append(&mut self.told);
        }
        let totals = self.totals(world);
        let calls = world.server().calls();
        let own = || {
            calls
                .iter()
                .skip(self.calls)
                .filter(|call| call.user.starts_with(OPERATOR))
        };
        let exposed = self.frames.iter().find(|frame| frame.release.is_some());
        let returned = exposed.and_then(|exposed| {
            self.frames
                .iter()
                .find(|frame| frame.at > exposed.at && frame.weight == 0)
        });
        let until = exposed
            .zip(returned)
            .filter(|_| verdict == Verdict::RolledBack)
            .map(|(exposed, returned)| returned.at.saturating_sub(exposed.at).as_secs());
        let status = world
            .canary(&self.release.namespace, &self.release.canary)
            .and_then(|canary| canary.status);
        let figures = Figures {
            seconds,
            seconds_until_rollback: until,
            served: totals.served,
            failed: totals.failed,
            dropped: totals.dropped,
            api_requests: own().count() as u64,
            api_writes: own().filter(|call| call.verb.writes()).count() as u64,
            metric_queries: world.surroundings().queries() - self.queries,
            reason: status.and_then(|status| status.halt_reason),
            cookies: world.traffic().cookies().clone(),
        };
        Recording {
            frames: self.frames,
            verdict,
            figures,
            writes: world.gate().writes(),
            end: EndState::of(world.server()),
            refusals: world.server().refusals(),
        }
    }
}

fn sum(world: &World) -> Totals {
    let mut sum = Totals::default();
    for totals in world.traffic().totals().values() {
        sum.served += totals.served;
        sum.failed += totals.failed;
        sum.dropped += totals.dropped;
    }
    sum
}

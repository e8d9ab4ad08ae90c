//! One release in a world of its own, recorded second by second.

use std::{collections::BTreeMap, time::Duration};

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Options, Scenario, World,
    crash::EndState,
    operator::{Cut, OPERATOR},
    server::{Call, Refusal},
    traffic::{Application, Impression, Totals},
    weather::Weather,
};
use crate::{
    api::{Canary, Phase, TargetKind, status::MetricStatus},
    route::istio::eval::Request,
};

/// How long a workload may take until its first version serves.
const BOOT_LIMIT: Duration = Duration::from_mins(30);

/// How long users are there before the release, so that there are metrics.
const WARM_UP: Duration = Duration::from_secs(15);

/// How long the world usually goes on after the end.
const AFTERMATH: Duration = Duration::from_secs(15);

/// What is released, and how long it may take.
#[derive(Clone, Debug)]
pub struct Release {
    /// Manifests in the order in which they are applied.
    pub manifests: Vec<Value>,
    /// Namespace of the Canary.
    pub namespace: String,
    /// Name of the Canary.
    pub canary: String,
    /// What the world is like.
    pub options: Options,
    /// Seed of all chance.
    pub seed: u64,
    /// How long the release may take.
    pub limit: Duration,
    /// How long the world goes on after the end.
    pub aftermath: Duration,
    /// Where the operator is cut off, and started anew.
    pub cut: Option<Cut>,
}

impl Release {
    /// A release of one Canary, six hours at most.
    pub fn new(
        manifests: Vec<Value>,
        (namespace, canary): (&str, &str),
        scenario: Scenario,
    ) -> Self {
        Self {
            manifests,
            namespace: namespace.to_owned(),
            canary: canary.to_owned(),
            options: Options {
                scenario,
                ..Options::default()
            },
            seed: 1,
            limit: Duration::from_hours(6),
            aftermath: AFTERMATH,
            cut: None,
        }
    }
}

/// Why a release could not be tried.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// A manifest was refused.
    #[error("{object}: the API server refuses it: {reason}")]
    Refused {
        /// Kind and name.
        object: String,
        /// Why.
        reason: String,
    },
    /// The Canary is not among the manifests, or cannot be read.
    #[error("Canary {0} cannot be read")]
    NoCanary(String),
    /// The Canary releases what is not in the manifests.
    #[error("Canary {canary} releases {target}, which is not in the files; add its manifest")]
    NoTarget {
        /// The Canary.
        canary: String,
        /// Kind and name.
        target: String,
    },
    /// The Canary releases something without pods.
    #[error(
        "Canary {0} releases a Service: name a Deployment or DaemonSet, whose pods can run here"
    )]
    NoPods(String),
    /// The first version did not come up.
    #[error("Canary {canary} does not get ready: {reason}")]
    NotReady {
        /// The Canary.
        canary: String,
        /// What it waits for.
        reason: String,
    },
    /// No runtime.
    #[error("cannot start: {0}")]
    Runtime(#[from] std::io::Error),
}

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// The new version serves all users.
    Promoted,
    /// The old version serves all users.
    RolledBack,
    /// Neither, within the limit.
    Undecided,
}

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

/// Tries a release.
///
/// # Errors
/// When the manifests do not make a release that can begin.
pub fn perform(release: &Release) -> Result<Recording, RolloutError> {
    super::run(|| record(release))?
}

async fn record(release: &Release) -> Result<Recording, RolloutError> {
    let refused = |object: String| {
        move |refusal: Refusal| RolloutError::Refused {
            object,
            reason: refusal.details.message.clone(),
        }
    };
    let mut world = World::new(release.seed, release.options.clone())
        .map_err(refused("the definitions".to_owned()))?;
    if let Some(cut) = release.cut {
        world.gate().cut_at(cut);
    }
    for manifest in &release.manifests {
        let text = |path: &str| manifest.pointer(path).and_then(Value::as_str);
        let object = format!(
            "{} {}",
            text("/kind").unwrap_or_default(),
            text("/metadata/name").unwrap_or_default()
        );
        world.apply(manifest.clone()).map_err(refused(object))?;
    }
    let target = Target::of(&world, release)?;
    let scenario = &release.options.scenario;
    world.set_behaviour(&target.image, scenario.stable.clone());
    world.set_behaviour(&target.next_image, scenario.release.clone());
    boot(&mut world, release).await?;
    let application = Application {
        namespace: release.namespace.clone(),
        host: target.host.clone(),
        requests_per_second: scenario.requests_per_second,
        special: target.special.clone(),
        sticky: target.sticky,
    };
    world.traffic().open(application);
    world.run_for(WARM_UP).await;

    let mut recorder = Recorder::new(&world, release, &target);
    world.surroundings().begin();
    target
        .release(&world, release)
        .map_err(refused("the new version".to_owned()))?;
    let over = |world: &World| ends(world, release);
    let mut weather = Weather::new(release, &target);
    world
        .run_until(
            |world| {
                recorder.look(world);
                weather.change(world, &mut recorder);
                weather.fault.is_some() || over(world).is_some()
            },
            release.limit,
        )
        .await;
    let verdict = over(&world).unwrap_or(Verdict::Undecided);
    let seconds = recorder.since(&world).as_secs();
    world
        .run_until(
            |world| {
                recorder.look(world);
                weather.change(world, &mut recorder);
                false
            },
            release.aftermath,
        )
        .await;
    if let Some(fault) = weather.fault {
        return Err(fault);
    }
    Ok(recorder.end(&world, verdict, seconds))
}

/// Waits until the first version serves.
async fn boot(world: &mut World, release: &Release) -> Result<(), RolloutError> {
    let ready =
        |world: &World| world.phase(&release.namespace, &release.canary) == Phase::Initialized;
    if world.run_until(ready, BOOT_LIMIT).await {
        return Ok(());
    }
    let conditions = world
        .canary(&release.namespace, &release.canary)
        .and_then(|canary| canary.status?.conditions)
        .unwrap_or_default();
    let told = world.events(&release.namespace, &release.canary);
    let reason = conditions
        .into_iter()
        .filter_map(|condition| condition.message)
        .next_back()
        .or_else(|| told.last().cloned())
        .unwrap_or_else(|| "the operator says nothing".to_owned());
    Err(RolloutError::NotReady {
        canary: release.canary.clone(),
        reason,
    })
}

fn ends(world: &World, release: &Release) -> Option<Verdict> {
    match world.phase(&release.namespace, &release.canary) {
        Phase::Succeeded => Some(Verdict::Promoted),
        Phase::Failed => Some(Verdict::RolledBack),
        Phase::New
        | Phase::Initializing
        | Phase::Initialized
        | Phase::Waiting
        | Phase::Progressing
        | Phase::WaitingPromotion
        | Phase::Promoting
        | Phase::Finalising
        | Phase::Terminating
        | Phase::Terminated => None,
    }
}

/// The workload that is released.
pub(super) struct Target {
    plural: &'static str,
    /// Its name.
    pub name: String,
    /// The image of the version that runs at the start.
    pub image: String,
    /// The image of the version that is released.
    pub next_image: String,
    host: String,
    special: Vec<(f64, Request)>,
    sticky: bool,
}

impl Target {
    fn of(world: &World, release: &Release) -> Result<Self, RolloutError> {
        let canary: Canary = world
            .canary(&release.namespace, &release.canary)
            .ok_or_else(|| RolloutError::NoCanary(release.canary.clone()))?;
        let reference = &canary.spec.target_ref;
        let plural = match reference.kind {
            TargetKind::Deployment => "deployments",
            TargetKind::DaemonSet => "daemonsets",
            TargetKind::Service => return Err(RolloutError::NoPods(release.canary.clone())),
        };
        let object = world
            .server()
            .get("apps", plural, &release.namespace, &reference.name);
        let object = object.ok_or_else(|| RolloutError::NoTarget {
            canary: release.canary.clone(),
            target: format!("{} {}", reference.kind.as_str(), reference.name),
        })?;
        let container = &object.value()["spec"]["template"]["spec"]["containers"][0];
        let image = container["image"].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            plural,
            name: reference.name.clone(),
            next_image: next_image(&image),
            image,
            host: canary.spec.apex_name().to_owned(),
            special: super::users::chosen(&canary),
            sticky: canary.spec.analysis.session_affinity.is_some(),
        })
    }

    fn release(&self, world: &World, release: &Release) -> Result<(), Refusal> {
        let object = world
            .server()
            .get("apps", self.plural, &release.namespace, &self.name);
        let Some(object) = object else { return Ok(()) };
        let mut containers = object.value()["spec"]["template"]["spec"]["containers"].clone();
        if let Some(first) = containers.get_mut(0) {
            first["image"] = json!(self.next_image);
        }
        world
            .patch(
                ("apps", self.plural),
                (&release.namespace, &self.name),
                json!({"spec": {"template": {"spec": {"containers": containers}}}}),
            )
            .map(drop)
    }
}

/// An image with the tag of a new version: the last number is one more, or `-next` is appended.
fn next_image(image: &str) -> String {
    let digits = image.len() - image.bytes().rev().take_while(u8::is_ascii_digit).count();
    let (start, number) = image.split_at(digits);
    match number.parse::<u64>() {
        Ok(number) if start.contains(':') && !image.contains('@') => {
            format!("{start}{}", number.saturating_add(1))
        }
        _ if image.contains(':') && !image.contains('@') => format!("{image}-next"),
        _ => format!("{}:next", image.split('@').next().unwrap_or(image)),
    }
}

/// What tells one check from the next: steps, iterations and failed checks.
type Checked = (Option<i32>, i32, i32);

/// Writes down what can be seen.
pub(super) struct Recorder<'a> {
    release: &'a Release,
    target: &'a Target,
    started: Duration,
    /// What was seen so far.
    pub frames: Vec<Frame>,
    told: Vec<Told>,
    seen: usize,
    before: Totals,
    queries: u64,
    calls: usize,
    checked: (Checked, Vec<MetricStatus>),
}

impl<'a> Recorder<'a> {
    fn new(world: &World, release: &'a Release, target: &'a Target) -> Self {
        Self {
            release,
            target,
            started: world.elapsed(),
            frames: Vec::new(),
            told: Vec::new(),
            seen: world.events(&release.namespace, &release.canary).len(),
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

    fn look(&mut self, world: &World) {
        let at = self.since(world);
        let all = world.told(&self.release.namespace, &self.release.canary);
        for (warning, message) in all.iter().skip(self.seen) {
            self.told.push(Told {
                at_seconds: at.as_secs(),
                warning: *warning,
                message: message.clone(),
            });
        }
        self.seen = self.seen.max(all.len());
        let due = self
            .frames
            .last()
            .is_none_or(|last| at >= last.at + Duration::from_secs(1));
        if !due {
            return;
        }
        let status = world
            .canary(&self.release.namespace, &self.release.canary)
            .and_then(|canary| canary.status)
            .unwrap_or_default();
        let metrics = status.metrics.clone().unwrap_or_default();
        let counts = (status.step, status.iterations, status.failed_checks);
        let checked = (counts, metrics);
        let fresh = checked != self.checked && !checked.1.is_empty();
        let checks = if fresh { checked.1.clone() } else { Vec::new() };
        self.checked = checked;
        let traffic = world.traffic();
        let (stable, release) = (
            traffic.impression(&self.target.image),
            traffic.impression(&self.target.next_image),
        );
        drop(traffic);
        self.frames.push(Frame {
            at: Duration::from_secs(at.as_secs()),
            phase: status.phase,
            weight: status.canary_weight,
            step: status.step.unwrap_or_default(),
            checks,
            stable,
            release,
            events: std::mem::take(&mut self.told),
            totals: self.totals(world),
        });
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

    fn end(mut self, world: &World, verdict: Verdict, seconds: u64) -> Recording {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn next_image_has_another_tag() {
        for (image, next) in [
            ("shop:1.0", "shop:1.1"),
            ("ghcr.io/a/b:6.0.9", "ghcr.io/a/b:6.0.10"),
            ("a/b:v2", "a/b:v3"),
            ("a/b:latest", "a/b:latest-next"),
            ("a/b", "a/b:next"),
            ("a/b2", "a/b2:next"),
            ("a/b@sha256:12", "a/b:next"),
        ] {
            assert_eq!(next_image(image), next);
        }
    }
}

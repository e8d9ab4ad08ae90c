//! One release in a world of its own, recorded second by second.

use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

pub use super::recorder::{Figures, Frame, Recording, Told};
use super::{
    Options, Scenario, World, operator::Cut, recorder::Recorder, released::Target, server::Refusal,
    traffic::Application, weather::Weather,
};
use crate::api::Phase;

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

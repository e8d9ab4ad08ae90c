//! Tells what happened, in order, beside everything else.

use std::{collections::BTreeMap, sync::Arc};

use backon::{ExponentialBuilder, Retryable};
use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::{
    api::{AlertProvider, Canary, Phase, status::Notice},
    apply::{Applier, Told, event},
    measure::{
        Outside,
        publish::{Audience, Listeners, publish},
    },
    object::Key,
    settings::Settings,
};

/// Most notices that wait to be told for one Canary; of more, the latest are dropped.
const MOST_WAITING: usize = 256;

/// Something to tell.
#[derive(Clone)]
pub(super) struct Telling {
    pub canary: Arc<Canary>,
    pub providers: Arc<BTreeMap<Key, AlertProvider>>,
    pub notice: Notice,
    pub phase: Phase,
    pub time: Timestamp,
    pub index: usize,
    /// Whether a process before this one may have told it.
    pub again: bool,
}

/// Tells the notices of one Canary, one after the other.
#[derive(Debug)]
pub(super) struct Teller(mpsc::Sender<Telling>);

impl Teller {
    /// Starts telling; ends when dropped and all is told.
    pub fn start(
        applier: Applier,
        outside: Arc<dyn Outside>,
        settings: Arc<Settings>,
        listeners: Arc<Listeners>,
    ) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Telling>(MOST_WAITING);
        tokio::spawn(async move {
            while let Some(telling) = receiver.recv().await {
                tell(&applier, &*outside, &settings, &listeners, telling).await;
            }
        });
        Self(sender)
    }

    /// Queues something to tell.
    pub fn tell(&self, telling: Telling) {
        if let Err(error) = self.0.try_send(telling) {
            tracing::error!(%error, "too much to tell, a notice is dropped");
        }
    }
}

/// Alerts and webhooks first, the Event last: the Event marks the notice as told. A process that
/// takes over tells a notice again only if its Event is missing, so that a crash in between
/// neither loses nor repeats it.
async fn tell(
    applier: &Applier,
    outside: &dyn Outside,
    settings: &Settings,
    listeners: &Listeners,
    telling: Telling,
) {
    let Telling {
        canary,
        providers,
        notice,
        phase,
        time,
        index,
        again,
    } = telling;
    if again && write(applier, &canary, &notice, index, time).await != Some(Told::Now) {
        return;
    }
    log(&canary, &notice);
    let follow_up = publish(
        &notice,
        Audience {
            canary: &canary,
            phase,
            settings,
            listeners,
            providers: &providers,
            outside,
            now: time,
        },
    )
    .await;
    if !again {
        write(applier, &canary, &notice, index, time).await;
    }
    for (offset, notice) in follow_up.iter().enumerate() {
        log(&canary, notice);
        write(applier, &canary, notice, index + 1000 * (offset + 1), time).await;
    }
}

/// Writes the Event of a notice; `None` when that is not possible.
async fn write(
    applier: &Applier,
    canary: &Canary,
    notice: &Notice,
    index: usize,
    time: Timestamp,
) -> Option<Told> {
    let (key, object) = event(canary, notice, index, time);
    let written = (|| applier.tell(&object, &key))
        .retry(ExponentialBuilder::default().with_max_times(4))
        .when(|error| error.category() != "not_leading")
        .await;
    written
        .inspect_err(|error| tracing::warn!(%error, "event not written"))
        .ok()
}

fn log(canary: &Canary, notice: &Notice) {
    let name = canary.metadata.name.as_deref().unwrap_or_default();
    let namespace = canary.metadata.namespace.as_deref().unwrap_or_default();
    let canary = format!("{name}.{namespace}");
    if notice.warning {
        tracing::warn!(canary, "{}", notice.message);
    } else {
        tracing::info!(canary, "{}", notice.message);
    }
}

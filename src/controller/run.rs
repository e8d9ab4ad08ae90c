//! The life of the process: endpoints, leadership, work, and an orderly end.

use std::{io, sync::Arc, time::Duration};

use kube::Client;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
    time::{interval, timeout},
};

use super::{
    lease::{Candidate, Ended, Leadership, identity},
    options::{ConnectError, RunOptions},
};
use crate::telemetry::{health::Health, metrics::Metrics, serve};

/// Why the operator stopped without being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The API server's address or credentials are unknown.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The client cannot be built from them.
    #[error("cannot make a client for the API server: {0}")]
    Client(#[from] kube::Error),
    /// The port cannot be listened on.
    #[error("cannot listen on port {port}: {source}; choose another with --port")]
    Listen {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// The endpoints or signals cannot be served.
    #[error("cannot go on: {0}")]
    Io(#[from] io::Error),
    /// Another replica leads now.
    #[error("lost the lead: {0}")]
    LostLead(String),
}

/// How long requests under way may take once the process was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Runs the operator until it is told to stop.
///
/// # Errors
/// When it cannot start, or loses the lead: another process must take its place.
pub async fn run(options: RunOptions) -> Result<(), RunError> {
    let client = Client::try_from(options.server.config().await?)?;
    let listener = serve::listen(options.port)
        .await
        .map_err(|source| RunError::Listen {
            port: options.port,
            source,
        })?;
    let metrics = Arc::new(Metrics::new(options.settings.mesh_provider));
    let health = Arc::new(Health::new(Health::STALE_AFTER, []));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let (close, closed) = oneshot::channel::<()>();
    let endpoints = tokio::spawn(serve::serve(
        listener,
        metrics.clone(),
        health.clone(),
        async {
            let _ = closed.await;
        },
    ));
    let (resign, resigned) = oneshot::channel::<()>();
    let (leadership, mut election) = match options.election.clone() {
        Some(election) => {
            let pod = std::env::var("POD_NAME").unwrap_or_else(|_| "haldane".to_owned());
            let (candidate, leadership) = Candidate::new(client, election, identity(&pod));
            let election = tokio::spawn(candidate.run(async {
                let _ = resigned.await;
            }));
            (leadership, election)
        }
        None => (
            Leadership::always(),
            tokio::spawn(async {
                let _ = resigned.await;
                Ended::Released
            }),
        ),
    };

    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        () = work(&leadership, &metrics, &health) => Some((&mut election).await),
        ended = &mut election => Some(ended),
    };
    // The Lease is given away after the last write.
    let _ = resign.send(());
    let ended = match ended {
        Some(ended) => ended,
        None => election.await,
    };
    let _ = close.send(());
    if let Ok(Ok(served)) = timeout(GRACE, endpoints).await {
        served?;
    }
    match ended {
        Ok(Ended::Released) => Ok(()),
        Ok(Ended::Lost(why)) => Err(RunError::LostLead(why)),
        Err(died) => Err(RunError::LostLead(died.to_string())),
    }
}

/// Time between two signs of life of an idle loop.
const BEAT: Duration = Duration::from_secs(10);

/// Waits for the lead, works, and returns when the lead is lost.
async fn work(leadership: &Leadership, metrics: &Metrics, health: &Health) {
    let mut beats = interval(BEAT);
    let won = leadership.wait_leader();
    tokio::pin!(won);
    loop {
        tokio::select! {
            won = &mut won => match won {
                Ok(()) => break,
                Err(_) => return,
            },
            _ = beats.tick() => health.beat(),
        }
    }
    metrics.set_leader(true);
    let lost = leadership.lost();
    tokio::pin!(lost);
    loop {
        tokio::select! {
            () = &mut lost => break,
            _ = beats.tick() => health.beat(),
        }
    }
    metrics.set_leader(false);
}

//! The life of the process: endpoints, leadership, work, and an orderly end.

use std::{io, sync::Arc, time::Duration};

use futures::FutureExt;
use kube::{Client, Config, client::ClientBuilder};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
    time::{interval, timeout},
};
use tower::timeout::TimeoutLayer;

use super::{
    driver::{Decider, Driver, Parts},
    lease::{Candidate, Ended, Leadership, identity},
    options::{ConnectError, Notifier, RunOptions, Sensitive},
    queue::work,
};
use crate::{
    api::AlertProviderType,
    clock::Clock,
    measure::{Network, Secrets, alert::Chat, publish::Listeners},
    observe::{Cache, Watches, watch},
    telemetry::{health::Health, metrics::Metrics, serve},
};

/// An answer that has not begun by then never will: the API server gives a request up after a
/// minute, and begins to answer a watch at once. Lists and watches have no other limit.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(65);

/// A connection that is silent for so long is dead. Longer than the 290 s after which the API server
/// ends a watch.
const SILENCE_TIMEOUT: Duration = Duration::from_mins(5);

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
    let config = options.server.config().await?;
    let client = connect(config, ANSWER_TIMEOUT, SILENCE_TIMEOUT)?;
    let listener = serve::listen(options.port)
        .await
        .map_err(|source| RunError::Listen {
            port: options.port,
            source,
        })?;
    let metrics = Arc::new(Metrics::new(options.settings.mesh_provider));
    let health = Arc::new(Health::new(Health::STALE_AFTER, [CACHES]));
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
            let (candidate, leadership) = Candidate::new(client.clone(), election, identity(&pod));
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

    let (stop, stopped) = oneshot::channel::<()>();
    let mut work = tokio::spawn(operate(
        client,
        options,
        leadership,
        metrics,
        health,
        async {
            let _ = stopped.await;
        },
    ));
    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = &mut election => Some(ended),
        died = &mut work => Some(died.map(|()| Ended::Lost("the loop has ended".to_owned()))),
    };
    // Writes under way are finished before the Lease is given away.
    let _ = stop.send(());
    if !work.is_finished() {
        let _ = timeout(GRACE, work).await;
    }
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

/// A client whose requests end, also those that bring no time-out of their own.
fn connect(mut config: Config, answer: Duration, silence: Duration) -> Result<Client, kube::Error> {
    // Every call has a time-out and a retry of its own, but for those of watches.
    config.default_retry = false;
    config.read_timeout = Some(silence);
    config.reset_reader_on_write = true;
    let builder = ClientBuilder::try_from(config)?;
    Ok(builder.with_layer(&TimeoutLayer::new(answer)).build())
}

/// Gate of `/readyz`: every watch has shown what exists.
const CACHES: &str = "caches";

/// Watches and works until `stop`; writes only while this replica leads.
async fn operate(
    client: Client,
    options: RunOptions,
    leadership: Leadership,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    stop: impl Future<Output = ()>,
) {
    let stop = stop.shared();
    let settings = Arc::new(options.settings);
    let (again, changed) = mpsc::unbounded_channel();
    let cache = Arc::new(Cache::new(again.clone()));
    let watches = Watches::new();
    let watching = watch(
        client.clone(),
        Arc::clone(&cache),
        Arc::clone(&watches),
        &options.namespaces,
        settings.config_tracking,
    );
    let fence = leadership.clone();
    let driver = Driver::new(Parts {
        outside: Arc::new(Network::new(
            Secrets::Cluster(client.clone()),
            options.egress,
        )),
        client,
        cache: Arc::clone(&cache),
        again,
        clock: Clock::System,
        settings,
        listeners: Arc::new(listeners(options.notifier, options.event_webhook)),
        metrics: Arc::clone(&metrics),
        fence: Arc::new(move || fence.is_leader()),
        decider: Decider::default(),
    });
    let working = async {
        let mut beats = interval(BEAT);
        let mut filled = std::pin::pin!(watches.filled());
        loop {
            tokio::select! {
                () = &mut filled => break,
                () = stop.clone() => return,
                _ = beats.tick() => health.beat(),
            }
        }
        health.ready(CACHES);
        tracing::info!("caches are filled");
        let beat = || {
            metrics.set_leader(leadership.is_leader());
            health.beat();
        };
        work(
            driver,
            cache,
            changed,
            leadership.clone(),
            beat,
            stop.clone(),
        )
        .await;
    };
    tokio::select! {
        () = watching => {}
        () = working => {}
    }
}

/// Time between two signs of life while caches are filled.
const BEAT: Duration = Duration::from_secs(10);

/// Who is told of Canaries that name nobody themselves.
fn listeners(notifier: Option<Notifier>, event_webhook: Option<Sensitive>) -> Listeners {
    let chat = notifier.map(|notifier| match notifier {
        Notifier::Slack {
            url,
            token,
            proxy,
            user,
            channel,
        } => Chat {
            kind: AlertProviderType::Slack,
            address: url.reveal().to_owned(),
            token: token.map(|token| token.reveal().to_owned()),
            proxy,
            username: user,
            channel: channel.unwrap_or_default(),
        },
        Notifier::MsTeams { url, proxy } => Chat {
            kind: AlertProviderType::Msteams,
            address: url.reveal().to_owned(),
            token: None,
            proxy,
            username: String::new(),
            channel: String::new(),
        },
    });
    Listeners {
        event_webhook: event_webhook.map(|url| url.reveal().to_owned()),
        chats: chat.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::{
        Api,
        api::{ListParams, WatchParams},
    };
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    const SOON: Duration = Duration::from_millis(50);
    const LATE: Duration = Duration::from_hours(1);
    const WATCHDOG: Duration = Duration::from_mins(1);

    /// A server that answers nothing by itself, and its client.
    async fn server(answer: Duration, silence: Duration) -> (TcpListener, Api<ConfigMap>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let config = Config::new(format!("http://{address}").parse().unwrap());
        let client = connect(config, answer, silence).unwrap();
        (listener, Api::default_namespaced(client))
    }

    #[tokio::test]
    async fn request_that_is_never_answered_ends() {
        let (server, api) = server(SOON, LATE).await;
        let list = tokio::spawn(async move { api.list(&ListParams::default()).await });
        let _silent = server.accept().await.unwrap();
        assert!(timeout(WATCHDOG, list).await.unwrap().unwrap().is_err());
    }

    #[tokio::test]
    async fn watch_whose_connection_fell_silent_ends() {
        let (server, api) = server(LATE, SOON).await;
        let watch = tokio::spawn(async move {
            let mut events = api.watch(&WatchParams::default(), "0").await?.boxed();
            events.next().await.transpose()
        });
        let (mut connection, _) = server.accept().await.unwrap();
        let head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        connection.write_all(head).await.unwrap();
        assert!(timeout(WATCHDOG, watch).await.unwrap().unwrap().is_err());
    }
}

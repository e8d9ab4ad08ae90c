//! The operator in the world: its own code, unchanged, which can be cut off at any request.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use futures::future::BoxFuture;
use kube::Client;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::server::{After, ApiServer, Before, Call, Delivery, Interceptor, Outcome, WatchEvent};
use crate::{
    clock::Clock,
    controller::{Decider, Driver, Parts, lease::Leadership, work},
    measure::{
        InstantQuery, Outside, Post, PostError, QueryError, Reply, Sample, SecretError,
        network::read_secret, publish::Listeners,
    },
    observe::{self, Cache, Watches},
    settings::Settings,
    telemetry::metrics::Metrics,
};

/// How the users of all lives of the operator are called: this, and a number.
pub const OPERATOR: &str = "operator-";

/// One life of the operator.
pub struct Operator {
    alive: Arc<AtomicBool>,
    user: String,
    task: JoinHandle<()>,
}

impl Operator {
    /// Starts the operator's watches and its loop.
    pub fn start(
        server: &ApiServer,
        life: u64,
        clock: Clock,
        (settings, decider): (Settings, Decider),
        outside: Arc<dyn Outside>,
    ) -> Self {
        let alive = Arc::new(AtomicBool::new(true));
        let user = format!("{OPERATOR}{life}");
        let client = server.client_for(&user);
        let outside = Arc::new(Mortal {
            alive: Arc::clone(&alive),
            client: client.clone(),
            outside,
        });
        let settings = Arc::new(settings);
        let (again, changed) = mpsc::unbounded_channel();
        let cache = Arc::new(Cache::new(again.clone()));
        let watches = Watches::new();
        let metrics = Arc::new(Metrics::new(settings.mesh_provider));
        let driver = Driver::new(Parts {
            client: client.clone(),
            cache: Arc::clone(&cache),
            again,
            clock,
            outside,
            settings: Arc::clone(&settings),
            listeners: Arc::new(Listeners::default()),
            metrics,
            fence: Arc::new(|| true),
            decider,
        });
        let task = tokio::spawn(async move {
            let namespaces = BTreeSet::new();
            let watching = observe::watch(
                client,
                Arc::clone(&cache),
                Arc::clone(&watches),
                &namespaces,
                settings.config_tracking,
            );
            let working = async {
                watches.filled().await;
                let stop = std::future::pending();
                work(driver, cache, changed, Leadership::always(), || {}, stop).await;
            };
            tokio::select! {
                biased;
                () = watching => {}
                () = working => {}
            }
        });
        Self { alive, user, task }
    }

    /// Ends the operator where it stands, as a power failure does.
    pub fn cut(self, gate: &Gate) {
        gate.lock().dead.insert(self.user);
        self.alive.store(false, Ordering::Relaxed);
        self.task.abort();
    }
}

/// What lies outside, for as long as the operator lives.
struct Mortal {
    alive: Arc<AtomicBool>,
    /// Secrets are read with the operator's rights.
    client: Client,
    outside: Arc<dyn Outside>,
}

impl Mortal {
    async fn live(&self) {
        if !self.alive.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    }
}

impl Outside for Mortal {
    fn instant_query<'a>(
        &'a self,
        question: InstantQuery<'a>,
    ) -> BoxFuture<'a, Result<Vec<Sample>, QueryError>> {
        Box::pin(async move {
            self.live().await;
            self.outside.instant_query(question).await
        })
    }

    fn post<'a>(&'a self, post: &'a Post) -> BoxFuture<'a, Result<Reply, PostError>> {
        Box::pin(async move {
            self.live().await;
            self.outside.post(post).await
        })
    }

    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, Vec<u8>>, SecretError>> {
        Box::pin(async move {
            self.live().await;
            read_secret(&self.client, namespace, name).await
        })
    }
}

/// Where a life of the operator ends: at a write, counted over all lives from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cut {
    /// The number of the write.
    pub write: u64,
    /// Whether the server still carries the write out.
    pub after: bool,
}

/// Stands between the operator and the server: counts its writes and cuts it off.
#[derive(Debug)]
pub struct Gate {
    inner: Mutex<Inner>,
    cut_off: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    dead: BTreeSet<String>,
    /// A deposed life stays until its request under way is done.
    deposed: bool,
    writes: Vec<Call>,
    cut: Option<Cut>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            inner: Mutex::default(),
            cut_off: watch::Sender::new(0),
        }
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The writes of the operator so far.
    pub fn writes(&self) -> Vec<Call> {
        self.lock().writes.clone()
    }

    /// Ends the operator at a write to come.
    pub fn cut_at(&self, cut: Cut) {
        self.lock().cut = Some(cut);
    }

    /// Ends a life of the operator now, by its user, and has another one start: it may do no more,
    /// but where it is only deposed, what it has under way is still done.
    pub fn end(&self, user: &str, deposed: bool) {
        let mut inner = self.lock();
        if inner.dead.insert(user.to_owned()) {
            inner.deposed = deposed;
            self.cut_off.send_modify(|count| *count += 1);
        }
    }

    /// Whether the life that ended last was only deposed.
    pub fn take_deposed(&self) -> bool {
        std::mem::take(&mut self.lock().deposed)
    }

    /// Counts how often the operator was cut off by [`Gate::cut_at`].
    pub fn cut_off(&self) -> watch::Receiver<u64> {
        self.cut_off.subscribe()
    }

    /// Whether this write is where the operator ends.
    fn ends_at(&self, call: &Call, after: bool) -> bool {
        let mut inner = self.lock();
        let write = inner.writes.len() as u64;
        if inner.cut != Some(Cut { write, after }) {
            return false;
        }
        inner.cut = None;
        inner.dead.insert(call.user.clone());
        self.cut_off.send_modify(|count| *count += 1);
        true
    }
}

impl Interceptor for Gate {
    fn before(&self, call: &Call) -> Before {
        if !call.user.starts_with(OPERATOR) {
            return Before::Proceed;
        }
        {
            let mut inner = self.lock();
            if inner.dead.contains(&call.user) {
                return Before::Hang;
            }
            if !call.verb.writes() {
                return Before::Proceed;
            }
            inner.writes.push(call.clone());
        }
        if self.ends_at(call, false) {
            Before::Hang
        } else {
            Before::Proceed
        }
    }

    fn after(&self, call: &Call, _: Outcome<'_>) -> After {
        let ends =
            call.user.starts_with(OPERATOR) && call.verb.writes() && self.ends_at(call, true);
        if ends { After::Hang } else { After::Deliver }
    }

    fn event(&self, call: &Call, _: WatchEvent<'_>) -> Delivery {
        if self.lock().dead.contains(&call.user) {
            Delivery::Wait
        } else {
            Delivery::Deliver
        }
    }
}

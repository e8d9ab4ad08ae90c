//! What lies beyond the operator: metrics servers, webhooks, chats, Secrets.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde_json::Value as Json;

use super::{
    Dice, controllers::Shared, event::Answers, load, prometheus::Prometheus, promql::Value,
    scenario::Disturbances, server::ApiServer, traffic::Application,
};
use crate::{
    clock::Clock,
    measure::{InstantQuery, Outside, Post, PostError, QueryError, Reply, Sample, SecretError},
};

/// A POST that arrived.
#[derive(Clone, Debug)]
pub struct Posted {
    /// When.
    pub at: Timestamp,
    /// Where to.
    pub url: String,
    /// The body; null when it is no JSON.
    pub body: Json,
}

/// What lies beyond the operator, as a scenario wants it.
pub struct Surroundings {
    server: ApiServer,
    clock: Clock,
    prometheus: Arc<Mutex<Prometheus>>,
    inner: Mutex<Inner>,
}

#[derive(Clone)]
struct Inner {
    dice: Dice,
    disturbances: Disturbances,
    /// What webhooks answer instead, the latest last.
    answers: Vec<Answers>,
    released: Option<Timestamp>,
    posted: Vec<Posted>,
    loads: Vec<(Application, Timestamp)>,
    addresses: BTreeMap<String, Answer>,
    queries: u64,
}

/// What a webhook answers from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// An HTTP status.
    Status(u16),
    /// Nothing, until the caller gives up.
    Nothing,
}

impl Surroundings {
    /// Surroundings in which nothing is disturbed before [`Surroundings::begin`].
    pub fn new(shared: Shared, seed: u64, disturbances: Disturbances) -> Self {
        Self {
            server: shared.server,
            clock: shared.clock,
            prometheus: shared.measured.prometheus,
            inner: Mutex::new(Inner {
                dice: Dice::new(seed),
                disturbances,
                answers: Vec::new(),
                released: None,
                posted: Vec::new(),
                loads: Vec::new(),
                addresses: BTreeMap::new(),
                queries: 0,
            }),
        }
    }

    /// The same surroundings of a copy of their cluster.
    #[must_use]
    pub fn copy(&self, shared: Shared) -> Self {
        Self {
            server: shared.server,
            clock: shared.clock,
            prometheus: shared.measured.prometheus,
            inner: Mutex::new(self.lock().clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The release begins: disturbances count from now.
    pub fn begin(&self) {
        self.lock().released = Some(self.clock.now());
    }

    /// Whoever is called at an address answers so from now on.
    pub fn answer(&self, url: &str, answer: Answer) {
        self.lock().addresses.insert(url.to_owned(), answer);
    }

    /// Webhooks answer this from now on.
    pub fn answer_hooks(&self, answers: Answers) {
        self.lock().answers.push(answers);
    }

    /// Chats answer with this HTTP status from now on.
    pub fn answer_alerts(&self, status: u16) {
        self.lock().disturbances.alert_status = status;
    }

    /// What webhooks and chats got so far.
    pub fn posted(&self) -> Vec<Posted> {
        self.lock().posted.clone()
    }

    /// The load tests under way.
    pub fn loads(&self) -> Vec<Application> {
        let now = self.clock.now();
        let mut inner = self.lock();
        inner.loads.retain(|(_, ends)| *ends > now);
        inner.loads.iter().map(|(load, _)| load.clone()).collect()
    }

    /// Queries so far.
    pub fn queries(&self) -> u64 {
        self.lock().queries
    }

    /// The answer of a metrics server to a query at this time.
    ///
    /// # Errors
    /// When the server is away, refuses, or does not understand.
    pub fn query(&self, query: &str, at: Option<Timestamp>) -> Result<Vec<Sample>, QueryError> {
        let now = self.clock.now();
        let mut inner = self.lock();
        inner.queries += 1;
        if let Some(released) = inner.released {
            let since = now.duration_since(released).as_secs_f64();
            let mut outages = inner.disturbances.outages.iter();
            if outages.any(|(from, to)| (*from..*to).contains(&since)) {
                return Err(QueryError::Connection("connection refused".to_owned()));
            }
            let share = inner.disturbances.refused_percent / 100.0;
            if share > 0.0 && inner.dice.chance(share) {
                return Err(QueryError::Refused {
                    status: 503,
                    kind: None,
                });
            }
        }
        drop(inner);
        let prometheus = self
            .prometheus
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let sample = |labels, value| Sample {
            labels,
            timestamp: now,
            value,
        };
        match prometheus.query(query, at.unwrap_or(now).as_millisecond()) {
            Ok(Value::Scalar(value)) => Ok(vec![sample(BTreeMap::new(), value)]),
            Ok(Value::Vector(vector)) => Ok(vector
                .into_iter()
                .map(|(labels, value)| {
                    let labels = labels.into_iter();
                    let labels =
                        labels.map(|(label, value)| (label.to_string(), value.to_string()));
                    sample(labels.collect(), value)
                })
                .collect()),
            Ok(Value::Ranges) => Err(QueryError::Ranges),
            Err(error) => {
                tracing::warn!(query, %error, "query not understood");
                Err(QueryError::Refused {
                    status: 400,
                    kind: Some("bad_data"),
                })
            }
        }
    }

    fn receive(&self, post: &Post) -> Reply {
        let body: Json = serde_json::from_slice(&post.body).unwrap_or_default();
        let now = self.clock.now();
        let mut inner = self.lock();
        // Webhooks are told the phase; what chats and the like are told has other fields.
        let is_hook = body["phase"].is_string() && body["checksum"].is_string();
        if is_hook
            && let Some((application, length)) = load::load(&body)
            && let Ok(ends) = now.checked_add(length)
        {
            // The load tester runs a command once at a time.
            inner.loads.retain(|(other, _)| {
                (&other.namespace, &other.host) != (&application.namespace, &application.host)
            });
            inner.loads.push((application, ends));
        }
        inner.posted.push(Posted {
            at: now,
            url: post.url.clone(),
            body,
        });
        let status = if let Some(Answer::Status(status)) = inner.addresses.get(&post.url) {
            *status
        } else if is_hook {
            let meant = |answers: &&Answers| post.url.contains(&answers.containing);
            let latest = inner.answers.iter().rev().find(meant);
            latest
                .map(|answers| answers.status)
                .or_else(|| load::gate(&post.url))
                .unwrap_or(inner.disturbances.webhook_status)
        } else {
            inner.disturbances.alert_status
        };
        Reply {
            status,
            body: Vec::new(),
        }
    }

    fn read_secret(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<BTreeMap<String, Vec<u8>>, SecretError> {
        let object = self
            .server
            .get("", "secrets", namespace, name)
            .ok_or(SecretError::NotFound)?;
        let secret: k8s_openapi::api::core::v1::Secret =
            serde_json::from_value(object.value().clone())
                .map_err(|error| SecretError::Unavailable(error.to_string()))?;
        Ok(secret
            .data
            .unwrap_or_default()
            .into_iter()
            .map(|(key, value)| (key, value.0))
            .collect())
    }
}

impl Outside for Surroundings {
    fn instant_query<'a>(
        &'a self,
        question: InstantQuery<'a>,
    ) -> BoxFuture<'a, Result<Vec<Sample>, QueryError>> {
        Box::pin(async move { self.query(question.query, question.pinned.then_some(question.at)) })
    }

    fn post<'a>(&'a self, post: &'a Post) -> BoxFuture<'a, Result<Reply, PostError>> {
        Box::pin(async move {
            if self.lock().addresses.get(&post.url) == Some(&Answer::Nothing) {
                tokio::time::sleep(post.timeout).await;
                return Err(PostError::TimedOut(post.timeout));
            }
            Ok(self.receive(post))
        })
    }

    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, Vec<u8>>, SecretError>> {
        Box::pin(async move { self.read_secret(namespace, name) })
    }
}

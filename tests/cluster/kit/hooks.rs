//! A receiver of webhooks and alerts: notes what it gets, and answers as it is told.

use std::{collections::BTreeMap, future::pending, net::Ipv4Addr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{StatusCode, Uri},
};
use serde_json::Value;
use tokio::{net::TcpListener, sync::watch, time::timeout};

/// Stands for no answer at all.
const HANG: u16 = 0;

/// What was received and what is answered, by path.
#[derive(Debug, Default)]
struct Desk {
    received: BTreeMap<String, Vec<Value>>,
    answers: BTreeMap<String, (u16, String)>,
}

/// A running receiver.
#[derive(Debug)]
pub struct Hooks {
    port: u16,
    desk: Arc<watch::Sender<Desk>>,
}

impl Hooks {
    /// Starts a receiver that agrees to everything.
    pub async fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let desk = Arc::new(watch::Sender::new(Desk::default()));
        let router = Router::new().fallback(receive).with_state(desk.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { port, desk }
    }

    /// Address of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// From now on, answers calls of a path so.
    pub fn answer(&self, path: &str, status: u16, body: &str) {
        self.desk.send_modify(|desk| {
            desk.answers
                .insert(path.to_owned(), (status, body.to_owned()));
        });
    }

    /// From now on, leaves calls of a path without an answer.
    pub fn hang(&self, path: &str) {
        self.answer(path, HANG, "");
    }

    /// What a path has received so far.
    pub fn received(&self, path: &str) -> Vec<Value> {
        self.desk
            .borrow()
            .received
            .get(path)
            .cloned()
            .unwrap_or_default()
    }

    /// Waits until a path has received a body like this one; that body.
    pub async fn receives(
        &self,
        path: &str,
        what: &str,
        mut like: impl FnMut(&Value) -> bool,
    ) -> Value {
        let mut changes = self.desk.subscribe();
        let found = changes.wait_for(|desk| {
            desk.received
                .get(path)
                .is_some_and(|bodies| bodies.iter().any(&mut like))
        });
        assert!(
            timeout(Duration::from_mins(1), found).await.is_ok(),
            "{path} receives {what}: not within a minute; received {:#?}",
            self.received(path)
        );
        let received = self.received(path);
        received.into_iter().find(|body| like(body)).unwrap()
    }
}

async fn receive(
    State(desk): State<Arc<watch::Sender<Desk>>>,
    uri: Uri,
    body: Bytes,
) -> (StatusCode, String) {
    let path = uri.path().to_owned();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    desk.send_modify(|desk| desk.received.entry(path.clone()).or_default().push(body));
    let (status, text) = desk
        .borrow()
        .answers
        .get(&path)
        .cloned()
        .unwrap_or((200, String::new()));
    if status == HANG {
        pending::<()>().await;
    }
    (StatusCode::from_u16(status).unwrap(), text)
}

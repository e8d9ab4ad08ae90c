//! The place where faults enter: asked before and after each request and for each watch event.

use std::time::Duration;

use super::error::Refusal;
use super::request::{Subresource, Verb};
use super::store::{Action, Object};

/// A request, as an interceptor and the request log see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The number of the request: 1 for the first one that the server got.
    pub sequence: u64,
    /// Who asks.
    pub user: String,
    /// What it does.
    pub verb: Verb,
    /// The API group; empty for core.
    pub group: String,
    /// The resource; empty for documents about the API.
    pub resource: String,
    /// The subresource.
    pub subresource: Option<Subresource>,
    /// The namespace; empty for cluster scope or all namespaces.
    pub namespace: String,
    /// The name; empty for a collection.
    pub name: String,
    /// The path with its query.
    pub path: String,
}

/// What happens to a request before the server acts on it.
#[derive(Clone, Debug, Default)]
pub enum Before {
    /// The server acts.
    #[default]
    Proceed,
    /// The server acts later (tokio time).
    Delay(Duration),
    /// This is the answer; nothing is done.
    Refuse(Refusal),
    /// The connection breaks; nothing is done.
    Reset,
    /// No answer ever comes; nothing is done.
    Hang,
    /// A read sees the cluster as it was so many revisions ago. A write proceeds.
    Stale(u64),
}

/// What happens to the answer, after the server acted.
#[derive(Clone, Debug, Default)]
pub enum After {
    /// It arrives.
    #[default]
    Deliver,
    /// It arrives later (tokio time).
    Delay(Duration),
    /// Another one arrives, such as a 504: what was written stays written.
    Replace(Refusal),
    /// The connection breaks: what was written stays written.
    Lose,
    /// Nothing ever arrives: what was written stays written.
    Hang,
    /// Half of its body arrives; a watch arrives whole.
    Truncate,
}

/// What happens to an event of a watch.
#[derive(Clone, Debug, Default)]
pub enum Delivery {
    /// It arrives.
    #[default]
    Deliver,
    /// It is lost, and the watch goes on.
    Drop,
    /// It arrives later (tokio time), and so do those behind it.
    Hold(Duration),
    /// The watch says nothing for so long (tokio time) and then ends with an in-stream `ERROR` 410:
    /// of all that happened meanwhile only the last state is seen.
    Merge(Duration),
    /// It waits, with those behind it, until the server is told to look again
    /// ([`ApiServer::wake_watches`](super::ApiServer::wake_watches)) or something else changes.
    Wait,
    /// The watch ends before it, as when a server shuts down.
    Close,
    /// The watch ends with an in-stream `ERROR` 410 before it.
    Expire,
}

/// What the server answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// The HTTP status code.
    pub code: u16,
    /// The reason of a refusal; empty for success.
    pub reason: &'a str,
}

/// An event on its way to a watch.
#[derive(Clone, Copy, Debug)]
pub struct WatchEvent<'a> {
    /// What happened, as this watch sees it.
    pub action: Action,
    /// The object.
    pub object: &'a Object,
    /// The revision of the write.
    pub revision: u64,
}

/// Decides about faults. Called in the order in which requests arrive, so that a run is repeatable.
pub trait Interceptor: Send + Sync {
    /// Before the server acts on a request.
    fn before(&self, call: &Call) -> Before {
        let _ = call;
        Before::Proceed
    }

    /// After it acted, before the answer leaves.
    fn after(&self, call: &Call, outcome: Outcome<'_>) -> After {
        let _ = (call, outcome);
        After::Deliver
    }

    /// Before an event of a watch leaves. `call` is the request that opened the watch.
    fn event(&self, call: &Call, event: WatchEvent<'_>) -> Delivery {
        let _ = (call, event);
        Delivery::Deliver
    }
}

//! The server through kube's client, as the operator uses it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod applying;
mod customs;
mod objects;
mod rights;
mod watching;

use jiff::Timestamp;

use super::ApiServer;

fn server() -> ApiServer {
    ApiServer::new(|| Timestamp::from_second(1_800_000_000).unwrap())
}

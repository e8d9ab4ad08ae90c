//! The embedded world: an API server, a cluster and its users in memory.

pub mod server;

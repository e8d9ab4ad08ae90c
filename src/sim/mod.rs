//! The embedded world: an API server, a cluster and its users in memory.
//!
//! ```text
//! operator (the real code) ⇄ API server ⇄ controllers (Deployments, Pods, EndpointSlices)
//!      │                         │
//!      └─ Prometheus ◀─ scrapes ─ traffic (users, proxies, pods)
//! ```
//!
//! Everything runs in one thread on tokio's paused clock, so that an hour takes milliseconds and
//! the same seed gives the same run.

pub mod behaviour;
pub mod controllers;
mod dice;
pub mod manifests;
mod operator;
pub mod server;
pub mod world;

pub use dice::Dice;
pub use world::{Options, World, run};

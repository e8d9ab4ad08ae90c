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
pub mod comparison;
pub mod controllers;
pub mod crash;
mod dice;
pub mod event;
mod ground;
mod load;
pub mod manifests;
mod meter;
mod operator;
mod outside;
mod paths;
mod prometheus;
pub mod promql;
mod recorder;
mod released;
pub mod rollout;
pub mod scenario;
pub mod server;
pub mod traffic;
mod users;
mod view;
mod visitors;
mod weather;
pub mod world;

pub use controllers::Acceptance;
pub use dice::Dice;
pub use ground::{Ground, Moment};
pub use operator::{Cut, Gate};
pub use outside::{Answer, Posted, Surroundings};
pub use scenario::Scenario;
pub use world::{Options, World, run};

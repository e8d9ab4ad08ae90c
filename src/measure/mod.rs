//! Questions to the outside: metrics, webhooks, alerts.
//!
//! [`metrics`], [`builtin`], [`query`] and the encoders of [`alert`] are pure. What leaves the
//! process goes through [`Outside`], so that the embedded world answers on virtual time.

pub mod alert;
pub mod builtin;
mod egress;
pub mod judging;
pub mod look;
pub mod metrics;
pub(crate) mod network;
mod outside;
pub mod publish;
pub mod query;
mod reading;
mod run;
mod sharing;
mod text;
pub mod webhook;

pub use egress::Egress;
pub use network::Network;
pub use outside::{
    Credentials, InstantQuery, Outside, Post, PostError, QueryError, Reply, Sample, SecretError,
    deliver,
};
pub use run::run;
pub use sharing::Sharing;

//! Questions to the outside: metrics, webhooks, alerts.
//!
//! [`metrics`], [`builtin`], [`query`], [`judging`], [`columns`] and the encoders of [`alert`] are pure. What leaves the
//! process goes through [`Outside`], so that the embedded world answers on virtual time.

pub mod alert;
pub mod builtin;
pub mod columns;
mod egress;
pub mod history;
pub mod judging;
pub mod look;
pub mod metrics;
mod native;
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
pub use network::{Network, Secrets};
pub use outside::{
    Credentials, InstantQuery, Outside, Post, PostError, QueryError, RangeQuery, Reply, Sample,
    SecretError, deliver,
};
pub use run::run;
pub use sharing::Sharing;

//! Behaviours of the deciding code, in a model of a cluster on virtual time.
//!
//! [`toy`] holds JSON objects and carries out plans, [`kubernetes`] does what Deployments and
//! Services do, [`invariants`] looks after every single write. Nothing here waits or measures time.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::float_cmp,
    missing_docs
)]

mod bootstrap;
mod counters;
mod crash;
mod deletion;
mod edits;
mod faults;
mod fixtures;
mod gates;
mod invariants;
mod judge;
mod kubernetes;
mod promotion;
mod properties;
mod purity;
mod release;
mod takeover;
mod toy;

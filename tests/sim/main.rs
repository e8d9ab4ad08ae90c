//! Releases in the embedded world, by the operator's own code.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

mod commands;
mod crashes;
mod examples;
mod gateways;
mod golden;
mod releases;
mod scenarios;

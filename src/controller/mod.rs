//! The driver: watches, queue, observe → decide → apply, leadership.

pub mod lease;
pub mod options;
pub mod rbac;
mod run;

pub use run::{RunError, run};

//! The driver: watches, queue, observe → decide → apply, leadership.

mod driver;
pub mod lease;
pub mod options;
mod queue;
pub mod rbac;
mod run;
mod teller;

pub use driver::{Decider, Driver, Parts};
pub use queue::work;
pub use run::{ANSWER_TIMEOUT, RunError, run};

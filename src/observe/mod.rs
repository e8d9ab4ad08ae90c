//! Watched objects and API reads become a [`Snapshot`].

mod cache;
mod observer;
mod snapshot;
mod watch;

pub use cache::{Cache, CanaryKey, View};
pub use observer::{Memory, ObserveError, Observer, canary, ready_since};
pub use snapshot::{CheckState, Config, LookState, Snapshot};
pub use watch::{Watches, object_of, watch};

//! Watched objects and API reads become a [`Snapshot`].

mod cache;
mod observer;
mod snapshot;
mod watch;

pub use cache::{Cache, CanaryKey, View};
pub use observer::{Memory, ObserveError, Observer, canary};
pub use snapshot::{CheckState, Config, Snapshot};
pub use watch::{Watches, object_of, watch};

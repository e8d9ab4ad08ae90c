//! The one source of time.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

/// The one source of time: the system's, or in the embedded world tokio's, which can be paused.
#[derive(Clone, Copy, Debug)]
pub enum Clock {
    /// The system's clock.
    System,
    /// Starts at a given time and runs with tokio's clock.
    Virtual {
        /// The time at the start.
        epoch: Timestamp,
        /// The start.
        start: Instant,
    },
}

impl Clock {
    /// The time now.
    pub fn now(&self) -> Timestamp {
        match self {
            Self::System => Timestamp::now(),
            Self::Virtual { epoch, start } => {
                epoch.checked_add(start.elapsed()).unwrap_or(Timestamp::MAX)
            }
        }
    }

    /// A virtual clock that goes wrong by so many seconds; the system's clock stays right.
    #[must_use]
    pub fn skewed(self, seconds: i64) -> Self {
        match self {
            Self::System => Self::System,
            Self::Virtual { epoch, start } => Self::Virtual {
                epoch: epoch
                    .checked_add(jiff::SignedDuration::from_secs(seconds))
                    .unwrap_or(epoch),
                start,
            },
        }
    }

    /// The instant of tokio's clock at which a time comes; now when it has passed.
    pub fn instant(&self, time: Timestamp) -> Instant {
        let ahead = Duration::try_from(time.duration_since(self.now())).unwrap_or_default();
        Instant::now() + ahead
    }
}

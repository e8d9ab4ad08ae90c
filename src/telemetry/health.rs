//! Whether the operator is alive and ready, for probes.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Whether the operator is alive (its loop turns) and ready (its caches are filled).
#[derive(Debug)]
pub struct Health {
    stale_after: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    beat: Instant,
    waiting: BTreeSet<&'static str>,
}

/// Why a probe fails.
#[derive(Debug, PartialEq, Eq)]
pub enum Unhealthy {
    /// The loop has not turned for this long.
    Stalled(Duration),
    /// These are not ready yet.
    Waiting(Vec<&'static str>),
}

impl fmt::Display for Unhealthy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stalled(since) => write!(f, "the loop has not turned for {} s", since.as_secs()),
            Self::Waiting(names) => write!(f, "not ready yet: {}", names.join(", ")),
        }
    }
}

impl Health {
    /// Longest pause between two [beats](Self::beat) of a loop that is alive.
    pub const STALE_AFTER: Duration = Duration::from_mins(1);

    /// The health of a loop that beats more often than each `stale_after`, from now on, and that
    /// is ready when each of `gates` is.
    pub fn new(stale_after: Duration, gates: impl IntoIterator<Item = &'static str>) -> Self {
        Self {
            stale_after,
            state: Mutex::new(State {
                beat: Instant::now(),
                waiting: gates.into_iter().collect(),
            }),
        }
    }

    /// The loop has turned. Called by the loop itself, never by a timer beside it.
    pub fn beat(&self) {
        self.state().beat = Instant::now();
    }

    /// A gate is ready, for good.
    pub fn ready(&self, gate: &'static str) {
        self.state().waiting.remove(gate);
    }

    /// Whether the loop turns.
    ///
    /// # Errors
    /// With the time since it last did.
    pub fn check_alive(&self) -> Result<(), Unhealthy> {
        let silence = self.state().beat.elapsed();
        if silence > self.stale_after {
            return Err(Unhealthy::Stalled(silence));
        }
        Ok(())
    }

    /// Whether all gates are ready.
    ///
    /// # Errors
    /// With those that are not.
    pub fn check_ready(&self) -> Result<(), Unhealthy> {
        let state = self.state();
        if state.waiting.is_empty() {
            return Ok(());
        }
        Err(Unhealthy::Waiting(state.waiting.iter().copied().collect()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole at every moment, whatever its last user did.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn loop_that_stops_beating_is_not_alive() {
        let health = Health::new(Health::STALE_AFTER, []);
        advance(Duration::from_mins(1)).await;
        assert_eq!(health.check_alive(), Ok(()), "a start takes time");
        advance(Duration::from_secs(1)).await;
        let stalled = health.check_alive().unwrap_err();
        assert_eq!(stalled, Unhealthy::Stalled(Duration::from_secs(61)));
        assert_eq!(stalled.to_string(), "the loop has not turned for 61 s");
        health.beat();
        assert_eq!(health.check_alive(), Ok(()));
    }

    #[tokio::test]
    async fn operator_is_ready_when_every_gate_is() {
        let health = Health::new(Health::STALE_AFTER, ["canaries", "deployments"]);
        health.ready("deployments");
        health.ready("unknown");
        let waiting = health.check_ready().unwrap_err();
        assert_eq!(waiting.to_string(), "not ready yet: canaries");
        health.ready("canaries");
        assert_eq!(health.check_ready(), Ok(()));
    }
}

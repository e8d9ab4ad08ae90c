//! A plan in the making.

use jiff::Timestamp;

use crate::{
    api::{
        Phase, Severity,
        status::{CanaryStatus, HISTORY, Notice, Release},
    },
    object::Key,
    observe::{CheckState, Snapshot},
    plan::{Answer, Check, Effect},
};

use super::notices;

/// A plan in the making: the status as it shall be, and what goes with it.
#[derive(Debug)]
pub(super) struct Draft {
    /// The status as it shall be.
    pub status: CanaryStatus,
    /// What to tell.
    pub notices: Vec<Notice>,
    /// Checks to start and changes to the Canary itself.
    pub effects: Vec<Effect>,
    /// See [`Plan::quiet`](crate::plan::Plan::quiet).
    pub quiet: bool,
    /// See [`Plan::shrinks`](crate::plan::Plan::shrinks).
    pub shrinks: usize,
    /// See [`Plan::unserved`](crate::plan::Plan::unserved).
    pub unserved: bool,
    /// See [`Plan::unready`](crate::plan::Plan::unready).
    pub unready: Option<Key>,
    /// When to look again at the latest.
    pub wake: Option<Timestamp>,
    /// Sentence for the conditions when something is in the way without a phase of its own.
    pub obstacle: Option<super::facts::Obstacle>,
}

impl Draft {
    /// Nothing changes.
    pub fn new(status: CanaryStatus) -> Self {
        Self {
            status,
            notices: Vec::new(),
            effects: Vec::new(),
            quiet: false,
            shrinks: 0,
            unserved: false,
            unready: None,
            wake: None,
            obstacle: None,
        }
    }

    /// Look again at this time, or earlier if asked so already.
    pub fn wake_at(&mut self, time: Timestamp) {
        self.wake = Some(self.wake.map_or(time, |earlier| earlier.min(time)));
    }

    /// Tell something.
    pub fn tell(&mut self, notice: Notice) {
        self.notices.push(notice);
    }

    /// Halt with a reason, told as a Warning unless it was told last.
    pub fn halt(&mut self, reason: &str) {
        if self.status.halt_reason.as_deref() != Some(reason) {
            self.tell(notices::warning(reason));
        }
        self.status.halt_reason = Some(reason.to_owned());
    }

    /// The next check is due one interval from now.
    pub fn check_later(&mut self, s: &Snapshot) {
        let next = after(s.now, s.canary.spec.analysis.interval());
        self.status.next_check_time = Some(next);
        self.wake_at(next);
    }

    /// The answer to a check; asks for it first.
    pub fn answer(&mut self, s: &Snapshot, check: &Check) -> Option<std::sync::Arc<Answer>> {
        if check.stages.is_empty() {
            return Some(std::sync::Arc::new(Answer {
                id: check.id.clone(),
                stages: Vec::new(),
            }));
        }
        match s.checks.get(&check.id) {
            Some(CheckState::Done(answer)) => Some(std::sync::Arc::clone(answer)),
            Some(CheckState::Pending) => None,
            None => {
                self.effects.push(Effect::Measure(check.clone()));
                None
            }
        }
    }

    /// Ends the release under way: its place in the history, and counters at zero.
    pub fn end(&mut self, now: Timestamp, phase: Phase, outcome: &str, reason: Option<String>) {
        let status = &mut self.status;
        if let Some(revision) = status.last_applied_spec.clone() {
            let history = status.history.get_or_insert_default();
            history.insert(
                0,
                Release {
                    revision,
                    outcome: outcome.to_owned(),
                    reason,
                    started_time: status.run_time,
                    finished_time: now,
                },
            );
            history.truncate(HISTORY);
        }
        status.phase = phase;
        status.canary_weight = 0;
        status.iterations = 0;
        status.failed_checks = 0;
        status.step = None;
        status.next_check_time = None;
        status.started_time = None;
        status.run_time = None;
        status.paused = None;
        status.scaled_down = None;
        if let Some(record) = &mut status.judge {
            // What was found stays, for people; nobody goes on from it.
            record.state = None;
        }
        retire_cookie(status);
    }

    /// Rolls the release back: its weight is zero from this status on.
    pub fn roll_back(&mut self, s: &Snapshot, cause: Notice, reason: &str) {
        self.tell(cause);
        self.end(s.now, Phase::Failed, "Failed", Some(reason.to_owned()));
        self.status.halt_reason = Some(reason.to_owned());
        self.tell(notices::ends_release(notices::warning(format!(
            "Canary failed! Scaling down {}",
            notices::full_name(s)
        ))));
    }

    /// Rolls the release back for a reason that is told as event and error alert.
    pub fn roll_back_because(&mut self, s: &Snapshot, reason: &str) {
        let cause = notices::alert(
            notices::warning(format!("Rolling back {} {reason}", notices::full_name(s))),
            Severity::Error,
            reason,
        );
        self.roll_back(s, cause, reason);
    }
}

/// The cookie of a release is taken back from users once the canary has no traffic.
pub(super) fn retire_cookie(status: &mut CanaryStatus) {
    if let Some(cookie) = status.session_affinity_cookie.take() {
        status.previous_session_affinity_cookie = Some(cookie);
    }
}

/// A time later than another; the latest possible one when that cannot be told.
pub(super) fn after(time: Timestamp, by: std::time::Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

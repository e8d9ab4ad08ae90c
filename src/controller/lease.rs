//! Leader election on a Lease: of all replicas, one writes.
//!
//! What another replica wrote as its time is never believed: a lease has run out when its record
//! was *seen* unchanged for as long as it lasts. A leader counts from before it asked for the
//! renewal, for two thirds of that time, so it has stopped writing before anyone may take over.
//! Every write names the version it was decided on; of two that try at once, one gets a conflict.

use std::{
    fmt,
    future::Future,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::options::Election;

/// How long a lease lasts and how often it is renewed.
///
/// With the default of 15 s: the leader renews each 3 s, waits 3 s for an answer and stops 10 s
/// after its last renewal; others look each 1.5 s. A replica that dies is followed within 17 s, one that says goodbye
/// within 2 s. (Flagger: 60, 15 and 5 s.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long others wait for a silent leader. A whole number of seconds.
    lease: Duration,
    /// How long a leader leads after its last renewal.
    renew_deadline: Duration,
    /// Time between two renewals, and how long an answer is waited for: one lost answer leaves
    /// time for another try.
    renew: Duration,
    /// Time between two tries to get, or to regain, the lease.
    retry: Duration,
}

impl Timing {
    /// Timing of a lease of this length, cut to seconds; `None` below 3 s and above 5 min.
    pub fn of(lease: Duration) -> Option<Self> {
        let seconds = u32::try_from(lease.as_secs()).ok()?;
        let lease = Duration::from_secs(seconds.into());
        (3..=300).contains(&seconds).then_some(Self {
            lease,
            renew_deadline: lease * 2 / 3,
            renew: lease / 5,
            retry: lease / 10,
        })
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            renew: Duration::from_secs(3),
            retry: Duration::from_millis(1500),
        }
    }
}

/// A Lease's record and when it was first seen like that.
#[derive(Clone, Debug, PartialEq)]
struct Observed {
    spec: LeaseSpec,
    since: Instant,
}

impl Observed {
    /// What is known after the record was seen again.
    fn update(before: Option<Self>, spec: LeaseSpec, now: Instant) -> Self {
        match before {
            Some(before) if before.spec == spec => before,
            _ => Self { spec, since: now },
        }
    }

    /// Until when the record's holder must be left alone. `None`: it has no holder.
    fn held_until(&self, timing: Timing) -> Option<Instant> {
        self.spec
            .holder_identity
            .as_deref()
            .filter(|holder| !holder.is_empty())?;
        let lease = self
            .spec
            .lease_duration_seconds
            .and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0)
            .map_or(timing.lease, Duration::from_secs);
        Some(self.since + lease)
    }

    fn holder(&self) -> &str {
        self.spec.holder_identity.as_deref().unwrap_or_default()
    }
}

/// What to do about a Lease that was seen.
#[derive(Debug, PartialEq)]
enum Step {
    /// Write this record: a renewal or a takeover.
    Hold(Box<LeaseSpec>),
    /// Another replica leads; look again at this time.
    Wait(Instant),
}

/// Decides what to do about the Lease; `wall` is what others may read as our time.
fn decide(
    me: &str,
    observed: Option<&Observed>,
    now: Instant,
    wall: Timestamp,
    timing: Timing,
) -> Step {
    let held = observed.and_then(|o| o.held_until(timing));
    let mine = observed.is_some_and(|o| o.holder() == me);
    if let Some(until) = held.filter(|until| *until > now && !mine) {
        return Step::Wait(until.min(now + timing.retry));
    }
    let mut spec = observed.map(|o| o.spec.clone()).unwrap_or_default();
    if !mine {
        spec.acquire_time = Some(MicroTime(wall));
        spec.lease_transitions = Some(match observed {
            Some(_) => spec.lease_transitions.unwrap_or(0).saturating_add(1),
            None => 0,
        });
    }
    spec.holder_identity = Some(me.to_owned());
    spec.renew_time = Some(MicroTime(wall));
    spec.lease_duration_seconds = i32::try_from(timing.lease.as_secs()).ok();
    Step::Hold(Box::new(spec))
}

/// Whether this replica may write.
#[derive(Clone, Debug)]
pub struct Leadership(Option<watch::Receiver<Lead>>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lead {
    Not,
    Until(Instant),
}

impl Lead {
    fn holds(self) -> bool {
        matches!(self, Self::Until(until) if Instant::now() < until)
    }
}

/// The election has ended: this replica will not lead any more.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the leader election has ended")]
pub struct ElectionEnded;

impl Leadership {
    /// The leadership of a replica that is alone.
    pub fn always() -> Self {
        Self(None)
    }

    /// Whether this replica leads at this moment: the fence before every write. A write whose
    /// time-out is below a third of the lease has ended before another replica can lead.
    pub fn is_leader(&self) -> bool {
        self.0.as_ref().is_none_or(|lead| lead.borrow().holds())
    }

    /// Waits until this replica leads.
    ///
    /// # Errors
    /// When it never will, because the election has ended.
    pub async fn wait_leader(&self) -> Result<(), ElectionEnded> {
        let Some(lead) = &self.0 else { return Ok(()) };
        lead.clone()
            .wait_for(|lead| lead.holds())
            .await
            .map(drop)
            .map_err(|_| ElectionEnded)
    }

    /// Waits until this replica does not lead: at once when it does not now, never when it is
    /// alone.
    pub async fn lost(&self) {
        let Some(lead) = &self.0 else {
            return std::future::pending().await;
        };
        let mut lead = lead.clone();
        loop {
            let Lead::Until(until) = *lead.borrow_and_update() else {
                return;
            };
            tokio::select! {
                () = sleep_until(until) => return,
                changed = lead.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Why an election ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop; the Lease is free for others.
    Released,
    /// This replica led and does not any more. The process must end.
    Lost(String),
}

/// One replica's part in an election.
pub struct Candidate {
    api: Api<Lease>,
    election: Election,
    identity: String,
    lead: watch::Sender<Lead>,
    observed: Option<Observed>,
    /// Whether the last try failed, so that the Lease must be read before it is written.
    failing: bool,
    /// The Lease as last read or written: what the next write replaces.
    current: Option<Lease>,
}

impl fmt::Debug for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Candidate")
            .field("election", &self.election)
            .field("identity", &self.identity)
            .field("lead", &*self.lead.borrow())
            .finish_non_exhaustive()
    }
}

/// A name that no other process has: the pod's, and a random number.
pub fn identity(pod: &str) -> String {
    format!("{pod}_{:016x}", RandomState::new().hash_one(pod))
}

/// What came of one try.
enum Tried {
    Leads,
    Waits(Instant),
}

impl Candidate {
    /// A candidate of this [`identity`], and the leadership that it may win.
    pub fn new(client: Client, election: Election, identity: String) -> (Self, Leadership) {
        let (lead, leadership) = watch::channel(Lead::Not);
        let candidate = Self {
            api: Api::namespaced(client, &election.namespace),
            election,
            identity,
            lead,
            observed: None,
            current: None,
            failing: false,
        };
        (candidate, Leadership(Some(leadership)))
    }

    /// Stands for election until `stop` is ready, or the lead is lost. `stop` must be ready only
    /// after the last write: the Lease is given away then.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Ended {
        let ended = tokio::select! {
            lost = self.stand() => Ended::Lost(lost),
            () = stop => Ended::Released,
        };
        let led = self.lead.send_replace(Lead::Not).holds();
        if led && ended == Ended::Released {
            self.release().await;
        }
        ended
    }

    /// Returns when the lead was won and lost.
    async fn stand(&mut self) -> String {
        let timing = self.election.timing;
        loop {
            let leads = match *self.lead.borrow() {
                Lead::Until(until) => Some(until),
                Lead::Not => None,
            };
            let asked = Instant::now();
            let limit = asked + timing.renew;
            let limit = leads.map_or(limit, |until| until.min(limit));
            let tried = match timeout(limit.duration_since(asked), self.attempt()).await {
                Ok(Ok(tried)) => Ok(tried),
                Ok(Err(error)) => Err(error.to_string()),
                // Whether the write arrived is unknown; only reading the Lease tells.
                Err(_) => Err("no answer in time".to_owned()),
            };
            if let Err(error) = &tried
                && !self.failing
            {
                tracing::warn!(%error, lease = %self.election.lease, "cannot get the Lease");
            }
            self.failing = tried.is_err();
            let next = match (tried, leads) {
                (Ok(Tried::Leads), _) => {
                    if leads.is_none() {
                        tracing::info!(identity = %self.identity, "leads");
                    }
                    let until = asked + timing.renew_deadline;
                    self.lead.send_replace(Lead::Until(until));
                    asked + timing.renew
                }
                (Ok(Tried::Waits(until)), None) => until,
                (Ok(Tried::Waits(_)), Some(_)) => {
                    let holder = self.observed.as_ref().map_or("", Observed::holder);
                    return format!("the Lease is held by {holder:?}");
                }
                (Err(error), leads) => {
                    let next = Instant::now() + timing.retry;
                    if leads.is_some_and(|until| until <= next) {
                        return format!("the Lease could not be renewed: {error}");
                    }
                    next
                }
            };
            sleep_until(next).await;
        }
    }

    /// Renews or takes the Lease, or finds that another replica holds it.
    async fn attempt(&mut self) -> Result<Tried, kube::Error> {
        // A leader knows what it wrote last, and a conflict tells when that is no longer so.
        if self.failing || !self.lead.borrow().holds() {
            self.read().await?;
        }
        let first = match self.hold().await {
            Err(error) if is_conflict(&error) => {
                self.read().await?;
                self.hold().await
            }
            other => other,
        };
        match first {
            // Another replica was faster, twice: it is its turn.
            Err(error) if is_conflict(&error) => {
                Ok(Tried::Waits(Instant::now() + self.election.timing.retry))
            }
            other => other,
        }
    }

    /// Writes this replica into the Lease, if nobody else holds it.
    async fn hold(&mut self) -> Result<Tried, kube::Error> {
        let step = decide(
            &self.identity,
            self.observed.as_ref(),
            Instant::now(),
            Timestamp::now(),
            self.election.timing,
        );
        match step {
            Step::Wait(until) => Ok(Tried::Waits(until)),
            Step::Hold(spec) => self.write(*spec).await.map(|()| Tried::Leads),
        }
    }

    /// Looks at the Lease. One that has vanished still binds for as long as it was to last: its
    /// holder may not know yet.
    async fn read(&mut self) -> Result<(), kube::Error> {
        self.current = self.api.get_opt(&self.election.lease).await?;
        if let Some(lease) = &self.current {
            let spec = lease.spec.clone().unwrap_or_default();
            let seen = Observed::update(self.observed.take(), spec, Instant::now());
            self.observed = Some(seen);
        }
        Ok(())
    }

    /// Creates or replaces the Lease; a version other than the one that was seen is a conflict.
    async fn write(&mut self, spec: LeaseSpec) -> Result<(), kube::Error> {
        let name = &self.election.lease;
        let params = PostParams::default();
        let written = match self.current.clone() {
            None => {
                let lease = Lease {
                    metadata: ObjectMeta {
                        name: Some(name.clone()),
                        ..ObjectMeta::default()
                    },
                    spec: Some(spec),
                };
                self.api.create(&params, &lease).await?
            }
            Some(mut lease) => {
                lease.spec = Some(spec);
                self.api.replace(name, &params, &lease).await?
            }
        };
        let spec = written.spec.clone().unwrap_or_default();
        self.observed = Some(Observed::update(None, spec, Instant::now()));
        self.current = Some(written);
        Ok(())
    }

    /// Gives the Lease away, so that another replica need not wait.
    async fn release(&mut self) {
        match timeout(self.election.timing.renew * 2, self.clear()).await {
            Ok(Ok(())) => tracing::info!("gave the Lease away"),
            Ok(Err(error)) => tracing::warn!(%error, "cannot give the Lease away; it will run out"),
            Err(_) => tracing::warn!("cannot give the Lease away in time; it will run out"),
        }
    }

    /// Takes this replica's name off the Lease. It is read first: a renewal may have been under
    /// way when the election ended.
    async fn clear(&mut self) -> Result<(), kube::Error> {
        self.read().await?;
        let Some(observed) = self
            .observed
            .as_ref()
            .filter(|o| o.holder() == self.identity)
        else {
            return Ok(());
        };
        let spec = LeaseSpec {
            holder_identity: Some(String::new()),
            lease_duration_seconds: Some(1),
            renew_time: Some(MicroTime(Timestamp::now())),
            ..observed.spec.clone()
        };
        self.write(spec).await
    }
}

/// Whether the Lease is not what it was when it was seen.
fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
}

#[cfg(test)]
mod tests;

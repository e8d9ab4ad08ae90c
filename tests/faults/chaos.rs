//! Faults between the operator and the API server, each at a numbered request or watch event.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "at most points, most faults do nothing"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use haldane::{
    controller::ANSWER_TIMEOUT,
    sim::{
        Gate,
        server::{
            After, ApiServer, Before, Call, Delivery, Interceptor, Outcome, Refusal, Verb,
            WatchEvent,
        },
    },
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Where a process ends at a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Position {
    /// The server never sees it.
    BeforeSending,
    /// The server carries it out, the answer never arrives.
    AnswerLost,
    /// The answer has just arrived.
    AfterAnswer,
}

impl Position {
    pub const ALL: [Self; 3] = [Self::BeforeSending, Self::AnswerLost, Self::AfterAnswer];

    /// Whether the server has carried the request out by then.
    pub fn is_done(self) -> bool {
        self != Self::BeforeSending
    }
}

/// How a request goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Error {
    Conflict,
    NotFound,
    Gone,
    Invalid,
    Throttled,
    Internal,
    Unavailable,
    Forbidden,
    Unauthorized,
    Reset,
    Timeout,
    /// Carried out, then a 504.
    DoneButTimeout,
    /// Carried out, then the connection breaks.
    DoneButReset,
    /// Carried out, and half of the answer arrives.
    Truncated,
}

impl Error {
    pub const ALL: [Self; 14] = [
        Self::Conflict,
        Self::NotFound,
        Self::Gone,
        Self::Invalid,
        Self::Throttled,
        Self::Internal,
        Self::Unavailable,
        Self::Forbidden,
        Self::Unauthorized,
        Self::Reset,
        Self::Timeout,
        Self::DoneButTimeout,
        Self::DoneButReset,
        Self::Truncated,
    ];

    fn before(self) -> Before {
        let refuse = |code, reason, text: &str| Before::Refuse(Refusal::new(code, reason, text));
        match self {
            Self::Conflict => refuse(409, "Conflict", "the object has been modified"),
            Self::NotFound => refuse(404, "NotFound", "not found"),
            Self::Gone => refuse(410, "Expired", "too old resource version"),
            Self::Invalid => refuse(422, "Invalid", "is invalid"),
            Self::Throttled => Before::Refuse(
                Refusal::new(429, "TooManyRequests", "too many requests").retry_after(2),
            ),
            Self::Internal => refuse(500, "InternalError", "etcdserver: leader changed"),
            Self::Unavailable => refuse(503, "ServiceUnavailable", "shutting down"),
            Self::Forbidden => refuse(403, "Forbidden", "forbidden"),
            Self::Unauthorized => refuse(401, "Unauthorized", "token expired"),
            Self::Reset => Before::Reset,
            Self::Timeout => Before::Hang,
            Self::DoneButTimeout | Self::DoneButReset | Self::Truncated => Before::Proceed,
        }
    }

    fn after(self) -> After {
        match self {
            Self::DoneButTimeout => {
                After::Replace(Refusal::new(504, "Timeout", "request timed out"))
            }
            Self::DoneButReset => After::Lose,
            Self::Truncated => After::Truncate,
            _ => After::Deliver,
        }
    }
}

/// What happens to a watch event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Twist {
    /// It comes so many seconds late, with all behind it.
    Late(u64),
    /// The watch ends before it and is resumed.
    Close,
    /// Its revision is forgotten: a new list shows the last state only.
    Expire,
    /// It is lost with all that come within so many seconds; then a new list shows the last state.
    Merge(u64),
}

/// One fault. Requests and events are counted over all lives of the operator, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Fault {
    /// The process ends at a request.
    Crash { call: u64, position: Position },
    /// So many requests in a row go wrong.
    Fail { call: u64, times: u64, error: Error },
    /// A request takes so many seconds.
    Slow { call: u64, seconds: u64 },
    /// Reads see the past for so many requests.
    Stale {
        call: u64,
        times: u64,
        revisions: u64,
    },
    /// A process sleeps at a request while another one takes over, and wakes with it.
    Depose { call: u64, seconds: u64 },
    /// Another process starts at a request, and both work for so many seconds; then the first ends.
    Overlap { call: u64, seconds: u64 },
    /// The process ends at a request, and the next one is served by a server that lags behind: its
    /// lists show the past, and it hears of what happened since only so many seconds later.
    TimeTravel {
        call: u64,
        revisions: u64,
        seconds: u64,
    },
    /// From a request on the server is out of reach for whoever makes it, for so many seconds.
    Away { call: u64, seconds: u64 },
    /// An event goes wrong.
    Event { event: u64, twist: Twist },
}

impl Fault {
    /// How long it goes on.
    pub fn lasts(&self) -> Duration {
        let seconds = match *self {
            // A watch without an answer is asked for again after this, and tells nothing before.
            Self::Fail {
                error: Error::Timeout,
                ..
            } => return ANSWER_TIMEOUT,
            Self::Slow { seconds, .. }
            | Self::Depose { seconds, .. }
            | Self::Overlap { seconds, .. }
            | Self::TimeTravel { seconds, .. }
            | Self::Away { seconds, .. }
            | Self::Event {
                twist: Twist::Late(seconds) | Twist::Merge(seconds),
                ..
            } => seconds,
            Self::Crash { .. } | Self::Fail { .. } | Self::Stale { .. } | Self::Event { .. } => 0,
        };
        Duration::from_secs(seconds)
    }
}

/// Whether what happens is printed as it does: for replays.
pub static TOLD: AtomicBool = AtomicBool::new(false);

pub fn is_told() -> bool {
    TOLD.load(Ordering::Relaxed)
}

/// More requests than anybody needs at one moment.
const FLOOD: u64 = 1_000;

/// What was counted so far, and what is under way.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    calls: u64,
    /// Writes, and reads of one object before a write: what a release at rest never does.
    deeds: u64,
    events: u64,
    sites: Vec<String>,
    /// Requests at one moment of the world.
    at_once: Option<(Instant, u64)>,
    flooded: bool,
    /// What the operator wrote.
    audit: BTreeSet<u64>,
    /// Requests of processes that slept meanwhile, by sequence, and what they wrote.
    asleep: BTreeSet<u64>,
    late: BTreeSet<u64>,
    /// Faults that happened, by their place in the schedule.
    struck: BTreeSet<usize>,
    /// When a life ends that another one was started beside.
    ends: BTreeMap<String, Instant>,
    /// Until when the server is out of reach for a process.
    away: BTreeMap<String, Instant>,
    /// A life that sees the past: its user, by how many revisions, and until when.
    behind: Option<(String, u64, Instant)>,
    /// What is to happen to the answer of a request, by sequence.
    answers: BTreeMap<u64, Fault>,
    /// Numbers of requests under way, by sequence, where somebody is told of them.
    numbers: BTreeMap<u64, u64>,
}

/// Stands before the gate and lets faults happen.
pub struct Chaos {
    gate: Arc<Gate>,
    server: ApiServer,
    faults: Vec<Fault>,
    start: Instant,
    counts: Mutex<Counts>,
    witness: Option<Witness>,
}

/// Who is told of each request, before it is carried out and after it (then it is done): its number
/// and what was counted by then.
pub type Witness = Box<dyn Fn(u64, bool, &Counts) + Send + Sync>;

impl Chaos {
    pub fn new(gate: Arc<Gate>, server: ApiServer, faults: Vec<Fault>) -> Self {
        Self {
            gate,
            server,
            faults,
            start: Instant::now(),
            counts: Mutex::default(),
            witness: None,
        }
    }

    /// No faults, but for what they did to the counts so far.
    pub fn resume(gate: Arc<Gate>, server: ApiServer, counts: Counts) -> Self {
        Self {
            counts: Mutex::new(counts),
            ..Self::new(gate, server, Vec::new())
        }
    }

    /// Tells somebody of each request.
    pub fn tell(mut self, witness: Witness) -> Self {
        self.witness = Some(witness);
        self
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap()
    }

    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    pub fn events(&self) -> u64 {
        self.lock().events
    }

    /// How many requests wrote something, or tried, or read one object to be sure of it.
    pub fn deeds(&self) -> u64 {
        self.lock().deeds
    }

    /// What kind of request each was.
    pub fn sites(&self) -> Vec<String> {
        self.lock().sites.clone()
    }

    /// Whether the operator made a revision.
    pub fn wrote(&self, revision: u64) -> bool {
        self.lock().audit.contains(&revision)
    }

    /// Whether a process that was replaced in its sleep made a revision. No check before it is sent
    /// can keep such a write back; whoever replaced the process has to put it right.
    pub fn came_late(&self, revision: u64) -> bool {
        self.lock().late.contains(&revision)
    }

    /// Whether the server was asked without end.
    pub fn flooded(&self) -> bool {
        self.lock().flooded
    }

    /// Whether each fault of the schedule happened.
    pub fn all_struck(&self) -> bool {
        self.lock().struck.len() == self.faults.len()
    }
}

fn is_operator(call: &Call) -> bool {
    call.user.starts_with("operator-")
}

/// Whether a watch begins with what is listed, which may be of the past. What is listed for a
/// decision, of one service, is read from where it is written, whichever server is asked.
fn begins_watch(call: &Call) -> bool {
    call.verb == Verb::List && call.namespace.is_empty()
}

/// The life after a life.
fn next_life(user: &str) -> String {
    let life: u64 = user
        .trim_start_matches("operator-")
        .parse()
        .unwrap_or_default();
    format!("operator-{}", life + 1)
}

impl Counts {
    fn has_ended(&self, user: &str) -> bool {
        self.ends
            .get(user)
            .is_some_and(|end| *end <= Instant::now())
    }

    /// Whether so much was asked without any time between that it will never end.
    fn is_flood(&mut self) -> bool {
        let now = Instant::now();
        let before = self.at_once.filter(|(when, _)| *when == now);
        let count = before.map_or(0, |(_, count)| count) + 1;
        self.at_once = Some((now, count));
        self.flooded |= count > FLOOD;
        count > FLOOD
    }

    /// How long the server stays out of reach.
    fn away(&self, user: &str) -> Option<Duration> {
        let rest = self
            .away
            .get(user)?
            .saturating_duration_since(Instant::now());
        (!rest.is_zero()).then_some(rest)
    }

    /// What a life that sees the past has to wait for, and how far it is behind.
    fn behind(&self, user: &str) -> Option<(u64, Duration)> {
        let (who, revisions, until) = self.behind.as_ref()?;
        let rest = until.saturating_duration_since(Instant::now());
        (who == user && !rest.is_zero()).then_some((*revisions, rest))
    }
}

impl Interceptor for Chaos {
    fn before(&self, call: &Call) -> Before {
        let gated = self.gate.before(call);
        if !is_operator(call) || matches!(gated, Before::Hang) {
            return gated;
        }
        let mut counts = self.lock();
        if counts.has_ended(&call.user) {
            return Before::Hang;
        }
        if counts.is_flood() {
            return Before::Hang;
        }
        counts.deeds += u64::from(call.verb.writes() || call.verb == Verb::Get);
        if counts.away(&call.user).is_some() {
            return Before::Reset;
        }
        counts.calls += 1;
        let number = counts.calls;
        let sub = call.subresource.map_or("", |sub| sub.as_str());
        let site = format!("{} {} {sub}", call.verb.as_str(), call.resource);
        counts.sites.push(site.trim_end().to_owned());
        if is_told() {
            let at = self.start.elapsed().as_secs_f64();
            println!("{at:8.3} #{number} {}: {site} {}", call.user, call.name);
        }
        if let Some(witness) = &self.witness {
            counts.numbers.insert(call.sequence, number);
            witness(number, false, &counts);
        }
        let reads = call.verb == Verb::Get || begins_watch(call);
        for (index, fault) in self.faults.iter().enumerate() {
            let within = |from: u64, times: u64| (from..from + times).contains(&number);
            let hit = match *fault {
                Fault::Crash { call, .. }
                | Fault::Slow { call, .. }
                | Fault::Depose { call, .. }
                | Fault::Overlap { call, .. }
                | Fault::Away { call, .. }
                | Fault::TimeTravel { call, .. } => call == number,
                Fault::Fail { call, times, .. } => within(call, times),
                Fault::Stale { call, times, .. } => reads && within(call, times),
                Fault::Event { .. } => false,
            };
            if !hit {
                continue;
            }
            counts.struck.insert(index);
            if is_told() {
                println!("    {fault:?}");
            }
            match *fault {
                Fault::Crash { position, .. } => {
                    if position == Position::BeforeSending {
                        self.gate.end(&call.user, false);
                        return Before::Hang;
                    }
                    counts.answers.insert(call.sequence, *fault);
                }
                Fault::Fail { error, .. } => {
                    counts.answers.insert(call.sequence, *fault);
                    return error.before();
                }
                Fault::Slow { seconds, .. } => return Before::Delay(Duration::from_secs(seconds)),
                Fault::Stale { revisions, .. } => return Before::Stale(revisions),
                Fault::Depose { seconds, .. } => {
                    self.gate.end(&call.user, true);
                    counts.asleep.insert(call.sequence);
                    return Before::Delay(Duration::from_secs(seconds));
                }
                Fault::Overlap { seconds, .. } => {
                    let end = Instant::now() + Duration::from_secs(seconds);
                    counts.ends.entry(call.user.clone()).or_insert(end);
                    self.gate.double();
                }
                Fault::TimeTravel {
                    revisions, seconds, ..
                } => {
                    let until = Instant::now() + Duration::from_secs(seconds);
                    counts.behind = Some((next_life(&call.user), revisions, until));
                    self.gate.end(&call.user, false);
                    return Before::Hang;
                }
                Fault::Away { seconds, .. } => {
                    let end = Instant::now() + Duration::from_secs(seconds);
                    counts.away.insert(call.user.clone(), end);
                    return Before::Reset;
                }
                Fault::Event { .. } => {}
            }
        }
        match counts.behind(&call.user) {
            Some((revisions, _)) if begins_watch(call) => Before::Stale(revisions),
            _ => gated,
        }
    }

    fn after(&self, call: &Call, outcome: Outcome<'_>) -> After {
        let gated = self.gate.after(call, outcome);
        if !is_operator(call) {
            return gated;
        }
        let mut counts = self.lock();
        if is_told() && outcome.code >= 300 {
            println!("    refused: {} {}", outcome.code, outcome.reason);
        }
        if call.verb.writes() && outcome.code < 300 {
            let revision = self.server.revision();
            counts.audit.insert(revision);
            if counts.asleep.contains(&call.sequence) {
                counts.late.insert(revision);
            }
        }
        if let Some(witness) = &self.witness
            && let Some(number) = counts.numbers.remove(&call.sequence)
        {
            witness(number, true, &counts);
        }
        match counts.answers.remove(&call.sequence) {
            Some(Fault::Crash { position, .. }) => {
                self.gate.end(&call.user, false);
                if position == Position::AnswerLost {
                    After::Hang
                } else {
                    gated
                }
            }
            Some(Fault::Fail { error, .. }) => error.after(),
            _ => gated,
        }
    }

    fn event(&self, call: &Call, event: WatchEvent<'_>) -> Delivery {
        let gated = self.gate.event(call, event);
        if !is_operator(call) || !matches!(gated, Delivery::Deliver) {
            return gated;
        }
        let mut counts = self.lock();
        if counts.has_ended(&call.user) {
            return Delivery::Wait;
        }
        if let Some((_, rest)) = counts.behind(&call.user) {
            return Delivery::Hold(rest);
        }
        if let Some(rest) = counts.away(&call.user) {
            return Delivery::Hold(rest);
        }
        counts.events += 1;
        let number = counts.events;
        let hit = self
            .faults
            .iter()
            .enumerate()
            .find_map(|(index, fault)| match *fault {
                Fault::Event { event, twist } if event == number => Some((index, twist)),
                _ => None,
            });
        let Some((index, twist)) = hit else {
            return gated;
        };
        counts.struck.insert(index);
        if is_told() {
            println!("    {twist:?} of event {number} for {}", call.user);
        }
        match twist {
            Twist::Late(seconds) => Delivery::Hold(Duration::from_secs(seconds)),
            Twist::Close => Delivery::Close,
            Twist::Expire => Delivery::Expire,
            Twist::Merge(seconds) => Delivery::Merge(Duration::from_secs(seconds)),
        }
    }
}

//! Schedules of faults: tried on all cores, shrunk when something goes wrong, kept as files.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    thread,
    time::Instant,
};

use haldane::controller::Decider;
use serde::{Deserialize, Serialize};

use crate::{
    chaos::{Fault, Position, Twist},
    flow::Flow,
    trial::{Trial, try_crashes, try_out},
};

/// A trial, as a file holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// Name of the flow.
    pub flow: String,
    /// Seconds by which proxies follow late.
    pub lag: u64,
    /// Seed of the world.
    pub seed: u64,
    pub faults: Vec<Fault>,
}

/// What came of a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Right,
    /// A fault never happened: nothing was tried.
    Missed,
    Wrong(String),
}

type Calm = Arc<OnceLock<Trial>>;

/// Flows without faults, by name and lag.
static CALM: Mutex<BTreeMap<(String, u64), Calm>> = Mutex::new(BTreeMap::new());

fn place(flow: &str, lag: u64) -> Calm {
    let key = (flow.to_owned(), lag);
    Arc::clone(CALM.lock().unwrap().entry(key).or_default())
}

/// What a flow comes to without faults.
pub fn calm<T>(flow: &str, lag: u64, read: impl FnOnce(&Trial) -> T) -> T {
    let place = place(flow, lag);
    read(
        place.get_or_init(|| try_out(&Flow::named(flow).lagging(lag), &[], 1, &Decider::default())),
    )
}

impl Schedule {
    pub fn new(flow: &str, faults: Vec<Fault>) -> Self {
        Self {
            flow: flow.to_owned(),
            lag: 1,
            seed: 1,
            faults,
        }
    }

    /// Tries it: every invariant has to hold, and the end to be the one without faults.
    pub fn outcome(&self) -> Outcome {
        let trial = try_out(&self.world(), &self.faults, self.seed, &Decider::default());
        self.judge(trial)
    }

    fn world(&self) -> Flow {
        Flow::named(&self.flow).lagging(self.lag)
    }

    /// Where it crashes, when that is all that happens.
    fn crash(&self) -> Option<(u64, Position)> {
        match self.faults[..] {
            [Fault::Crash { call, position }] => Some((call, position)),
            _ => None,
        }
    }

    fn judge(&self, trial: Trial) -> Outcome {
        if let Some(violation) = trial.violation {
            return Outcome::Wrong(format!("{}: {violation:?}", self.flow));
        }
        let mut differences = calm(&self.flow, self.lag, |calm| {
            calm.end.differences(&trial.end)
        });
        // A cookie follows from when its release began.
        differences.retain(|line| !line.contains("Set-Cookie"));
        if !differences.is_empty() {
            return Outcome::Wrong(format!("{}: L2 {differences:?}", self.flow));
        }
        if trial.struck {
            Outcome::Right
        } else {
            Outcome::Missed
        }
    }

    fn wrong(&self) -> Option<String> {
        match self.outcome() {
            Outcome::Wrong(text) => Some(text),
            Outcome::Right | Outcome::Missed => None,
        }
    }

    /// A smaller schedule that still goes wrong: fault after fault is dropped, then each made
    /// milder, then the world as usual.
    fn shrink(&self) -> Self {
        let mut left = self.clone();
        let mut index = 0;
        while index < left.faults.len() {
            let mut fewer = left.clone();
            fewer.faults.remove(index);
            if fewer.wrong().is_some() {
                left = fewer;
            } else {
                index += 1;
            }
        }
        for index in 0..left.faults.len() {
            while let Some(milder) = left.faults.get(index).and_then(milder) {
                let mut next = left.clone();
                next.faults[index] = milder;
                if next.wrong().is_none() {
                    break;
                }
                left = next;
            }
        }
        for usual in [
            Self {
                lag: 1,
                ..left.clone()
            },
            Self {
                seed: 1,
                ..left.clone()
            },
        ] {
            if usual != left && usual.wrong().is_some() {
                left = usual;
            }
        }
        left
    }
}

/// The same fault with half of its length; none when it is as short as can be.
fn milder(fault: &Fault) -> Option<Fault> {
    let half = |n: u64| n / 2;
    let milder = match *fault {
        Fault::Fail { call, times, error } if times > 1 => Fault::Fail {
            call,
            times: half(times),
            error,
        },
        Fault::Slow { call, seconds } if seconds > 1 => Fault::Slow {
            call,
            seconds: half(seconds),
        },
        Fault::Stale {
            call,
            times,
            revisions,
        } if times > 1 => Fault::Stale {
            call,
            times: half(times),
            revisions,
        },
        Fault::Depose { call, seconds } if seconds > 1 => Fault::Depose {
            call,
            seconds: half(seconds),
        },
        Fault::Overlap { call, seconds } if seconds > 1 => Fault::Overlap {
            call,
            seconds: half(seconds),
        },
        Fault::Away { call, seconds } if seconds > 1 => Fault::Away {
            call,
            seconds: half(seconds),
        },
        Fault::TimeTravel {
            call,
            revisions,
            seconds,
        } if seconds > 1 => Fault::TimeTravel {
            call,
            revisions,
            seconds: half(seconds),
        },
        Fault::Event {
            event,
            twist: Twist::Late(s),
        } if s > 1 => Fault::Event {
            event,
            twist: Twist::Late(half(s)),
        },
        Fault::Event {
            event,
            twist: Twist::Merge(s),
        } if s > 1 => Fault::Event {
            event,
            twist: Twist::Merge(half(s)),
        },
        Fault::Crash { .. }
        | Fault::Fail { .. }
        | Fault::Slow { .. }
        | Fault::Stale { .. }
        | Fault::Depose { .. }
        | Fault::Overlap { .. }
        | Fault::Away { .. }
        | Fault::TimeTravel { .. }
        | Fault::Event { .. } => return None,
    };
    Some(milder)
}

/// Most wrong schedules that are shrunk: one shows as much as a hundred.
const MOST_SHRUNK: usize = 5;

/// Does something with each of them, on all cores.
pub fn on_all_cores<T: Sync>(all: &[T], work: impl Fn(&T) + Sync) {
    let waiting = Mutex::new(all.iter());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap().next();
                    let Some(next) = next else { break };
                    work(next);
                }
            });
        }
    });
}

/// Schedules that have all in common until a crash, which is all that happens, and others each by
/// itself.
fn worlds(schedules: &[Schedule]) -> Vec<Vec<&Schedule>> {
    let mut crashes: BTreeMap<_, Vec<&Schedule>> = BTreeMap::new();
    let mut others = Vec::new();
    for schedule in schedules {
        if schedule.crash().is_some() {
            let world = (&schedule.flow, schedule.lag, schedule.seed);
            crashes.entry(world).or_default().push(schedule);
        } else {
            others.push(vec![schedule]);
        }
    }
    crashes.into_values().chain(others).collect()
}

fn outcomes<'a>(world: &[&'a Schedule]) -> Vec<(&'a Schedule, Outcome)> {
    let (first, crashes) = match world {
        [] => return Vec::new(),
        [alone] => return vec![(*alone, alone.outcome())],
        [first, ..] => (first, world.iter().filter_map(|schedule| schedule.crash())),
    };
    let crashes: Vec<_> = crashes.collect();
    let trials = try_crashes(&first.world(), &crashes, first.seed, &Decider::default());
    let judge = |(schedule, trial): (&&'a Schedule, Option<Trial>)| {
        let outcome = trial.map_or(Outcome::Missed, |trial| schedule.judge(trial));
        (*schedule, outcome)
    };
    world.iter().zip(trials).map(judge).collect()
}

/// Tries all of them, and fails with those that go wrong, shrunk, and how to replay each. One whose
/// fault never happened is not counted as a run.
pub fn try_all(what: &str, schedules: &[Schedule]) {
    let started = Instant::now();
    let (mut runs, mut missed, mut found) = (0_usize, 0_usize, Vec::new());
    let counts = Mutex::new((&mut runs, &mut missed, &mut found));
    on_all_cores(&worlds(schedules), |world| {
        for (schedule, outcome) in outcomes(world) {
            let mut counts = counts.lock().unwrap();
            match outcome {
                Outcome::Right => *counts.0 += 1,
                Outcome::Missed => *counts.1 += 1,
                Outcome::Wrong(text) => {
                    println!("{text}\n  {}", serde_json::to_string(schedule).unwrap());
                    *counts.0 += 1;
                    counts.2.push((schedule.clone(), text));
                }
            }
        }
    });
    println!(
        "{what}: {runs} runs in {:.1} s, {} wrong; {missed} more whose fault never happened",
        started.elapsed().as_secs_f64(),
        found.len()
    );
    let told: Vec<String> = found
        .iter()
        .take(MOST_SHRUNK)
        .map(|(schedule, text)| {
            let small = schedule.shrink();
            let text = small.wrong().unwrap_or_else(|| text.clone());
            let file = serde_json::to_string(&small).unwrap();
            format!(
                "{text}\n  replay: HALDANE_FAULT_REPLAY='{file}' cargo test --test faults replay"
            )
        })
        .collect();
    assert!(
        found.is_empty(),
        "{} wrong\n{}",
        found.len(),
        told.join("\n")
    );
    let tried = runs + missed;
    assert!(
        runs * 10 >= tried * 8,
        "too many faults never happened: {missed} of {tried}"
    );
}

/// Schedules that once went wrong.
pub fn regressions() -> Vec<Schedule> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/faults/regressions");
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "json"))
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).unwrap();
            serde_json::from_str(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect()
}

//! Faults at every request and event. A sample of them by default; `HALDANE_FAULT_RUNS=20000 cargo
//! test --profile trials --test faults -- --nocapture --test-threads=1` tries so many crashes, half
//! as many random schedules, and 500 of each other kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, atomic::Ordering},
};

use haldane::{controller::Decider, sim::Dice};

use crate::{
    chaos::{Error, Fault, Position, TOLD, Twist},
    flow::Flow,
    invariants::INVARIANTS,
    schedule::{Outcome, Schedule, calm, on_all_cores, regressions, try_all},
    trial::{Mark, try_crashes, try_out},
};

/// How many crashes are tried when nobody says it.
const SAMPLE: usize = 24;

fn runs() -> usize {
    let asked = std::env::var("HALDANE_FAULT_RUNS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(SAMPLE)
}

/// How many of each other kind: of few crashes a quarter, of many a fortieth.
fn others() -> usize {
    (runs() / 4).min(75).max(runs() / 40)
}

/// Seconds by which proxies follow late, in turn.
const LAGS: [u64; 6] = [1, 0, 7, 30, 120, 60];

fn names() -> Vec<&'static str> {
    Flow::all().iter().map(|flow| flow.name).collect()
}

/// So many schedules: first one for each kind, then more of all, then the same in other worlds.
/// `of` says what kind a schedule is.
fn choose<K: Ord>(all: Vec<(K, Schedule)>, most: usize) -> (Vec<Schedule>, usize) {
    let mut kinds = BTreeSet::new();
    let (mut first, mut rest) = (Vec::new(), Vec::new());
    for (kind, schedule) in all {
        if kinds.insert(kind) {
            first.push(schedule);
        } else {
            rest.push(schedule);
        }
    }
    shuffle(&mut first);
    shuffle(&mut rest);
    first.extend(rest);
    let whole = first.len();
    let worlds = first.iter().cycle().enumerate().take(most);
    let chosen = worlds
        .map(|(index, schedule)| {
            let world = index / whole;
            let seed = 1 + world as u64;
            Schedule {
                lag: LAGS[world % LAGS.len()],
                seed,
                ..schedule.clone()
            }
        })
        .collect();
    (chosen, kinds.len())
}

fn shuffle<T>(list: &mut [T]) {
    let mut dice = Dice::new(1);
    for index in (1..list.len()).rev() {
        let other = usize::try_from(dice.roll()).unwrap_or_default() % (index + 1);
        list.swap(index, other);
    }
}

#[test]
fn release_without_faults_keeps_every_invariant() {
    let wrong = Mutex::new(Vec::new());
    on_all_cores(&names(), |name| {
        calm(name, 1, |trial| {
            println!(
                "{name}: {} requests, {} events, {} s",
                trial.calls, trial.events, trial.seconds
            );
            if let Some(found) = &trial.violation {
                wrong
                    .lock()
                    .unwrap()
                    .push(format!("{name}: {found:?}\n  {:?}", trial.story));
            }
        });
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} flows, {} invariants", names().len(), INVARIANTS.len());
}

#[test]
fn list_or_watch_without_answer_is_asked_again() {
    let error = Error::Timeout;
    let schedules = [("step-weights", 10), ("blue-green", 2), ("newer", 9)].map(|(name, call)| {
        Schedule::new(
            name,
            vec![Fault::Fail {
                call,
                times: 1,
                error,
            }],
        )
    });
    try_all("requests of watches without answer", &schedules);
}

#[test]
fn crash_at_a_request_changes_nothing() {
    let mut chosen = Vec::new();
    for world in 0.. {
        let mut moments = crashes(LAGS[world % LAGS.len()], 1 + world as u64);
        moments.truncate(runs() - chosen.len());
        chosen.extend(moments);
        if chosen.len() == runs() {
            break;
        }
    }
    try_all("single crashes", &chosen);
}

/// A crash at each moment of each flow at which something is another than at the moment before, in
/// any order. What a process leaves behind at a request is what it leaves behind at the next one,
/// unless something happened meanwhile: mostly nothing happens between one answer and the next
/// request, nor when it reads.
fn crashes(lag: u64, seed: u64) -> Vec<Schedule> {
    let (mut sites, mut kinds, mut places) = (BTreeSet::new(), BTreeSet::new(), 0);
    let mut moments = Vec::new();
    on_all_cores(&names(), |name| calm(name, lag, |_| ()));
    for name in names() {
        calm(name, lag, |calm| {
            for position in Position::ALL {
                let kind = |site| (name, position, site);
                kinds.extend(calm.sites.iter().cloned().map(kind));
            }
            places += calm.sites.len() * Position::ALL.len();
            sites.extend(calm.sites.iter().cloned());
            let mut worlds = BTreeSet::new();
            for mark in &calm.marks {
                if !worlds.insert(&mark.world) {
                    continue;
                }
                let (call, position) = mark.crash();
                let crash = Fault::Crash { call, position };
                moments.push(Schedule {
                    lag,
                    seed,
                    ..Schedule::new(name, vec![crash])
                });
            }
        });
    }
    println!(
        "proxies {lag} s late, seed {seed}: {} sites of requests, {} of site, position and flow, {places} \
         places at {} moments",
        sites.len(),
        kinds.len(),
        moments.len()
    );
    shuffle(&mut moments);
    moments
}

/// Single crashes are tried once for all requests with the same world, and share what comes before
/// them: each goes on from a copy. This tries some of them from the start as well.
#[test]
fn crash_in_a_copy_of_a_world_comes_to_the_same() {
    const BETWEEN: usize = 15;
    let decider = Decider::default();
    let names = ["config", "autoscaled", "gateway", "gate-of-the-promotion"];
    on_all_cores(&names, |name| {
        let flow = Flow::named(name);
        let marks = calm(name, 1, |calm| calm.marks.clone());
        for Mark { call, done, world } in marks.iter().step_by(BETWEEN + 1) {
            let said = format!("{name}, {call}, {world:?}");
            let first = marks.iter().find(|mark| mark.world == *world).unwrap();
            let copy = try_crashes(&flow, &[first.crash()], 1, &decider);
            let copy = copy.into_iter().next().flatten().expect(&said);
            let position = if *done {
                Position::AfterAnswer
            } else {
                Position::BeforeSending
            };
            let crash = Fault::Crash {
                call: *call,
                position,
            };
            let whole = try_out(&flow, &[crash], 1, &decider);
            assert_eq!(copy.violation, whole.violation, "{said}");
            assert_eq!(copy.story, whole.story, "{said}");
            assert_eq!(copy.end.differences(&whole.end), [""; 0], "{said}");
        }
    });
}

#[test]
fn two_crashes_change_nothing() {
    // Requests of a start, of which a crash adds as many.
    const START: usize = 34;
    let mut all = Vec::new();
    for name in ["canary", "config"] {
        let sites = calm(name, 1, |calm| calm.sites.clone());
        let ends = sites.len() + START;
        for (first, site) in sites.iter().enumerate() {
            for second in first + 1..ends {
                for positions in Position::ALL
                    .map(|a| Position::ALL.map(|b| [a, b]))
                    .concat()
                {
                    let faults = [first, second].into_iter().zip(positions);
                    let faults = faults.map(|(index, position)| Fault::Crash {
                        call: index as u64 + 1,
                        position,
                    });
                    let kind = (name, site.clone(), second < first + START, positions);
                    all.push((kind, Schedule::new(name, faults.collect())));
                }
            }
        }
    }
    println!("{} pairs of places", all.len());
    try_all("pairs of crashes", &choose(all, others()).0);
}

#[test]
fn error_at_a_request_changes_nothing() {
    let mut all = Vec::new();
    for name in names() {
        for (index, site) in calm(name, 1, |calm| calm.sites.clone())
            .into_iter()
            .enumerate()
        {
            for error in Error::ALL {
                let call = index as u64 + 1;
                let fault = Fault::Fail {
                    call,
                    times: 1,
                    error,
                };
                all.push(((error, site.clone()), Schedule::new(name, vec![fault])));
            }
        }
    }
    try_all("single errors", &choose(all, others()).0);
}

#[test]
fn event_that_is_lost_merged_or_late_changes_nothing() {
    let twists = [
        Twist::Late(15),
        Twist::Close,
        Twist::Expire,
        Twist::Merge(15),
    ];
    let mut all = Vec::new();
    for name in names() {
        for event in 1..=calm(name, 1, |calm| calm.events) {
            for twist in twists {
                let fault = Fault::Event { event, twist };
                all.push(((name, twist), Schedule::new(name, vec![fault])));
            }
        }
    }
    try_all("single events", &choose(all, others()).0);
}

#[test]
fn other_leader_or_stale_read_changes_nothing() {
    let mut all = Vec::new();
    for name in names() {
        for (index, site) in calm(name, 1, |calm| calm.sites.clone())
            .into_iter()
            .enumerate()
        {
            let call = index as u64 + 1;
            let faults = [
                Fault::Overlap { call, seconds: 20 },
                Fault::Away { call, seconds: 30 },
                Fault::Depose { call, seconds: 15 },
                Fault::TimeTravel {
                    call,
                    revisions: 20,
                    seconds: 15,
                },
            ];
            for (kind, fault) in faults.into_iter().enumerate() {
                all.push(((kind, site.clone()), Schedule::new(name, vec![fault])));
            }
            if site.starts_with("get") || site.starts_with("list") {
                let fault = Fault::Stale {
                    call,
                    times: 12,
                    revisions: 25,
                };
                all.push(((9, site.clone()), Schedule::new(name, vec![fault])));
            }
        }
    }
    try_all("other leaders and stale reads", &choose(all, others()).0);
}

/// Up to four faults, at requests and events that the flow has.
fn at_random(seed: u64, names: &[&str]) -> Schedule {
    let mut dice = Dice::new(seed);
    let mut below = |n: u64| dice.roll() % n.max(1);
    let name = names[usize::try_from(below(names.len() as u64)).unwrap()];
    // What a flow comes to without faults has to be known for each lag.
    let lag = match below(4) {
        0 | 1 => 1,
        _ => LAGS[usize::try_from(below(LAGS.len() as u64)).unwrap()],
    };
    let (sites, events) = calm(name, lag, |calm| (calm.sites.clone(), calm.events));
    let reads: Vec<u64> = (1..)
        .zip(&sites)
        .filter(|(_, site)| site.starts_with("get") || site.starts_with("list"))
        .map(|(call, _)| call)
        .collect();
    let calls = sites.len() as u64;
    let faults = (0..=below(4))
        .map(|_| {
            let (call, times) = (1 + below(calls), 1 + below(6));
            match below(9) {
                0 => {
                    let position = Position::ALL[usize::try_from(below(3)).unwrap()];
                    Fault::Crash { call, position }
                }
                1 => {
                    let error = Error::ALL[usize::try_from(below(14)).unwrap()];
                    Fault::Fail { call, times, error }
                }
                2 => Fault::Slow {
                    call,
                    seconds: 1 + below(8),
                },
                3 => {
                    let call = reads[usize::try_from(below(reads.len() as u64)).unwrap()];
                    Fault::Stale {
                        call,
                        times,
                        revisions: 1 + below(30),
                    }
                }
                4 => Fault::Depose {
                    call,
                    seconds: 1 + below(20),
                },
                5 => Fault::Overlap {
                    call,
                    seconds: 1 + below(30),
                },
                7 => Fault::Away {
                    call,
                    seconds: 1 + below(40),
                },
                6 => {
                    let (revisions, seconds) = (1 + below(30), 1 + below(20));
                    Fault::TimeTravel {
                        call,
                        revisions,
                        seconds,
                    }
                }
                _ => {
                    let twist = match below(4) {
                        0 => Twist::Late(1 + below(20)),
                        1 => Twist::Close,
                        2 => Twist::Expire,
                        _ => Twist::Merge(1 + below(20)),
                    };
                    Fault::Event {
                        event: 1 + below(events),
                        twist,
                    }
                }
            }
        })
        .collect();
    Schedule {
        flow: name.to_owned(),
        lag,
        seed,
        faults,
    }
}

#[test]
fn random_faults_change_nothing() {
    let names = names();
    let first: u64 = std::env::var("HALDANE_FAULT_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1);
    let seeds: Vec<u64> = (first..first + runs() as u64 / 2).collect();
    let schedules: Mutex<BTreeMap<u64, Schedule>> = Mutex::default();
    on_all_cores(&seeds, |seed| {
        let schedule = at_random(*seed, &names);
        schedules.lock().unwrap().insert(*seed, schedule);
    });
    let schedules: Vec<Schedule> = schedules.into_inner().unwrap().into_values().collect();
    let mut lags: BTreeMap<u64, usize> = BTreeMap::new();
    for schedule in &schedules {
        *lags.entry(schedule.lag).or_default() += 1;
    }
    println!("schedules by lag in seconds: {lags:?}");
    try_all("random schedules", &schedules);
}

#[test]
fn schedule_that_once_went_wrong_keeps_every_invariant() {
    try_all("regressions", &regressions());
}

#[test]
fn replay_of_a_schedule_keeps_every_invariant() {
    let Ok(text) = std::env::var("HALDANE_FAULT_REPLAY") else {
        // Nothing was asked for: one run comes to the same twice.
        let schedule = at_random(1, &["canary"]);
        assert_eq!(schedule.outcome(), schedule.outcome());
        return;
    };
    let schedule: Schedule = serde_json::from_str(&text).unwrap();
    // The end to compare with, before anything is printed.
    let story = calm(&schedule.flow, schedule.lag, |calm| calm.story.clone());
    println!("{story:?}");
    TOLD.store(true, Ordering::Relaxed);
    assert_eq!(schedule.outcome(), Outcome::Right);
}

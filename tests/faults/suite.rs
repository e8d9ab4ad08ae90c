//! Faults by the thousand. `HALDANE_FAULT_RUNS=1000000 cargo test --profile fast --test faults
//! random -- --nocapture` tries a million schedules.

use std::{collections::BTreeSet, sync::Mutex, thread, time::Instant};

use haldane::{controller::Decider, sim::Dice};

use crate::{
    chaos::{Error, Fault, Position, Twist},
    trial::{Flow, Trial, try_out},
};

fn runs(default: usize) -> usize {
    let asked = std::env::var("HALDANE_FAULT_RUNS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// What is wrong with a trial; it must end as the calm one did.
fn wrong(flow: &Flow, calm: &Trial, faults: &[Fault]) -> Option<String> {
    let trial = try_out(flow, faults, 1, &Decider::default());
    let found = match trial.violation {
        Some(violation) => format!("{violation:?}"),
        None => {
            let differences = calm.end.differences(&trial.end);
            if differences.is_empty() {
                return None;
            }
            format!("L2 {differences:?}")
        }
    };
    Some(found)
}

/// Drops fault after fault while it still goes wrong.
fn shrink(flow: &Flow, calm: &Trial, faults: &[Fault]) -> Vec<Fault> {
    let mut left = faults.to_vec();
    let mut index = 0;
    while index < left.len() {
        let mut fewer = left.clone();
        fewer.remove(index);
        if wrong(flow, calm, &fewer).is_some() {
            left = fewer;
        } else {
            index += 1;
        }
    }
    left
}

/// Tries all schedules on all cores; what went wrong, shrunk, with how to replay it.
fn all(schedules: &[(Flow, Vec<Fault>)]) -> Vec<String> {
    let names: BTreeSet<&str> = schedules.iter().map(|(flow, _)| flow.name).collect();
    let calm: Vec<(&str, Trial)> = names
        .into_iter()
        .map(|name| {
            (
                name,
                try_out(&Flow::named(name), &[], 1, &Decider::default()),
            )
        })
        .collect();
    let waiting = Mutex::new(schedules.iter());
    let found = Mutex::new(Vec::new());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let Some((flow, faults)) = waiting.lock().unwrap().next() else { break };
                    let (_, calm) = calm.iter().find(|(name, _)| *name == flow.name).unwrap();
                    if let Some(text) = wrong(flow, calm, faults) {
                        let small = shrink(flow, calm, faults);
                        let text = wrong(flow, calm, &small).unwrap_or(text);
                        let file = serde_json::to_string(&(flow.name, small)).unwrap();
                        found.lock().unwrap().push(format!(
                            "{text}\n  replay: HALDANE_FAULT_REPLAY='{file}' cargo test --test faults replay"
                        ));
                    }
                }
            });
        }
    });
    found.into_inner().unwrap()
}

fn report(what: &str, schedules: &[(Flow, Vec<Fault>)]) {
    let started = Instant::now();
    let found = all(schedules);
    println!(
        "{what}: {} runs in {:.1} s, {} wrong",
        schedules.len(),
        started.elapsed().as_secs_f64(),
        found.len()
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// So many of them, spread evenly.
fn some<T: Clone>(all: &[T], most: usize) -> Vec<T> {
    let stride = all.len().div_ceil(most.max(1)).max(1);
    all.iter().step_by(stride).cloned().collect()
}

#[test]
fn release_without_faults_keeps_every_invariant() {
    let mut wrong = Vec::new();
    for flow in Flow::all() {
        let started = Instant::now();
        let trial = try_out(&flow, &[], 1, &Decider::default());
        println!(
            "{}: {} calls, {} events, {} s in {:?}",
            flow.name,
            trial.calls,
            trial.events,
            trial.seconds,
            started.elapsed()
        );
        wrong.extend(trial.violation.map(|found| (flow.name, found)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn crash_at_a_request_changes_nothing() {
    let mut schedules = Vec::new();
    let mut sites = BTreeSet::new();
    for flow in Flow::all() {
        let calm = try_out(&flow, &[], 1, &Decider::default());
        sites.extend(calm.sites);
        for call in 1..=calm.calls {
            for position in Position::ALL {
                schedules.push((flow.clone(), vec![Fault::Crash { call, position }]));
            }
        }
    }
    println!("{} sites, {} crashes", sites.len(), schedules.len());
    report("single crashes", &some(&schedules, runs(60)));
}

#[test]
fn error_at_a_request_changes_nothing() {
    let mut schedules = Vec::new();
    for flow in Flow::all() {
        let calm = try_out(&flow, &[], 1, &Decider::default());
        for call in 1..=calm.calls {
            for error in Error::ALL {
                schedules.push((
                    flow.clone(),
                    vec![Fault::Fail {
                        call,
                        times: 1,
                        error,
                    }],
                ));
            }
        }
    }
    report("single errors", &some(&schedules, runs(60)));
}

fn schedule(flow: &Flow, dice: &mut Dice) -> Vec<Fault> {
    let mut below = |n: u64| dice.roll() % n;
    let _ = flow;
    (0..=below(4))
        .map(|_| {
            let (call, times) = (1 + below(160), 1 + below(6));
            match below(6) {
                0 => Fault::Crash {
                    call,
                    position: Position::ALL[usize::try_from(below(3)).unwrap()],
                },
                1 => Fault::Fail {
                    call,
                    times,
                    error: Error::ALL[usize::try_from(below(14)).unwrap()],
                },
                2 => Fault::Slow {
                    call,
                    seconds: 1 + below(8),
                },
                3 => Fault::Stale {
                    call,
                    times,
                    revisions: 1 + below(30),
                },
                4 => Fault::Depose {
                    call,
                    seconds: 1 + below(20),
                },
                _ => {
                    let twist = [Twist::Late(1 + below(20)), Twist::Close, Twist::Expire];
                    Fault::Event {
                        event: 1 + below(300),
                        twist: twist[usize::try_from(below(3)).unwrap()],
                    }
                }
            }
        })
        .collect()
}

#[test]
fn random_faults_change_nothing() {
    let flows = Flow::all();
    let schedules: Vec<_> = (0..runs(40) as u64)
        .map(|seed| {
            let mut dice = Dice::new(seed);
            let flow = &flows[usize::try_from(dice.roll()).unwrap_or_default() % flows.len()];
            (flow.clone(), schedule(flow, &mut dice))
        })
        .collect();
    report("random schedules", &schedules);
}

#[test]
fn replay_of_a_schedule_keeps_every_invariant() {
    let Ok(text) = std::env::var("HALDANE_FAULT_REPLAY") else {
        return;
    };
    let (name, faults): (String, Vec<Fault>) = serde_json::from_str(&text).unwrap();
    let flow = Flow::named(&name);
    let calm = try_out(&flow, &[], 1, &Decider::default());
    assert_eq!(wrong(&flow, &calm, &faults), None);
}

//! Faults at every request and event, a sample of them by default: `HALDANE_FAULT_RUNS=100000 cargo
//! test --release --test faults -- --nocapture` tries as many of each kind.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{LazyLock, Mutex},
    thread,
    time::Instant,
};

use haldane::{controller::Decider, sim::Dice};

use crate::{
    chaos::{Error, Fault, Position, Twist},
    trial::{Flow, Trial, try_out},
};

fn runs(default: usize) -> usize {
    let asked = std::env::var("HALDANE_FAULT_RUNS").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Every flow without faults.
static CALM: LazyLock<BTreeMap<&str, Trial>> = LazyLock::new(|| {
    let flows = Flow::all().into_iter();
    flows
        .map(|flow| (flow.name, try_out(&flow, &[], 1, &Decider::default())))
        .collect()
});

/// What is wrong with a trial; it must end as the calm one did.
fn wrong(flow: &Flow, faults: &[Fault]) -> Option<String> {
    let calm = &CALM[flow.name];
    let trial = try_out(flow, faults, 1, &Decider::default());
    if let Some(violation) = trial.violation {
        return Some(format!("{violation:?}"));
    }
    let differences = calm.end.differences(&trial.end);
    (!differences.is_empty()).then(|| format!("L2 {differences:?}"))
}

/// Drops fault after fault while it still goes wrong.
fn shrink(flow: &Flow, faults: &[Fault]) -> Vec<Fault> {
    let mut left = faults.to_vec();
    let mut index = 0;
    while index < left.len() {
        let mut fewer = left.clone();
        fewer.remove(index);
        if wrong(flow, &fewer).is_some() {
            left = fewer;
        } else {
            index += 1;
        }
    }
    left
}

/// Tries all schedules on all cores; what went wrong, shrunk, with how to replay it.
fn all(schedules: &[(Flow, Vec<Fault>)]) -> Vec<String> {
    let waiting = Mutex::new(schedules.iter());
    let found = Mutex::new(Vec::new());
    let cores = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let Some((flow, faults)) = waiting.lock().unwrap().next() else { break };
                    if let Some(text) = wrong(flow, faults) {
                        let small = shrink(flow, faults);
                        let text = wrong(flow, &small).unwrap_or(text);
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

/// So many of them, spread evenly. The step shares no factor with the numbers of positions (3) and
/// of errors (14), so that each comes up.
fn some<T: Clone>(all: &[T], most: usize) -> Vec<T> {
    let mut step = (all.len() / most.max(1)).max(1);
    while [2, 3, 7].iter().any(|factor| step.is_multiple_of(*factor)) {
        step += 1;
    }
    all.iter().step_by(step).cloned().collect()
}

#[test]
fn release_without_faults_keeps_every_invariant() {
    let mut wrong = Vec::new();
    for (name, trial) in &*CALM {
        let Trial {
            calls,
            events,
            seconds,
            ..
        } = trial;
        println!("{name}: {calls} requests, {events} events, {seconds} s");
        wrong.extend(trial.violation.as_ref().map(|found| (name, found)));
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn list_or_watch_without_answer_is_asked_again() {
    let error = Error::Timeout;
    let schedules = [("step-weights", 10), ("blue-green", 2), ("newer", 9)].map(|(name, call)| {
        let times = 1;
        let fault = Fault::Fail { call, times, error };
        (Flow::named(name), vec![fault])
    });
    report("requests of watches without answer", &schedules);
}

#[test]
fn crash_at_a_request_changes_nothing() {
    let mut schedules = Vec::new();
    let mut sites = BTreeSet::new();
    for flow in Flow::all() {
        let calm = &CALM[flow.name];
        sites.extend(&calm.sites);
        for call in 1..=calm.calls {
            for position in Position::ALL {
                schedules.push((flow.clone(), vec![Fault::Crash { call, position }]));
            }
        }
    }
    println!(
        "{} requests at {} sites: {sites:?}",
        schedules.len() / 3,
        sites.len()
    );
    report("single crashes", &some(&schedules, runs(20)));
}

#[test]
fn error_at_a_request_changes_nothing() {
    let mut schedules = Vec::new();
    for flow in Flow::all() {
        let calm = &CALM[flow.name];
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
    report("single errors", &some(&schedules, runs(20)));
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
    let schedules: Vec<_> = (0..runs(16) as u64)
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
    // Without a schedule of the caller's, one that once left a watch without an answer for ever.
    let text = std::env::var("HALDANE_FAULT_REPLAY").unwrap_or_else(|_| {
        r#"["mirror",[{"Fail":{"call":34,"times":4,"error":"Timeout"}},{"Depose":{"call":24,"seconds":9}}]]"#.to_owned()
    });
    let (name, faults): (String, Vec<Fault>) = serde_json::from_str(&text).unwrap();
    let flow = Flow::named(&name);
    assert_eq!(wrong(&flow, &faults), None);
}

//! What a release in the embedded world costs: `cargo bench --bench rollout`, with
//! `-- ROUNDS` for another number of rounds, and `-- ROUNDS NAME` for one release only.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use std::{fs, time::Instant};

use haldane::sim::{
    Options, Scenario, World, manifests,
    rollout::{Release, Verdict, perform},
};
use serde_json::json;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Nanoseconds that this thread had a core; those that passed where the system does not tell.
fn busy(started: Instant) -> u128 {
    fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or_else(|| started.elapsed().as_nanos())
}

/// The mean cost of a round, in microseconds: some systems count time by the tick, which is as long as
/// many a round.
fn cost(rounds: usize, mut round: impl FnMut()) -> u128 {
    let rounds = rounds.max(1);
    let started = Instant::now();
    let before = busy(started);
    for _ in 0..rounds {
        round();
    }
    (busy(started) - before) / 1000 / rounds as u128
}

/// A release of the demo's application by weight: `interval` per step of `step` percent up to 50.
fn release(interval: &str, step: u32, requests_per_second: u32) -> Release {
    let mut manifests = manifests::application("shop");
    let analysis = &mut manifests[1]["spec"]["analysis"];
    analysis["interval"] = json!(interval);
    analysis["stepWeight"] = json!(step);
    let scenario = Scenario {
        requests_per_second,
        ..Scenario::default()
    };
    Release::new(manifests, ("default", "shop"), scenario)
}

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|word| word != "--bench");
    let rounds = arguments.next().and_then(|text| text.parse().ok());
    let rounds = rounds.unwrap_or(20);
    let chosen = arguments.next().unwrap_or_default();
    let releases = [
        ("30 minutes, 40 requests/s", release("1m", 2, 40)),
        ("30 minutes, 10 requests/s", release("1m", 2, 10)),
        ("3 minutes, 12 requests/s", release("10s", 10, 12)),
    ];
    for (name, release) in releases {
        if !name.contains(&chosen) {
            continue;
        }
        let first = perform(&release).unwrap();
        assert_eq!(first.verdict, Verdict::Promoted, "{name}");
        let cost = cost(rounds, || drop(perform(&release).unwrap()));
        println!(
            "{cost:>8} µs  {name}: {} s simulated, {} requests of users, {} to the API server ({} writes)",
            first.figures.seconds,
            first.figures.served + first.figures.failed,
            first.figures.api_requests,
            first.figures.api_writes,
        );
    }
    if "empty".contains(&chosen) {
        let cost = cost(rounds, || {
            let empty = async || drop(World::new(1, Options::default()).unwrap());
            haldane::sim::run(empty).unwrap();
        });
        println!("{cost:>8} µs  a world without releases");
    }
}

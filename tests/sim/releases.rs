use std::time::Duration;

use haldane::sim::{
    Options, Scenario, manifests,
    rollout::{Recording, Release, Verdict, perform},
};

fn rollout(scenario: &str, seed: u64) -> Recording {
    let release = Release {
        manifests: manifests::application("shop"),
        namespace: "default".to_owned(),
        canary: "shop".to_owned(),
        options: Options {
            scenario: Scenario::named(scenario).unwrap(),
            ..Options::default()
        },
        seed,
        limit: Duration::from_hours(1),
    };
    perform(&release).unwrap()
}

fn messages(recording: &Recording) -> Vec<&str> {
    let events = recording.frames.iter().flat_map(|frame| &frame.events);
    events.map(|told| told.message.as_str()).collect()
}

#[test]
fn release_ends_as_its_scenario_deserves() {
    for (scenario, verdict) in [
        ("good", Verdict::Promoted),
        ("errors", Verdict::RolledBack),
        ("slow", Verdict::RolledBack),
        ("crash-loop", Verdict::RolledBack),
        ("late-errors", Verdict::RolledBack),
        ("no-traffic", Verdict::RolledBack),
    ] {
        let recording = rollout(scenario, 1);
        println!(
            "{scenario}: {:?} {:?}\n{:#?}",
            recording.verdict,
            recording.figures,
            messages(&recording)
        );
        assert_eq!(recording.verdict, verdict, "{scenario}");
        assert_eq!(recording.figures.dropped, 0, "{scenario}");
    }
}

#[test]
fn release_with_one_seed_is_the_same_each_time() {
    assert_eq!(rollout("errors", 7), rollout("errors", 7));
    assert_ne!(
        rollout("errors", 7).figures.failed,
        rollout("errors", 8).figures.failed
    );
}

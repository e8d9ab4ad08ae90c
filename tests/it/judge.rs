//! Releases that are judged against the live primary.

use haldane::api::{Phase, judge_status::JudgeVerdict};
use proptest::prelude::*;

use crate::{counters::Server, fixtures::initialized, toy::Toy};

const JUDGED: &str = "{analysis: {judge: {}}}";

/// A cluster with users, whose Canary has a judge.
fn with_users(change: &str, requests_per_second: f64) -> Toy {
    let mut toy = initialized(change);
    toy.counters.requests_per_second = requests_per_second;
    toy.run(900);
    toy
}

fn released(change: &str, requests_per_second: f64, errors: f64) -> Toy {
    let mut toy = with_users(change, requests_per_second);
    toy.counters.errors.insert("podinfo:2".to_owned(), errors);
    toy.push("podinfo:2");
    toy
}

fn verdict(toy: &Toy) -> Option<JudgeVerdict> {
    toy.status().judge.map(|judge| judge.verdict)
}

#[test]
fn release_that_is_no_worse_is_promoted_by_the_judge() {
    let mut toy = released(JUDGED, 500.0, 0.001);
    toy.run(3600);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
    assert_eq!(toy.image("podinfo-primary"), "podinfo:2");
    assert_eq!(
        toy.told("Judge passed podinfo.test at"),
        3,
        "{}",
        toy.story()
    );
    assert_eq!(
        toy.status().judge.unwrap().state,
        None,
        "nobody goes on from it"
    );
    toy.assert_at_rest();
}

#[test]
fn release_that_is_worse_is_rolled_back_before_its_interval_is_over() {
    let mut toy = released("{analysis: {interval: 10m, judge: {}}}", 500.0, 0.05);
    toy.run_until("users are on the canary", |toy| toy.weight() > 0.0);
    let exposed = toy.now;
    toy.run_until("it is rolled back", |toy| toy.phase() == Phase::Failed);
    let seconds = toy.now.duration_since(exposed).as_secs();
    assert!(seconds <= 60, "{seconds} s\n{}", toy.story());
    assert_eq!(verdict(&toy), Some(JudgeVerdict::Fail));
    assert_eq!(
        toy.told("Rolling back podinfo.test canary errors"),
        1,
        "{}",
        toy.story()
    );
    toy.run(600);
    assert_eq!((toy.weight(), toy.replicas("podinfo")), (0.0, 0));
    toy.assert_at_rest();
}

#[test]
fn release_that_is_slower_is_rolled_back_for_its_latency() {
    let mut toy = released(JUDGED, 500.0, 0.001);
    toy.counters.slow.push("podinfo:2".to_owned());
    toy.run(3600);
    assert_eq!(toy.phase(), Phase::Failed, "{}", toy.story());
    assert_eq!(
        toy.told("Rolling back podinfo.test canary latency"),
        1,
        "{}",
        toy.story()
    );
}

#[test]
fn verdict_is_in_the_status_before_the_route_changes() {
    let mut toy = released(JUDGED, 500.0, 0.05);
    toy.run_until("users are on the canary", |toy| toy.weight() > 0.0);
    toy.run_until("the judge has failed it", |toy| {
        assert!(
            toy.weight() > 0.0 || verdict(toy) == Some(JudgeVerdict::Fail),
            "{}",
            toy.story()
        );
        verdict(toy) == Some(JudgeVerdict::Fail)
    });
}

#[test]
fn release_of_little_traffic_is_extended_and_ends_its_step_with_the_pass() {
    let mut toy = released(
        "{analysis: {threshold: 3, judge: {undecided: {extend: 1000}}}}",
        20.0,
        0.001,
    );
    toy.run_until("the step is extended", |toy| {
        toy.status().judge.is_some_and(|judge| judge.extended)
    });
    assert_eq!(
        toy.told("Halt podinfo.test advancement"),
        1,
        "{}",
        toy.story()
    );
    assert!(
        toy.status().halt_reason.unwrap().contains("more requests"),
        "{}",
        toy.story()
    );
    toy.run_until("the next step", |toy| toy.status().canary_weight == 40);
    // The pass ends the step; no further interval is waited for.
    let record = toy.status().judge.unwrap();
    assert_eq!(record.step_started, Some(toy.now), "{}", toy.story());
    toy.run_until("promoted", |toy| toy.phase() == Phase::Succeeded);
}

#[test]
fn release_that_stays_undecided_is_held_for_a_person_or_rolled_back() {
    let none = 0.02;
    let mut toy = released("{analysis: {judge: {undecided: {extend: 2}}}}", none, 0.001);
    toy.run(300);
    assert_eq!(toy.phase(), Phase::Progressing, "{}", toy.story());
    assert_eq!(
        (toy.told("waiting for a person"), toy.weight()),
        (1, 20.0),
        "{}",
        toy.story()
    );
    toy.request("promote");
    toy.run(600);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());

    let back = "{analysis: {judge: {undecided: {extend: 2, then: RollBack}}}}";
    let mut toy = released(back, none, 0.001);
    toy.run(300);
    assert_eq!(toy.phase(), Phase::Failed, "{}", toy.story());
    assert_eq!(
        toy.told("undecided after 2 extensions"),
        1,
        "{}",
        toy.story()
    );
}

#[test]
fn release_gets_no_user_before_the_judge_can_see() {
    for server in [Server::Down, Server::Silent] {
        let mut toy = with_users(JUDGED, 500.0);
        toy.counters.server = server;
        toy.push("podinfo:2");
        toy.run(1200);
        assert_eq!(
            (toy.phase(), toy.weight()),
            (Phase::Progressing, 0.0),
            "{server:?}\n{}",
            toy.story()
        );
        if server == Server::Down {
            let halted = toy.status().halt_reason.unwrap();
            assert!(
                halted.contains("connection refused") && halted.contains("spec.metricsServer"),
                "{halted}"
            );
        }
        toy.counters.server = Server::Answers;
        toy.run(3600);
        assert_eq!(toy.phase(), Phase::Succeeded, "{server:?}\n{}", toy.story());
    }
}

#[test]
fn release_whose_counters_are_lost_never_passes() {
    let servers: [fn(&Toy) -> Server; 4] = [
        |_| Server::Down,
        |_| Server::Silent,
        |_| Server::NoCanary,
        |toy| Server::Stuck(toy.now),
    ];
    for server in servers {
        let mut toy = released("{analysis: {interval: 2m, judge: {}}}", 500.0, 0.001);
        toy.run_until("a pass", |toy| verdict(toy) == Some(JudgeVerdict::Pass));
        toy.counters.server = server(&toy);
        toy.run(1000);
        assert_eq!(
            toy.weight(),
            20.0,
            "{:?}\n{}",
            toy.counters.server,
            toy.story()
        );
        let halted = toy.status().halt_reason.unwrap();
        assert!(halted.contains("the judge"), "{halted}");
        toy.counters.server = Server::Answers;
        toy.run(3600);
        assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
    }
}

#[test]
fn evidence_goes_on_after_restarts_without_a_jump() {
    let change = "{analysis: {interval: 5m, judge: {metrics: [{name: errors, kind: ratio}]}}}";
    let mut toy = released(change, 100.0, 0.0015);
    toy.run_until("users are on the canary", |toy| toy.weight() > 0.0);
    let mut restarted = toy.clone();
    for round in 0..20 {
        for toy in [&mut toy, &mut restarted] {
            toy.run(37);
        }
        // Between looks, and at once after one.
        if round % 2 == 0 {
            restarted.crash();
        }
        let state = |toy: &Toy| {
            toy.status()
                .judge
                .map(|judge| (judge.time, judge.evidence, judge.metrics))
        };
        assert_eq!(state(&toy), state(&restarted), "{}", restarted.story());
    }
}

#[test]
fn evidence_starts_over_when_the_settings_change() {
    let mut toy = released(JUDGED, 100.0, 0.001);
    toy.run_until("evidence", |toy| {
        toy.status()
            .judge
            .is_some_and(|judge| judge.metrics.iter().any(|m| m.canary_requests > 0.0))
    });
    toy.edit_spec("{analysis: {judge: {beta: 0.1}}}");
    toy.look();
    assert_eq!(
        toy.told("starts over with a new alpha"),
        1,
        "{}",
        toy.story()
    );
    let counted = toy.status().judge.unwrap().metrics;
    assert!(
        counted.iter().all(|m| m.canary_requests == 0.0),
        "{counted:?}"
    );
    toy.run(3600);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
    assert_eq!(toy.told("starts over with a new alpha"), 1);
}

#[test]
fn release_after_a_bad_one_is_not_judged_by_its_predecessor() {
    let mut toy = released(JUDGED, 500.0, 0.05);
    toy.run_until("users are on the canary", |toy| toy.weight() > 0.0);
    toy.run(10);
    toy.push("podinfo:3");
    toy.run(3600);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
    assert_eq!(toy.image("podinfo-primary"), "podinfo:3");
}

#[test]
fn thresholds_and_requests_work_beside_the_judge() {
    let mut toy = released(JUDGED, 20.0, 0.001);
    toy.run_until("the step is extended", |toy| {
        toy.status().judge.is_some_and(|judge| judge.extended)
    });
    toy.metrics = crate::toy::Metrics::Fail;
    toy.run(120);
    assert_eq!(toy.phase(), Phase::Failed, "{}", toy.story());
    assert_eq!(toy.told("failed checks threshold reached"), 1);
}

#[test]
fn paused_release_is_still_rolled_back_by_the_judge() {
    let mut toy = with_users(JUDGED, 500.0);
    toy.push("podinfo:2");
    toy.run_until("users are on the canary", |toy| toy.weight() > 0.0);
    toy.request("pause");
    toy.run(30);
    toy.counters.errors.insert("podinfo:2".to_owned(), 0.05);
    toy.run(300);
    assert_eq!(toy.phase(), Phase::Failed, "{}", toy.story());
}

#[test]
fn look_costs_one_write_at_most_and_none_when_nothing_moved() {
    let mut toy = released("{analysis: {interval: 30m, judge: {}}}", 500.0, 0.001);
    toy.run_until("users are on the canary", |toy| toy.weight() > 0.0);
    toy.run(60);
    let before = toy.writes;
    toy.run(300);
    let looks = 300 / 15;
    assert!(
        toy.writes - before <= looks + 1,
        "{} writes\n{}",
        toy.writes - before,
        toy.story()
    );
    toy.counters.requests_per_second = 0.0;
    toy.run(30);
    let before = toy.writes;
    toy.run(300);
    assert_eq!(toy.writes, before, "{}", toy.story());
}

/// What happens while a release is judged.
#[derive(Clone, Debug)]
enum Event {
    Time(i64),
    Restart,
    Server(Server),
    Pause,
    Resume,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (1_i64..90).prop_map(Event::Time),
        2 => Just(Event::Restart),
        1 => prop::sample::select(vec![Server::Down, Server::Silent, Server::NoCanary])
            .prop_map(Event::Server),
        2 => Just(Event::Server(Server::Answers)),
        1 => Just(Event::Pause),
        1 => Just(Event::Resume),
    ];
    prop::collection::vec(event, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever happens to operator and metrics server: who is bad is never promoted, who is as
    /// good as the primary is never rolled back, and each gets its verdict in the end.
    #[test]
    fn judged_release_gets_its_verdict_whatever_happens(
        is_bad: bool, requests_per_second in 50.0..2000.0_f64, events in events(),
    ) {
        let change = "{analysis: {interval: 30s, stepWeight: null, maxWeight: null, stepWeights: \
                      [20, 50], judge: {undecided: {extend: 1000}}}}";
        let errors = if is_bad { 0.03 } else { 0.001 };
        let mut toy = released(change, requests_per_second, errors);
        for event in events {
            match event {
                Event::Time(seconds) => toy.run(seconds),
                Event::Restart => toy.crash(),
                Event::Server(server) => toy.counters.server = server,
                Event::Pause => toy.request("pause"),
                Event::Resume => toy.request("resume"),
            }
        }
        toy.counters.server = Server::Answers;
        toy.request("resume");
        let over = |toy: &Toy| matches!(toy.phase(), Phase::Succeeded | Phase::Failed);
        toy.run_until("a verdict", over);
        let wanted = if is_bad { Phase::Failed } else { Phase::Succeeded };
        prop_assert_eq!(toy.phase(), wanted, "{}", toy.story());
    }
}

//! Gates and requests of people.

use haldane::{
    api::{Phase, status::Notice},
    object::Kind,
};
use serde_json::json;

use crate::{
    fixtures::{initialized, progressing},
    toy::{Metrics, Toy},
};

fn gated(kind: &str) -> Toy {
    let mut toy = initialized(&format!(
        "{{analysis: {{webhooks: [{{name: gate, type: {kind}, url: 'http://gate/'}}, \
         {{name: back, type: rollback, url: 'http://gate/'}}]}}}}"
    ));
    toy.flipped.insert("gate".to_owned());
    toy.push("podinfo:2");
    toy
}

#[test]
fn gate_of_a_rollout_holds_the_revision_and_tells_once() {
    let mut toy = gated("confirm-rollout");
    toy.run(600);
    assert_eq!(
        (toy.phase(), toy.replicas("podinfo")),
        (Phase::Waiting, 0),
        "{}",
        toy.story()
    );
    assert_eq!(toy.told("waiting for approval gate"), 1);
    toy.flipped.clear();
    toy.run(1200);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
}

#[test]
fn target_that_somebody_scales_up_behind_a_gate_stays_up() {
    let mut toy = initialized(
        "{analysis: {webhooks: [{name: gate, type: confirm-rollout, url: 'http://gate/'}]}}",
    );
    toy.flipped.insert("gate".to_owned());
    // Before the target was scaled to zero for the first time.
    toy.push("podinfo:2");
    toy.run(600);
    assert_eq!(
        (toy.phase(), toy.replicas("podinfo")),
        (Phase::Waiting, 0),
        "{}",
        toy.story()
    );
    assert_eq!(toy.status().scaled_down, Some(true));
    toy.edit(
        Kind::Deployment,
        "podinfo",
        &json!({"spec": {"replicas": 1}}),
    );
    toy.run(600);
    assert_eq!(toy.replicas("podinfo"), 1, "{}", toy.story());
}

#[test]
fn gate_that_is_muted_mutes_no_namesake_of_another_kind() {
    let hooks = |muted: [bool; 2]| {
        format!(
            "{{analysis: {{webhooks: [\
              {{name: gate, type: confirm-rollout, url: 'http://gate/', muteAlert: {}}}, \
              {{name: gate, type: confirm-promotion, url: 'http://gate/', muteAlert: {}}}]}}}}",
            muted[0], muted[1]
        )
    };
    for muted in [[true, false], [false, true]] {
        let mut toy = initialized(&hooks(muted));
        let alerts = |toy: &Toy| {
            let waits = |notice: &&Notice| notice.message.contains("waiting for");
            let waits = toy.notices.iter().filter(waits);
            waits
                .map(|notice| notice.alert.is_some())
                .collect::<Vec<_>>()
        };
        toy.flipped.insert("gate".to_owned());
        toy.push("podinfo:2");
        toy.run(120);
        assert_eq!(alerts(&toy), [!muted[0]], "{}", toy.story());
        toy.flipped.clear();
        toy.run_until("the release begins", |toy| {
            toy.phase() == Phase::Progressing
        });
        toy.flipped.insert("gate".to_owned());
        toy.run_until("it waits for promotion", |toy| {
            toy.phase() == Phase::WaitingPromotion
        });
        assert_eq!(alerts(&toy), [!muted[0], !muted[1]], "{}", toy.story());
    }
}

#[test]
fn gate_of_a_rollout_follows_what_the_target_becomes_while_it_waits() {
    let mut toy = gated("confirm-rollout");
    toy.run(60);
    toy.push("podinfo:1");
    toy.run(60);
    assert_eq!(
        toy.phase(),
        Phase::Succeeded,
        "the revision was taken back\n{}",
        toy.story()
    );
    toy.assert_at_rest();
    toy.push("podinfo:3");
    toy.run(60);
    assert_eq!(toy.phase(), Phase::Waiting);
    toy.flipped.clear();
    toy.run(1200);
    assert_eq!(toy.image("podinfo-primary"), "podinfo:3", "{}", toy.story());
}

#[test]
fn gate_of_a_traffic_increase_holds_the_weight_and_counts_nothing() {
    let mut toy = gated("confirm-traffic-increase");
    toy.run(600);
    let status = toy.status();
    assert_eq!(
        (status.phase, toy.weight(), status.failed_checks),
        (Phase::Progressing, 0.0, 0)
    );
    assert_eq!(
        toy.told("waiting for traffic increase approval gate"),
        1,
        "{}",
        toy.story()
    );
    toy.flipped.clear();
    toy.run(1200);
    assert_eq!(toy.phase(), Phase::Succeeded);
}

#[test]
fn gate_of_a_promotion_keeps_the_weight_and_goes_on_analysing() {
    let mut toy = gated("confirm-promotion");
    toy.run(600);
    let status = toy.status();
    assert_eq!(
        (status.phase, status.canary_weight, toy.weight()),
        (Phase::WaitingPromotion, 60, 60.0)
    );
    assert_eq!(
        toy.told("waiting for promotion approval gate"),
        1,
        "{}",
        toy.story()
    );
    let mut failing = toy.clone();
    failing.metrics = Metrics::Fail;
    failing.run(600);
    assert_eq!((failing.phase(), failing.weight()), (Phase::Failed, 0.0));
    toy.push("podinfo:3");
    toy.look();
    assert_eq!((toy.phase(), toy.weight()), (Phase::Progressing, 0.0));
    toy.flipped.clear();
    toy.run(1200);
    assert_eq!(toy.image("podinfo-primary"), "podinfo:3");
}

#[test]
fn request_to_promote_skips_what_is_left() {
    let mut toy = progressing("", 20);
    toy.request("promote");
    toy.run(20);
    assert_eq!(toy.image("podinfo-primary"), "podinfo:2", "{}", toy.story());
    toy.run(600);
    assert_eq!(toy.phase(), Phase::Succeeded);
    let mut waiting = gated("confirm-rollout");
    waiting.run(60);
    waiting.request("promote");
    waiting.run(20);
    assert_eq!(waiting.phase(), Phase::Progressing, "{}", waiting.story());
}

#[test]
fn request_to_pause_keeps_the_weight_until_resumed() {
    let mut toy = progressing("", 20);
    toy.request("pause");
    toy.run(600);
    assert_eq!(
        (toy.phase(), toy.weight()),
        (Phase::Progressing, 20.0),
        "{}",
        toy.story()
    );
    toy.request("resume");
    toy.run(600);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
}

#[test]
fn request_to_abort_rolls_back_and_retry_releases_once_more() {
    let mut toy = progressing("", 40);
    toy.request("abort");
    toy.run(600);
    assert_eq!(
        (toy.phase(), toy.weight()),
        (Phase::Failed, 0.0),
        "{}",
        toy.story()
    );
    toy.request("retry");
    toy.run(1200);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
}

#[test]
fn request_that_means_nothing_now_is_taken_away_and_told() {
    let mut toy = initialized("");
    for request in ["abort", "dance"] {
        toy.request(request);
        toy.run(10);
        assert_eq!(toy.told(request), 1, "{}", toy.story());
        toy.assert_at_rest();
    }
}

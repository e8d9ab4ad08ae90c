//! Faults of Flagger that must not come back, in the order in which they were found.

use haldane::{api::Phase, object::Kind};
use serde_json::json;

use crate::{
    fixtures::{config, initialized, progressing},
    toy::{Metrics, Toy},
};

fn failed() -> Toy {
    let mut toy = progressing("", 20);
    toy.metrics = Metrics::Fail;
    toy.run(600);
    assert_eq!(toy.phase(), Phase::Failed);
    toy.metrics = Metrics::Pass;
    toy
}

fn break_primary(toy: &mut Toy, image: &str) {
    let entry = ("podinfo-primary".to_owned(), image.to_owned());
    toy.workloads.faults.broken.insert(entry);
}

#[test]
fn fault_1_a_revision_that_arrives_while_failed_is_not_lost() {
    // At every write of the first look, and with a primary that is away meanwhile.
    for writes in 0..4 {
        let mut toy = failed();
        toy.workloads.faults.down.insert("podinfo-primary".into());
        toy.push("podinfo:3");
        toy.dies_before = Some(toy.writes + writes);
        toy.run(30);
        toy.workloads.faults.down.clear();
        toy.run(1200);
        assert_eq!(toy.image("podinfo-primary"), "podinfo:3", "{}", toy.story());
    }
}

#[test]
fn fault_1_a_failed_canary_is_not_written_again_and_again() {
    let mut toy = failed();
    toy.run(600);
    let before = (toy.writes, toy.status().last_transition_time);
    toy.run(3600);
    assert_eq!((toy.writes, toy.status().last_transition_time), before);
}

#[test]
fn fault_2_a_fix_after_a_failed_promotion_is_not_destroyed() {
    // One failed check ends a release: the fix must not fail for the time its pods need to start.
    let mut toy = initialized("{analysis: {threshold: 1}}");
    // The old revision does not come up either: users live on the canary alone.
    break_primary(&mut toy, "podinfo:2");
    toy.push("podinfo:2");
    toy.run_until("the promotion", |toy| toy.phase() == Phase::Promoting);
    break_primary(&mut toy, "podinfo:1");
    toy.run_until("the failure", |toy| toy.phase() == Phase::Failed);
    toy.workloads.faults.down.insert("podinfo-primary".into());
    toy.run(300);
    assert_eq!(
        (toy.weight(), toy.image("podinfo-primary").as_str()),
        (100.0, "podinfo:1")
    );
    toy.workloads.faults.down.clear();
    toy.push("podinfo:3");
    toy.run(4);
    assert!(
        toy.weight() > 0.0 && toy.replicas("podinfo") > 0,
        "{}",
        toy.story()
    );
    toy.run(2400);
    assert_eq!(
        (toy.phase(), toy.image("podinfo-primary")),
        (Phase::Succeeded, "podinfo:3".to_owned()),
        "{}",
        toy.story()
    );
}

#[test]
fn fault_3_a_revision_taken_back_is_noticed_at_once() {
    let mut toy = progressing("", 40);
    toy.push("podinfo:1");
    toy.look();
    assert_eq!(
        (toy.phase(), toy.weight()),
        (Phase::Succeeded, 0.0),
        "{}",
        toy.story()
    );
    toy.run(1200);
    assert_eq!(
        toy.told("New revision detected"),
        1,
        "no further run\n{}",
        toy.story()
    );
}

#[test]
fn fault_4_a_rollback_hook_is_asked_while_a_gate_holds() {
    let mut toy = initialized(
        "{analysis: {webhooks: [{name: gate, type: confirm-rollout, url: 'http://gate/'}, \
         {name: back, type: rollback, url: 'http://gate/'}]}}",
    );
    toy.flipped.insert("gate".into());
    toy.push("podinfo:2");
    toy.run(60);
    assert_eq!(toy.phase(), Phase::Waiting);
    toy.flipped.insert("back".into());
    toy.run(60);
    assert_eq!(toy.phase(), Phase::Failed, "{}", toy.story());
    toy.flipped.clear();
    toy.run(600);
    assert_eq!(
        toy.phase(),
        Phase::Failed,
        "the revision is not released after all"
    );
}

#[test]
fn fault_4_a_rollback_hook_is_asked_before_the_canary_is_ready() {
    let mut toy =
        initialized("{analysis: {webhooks: [{name: back, type: rollback, url: 'http://gate/'}]}}");
    let entry = ("podinfo".to_owned(), "podinfo:2".to_owned());
    toy.workloads.faults.broken.insert(entry);
    toy.push("podinfo:2");
    toy.flipped.insert("back".into());
    toy.run(40);
    assert_eq!(toy.phase(), Phase::Failed, "{}", toy.story());
}

#[test]
fn fault_5_a_rollback_at_the_deadline_is_told_with_an_alert() {
    let mut toy = initialized("");
    let entry = ("podinfo".to_owned(), "podinfo:2".to_owned());
    toy.workloads.faults.broken.insert(entry);
    toy.push("podinfo:2");
    toy.run(600);
    assert_eq!(toy.phase(), Phase::Failed);
    let alerts = toy
        .notices
        .iter()
        .filter(|n| n.message.contains("Rolling back") && n.alert.is_some());
    assert_eq!(alerts.count(), 1, "{}", toy.story());
}

#[test]
fn fault_6_a_primary_without_replicas_is_not_ready() {
    let mut toy = initialized("");
    toy.edit(
        Kind::Deployment,
        "podinfo-primary",
        &json!({"spec": {"replicas": 0}}),
    );
    toy.push("podinfo:2");
    toy.run(60);
    assert_eq!(
        (toy.phase(), toy.weight()),
        (Phase::Progressing, 0.0),
        "{}",
        toy.story()
    );
    assert!(toy.told("scaled to zero") > 0, "{}", toy.story());
}

#[test]
fn fault_7_a_mirror_step_is_taken_once() {
    let mut toy = initialized("{analysis: {mirror: true}}");
    toy.push("podinfo:2");
    toy.run(1200);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
    assert_eq!(toy.told("mirroring"), 1);
    let mut without = initialized("{provider: kubernetes, analysis: {mirror: true}}");
    without.push("podinfo:2");
    without.run(1200);
    assert_eq!(without.phase(), Phase::Succeeded, "{}", without.story());
}

#[test]
fn fault_8_a_spec_edit_or_a_foreign_edit_never_resets_the_weight() {
    let mut toy = progressing("", 40);
    toy.edit_spec("{service: {timeout: 7s}}");
    toy.look();
    assert_eq!(toy.weight(), 40.0, "{}", toy.story());
    // While traffic returns a route set to 100/0 by somebody does not stop the release.
    let mut toy = initialized("{analysis: {stepWeightPromotion: 20}}");
    toy.push("podinfo:2");
    toy.run_until("the return", |toy| {
        toy.phase() == Phase::Promoting && toy.weight() == 40.0
    });
    toy.edit(
        Kind::VirtualService,
        "podinfo",
        &json!({"spec": {"http": [{"route": [
            {"destination": {"host": "podinfo-primary"}, "weight": 100},
            {"destination": {"host": "podinfo-canary"}, "weight": 0},
        ]}]}}),
    );
    toy.run(600);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
}

#[test]
fn fault_9_step_weights_edited_during_a_run_go_on_with_the_next_above() {
    let spec = "{analysis: {stepWeight: null, maxWeight: null, stepWeights: [10, 30, 80]}}";
    let mut toy = progressing(spec, 30);
    toy.edit_spec("{analysis: {stepWeights: [5, 40, 50]}}");
    toy.run_until("the next step", |toy| toy.status().canary_weight > 30);
    assert_eq!(toy.status().canary_weight, 40, "{}", toy.story());
    toy.run(1200);
    assert_eq!(toy.phase(), Phase::Succeeded);
}

#[test]
fn fault_10_a_promotion_that_is_repeated_rolls_the_primary_once() {
    let start = progressing("", 60);
    for writes in 0..6 {
        let mut toy = start.clone();
        let before = toy.get(Kind::Deployment, "podinfo-primary")["metadata"]["generation"].clone();
        toy.dies_before = Some(toy.writes + writes);
        toy.run(1200);
        let after = toy.get(Kind::Deployment, "podinfo-primary")["metadata"]["generation"].clone();
        assert_eq!(
            after.as_i64(),
            before.as_i64().map(|n| n + 1),
            "{}",
            toy.story()
        );
        assert_eq!(toy.phase(), Phase::Succeeded);
    }
}

#[test]
fn fault_11_no_cookie_rule_is_there_before_the_first_release() {
    let toy = initialized("{analysis: {sessionAffinity: {cookieName: v, primaryCookieName: p}}}");
    let route = toy.get(Kind::VirtualService, "podinfo");
    assert_eq!(
        route["spec"]["http"].as_array().unwrap().len(),
        1,
        "{route}"
    );
}

#[test]
fn fault_11_cookies_are_new_with_each_release() {
    let mut toy =
        initialized("{analysis: {sessionAffinity: {cookieName: v, primaryCookieName: p}}}");
    let mut seen = Vec::new();
    for image in ["podinfo:2", "podinfo:3"] {
        toy.push(image);
        toy.run_until("traffic", |toy| toy.weight() == 20.0);
        let status = toy.status();
        seen.extend([
            status.session_affinity_cookie,
            status.primary_session_affinity_cookie,
        ]);
        toy.run(1200);
        assert_eq!(toy.phase(), Phase::Succeeded);
    }
    assert!(seen.iter().all(Option::is_some), "{seen:?}");
    assert_ne!(seen[0], seen[2], "the canary's");
    assert_ne!(seen[1], seen[3], "the primary's");
}

#[test]
fn fault_12_skipped_analysis_keeps_the_target_until_the_primary_serves() {
    let mut toy = initialized("{skipAnalysis: true}");
    break_primary(&mut toy, "podinfo:2");
    toy.push("podinfo:2");
    toy.run(30);
    assert_eq!(
        (toy.phase(), toy.replicas("podinfo")),
        (Phase::Promoting, 2),
        "{}",
        toy.story()
    );
}

#[test]
fn fault_13_a_config_that_cannot_be_read_stops_the_release_and_is_told() {
    let mut toy = progressing("", 40);
    toy.delete(Kind::ConfigMap, "settings");
    toy.run(120);
    assert_eq!(
        (toy.phase(), toy.weight()),
        (Phase::Progressing, 40.0),
        "{}",
        toy.story()
    );
    assert_eq!(toy.told("not found"), 1);
    toy.put(config("blue"));
    toy.run(1200);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
}

#[test]
fn fault_14_a_deletion_is_not_undone_by_the_release_under_way() {
    let mut toy = progressing("{revertOnDeletion: true}", 40);
    let now = toy.now.to_string();
    toy.edit(
        Kind::Canary,
        "podinfo",
        &json!({"metadata": {"deletionTimestamp": now}}),
    );
    toy.run_until("the apex", |toy| {
        toy.get(Kind::Service, "podinfo")["spec"]["selector"] == json!({"app": "podinfo"})
    });
    toy.run(600);
    assert_eq!(
        toy.get(Kind::Service, "podinfo")["spec"]["selector"],
        json!({"app": "podinfo"})
    );
    assert!(
        toy.get(Kind::Canary, "podinfo").is_null(),
        "{}",
        toy.story()
    );
}

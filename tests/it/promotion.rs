//! The primary takes over what passed, or does not.

use haldane::{api::Phase, object::Kind};

use crate::{
    fixtures::{config, initialized},
    toy::Toy,
};

/// A promotion after which the primary never gets ready.
fn failed_promotion(change: &str) -> Toy {
    let mut toy = initialized(change);
    break_primary(&mut toy);
    toy.push("podinfo:2");
    toy.run_until("the failure", |toy| toy.phase() == Phase::Failed);
    toy
}

fn break_primary(toy: &mut Toy) {
    let entry = ("podinfo-primary".to_owned(), "podinfo:2".to_owned());
    toy.workloads.faults.broken.insert(entry);
}

#[test]
fn promotion_that_fails_keeps_users_on_pods_that_passed_until_the_primary_is_restored() {
    let mut toy = failed_promotion("");
    assert_eq!(toy.weight(), 100.0, "{}", toy.story());
    assert_eq!(toy.image("podinfo-primary"), "podinfo:1");
    assert!(toy.replicas("podinfo") > 0);
    assert_eq!(
        toy.told("Promotion of podinfo.test failed, primary not ready"),
        1
    );
    toy.run(600);
    assert_eq!(
        (toy.phase(), toy.weight(), toy.replicas("podinfo")),
        (Phase::Failed, 0.0, 0)
    );
    toy.assert_at_rest();
}

#[test]
fn promotion_that_fails_gives_the_primary_its_config_back() {
    let mut toy = initialized("");
    break_primary(&mut toy);
    toy.put(config("red"));
    toy.push("podinfo:2");
    toy.run(1200);
    assert_eq!(toy.phase(), Phase::Failed, "{}", toy.story());
    assert_eq!(toy.image("podinfo-primary"), "podinfo:1");
    assert_eq!(
        toy.get(Kind::ConfigMap, "settings-primary")["data"]["color"],
        "blue"
    );
    // The next release brings its own data.
    toy.push("podinfo:3");
    toy.run(1200);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
    assert_eq!(
        toy.get(Kind::ConfigMap, "settings-primary")["data"]["color"],
        "red"
    );
}

#[test]
fn newer_revision_after_a_failed_promotion_rolls_forward() {
    let mut toy = failed_promotion("");
    toy.push("podinfo:3");
    toy.run(1200);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
    assert_eq!(
        (toy.image("podinfo-primary"), toy.weight()),
        ("podinfo:3".to_owned(), 0.0)
    );
}

#[test]
fn revision_that_replaces_the_target_while_promoting_is_not_promoted_unproven() {
    let mut toy = initialized("");
    toy.push("podinfo:2");
    toy.run_until("the promotion", |toy| {
        toy.image("podinfo-primary") == "podinfo:2"
    });
    assert_eq!(toy.phase(), Phase::Promoting);
    toy.push("podinfo:3");
    toy.look();
    assert_eq!(
        toy.weight(),
        0.0,
        "users leave pods that nobody proved\n{}",
        toy.story()
    );
    assert_eq!(toy.image("podinfo-primary"), "podinfo:2");
    toy.run(1200);
    assert_eq!(
        (toy.phase(), toy.image("podinfo-primary")),
        (Phase::Succeeded, "podinfo:3".to_owned())
    );
}

#[test]
fn revision_that_arrives_before_the_primary_was_written_is_analysed_first() {
    let mut toy = initialized("");
    toy.push("podinfo:2");
    // The decision to promote is written, the primary is not.
    toy.run_until("the last step", |toy| toy.weight() == 60.0);
    toy.dies_before = Some(toy.writes + 1);
    toy.run_until("the decision", |toy| toy.phase() == Phase::Promoting);
    assert_eq!(toy.image("podinfo-primary"), "podinfo:1", "{}", toy.story());
    toy.push("podinfo:3");
    toy.look();
    assert_eq!(
        (toy.phase(), toy.weight()),
        (Phase::Progressing, 0.0),
        "{}",
        toy.story()
    );
    toy.run(1200);
    assert_eq!(toy.image("podinfo-primary"), "podinfo:3");
}

#[test]
fn traffic_returns_in_steps_when_asked_to() {
    let mut toy = initialized("{analysis: {stepWeightPromotion: 25}}");
    toy.push("podinfo:2");
    toy.run(1200);
    for weight in [65, 90] {
        assert_eq!(
            toy.told(&format!("primary weight {weight}")),
            1,
            "{}",
            toy.story()
        );
    }
    assert_eq!((toy.phase(), toy.weight()), (Phase::Succeeded, 0.0));
}

#[test]
fn skipped_analysis_waits_for_the_primary_before_the_target_goes() {
    let mut toy = initialized("{skipAnalysis: true}");
    toy.workloads
        .faults
        .broken
        .insert(("podinfo-primary".into(), "podinfo:2".into()));
    toy.push("podinfo:2");
    toy.run(30);
    assert_eq!(toy.phase(), Phase::Promoting, "{}", toy.story());
    assert!(toy.replicas("podinfo") > 0);
    toy.workloads.faults.broken.clear();
    toy.run(600);
    assert_eq!(
        (toy.phase(), toy.replicas("podinfo")),
        (Phase::Succeeded, 0),
        "{}",
        toy.story()
    );
    assert_eq!(toy.told("Canary analysis was skipped"), 1);
}

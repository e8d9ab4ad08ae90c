//! Canaries that Flagger looked after, in every phase that it leaves them in.

use haldane::{api::Phase, object::Kind};
use serde_json::{Value, json};

use crate::{fixtures::initialized, toy::Toy};

/// A cluster as Flagger leaves it: its hashes in the status, no marks on the primary.
fn left_by_flagger(mut toy: Toy, phase: &str, weight: i32) -> Toy {
    toy.edit(
        Kind::Deployment,
        "podinfo-primary",
        &json!({"metadata": {"annotations": {
            "haldane.dev/revision": null, "haldane.dev/previous": null,
        }}}),
    );
    toy.leave_status(&json!({
        "phase": phase, "canaryWeight": weight, "failedChecks": 0, "iterations": 0,
        "lastAppliedSpec": "6d4b89f7c8", "lastPromotedSpec": "6d4b89f7c8",
        "trackedConfigs": {"configmap/settings": "f234cb93c08ad64e"},
        "lastTransitionTime": "2026-01-01T00:00:00Z",
        "conditions": [{"type": "Promoted", "status": "True", "reason": phase, "message": "x",
            "lastUpdateTime": "2026-01-01T00:00:00Z", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
    }));
    toy.ledger.lenient = true;
    toy.crash();
    toy
}

fn primary_generation(toy: &Toy) -> Value {
    toy.get(Kind::Deployment, "podinfo-primary")["metadata"]["generation"].clone()
}

#[test]
fn takeover_of_what_rests_starts_nothing() {
    for phase in ["Initialized", "Succeeded", "Failed"] {
        let mut toy = left_by_flagger(initialized(""), phase, 0);
        let before = primary_generation(&toy);
        toy.run(600);
        assert_eq!(toy.phase().as_str(), phase, "{}", toy.story());
        assert_eq!(
            primary_generation(&toy),
            before,
            "the primary is not rolled"
        );
        assert_eq!(toy.replicas("podinfo"), 0);
        assert_eq!(toy.told("New revision"), 0);
        toy.assert_at_rest();
        toy.push("podinfo:2");
        toy.run(1200);
        assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
        assert_eq!(toy.image("podinfo-primary"), "podinfo:2");
    }
}

#[test]
fn takeover_finds_a_revision_that_arrived_while_nobody_looked() {
    for phase in ["Initialized", "Succeeded"] {
        let mut toy = initialized("");
        toy.push("podinfo:2");
        let mut toy = left_by_flagger(toy, phase, 0);
        toy.run(1200);
        assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
        assert_eq!(toy.image("podinfo-primary"), "podinfo:2");
    }
}

#[test]
fn takeover_does_not_retry_what_failed() {
    let mut toy = initialized("");
    toy.push("podinfo:2");
    let mut toy = left_by_flagger(toy, "Failed", 0);
    toy.run(600);
    assert_eq!(toy.phase(), Phase::Failed, "{}", toy.story());
    assert_eq!(toy.image("podinfo-primary"), "podinfo:1");
}

#[test]
fn takeover_of_a_release_goes_on_from_the_weight_that_users_have() {
    for (phase, weight) in [
        ("Progressing", 40),
        ("WaitingPromotion", 60),
        ("Promoting", 60),
    ] {
        let mut toy = crate::fixtures::progressing("", weight);
        toy.metrics = crate::toy::Metrics::Pass;
        let mut toy = left_by_flagger(toy, phase, 0);
        toy.look();
        assert_eq!(toy.weight(), f64::from(weight), "{phase}\n{}", toy.story());
        toy.run(1200);
        assert_eq!(toy.phase(), Phase::Succeeded, "{phase}\n{}", toy.story());
        assert_eq!(
            (toy.image("podinfo-primary"), toy.weight()),
            ("podinfo:2".to_owned(), 0.0)
        );
    }
}

#[test]
fn takeover_of_a_revision_at_a_gate_releases_it() {
    let mut toy = initialized("");
    toy.push("podinfo:2");
    let mut toy = left_by_flagger(toy, "Waiting", 0);
    toy.run(1200);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
    assert_eq!(toy.image("podinfo-primary"), "podinfo:2");
}

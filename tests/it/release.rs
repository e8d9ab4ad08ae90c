//! The course of a release.

use haldane::api::Phase;

use crate::{
    fixtures::{initialized, progressing},
    toy::Metrics,
};

#[test]
fn release_that_passes_is_promoted_and_the_target_scaled_down() {
    let mut toy = initialized("");
    toy.push("podinfo:2");
    toy.run(1200);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
    assert_eq!(toy.image("podinfo-primary"), "podinfo:2");
    assert_eq!((toy.weight(), toy.replicas("podinfo")), (0.0, 0));
    for weight in [20, 40, 60] {
        assert_eq!(
            toy.told(&format!("canary weight {weight}")),
            1,
            "{}",
            toy.story()
        );
    }
    assert_eq!(toy.told("Promotion completed!"), 1);
    toy.assert_at_rest();
}

#[test]
fn release_that_fails_is_rolled_back_at_the_threshold_and_not_retried() {
    let mut toy = progressing("", 20);
    toy.metrics = Metrics::Fail;
    toy.run(3600);
    assert_eq!(toy.phase(), Phase::Failed, "{}", toy.story());
    assert_eq!(
        toy.told("Halt podinfo.test advancement"),
        3,
        "{}",
        toy.story()
    );
    assert_eq!(toy.told("failed checks threshold reached 3"), 1);
    assert_eq!((toy.weight(), toy.replicas("podinfo")), (0.0, 0));
    assert_eq!(toy.image("podinfo-primary"), "podinfo:1");
    toy.assert_at_rest();
}

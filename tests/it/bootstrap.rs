//! From a workload that serves users to one that has a primary.

use haldane::{api::Phase, object::Kind};
use serde_json::json;

use crate::fixtures::{config, fresh, initialized};

#[test]
fn initialization_moves_users_to_the_primary_and_scales_the_target_down_once() {
    let toy = initialized("");
    assert_eq!(toy.image("podinfo-primary"), "podinfo:1");
    assert_eq!(toy.replicas("podinfo-primary"), 2);
    assert_eq!(toy.replicas("podinfo"), 0);
    assert_eq!(
        toy.get(Kind::Service, "podinfo")["spec"]["selector"],
        json!({"app": "podinfo-primary"})
    );
    assert_eq!(toy.told("Initialization done!"), 1);
    toy.assert_at_rest();
}

#[test]
fn initialization_with_a_primary_that_never_gets_ready_keeps_users_on_the_target() {
    let mut toy = fresh("");
    toy.workloads
        .faults
        .broken
        .insert(("podinfo-primary".into(), "podinfo:1".into()));
    toy.run(3600);
    assert_eq!(toy.phase(), Phase::Initializing);
    assert_eq!(
        toy.get(Kind::Service, "podinfo")["spec"]["selector"],
        json!({"app": "podinfo"})
    );
    assert!(toy.get(Kind::VirtualService, "podinfo").is_null());
    assert_eq!(toy.replicas("podinfo"), 2);
    assert_eq!(
        toy.told("Initialization of podinfo.test waits"),
        1,
        "{}",
        toy.story()
    );
    toy.workloads.faults.broken.clear();
    toy.run(600);
    assert_eq!(toy.phase(), Phase::Initialized, "{}", toy.story());
}

#[test]
fn version_that_is_pushed_while_the_primary_starts_is_the_first_release() {
    let mut toy = fresh("");
    toy.run_until("the primary starts", |toy| {
        toy.phase() == Phase::Initializing
            && !toy.get(Kind::Deployment, "podinfo-primary").is_null()
    });
    toy.push("podinfo:2");
    toy.run(1800);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
    assert_eq!(toy.image("podinfo-primary"), "podinfo:2");
    assert_eq!(toy.told("New revision detected"), 1, "{}", toy.story());
}

#[test]
fn config_that_is_changed_while_the_primary_starts_is_the_first_release() {
    let mut toy = fresh("");
    toy.run_until("the primary starts", |toy| {
        toy.phase() == Phase::Initializing
            && !toy.get(Kind::Deployment, "podinfo-primary").is_null()
    });
    toy.put(config("red"));
    toy.run(1800);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
    let copy = toy.get(Kind::ConfigMap, "settings-primary");
    assert_eq!(copy["data"]["color"], "red");
}

//! Deletion of the Canary.

use haldane::object::Kind;
use serde_json::json;

use crate::{
    fixtures::{initialized, progressing, service},
    toy::Toy,
};

fn delete(toy: &mut Toy) {
    let now = toy.now.to_string();
    toy.edit(
        Kind::Canary,
        "podinfo",
        &json!({"metadata": {"deletionTimestamp": now}}),
    );
}

fn is_gone(toy: &Toy) -> bool {
    toy.get(Kind::Canary, "podinfo").is_null()
}

#[test]
fn deletion_with_revert_gives_users_back_to_the_target() {
    for weight in [0, 40] {
        let spec = "{revertOnDeletion: true}";
        let mut toy = if weight == 0 {
            initialized(spec)
        } else {
            progressing(spec, weight)
        };
        delete(&mut toy);
        toy.run(600);
        assert!(is_gone(&toy), "{}", toy.story());
        assert_eq!(toy.replicas("podinfo"), 2);
        let apex = toy.get(Kind::Service, "podinfo");
        assert_eq!(
            apex["spec"]["selector"],
            service()["spec"]["selector"],
            "{}",
            toy.story()
        );
        assert!(toy.workloads.ready(&toy.objects, "podinfo", None) > 0);
        assert!(toy.get(Kind::Deployment, "podinfo-primary").is_null());
    }
}

#[test]
fn deletion_keeps_the_primary_until_traffic_has_left_it() {
    let mut toy = initialized("{revertOnDeletion: true}");
    delete(&mut toy);
    toy.run_until("the apex", |toy| {
        toy.get(Kind::Service, "podinfo")["spec"]["selector"] == json!({"app": "podinfo"})
    });
    let returned = toy.now;
    toy.run(100);
    assert!(!is_gone(&toy), "proxies may lag behind\n{}", toy.story());
    toy.run(100);
    assert!(is_gone(&toy), "{}", toy.story());
    assert!(toy.now > returned);
}

#[test]
fn deletion_completes_though_all_else_is_gone() {
    for lost in [
        vec![(Kind::Deployment, "podinfo")],
        vec![(Kind::Deployment, "podinfo-primary")],
        vec![(Kind::VirtualService, "podinfo")],
        vec![
            (Kind::Service, "podinfo"),
            (Kind::VirtualService, "podinfo"),
            (Kind::Deployment, "podinfo"),
        ],
    ] {
        let mut toy = initialized("{revertOnDeletion: true}");
        for (kind, name) in &lost {
            toy.delete(*kind, name);
        }
        delete(&mut toy);
        toy.run(600);
        assert!(is_gone(&toy), "{lost:?}\n{}", toy.story());
    }
}

#[test]
fn deletion_completes_though_the_target_never_gets_ready() {
    let mut toy = initialized("{revertOnDeletion: true}");
    toy.workloads.faults.down.insert("podinfo".into());
    delete(&mut toy);
    toy.run(300);
    assert!(is_gone(&toy), "{}", toy.story());
}

#[test]
fn deletion_without_revert_writes_nothing() {
    let mut toy = initialized("");
    let writes = toy.writes;
    delete(&mut toy);
    toy.look();
    assert_eq!(toy.writes, writes);
}

//! The course of a release.

use haldane::{
    api::Phase,
    object::Kind,
    route::{Request, istio::eval},
};
use serde_json::json;

use crate::{
    fixtures::{config, deployment, initialized, progressing},
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

#[test]
fn release_with_a_rollback_hook_that_agrees_is_rolled_back_at_once() {
    let hook = "{analysis: {webhooks: [{name: back, type: rollback, url: 'http://gate/'}]}}";
    let mut toy = progressing(hook, 40);
    toy.flipped.insert("back".to_owned());
    toy.run(20);
    assert_eq!(
        (toy.phase(), toy.weight()),
        (Phase::Failed, 0.0),
        "{}",
        toy.story()
    );
    assert_eq!(toy.told("manual webhook invoked"), 1);
}

#[test]
fn release_without_an_answer_never_passes() {
    for metrics in [Metrics::NoData, Metrics::Unavailable] {
        let mut toy = progressing("", 20);
        toy.metrics = metrics;
        toy.run(600);
        assert_eq!(toy.phase(), Phase::Failed, "{metrics:?}\n{}", toy.story());
    }
    let mut toy = progressing("", 20);
    toy.metrics = Metrics::Never;
    toy.run(3600);
    assert_eq!((toy.phase(), toy.weight()), (Phase::Progressing, 20.0));
}

#[test]
fn release_replaced_by_another_revision_starts_again_at_zero() {
    let mut toy = progressing("", 40);
    toy.push("podinfo:3");
    toy.look();
    assert_eq!(
        (toy.phase(), toy.weight()),
        (Phase::Progressing, 0.0),
        "{}",
        toy.story()
    );
    assert_eq!(toy.status().history.unwrap()[0].outcome, "Superseded");
    toy.run(1200);
    assert_eq!(toy.phase(), Phase::Succeeded);
    assert_eq!(toy.image("podinfo-primary"), "podinfo:3");
}

#[test]
fn release_taken_back_ends_without_a_promotion() {
    let mut toy = progressing("", 40);
    let primary = toy.get(Kind::Deployment, "podinfo-primary")["metadata"]["generation"].clone();
    toy.push("podinfo:1");
    toy.run(600);
    assert_eq!(
        (toy.phase(), toy.weight(), toy.replicas("podinfo")),
        (Phase::Succeeded, 0.0, 0)
    );
    assert_eq!(toy.status().history.unwrap()[0].outcome, "Reverted");
    assert_eq!(
        toy.get(Kind::Deployment, "podinfo-primary")["metadata"]["generation"],
        primary
    );
    toy.assert_at_rest();
}

#[test]
fn release_of_a_config_alone_is_analysed_and_promoted_with_its_copy() {
    let mut toy = initialized("");
    toy.put(config("red"));
    toy.look();
    assert_eq!(toy.phase(), Phase::Progressing, "{}", toy.story());
    assert_eq!(
        toy.get(Kind::ConfigMap, "settings-primary")["data"]["color"],
        "blue"
    );
    toy.run(1200);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
    assert_eq!(
        toy.get(Kind::ConfigMap, "settings-primary")["data"]["color"],
        "red"
    );
}

#[test]
fn release_whose_config_is_missing_waits_and_says_which() {
    let mut toy = initialized("");
    toy.delete(Kind::ConfigMap, "settings");
    toy.push("podinfo:2");
    toy.run(600);
    assert_eq!(toy.phase(), Phase::Initialized, "{}", toy.story());
    assert_eq!(
        toy.told("configmap settings.test not found")
            + toy.told("ConfigMap settings.test not found"),
        1,
        "{}",
        toy.story()
    );
    toy.put(config("blue"));
    toy.run(1200);
    assert_eq!(toy.image("podinfo-primary"), "podinfo:2", "{}", toy.story());
}

#[test]
fn defaults_of_a_new_server_start_no_release() {
    let default = json!({"spec": {"fieldOfTomorrow": "default"}});
    for released in [false, true] {
        let mut toy = initialized("");
        if released {
            toy.push("podinfo:2");
            toy.run(1200);
        }
        let (phase, writes) = (toy.phase(), toy.writes);
        toy.upgrade_server(&default);
        toy.run(600);
        let scaled = json!({"spec": {"minReadySeconds": 1}});
        toy.edit(Kind::Deployment, "podinfo", &scaled);
        toy.run(600);
        assert_eq!(
            (toy.phase(), toy.writes),
            (phase, writes),
            "{}",
            toy.story()
        );
        toy.push("podinfo:3");
        toy.run(1200);
        assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
        assert_eq!(toy.image("podinfo-primary"), "podinfo:3");
    }
}

#[test]
fn release_that_never_gets_ready_fails_at_its_own_deadline() {
    let mut toy = initialized("");
    // The revision comes long after the Canary: its time counts from its own start.
    toy.run(5000);
    toy.workloads
        .faults
        .broken
        .insert(("podinfo".into(), "podinfo:2".into()));
    toy.edit(
        Kind::Deployment,
        "podinfo",
        &json!({"spec": {"progressDeadlineSeconds": 9999}}),
    );
    toy.push("podinfo:2");
    toy.run(119);
    assert_eq!(toy.phase(), Phase::Progressing, "{}", toy.story());
    toy.run(1);
    assert_eq!(
        (toy.phase(), toy.weight()),
        (Phase::Failed, 0.0),
        "{}",
        toy.story()
    );
    assert_eq!(
        toy.told("Rolling back podinfo.test"),
        1,
        "a rollback is told"
    );
}

#[test]
fn release_whose_pods_all_fail_mid_way_is_rolled_back_by_the_threshold() {
    let mut toy = progressing("", 40);
    toy.workloads.faults.down.insert("podinfo".into());
    toy.run(60);
    assert_eq!(
        (toy.phase(), toy.weight()),
        (Phase::Failed, 0.0),
        "{}",
        toy.story()
    );
}

#[test]
fn release_with_an_edited_spec_keeps_its_weight() {
    let mut toy = progressing("", 40);
    toy.edit_spec("{service: {timeout: 5s}, analysis: {stepWeight: 30}}");
    toy.look();
    assert_eq!(
        (toy.weight(), toy.status().canary_weight),
        (40.0, 40),
        "{}",
        toy.story()
    );
    let route = toy.get(Kind::VirtualService, "podinfo").to_string();
    assert!(route.contains("\"timeout\":\"5s\""), "{route}");
    toy.run_until("the next step", |toy| toy.status().canary_weight > 40);
    assert_eq!(
        toy.status().canary_weight,
        60,
        "the last step is cut to maxWeight"
    );
}

#[test]
fn release_that_is_suspended_stands_still_and_goes_on() {
    let mut toy = progressing("", 40);
    toy.edit_spec("{suspend: true}");
    toy.run(600);
    assert_eq!((toy.phase(), toy.weight()), (Phase::Progressing, 40.0));
    let writes = toy.writes;
    toy.run(600);
    assert_eq!(toy.writes, writes, "a suspended Canary is not written");
    toy.edit_spec("{suspend: false}");
    toy.run(600);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
}

#[test]
fn release_whose_target_is_deleted_gives_traffic_back() {
    let mut toy = progressing("", 40);
    toy.delete(Kind::Deployment, "podinfo");
    toy.run(60);
    assert_eq!(
        (toy.phase(), toy.weight()),
        (Phase::Failed, 0.0),
        "{}",
        toy.story()
    );
    toy.assert_at_rest();
    toy.put(deployment());
    toy.push("podinfo:3");
    toy.run(1200);
    assert_eq!(toy.image("podinfo-primary"), "podinfo:3", "{}", toy.story());
}

#[test]
fn release_edited_by_hand_on_the_route_is_healed_to_the_status() {
    let mut toy = progressing("", 40);
    toy.edit(
        Kind::VirtualService,
        "podinfo",
        &json!({"spec": {"http": [{"route": [
            {"destination": {"host": "podinfo-primary"}, "weight": 10},
            {"destination": {"host": "podinfo-canary"}, "weight": 90},
        ]}]}}),
    );
    toy.look();
    assert_eq!(
        (toy.weight(), toy.status().canary_weight),
        (40.0, 40),
        "{}",
        toy.story()
    );
}

#[test]
fn primary_that_was_deleted_comes_back_only_with_the_promoted_revision() {
    let mut toy = initialized("");
    toy.delete(Kind::Deployment, "podinfo-primary");
    toy.run(60);
    assert_eq!(toy.image("podinfo-primary"), "podinfo:1", "{}", toy.story());
    let mut toy = progressing("", 40);
    toy.delete(Kind::Deployment, "podinfo-primary");
    toy.run(60);
    assert!(
        toy.get(Kind::Deployment, "podinfo-primary").is_null(),
        "{}",
        toy.story()
    );
    toy.push("podinfo:1");
    toy.run(600);
    assert_eq!(toy.image("podinfo-primary"), "podinfo:1", "{}", toy.story());
}

#[test]
fn primary_that_was_deleted_gets_no_config_that_is_not_promoted() {
    let mut toy = initialized("");
    toy.put(config("red"));
    toy.run_until("the first step", |toy| toy.weight() > 0.0);
    toy.delete(Kind::Deployment, "podinfo-primary");
    for phase in [Phase::Progressing, Phase::Failed] {
        toy.run(60);
        assert_eq!(toy.phase(), phase, "{}", toy.story());
        assert!(toy.get(Kind::Deployment, "podinfo-primary").is_null());
        let copy = toy.get(Kind::ConfigMap, "settings-primary");
        assert_eq!(copy["data"]["color"], "blue", "{}", toy.story());
        toy.request("abort");
    }
}

#[test]
fn copy_of_a_config_that_was_deleted_comes_back_with_what_was_promoted() {
    let mut toy = initialized("");
    toy.delete(Kind::ConfigMap, "settings-primary");
    toy.look();
    let copy = toy.get(Kind::ConfigMap, "settings-primary");
    assert_eq!(copy["data"]["color"], "blue", "{}", toy.story());
    toy.assert_at_rest();
    toy.delete(Kind::ConfigMap, "settings-primary");
    toy.put(config("red"));
    toy.look();
    assert!(toy.get(Kind::ConfigMap, "settings-primary").is_null());
    toy.run(1200);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
    let copy = toy.get(Kind::ConfigMap, "settings-primary");
    assert_eq!(copy["data"]["color"], "red", "{}", toy.story());
}

#[test]
fn blue_green_keeps_users_on_the_primary_until_the_last_check() {
    let spec = "{analysis: {stepWeight: null, maxWeight: null, iterations: 2}}";
    let mut toy = initialized(spec);
    toy.push("podinfo:2");
    toy.run_until("the second iteration", |toy| toy.status().iterations == 2);
    assert_eq!(toy.weight(), 0.0);
    toy.run_until("the switch", |toy| toy.weight() > 0.0);
    assert_eq!((toy.weight(), toy.phase()), (100.0, Phase::Progressing));
    assert_eq!(toy.image("podinfo-primary"), "podinfo:1");
    toy.run(600);
    assert_eq!((toy.phase(), toy.weight()), (Phase::Succeeded, 0.0));
}

#[test]
fn blue_green_without_a_mesh_writes_no_route() {
    let spec =
        "{provider: kubernetes, analysis: {stepWeight: null, maxWeight: null, iterations: 2}}";
    let mut toy = initialized(spec);
    toy.push("podinfo:2");
    toy.run(600);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
    assert_eq!(toy.image("podinfo-primary"), "podinfo:2");
    assert!(toy.get(Kind::VirtualService, "podinfo").is_null());
    assert_eq!(toy.told("canary iteration"), 2);
}

#[test]
fn ab_test_sends_only_who_matches_to_the_canary() {
    let spec = "{analysis: {stepWeight: null, maxWeight: null, iterations: 2,
      match: [{headers: {x-canary: {exact: insider}}}]}}";
    let mut toy = initialized(spec);
    toy.push("podinfo:2");
    toy.run_until("the test", |toy| toy.status().iterations == 1);
    let route = toy.get(Kind::VirtualService, "podinfo");
    let insider = Request::get("/").with_header("x-canary", "insider");
    assert_eq!(
        eval::shares(route, &insider),
        [("podinfo-canary".to_owned(), 100.0)]
    );
    assert_eq!(toy.weight(), 0.0);
    toy.metrics = Metrics::Fail;
    toy.run(600);
    assert_eq!(toy.phase(), Phase::Failed);
    let route = toy.get(Kind::VirtualService, "podinfo");
    assert_eq!(
        eval::shares(route, &insider),
        [("podinfo-primary".to_owned(), 100.0)]
    );
}

#[test]
fn ab_test_rolled_back_without_a_primary_leaves_others_alone() {
    let spec = "{analysis: {stepWeight: null, maxWeight: null, iterations: 2,
      match: [{headers: {x-canary: {exact: insider}}}]}}";
    let mut toy = initialized(spec);
    toy.push("podinfo:2");
    toy.run_until("the test", |toy| toy.status().iterations == 1);
    toy.workloads.faults.down.insert("podinfo-primary".into());
    toy.request("abort");
    toy.run(600);
    assert_eq!(
        (toy.phase(), toy.weight()),
        (Phase::Failed, 0.0),
        "{}",
        toy.story()
    );
    toy.workloads.faults.down.clear();
    toy.run(600);
    let insider = Request::get("/").with_header("x-canary", "insider");
    let route = toy.get(Kind::VirtualService, "podinfo");
    assert_eq!(
        eval::shares(route, &insider),
        [("podinfo-primary".to_owned(), 100.0)]
    );
}

#[test]
fn session_cookie_is_in_the_status_before_any_route_has_it() {
    let mut toy = initialized("{analysis: {sessionAffinity: {cookieName: v}}}");
    toy.push("podinfo:2");
    let mut cookies = std::collections::BTreeSet::new();
    // At every write of the release: what the route sets, the status knows.
    for write in toy.writes.. {
        toy.dies_before = Some(write);
        toy.run(30);
        let status = toy.status();
        let route = toy.get(Kind::VirtualService, "podinfo").to_string();
        for cookie in route.split('"').filter(|text| text.starts_with("v=")) {
            let value = cookie.split(';').next().unwrap().to_owned();
            let known = [
                status.session_affinity_cookie.clone(),
                status.previous_session_affinity_cookie.clone(),
            ];
            assert!(
                known.contains(&Some(value.clone())),
                "{cookie}\n{}",
                toy.story()
            );
            cookies.insert(value);
        }
        if toy.phase() == Phase::Succeeded {
            break;
        }
    }
    assert_eq!(cookies.len(), 1, "one cookie a release: {cookies:?}");
}

#[test]
fn ab_test_of_connections_is_a_blue_green_release() {
    let spec = "{service: {appProtocol: tcp}, analysis: {stepWeight: null, maxWeight: null,
      iterations: 2, mirror: true, match: [{headers: {x-canary: {exact: insider}}}]}}";
    let mut toy = initialized(spec);
    toy.push("podinfo:2");
    toy.run_until("the switch", |toy| toy.status().canary_weight == 100);
    toy.run(600);
    assert_eq!(toy.phase(), Phase::Succeeded, "{}", toy.story());
}

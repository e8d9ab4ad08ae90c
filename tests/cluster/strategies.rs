//! The ways to give a canary its traffic.

use haldane::{api::Phase, object::Kind};
use kube::api::ListParams;
use serde_json::{Value, json};

use crate::kit::{Operator, Scene, canary};

/// Hosts and weights of a rule.
fn destinations(rule: &Value) -> Vec<(String, i64)> {
    rule["route"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| {
            (
                d["destination"]["host"].as_str().unwrap().to_owned(),
                d["weight"].as_i64().unwrap_or(100),
            )
        })
        .collect()
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn ab_test_gives_the_canary_to_users_with_the_header() {
    let policy = canary("podinfo")
        .iterations(1)
        .for_header("x-canary", "insider");
    let scene = Scene::with("ab", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    scene.release("podinfo:2").await;
    scene.passes("iteration 1", |m| m.iterations == 1).await;
    scene
        .sees(
            Kind::VirtualService,
            "podinfo",
            "sends insiders to the canary",
            |route| {
                let rules = &route["spec"]["http"];
                rules[0]["match"][0]["headers"]["x-canary"]["exact"] == "insider"
                    && destinations(&rules[0]).contains(&("podinfo-canary".to_owned(), 100))
                    && destinations(&rules[1]) == [("podinfo-primary".to_owned(), 100)]
            },
        )
        .await;
    scene.reaches(Phase::Succeeded).await;

    scene.told("canary iteration 1/1").await;
    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.runs("podinfo", "podinfo:2", 0).await;
    let route = scene.get(Kind::VirtualService, "podinfo").await;
    for rule in route["spec"]["http"].as_array().unwrap() {
        let to_canary = destinations(rule)
            .iter()
            .any(|(host, weight)| host == "podinfo-canary" && *weight > 0);
        assert!(!to_canary, "{rule}");
    }
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn blue_green_release_switches_all_users_at_once() {
    let scene = Scene::with("blue-green", canary("podinfo").iterations(1)).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    scene.release("podinfo:2").await;
    scene.reaches(Phase::Succeeded).await;

    scene.told("canary iteration 1/1").await;
    scene.told("Routing all traffic to canary").await;
    scene.told("Routing all traffic to primary").await;
    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.routes(&[0, 100, 0]).await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn blue_green_release_without_a_mesh_needs_services_only() {
    let policy = canary("podinfo")
        .iterations(2)
        .spec(json!({ "provider": "kubernetes" }));
    let scene = Scene::with("no-mesh", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    scene.release("podinfo:2").await;
    scene.passes("iteration 2", |m| m.iterations == 2).await;
    let apex = scene.get(Kind::Service, "podinfo").await;
    assert_eq!(apex["spec"]["selector"]["app"], "podinfo-primary");
    scene.reaches(Phase::Succeeded).await;

    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.runs("podinfo", "podinfo:2", 0).await;
    let routes = scene.api(Kind::VirtualService);
    let routes = routes.list(&ListParams::default()).await.unwrap();
    assert_eq!(routes.items.len(), 0);
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn mirroring_release_copies_requests_before_it_takes_any() {
    let policy = canary("podinfo").analysis(json!({ "mirror": true, "mirrorWeight": 40 }));
    let scene = Scene::with("mirror", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    scene.release("podinfo:2").await;
    scene
        .sees(
            Kind::VirtualService,
            "podinfo",
            "copies requests",
            |route| {
                let rule = &route["spec"]["http"][0];
                rule["mirror"]["host"] == "podinfo-canary"
                    && rule["mirrorPercentage"]["value"] == 40.0
                    && destinations(rule).contains(&("podinfo-canary".to_owned(), 0))
            },
        )
        .await;
    scene.passes("weight 50", |m| m.weight == 50).await;
    scene
        .sees(Kind::VirtualService, "podinfo", "copies no more", |route| {
            route["spec"]["http"][0].get("mirror").is_none()
        })
        .await;
    scene.reaches(Phase::Succeeded).await;
    scene.routes(&[0, 50, 0]).await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn sticky_users_stay_by_cookie_until_the_release_ends() {
    let policy = canary("podinfo")
        .analysis(json!({ "sessionAffinity": { "cookieName": "version", "maxAge": 600 } }));
    let scene = Scene::with("sticky", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    scene.release("podinfo:2").await;
    let canary = scene.passes("weight 50", |m| m.weight == 50).await;
    let cookie = canary.status.unwrap().session_affinity_cookie.unwrap();
    let value = cookie.strip_prefix("version=").unwrap();
    scene
        .sees(
            Kind::VirtualService,
            "podinfo",
            "sends the cookie's users to the canary",
            |route| {
                let rules = &route["spec"]["http"];
                let pattern = &rules[0]["match"][0]["headers"]["Cookie"]["regex"];
                pattern
                    .as_str()
                    .is_some_and(|p| p.contains("version") && p.contains(value))
                    && destinations(&rules[0]).contains(&("podinfo-canary".to_owned(), 100))
                    && rules[1]
                        .to_string()
                        .contains(&format!("{cookie}; Max-Age=600"))
            },
        )
        .await;

    let canary = scene.reaches(Phase::Succeeded).await;
    let status = canary.status.unwrap();
    assert_eq!(status.session_affinity_cookie, None);
    assert_eq!(
        status.previous_session_affinity_cookie,
        Some(cookie.clone())
    );
    scene
        .sees(
            Kind::VirtualService,
            "podinfo",
            "takes the cookie back",
            |route| route.to_string().contains(&format!("{cookie}; Max-Age=-1")),
        )
        .await;
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn promotion_in_steps_gives_the_primary_its_users_back_little_by_little() {
    let policy = canary("podinfo").analysis(json!({ "stepWeightPromotion": 30 }));
    let scene = Scene::with("little-by-little", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.rests().await;

    scene.release("podinfo:2").await;
    scene.reaches(Phase::Succeeded).await;

    scene.told("primary weight 80").await;
    scene.routes(&[0, 50, 20, 0]).await;
    scene.served_its_users();
}

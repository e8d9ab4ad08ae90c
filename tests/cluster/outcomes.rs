//! How a release ends: promoted, or rolled back for each reason there is.

use haldane::{api::Phase, object::Kind};
use serde_json::json;

use crate::kit::{Flow, Operator, Scene, canary};

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn canary_that_is_created_gets_a_primary_with_all_traffic() {
    let scene = Scene::with("init", canary("podinfo")).await;
    let _operator = Operator::start(&scene);

    let canary = scene.reaches(Phase::Initialized).await;

    scene
        .told(&format!(
            "Initialization done! podinfo.{}",
            scene.namespace()
        ))
        .await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;
    scene.runs("podinfo", "podinfo:1", 0).await;
    let apex = scene.get(Kind::Service, "podinfo").await;
    assert_eq!(
        apex["spec"]["selector"],
        json!({ "app": "podinfo-primary" })
    );
    assert_eq!(apex["spec"]["ports"][0]["port"], 80);
    let route = scene.get(Kind::VirtualService, "podinfo").await;
    let weights: Vec<_> = route["spec"]["http"][0]["route"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| (d["destination"]["host"].clone(), d["weight"].clone()))
        .collect();
    assert_eq!(
        weights,
        [
            ("podinfo-primary".into(), 100.into()),
            ("podinfo-canary".into(), 0.into())
        ]
    );
    let promoted = canary.status.unwrap().conditions.unwrap();
    let promoted = promoted.iter().find(|c| c.kind == "Promoted").unwrap();
    assert_eq!(promoted.status, "True");
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn release_whose_checks_pass_is_promoted_step_by_step() {
    let policy = canary("podinfo").weights(&[20, 60]).success_rate(99);
    let scene = Scene::with("promoted", policy).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.release("podinfo:2").await;
    scene.reaches(Phase::Progressing).await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;
    scene.reaches(Phase::Promoting).await;
    scene.reaches(Phase::Succeeded).await;

    scene.runs("podinfo-primary", "podinfo:2", 1).await;
    scene.runs("podinfo", "podinfo:2", 0).await;
    assert_eq!(scene.routed(), [0, 20, 60, 0]);
    let name = format!("podinfo.{}", scene.namespace());
    for text in [
        format!("New revision detected! Scaling up {name}"),
        format!("Starting canary analysis for {name}"),
        format!("Advance {name} canary weight 20"),
        format!("Advance {name} canary weight 60"),
        format!(
            "Copying {name} template spec to podinfo-primary.{}",
            scene.namespace()
        ),
        "Routing all traffic to primary".to_owned(),
        format!("Promotion completed! Scaling down {name}"),
    ] {
        scene.told(&text).await;
        assert_eq!(scene.times_told(&text), 1, "{text}");
    }
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn release_with_errors_is_rolled_back() {
    let scene = Scene::with("errors", canary("podinfo").success_rate(99)).await;
    let _operator = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;

    scene.flow(Flow::FAILING);
    scene.release("podinfo:2").await;
    scene.reaches(Phase::Progressing).await;
    scene.reaches(Phase::Failed).await;

    scene.told("Canary failed! Scaling down").await;
    scene.told("failed checks threshold reached 2").await;
    scene.told("advancement success rate").await;
    scene.runs("podinfo", "podinfo:2", 0).await;
    scene.runs("podinfo-primary", "podinfo:1", 1).await;
    assert_eq!(scene.routed(), [0, 50, 0]);
}

//! The operator dies, at any moment; releases end as if it had not.

use std::{
    cell::Cell,
    future::pending,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use haldane::{api::Phase, object::Kind};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::kit::{Flow, Operator, Scene, canary};

/// How often the operator of one scene is killed; four scenes make twenty.
const KILLS: usize = 5;

/// Random times; a new row of them each run, since no two runs interleave alike anyway.
struct Chance(u64);

impl Chance {
    fn new() -> Self {
        Self(RandomState::new().hash_one(()))
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let share = u32::try_from(self.0 >> 32).unwrap();
        longest.mul_f64(f64::from(share) / f64::from(u32::MAX))
    }
}

/// Kills one operator after the other, mostly right after something happened: that is when
/// something is half done. The last one lives.
async fn kill_again_and_again(scene: &Scene, flags: &[&str], kills: &Cell<usize>) {
    let mut chance = Chance::new();
    while kills.get() < KILLS {
        let operator = Operator::start_with(scene, flags);
        sleep(chance.up_to(Duration::from_secs(7))).await;
        // An operator that does nothing for a while is killed doing nothing.
        let _ = timeout(Duration::from_secs(4), scene.stirs()).await;
        sleep(chance.up_to(Duration::from_millis(60))).await;
        operator.kill();
        kills.set(kills.get() + 1);
    }
    let _operator = Operator::start_with(scene, flags);
    pending::<()>().await;
}

/// Releases until the operator was killed often enough; how many releases that were.
async fn release_again_and_again(scene: &Scene, kills: &Cell<usize>) -> usize {
    scene.reaches(Phase::Initialized).await;
    let mut releases = 0;
    while releases == 0 || kills.get() < KILLS {
        releases += 1;
        scene.rests().await;
        scene.release(&format!("podinfo:{}", releases + 1)).await;
        scene.reaches(Phase::Progressing).await;
        scene.reaches(Phase::Succeeded).await;
    }
    releases
}

async fn harried(test: &str, flags: &[&str]) {
    let policy = canary("podinfo").weights(&[20, 40, 60]).success_rate(99);
    let scene = Scene::with(test, policy).await;
    let kills = Cell::new(0);
    let releases = tokio::select! {
        releases = release_again_and_again(&scene, &kills) => releases,
        () = kill_again_and_again(&scene, flags, &kills) => unreachable!("the last one lives"),
    };
    assert_eq!(kills.get(), KILLS);

    let _operator = Operator::start_with(&scene, flags);
    let image = format!("podinfo:{}", releases + 1);
    scene.runs("podinfo-primary", &image, 1).await;
    scene.runs("podinfo", &image, 0).await;
    // Weights rise as earned and fall at the end alone, whatever was killed in between.
    let steps = std::iter::repeat_n([20, 40, 60, 0], releases).flatten();
    let weights: Vec<_> = std::iter::once(0).chain(steps).collect();
    scene.routes(&weights).await;
    scene.is_told("Promotion completed!", releases).await;
    for weight in [20, 40, 60] {
        let advance = format!("canary weight {weight}");
        scene.is_told(&advance, releases).await;
    }
    assert_eq!(scene.times_told("Canary failed!"), 0);
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn operator_that_is_killed_at_any_moment_ends_each_release_once() {
    let alone = ["--enable-leader-election=false"];
    let elected = ["--leader-election-lease-duration=5s"];
    tokio::join!(
        harried("killed-a", &alone),
        harried("killed-b", &alone),
        harried("killed-c", &elected),
        harried("killed-d", &elected),
    );
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn rollback_and_deletion_end_also_when_the_operator_is_killed_again_and_again() {
    let policy = canary("podinfo")
        .weights(&[20, 60])
        .threshold(1)
        .success_rate(99)
        .spec(json!({ "revertOnDeletion": true }));
    let scene = Scene::with("killed-back", policy).await;
    let kills = Cell::new(0);
    let flags = ["--enable-leader-election=false"];
    let story = async {
        scene.reaches(Phase::Initialized).await;
        scene.release("podinfo:2").await;
        scene.passes("weight 20", |m| m.weight == 20).await;
        scene.flow(Flow::FAILING);
        scene.reaches(Phase::Failed).await;
        scene.runs("podinfo", "podinfo:2", 0).await;
        scene.routes(&[0, 20, 0]).await;
        scene.is_told("Canary failed!", 1).await;
        scene.served_its_users();
        scene.delete(Kind::Canary, "podinfo").await;
        scene.gone(Kind::Canary, "podinfo").await;
        scene.runs("podinfo", "podinfo:2", 1).await;
        scene.gone(Kind::Deployment, "podinfo-primary").await;
    };
    tokio::select! {
        () = story => {}
        () = kill_again_and_again(&scene, &flags, &kills) => unreachable!("the last one lives"),
    }
    assert!(kills.get() > 1);
}

fn leads(page: &str) -> bool {
    page.contains("haldane_leader 1")
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn second_replica_goes_on_when_the_leader_is_killed_or_told_to_stop() {
    let scene = Scene::with("leader", canary("podinfo").weights(&[20, 60])).await;
    let flags = ["--leader-election-lease-duration=6s"];
    let first = Operator::start_with(&scene, &flags);
    first.shows("that it leads", leads).await;
    let second = Operator::start_with(&scene, &flags);
    scene.reaches(Phase::Initialized).await;

    scene.release("podinfo:2").await;
    scene.passes("weight 20", |m| m.weight == 20).await;
    let page = second.shows("that it runs", |_| true).await;
    assert!(!leads(&page), "one leads at a time");
    first.kill();
    second.shows("that it leads", leads).await;
    scene.reaches(Phase::Succeeded).await;
    scene.routes(&[0, 20, 60, 0]).await;
    scene.is_told("Promotion completed!", 1).await;

    let third = Operator::start_with(&scene, &flags);
    scene.release("podinfo:3").await;
    scene.passes("weight 20", |m| m.weight == 20).await;
    assert!(second.stop().success(), "told to stop, it ends in order");
    third.shows("that it leads", leads).await;
    scene.reaches(Phase::Succeeded).await;
    scene.runs("podinfo-primary", "podinfo:3", 1).await;
    scene.routes(&[0, 20, 60, 0, 20, 60, 0]).await;
    scene.served_its_users();
}

#[tokio::test]
#[ignore = "needs a control plane (tests/run.sh)"]
async fn operator_that_restarts_releases_nothing_that_was_released() {
    let scene = Scene::with("restart", canary("podinfo")).await;
    let first = Operator::start(&scene);
    scene.reaches(Phase::Initialized).await;
    scene.flow(Flow::FAILING);
    scene.release("podinfo:2").await;
    scene.reaches(Phase::Succeeded).await;
    scene.runs("podinfo", "podinfo:2", 0).await;
    assert!(first.stop().success());

    let second = Operator::start(&scene);
    second
        .shows("the Canary", |page| {
            page.contains("flagger_canary_status{name=\"podinfo\"")
        })
        .await;
    scene.runs("podinfo", "podinfo:2", 0).await;
    assert_eq!(scene.times_told("New revision detected!"), 1);
    assert_eq!(scene.times_told("Initialization done!"), 1);
    scene.release("podinfo:3").await;
    scene.reaches(Phase::Progressing).await;
    scene.is_told("New revision detected!", 2).await;
}

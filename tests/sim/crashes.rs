use std::time::Duration;

use haldane::sim::{Scenario, crash::enumerate, manifests, rollout::Release};
use serde_json::json;

/// A release in two steps of a version that fails so many requests.
fn release(error_percent: f64) -> Release {
    let mut manifests = manifests::application("shop");
    manifests[1]["spec"]["analysis"]["stepWeight"] = json!(25);
    let mut scenario = Scenario {
        requests_per_second: 8,
        ..Scenario::default()
    };
    scenario.stable.error_percent = 0.0;
    scenario.release.error_percent = error_percent;
    let mut release = Release::new(manifests, ("default", "shop"), scenario);
    release.limit = Duration::from_mins(20);
    // A process that starts anew counts the time since the traffic left from its own start.
    release.options.settings.drain = Duration::from_secs(10);
    release.aftermath = Duration::from_secs(40);
    release
}

/// The same, judged against the primary.
fn judged(error_percent: f64) -> Release {
    let mut judged = release(error_percent);
    let analysis = &mut judged.manifests[1]["spec"]["analysis"];
    analysis["metrics"] = json!([]);
    analysis["judge"] = json!({ "undecided": { "extend": 1000 } });
    judged.options.scenario.requests_per_second = 60;
    judged
}

fn ends_the_same(release: &Release, stride: usize) {
    let report = enumerate(release, stride).unwrap();
    assert!(report.crashes > 10, "{} crashes", report.crashes);
    assert!(report.divergences.is_empty(), "{:#?}", report.divergences);
}

#[test]
fn promotion_ends_the_same_after_a_crash_at_some_writes() {
    ends_the_same(&release(0.0), 4);
}

#[test]
fn rollback_ends_the_same_after_a_crash_at_some_writes() {
    ends_the_same(&release(60.0), 4);
}

#[test]
fn judged_promotion_ends_the_same_after_a_crash_at_some_writes() {
    ends_the_same(&judged(0.0), 8);
}

#[test]
fn judged_rollback_ends_the_same_after_a_crash_at_some_writes() {
    ends_the_same(&judged(60.0), 4);
}

#[test]
#[ignore = "takes minutes unless optimised; run with --release"]
fn releases_end_the_same_after_a_crash_at_any_write() {
    ends_the_same(&release(0.0), 1);
    ends_the_same(&release(60.0), 1);
    ends_the_same(&judged(0.0), 1);
    ends_the_same(&judged(60.0), 1);
}

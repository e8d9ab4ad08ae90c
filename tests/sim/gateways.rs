//! What gateways say of routes, when they say it and when they do not: it is theirs, and changes no release.

use std::time::Duration;

use haldane::sim::{
    Acceptance, Scenario, manifests,
    rollout::{Recording, Release, Verdict, perform},
};
use serde_json::json;

/// The demo's application behind a Gateway.
fn rollout(scenario: &str, acceptance: Acceptance) -> Recording {
    let mut manifests = manifests::application("shop");
    let spec = &mut manifests[1]["spec"];
    spec["provider"] = json!("gatewayapi:v1");
    spec["service"]["gatewayRefs"] = json!([{"name": "public", "namespace": "gateways"}]);
    let scenario = Scenario::named(scenario).unwrap();
    let mut release = Release::new(manifests, ("default", "shop"), scenario);
    release.options.acceptance = acceptance;
    perform(&release).unwrap()
}

/// What the operator wrote, in its order.
fn writes(recording: &Recording) -> Vec<(String, String, String)> {
    let writes = recording.writes.iter();
    let told = writes.map(|call| {
        let verb = call.verb.as_str().to_owned();
        (verb, call.resource.clone(), call.name.clone())
    });
    told.collect()
}

#[test]
fn release_goes_the_same_way_however_late_gateways_accept_its_route() {
    for (scenario, verdict) in [("good", Verdict::Promoted), ("errors", Verdict::RolledBack)] {
        let silent = rollout(scenario, Acceptance::Silent);
        assert_eq!(silent.verdict, verdict, "{scenario}");
        for seconds in [0, 1, 7, 90, 3600] {
            let late = rollout(scenario, Acceptance::After(Duration::from_secs(seconds)));
            assert_eq!(late.verdict, verdict, "{scenario}, {seconds} s");
            assert_eq!(late.figures, silent.figures, "{scenario}, {seconds} s");
            assert_eq!(writes(&late), writes(&silent), "{scenario}, {seconds} s");
        }
    }
}

#[test]
fn release_whose_route_is_refused_is_not_promoted() {
    let refused = rollout("good", Acceptance::RefusedAfter(Duration::from_secs(1)));
    assert_eq!(refused.verdict, Verdict::RolledBack);
    assert_eq!(refused.figures.dropped, 0);
}

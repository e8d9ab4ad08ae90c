//! Scenario files: their schema, and what happens under each part of them.

use std::{fs, path::Path};

use haldane::{
    api::Phase,
    sim::{
        Scenario,
        rollout::{Recording, Verdict, perform},
    },
};
use serde_json::{Value, json};

use super::examples::release;

/// The first place where a value breaks a JSON Schema; of the keywords, those that ours uses.
fn fault(schema: &Value, value: &Value, at: &str) -> Option<String> {
    let Some(keywords) = schema.as_object() else {
        return (schema == false).then(|| at.to_owned());
    };
    for (keyword, wanted) in keywords {
        let list = || wanted.as_array().unwrap().iter();
        let holds = match keyword.as_str() {
            "$schema" | "title" | "description" | "default" | "format" => true,
            "type" if wanted.is_array() => list().any(|kind| is(kind, value)),
            "type" => is(wanted, value),
            "enum" => list().any(|allowed| allowed == value),
            "const" => wanted == value,
            "minimum" => value
                .as_f64()
                .is_none_or(|found| found >= wanted.as_f64().unwrap()),
            "maximum" => value
                .as_f64()
                .is_none_or(|found| found <= wanted.as_f64().unwrap()),
            "required" => list().all(|field| value.get(field.as_str().unwrap()).is_some()),
            "oneOf" => list().filter(|one| fault(one, value, at).is_none()).count() == 1,
            "anyOf" => list().any(|one| fault(one, value, at).is_none()),
            "minItems" => value
                .as_array()
                .is_none_or(|v| v.len() as u64 >= wanted.as_u64().unwrap()),
            "maxItems" => value
                .as_array()
                .is_none_or(|v| v.len() as u64 <= wanted.as_u64().unwrap()),
            "items" | "prefixItems" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    let schema = if keyword == "items" {
                        wanted
                    } else {
                        &wanted[index]
                    };
                    if let Some(fault) = fault(schema, item, &format!("{at}[{index}]")) {
                        return Some(fault);
                    }
                }
                true
            }
            "properties" => {
                for (field, schema) in wanted.as_object().unwrap() {
                    let found = value.get(field);
                    let fault =
                        found.and_then(|found| fault(schema, found, &format!("{at}.{field}")));
                    if fault.is_some() {
                        return fault;
                    }
                }
                true
            }
            "additionalProperties" => {
                assert_eq!(wanted, &json!(false), "{at}");
                let known = schema["properties"].as_object();
                let mut fields = value
                    .as_object()
                    .into_iter()
                    .flat_map(serde_json::Map::keys);
                fields.all(|field| known.is_some_and(|known| known.contains_key(field)))
            }
            other => panic!("{at}: a keyword that this test does not know: {other}"),
        };
        if !holds {
            return Some(format!("{at}: {keyword}"));
        }
    }
    None
}

fn is(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("{other}"),
    }
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/scenarios"))
}

#[test]
fn schema_file_is_what_the_code_reads() {
    let path = folder().join("schema.json");
    let found = serde_json::to_string_pretty(&Scenario::schema()).unwrap() + "\n";
    if std::env::var_os("HALDANE_BLESS").is_some() {
        fs::write(&path, &found).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap() == found,
        "HALDANE_BLESS=1 rewrites {path:?}"
    );
}

#[test]
fn scenario_files_are_valid_by_the_schema_and_wrong_ones_are_not() {
    let schema = Scenario::schema();
    let mut count = 0;
    for file in fs::read_dir(folder()).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|end| end == "yaml") {
            let text = fs::read_to_string(&path).unwrap();
            let value: Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(fault(&schema, &value, ""), None, "{}", path.display());
            count += 1;
        }
    }
    assert!(count >= 9, "{count}");
    for wrong in [
        json!({"wether": 1}),
        json!({"release": {"errorPercnt": 1}}),
        json!({"traffic": "storm"}),
        json!({"traffic": {"wave": {"percent": 1}}}),
        json!({"requestsPerSecond": -1}),
        json!({"events": [{"behave": {"version": "other", "like": {}}}]}),
        json!({"events": [{"edit": {"kind": "Pod"}}]}),
    ] {
        assert!(fault(&schema, &wrong, "").is_some(), "{wrong}");
    }
}

fn tried(file: &str, scenario: &str) -> Recording {
    perform(&release(file, Scenario::read(scenario).unwrap())).unwrap()
}

fn messages(recording: &Recording) -> Vec<&str> {
    let events = recording.frames.iter().flat_map(|frame| &frame.events);
    events.map(|told| told.message.as_str()).collect()
}

#[test]
fn operator_that_is_throttled_still_finishes_its_release() {
    let recording = tried(
        "istio/canary.yaml",
        "api: {requestsPerSecond: 0.2, burst: 2}",
    );
    assert_eq!(recording.verdict, Verdict::Promoted);
    assert!(
        recording.refusals.get(&429).is_some_and(|count| *count > 3),
        "{:?}",
        recording.refusals
    );
    assert_eq!(recording.refusals.get(&403), None);
}

#[test]
fn edits_and_git_operations_do_not_lose_a_release() {
    let recording = tried(
        "istio/canary.yaml",
        "events:
- {atSeconds: 90, edit: {apiVersion: networking.istio.io/v1beta1, kind: VirtualService, name: podinfo, patch: {spec: {http: []}}}}
- {atSeconds: 100, edit: {apiVersion: v1, kind: Service, name: podinfo-canary, patch: {metadata: {labels: {team: a}}}}}
- {atSeconds: 20, everySeconds: 60, reapply: {apiVersion: apps/v1, kind: Deployment, name: podinfo}}
- {atSeconds: 25, everySeconds: 60, reapply: {apiVersion: flagger.app/v1beta1, kind: Canary, name: podinfo}}",
    );
    assert_eq!(
        recording.verdict,
        Verdict::Promoted,
        "{:#?}",
        messages(&recording)
    );
    let told = messages(&recording);
    assert!(
        told.contains(&"Somebody edits VirtualService podinfo"),
        "{told:#?}"
    );
    assert!(
        told.iter()
            .filter(|text| text.starts_with("Git operations"))
            .count()
            > 4,
        "{told:#?}"
    );
}

#[test]
fn event_on_what_is_not_there_is_an_error_by_its_name() {
    let scenario = "events: [{reapply: {apiVersion: apps/v1, kind: Deployment, name: other}}]";
    let scenario = Scenario::read(scenario).unwrap();
    let error = perform(&release("istio/canary.yaml", scenario))
        .unwrap_err()
        .to_string();
    assert!(error.contains("Deployment other"), "{error}");
}

#[test]
fn version_that_turns_bad_is_rolled_back() {
    for turn in ["errorPercent: 20", "startSeconds: null"] {
        let recording = tried(
            "istio/canary.yaml",
            &format!(
                "events: [{{atSeconds: 150, behave: {{version: release, like: {{{turn}}}}}}}]"
            ),
        );
        assert_eq!(
            recording.verdict,
            Verdict::RolledBack,
            "{turn}: {:#?}",
            messages(&recording)
        );
    }
}

#[test]
fn gate_that_opens_late_holds_the_release_until_then() {
    let recording = tried(
        "istio/gates.yaml",
        "events:
- {atSeconds: 0, webhooks: {status: 403, containing: gate/check}}
- {atSeconds: 1200, webhooks: {status: 200, containing: gate/check}}",
    );
    assert_eq!(
        recording.verdict,
        Verdict::Promoted,
        "{:#?}",
        messages(&recording)
    );
    let waits = |frame: &&haldane::sim::rollout::Frame| frame.phase == Phase::Waiting;
    let waited = recording.frames.iter().filter(waits).count();
    assert!(waited > 1000, "waited {waited} s");
}

#[test]
fn users_keep_the_version_that_they_met() {
    for file in [
        "istio/session-affinity.yaml",
        "gatewayapi/session-affinity.yaml",
    ] {
        let recording = tried(file, "{}");
        assert_eq!(recording.verdict, Verdict::Promoted, "{file}");
        let cookies = &recording.figures.cookies;
        let of = |name: &str| {
            let mut found = cookies
                .iter()
                .filter(|(cookie, _)| cookie.starts_with(name));
            let (_, images) = found
                .next()
                .unwrap_or_else(|| panic!("{file}: {cookies:?}"));
            images.clone()
        };
        let kept = of("podinfo-canary=");
        assert!(kept.values().sum::<u64>() > 1000, "{file}: {cookies:?}");
        let strayed: u64 = kept
            .iter()
            .filter(|(image, _)| !image.ends_with(":6.0.1"))
            .map(|(_, n)| n)
            .sum();
        assert_eq!(strayed, 0, "{file}: {cookies:?}");
        assert!(
            of("podinfo-primary=")
                .keys()
                .any(|image| image.ends_with(":6.0.0")),
            "{file}: {cookies:?}"
        );
    }
}

#[test]
fn autoscalers_follow_the_load() {
    for (file, most) in [("istio/hpa.yaml", 10), ("istio/keda.yaml", 10)] {
        let replicas = |scenario: &str| {
            let recording = tried(file, scenario);
            assert_eq!(
                recording.verdict,
                Verdict::Promoted,
                "{file}: {:#?}",
                messages(&recording)
            );
            let primary = recording
                .end
                .object("deployments default/podinfo-primary")
                .unwrap();
            primary["spec"]["replicas"].as_u64().unwrap()
        };
        let calm = replicas("{requestsPerSecond: 40}");
        let busy = replicas(
            "{requestsPerSecond: 40, traffic: {ramp: {toRequestsPerSecond: 400, overSeconds: 200}}}",
        );
        assert!(
            busy > calm && busy <= most,
            "{file}: {calm} and {busy} replicas"
        );
    }
}

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[path = "../../tests/admission/cases.rs"]
mod cases;

fn admission() -> Admission {
    Admission::new().unwrap()
}

fn verdict(admission: &Admission, manifest: &Value) -> Verdict {
    admission.judge(&mut manifest.clone()).unwrap()
}

#[test]
fn misoperations_are_refused_with_field_finding_and_remedy() {
    let table = cases::Refused::read();
    let admission = admission();
    assert!(table.cases.len() >= 60);
    for case in table.cases.iter().chain(&table.beyond) {
        let faults = verdict(&admission, &table.manifest(case)).faults;
        let told = faults.iter().any(|fault| {
            fault.path == case.path
                && fault.to_string().contains(&case.says)
                && !fault.action.is_empty()
        });
        assert!(
            told,
            "{}: {} is not blamed for {:?} in {faults:#?}",
            case.name, case.path, case.says
        );
        assert_eq!(faults.len(), 1, "{}: {faults:#?}", case.name);
    }
}

#[test]
fn manifests_of_flaggers_users_are_admitted_without_loss() {
    let admission = admission();
    let manifests = cases::admitted();
    assert!(manifests.len() >= 40);
    for manifest in manifests {
        let name = &manifest["metadata"]["name"];
        assert_eq!(verdict(&admission, &manifest), Verdict::default(), "{name}");
    }
}

#[test]
fn admitted_canaries_survive_being_read_and_written() {
    let admission = admission();
    for mut manifest in cases::admitted() {
        if manifest["kind"] != "Canary" {
            continue;
        }
        admission.judge(&mut manifest).unwrap();
        let canary: Canary = serde_json::from_value(manifest).unwrap();
        let written = serde_json::to_value(&canary).unwrap();
        let again: Canary = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(again, canary);
        assert_eq!(verdict(&admission, &written), Verdict::default());
    }
}

#[test]
fn other_versions_and_kinds_of_the_group_are_refused_and_other_groups_passed_over() {
    let admission = admission();
    for (version, kind, known) in [
        ("flagger.app/v1alpha3", "Canary", true),
        ("flagger.app/v1beta1", "Canaries", true),
        ("apps/v1", "Deployment", false),
        ("", "", false),
    ] {
        let mut object = json!({"apiVersion": version, "kind": kind, "metadata": {"name": "a"}});
        let faults = admission
            .judge(&mut object)
            .map(|verdict| verdict.faults.len());
        assert_eq!(faults, known.then_some(1), "{version} {kind}");
    }
    for object in [json!(null), json!([]), json!("Canary"), json!({"kind": 1})] {
        assert_eq!(admission.judge(&mut object.clone()), None);
    }
}

/// Values of all sorts, among them those that fields of a Canary have.
fn values() -> impl Strategy<Value = Value> {
    let leaves = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-5_i64..160).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "1m",
            "10s",
            "istio",
            "rollout",
            "a",
            "http://a/",
            "%s",
            "x\ny"
        ])
        .prop_map(Value::from),
    ];
    leaves.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,4}", inner, 0..4).prop_map(|m| json!(m)),
        ]
    })
}

/// The paths of all values within a value.
fn pointers(value: &Value, at: &str, all: &mut Vec<String>) {
    all.push(at.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                pointers(value, &format!("{at}/{name}"), all);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                pointers(value, &format!("{at}/{index}"), all);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn admission_of_changed_manifests_never_panics_and_what_it_admits_can_be_read() {
    let admission = admission();
    let manifests = cases::admitted();
    let edits = prop::collection::vec((any::<prop::sample::Index>(), values()), 1..4);
    let inputs = (any::<prop::sample::Index>(), edits);
    let cases = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|n| n.parse().ok());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: cases.unwrap_or(1000),
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let run = runner.run(&inputs, |(which, edits)| {
        let mut manifest = which.get(&manifests).clone();
        for (place, value) in edits {
            let mut places = Vec::new();
            pointers(&manifest["spec"], "/spec", &mut places);
            if let Some(target) = manifest.pointer_mut(place.get(&places).as_str()) {
                *target = value;
            }
        }
        let verdict = admission.judge(&mut manifest);
        // The message would say that it "cannot be read" had the schema admitted too much.
        let unread = verdict
            .iter()
            .flat_map(|verdict| &verdict.faults)
            .find(|fault| fault.found == "what cannot be read");
        prop_assert!(unread.is_none(), "{unread:?} in {manifest}");
        Ok(())
    });
    run.unwrap();
}

use proptest::{
    prop_assert,
    test_runner::{Config, TestRunner},
};
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

#[test]
fn admission_of_changed_manifests_never_panics_and_what_it_admits_can_be_read() {
    let admission = admission();
    let cases = std::env::var("PROPTEST_CASES").ok();
    let mut runner = TestRunner::new(Config {
        cases: cases.and_then(|n| n.parse().ok()).unwrap_or(1000),
        failure_persistence: None,
        ..Config::default()
    });
    let run = runner.run(&cases::changed(), |mut manifest| {
        let verdict = admission.judge(&mut manifest);
        let unread = verdict
            .iter()
            .flat_map(|verdict| &verdict.faults)
            .find(|fault| fault.found == "what cannot be read");
        prop_assert!(unread.is_none(), "{unread:?} in {manifest}");
        Ok(())
    });
    run.unwrap();
}

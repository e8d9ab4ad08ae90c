use super::*;

const VALID: &str = "
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: podinfo, namespace: test}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}
  service: {port: 9898}
  analysis: {interval: 1m, threshold: 5, stepWeight: 10, maxWeight: 50}
";

fn findings(text: &str) -> Findings {
    let admission = Admission::new().unwrap();
    let mut findings = Findings::default();
    let mut targets = BTreeMap::new();
    for object in manifests("a.yaml", text).unwrap() {
        findings.add(&admission, &mut targets, "a.yaml", object);
    }
    findings
}

#[test]
fn manifests_that_are_valid_or_of_other_kinds_have_no_faults() {
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: podinfo}\n";
    let found = findings(&format!("{deployment}---\n# nothing\n---\n{VALID}"));
    assert_eq!((found.faults, found.checked), (vec![], 1));
}

#[test]
fn fault_names_file_object_field_and_remedy() {
    let found = findings(&VALID.replace("maxWeight: 50", "maxWeight: 150"));
    assert_eq!(
        found.faults,
        [
            "a.yaml: Canary test/podinfo: spec.analysis.maxWeight: found 150; write a number from 1 \
          to 100"
        ]
    );
}

#[test]
fn manifest_without_version_kind_or_map_of_metadata_is_a_fault() {
    let found = findings(
        "kind: Canary\nmetadata: {name: a}\n---\napiVersion: v1\nkind: 1\n---\napiVersion: v1\nkind: Pod\nmetadata: a\n",
    );
    assert_eq!(
        found.faults,
        [
            "a.yaml: Canary a: apiVersion: found nothing; write the version of its API, as in \
             flagger.app/v1beta1",
            "a.yaml: kind: found 1; write what it is, as in Canary",
            "a.yaml: Pod: metadata: found \"a\"; write a map with the object's name",
        ]
    );
}

#[test]
fn what_is_no_manifest_is_passed_over() {
    let found = findings("replicaCount: 1\n---\nresources: [canary.yaml]\n---\nfoo\n");
    assert_eq!((found.faults, found.checked), (vec![], 0));
}

#[test]
fn list_is_checked_item_by_item() {
    let item = VALID
        .replace("stepWeight: 10", "stepWeight: 0")
        .replace('\n', "\n    ");
    let list = format!(
        "apiVersion: v1\nkind: List\nitems:\n  - {}",
        item.trim_start()
    );
    let found = findings(&list);
    assert_eq!(found.faults.len(), 1, "{found:?}");
}

#[test]
fn field_that_the_server_drops_is_told_without_refusing() {
    let found = findings(&VALID.replace("threshold: 5", "threshold: 5, treshold: 5"));
    assert_eq!(found.faults, Vec::<String>::new());
    assert_eq!(
        found.dropped,
        [
            "a.yaml: Canary test/podinfo: spec.analysis.treshold: unknown field, the server drops \
          it; check its spelling"
        ]
    );
}

#[test]
fn workload_with_two_canaries_is_a_fault() {
    let second = VALID.replace("name: podinfo, namespace", "name: again, namespace");
    let found = findings(&format!("{VALID}---{second}"));
    assert_eq!(
        found.faults,
        [
            "a.yaml: Canary test/again: spec.targetRef: found Deployment podinfo, which Canary \
          podinfo releases too; keep one Canary for each workload"
        ]
    );
    let elsewhere = second.replace("namespace: test", "namespace: prod");
    assert_eq!(
        findings(&format!("{VALID}---{elsewhere}")).faults,
        Vec::<String>::new()
    );
}

#[test]
fn text_that_is_no_yaml_is_an_error() {
    let error = manifests("a.yaml", "a: [").unwrap_err().to_string();
    assert!(error.starts_with("a.yaml: found no YAML: "), "{error}");
}

#[test]
fn exit_status_tells_valid_from_invalid_from_unreadable() {
    let folder = std::env::temp_dir().join(format!("haldane-check-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, text: &str| {
        let file = folder.join(name);
        fs::write(&file, text).unwrap();
        file
    };
    let status = |files: &[&PathBuf]| {
        let files = files.iter().map(|file| (*file).clone()).collect();
        format!("{:?}", run(&CheckArgs { files }))
    };
    let valid = write("valid.yaml", VALID);
    let invalid = write(
        "invalid.yaml",
        &VALID.replace("threshold: 5", "threshold: -5"),
    );
    let broken = write("broken.yaml", "a: [");
    let expected = |code: u8| format!("{:?}", ExitCode::from(code));
    assert_eq!(status(&[&valid]), expected(0));
    assert_eq!(status(&[&valid, &invalid]), expected(1));
    assert_eq!(status(&[&broken, &invalid]), expected(2));
    assert_eq!(status(&[&folder.join("none.yaml")]), expected(2));
    fs::remove_dir_all(folder).unwrap();
}

/// The examples, by path.
fn examples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut files = Vec::new();
    for provider in ["istio", "kubernetes"] {
        for file in fs::read_dir(folder.join(provider)).unwrap() {
            let path = file.unwrap().path();
            files.push((
                path.display().to_string(),
                fs::read_to_string(path).unwrap(),
            ));
        }
    }
    files.sort();
    files
}

#[test]
fn examples_are_valid_and_without_unknown_fields() {
    let admission = Admission::new().unwrap();
    let examples = examples();
    assert!(examples.len() >= 20);
    for (file, text) in examples {
        let mut findings = Findings::default();
        for object in manifests(&file, &text).unwrap() {
            findings.add(&admission, &mut BTreeMap::new(), &file, object);
        }
        assert_eq!(findings.faults, Vec::<String>::new());
        assert_eq!(findings.dropped, Vec::<String>::new());
        assert!(findings.checked > 0, "{file} has no Canary");
    }
}

#[test]
fn examples_bring_the_objects_that_their_canaries_name() {
    for (file, text) in examples() {
        let objects = manifests(&file, &text).unwrap();
        let canary = objects
            .iter()
            .find(|object| object["kind"] == "Canary")
            .unwrap();
        for name in ["targetRef", "autoscalerRef"] {
            let wanted = &canary["spec"][name];
            let brought = objects.iter().any(|object| {
                object["kind"] == wanted["kind"] && object["metadata"]["name"] == wanted["name"]
            });
            assert!(wanted.is_null() || brought, "{file} lacks its {name}");
        }
    }
}

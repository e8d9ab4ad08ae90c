use std::process::{Command, Output};

fn haldane(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_haldane"))
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn demo_that_is_piped_is_plain_and_the_same_each_time() {
    let first = haldane(&["demo", "--seed", "3"]);
    assert!(first.status.success());
    let text = String::from_utf8(first.stdout.clone()).unwrap();
    assert!(!text.contains('\u{1b}'), "{text}");
    assert!(text.contains("shop 1.1 promoted in"), "{text}");
    assert!(text.contains("cart 1.1 rolled back"), "{text}");
    assert_eq!(haldane(&["demo", "--seed", "3"]).stdout, first.stdout);
    assert_ne!(haldane(&["demo", "--seed", "4"]).stdout, first.stdout);
}

#[test]
fn simulate_says_by_its_exit_status_how_the_release_ended() {
    let canary = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/istio/canary.yaml");
    for (args, code) in [
        (&["simulate", canary][..], 0),
        (&["simulate", canary, "--scenario", "errors"], 3),
        (&["simulate", canary, "--limit", "1m"], 4),
        (&["simulate", "/nowhere.yaml"], 2),
        (&["simulate", canary, "--scenario", "weather"], 2),
    ] {
        let output = haldane(args);
        assert_eq!(output.status.code(), Some(code), "{args:?} {output:?}");
    }
}

#[test]
fn simulate_writes_json_that_can_be_read() {
    let canary = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/istio/canary.yaml");
    let output = haldane(&["simulate", canary, "--format", "json"]);
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value[0]["verdict"], "promoted");
    assert_eq!(value[0]["figures"]["dropped"], 0);
}

#[test]
fn simulate_names_what_is_wrong_with_a_manifest() {
    let file = std::env::temp_dir().join(format!("manifest-{}.yaml", std::process::id()));
    for (text, named) in [
        ("kind: Canary\nmetadata: 1", "Canary: metadata: found 1"),
        (
            "kind: Canary\nmetadata: {name: a, namespace: 1}",
            "Canary a: metadata.namespace: found 1",
        ),
        (
            "kind: Canarry\nmetadata: {name: a}",
            "Canarry a: apiVersion: found flagger.app/v1beta1 Canarry",
        ),
    ] {
        std::fs::write(&file, format!("apiVersion: flagger.app/v1beta1\n{text}\n")).unwrap();
        let output = haldane(&["simulate", file.to_str().unwrap()]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(named), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn simulate_names_what_is_wrong_with_a_scenario() {
    let canary = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/istio/canary.yaml");
    let file = std::env::temp_dir().join(format!("scenario-{}.yaml", std::process::id()));
    for (text, named) in [
        ("release: {errorPercent: 120}", "release.errorPercent"),
        ("release: {errorPercnt: 1}", "errorPercnt"),
    ] {
        std::fs::write(&file, text).unwrap();
        let path = file.to_str().unwrap();
        let output = haldane(&["simulate", canary, "--scenario", path]);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(error.contains(path) && error.contains(named), "{error}");
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn printed_scenario_gives_the_same_release_as_its_name() {
    let canary = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/istio/canary.yaml");
    let printed = haldane(&["simulate", "--scenario", "errors", "--print"]);
    let file = std::env::temp_dir().join(format!("errors-{}.yaml", std::process::id()));
    std::fs::write(&file, &printed.stdout).unwrap();
    let by_file = haldane(&["simulate", canary, "--scenario", file.to_str().unwrap()]);
    let by_name = haldane(&["simulate", canary, "--scenario", "errors"]);
    assert_eq!(by_file.stdout, by_name.stdout);
    std::fs::remove_file(&file).unwrap();
}

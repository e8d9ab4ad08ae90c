//! The Helm chart: what it ships, and what it renders to.
//!
//! Tests that render need helm: `HALDANE_TEST_HELM=/path/to/helm cargo test --test chart -- --include-ignored`.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::{collections::BTreeMap, ffi::OsString, fs, path::Path, process::Command};

use clap::Parser;
use haldane::cli::Cli;
use serde::Deserialize;
use serde_json::{Value, json};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

fn files(folder: &str) -> BTreeMap<OsString, Vec<u8>> {
    fs::read_dir(Path::new(ROOT).join(folder))
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
        .collect()
}

fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// Renders the chart into the namespace `ops`; each setting is one `--set`, or a file of values.
fn render(settings: &[&str]) -> Result<Vec<Value>, String> {
    let helm = std::env::var_os("HALDANE_TEST_HELM").expect("HALDANE_TEST_HELM names helm");
    let mut command = Command::new(helm);
    command.current_dir(ROOT);
    command.args([
        "template",
        "haldane",
        "charts/haldane",
        "--namespace",
        "ops",
    ]);
    for setting in settings {
        let flag = if setting.contains(".yaml") {
            "--values"
        } else {
            "--set"
        };
        command.args([flag, setting]);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    Ok(text
        .split("\n---\n")
        .map(|document| yaml(document.trim_start_matches("---\n")))
        .filter(|document| !document.is_null())
        .collect())
}

fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|o| o["kind"] == kind).collect()
}

fn container(objects: &[Value]) -> &Value {
    &of_kind(objects, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]
}

fn args(objects: &[Value]) -> Vec<String> {
    Vec::deserialize(&container(objects)["args"]).unwrap()
}

/// Verbs on secrets of all roles.
fn verbs_on_secrets(objects: &[Value]) -> Vec<String> {
    let mut verbs: Vec<String> = objects
        .iter()
        .flat_map(|o| o["rules"].as_array().into_iter().flatten())
        .filter(|rule| rule["resources"] == json!(["secrets"]))
        .flat_map(|rule| Vec::<String>::deserialize(&rule["verbs"]).unwrap())
        .collect();
    verbs.sort();
    verbs
}

#[test]
fn chart_has_the_version_of_the_program() {
    let chart = fs::read_to_string(Path::new(ROOT).join("charts/haldane/Chart.yaml")).unwrap();
    let chart = yaml(&chart);
    for key in ["version", "appVersion"] {
        assert_eq!(chart[key], env!("CARGO_PKG_VERSION"), "{key}");
    }
}

#[test]
fn chart_ships_the_crds() {
    let crds = files("crds");
    assert!(!crds.is_empty());
    assert!(
        files("charts/haldane/crds") == crds,
        "copy them: cp crds/* charts/haldane/crds/"
    );
}

#[test]
#[ignore = "needs helm (HALDANE_TEST_HELM)"]
fn pod_passes_the_restricted_security_standard() {
    let objects = render(&[]).unwrap();
    let pod = &of_kind(&objects, "Deployment")[0]["spec"]["template"]["spec"];
    for field in [
        "hostNetwork",
        "hostPID",
        "hostIPC",
        "volumes",
        "initContainers",
    ] {
        assert!(pod.get(field).is_none(), "{field}");
    }
    assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1));
    let context = &container(&objects)["securityContext"];
    for (field, value) in [
        ("allowPrivilegeEscalation", json!(false)),
        ("capabilities", json!({"drop": ["ALL"]})),
        ("readOnlyRootFilesystem", json!(true)),
        ("runAsNonRoot", json!(true)),
        ("runAsUser", json!(65532)),
        ("seccompProfile", json!({"type": "RuntimeDefault"})),
    ] {
        assert_eq!(context[field], value, "{field}");
    }
    for port in container(&objects)["ports"].as_array().unwrap() {
        assert!(port.get("hostPort").is_none());
    }
}

#[test]
#[ignore = "needs helm (HALDANE_TEST_HELM)"]
fn arguments_are_understood_by_the_program() {
    for settings in [
        &[][..],
        &["tests/chart/flagger-values.yaml"],
        &["namespaces={a,b}"],
    ] {
        let args = args(&render(settings).unwrap());
        let line = ["haldane"]
            .into_iter()
            .chain(args.iter().map(String::as_str));
        if let Err(error) = Cli::try_parse_from(line) {
            panic!("{settings:?}: {error}");
        }
    }
}

#[test]
#[ignore = "needs helm (HALDANE_TEST_HELM)"]
fn values_of_flaggers_chart_go_on_working() {
    let objects = render(&["tests/chart/flagger-values.yaml"]).unwrap();
    let args = args(&objects);
    for expected in [
        "--log-level=debug",
        "--namespace=shop",
        "--mesh-provider=gatewayapi:v1",
        "--metrics-server=http://prometheus.monitoring:9090",
        "--selector-labels=app,tier",
        "--include-label-prefix=app.kubernetes.io",
        "--cluster-name=blue",
        "--enable-config-tracking=false",
        "--no-cross-namespace-refs=true",
        "--leader-election-namespace=ops",
        "--slack-channel=releases",
        "--msteams-proxy-url=http://proxy:3128",
        "--event-webhook=https://events.example.com",
    ] {
        assert!(
            args.iter().any(|arg| arg == expected),
            "{expected} in {args:#?}"
        );
    }
    let deployment = of_kind(&objects, "Deployment")[0];
    assert_eq!(deployment["metadata"]["name"], "flagger");
    assert_eq!(deployment["spec"]["replicas"], 3);
    assert_eq!(container(&objects)["securityContext"]["runAsUser"], 10001);
    assert_eq!(
        container(&objects)["securityContext"]["runAsNonRoot"],
        true,
        "what Flagger's values do not name stays"
    );
    for kind in ["ServiceMonitor", "PodMonitor", "PodDisruptionBudget"] {
        assert_eq!(of_kind(&objects, kind).len(), 1, "{kind}");
    }
}

#[test]
#[ignore = "needs helm (HALDANE_TEST_HELM)"]
fn rights_end_at_the_named_namespaces() {
    let objects = render(&["namespaces={a,b}", "namespace=c"]).unwrap();
    assert!(of_kind(&objects, "ClusterRole").is_empty());
    assert!(of_kind(&objects, "ClusterRoleBinding").is_empty());
    let namespaces: Vec<_> = of_kind(&objects, "Role")
        .into_iter()
        .map(|role| role["metadata"]["namespace"].as_str().unwrap())
        .collect();
    assert_eq!(namespaces, ["a", "b", "c", "ops"]);
}

#[test]
#[ignore = "needs helm (HALDANE_TEST_HELM)"]
fn leases_are_writable_in_the_operators_namespace_alone() {
    let objects = render(&[]).unwrap();
    let with_leases: Vec<_> = objects
        .iter()
        .filter(|o| o["rules"].to_string().contains("leases"))
        .map(|o| (o["kind"].as_str(), o["metadata"]["namespace"].as_str()))
        .collect();
    assert_eq!(with_leases, [(Some("Role"), Some("ops"))]);
}

#[test]
#[ignore = "needs helm (HALDANE_TEST_HELM)"]
fn secrets_are_not_listed_without_config_tracking() {
    let tracked = verbs_on_secrets(&render(&[]).unwrap());
    assert_eq!(tracked, ["create", "get", "list", "patch", "watch"]);
    let untracked = render(&["configTracking.enabled=false"]).unwrap();
    assert_eq!(verbs_on_secrets(&untracked), ["get"]);
    assert!(
        !untracked
            .iter()
            .any(|o| o.to_string().contains("configmaps"))
    );
}

#[test]
#[ignore = "needs helm (HALDANE_TEST_HELM)"]
fn replica_without_election_is_alone() {
    let objects = render(&[
        "leaderElection.enabled=false",
        "leaderElection.replicaCount=3",
    ]);
    let deployment = of_kind(&objects.unwrap(), "Deployment")[0].clone();
    assert_eq!(deployment["spec"]["replicas"], 1);
    assert_eq!(deployment["spec"]["strategy"], json!({"type": "Recreate"}));
}

#[test]
#[ignore = "needs helm (HALDANE_TEST_HELM)"]
fn values_that_cannot_be_obeyed_are_refused() {
    for (setting, named) in [
        ("meshProvder=istio", "meshProvder"),
        ("leaderElection.replicaCount=0", "replicaCount"),
        ("logFormat=xml", "logFormat"),
        ("prometheus.install=true", "prometheus.install"),
        (
            "controlplane.kubeconfig.secretName=x",
            "controlplane.kubeconfig",
        ),
    ] {
        let error = render(&[setting]).unwrap_err();
        assert!(error.contains(named), "{setting}: {error}");
    }
}

#[test]
#[ignore = "needs helm (HALDANE_TEST_HELM)"]
fn network_policy_names_the_port_and_the_ways_out() {
    assert!(of_kind(&render(&[]).unwrap(), "NetworkPolicy").is_empty());
    let open = render(&["networkPolicy.enabled=true"]).unwrap();
    let policy = &of_kind(&open, "NetworkPolicy")[0]["spec"];
    assert_eq!(policy["policyTypes"], json!(["Ingress"]));
    assert_eq!(policy["ingress"], json!([{"ports": [{"port": "http"}]}]));
    let closed = render(&[
        "networkPolicy.enabled=true",
        "networkPolicy.egress[0].ports[0].port=443",
    ])
    .unwrap();
    let policy = &of_kind(&closed, "NetworkPolicy")[0]["spec"];
    assert_eq!(policy["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["egress"][1], json!({"ports": [{"port": 443}]}));
}

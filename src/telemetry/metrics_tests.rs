use super::*;
use crate::object::Kind;

fn canary(name: &str) -> Key {
    Key::new(Kind::Canary, "test", name)
}

/// The lines that are not comments, sorted.
fn samples(metrics: &Metrics) -> Vec<String> {
    let mut lines: Vec<_> = metrics
        .encode()
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines
}

fn tell_all(metrics: &Metrics, canary: &Key, target: &str) {
    metrics.set_phase(canary, target, Phase::Failed);
    metrics.set_weight(canary, target, 30);
    metrics.observe_duration(canary, target, Duration::from_millis(20));
    metrics.metric_value(canary, target, "latency", 12.5);
    let judge = JudgeStatus {
        requests_needed: Some(120.0),
        ..JudgeStatus::default()
    };
    metrics.judged(canary, target, Some(&judge));
    metrics.succeeded(canary, target, Strategy::Canary, AnalysisStatus::Completed);
    metrics.failed(
        canary,
        target,
        Strategy::BlueGreen,
        AnalysisStatus::Completed,
    );
}

#[test]
fn series_are_named_and_labelled_as_flaggers() {
    let metrics = Metrics::new(Provider::GatewayApiV1);
    tell_all(&metrics, &canary("podinfo-release"), "podinfo");
    let samples = samples(&metrics);
    let version = env!("CARGO_PKG_VERSION");
    for expected in [
        &*format!(r#"flagger_info{{version="{version}",mesh_provider="gatewayapi:v1"}} 1"#),
        r#"flagger_canary_total{namespace="test"} 1"#,
        r#"flagger_canary_status{name="podinfo",namespace="test"} 2"#,
        r#"flagger_canary_weight{workload="podinfo",namespace="test"} 30"#,
        r#"flagger_canary_weight{workload="podinfo-primary",namespace="test"} 70"#,
        r#"flagger_canary_duration_seconds_count{name="podinfo",namespace="test"} 1"#,
        r#"flagger_canary_duration_seconds_bucket{le="0.025",name="podinfo",namespace="test"} 1"#,
        r#"flagger_canary_metric_analysis{name="podinfo",namespace="test",metric="latency"} 12.5"#,
        r#"haldane_judge_verdict{name="podinfo",namespace="test"} 0"#,
        r#"haldane_judge_evidence{name="podinfo",namespace="test"} 1.0"#,
        r#"haldane_judge_requests_needed{name="podinfo",namespace="test"} 120.0"#,
        r#"flagger_canary_successes_total{name="podinfo",namespace="test",deployment_strategy="canary",analysis_status="completed"} 1"#,
        r#"flagger_canary_failures_total{name="podinfo",namespace="test",deployment_strategy="blue-green",analysis_status="completed"} 1"#,
    ] {
        assert!(
            samples.iter().any(|line| line == expected),
            "{expected} is missing in {samples:#?}"
        );
    }
}

#[test]
fn types_are_flaggers() {
    let metrics = Metrics::new(Provider::Istio);
    tell_all(&metrics, &canary("podinfo"), "podinfo");
    let text = metrics.encode().unwrap();
    for expected in [
        "# TYPE flagger_info gauge",
        "# TYPE flagger_canary_total gauge",
        "# TYPE flagger_canary_status gauge",
        "# TYPE flagger_canary_weight gauge",
        "# TYPE flagger_canary_duration_seconds histogram",
        "# TYPE flagger_canary_metric_analysis gauge",
        "# TYPE flagger_canary_successes counter",
        "# TYPE flagger_canary_failures counter",
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected}");
    }
}

#[test]
fn series_of_a_deleted_canary_disappear() {
    let metrics = Metrics::new(Provider::Istio);
    let before = samples(&metrics);
    tell_all(&metrics, &canary("podinfo"), "podinfo");
    assert_ne!(samples(&metrics), before);
    metrics.forget(&canary("podinfo"));
    assert_eq!(samples(&metrics), before);
}

#[test]
fn series_of_a_judge_disappear_with_it() {
    let metrics = Metrics::new(Provider::Istio);
    let canary = canary("podinfo");
    metrics.set_phase(&canary, "podinfo", Phase::Progressing);
    let before = samples(&metrics);
    metrics.judged(&canary, "podinfo", Some(&JudgeStatus::default()));
    assert_ne!(samples(&metrics), before);
    metrics.judged(&canary, "podinfo", None);
    assert_eq!(samples(&metrics), before);
}

#[test]
fn series_of_a_former_target_disappear() {
    let metrics = Metrics::new(Provider::Istio);
    tell_all(&metrics, &canary("podinfo"), "old");
    metrics.set_phase(&canary("podinfo"), "new", Phase::Progressing);
    let samples = samples(&metrics);
    assert!(
        !samples.iter().any(|line| line.contains("\"old")),
        "{samples:#?}"
    );
    let status = r#"flagger_canary_status{name="new",namespace="test"} 0"#;
    assert!(samples.iter().any(|line| line == status), "{samples:#?}");
}

#[test]
fn series_of_a_target_that_another_canary_shares_stay() {
    let metrics = Metrics::new(Provider::Istio);
    metrics.set_phase(&canary("a"), "podinfo", Phase::Succeeded);
    metrics.set_phase(&canary("b"), "podinfo", Phase::Succeeded);
    metrics.forget(&canary("a"));
    let samples = samples(&metrics);
    for expected in [
        r#"flagger_canary_total{namespace="test"} 1"#,
        r#"flagger_canary_status{name="podinfo",namespace="test"} 1"#,
    ] {
        assert!(samples.iter().any(|line| line == expected), "{samples:#?}");
    }
}

#[test]
fn own_series_have_closed_sets_of_labels() {
    let metrics = Metrics::new(Provider::Istio);
    metrics.api_request("patch", "Canary", Some(200));
    metrics.api_request("patch", "Canary", None);
    metrics.api_request("patch", "Canary", Some(65000));
    metrics.reconciled(Reconciled::Unchanged);
    metrics.check_took(Duration::from_millis(70));
    metrics.set_leader(true);
    let samples = samples(&metrics);
    for expected in [
        r#"haldane_api_requests_total{verb="patch",kind="Canary",code="200"} 1"#,
        r#"haldane_api_requests_total{verb="patch",kind="Canary",code="none"} 1"#,
        r#"haldane_api_requests_total{verb="patch",kind="Canary",code="invalid"} 1"#,
        r#"haldane_reconciles_total{result="unchanged"} 1"#,
        r#"haldane_check_duration_seconds_bucket{le="0.1"} 1"#,
        "haldane_leader 1",
    ] {
        assert!(
            samples.iter().any(|line| line == expected),
            "{expected} in {samples:#?}"
        );
    }
}

//! Manifests that tests start from.

use serde_json::{Value, json};

use crate::toy::Toy;

/// A Canary of `podinfo` with 20, 40 and 60 percent, a metric, and parts of the spec replaced.
pub fn canary(change: &str) -> Value {
    let mut canary = yaml(
        "
apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: podinfo, namespace: test}
spec:
  targetRef: {apiVersion: apps/v1, kind: Deployment, name: podinfo}
  progressDeadlineSeconds: 120
  service: {port: 80, targetPort: 9898}
  analysis:
    interval: 10s
    threshold: 3
    stepWeight: 20
    maxWeight: 60
    metrics:
    - {name: request-success-rate, interval: 1m, thresholdRange: {min: 99}}
",
    );
    if !change.is_empty() {
        json_patch::merge(&mut canary["spec"], &yaml(change));
    }
    canary
}

/// The workload of a user, with two pods.
pub fn deployment() -> Value {
    yaml(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: podinfo, namespace: test}
spec:
  replicas: 2
  progressDeadlineSeconds: 60
  selector: {matchLabels: {app: podinfo}}
  template:
    metadata: {labels: {app: podinfo}}
    spec:
      containers:
      - name: podinfod
        image: podinfo:1
        ports: [{name: http, containerPort: 9898}]
        envFrom: [{configMapRef: {name: settings}}]
",
    )
}

pub fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// A service that was there before the Canary, as most are.
pub fn service() -> Value {
    yaml(
        "
apiVersion: v1
kind: Service
metadata: {name: podinfo, namespace: test}
spec:
  selector: {app: podinfo}
  ports: [{name: http, port: 80, protocol: TCP, targetPort: 9898}]
",
    )
}

pub fn config(data: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "settings", "namespace": "test"},
        "data": {"color": data},
    })
}

/// A cluster in which users are served and a Canary was just created.
pub fn fresh(change: &str) -> Toy {
    let mut toy = Toy::new();
    toy.put(config("blue"));
    toy.put(deployment());
    toy.put(service());
    toy.kubernetes(30);
    toy.put(canary(change));
    toy
}

/// A cluster in which the Canary is initialized and the target scaled down.
pub fn initialized(change: &str) -> Toy {
    let mut toy = fresh(change);
    toy.run(600);
    assert_eq!(
        toy.phase(),
        haldane::api::Phase::Initialized,
        "{}",
        toy.story()
    );
    toy
}

/// The same, with a revision under analysis at a weight.
pub fn progressing(change: &str, weight: i32) -> Toy {
    let mut toy = initialized(change);
    toy.push("podinfo:2");
    toy.run_until("the weight is reached", |toy| {
        toy.status().canary_weight == weight
    });
    toy
}

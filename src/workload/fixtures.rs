//! Objects for tests, written as people write manifests.

use serde_json::{Value, json};

use crate::{
    api::Canary,
    object::{Kind, Object, Want},
};

pub(super) fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap()
}

/// An object of namespace `test` as a server returns it.
pub(super) fn object(kind: Kind, text: &str) -> Object {
    live(kind, yaml(text))
}

pub(super) fn live(kind: Kind, mut value: Value) -> Object {
    let metadata = &mut value["metadata"];
    for (field, default) in [("namespace", "test"), ("resourceVersion", "1")] {
        if metadata[field].is_null() {
            metadata[field] = json!(default);
        }
    }
    if metadata["uid"].is_null() {
        metadata["uid"] = json!(format!("uid-of-{}", metadata["name"].as_str().unwrap()));
    }
    Object::read(kind, value).unwrap()
}

/// A wanted object once it was created.
pub(super) fn created(want: &Want) -> Object {
    live(want.key.kind, want.manifest())
}

/// The object after a merge patch.
pub(super) fn patched(object: &Object, patch: &Value) -> Object {
    let mut value = object.body.value();
    value["metadata"] = json!({
        "name": object.key.name,
        "namespace": object.key.namespace,
        "uid": object.uid,
        "resourceVersion": "2",
        "generation": object.generation,
        "labels": object.labels,
        "annotations": object.annotations,
        "ownerReferences": object.owners,
    });
    json_patch::merge(&mut value, patch);
    live(object.key.kind, value)
}

/// The Canary `podinfo` with a part of its spec.
pub(super) fn canary(spec: &str) -> Canary {
    let mut spec = yaml(spec);
    if !spec.is_object() {
        spec = json!({});
    }
    if spec["targetRef"].is_null() {
        spec["targetRef"] =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "podinfo"});
    }
    if spec["analysis"].is_null() {
        spec["analysis"] = json!({"interval": "1m", "threshold": 1, "stepWeight": 10});
    }
    serde_json::from_value(json!({
        "apiVersion": "flagger.app/v1beta1",
        "kind": "Canary",
        "metadata": {"name": "podinfo", "namespace": "test", "uid": "uid-of-canary"},
        "spec": spec,
    }))
    .unwrap()
}

/// The target of most tests.
pub(super) fn deployment() -> Object {
    object(Kind::Deployment, DEPLOYMENT)
}

pub(super) const DEPLOYMENT: &str = "
metadata:
  name: podinfo
  generation: 3
  labels: {app: podinfo, team: shop, kustomize.toolkit.fluxcd.io/name: apps}
  annotations:
    team: shop
    deployment.kubernetes.io/revision: '7'
    kubectl.kubernetes.io/last-applied-configuration: '{}'
    kustomize.toolkit.fluxcd.io/checksum: abc
spec:
  replicas: 3
  minReadySeconds: 5
  progressDeadlineSeconds: 60
  revisionHistoryLimit: 5
  strategy: {type: RollingUpdate, rollingUpdate: {maxSurge: 25%, maxUnavailable: 0}}
  selector:
    matchLabels: {app: podinfo, app.kubernetes.io/instance: blue}
  template:
    metadata:
      creationTimestamp: null
      labels:
        app: podinfo
        app.kubernetes.io/instance: blue
        version: v1
        kustomize.toolkit.fluxcd.io/name: apps
      annotations:
        prometheus.io/scrape: 'true'
        kustomize.toolkit.fluxcd.io/checksum: abc
    spec:
      fieldOfTomorrow: {kept: true}
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - topologyKey: kubernetes.io/hostname
            labelSelector:
              matchExpressions:
              - {key: app, operator: In, values: [podinfo, other]}
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 1
            podAffinityTerm:
              topologyKey: zone
              labelSelector:
                matchLabels: {app: podinfo, tier: podinfo}
        podAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - topologyKey: zone
            labelSelector:
              matchLabels: {app: podinfo}
      topologySpreadConstraints:
      - maxSkew: 1
        topologyKey: zone
        labelSelector:
          matchLabels: {app: podinfo}
      initContainers:
      - name: migrate
        image: migrate:1
        envFrom:
        - secretRef: {name: database, optional: true}
      containers:
      - name: podinfod
        image: podinfo:1
        ports:
        - {name: http, containerPort: 9898, protocol: TCP}
        - {name: http-metrics, containerPort: 9797, protocol: TCP}
        - {containerPort: 5353, protocol: UDP}
        env:
        - name: COLOR
          valueFrom:
            configMapKeyRef: {name: colors, key: color}
        - name: PASSWORD
          valueFrom:
            secretKeyRef: {name: database, key: password}
        - {name: PLAIN, value: colors}
        envFrom:
        - configMapRef: {name: environment}
      - name: istio-proxy
        image: proxy:1
        ports:
        - {name: proxy, containerPort: 15090}
      volumes:
      - name: files
        configMap: {name: files, optional: true}
      - name: certificate
        secret: {secretName: certificate}
      - name: mixed
        projected:
          sources:
          - configMap: {name: colors}
          - secret: {name: token, optional: true}
          - downwardAPI: {}
status:
  observedGeneration: 3
  replicas: 3
  updatedReplicas: 3
  readyReplicas: 3
  availableReplicas: 3
";

pub(super) fn daemon_set() -> Object {
    object(
        Kind::DaemonSet,
        "
metadata: {name: podinfo, generation: 1}
spec:
  selector: {matchLabels: {app: podinfo}}
  updateStrategy: {type: RollingUpdate}
  template:
    metadata: {labels: {app: podinfo}}
    spec:
      nodeSelector: {kubernetes.io/os: linux}
      topologySpreadConstraints:
      - labelSelector: {matchLabels: {app: podinfo}}
      containers: [{name: podinfo, image: 'podinfo:1'}]
",
    )
}

//! What holds for every workload, not only for those that tests were written about.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    fixtures::{canary, created, live, patched},
    *,
};
use crate::{
    object::{Json, Kind, Object},
    settings::Settings,
};

/// Names that are easy to mistake for each other.
fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "a",
        "b",
        "a-primary",
        "a-podinfo-primary",
        "podinfo",
        "podinfo-primary",
    ])
    .prop_map(str::to_owned)
}

fn map_of(keys: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop::collection::btree_map(prop::sample::select(keys), name(), 0..4).prop_map(|map| json!(map))
}

fn volume() -> impl Strategy<Value = Value> {
    (name(), name(), any::<bool>()).prop_flat_map(|(name, other, optional)| {
        prop::sample::select(vec![
            json!({"name": name, "configMap": {"name": other, "optional": optional}}),
            json!({"name": name, "secret": {"secretName": other, "defaultMode": 420}}),
            json!({"name": name, "projected": {"sources": [
                {"configMap": {"name": other}}, {"secret": {"name": name}}, {"downwardAPI": {}},
            ]}}),
            json!({"name": name, "emptyDir": {}}),
        ])
    })
}

fn container() -> impl Strategy<Value = Value> {
    (name(), name(), name(), 1..4i64, any::<bool>()).prop_map(|(one, two, three, port, null)| {
        let mut container = json!({
            "name": one,
            "image": two,
            "ports": [{"containerPort": port, "name": three}, {"containerPort": port + 1}],
            "env": [
                {"name": "A", "valueFrom": {"configMapKeyRef": {"name": two, "key": "a"}}},
                {"name": "B", "valueFrom": {"secretKeyRef": {"name": three, "key": "b"}}},
                {"name": "C", "value": one},
            ],
            "envFrom": [{"secretRef": {"name": two}}, {"configMapRef": {"name": three}}],
        });
        if null {
            container["lifecycle"] = Value::Null;
        }
        container
    })
}

fn pod() -> impl Strategy<Value = Value> {
    const LABELS: &[&str] = &["app", "name", "tier"];
    (
        prop::collection::vec(volume(), 0..4),
        prop::collection::vec(container(), 0..3),
        prop::collection::vec(container(), 0..2),
        map_of(LABELS),
        map_of(LABELS),
        prop::option::of(map_of(&["os", "flagger.app/scale-to-zero"])),
    )
        .prop_map(|(volumes, containers, init, near, spread, nodes)| {
            let mut pod = json!({
                "volumes": volumes,
                "containers": containers,
                "initContainers": init,
                "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
                    {"labelSelector": {"matchLabels": near, "matchExpressions": [
                        {"key": "app", "operator": "In", "values": ["podinfo", "a"]},
                        {"key": "app", "operator": "Exists"},
                    ]}},
                ]}},
                "topologySpreadConstraints": [{"labelSelector": {"matchLabels": spread}}],
            });
            if let Some(nodes) = nodes {
                pod["nodeSelector"] = nodes;
            }
            pod
        })
}

/// A Deployment or DaemonSet called `podinfo`.
fn target() -> impl Strategy<Value = Object> {
    prop::sample::select(vec![Kind::Deployment, Kind::DaemonSet]).prop_flat_map(target_of)
}

/// Two versions of a target.
fn versions() -> impl Strategy<Value = (Object, Object)> {
    prop::sample::select(vec![Kind::Deployment, Kind::DaemonSet])
        .prop_flat_map(|kind| (target_of(kind), target_of(kind)))
}

fn target_of(kind: Kind) -> impl Strategy<Value = Object> {
    const ANNOTATIONS: &[&str] = &["note", "kustomize.toolkit.fluxcd.io/checksum", "team"];
    (
        pod(),
        map_of(&["name", "tier", "kustomize.toolkit.fluxcd.io/name"]),
        prop::option::of(map_of(ANNOTATIONS)),
        prop::option::of(0..5i64),
        map_of(ANNOTATIONS),
    )
        .prop_map(move |(pod, mut labels, annotations, replicas, own)| {
            labels["app"] = json!("podinfo");
            let mut spec = json!({
                "selector": {"matchLabels": {"app": "podinfo"}},
                "template": {"metadata": {"labels": labels}, "spec": pod},
            });
            if let Some(annotations) = annotations {
                spec["template"]["metadata"]["annotations"] = annotations;
            }
            if kind == Kind::Deployment {
                // The server fills the field in.
                spec["replicas"] = json!(replicas.unwrap_or(1));
            }
            live(
                kind,
                json!({"metadata": {"name": "podinfo", "annotations": own}, "spec": spec}),
            )
        })
}

/// Copies of some of the configs that a target uses.
fn copies(target: &Object, choice: u32) -> Copies {
    config_refs(target)
        .into_iter()
        .enumerate()
        .filter(|(index, _)| choice >> (index % 32) & 1 == 1)
        .map(|(_, config)| {
            let copy = format!("{}-primary", config.name);
            ((config.kind, config.name), copy)
        })
        .collect()
}

/// Any JSON, with words from manifests in it, so that it often has the shape that is looked for.
fn anything() -> impl Strategy<Value = Value> {
    const WORDS: &[&str] = &[
        "spec",
        "status",
        "template",
        "metadata",
        "labels",
        "annotations",
        "selector",
        "matchLabels",
        "containers",
        "volumes",
        "configMap",
        "name",
        "env",
        "ports",
        "containerPort",
        "nodeSelector",
        "affinity",
        "podAntiAffinity",
        "endpoints",
        "targetRef",
        "conditions",
        "app",
        "triggers",
        "scaleTargetRef",
        "replicas",
        "updateStrategy",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,4}".prop_map(Value::from),
        prop::sample::select(WORDS).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 48, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(prop::sample::select(WORDS), inner, 0..6)
                .prop_map(|map| json!(map)),
        ]
    })
}

/// An object whose body is anything, often with a sound selector so that builders go on.
fn malformed() -> impl Strategy<Value = Object> {
    (
        prop::sample::select(Kind::ALL.to_vec()),
        anything(),
        anything(),
        any::<bool>(),
    )
        .prop_map(|(kind, spec, status, has_selector)| {
            let mut body = json!({"spec": spec, "status": status});
            if has_selector && body["spec"].is_object() {
                body["spec"]["selector"] = json!({"matchLabels": {"app": "a"}});
            }
            let mut object = live(kind, json!({"metadata": {"name": "podinfo"}}));
            object.body = Json::of(&body);
            object
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn created_primary_agrees_with_its_target(target in target(), choice in any::<u32>()) {
        let (settings, canary) = (Settings::default(), canary(""));
        let configs = copies(&target, choice);
        let primary = created(&primary(&canary, &settings, &target, &configs, "id").unwrap());
        prop_assert!(agrees(&settings, &target, &primary));
        prop_assert_eq!(
            promotion(&canary, &settings, &target, &primary, &configs, "id").unwrap(),
            None
        );
    }

    #[test]
    fn promoted_primary_is_as_if_created(
        (old, new) in versions(),
        choice in any::<u32>(),
    ) {
        let (settings, canary) = (Settings::default(), canary(""));
        let first = primary(&canary, &settings, &old, &copies(&old, choice), "1").unwrap();
        let before = created(&first);
        let configs = copies(&new, choice.rotate_left(7));
        let promote = |primary: &Object| {
            promotion(&canary, &settings, &new, primary, &configs, "2").unwrap()
        };
        let after = patched(&before, &promote(&before).unwrap());
        prop_assert_eq!(promote(&after), None);
        prop_assert!(agrees(&settings, &new, &after));
        prop_assert!(carries(&after, &revision(&new), "2"));
        let fresh = created(&primary(&canary, &settings, &new, &configs, "2").unwrap());
        prop_assert_eq!(
            &after.body.value()["spec"]["template"],
            &fresh.body.value()["spec"]["template"]
        );
        let restored = patched(&after, &restoration(&after).unwrap());
        prop_assert_eq!(
            &restored.body.value()["spec"]["template"],
            &before.body.value()["spec"]["template"]
        );
    }

    #[test]
    fn any_change_of_the_template_is_disagreement(
        target in target(),
        choice in any::<u32>(),
        change in prop::sample::select(vec![
            json!({"metadata": {"annotations": {"restarted": "now"}}}),
            json!({"metadata": {"labels": {"version": "2"}}}),
            json!({"spec": {"serviceAccountName": "other"}}),
            json!({"spec": {"nodeSelector": {"os": "other"}}}),
            json!({"spec": {"topologySpreadConstraints": []}}),
            json!({"spec": {"containers": [{"name": "other"}]}}),
            json!({"spec": {"volumes": [{"configMap": {"name": "other"}}]}}),
        ]),
    ) {
        let (settings, canary) = (Settings::default(), canary(""));
        let configs = copies(&target, choice);
        let primary = created(&primary(&canary, &settings, &target, &configs, "id").unwrap());
        let changed = patched(&target, &json!({"spec": {"template": change}}));
        prop_assert_ne!(revision(&target), revision(&changed));
        prop_assert!(!agrees(&settings, &changed, &primary));
    }

    #[test]
    fn renaming_touches_tracked_names_alone(target in target(), choice in any::<u32>()) {
        let configs = copies(&target, choice);
        let mut body = target.body.value();
        rename_configs(&mut body["spec"]["template"]["spec"], &configs);
        let renamed = Object { body: Json::of(&body), ..target.clone() };
        let mut wanted: Vec<(Kind, String)> = config_refs(&target)
            .into_iter()
            .map(|config| {
                let key = (config.kind, config.name);
                (key.0, configs.get(&key).unwrap_or(&key.1).clone())
            })
            .collect();
        wanted.sort();
        wanted.dedup();
        let found: Vec<(Kind, String)> = config_refs(&renamed)
            .into_iter()
            .map(|config| (config.kind, config.name))
            .collect();
        prop_assert_eq!(found, wanted);
        if configs.is_empty() {
            prop_assert_eq!(&renamed, &target);
        }
    }

    #[test]
    fn services_settle_after_one_write(
        target in target(),
        ports in prop::collection::vec((name(), 1..5i64, any::<bool>()), 0..4),
        discovery in any::<bool>(),
        ours in any::<bool>(),
    ) {
        let spec = format!("service: {{port: 2, targetPort: 3, portDiscovery: {discovery}}}");
        let (settings, canary) = (Settings::default(), canary(&spec));
        let build = |apex: &Object| {
            let observed = Services { apex: Some(apex), ..Services::default() };
            services(&canary, &settings, &target, observed).unwrap().apex
        };
        let mut found: Vec<Value> = Vec::new();
        for (name, port, node) in ports {
            let mut port = json!({"name": name, "protocol": "TCP", "port": port, "targetPort": port});
            if node {
                port["nodePort"] = json!(30000 + found.len());
            }
            let is_new = |field: &str| found.iter().all(|other| other[field] != port[field]);
            if is_new("name") && is_new("port") {
                found.push(port);
            }
        }
        let mut value = json!({
            "metadata": {"name": "podinfo"},
            "spec": {"selector": {"app": "x", "y": "z"}, "ports": found},
        });
        if ours {
            value["metadata"]["ownerReferences"] =
                json!([{"kind": "Canary", "name": "podinfo", "uid": "u", "controller": true}]);
        }
        let existing = live(Kind::Service, value);
        let patch = build(&existing).patch(&existing).unwrap();
        let after = patched(&existing, &patch);
        prop_assert_eq!(build(&after).patch(&after), None);
        let body = after.body.value();
        prop_assert_eq!(&body["spec"]["selector"], &json!({"app": "podinfo-primary"}));
        let ports = body["spec"]["ports"].as_array().unwrap();
        prop_assert!(ports.iter().any(|port| port["port"] == 2 && port["targetPort"] == 3));
        for field in ["name", "nodePort"] {
            let mut seen: Vec<&Value> = ports.iter().filter_map(|port| port.get(field)).collect();
            let all = seen.len();
            seen.sort_by_key(ToString::to_string);
            seen.dedup();
            prop_assert_eq!(seen.len(), all, "{} in {:?}", field, ports);
        }
    }

    #[test]
    fn malformed_bodies_never_panic(one in malformed(), two in malformed(), choice in any::<u32>()) {
        let settings = Settings::default();
        let canary = canary("service: {port: 80, portDiscovery: true}");
        let configs = copies(&one, choice);
        let _ = revision(&one);
        let _ = services(
            &canary,
            &settings,
            &one,
            Services { canary: None, primary: None, apex: Some(&two) },
        );
        let _ = service_copies(
            &canary,
            &one,
            Services { canary: Some(&two), primary: Some(&two), apex: None },
        );
        let _ = primary(&canary, &settings, &one, &configs, "id").map(|want| want.manifest());
        let _ = promotion(&canary, &settings, &one, &two, &configs, "id");
        let _ = restoration(&one);
        let now = Timestamp::MAX;
        for who in [Side::Primary, Side::Canary] {
            let _ = readiness(&one, who, 100, Some(now), i64::MAX, now);
            let _ = readiness(&one, who, i32::MIN, None, 600, now);
        }
        let _ = ready_endpoints(&[Arc::new(one.clone())], |_| true);
        let _ = current_replica_set(&one, &[Arc::new(two.clone())]);
        let _ = primary_scaler(&canary, &one).map(|want| want.patch(&two));
        let _ = (pause_scaler(&one), resume_scaler(&one));
        let _ = (scale_to_zero(&one), scale_up(&one, Some(&two), Some(&two)));
        let _ = revert_target(&one, Some(&two), None);
        if let Ok(selector) = selector(&one, &settings) {
            let _ = revert_apex(&selector, &two);
        }
        let _ = adopts(&canary, &one);
        let _ = agrees(&settings, &one, &two);
        let _ = checksum(&one.body.value());
    }
}

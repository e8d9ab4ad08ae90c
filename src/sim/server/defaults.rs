//! What the server fills into built-in objects: the reason why naive comparisons find differences.

use serde_json::{Map, Value, json};

use super::meta::list;
use super::state::metadata;

/// The annotation that counts the templates of a `DaemonSet`.
pub const TEMPLATE_GENERATION: &str = "deprecated.daemonset.template.generation";

/// Sets a field that is absent.
fn fill(object: &mut Value, field: &str, value: Value) {
    if object.is_object() && object[field].is_null() {
        object[field] = value;
    }
}

/// The fields that decoding fills in.
pub fn fill_in(plural: &str, object: &mut Value) {
    let spec = &mut object["spec"];
    match plural {
        "deployments" => deployment(spec),
        "replicasets" => {
            fill(spec, "replicas", json!(1));
            template(spec);
        }
        "daemonsets" => {
            fill(spec, "revisionHistoryLimit", json!(10));
            rolling(
                spec,
                "updateStrategy",
                &json!({"maxUnavailable": 1, "maxSurge": 0}),
            );
            template(spec);
            let annotations = metadata(object)
                .entry("annotations")
                .or_insert_with(|| json!({}));
            fill(annotations, TEMPLATE_GENERATION, json!("0"));
        }
        "statefulsets" => {
            fill(spec, "replicas", json!(1));
            fill(spec, "revisionHistoryLimit", json!(10));
            fill(spec, "podManagementPolicy", json!("OrderedReady"));
            rolling(spec, "updateStrategy", &json!({"partition": 0}));
            fill(
                spec,
                "persistentVolumeClaimRetentionPolicy",
                json!({"whenDeleted": "Retain", "whenScaled": "Retain"}),
            );
            template(spec);
        }
        "pods" => {
            fill(spec, "enableServiceLinks", json!(true));
            pod(spec);
            requests_from_limits(spec);
            let address = object["status"]["podIP"].clone();
            if address.is_string() {
                fill(&mut object["status"], "podIPs", json!([{"ip": address}]));
            } else {
                drop_nulls(&mut object["status"]);
            }
        }
        "services" => service(spec),
        "horizontalpodautoscalers" => autoscaler(spec),
        "secrets" => secret(object),
        "endpointslices" => {
            for port in items(&mut object["ports"]) {
                fill(port, "name", json!(""));
                fill(port, "protocol", json!("TCP"));
            }
        }
        "namespaces" => {
            let name = object["metadata"]["name"].clone();
            let labels = metadata(object)
                .entry("labels")
                .or_insert_with(|| json!({}));
            if labels.is_object() && name.is_string() {
                labels["kubernetes.io/metadata.name"] = name;
            }
        }
        _ => {}
    }
}

fn items(value: &mut Value) -> impl Iterator<Item = &mut Value> {
    value.as_array_mut().into_iter().flatten()
}

fn deployment(spec: &mut Value) {
    fill(spec, "replicas", json!(1));
    fill(spec, "revisionHistoryLimit", json!(10));
    fill(spec, "progressDeadlineSeconds", json!(600));
    rolling(
        spec,
        "strategy",
        &json!({"maxUnavailable": "25%", "maxSurge": "25%"}),
    );
    template(spec);
}

fn rolling(spec: &mut Value, field: &str, defaults: &Value) {
    fill(spec, field, json!({}));
    let strategy = &mut spec[field];
    fill(strategy, "type", json!("RollingUpdate"));
    if strategy["type"] == "RollingUpdate" {
        fill(strategy, "rollingUpdate", json!({}));
        for (name, value) in defaults.as_object().into_iter().flatten() {
            fill(&mut strategy["rollingUpdate"], name, value.clone());
        }
    }
}

fn template(spec: &mut Value) {
    if spec["template"]["spec"].is_object() {
        pod(&mut spec["template"]["spec"]);
    }
}

fn pod(spec: &mut Value) {
    fill(spec, "restartPolicy", json!("Always"));
    fill(spec, "dnsPolicy", json!("ClusterFirst"));
    fill(spec, "schedulerName", json!("default-scheduler"));
    fill(spec, "terminationGracePeriodSeconds", json!(30));
    fill(spec, "securityContext", json!({}));
    for (from, to) in [
        ("serviceAccountName", "serviceAccount"),
        ("serviceAccount", "serviceAccountName"),
    ] {
        let given = spec[from].clone();
        if !given.is_null() {
            fill(spec, to, given);
        }
    }
    for kind in ["containers", "initContainers"] {
        items(&mut spec[kind]).for_each(container);
    }
    for volume in items(&mut spec["volumes"]) {
        let sources = volume
            .as_object()
            .map_or(0, |map| map.keys().filter(|key| *key != "name").count());
        if sources == 0 {
            volume["emptyDir"] = json!({});
        }
        for source in ["configMap", "secret", "projected", "downwardAPI"] {
            fill(&mut volume[source], "defaultMode", json!(420));
        }
        if let Some(map) = volume.as_object_mut() {
            map.retain(|_, value| !value.is_null());
        }
    }
    if let Some(map) = spec.as_object_mut() {
        map.retain(|_, value| !value.is_null());
    }
}

fn container(container: &mut Value) {
    fill(
        container,
        "terminationMessagePath",
        json!("/dev/termination-log"),
    );
    fill(container, "terminationMessagePolicy", json!("File"));
    let image = container["image"].as_str().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default();
    let moving =
        !image.contains('@') && name.rsplit_once(':').is_none_or(|(_, tag)| tag == "latest");
    let policy = if moving { "Always" } else { "IfNotPresent" };
    fill(container, "imagePullPolicy", json!(policy));
    for port in items(&mut container["ports"]) {
        fill(port, "protocol", json!("TCP"));
    }
    for kind in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = &mut container[kind];
        for (field, value) in [
            ("timeoutSeconds", 1),
            ("periodSeconds", 10),
            ("successThreshold", 1),
            ("failureThreshold", 3),
        ] {
            fill(probe, field, json!(value));
        }
        http_get(&mut probe["httpGet"]);
        fill(&mut probe["grpc"], "service", json!(""));
        drop_nulls(probe);
    }
    for hook in ["postStart", "preStop"] {
        http_get(&mut container["lifecycle"][hook]["httpGet"]);
        drop_nulls(&mut container["lifecycle"][hook]);
    }
    drop_nulls(&mut container["lifecycle"]);
    for variable in items(&mut container["env"]) {
        fill(
            &mut variable["valueFrom"]["fieldRef"],
            "apiVersion",
            json!("v1"),
        );
        drop_nulls(&mut variable["valueFrom"]);
        drop_nulls(variable);
    }
    drop_nulls(container);
}

fn http_get(get: &mut Value) {
    fill(get, "path", json!("/"));
    fill(get, "scheme", json!("HTTP"));
}

/// Takes out the nulls (and what became empty) that looking for fields left behind.
fn drop_nulls(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.retain(|_, value| !value.is_null());
        if map.is_empty() {
            *value = Value::Null;
        }
    }
}

fn requests_from_limits(spec: &mut Value) {
    for container in items(&mut spec["containers"]) {
        let limits = container["resources"]["limits"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        for (name, limit) in limits {
            fill(&mut container["resources"], "requests", json!({}));
            fill(&mut container["resources"]["requests"], &name, limit);
        }
    }
}

fn service(spec: &mut Value) {
    fill(spec, "sessionAffinity", json!("None"));
    if spec["sessionAffinity"] == "ClientIP" && spec["sessionAffinityConfig"].is_null() {
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10800}});
    }
    fill(spec, "type", json!("ClusterIP"));
    fill(spec, "ports", json!([]));
    let ty = spec["type"].as_str().unwrap_or_default().to_owned();
    for port in items(&mut spec["ports"]) {
        fill(port, "protocol", json!("TCP"));
        let number = port["port"].clone();
        if port["targetPort"].is_null() || port["targetPort"] == 0 || port["targetPort"] == "" {
            port["targetPort"] = number;
        }
    }
    if matches!(ty.as_str(), "NodePort" | "LoadBalancer") {
        fill(spec, "externalTrafficPolicy", json!("Cluster"));
    }
    if ty != "ExternalName" {
        fill(spec, "internalTrafficPolicy", json!("Cluster"));
    }
    if spec["ports"] == json!([])
        && let Some(map) = spec.as_object_mut()
    {
        map.remove("ports");
    }
    if ty == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", json!(true));
    }
}

fn autoscaler(spec: &mut Value) {
    fill(spec, "minReplicas", json!(1));
    let target = json!({"type": "Utilization", "averageUtilization": 80});
    fill(
        spec,
        "metrics",
        json!([{"type": "Resource", "resource": {"name": "cpu", "target": target}}]),
    );
    if !spec["behavior"].is_object() {
        return;
    }
    let up = json!([
        {"type": "Pods", "value": 4, "periodSeconds": 15}, {"type": "Percent", "value": 100, "periodSeconds": 15},
    ]);
    let down = json!([{"type": "Percent", "value": 100, "periodSeconds": 15}]);
    for (field, policies) in [("scaleUp", up), ("scaleDown", down)] {
        fill(&mut spec["behavior"], field, json!({}));
        let rules = &mut spec["behavior"][field];
        if field == "scaleUp" {
            fill(rules, "stabilizationWindowSeconds", json!(0));
        }
        fill(rules, "selectPolicy", json!("Max"));
        fill(rules, "policies", policies);
    }
}

fn secret(object: &mut Value) {
    fill(object, "type", json!("Opaque"));
    let Some(texts) = object["stringData"].as_object().cloned() else {
        drop_nulls(object);
        return;
    };
    fill(object, "data", json!({}));
    for (key, text) in texts {
        object["data"][key] = json!(base64(text.as_str().unwrap_or_default().as_bytes()));
    }
    object["stringData"] = Value::Null;
    drop_nulls(object);
}

/// Standard base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for index in 0..4_usize {
            let place = usize::try_from((bits >> (18 - 6 * index)) & 63).unwrap_or_default();
            let letter = ALPHABET.get(place).copied().unwrap_or(b'=');
            text.push(if index <= chunk.len() {
                char::from(letter)
            } else {
                '='
            });
        }
    }
    text
}

/// The fields that the server gives a Service beyond defaults: addresses and node ports. `next` counts.
pub fn allocate_service(new: &mut Value, old: Option<&Value>, mut next: impl FnMut() -> u64) {
    let ty = new["spec"]["type"].as_str().unwrap_or_default().to_owned();
    let spec = &mut new["spec"];
    if ty == "ExternalName" {
        return;
    }
    if let Some(old) = old {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if !old["spec"][field].is_null() {
                fill(spec, field, old["spec"][field].clone());
            }
        }
        for port in items(&mut spec["ports"]) {
            let known = list(&old["spec"]["ports"]).iter().find(|known| {
                known["port"] == port["port"] && known["protocol"] == port["protocol"]
            });
            if let Some(number) = known
                .map(|known| known["nodePort"].clone())
                .filter(Value::is_number)
                && ty != "ClusterIP"
            {
                fill(port, "nodePort", number);
            }
        }
    }
    if spec["clusterIP"].is_null() {
        let number = next() % 60_000 + 256;
        spec["clusterIP"] = json!(format!("10.96.{}.{}", number / 256, number % 256));
    }
    if spec["clusterIP"] == "None" && spec["selector"].is_null() {
        fill(spec, "ipFamilyPolicy", json!("RequireDualStack"));
        fill(spec, "ipFamilies", json!(["IPv4", "IPv6"]));
    }
    let address = spec["clusterIP"].clone();
    fill(spec, "clusterIPs", json!([address]));
    fill(spec, "ipFamilyPolicy", json!("SingleStack"));
    fill(spec, "ipFamilies", json!(["IPv4"]));
    if matches!(ty.as_str(), "NodePort" | "LoadBalancer") {
        for port in items(&mut spec["ports"]) {
            fill(port, "nodePort", json!(30_000 + next() % 2_768));
        }
    }
}

/// What admission adds to a pod that is made or changed.
pub fn admit(plural: &str, object: &mut Value, old: Option<&Value>) {
    if plural != "pods" {
        return;
    }
    let spec = &mut object["spec"];
    let before = |field: &str| {
        old.map(|old| &old["spec"][field])
            .filter(|value| !value.is_null())
    };
    for (field, first) in [
        ("priority", json!(0)),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
    ] {
        fill(spec, field, before(field).cloned().unwrap_or(first));
    }
    let toleration = |key: &str| json!({"key": format!("node.kubernetes.io/{key}"), "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
    let tolerations = [toleration("not-ready"), toleration("unreachable")];
    fill(spec, "tolerations", json!(tolerations));
}

/// What a new object of some kinds gets besides: the start of its status, marks of the server.
pub fn begin(plural: &str, object: &mut Value) {
    match plural {
        "namespaces" => {
            object["spec"] = json!({"finalizers": ["kubernetes"]});
            object["status"] = json!({"phase": "Active"});
        }
        "services" | "ingresses" => object["status"] = json!({"loadBalancer": {}}),
        "pods" => {
            object["status"] = json!({"phase": "Pending", "qosClass": quality(&object["spec"])});
        }
        "replicasets" => object["status"] = json!({"replicas": 0}),
        "deployments" => object["status"] = json!({}),
        "daemonsets" => {
            let count = &mut object["metadata"]["annotations"][TEMPLATE_GENERATION];
            if template_count(count) < 1 {
                *count = json!("1");
            }
            object["status"] = json!({"currentNumberScheduled": 0, "numberMisscheduled": 0, "desiredNumberScheduled": 0, "numberReady": 0});
        }
        "horizontalpodautoscalers" => {
            object["status"] = json!({"desiredReplicas": 0, "currentMetrics": null});
        }
        "statefulsets" => object["status"] = json!({"replicas": 0, "availableReplicas": 0}),
        _ => {}
    }
}

/// How many templates a `DaemonSet` has had, by its annotation.
pub fn template_count(annotation: &Value) -> i64 {
    let count = annotation.as_str().and_then(|count| count.parse().ok());
    count.unwrap_or_default()
}

/// Takes the count of templates from a `DaemonSet`'s metadata: it is kept elsewhere, and only whole objects
/// show it there.
pub fn hide_template_count(metadata: &mut Value) {
    let Some(annotations) = metadata["annotations"].as_object_mut() else {
        return;
    };
    annotations.remove(TEMPLATE_GENERATION);
    if annotations.is_empty()
        && let Some(map) = metadata.as_object_mut()
    {
        map.remove("annotations");
    }
}

/// The quality-of-service class of a pod.
fn quality(spec: &Value) -> &'static str {
    let resources: Vec<&Map<String, Value>> = list(&spec["containers"])
        .iter()
        .flat_map(|container| {
            [
                &container["resources"]["requests"],
                &container["resources"]["limits"],
            ]
        })
        .filter_map(Value::as_object)
        .collect();
    let guaranteed = list(&spec["containers"]).iter().all(|container| {
        let (requests, limits) = (
            &container["resources"]["requests"],
            &container["resources"]["limits"],
        );
        requests == limits && limits["cpu"].is_string() && limits["memory"].is_string()
    });
    if resources.iter().all(|map| map.is_empty()) {
        "BestEffort"
    } else if guaranteed {
        "Guaranteed"
    } else {
        "Burstable"
    }
}

//! Scripts made by chance from a seed: the same seed makes the same script.

use serde_json::{Value, json};

use crate::script::{Script, Step};

/// A small generator of numbers (`SplitMix64`).
pub struct Dice(u64);

impl Dice {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// From 0 up to, and without, the number of sides.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())].clone()
    }
}

/// Resources that scripts are made for.
const PLURALS: [&str; 15] = [
    "configmaps",
    "widgets",
    "deployments",
    "services",
    "leases",
    "secrets",
    "horizontalpodautoscalers",
    "ingresses",
    "daemonsets",
    "canaries",
    "gears",
    "httproutes",
    "virtualservices",
    "metrictemplates",
    "alertproviders",
];

/// The script of a seed.
pub fn script(seed: u64, length: usize) -> Script {
    let mut dice = Dice(seed);
    let plural = dice.pick(&PLURALS);
    let mut steps: Vec<Step> = Vec::new();
    for _ in 0..length {
        let next = step(&mut dice, plural, &steps);
        steps.push(next);
    }
    Script {
        name: format!("seed {seed}: {plural}"),
        steps,
    }
}

/// What a write asks for beside the name.
fn content(dice: &mut Dice, plural: &str) -> Value {
    match plural {
        "configmaps" => {
            let keys = ["a", "b", "c"].map(|key| (key.to_owned(), json!(dice.pick(&["1", "2"]))));
            let count = 1 + dice.roll(3);
            json!({"data": keys.into_iter().take(count).collect::<serde_json::Map<_, _>>()})
        }
        // Not stringData: to apply it again is a write or none, as the seconds of the clock are.
        "secrets" => {
            json!({"data": {(dice.pick(&["a", "b"])): dice.pick(&["MQ==", "Mg=="])}})
        }
        "leases" => {
            json!({"spec": {"holderIdentity": dice.pick(&["a", "b"]), "leaseTransitions": dice.roll(3)}})
        }
        "services" => json!({"spec": {
            "selector": {"app": dice.pick(&["a", "b"])},
            "ports": [{"port": dice.pick(&[80, 81]), "name": dice.pick(&["x", "z"]), "protocol": "TCP"}],
        }}),
        "deployments" => json!({"spec": {
            "replicas": dice.roll(3), "selector": {"matchLabels": {"app": "a"}}, "template": template(dice),
        }}),
        "daemonsets" => {
            json!({"spec": {"selector": {"matchLabels": {"app": "a"}}, "template": template(dice)}})
        }
        "horizontalpodautoscalers" => json!({"spec": {
            "minReplicas": dice.roll(3), "maxReplicas": 1 + dice.roll(3),
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": dice.pick(&["a", "b"])},
        }}),
        "ingresses" => json!({"spec": {"rules": [{
            "host": dice.pick(&["a.b", "c.d"]),
            "http": {"paths": [{"path": dice.pick(&["/", "/x", "x"]), "pathType": "Prefix",
                "backend": {"service": {"name": dice.pick(&["a", "b"]), "port": {"number": 80}}}}]},
        }]}}),
        "canaries" => json!({"spec": {
            "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": dice.pick(&["a", "b"])},
            "service": {"port": dice.pick(&[80, 81, 0])},
            "analysis": {"interval": "1m", "threshold": dice.roll(3), "stepWeight": 5 + dice.roll(3), "maxWeight": 50},
        }}),
        "httproutes" => json!({"spec": {
            "parentRefs": [{"name": dice.pick(&["g", "h"])}],
            "hostnames": [dice.pick(&["a.b", "c.d", "-"])],
            "rules": [{
                "matches": [{"headers": [{"name": dice.pick(&["x", "z"]), "value": "1"}], "path": dice.pick(&[
                    json!({"value": "/p"}), json!({"value": "p"}), Value::Null,
                ])}],
                "backendRefs": [{"name": "a", "port": 80, "weight": dice.roll(100)}, dice.pick(&[
                    json!({"name": "b", "port": 80}), json!({"name": "b"}), json!({"kind": "Other", "name": "b"}),
                ])],
                "timeouts": {"request": dice.pick(&["1s", "10s"]), "backendRequest": dice.pick(&["1s", "2s"])},
            }],
        }}),
        "virtualservices" => json!({"spec": {
            "hosts": [dice.pick(&["a", "b"])],
            "http": [{
                "match": [{"uri": dice.pick(&[json!({"prefix": "/"}), json!({}), json!({"exact": "/", "prefix": "/"})])}],
                "route": [{"destination": {"host": "a"}, "weight": dice.roll(100)}, dice.pick(&[
                    json!({"destination": {"host": "b", "port": {"number": 80}}}), json!({"weight": 5}),
                ])],
                "mirrorPercent": dice.pick(&[json!(1), Value::Null]),
                "timeout": dice.pick(&["1s", "1s", "0s"]),
            }],
        }}),
        "metrictemplates" => json!({"spec": {
            "provider": {"type": dice.pick(&["prometheus", "datadog", "odd"]), "address": "http://a/"},
            "query": dice.pick(&["up", "down", ""]),
        }}),
        "alertproviders" => json!({"spec": {
            "type": dice.pick(&["slack", "discord", "odd"]), "channel": dice.pick(&["a", "b"]),
            (dice.pick(&["address", "address", "secretRef"])): dice.pick(&[json!("http://a/"), json!("http://b/"), json!({"name": "s"})]),
        }}),
        "gears" => {
            json!({"spec": {"teeth": [dice.roll(3)], "deep": {"n": dice.roll(2)}}, "other": dice.roll(2)})
        }
        _ => json!({"spec": {
            "max": dice.roll(120), "mode": dice.pick(&["on", "off", "odd"]),
            "tags": [dice.pick(&["p", "q"])], "hosts": [dice.pick(&["a.b", "c.d", "bad"])],
            "parts": [{"name": dice.pick(&["p", "q"]), "color": dice.pick(&["red", "blue"])}],
        }}),
    }
}

fn template(dice: &mut Dice) -> Value {
    json!({
        "metadata": {"labels": {"app": "a", "v": dice.pick(&["1", "2"])}},
        "spec": {"containers": [{"name": dice.pick(&["c", "d"]), "image": dice.pick(&["i:1", "i:2"])}]},
    })
}

/// What a gateway says of a route.
fn parents(dice: &mut Dice) -> Value {
    json!([{
        "parentRef": {"name": dice.pick(&["g", "h"])}, "controllerName": "example.com/gateway",
        "conditions": [{
            "type": "Accepted", "status": dice.pick(&["True", "False", "Odd"]), "reason": "Accepted",
            "message": "", "observedGeneration": dice.roll(3), "lastTransitionTime": "2026-01-01T00:00:00Z",
        }],
    }])
}

fn has_status(plural: &str) -> bool {
    matches!(
        plural,
        "widgets" | "deployments" | "daemonsets" | "canaries" | "httproutes" | "virtualservices"
    )
}

fn step(dice: &mut Dice, plural: &str, before: &[Step]) -> Step {
    let index = before.len();
    let name = dice.pick(&["a", "b"]);
    let manager = dice.pick(&["m", "o", "p"]);
    let earlier = dice.roll(index.max(1));
    let mut body = content(dice, plural);
    body["metadata"] = json!({"name": name});
    if dice.roll(4) == 0 {
        body["metadata"]["labels"] = json!({"l": dice.pick(&["1", "2"])});
    }
    let one = format!("{plural}/{name}");
    let as_manager = format!("fieldManager={manager}");
    let (request, body) = match dice.roll(22) {
        0..=2 => (format!("post {plural}?{as_manager}"), body),
        3 | 4 => (format!("apply {one}?{as_manager}"), body),
        5 => (format!("apply {one}?{as_manager}&force=true"), body),
        6 | 7 => (format!("merge {one}?{as_manager}"), body),
        // A list has the version of the whole cluster, in which others write too.
        8 if index > 0 && before[earlier].request != format!("get {plural}") => {
            body["metadata"]["resourceVersion"] =
                json!(format!("${earlier}.metadata.resourceVersion"));
            (format!("put {one}?{as_manager}"), body)
        }
        9 => {
            let finalizers = dice.pick(&[json!(["example.com/f"]), Value::Null]);
            let patch = json!({"metadata": {"finalizers": finalizers}});
            (format!("merge {one}?{as_manager}"), patch)
        }
        10 => (format!("delete {one}"), Value::Null),
        11 if index > 0 => {
            let preconditions = json!({"uid": format!("${earlier}.metadata.uid")});
            (
                format!("delete {one}"),
                json!({"preconditions": preconditions}),
            )
        }
        12 => {
            let policy = dice.pick(&["Foreground", "Background", "Orphan"]);
            (
                format!("delete {one}"),
                json!({"propagationPolicy": policy}),
            )
        }
        13 if has_status(plural) => {
            let mut status = json!({"status": {"replicas": dice.roll(3), "phase": "Ready"}, "spec": {"replicas": 9}});
            if plural == "httproutes" {
                status["status"]["parents"] = parents(dice);
            }
            (format!("merge {one}/status?{as_manager}"), status)
        }
        14 => (format!("get {plural}"), Value::Null),
        15 => {
            let label = dice.pick(&["1", "2"]);
            let patch = json!([
                {"op": "test", "path": "/metadata/labels/l", "value": label},
                {"op": "replace", "path": "/metadata/labels/l", "value": "3"},
            ]);
            (format!("json {one}?{as_manager}"), patch)
        }
        16 => (format!("strategic {one}?{as_manager}"), body),
        17 => (format!("put {one}?{as_manager}"), body),
        18 => {
            let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "0-0", "controller": dice.roll(2) == 0});
            let patch = json!({"metadata": {"ownerReferences": [owner]}});
            (format!("merge {one}?{as_manager}"), patch)
        }
        19 => (format!("apply {one}?{as_manager}&dryRun=All"), body),
        20 if index > 0 && dice.roll(3) == 0 => (
            format!("watch {plural}?resourceVersion=${earlier}.metadata.resourceVersion"),
            Value::Null,
        ),
        _ => (format!("get {one}"), Value::Null),
    };
    Step {
        request,
        body,
        from: None,
        metadata: false,
        user: String::new(),
        until: None,
        aside: false,
    }
}

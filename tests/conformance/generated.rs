//! Scripts made by chance from a seed: the same seed makes the same script.

use serde_json::{Value, json};

use crate::script::{Script, Step};

/// A small generator of numbers (`SplitMix64`).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())].clone()
    }
}

/// The script of a seed.
pub fn script(seed: u64, length: usize) -> Script {
    let mut dice = Dice(seed);
    let plural = dice.pick(&[
        "configmaps",
        "widgets",
        "deployments",
        "services",
        "leases",
        "secrets",
    ]);
    let steps = (0..length)
        .map(|index| step(&mut dice, plural, index))
        .collect();
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
        "secrets" => json!({"stringData": {(dice.pick(&["a", "b"])): dice.pick(&["1", "2"])}}),
        "leases" => {
            json!({"spec": {"holderIdentity": dice.pick(&["a", "b"]), "leaseTransitions": dice.roll(3)}})
        }
        "services" => json!({"spec": {
            "selector": {"app": dice.pick(&["a", "b"])},
            "ports": [{"port": dice.pick(&[80, 81]), "name": dice.pick(&["x", "z"]), "protocol": "TCP"}],
        }}),
        "deployments" => json!({"spec": {
            "replicas": dice.roll(3), "selector": {"matchLabels": {"app": "a"}},
            "template": {
                "metadata": {"labels": {"app": "a", "v": dice.pick(&["1", "2"])}},
                "spec": {"containers": [{"name": dice.pick(&["c", "d"]), "image": dice.pick(&["i:1", "i:2"])}]},
            },
        }}),
        _ => json!({"spec": {
            "max": dice.roll(120), "mode": dice.pick(&["on", "off", "odd"]),
            "tags": [dice.pick(&["p", "q"])], "hosts": [dice.pick(&["a.b", "c.d", "bad"])],
            "parts": [{"name": dice.pick(&["p", "q"]), "color": dice.pick(&["red", "blue"])}],
        }}),
    }
}

fn step(dice: &mut Dice, plural: &str, index: usize) -> Step {
    let name = dice.pick(&["a", "b"]);
    let manager = dice.pick(&["m", "o", "p"]);
    let earlier = dice.roll(index.max(1));
    let mut body = content(dice, plural);
    body["metadata"] = json!({"name": name});
    if dice.roll(4) == 0 {
        body["metadata"]["labels"] = json!({"l": dice.pick(&["1", "2"])});
    }
    let finalizers = dice.pick(&[json!(["example.com/f"]), Value::Null]);
    let (request, body) = match dice.roll(16) {
        0..=2 => (format!("post {plural}?fieldManager={manager}"), body),
        3 | 4 => (
            format!("apply {plural}/{name}?fieldManager={manager}"),
            body,
        ),
        5 => (
            format!("apply {plural}/{name}?fieldManager={manager}&force=true"),
            body,
        ),
        6 | 7 => (
            format!("merge {plural}/{name}?fieldManager={manager}"),
            body,
        ),
        8 if index > 0 => {
            body["metadata"]["resourceVersion"] =
                json!(format!("${earlier}.metadata.resourceVersion"));
            (format!("put {plural}/{name}?fieldManager={manager}"), body)
        }
        9 => {
            let patch = json!({"metadata": {"finalizers": finalizers}});
            (
                format!("merge {plural}/{name}?fieldManager={manager}"),
                patch,
            )
        }
        10 => (format!("delete {plural}/{name}"), Value::Null),
        11 if index > 0 => {
            let preconditions = json!({"uid": format!("${earlier}.metadata.uid")});
            (
                format!("delete {plural}/{name}"),
                json!({"preconditions": preconditions}),
            )
        }
        12 => {
            let policy = dice.pick(&["Foreground", "Background", "Orphan"]);
            (
                format!("delete {plural}/{name}"),
                json!({"propagationPolicy": policy}),
            )
        }
        13 if matches!(plural, "widgets" | "deployments") => {
            let status = json!({"status": {"replicas": dice.roll(3)}, "spec": {"replicas": 9}});
            (
                format!("merge {plural}/{name}/status?fieldManager={manager}"),
                status,
            )
        }
        14 => (format!("get {plural}"), Value::Null),
        _ => (format!("get {plural}/{name}"), Value::Null),
    };
    Step {
        request,
        body,
        from: None,
        metadata: false,
    }
}

//! Recorded answers: reading, writing and comparing.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use haldane::object::Json;
use serde_json::Value;

/// Hexadecimal digits of a digest.
const DIGITS: usize = 4;

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/conformance")
        .join(file)
}

/// The recorded answers of a file of scripts, by script.
pub fn read(file: &str) -> BTreeMap<String, Vec<Value>> {
    let path = path(&format!("transcripts/{file}.json"));
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Records answers, one step a line.
pub fn write(file: &str, answers: &[(String, Vec<Value>)]) {
    let mut text = String::from("{");
    for (index, (name, steps)) in answers.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        write!(text, "{comma}\n{}: [", Value::from(name.as_str())).unwrap();
        for (index, step) in steps.iter().enumerate() {
            write!(text, "{}\n  {step}", if index == 0 { "" } else { "," }).unwrap();
        }
        text.push_str("\n]");
    }
    text.push_str("\n}\n");
    std::fs::write(path(&format!("transcripts/{file}.json")), text).unwrap();
}

/// The digests of a script's answers, one after another.
pub fn digests(steps: &[Value]) -> String {
    steps
        .iter()
        .map(|step| Json::of(step).digest(DIGITS / 2))
        .collect()
}

/// The first step whose answer is not the recorded one.
pub fn first_unlike(recorded: &str, steps: &[Value]) -> Option<usize> {
    let found = digests(steps);
    let differs = |(left, right)| left != right;
    let (left, right) = (recorded.as_bytes(), found.as_bytes());
    left.chunks(DIGITS)
        .zip(right.chunks(DIGITS))
        .position(differs)
        .or_else(|| (left.len() != right.len()).then_some(0))
}

/// The recorded digests of scripts made by chance, in order of their seeds.
pub fn read_digests() -> Vec<String> {
    let text = std::fs::read_to_string(path("transcripts/generated.digests")).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// Records digests, by their seeds; those of other seeds stay.
pub fn write_digests(digests: Vec<(u64, String)>) {
    let mut all: BTreeMap<u64, String> = (0..).zip(read_digests()).collect();
    all.extend(digests);
    let lines: Vec<String> = all.into_values().collect();
    let text = lines.join("\n") + "\n";
    std::fs::write(path("transcripts/generated.digests"), text).unwrap();
}

/// Scripts whose answers are known to differ, with the reason.
pub fn deviations() -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(path("deviations.yaml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// The first difference between recorded and found answers; none when they are equal.
pub fn difference(wanted: &[Value], found: &[Value]) -> Option<String> {
    if wanted.len() != found.len() {
        return Some(format!(
            "{} steps recorded, {} found",
            wanted.len(),
            found.len()
        ));
    }
    let differing = wanted
        .iter()
        .zip(found)
        .enumerate()
        .find(|(_, (wanted, found))| wanted != found);
    differing.map(|(step, (wanted, found))| {
        let mut lines = Vec::new();
        describe(wanted, found, "", &mut lines);
        format!("step {step}:\n    {}", lines.join("\n    "))
    })
}

fn describe(wanted: &Value, found: &Value, at: &str, lines: &mut Vec<String>) {
    match (wanted, found) {
        (Value::Object(left), Value::Object(right)) => {
            for key in left
                .keys()
                .chain(right.keys().filter(|key| !left.contains_key(*key)))
            {
                let (left, right) = (&wanted[key], &found[key]);
                if left != right
                    || !wanted.as_object().unwrap().contains_key(key)
                    || !found.as_object().unwrap().contains_key(key)
                {
                    describe(left, right, &format!("{at}.{key}"), lines);
                }
            }
        }
        (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                if left != right {
                    describe(left, right, &format!("{at}[{index}]"), lines);
                }
            }
        }
        _ => lines.push(format!("{at}: recorded {wanted}, found {found}")),
    }
}

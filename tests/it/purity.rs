//! Deciding code is pure: no clock, client, randomness, threads or hash order.

use std::{fs, path::Path};

/// What no deciding code names.
const FORBIDDEN: [&str; 11] = [
    "tokio",
    "kube::Client",
    "kube::client",
    "std::time::Instant",
    "SystemTime",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "rand::",
    "HashMap",
    "HashSet",
];

/// Where deciding code is.
const PLACES: [&str; 5] = [
    "src/decide",
    "src/stats",
    "src/route",
    "src/workload",
    "src/plan.rs",
];

fn sources(place: &Path, found: &mut Vec<(String, String)>) {
    if place.is_dir() {
        for entry in fs::read_dir(place).unwrap() {
            sources(&entry.unwrap().path(), found);
        }
    } else if place.extension().is_some_and(|e| e == "rs") {
        let text = fs::read_to_string(place).unwrap();
        found.push((place.display().to_string(), text));
    }
}

/// Places in a source that name what is forbidden; comments may.
fn faults(name: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        let grouped = code.contains("time::{") && code.contains("Instant");
        if grouped || FORBIDDEN.iter().any(|word| code.contains(word)) {
            faults.push(format!("{name}:{}: {}", number + 1, line.trim()));
        }
    }
    faults
}

#[test]
fn deciding_code_names_nothing_impure() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    for place in PLACES {
        let before = all.len();
        sources(&root.join(place), &mut all);
        assert!(all.len() > before, "{place} has no sources");
    }
    let found: Vec<String> = all
        .iter()
        .flat_map(|(name, text)| faults(name, text))
        .collect();
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn impurity_is_found_in_code_but_not_in_comments() {
    assert_eq!(faults("a", "use std::time::{Duration, Instant};").len(), 1);
    assert_eq!(faults("a", "let now = Timestamp::now();").len(), 1);
    assert_eq!(faults("a", "/// no HashMap here").len(), 0);
}

//! What users see, byte for byte. `HALDANE_BLESS=1` rewrites the files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

const CANARY: &str = "examples/istio/canary.yaml";

fn haldane(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_haldane"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(args)
        .output()
        .unwrap()
}

/// Compares with a file of `tests/sim/golden`, or writes it.
fn compare(name: &str, found: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/sim/golden")
        .join(name);
    if std::env::var_os("HALDANE_BLESS").is_some() {
        fs::write(&path, found).unwrap();
        return;
    }
    let wanted = fs::read(&path).unwrap_or_default();
    let (found, wanted) = (
        String::from_utf8_lossy(found),
        String::from_utf8_lossy(&wanted),
    );
    let differing = found.lines().zip(wanted.lines()).position(|(a, b)| a != b);
    let line = differing.unwrap_or_else(|| found.lines().count().min(wanted.lines().count()));
    assert!(
        found == wanted,
        "{name} differs from line {} on:\n  found  {:?}\n  wanted {:?}\nHALDANE_BLESS=1 rewrites it",
        line + 1,
        found.lines().nth(line),
        wanted.lines().nth(line)
    );
}

/// Where a test writes a file.
fn scratch(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn demo_that_is_piped_looks_as_agreed() {
    compare("demo.txt", &haldane(&["demo"]).stdout);
}

#[test]
fn simulate_looks_as_agreed() {
    for scenario in ["good", "late-errors", "crash-loop", "metrics-outage"] {
        let output = haldane(&["simulate", CANARY, "--scenario", scenario]);
        compare(&format!("{scenario}.txt"), &output.stdout);
    }
    let judged = [
        "simulate",
        "examples/istio/judge.yaml",
        "--scenario",
        "errors",
    ];
    compare("judge-errors.txt", &haldane(&judged).stdout);
    compare("list.txt", &haldane(&["simulate", "--list"]).stdout);
}

#[test]
fn simulate_in_json_and_pictures_looks_as_agreed() {
    let path = scratch("errors.html");
    let report = path.to_str().unwrap();
    let output = haldane(&[
        "simulate",
        CANARY,
        "--scenario",
        "errors",
        "--format",
        "json",
        "--report",
        report,
    ]);
    let mut value: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // One frame in thirty, so that the file can be read.
    let frames = value[0]["frames"].as_array_mut().unwrap();
    let mut index = 0;
    frames.retain(|_| {
        index += 1;
        index % 30 == 1
    });
    let mut text = serde_json::to_string_pretty(&value).unwrap();
    text.push('\n');
    compare("errors.json", text.as_bytes());
    compare("errors.html", &fs::read(&path).unwrap());
}

#[test]
fn several_seeds_look_as_agreed() {
    let output = haldane(&["simulate", CANARY, "--scenario", "errors", "--seeds", "3"]);
    assert_eq!(output.status.code(), Some(0));
    compare("seeds.txt", &output.stdout);
}

/// Opens a page: what the browser logs of its console, and the size of its picture.
fn opened(page: &Path) -> (Vec<String>, u64) {
    let picture = page.with_extension("png");
    let _ = fs::remove_file(&picture);
    let output = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            "--log-level=0",
        ])
        .args(["--window-size=1000,1500", "--hide-scrollbars"])
        .arg(format!("--user-data-dir={}", scratch("browser").display()))
        .arg(format!("--screenshot={}", picture.display()))
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let console = log
        .lines()
        .filter(|line| line.contains(":CONSOLE"))
        .map(str::to_owned)
        .collect();
    (console, fs::metadata(&picture).unwrap().len())
}

#[test]
#[ignore = "needs chromium; tests/run.sh installs it"]
fn report_opens_in_a_browser_without_an_error_and_is_not_blank() {
    let report = scratch("opened.html");
    haldane(&[
        "simulate",
        CANARY,
        "--scenario",
        "errors",
        "--report",
        report.to_str().unwrap(),
    ]);
    let (console, size) = opened(&report);
    assert_eq!(console, Vec::<String>::new());
    // What the check itself can see: an error, and a blank page.
    let broken = scratch("broken.html");
    fs::write(
        &broken,
        "<!DOCTYPE html><script>console.error('seen')</script>",
    )
    .unwrap();
    let (console, blank) = opened(&broken);
    assert!(
        console.iter().any(|line| line.contains("seen")),
        "{console:?}"
    );
    assert!(size > 5 * blank, "{size} bytes, a blank page has {blank}");
}

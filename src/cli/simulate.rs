//! `haldane simulate`: the user's own manifests in a simulated cluster.

use std::{
    io::{self, IsTerminal, Write, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, ValueEnum, builder::PossibleValuesParser};
use serde_json::{Value, json};

use super::{
    check,
    ending::ending,
    screen::{clock, duration},
};
use crate::{
    api::{duration as text_duration, validation::Admission},
    sim::{
        Options, Scenario, manifests,
        rollout::{Frame, Recording, Release, RolloutError, Verdict, perform},
        scenario::NAMES,
    },
};

/// Try releases of your own manifests in a simulated cluster
#[derive(Args, Debug)]
pub struct SimulateArgs {
    /// Files of YAML or JSON manifests: the workload, its Canary and what belongs to it; `-` for
    /// standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What happens to the new version
    #[arg(
        long,
        value_name = "NAME",
        default_value = "good",
        value_parser = PossibleValuesParser::new(NAMES)
    )]
    scenario: String,
    /// Another number, other users: the same number gives the same run
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How the result is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// How long a release may take
    #[arg(long, value_name = "TIME", default_value = "6h", value_parser = limit)]
    limit: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

fn limit(text: &str) -> Result<Duration, String> {
    text_duration::parse(text).map_err(|error| error.to_string())
}

/// A release that was tried.
struct Tried {
    namespace: String,
    canary: String,
    recording: Recording,
}

/// Why nothing could be tried: lines for the user.
struct Unusable(Vec<String>);

impl From<String> for Unusable {
    fn from(line: String) -> Self {
        Self(vec![line])
    }
}

/// Tries the releases. Exit status 0 when all are promoted, 3 when one is rolled back, 4 when one
/// is neither within its limit, 2 when the manifests cannot be used.
pub fn run(args: &SimulateArgs) -> ExitCode {
    let tried = match simulate(args) {
        Ok(tried) => tried,
        Err(Unusable(lines)) => {
            let mut log = stderr().lock();
            for line in lines {
                // Nothing is left to do when even this cannot be written.
                let _ = writeln!(log, "{line}");
            }
            return ExitCode::from(2);
        }
    };
    let written = match args.format {
        Format::Text => write_text(args, &tried),
        Format::Json => write_json(args, &tried),
    };
    if let Err(error) = written
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("haldane: the result cannot be written: {error}");
        return ExitCode::FAILURE;
    }
    let code = tried.iter().map(|tried| match tried.recording.verdict {
        Verdict::Promoted => 0,
        Verdict::RolledBack => 3,
        Verdict::Undecided => 4,
    });
    ExitCode::from(code.max().unwrap_or(2))
}

fn simulate(args: &SimulateArgs) -> Result<Vec<Tried>, Unusable> {
    let objects = objects(&args.files)?;
    let canaries: Vec<(String, String)> = objects
        .iter()
        .filter(|object| object["kind"] == "Canary")
        .map(|object| {
            let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
            (text("namespace").to_owned(), text("name").to_owned())
        })
        .collect();
    if canaries.is_empty() {
        return Err("no Canary found in the files; add one".to_owned().into());
    }
    let mut tried = Vec::new();
    for (namespace, canary) in canaries {
        let release = Release {
            manifests: objects.clone(),
            namespace: namespace.clone(),
            canary: canary.clone(),
            options: Options {
                scenario: Scenario::named(&args.scenario).unwrap_or_default(),
                ..Options::default()
            },
            seed: args.seed,
            limit: args.limit,
        };
        let recording = perform(&release).map_err(|error: RolloutError| error.to_string())?;
        tried.push(Tried {
            namespace,
            canary,
            recording,
        });
    }
    Ok(tried)
}

/// The objects of all files, each valid and in a namespace; kinds that the simulated cluster does
/// not have are left out, and said so.
fn objects(files: &[PathBuf]) -> Result<Vec<Value>, Unusable> {
    let admission = Admission::new()
        .map_err(|error| format!("haldane: the definitions cannot be applied: {error}"))?;
    let (mut objects, mut faults) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.display().to_string();
        let found = check::read(file).and_then(|text| check::manifests(&name, &text));
        match found {
            Err(error) => faults.push(error.to_string()),
            Ok(found) => {
                for mut object in found {
                    if object.is_null() {
                        continue;
                    }
                    let text = |field: &str| object[field].as_str().unwrap_or_default();
                    let (version, kind) = (text("apiVersion").to_owned(), text("kind").to_owned());
                    let subject = format!(
                        "{name}: {kind} {}",
                        object["metadata"]["name"].as_str().unwrap_or_default()
                    );
                    if !manifests::is_known(&version, &kind) {
                        eprintln!("{subject}: {version} is not simulated, left out");
                        continue;
                    }
                    let meta = &mut object["metadata"];
                    if meta["namespace"].as_str().unwrap_or_default().is_empty() {
                        meta["namespace"] = json!("default");
                    }
                    let verdict = admission.judge(&mut object);
                    faults.extend(
                        verdict
                            .into_iter()
                            .flat_map(|verdict| verdict.faults)
                            .map(|fault| format!("{subject}: {fault}")),
                    );
                    objects.push(object);
                }
            }
        }
    }
    // A Canary takes charge of what is there already.
    objects.sort_by_key(|object| object["kind"] == "Canary");
    if faults.is_empty() {
        Ok(objects)
    } else {
        Err(Unusable(faults))
    }
}

fn write_text(args: &SimulateArgs, tried: &[Tried]) -> io::Result<()> {
    let mut out = stdout().lock();
    let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let about = Scenario::named(&args.scenario).map(|scenario| scenario.about);
    for Tried {
        namespace,
        canary,
        recording,
    } in tried
    {
        writeln!(
            out,
            "{canary}.{namespace}, scenario {}: {}",
            args.scenario,
            about.as_deref().unwrap_or_default()
        )?;
        for frame in &recording.frames {
            for told in &frame.events {
                let mark = if told.warning { "!" } else { " " };
                writeln!(out, "{} {mark} {}", clock(told.at_seconds), told.message)?;
                for line in numbers(frame) {
                    writeln!(out, "        {line}")?;
                }
            }
        }
        for line in ending(canary, recording, str::to_owned) {
            writeln!(out, "{}", line.render(colours))?;
        }
        if recording.verdict == Verdict::Undecided {
            writeln!(
                out,
                "  still {} after {}: does it wait at a gate?",
                recording
                    .frames
                    .last()
                    .map_or("", |frame| frame.phase.as_str()),
                duration(args.limit.as_secs())
            )?;
        }
        writeln!(out)?;
    }
    out.flush()
}

/// What users saw when an event came.
fn numbers(frame: &Frame) -> impl Iterator<Item = String> {
    let line = |version: &str, seen: Option<crate::sim::traffic::Impression>| {
        seen.map(|seen| {
            format!(
                "{version} version: {:.1} % of {} requests succeeded, slowest 1 % took {:.0} ms",
                seen.success_percent, seen.requests, seen.p99_ms
            )
        })
    };
    // Before the new version has users there is nothing to compare.
    let both = frame.release.is_some();
    [line("old", frame.stable), line("new", frame.release)]
        .into_iter()
        .flatten()
        .filter(move |_| both)
}

fn write_json(args: &SimulateArgs, tried: &[Tried]) -> io::Result<()> {
    let releases: Vec<Value> = tried
        .iter()
        .map(|tried| {
            let frames = tried.recording.frames.iter().map(|frame| {
                let mut value = serde_json::to_value(frame).unwrap_or_default();
                value["atSeconds"] = json!(frame.at.as_secs());
                value
            });
            json!({
                "canary": tried.canary, "namespace": tried.namespace,
                "scenario": args.scenario, "seed": args.seed,
                "verdict": tried.recording.verdict, "figures": tried.recording.figures,
                "frames": frames.collect::<Vec<_>>(),
            })
        })
        .collect();
    let mut out = stdout().lock();
    serde_json::to_writer_pretty(&mut out, &releases)?;
    writeln!(out)?;
    out.flush()
}

//! `haldane simulate`: the user's own manifests in a simulated cluster.

mod chart;
mod report;
mod seeds;

use std::{
    fs,
    io::{self, IsTerminal, Write, stderr, stdout},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{
    check,
    ending::ending,
    screen::{clock, duration},
};
use crate::{
    api::duration as text_duration,
    sim::{
        Scenario, manifests,
        rollout::{Frame, Recording, Release, RolloutError, Verdict, perform},
        scenario::NAMES,
    },
};

/// Try releases of your own manifests in a simulated cluster
#[derive(Args, Debug)]
pub struct SimulateArgs {
    /// Files of YAML or JSON manifests: the workload, its Canary and what belongs to it; `-` for
    /// standard input
    #[arg(required_unless_present_any = ["list", "print", "schema"], value_name = "FILE")]
    files: Vec<PathBuf>,
    /// What happens to the new version: a name of --list, or a file
    #[arg(long, value_name = "NAME|FILE", default_value = "good")]
    scenario: String,
    /// Print the scenario's file: what to start from for one of your own
    #[arg(long)]
    print: bool,
    /// Print what scenario files may say, as JSON Schema: for editors and checks
    #[arg(long)]
    schema: bool,
    /// List the named scenarios
    #[arg(long)]
    list: bool,
    /// Try so many seeds, on all cores: how often the policy promotes a bad version and rolls back
    /// a good one
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    seeds: Option<u64>,
    /// Write a report with pictures: one HTML file that needs nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "seeds")]
    report: Option<PathBuf>,
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
    match outcome(args) {
        Ok(code) => code,
        Err(Unusable(lines)) => {
            let mut log = stderr().lock();
            for line in lines {
                // Nothing is left to do when even this cannot be written.
                let _ = writeln!(log, "{line}");
            }
            ExitCode::from(2)
        }
    }
}

fn outcome(args: &SimulateArgs) -> Result<ExitCode, Unusable> {
    if args.list {
        return Ok(written(list(), ExitCode::SUCCESS));
    }
    if args.schema {
        let text = serde_json::to_string_pretty(&Scenario::schema()).unwrap_or_default();
        return Ok(written(writeln!(stdout(), "{text}"), ExitCode::SUCCESS));
    }
    let (scenario, text) = scenario(&args.scenario)?;
    if args.print {
        let printed = stdout().lock().write_all(text.as_bytes());
        return Ok(written(printed, ExitCode::SUCCESS));
    }
    let releases = releases(args, &scenario)?;
    if let Some(count) = args.seeds {
        return Ok(written(
            many(args, &scenario, &releases, count)?,
            ExitCode::SUCCESS,
        ));
    }
    let mut tried = Vec::new();
    for release in releases {
        let recording = perform(&release).map_err(|error: RolloutError| error.to_string())?;
        tried.push(Tried {
            namespace: release.namespace,
            canary: release.canary,
            recording,
        });
    }
    let code = tried.iter().map(|tried| match tried.recording.verdict {
        Verdict::Promoted => 0,
        Verdict::RolledBack => 3,
        Verdict::Undecided => 4,
    });
    let code = ExitCode::from(code.max().unwrap_or(2));
    if let Some(path) = &args.report {
        let origin = report::Origin {
            command: command(args),
            scenario: scenario.clone(),
            seed: args.seed,
        };
        fs::write(path, report::report(&origin, &tried)).map_err(|error| {
            format!("{}: the report cannot be written: {error}", path.display())
        })?;
    }
    let result = match args.format {
        Format::Text => write_text(args, &scenario, &tried),
        Format::Json => write_json(args, &scenario, &tried),
    };
    Ok(written(result, code))
}

/// The exit status when the output was written; whoever closed it has seen enough.
fn written(result: io::Result<()>, code: ExitCode) -> ExitCode {
    match result {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("haldane: the result cannot be written: {error}");
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => code,
    }
}

fn list() -> io::Result<()> {
    let mut out = stdout().lock();
    for scenario in NAMES.iter().filter_map(|name| Scenario::named(name)) {
        writeln!(out, "{:<16} {}", scenario.name, scenario.about)?;
    }
    out.flush()
}

/// The scenario of a name or file, and its text.
fn scenario(name: &str) -> Result<(Scenario, String), Unusable> {
    let text = match Scenario::file(name) {
        Some(text) => text.to_owned(),
        None => fs::read_to_string(name).map_err(|error| {
            format!(
                "--scenario {name}: no such name, and no file that can be read ({error}); names: {}",
                NAMES.join(", ")
            )
        })?,
    };
    let scenario = Scenario::read(&text).map_err(|fault| format!("{name}: {fault}"))?;
    Ok((scenario, text))
}

/// The command line that gives the same result.
fn command(args: &SimulateArgs) -> String {
    let files: Vec<_> = args
        .files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let mut text = format!(
        "haldane simulate {} --scenario {} --seed {}",
        files.join(" "),
        args.scenario,
        args.seed
    );
    if args.limit != Duration::from_hours(6) {
        text.push_str(" --limit ");
        text.push_str(&duration(args.limit.as_secs()).replace(' ', ""));
    }
    text
}

/// Tries each release with many seeds; fails with what cannot be written.
fn many(
    args: &SimulateArgs,
    scenario: &Scenario,
    releases: &[Release],
    count: u64,
) -> Result<io::Result<()>, Unusable> {
    let mut all = Vec::new();
    for release in releases {
        let outcomes = seeds::compare(release, count).map_err(|error| error.to_string())?;
        all.push((release, outcomes));
    }
    let write = || {
        let mut out = stdout().lock();
        if args.format == Format::Json {
            let values: Vec<Value> = all
                .iter()
                .map(|(release, outcomes)| {
                    json!({
                        "canary": release.canary, "namespace": release.namespace,
                        "scenario": scenario.name, "seed": args.seed, "seeds": count,
                        "outcomes": outcomes,
                    })
                })
                .collect();
            serde_json::to_writer_pretty(&mut out, &values)?;
            return writeln!(out);
        }
        for (release, outcomes) in &all {
            writeln!(
                out,
                "{}.{}, scenario {}, {count} seeds from {}",
                release.canary, release.namespace, scenario.name, args.seed
            )?;
            seeds::write(&mut out, outcomes)?;
            writeln!(out)?;
        }
        out.flush()
    };
    Ok(write())
}

/// The release of each Canary in the files.
fn releases(args: &SimulateArgs, scenario: &Scenario) -> Result<Vec<Release>, Unusable> {
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
    let release = |(namespace, canary): (String, String)| Release {
        seed: args.seed,
        limit: args.limit,
        ..Release::new(objects.clone(), (&namespace, &canary), scenario.clone())
    };
    Ok(canaries.into_iter().map(release).collect())
}

/// The objects of all files, each valid and in a namespace; kinds that the simulated cluster does
/// not have are left out, and said so.
fn objects(files: &[PathBuf]) -> Result<Vec<Value>, Unusable> {
    let is_known = |subject: &str, object: &Value| {
        let text = |field: &str| object[field].as_str().unwrap_or_default();
        let version = text("apiVersion");
        // Another kind of our own group is a slip of the pen, which the check tells.
        let known =
            manifests::is_known(version, text("kind")) || version.starts_with("flagger.app/");
        if !known && version.is_empty() {
            eprintln!("{subject}: no manifest, left out");
        } else if !known {
            eprintln!("{subject}: {version} is not simulated, left out");
        }
        known
    };
    let found = check::admitted(files, is_known).map_err(Unusable)?;
    let mut objects: Vec<Value> = found.into_iter().map(|(_, object)| object).collect();
    // A Canary takes charge of what is there already.
    objects.sort_by_key(|object| object["kind"] == "Canary");
    Ok(objects)
}

fn write_text(args: &SimulateArgs, scenario: &Scenario, tried: &[Tried]) -> io::Result<()> {
    let mut out = stdout().lock();
    let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    for Tried {
        namespace,
        canary,
        recording,
    } in tried
    {
        writeln!(
            out,
            "{canary}.{namespace}, scenario {}: {}",
            scenario.name, scenario.about
        )?;
        for frame in &recording.frames {
            for told in &frame.events {
                let mark = if told.warning { "!" } else { " " };
                writeln!(out, "{} {mark} {}", clock(told.at_seconds), told.message)?;
            }
            if !frame.events.is_empty() {
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

/// What users saw when an event came, and what the judge made of it.
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
    let judge = frame.judge.iter().map(|found| format!("judge: {found}"));
    [line("old", frame.stable), line("new", frame.release)]
        .into_iter()
        .flatten()
        .chain(judge)
        .filter(move |_| both)
}

fn write_json(args: &SimulateArgs, scenario: &Scenario, tried: &[Tried]) -> io::Result<()> {
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
                "scenario": scenario.name, "seed": args.seed,
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

//! `haldane backtest`: a policy on releases of the past.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, stderr},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::{check, run::provider, screen::duration};
use crate::{
    api::{Canary, MetricTemplate, Provider, duration as text_duration},
    backtest::{Ended, Policy, Replayed, Versions, Window, backtest, replay::Decision},
    measure::{Egress, Network, Secrets},
    object::{Key, Kind},
    settings::Settings,
};

/// Replay a policy over past releases: what it would have decided, and when
///
/// The judge and the thresholds of a Canary are asked about times gone by, with the operator's own
/// queries. Releases are found by the metrics that the operator (or Flagger) left in the same
/// Prometheus; or name one by --from and --to. A Canary without `judge` is judged with its defaults.
#[derive(Args, Debug)]
#[command(after_long_help = EXAMPLES)]
pub struct BacktestArgs {
    /// Files of YAML or JSON manifests: the Canary, and the MetricTemplates and Secrets that it
    /// needs; `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The Prometheus server, where the Canary names none in spec.metricsServer
    #[arg(
        long,
        env = "METRICS_SERVER",
        value_name = "URL",
        default_value = "http://localhost:9090"
    )]
    metrics_server: String,
    /// Route API of a Canary that names none in spec.provider
    #[arg(long, env = "MESH_PROVIDER", value_name = "NAME", default_value = "istio", value_parser = provider)]
    mesh_provider: Provider,
    /// How far back releases are searched for, such as 168h
    #[arg(long, value_name = "TIME", default_value = "168h", value_parser = text_duration::parse, conflicts_with_all = ["from", "to"])]
    since: Duration,
    /// One release: when it began, such as 2026-11-20T14:00:00Z
    #[arg(long, value_name = "TIME", requires = "to")]
    from: Option<Timestamp>,
    /// One release: when it was over
    #[arg(long, value_name = "TIME", requires = "from")]
    to: Option<Timestamp>,
    /// Label that told the versions of one workload apart, such as `pod_template_hash`
    #[arg(long, value_name = "LABEL", requires_all = ["primary", "canary", "from"])]
    by: Option<String>,
    /// The label's value of the version before
    #[arg(long, value_name = "VALUE", requires = "by")]
    primary: Option<String>,
    /// The label's value of the version released
    #[arg(long, value_name = "VALUE", requires = "by")]
    canary: Option<String>,
    /// How the result is written
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

const EXAMPLES: &str = r"Examples:
  # every release of the last week, as the operator's own metrics tell of them
  haldane backtest canary.yaml --metrics-server http://localhost:9090

  # a rolling update: two versions of one workload
  haldane backtest canary.yaml --from 2026-11-20T14:00:00Z --to 2026-11-20T14:30:00Z \
    --by pod_template_hash --primary 5d9c7b8f6 --canary 7fc4d5b9c

Queries of your own tell versions apart by {{ variables.LABEL }}.

Exit status: 0 when the policy was replayed, 1 when a question failed, 2 when the manifests cannot be
used.";

/// Why nothing was replayed: lines for the user, and the exit status.
struct Failure(u8, Vec<String>);

impl Failure {
    fn unusable(line: impl Into<String>) -> Self {
        Self(2, vec![line.into()])
    }
}

/// Replays and prints.
pub fn run(args: &BacktestArgs) -> ExitCode {
    match replayed(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(status, lines)) => {
            for line in lines {
                eprintln!("haldane backtest: {line}");
            }
            ExitCode::from(status)
        }
    }
}

fn replayed(args: &BacktestArgs) -> Result<(), Failure> {
    let Manifests {
        canaries,
        templates,
        secrets,
    } = manifests(&args.files)?;
    let versions = match (&args.by, &args.primary, &args.canary) {
        (Some(label), Some(primary), Some(canary)) => Some(
            Versions::new(label, primary, canary)
                .map_err(|error| Failure::unusable(error.to_string()))?,
        ),
        _ => None,
    };
    let now = Timestamp::now();
    let window = match (args.from, args.to) {
        (Some(from), Some(to)) if from < to => Window::Given(from, to),
        (Some(from), Some(to)) => {
            return Err(Failure::unusable(format!(
                "--to: found {to}, which is not after {from}; write when the release was over"
            )));
        }
        _ => Window::Found(now.saturating_sub(args.since).unwrap_or(now), now),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure(1, vec![error.to_string()]))?;
    let outside = Network::new(Secrets::Given(secrets), Egress { loopback: true });
    let live = stderr().is_terminal();
    let mut documents = Vec::new();
    for canary in canaries {
        let subject = subject(&canary);
        let policy = Policy {
            canary,
            settings: Settings {
                mesh_provider: args.mesh_provider,
                metrics_server: args.metrics_server.clone(),
                ..Settings::default()
            },
            templates: templates.clone(),
            versions: versions.clone(),
        };
        let progress = |done, all| {
            if live {
                eprint!("\r{subject}: release {} of {all} ", done + 1);
            }
        };
        let releases = runtime
            .block_on(backtest(&policy, window, &outside, progress))
            .map_err(|why| Failure(1, vec![format!("{subject}: {why}")]))?;
        if live {
            eprint!("\r\x1b[K");
        }
        match args.format {
            Format::Text => print!("{}", text(&subject, window, &releases)),
            Format::Json => documents.push(json!({ "canary": subject, "releases": releases })),
        }
    }
    if args.format == Format::Json {
        println!("{}", Value::from(documents));
    }
    Ok(())
}

fn subject(canary: &Canary) -> String {
    let name = canary.metadata.name.as_deref().unwrap_or_default();
    let namespace = canary.metadata.namespace.as_deref().unwrap_or_default();
    format!("{namespace}/{name}")
}

/// What the files hold.
struct Manifests {
    canaries: Vec<Canary>,
    templates: BTreeMap<Key, MetricTemplate>,
    secrets: BTreeMap<(String, String), BTreeMap<String, Vec<u8>>>,
}

fn manifests(files: &[PathBuf]) -> Result<Manifests, Failure> {
    let kinds = ["Canary", "MetricTemplate", "Secret"];
    let wanted = |_: &str, object: &Value| kinds.iter().any(|kind| object["kind"] == *kind);
    let admitted = check::admitted(files, wanted).map_err(|faults| Failure(2, faults))?;
    let mut found = Manifests {
        canaries: Vec::new(),
        templates: BTreeMap::new(),
        secrets: BTreeMap::new(),
    };
    for (subject, object) in admitted {
        found
            .add(object)
            .map_err(|error| Failure::unusable(format!("{subject}: {error}")))?;
    }
    if found.canaries.is_empty() {
        let reason = "no Canary found in the files; add one";
        return Err(Failure::unusable(reason.to_owned()));
    }
    Ok(found)
}

impl Manifests {
    fn add(&mut self, object: Value) -> Result<(), serde_json::Error> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let meta = &object["metadata"];
        let (namespace, name) = (text(&meta["namespace"]), text(&meta["name"]));
        match object["kind"].as_str() {
            Some("Canary") => self.canaries.push(serde_json::from_value(object)?),
            Some("MetricTemplate") => {
                let key = Key::new(Kind::MetricTemplate, &namespace, name);
                self.templates.insert(key, serde_json::from_value(object)?);
            }
            _ => {
                let secret: Secret = serde_json::from_value(object)?;
                let data = secret
                    .data
                    .into_iter()
                    .flatten()
                    .map(|(key, value)| (key, value.0));
                let plain = secret.string_data.into_iter().flatten();
                let plain = plain.map(|(key, value)| (key, value.into_bytes()));
                self.secrets
                    .insert((namespace, name), data.chain(plain).collect());
            }
        }
        Ok(())
    }
}

/// The result in words.
fn text(subject: &str, window: Window, releases: &[Replayed]) -> String {
    let mut lines = Vec::new();
    if let Window::Found(from, to) = window {
        lines.push(format!(
            "{subject}: {} between {} and {}",
            match releases.len() {
                0 => "no release found".to_owned(),
                1 => "1 release".to_owned(),
                count => format!("{count} releases"),
            },
            minute(from),
            minute(to)
        ));
        if releases.is_empty() {
            lines.push(
                "  The server has no flagger_canary_status of it at that time: look further back \
                 with --since, or name a release by --from and --to."
                    .to_owned(),
            );
        }
    }
    for replayed in releases {
        let release = &replayed.release;
        let took = release.to.duration_since(release.from).as_secs();
        lines.push(format!(
            "\n{subject}, release of {} ({}){}",
            minute(release.from),
            duration(u64::try_from(took).unwrap_or_default()),
            match release.ended {
                Some(Ended::Promoted) => ": was promoted",
                Some(Ended::RolledBack) => ": was rolled back",
                None => "",
            }
        ));
        let thresholds = match &replayed.thresholds {
            Some(decision) => words(decision, release.from),
            None => "none in analysis.metrics".to_owned(),
        };
        lines.push(format!("  thresholds  {thresholds}"));
        lines.push(format!(
            "  judge       {}",
            words(&replayed.judge, release.from)
        ));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn words(decision: &Decision, from: Timestamp) -> String {
    let after = |at: Timestamp| {
        let seconds = at.duration_since(from).as_secs();
        duration(u64::try_from(seconds).unwrap_or_default())
    };
    match decision {
        Decision::RolledBack(at) => {
            format!(
                "roll back after {} at {}: {}",
                after(at.at),
                at.step,
                at.because
            )
        }
        Decision::Held(at) => {
            format!("hold at {} after {}: {}", at.step, after(at.at), at.because)
        }
        Decision::Promoted { because } => format!("promote: {because}"),
        Decision::Unknown { because } => format!("unknown: {because}"),
    }
}

#[cfg(test)]
mod tests {
    use clap::{Command, FromArgMatches};

    use super::*;
    use crate::backtest::{Past, replay::Moment};

    fn parse(words: &str) -> Result<BacktestArgs, clap::Error> {
        let words = format!("backtest {words}");
        let command = BacktestArgs::augment_args(Command::new("backtest"));
        BacktestArgs::from_arg_matches(&command.try_get_matches_from(words.split(' '))?)
    }

    #[test]
    fn arguments_that_belong_together_are_asked_for_together() {
        assert!(parse("canary.yaml").is_ok());
        assert!(parse("a.yaml b.yaml --since 24h").is_ok());
        let window = "a.yaml --from 2026-11-20T14:00:00Z --to 2026-11-20T15:00:00Z";
        assert!(parse(window).is_ok());
        assert!(parse(&format!("{window} --by version --primary 1 --canary 2")).is_ok());
        for incomplete in [
            "--since 24h",
            "a.yaml --from 2026-11-20T14:00:00Z",
            "a.yaml --by version --primary 1 --canary 2",
            "a.yaml --since yesterday",
        ] {
            assert!(parse(incomplete).is_err(), "{incomplete}");
        }
    }

    #[test]
    fn text_tells_each_release_with_both_ways_of_judging() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let replayed = Replayed {
            release: Past {
                from: at("2026-11-20T14:00:00Z"),
                to: at("2026-11-20T14:12:30Z"),
                ended: Some(Ended::Promoted),
            },
            thresholds: Some(Decision::Promoted {
                because: "1 of 12 checks failed, 5 roll back".to_owned(),
            }),
            judge: Decision::RolledBack(Moment {
                at: at("2026-11-20T14:03:15Z"),
                step: "20 %".to_owned(),
                because: "canary errors 9× the primary's".to_owned(),
            }),
        };
        let window = Window::Found(at("2026-11-14T00:00:00Z"), at("2026-11-21T00:00:00Z"));
        let expected = "\
prod/shop: 1 release between 2026-11-14 00:00 UTC and 2026-11-21 00:00 UTC

prod/shop, release of 2026-11-20 14:00 UTC (12 min 30 s): was promoted
  thresholds  promote: 1 of 12 checks failed, 5 roll back
  judge       roll back after 3 min 15 s at 20 %: canary errors 9× the primary's
";
        assert_eq!(text("prod/shop", window, &[replayed]), expected);
    }
}

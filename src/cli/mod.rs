//! Where commands are parsed and run: one file per command.

pub mod backtest;
pub mod check;
pub mod compare;
pub mod crds;
pub mod demo;
mod ending;
mod flagger;
pub mod judge;
mod run;
mod screen;
pub mod simulate;

use std::{ffi::OsString, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

pub use run::RunArgs;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "haldane",
    version,
    about = "Progressive delivery for Kubernetes",
    long_about = "Progressive delivery for Kubernetes.\n\n\
        Haldane releases new versions of your workloads step by step: it gives a new version a \
        little traffic, looks at its metrics, gives it more, and in the end promotes it or rolls \
        it back. You describe a release with a Canary (flagger.app/v1beta1); manifests written \
        for Flagger work as they are.",
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// The commands, in the order in which a newcomer needs them.
#[derive(Debug, Subcommand)]
enum Command {
    /// Watch two releases in a simulated cluster: one is promoted, one is rolled back
    ///
    /// The operator's own code runs against an API server, pods, users and metrics in memory, on a
    /// clock of their own. It needs nothing but this program.
    Demo(demo::DemoArgs),
    /// Run the operator: look after the Canaries of a cluster
    ///
    /// It needs the CRDs and the permissions of the Helm chart. Run as many replicas as you like:
    /// one leads, the others take over when it is gone. Flagger's flags are understood in its
    /// spelling too, such as -mesh-provider=istio.
    Run(Box<RunArgs>),
    /// Check manifests without a server, by the rules that the API server applies
    Check(check::CheckArgs),
    /// Print the custom resource definitions
    Crds,
    /// Try releases of your own manifests in a simulated cluster
    ///
    /// The workload of each Canary is released under a scenario, by the operator's own code, on a
    /// clock of its own. Exit status 0: promoted, 3: rolled back, 4: neither in time, 2: the
    /// manifests cannot be used.
    Simulate(simulate::SimulateArgs),
    Judge(judge::JudgeArgs),
    Backtest(backtest::BacktestArgs),
    Compare(compare::CompareArgs),
    /// Print the version
    Version,
}

/// Parses a command line, program name first, and runs its command.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match parse(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to do when even the message cannot be written.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Run(args) => run::run(*args),
        Command::Check(args) => check::run(&args),
        Command::Crds => crds::run(),
        Command::Simulate(args) => simulate::run(&args),
        Command::Judge(args) => judge::run(&args),
        Command::Backtest(args) => backtest::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Version => {
            println!("haldane {}", env!("CARGO_PKG_VERSION"));
            ExitCode::SUCCESS
        }
    }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(flagger::respell(args, &Cli::command()))
}

#[cfg(test)]
mod tests {
    use clap::error::ErrorKind;

    use super::*;

    fn parsed(args: &[&str]) -> Result<Cli, clap::Error> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn command_that_is_unknown_is_a_usage_error() {
        let error = parsed(&["haldane", "fly"]).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSubcommand);
    }

    #[test]
    fn flaggers_command_line_runs_the_operator() {
        let cli = parsed(&[
            "haldane",
            "-mesh-provider=istio",
            "-enable-leader-election=true",
            "-log-level=info",
            "-zap-encoding=json",
            "-threadiness=4",
        ])
        .unwrap();
        assert!(matches!(cli.command, Command::Run(_)));
    }

    #[test]
    fn flaggers_version_flag_prints_the_version() {
        let error = parsed(&["haldane", "-version"]).map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DisplayVersion);
    }
}

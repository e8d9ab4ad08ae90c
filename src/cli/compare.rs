//! `haldane compare`: thresholds and the judge on the same simulated releases.

use std::{
    io::{IsTerminal, stderr},
    process::ExitCode,
};

use clap::{Args, ValueEnum};

use crate::sim::comparison::{compare, markdown};

/// Compare thresholds with the judge: how often each decides wrongly, and how late rightly
///
/// Releases of services of many kinds are drawn at random and shown to both: Flagger's default
/// thresholds (success of at least 99 % and a 99th percentile of at most 500 ms, each minute, five
/// failed checks) and the judge with its defaults. Prints Markdown tables: false rollbacks of
/// healthy versions, seconds to the rollback of bad ones as median (90th percentile), and what
/// becomes of whole releases. The same seed gives the same numbers.
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// Releases of each kind; more give finer numbers
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    releases: u32,
    /// Where chance begins
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// How the result is written
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    format: Format,
}

/// How the result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Tables.
    Markdown,
    /// One JSON object a line, one for each kind of service.
    Json,
}

/// Compares and prints.
pub fn run(args: &CompareArgs) -> ExitCode {
    let live = stderr().is_terminal();
    let rows = compare(args.releases, args.seed, |done, all| {
        if live {
            eprint!("\r{done} of {all} kinds of services");
        }
    });
    if live {
        eprintln!();
    }
    match args.format {
        Format::Markdown => print!("{}", markdown(&rows)),
        Format::Json => {
            for row in &rows {
                println!("{}", serde_json::json!(row));
            }
        }
    }
    ExitCode::SUCCESS
}

//! `haldane judge`: the statistical judge on numbers from a file or a pipe.

use std::fs::File;
use std::io::{self, BufReader, ErrorKind};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::stats::{LineError, judge_lines};

/// Judge a canary from numbers you bring: JSON lines in, JSON lines out.
///
/// The first line is the configuration, each later line one look; every look is answered at once
/// with one line: the evidence, the verdict (fail, pass or undecided) and what a decision still
/// needs.
#[derive(Debug, Args)]
#[command(after_long_help = EXAMPLES)]
pub struct JudgeArgs {
    /// File with the configuration and the looks, or - for standard input
    #[arg(value_name = "FILE|-", value_hint = clap::ValueHint::FilePath)]
    pub file: PathBuf,
}

const EXAMPLES: &str = r#"Example input:
  {"metrics":[{"name":"errors","kind":"ratio"}]}
  {"t":15,"dt":15,"step":0,"next":0.5,"metrics":{"errors":{"primary":[600,2],"canary":[150,9]}}}
  {"t":30,"dt":15,"step":0,"next":0.5,"metrics":{"errors":{"primary":[590,1],"canary":[148,8]}}}

Each side is [requests, bad requests] since the previous look, or cumulative counters by series:
  {"primary":{"pod-a":[1000,5]},"canary":{"pod-b":[60,1]}}

Kinds of metrics: ratio (bad among all requests), histogram (cumulative buckets over "le", the
total last), scalar (one number a look). `next` is the canary's share of traffic after this step.

Exit code: 0 when every line was judged, 1 on the first line that cannot be read; its number and
what to do about it are on standard error."#;

/// Judge the file; 1 on bad input, after the line's number was written to standard error.
pub fn run(args: &JudgeArgs) -> ExitCode {
    let output = io::stdout().lock();
    let result = if args.file.as_os_str() == "-" {
        judge_lines(io::stdin().lock(), output)
    } else {
        match File::open(&args.file) {
            Ok(file) => judge_lines(BufReader::new(file), output),
            Err(error) => {
                eprintln!(
                    "haldane judge: cannot open {}: {error}; name a file that can be read, or - for standard input",
                    args.file.display()
                );
                return ExitCode::FAILURE;
            }
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads the results has seen enough, as `head` does.
        Err(LineError::Write { source, .. }) if source.kind() == ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("haldane judge: {}: {error}", args.file.display());
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use clap::{Command, FromArgMatches};

    use super::*;

    fn parse(words: &[&str]) -> Result<JudgeArgs, clap::Error> {
        let matches = JudgeArgs::augment_args(Command::new("judge")).try_get_matches_from(words)?;
        JudgeArgs::from_arg_matches(&matches)
    }

    #[test]
    fn arguments_name_a_file_or_standard_input() {
        JudgeArgs::augment_args(Command::new("judge")).debug_assert();
        assert_eq!(parse(&["judge", "-"]).unwrap().file, PathBuf::from("-"));
        assert_eq!(
            parse(&["judge", "looks.jsonl"]).unwrap().file,
            PathBuf::from("looks.jsonl")
        );
        assert!(parse(&["judge"]).is_err());
    }
}

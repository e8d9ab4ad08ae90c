//! The engine of `haldane judge`: JSON lines in, JSON lines out.

use std::io::{self, BufRead, Write};

use thiserror::Error;

use super::config::{ConfigError, JudgeConfig};
use super::judge::Judge;
use super::look::Look;

/// What stopped judging, with the line's number from 1.
#[derive(Debug, Error)]
pub enum LineError {
    /// The input could not be read.
    #[error("line {line}: cannot read: {source}")]
    Read {
        /// The line.
        line: usize,
        /// Why.
        source: io::Error,
    },
    /// The first line is not a configuration.
    #[error(
        "line {line}: not a configuration: {source}; the first line must be one, such as {{\"metrics\":[{{\"name\":\"errors\",\"kind\":\"ratio\"}}]}}"
    )]
    Config {
        /// The line.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// A setting cannot be used.
    #[error("line {line}: {source}")]
    Setting {
        /// The line.
        line: usize,
        /// Which and why.
        source: ConfigError,
    },
    /// A later line is not a look.
    #[error(
        "line {line}: not a look: {source}; write one JSON object a line, such as {{\"t\":15,\"dt\":15,\"step\":0,\"metrics\":{{\"errors\":{{\"primary\":[100,1],\"canary\":[10,0]}}}}}}"
    )]
    Look {
        /// The line.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
    /// There is no configuration.
    #[error(
        "line 1: the input is empty: write the configuration on the first line and a look on each line after it"
    )]
    Empty,
    /// A result could not be written.
    #[error("line {line}: cannot write its result: {source}")]
    Write {
        /// The line of the look.
        line: usize,
        /// Why.
        source: io::Error,
    },
}

/// Judge looks: the first line is the configuration, each later one a look; one result line a
/// look is written and flushed at once. Blank lines are skipped. The first line that cannot be
/// used is the error.
pub fn judge_lines(input: impl BufRead, mut output: impl Write) -> Result<(), LineError> {
    let mut judge: Option<Judge> = None;
    for (at, text) in input.lines().enumerate() {
        let line = at + 1;
        let text = text.map_err(|source| LineError::Read { line, source })?;
        if text.trim().is_empty() {
            continue;
        }
        match &mut judge {
            None => {
                let config: JudgeConfig = serde_json::from_str(&text)
                    .map_err(|source| LineError::Config { line, source })?;
                judge =
                    Some(Judge::new(config).map_err(|source| LineError::Setting { line, source })?);
            }
            Some(judge) => {
                let look: Look = serde_json::from_str(&text)
                    .map_err(|source| LineError::Look { line, source })?;
                let mut result =
                    serde_json::to_vec(&judge.look(&look)).map_err(|source| LineError::Write {
                        line,
                        source: source.into(),
                    })?;
                result.push(b'\n');
                output
                    .write_all(&result)
                    .and_then(|()| output.flush())
                    .map_err(|source| LineError::Write { line, source })?;
            }
        }
    }
    if judge.is_some() {
        Ok(())
    } else {
        Err(LineError::Empty)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn judge(input: &str) -> (String, Result<(), LineError>) {
        let mut output = Vec::new();
        let result = judge_lines(input.as_bytes(), &mut output);
        (String::from_utf8(output).unwrap(), result)
    }

    #[test]
    fn judge_lines_writes_a_result_per_look() {
        let (output, result) = judge("{}\n\n{\"t\":15,\"dt\":15,\"step\":0}\n{\"t\":30.5}\n");
        result.unwrap();
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines.len(), 2);
        assert!(
            lines
                .iter()
                .all(|line| line.contains(r#""verdict":"undecided""#)),
            "{output}"
        );
        assert!(
            output.starts_with(r#"{"t":15,"step":0,"logE":{"errors":0.0,"latency":0.0},"#),
            "{output}"
        );
    }

    #[test]
    fn judge_lines_on_bad_input_names_the_line() {
        let cases = [
            ("", "line 1: the input is empty"),
            ("\n7\n", "line 2: not a configuration"),
            (
                "{\"alfa\":1}",
                "line 1: not a configuration: unknown field `alfa`",
            ),
            (
                "{\"metrics\":[{\"name\":\"e\",\"kind\":\"ratio\",\"maxRato\":2}]}",
                "unknown field `maxRato`",
            ),
            (
                "{\"metrics\":[{\"name\":\"e\",\"kind\":\"histogram\",\"maxRatio\":2}]}",
                "unknown field `maxRatio`",
            ),
            (
                "{\"alpha\":1}",
                "line 1: alpha is 1: set a number between 0 and 1",
            ),
            ("{}\n{\"t\":15}\n{\"t\":", "line 3: not a look"),
            ("{}\n{\"dt\":15}", "line 2: not a look: missing field `t`"),
        ];
        for (input, expected) in cases {
            let error = judge(input).1.unwrap_err().to_string();
            assert!(error.contains(expected), "{input:?}: {error}");
        }
    }

    #[test]
    fn judge_lines_after_a_bad_line_has_written_the_earlier_results() {
        let (output, result) = judge("{}\n{\"t\":15}\nnonsense\n");
        assert!(result.is_err());
        assert_eq!(output.lines().count(), 1);
    }
}

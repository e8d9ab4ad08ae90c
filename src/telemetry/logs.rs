//! Log lines: JSON with the keys that people grep Flagger's for, or text for a terminal.
//!
//! A line of JSON has `level`, `ts`, `caller`, `msg` and the fields of the event and of the spans
//! around it, such as `canary="NAME.NAMESPACE"`.

use std::{fmt, io::IsTerminal};

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    filter::ParseError,
    fmt::{
        FmtContext, FormatEvent, FormatFields, FormattedFields,
        format::{JsonFields, Writer},
    },
    registry::LookupSpan,
    util::{SubscriberInitExt, TryInitError},
};

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// One JSON object a line
    Json,
    /// Text, coloured on a terminal
    #[value(alias = "console")]
    Text,
}

/// Why logging cannot start.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The level is neither a level nor a filter.
    #[error("--log-level {found:?}: {source}; write error, warn, info, debug or trace")]
    Level {
        /// What was given.
        found: String,
        /// Why it cannot be read.
        source: ParseError,
    },
    /// Something else logs already.
    #[error("logging was started already: {0}")]
    Started(#[from] TryInitError),
}

/// Starts logging to standard error. `level` is a level, Flagger's spellings included, or a
/// filter such as `haldane::apply=debug,info`.
///
/// # Errors
/// When the level cannot be read, or logging was started before.
pub fn start(level: &str, format: Format) -> Result<(), LogError> {
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter(level)?);
    match format {
        Format::Json => lines
            .fmt_fields(JsonFields::new())
            .event_format(JsonLine)
            .finish()
            .try_init()?,
        Format::Text => lines
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .finish()
            .try_init()?,
    }
    Ok(())
}

/// A level is for Haldane's own lines; libraries speak up from warnings on, with `trace` always.
fn filter(level: &str) -> Result<EnvFilter, LogError> {
    let own = match level {
        "warning" => "warn",
        "fatal" | "panic" | "dpanic" => "error",
        "" => "info",
        other => other,
    };
    let directives = match own {
        "error" | "trace" => own.to_owned(),
        "warn" | "info" | "debug" => format!("warn,haldane={own}"),
        // A bare word would be taken for the name of a module and hide every line.
        word if !word.contains(['=', ',']) => format!("haldane={word}"),
        filter => filter.to_owned(),
    };
    EnvFilter::builder()
        .parse(directives)
        .map_err(|source| LogError::Level {
            found: level.to_owned(),
            source,
        })
}

/// Writes an event as one JSON object.
struct JsonLine;

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let meta = event.metadata();
        let mut line = Map::new();
        line.insert("level".into(), level_name(*meta.level()).into());
        line.insert("ts".into(), format!("{:.3}", Timestamp::now()).into());
        if let (Some(file), Some(number)) = (meta.file(), meta.line()) {
            line.insert("caller".into(), format!("{file}:{number}").into());
        }
        let own_spans = context
            .event_scope()
            .into_iter()
            .flat_map(tracing_subscriber::registry::Scope::from_root)
            .filter(|span| span.metadata().target().starts_with("haldane"));
        for span in own_spans {
            let extensions = span.extensions();
            let fields = extensions
                .get::<FormattedFields<N>>()
                .and_then(|fields| serde_json::from_str(&fields.fields).ok());
            if let Some(Value::Object(fields)) = fields {
                line.extend(fields);
            }
        }
        event.record(&mut Fields(&mut line));
        let text = serde_json::to_string(&line).map_err(|_| fmt::Error)?;
        writeln!(writer, "{text}")
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Collects the fields of an event; its message becomes `msg`.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        let name = match field.name() {
            "message" => "msg",
            name => name,
        };
        self.0.insert(name.to_owned(), value.into());
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Buffer {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    fn json_lines(level: &str, speak: impl FnOnce()) -> Vec<Value> {
        let buffer = Buffer::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(buffer.clone())
            .with_env_filter(filter(level).unwrap())
            .fmt_fields(JsonFields::new())
            .event_format(JsonLine)
            .finish();
        tracing::subscriber::with_default(subscriber, speak);
        let written = buffer.0.lock().unwrap();
        String::from_utf8_lossy(&written)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    #[test]
    fn json_line_has_the_keys_that_people_grep() {
        let lines = json_lines("info", || {
            tracing::info_span!("reconcile", canary = "podinfo.test").in_scope(|| {
                tracing::warn!(weight = 10, done = false, "Advance {}", "podinfo.test");
            });
        });
        assert_eq!(lines.len(), 1);
        let line = &lines[0];
        for (key, value) in [
            ("level", Value::from("warn")),
            ("msg", "Advance podinfo.test".into()),
            ("canary", "podinfo.test".into()),
            ("weight", 10.into()),
            ("done", false.into()),
        ] {
            assert_eq!(line[key], value, "{key}");
        }
        let time: Timestamp = line["ts"].as_str().unwrap().parse().unwrap();
        assert!(time.duration_until(Timestamp::now()).as_secs() < 60);
        assert!(line["caller"].as_str().unwrap().contains("logs.rs:"));
    }

    #[test]
    fn spans_of_libraries_add_no_keys() {
        let lines = json_lines("trace", || {
            tracing::info_span!(target: "kube_runtime", "reconciling", reason = "watch")
                .in_scope(|| tracing::info!("done"));
        });
        assert_eq!(lines[0].get("reason"), None);
    }

    #[test]
    fn level_silences_what_is_below() {
        for (level, expected) in [
            ("error", 1),
            ("warning", 2),
            ("info", 3),
            ("debug", 4),
            ("haldane=debug,warn", 4),
        ] {
            let lines = json_lines(level, || {
                tracing::error!("e");
                tracing::warn!("w");
                tracing::info!("i");
                tracing::debug!("d");
                tracing::info!(target: "hyper", "of a library");
            });
            assert_eq!(lines.len(), expected, "{level}");
        }
    }

    #[test]
    fn level_that_is_unknown_is_an_error_that_names_it() {
        let error = filter("loud").map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("\"loud\""), "{error}");
    }
}

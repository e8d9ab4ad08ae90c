//! `haldane check`: what the API server would say to manifests, without a server.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write, stderr, stdin, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use serde_json::Value;

use crate::{api::validation::Admission, schema::Fault};

/// Check manifests offline with the rules that the API server applies
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Files of YAML or JSON manifests; `-` for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
}

/// Why files could not be checked.
#[derive(Debug, thiserror::Error)]
pub(super) enum CheckError {
    #[error("{file}: cannot be read: {source}; name a file of manifests")]
    Read {
        file: String,
        source: std::io::Error,
    },
    #[error("{file}: found no YAML: {reason}")]
    Parse { file: String, reason: String },
    #[error("the definitions cannot be applied: {0}")]
    Definitions(#[from] Fault),
}

/// What was found in files.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    /// One line for each fault.
    faults: Vec<String>,
    /// One line for each field that the server drops.
    dropped: Vec<String>,
    /// Number of manifests that were checked.
    checked: usize,
}

/// Checks files, and prints a line for each fault. Exit status 0 when all manifests are valid, 1
/// when one is not, 2 when a file cannot be read or parsed.
pub fn run(args: &CheckArgs) -> ExitCode {
    let (findings, errors) = match check(&args.files) {
        Ok(result) => result,
        Err(error) => (Findings::default(), vec![error]),
    };
    let mut out = stdout().lock();
    let mut log = stderr().lock();
    let told = findings
        .faults
        .iter()
        .try_for_each(|line| writeln!(out, "{line}"))
        .and_then(|()| {
            let dropped = findings.dropped.iter();
            dropped
                .cloned()
                .chain(errors.iter().map(ToString::to_string))
                .try_for_each(|line| writeln!(log, "{line}"))?;
            writeln!(
                log,
                "manifests checked: {}, faults: {}",
                findings.checked,
                findings.faults.len()
            )
        });
    if !errors.is_empty() || told.is_err() {
        ExitCode::from(2)
    } else if findings.faults.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Checks all files that can be read, and lists why others cannot.
fn check(files: &[PathBuf]) -> Result<(Findings, Vec<CheckError>), CheckError> {
    let admission = Admission::new()?;
    let mut findings = Findings::default();
    let mut errors = Vec::new();
    let mut targets = BTreeMap::new();
    for file in files {
        match read(file) {
            Ok(text) => {
                let name = file.display().to_string();
                match manifests(&name, &text) {
                    Ok(objects) => objects.into_iter().for_each(|object| {
                        findings.add(&admission, &mut targets, &name, object);
                    }),
                    Err(error) => errors.push(error),
                }
            }
            Err(error) => errors.push(error),
        }
    }
    Ok((findings, errors))
}

fn read(file: &Path) -> Result<String, CheckError> {
    let mut text = String::new();
    let result = if file == Path::new("-") {
        stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    result.map_err(|source| CheckError::Read {
        file: file.display().to_string(),
        source,
    })
}

/// The objects of all files that are `wanted`, each in a namespace and as the API server would admit
/// it, with how messages call it.
///
/// # Errors
/// Each fault of each file, in a line.
pub(super) fn admitted(
    files: &[PathBuf],
    wanted: impl Fn(&str, &Value) -> bool,
) -> Result<Vec<(String, Value)>, Vec<String>> {
    let admission = Admission::new().map_err(|fault| vec![CheckError::from(fault).to_string()])?;
    let (mut admitted, mut faults) = (Vec::new(), Vec::new());
    for file in files {
        let name = file.display().to_string();
        let objects = match read(file).and_then(|text| manifests(&name, &text)) {
            Ok(objects) => objects,
            Err(error) => {
                faults.push(error.to_string());
                continue;
            }
        };
        for mut object in objects.into_iter().filter(|object| !object.is_null()) {
            let subject = subject(&name, &object);
            if let Some(fault) = lack(&object) {
                faults.push(format!("{subject}: {fault}"));
                continue;
            }
            if !wanted(&subject, &object) {
                continue;
            }
            let namespace = &object["metadata"]["namespace"];
            if namespace.is_null() || namespace == "" {
                object["metadata"]["namespace"] = Value::from("default");
            }
            let verdict = admission.judge(&mut object);
            let found = verdict.into_iter().flat_map(|verdict| verdict.faults);
            faults.extend(found.map(|fault| format!("{subject}: {fault}")));
            admitted.push((subject, object));
        }
    }
    if faults.is_empty() {
        Ok(admitted)
    } else {
        Err(faults)
    }
}

/// The objects of a file, those of Lists one by one.
fn manifests(file: &str, text: &str) -> Result<Vec<Value>, CheckError> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| CheckError::Parse {
            file: file.to_owned(),
            reason: first_line(&error),
        })?;
    let mut objects = Vec::new();
    for mut document in documents {
        let is_list = document
            .get("kind")
            .and_then(Value::as_str)
            .is_some_and(|kind| kind.ends_with("List"));
        if is_list && let Some(Value::Array(items)) = document.get_mut("items").map(Value::take) {
            objects.extend(items);
        } else {
            objects.push(document);
        }
    }
    Ok(objects)
}

/// How messages call an object of a file: by its kind, namespace and name, as far as it has them.
fn subject(file: &str, object: &Value) -> String {
    let text = |path: &str| object.pointer(path).and_then(Value::as_str);
    let name = text("/metadata/name").map(|name| match text("/metadata/namespace") {
        Some(namespace) if !namespace.is_empty() => format!("{namespace}/{name}"),
        _ => name.to_owned(),
    });
    let words = [text("/kind").map(str::to_owned), name];
    let words: Vec<String> = words.into_iter().flatten().collect();
    if words.is_empty() {
        file.to_owned()
    } else {
        format!("{file}: {}", words.join(" "))
    }
}

/// What every manifest has, and this one has not. Values of a chart and the like have neither an
/// apiVersion nor a kind: they are no manifests.
fn lack(object: &Value) -> Option<Fault> {
    let found = |field: &str| object.get(field).filter(|value| !value.is_null());
    found("apiVersion").or_else(|| found("kind"))?;
    let fault = |field: &str, action: &str| Fault {
        path: field.to_owned(),
        found: found(field).map_or_else(|| "nothing".to_owned(), Value::to_string),
        action: action.to_owned(),
    };
    let fields = [
        (
            "apiVersion",
            "write the version of its API, as in flagger.app/v1beta1",
        ),
        ("kind", "write what it is, as in Canary"),
    ];
    for (field, action) in fields {
        if found(field)
            .and_then(Value::as_str)
            .is_none_or(str::is_empty)
        {
            return Some(fault(field, action));
        }
    }
    let is_map = found("metadata").is_none_or(Value::is_object);
    (!is_map).then(|| fault("metadata", "write a map with the object's name"))
}

/// What is wrong and where, without the picture that follows.
fn first_line(error: &serde_saphyr::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

/// Which Canary releases a workload, by namespace, kind and name of the workload.
type Targets = BTreeMap<(String, String, String), String>;

impl Findings {
    fn add(&mut self, admission: &Admission, targets: &mut Targets, file: &str, mut object: Value) {
        let subject = subject(file, &object);
        if let Some(fault) = lack(&object) {
            return self.faults.push(format!("{subject}: {fault}"));
        }
        let Some(verdict) = admission.judge(&mut object) else {
            return;
        };
        let text = |path: &str| {
            let value = object.pointer(path).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        self.checked += 1;
        let mut faults = verdict.faults;
        let target = (
            namespace,
            text("/spec/targetRef/kind"),
            text("/spec/targetRef/name"),
        );
        if text("/kind") == "Canary" && !target.2.is_empty() {
            if let Some(other) = targets.get(&target).filter(|other| **other != name) {
                faults.push(Fault {
                    path: "spec.targetRef".to_owned(),
                    found: format!(
                        "{} {}, which Canary {other} releases too",
                        target.1, target.2
                    ),
                    action: "keep one Canary for each workload".to_owned(),
                });
            }
            targets.insert(target, name);
        }
        self.faults
            .extend(faults.iter().map(|fault| format!("{subject}: {fault}")));
        self.dropped.extend(verdict.dropped.iter().map(|path| {
            format!("{subject}: {path}: unknown field, the server drops it; check its spelling")
        }));
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;

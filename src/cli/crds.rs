//! `haldane crds`: print the `CustomResourceDefinition`s.

use std::{
    io::{Write, stdout},
    process::ExitCode,
};

use crate::api::crds;

/// Prints the `CustomResourceDefinition`s as YAML. Exit status 2 when they cannot be written.
pub fn run() -> ExitCode {
    match stdout().write_all(crds::yaml().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(2),
    }
}

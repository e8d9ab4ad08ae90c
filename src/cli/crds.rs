//! `haldane crds`: print the CustomResourceDefinitions.

use std::{
    io::{Write, stdout},
    process::ExitCode,
};

use crate::api::crds;

/// Prints the CustomResourceDefinitions as YAML. Exit status 2 when they cannot be written.
pub fn run() -> ExitCode {
    match stdout().write_all(crds::yaml().as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(2),
    }
}

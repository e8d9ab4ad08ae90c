//! Where commands are parsed and run: one file per command.

pub mod check;
pub mod crds;

//! The `haldane` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Every TLS connection needs one provider, and the first to install one wins.
    if rustls::crypto::ring::default_provider()
        .install_default()
        .is_err()
    {
        eprintln!("haldane: another TLS provider is installed already");
        return ExitCode::FAILURE;
    }
    haldane::cli::run(std::env::args_os())
}

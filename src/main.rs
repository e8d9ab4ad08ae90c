//! The `haldane` binary.

fn main() {}

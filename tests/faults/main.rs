//! No fault loses a release: crashes, refusals, stale reads and late events, with invariants
//! checked after every write; and planted bugs that show that the invariants would notice.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs
)]

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod bugs;
mod chaos;
mod checker;
mod flow;
mod hostile;
mod invariants;
mod leaders;
mod neighbours;
mod people;
mod schedule;
mod suite;
mod trial;
mod worlds;

//! Sequential tests that compare a canary with its primary.
//!
//! A [`Judge`] is shown a [`Look`] after each scrape and answers with a [`Finding`]: fail, pass
//! or undecided. For every metric a request is bad or not, at the rate p0 at the primary and p1
//! at the canary. Two hypotheses with a gap between them are tested at the same time:
//!
//! - *tolerated*: p1 ≤ ρ·p0 + δ in every slice of time; rejecting it is **fail**;
//! - *bad*: p1 ≥ `ρ_b·p0` + `δ_b`; rejecting it is **pass**.
//!
//! Evidence is money: an e-process `E_t` ≥ 0 with E\[`E_τ`\] ≤ 1 under the hypothesis at every
//! stopping time, so `P(E_t` ≥ 1/α at any t) ≤ α (Ville 1939). Anyone may look at any time and stop
//! at will; waiting for more data never spoils the promise. From the inside out:
//! `primitive` (one bet on one slice), `bettor` and `passing` (slices to evidence), `dispersion`
//! (bursts), `stream` (one sequence of slices), `latency` and `metric` (readings to slices),
//! `judge` (metrics to a verdict), `forecast` and `interval` (for people).
//!
//! Nothing here reads a clock, draws a random number or can panic; the same looks give the same
//! findings.

pub mod bettor;
pub mod config;
pub mod counters;
pub mod dispersion;
pub mod finding;
pub mod forecast;
pub mod interval;
pub mod judge;
pub mod latency;
pub mod lines;
pub mod look;
mod metric;
pub mod passing;
pub mod primitive;
pub mod scalar;
mod sentence;
pub mod state;
pub mod stream;

pub use config::{ConfigError, JudgeConfig, MetricConfig, MetricKind};
pub use finding::{Detail, Finding, Needs, Outcome, Verdict};
pub use judge::{Judge, ResumeError};
pub use lines::{LineError, judge_lines};
pub use look::{Look, Reading, Side, StepId};
pub use sentence::needs;
pub use state::JudgeState;

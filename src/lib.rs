//! Haldane: progressive delivery for Kubernetes.
//!
//! ```text
//! watch ─▶ observe ─▶ Snapshot ─▶ decide ─▶ Plan ─▶ apply ─▶ status
//!          (I/O)                  (pure)             (I/O)
//! ```
//!
//! I/O stands at both ends; the middle is a pure, total function. The operator, the demo, the
//! simulator and the tests run the same code.

pub mod api;
pub mod apply;
pub mod backtest;
pub mod cli;
pub mod clock;
pub mod controller;
pub mod decide;
pub mod measure;
pub mod object;
pub mod observe;
pub mod plan;
pub mod route;
pub mod schema;
pub mod settings;
pub mod sim;
pub mod stats;
pub mod telemetry;
pub mod workload;

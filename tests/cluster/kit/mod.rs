//! What the tests of whole releases stand on: a control plane, a kubelet's stand-in, a Prometheus
//! that scrapes traffic which the test makes up, receivers of webhooks, and the real operator.

mod canary;
mod cluster;
mod history;
mod hooks;
mod kubelet;
mod operator;
mod prometheus;
mod scene;

pub use canary::{CanaryManifest, canary, deployment, workload};
pub use cluster::cluster;
pub use hooks::Hooks;
pub use operator::{Operator, program};
pub use prometheus::{Flow, Prometheus};
pub use scene::Scene;

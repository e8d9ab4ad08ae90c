//! The custom resources of `flagger.app/v1beta1`, and the names that are part of the contract.

pub mod admission;
pub mod alert_provider;
pub mod analysis;
pub mod canary;
pub mod crds;
pub mod duration;
pub mod istio;
pub mod judge;
pub mod judge_status;
pub mod metric_template;
pub mod service;
pub mod status;
pub mod validation;

pub use alert_provider::{AlertProvider, AlertProviderSpec, AlertProviderType};
pub use analysis::{Alert, Analysis, HookType, Metric, Severity, Strategy, Webhook};
pub use canary::{AutoscalerKind, Canary, CanarySpec, Provider, TargetKind};
pub use metric_template::{MetricProviderType, MetricTemplate, MetricTemplateSpec};
pub use status::{CanaryStatus, Phase};

/// Finalizer of a Canary with `revertOnDeletion`.
pub const FINALIZER: &str = "finalizer.flagger.app";

/// Annotation by which a ConfigMap or Secret opts out of tracking (value `disabled`).
pub const CONFIG_TRACKING: &str = "flagger.app/config-tracking";

/// Node selector key by which a DaemonSet is scaled to zero.
pub const SCALE_TO_ZERO: &str = "flagger.app/scale-to-zero";

/// Pod template annotation that makes each promotion a new rollout of the primary.
pub const FLAGGER_ID: &str = "flagger-id";

/// Annotation of a primary: the revision of the target that it carries.
pub const REVISION: &str = "haldane.dev/revision";

/// Annotation of a primary: the spec that the last promotion replaced, as JSON.
pub const PREVIOUS: &str = "haldane.dev/previous";

/// Annotation of a config copy: the checksum of the data that it carries.
pub const CHECKSUM: &str = "haldane.dev/checksum";

/// Annotation of a config's former copy: the `flagger-id` of the release that replaced it.
pub const REPLACED_BY: &str = "haldane.dev/replaced-by";

/// Annotation of a Canary by which a person asks for `promote`, `pause`, `resume`, `abort` or
/// `retry`. The operator removes it when it has obeyed.
pub const REQUEST: &str = "haldane.dev/request";

/// Annotations that keep Flux from reverting what the operator writes.
pub const FLUX_DISABLED: [(&str, &str); 2] = [
    ("helm.toolkit.fluxcd.io/driftDetection", "disabled"),
    ("kustomize.toolkit.fluxcd.io/reconcile", "disabled"),
];

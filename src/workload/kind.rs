//! Kinds of targets and autoscalers as a Canary names them.

use crate::{
    api::{AutoscalerKind, TargetKind},
    object::Kind,
};

impl From<TargetKind> for Kind {
    fn from(kind: TargetKind) -> Self {
        match kind {
            TargetKind::DaemonSet => Self::DaemonSet,
            TargetKind::Deployment => Self::Deployment,
            TargetKind::Service => Self::Service,
        }
    }
}

impl From<AutoscalerKind> for Kind {
    fn from(kind: AutoscalerKind) -> Self {
        match kind {
            AutoscalerKind::HorizontalPodAutoscaler => Self::HorizontalPodAutoscaler,
            AutoscalerKind::ScaledObject => Self::ScaledObject,
        }
    }
}

//! What people ask of a release by annotation, without editing the spec.

use serde_json::json;

use crate::{
    api::{Phase, REQUEST},
    object::{Key, Kind},
    observe::Snapshot,
    plan::{Effect, Precondition},
};

use super::{draft::Draft, notices};

/// What a person asks of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Skip what is left of the analysis, or pass the gate that holds the revision.
    Promote,
    /// Stay at the present step.
    Pause,
    /// Go on.
    Resume,
    /// Roll back.
    Abort,
    /// Release the revision that failed once more.
    Retry,
}

impl Request {
    /// The request in an annotation's value.
    fn parse(text: &str) -> Option<Self> {
        match text {
            "promote" => Some(Self::Promote),
            "pause" => Some(Self::Pause),
            "resume" => Some(Self::Resume),
            "abort" => Some(Self::Abort),
            "retry" => Some(Self::Retry),
            _ => None,
        }
    }

    /// Whether the request has a meaning in a phase.
    fn applies(self, phase: Phase) -> bool {
        match self {
            Self::Promote | Self::Abort => matches!(
                phase,
                Phase::Waiting | Phase::Progressing | Phase::WaitingPromotion
            ),
            Self::Pause | Self::Resume => {
                matches!(phase, Phase::Progressing | Phase::WaitingPromotion)
            }
            Self::Retry => phase == Phase::Failed,
        }
    }

    /// Takes the request if it is this one.
    pub fn take(slot: &mut Option<Self>, wanted: Self) -> bool {
        slot.take_if(|request| *request == wanted).is_some()
    }
}

/// The request that a Canary carries, if it can be obeyed.
pub(super) fn read(s: &Snapshot) -> Option<Request> {
    annotation(s).and_then(Request::parse)
}

fn annotation(s: &Snapshot) -> Option<&str> {
    s.canary
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(REQUEST))
        .map(String::as_str)
}

/// Removes the annotation once it was obeyed, or cannot be. A request that has to wait stays.
pub(super) fn settle(s: &Snapshot, left: Option<Request>, d: &mut Draft) {
    let Some(text) = annotation(s) else {
        return;
    };
    match (Request::parse(text), left) {
        (Some(_), Some(request)) if request.applies(d.status.phase) => return,
        (Some(_), Some(_)) => d.tell(notices::warning(format!(
            "Request {text} has no effect on {} while it is {}",
            notices::full_name(s),
            d.status.phase
        ))),
        (Some(_), None) => {}
        (None, _) => d.tell(notices::warning(format!(
            "Request {text:?} of {} is unknown; set annotation {REQUEST} to promote, pause, \
             resume, abort or retry",
            notices::full_name(s)
        ))),
    }
    d.effects.push(Effect::Patch {
        key: Key::new(Kind::Canary, s.namespace(), s.name()),
        patch: json!({"metadata": {"annotations": {REQUEST: null}}}),
        precondition: Precondition {
            uid: s.canary.metadata.uid.clone().unwrap_or_default(),
            resource_version: None,
        },
        reason: "the request was obeyed",
    });
}

//! What becomes of which requests, before it is said in the words of one route API.

use super::{Traffic, affinity, matching};
use crate::api::{Analysis, Strategy, istio::HttpMatch, service::Service};

/// What becomes of the requests that meet one of some conditions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rule {
    /// The conditions; none: all requests.
    pub matches: Vec<HttpMatch>,
    /// Weight of the canary, 0 to 100; the primary has the rest. `None`: the primary alone.
    pub canary: Option<i32>,
    /// Whether the canary gets a copy of each request.
    pub mirror: bool,
    /// `Set-Cookie` header of all responses.
    pub set_cookie: Option<String>,
    /// `Set-Cookie` header of the primary's responses.
    pub primary_set_cookie: Option<String>,
    /// `Set-Cookie` header of the canary's responses.
    pub canary_set_cookie: Option<String>,
}

/// The rules in order: of two that take the same request, the first counts.
pub(super) fn rules(service: &Service, analysis: &Analysis, traffic: &Traffic) -> Vec<Rule> {
    let served = service.matches.as_deref().unwrap_or_default();
    let tested = analysis.matches.as_deref().unwrap_or_default();
    if !tested.is_empty() {
        return by_match(served, tested, analysis.strategy(), traffic).into();
    }
    let everybody = Rule {
        matches: served.to_vec(),
        canary: Some(traffic.canary()),
        mirror: traffic.mirrors(),
        ..Rule::default()
    };
    match &analysis.session_affinity {
        Some(affinity) => affinity::rules(everybody, affinity, analysis.interval(), traffic),
        None => vec![everybody],
    }
}

/// Two rules: one for the requests that the analysis is about, one for all others.
///
/// In an A/B test the weight is that of the others: 0, except when a broken primary must be
/// relieved of everything. In a canary release the weight is that of the matching requests.
fn by_match(
    served: &[HttpMatch],
    tested: &[HttpMatch],
    strategy: Strategy,
    traffic: &Traffic,
) -> [Rule; 2] {
    let canary = traffic.canary();
    let matching = Rule {
        matches: matching::combine(tested, served),
        canary: Some(if traffic.ab { 100 } else { canary }),
        mirror: traffic.mirrors() && !traffic.ab,
        ..Rule::default()
    };
    let others = Rule {
        matches: served.to_vec(),
        canary: match strategy {
            Strategy::AbTesting => Some(canary).filter(|canary| *canary > 0),
            Strategy::Canary | Strategy::BlueGreen => None,
        },
        ..Rule::default()
    };
    [matching, others]
}

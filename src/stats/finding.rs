//! What the judge says after a look.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

use super::interval::RatioInterval;
use super::look::StepId;

/// The result of one look: a result line of `haldane judge`.
///
/// Logarithms are natural; what is unbounded or unknown is none (null).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The look's time, seconds.
    #[serde(serialize_with = "whole")]
    pub t: f64,
    /// The look's step.
    pub step: StepId,
    /// ln E by metric.
    #[serde(rename = "logE")]
    pub log_e: BTreeMap<String, f64>,
    /// ln E of all critical metrics together.
    #[serde(rename = "logEAll")]
    pub log_e_all: f64,
    /// An always-valid p-value of "tolerated": exp(−max ln E), in \[0, 1\].
    pub p_value: f64,
    /// ln P of this step by metric; none while a metric cannot be judged.
    pub log_pass: BTreeMap<String, Option<f64>>,
    /// By metric.
    pub detail: BTreeMap<String, Detail>,
    /// What follows for the release.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// What [`Self::sentence`] speaks of.
    #[serde(skip)]
    pub(super) focus: Focus,
}

/// What a look reports of one metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Detail {
    /// φ used at this look, per stream.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phi: Vec<f64>,
    /// The canary's rate over the primary's, per stream; none without any bad request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ratio: Vec<Option<RatioInterval>>,
    /// Latency: the bounds, a stream each, in the unit of the histogram.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bounds: Option<Vec<f64>>,
    /// Latency: ρ per bound; none before the canary's first requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_ratio: Option<Vec<Option<f64>>>,
}

/// What a look means for the release.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "camelCase")]
pub enum Verdict {
    /// Roll back at once; final for the release.
    Fail {
        /// The culprit: the metric with the largest share of the evidence when it failed.
        metric: String,
    },
    /// The step may end now. Not remembered: it must hold at the look at which the step ends.
    Pass,
    /// Neither yet.
    Undecided {
        /// What a decision is likely to need.
        needs: Needs,
        /// What forbids a pass whatever the evidence: `primary:NAME` for a sick primary, `doubt`
        /// for E ≥ 10.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        withheld: Vec<String>,
    },
}

/// A forecast at this step's pace. All none: no decision in sight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Needs {
    /// Which decision comes first.
    pub towards: Option<Outcome>,
    /// Canary requests until then, a whole number.
    #[serde(serialize_with = "maybe_whole")]
    pub requests: Option<f64>,
    /// Seconds until then.
    pub seconds: Option<f64>,
    /// Canary requests within which a canary that is just bad would show itself, a whole number.
    #[serde(serialize_with = "maybe_whole")]
    pub requests_if_bad: Option<f64>,
}

/// The two decisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// The step passes.
    Pass,
    /// The release fails.
    Fail,
}

/// The metric that carries most of the evidence, for [`Finding::sentence`].
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Focus {
    pub metric: String,
    /// The stream with the most evidence, as an index.
    pub stream: usize,
    /// Whether its last slice was judged by the objective.
    pub by_objective: bool,
    pub alpha: f64,
}

impl Finding {
    /// One sentence for people, such as "canary errors 3.1× the primary's, between 1.9× and 5.2×
    /// (99 %); evidence 42 of the 100 that roll back; about 120 more requests (12 s) to roll
    /// back".
    pub fn sentence(&self) -> String {
        let evidence = Rounded(self.log_e_all.exp());
        let enough = Rounded(1.0 / self.focus.alpha);
        let comparison = self.comparison();
        match &self.verdict {
            Verdict::Fail { .. } if self.log_e_all >= -self.focus.alpha.ln() => {
                format!("{comparison}; evidence {evidence}, past the {enough} that roll back")
            }
            Verdict::Fail { .. } => {
                let height = Rounded(1.0 / self.p_value);
                format!("{comparison}; evidence was {height}, past the {enough} that roll back")
            }
            Verdict::Pass => format!(
                "{comparison}; evidence {evidence} of the {enough} that roll back; the step passes"
            ),
            Verdict::Undecided { needs, withheld } => {
                let outlook = outlook(needs, withheld);
                format!(
                    "{comparison}; evidence {evidence} of the {enough} that roll back; {outlook}"
                )
            }
        }
    }

    fn comparison(&self) -> String {
        let Focus {
            metric,
            stream,
            by_objective,
            alpha,
        } = &self.focus;
        let Some(detail) = self.detail.get(metric) else {
            return format!("canary {metric} not seen yet");
        };
        let bound = detail
            .bounds
            .as_ref()
            .and_then(|bounds| bounds.get(*stream));
        let subject = bound.map_or_else(
            || metric.clone(),
            |bound| format!("{metric} (requests slower than {bound})"),
        );
        let level = (1e6 * (1.0 - alpha)).round() / 1e4;
        match detail.ratio.get(*stream) {
            Some(_) if *by_objective => format!("canary {subject} judged by the objective"),
            Some(Some(RatioInterval {
                estimate: Some(estimate),
                low,
                high: Some(high),
            })) => format!(
                "canary {subject} {}× the primary's, between {}× and {}× ({level} %)",
                Rounded(*estimate),
                Rounded(*low),
                Rounded(*high)
            ),
            Some(Some(RatioInterval {
                estimate: Some(estimate),
                low,
                high: None,
            })) => {
                format!(
                    "canary {subject} {}× the primary's, at least {}× ({level} %)",
                    Rounded(*estimate),
                    Rounded(*low)
                )
            }
            Some(Some(RatioInterval {
                estimate: None,
                low,
                ..
            })) => {
                format!(
                    "canary {subject} at least {}× the primary's ({level} %), which has none",
                    Rounded(*low)
                )
            }
            Some(None) => format!("canary {subject} not comparable with the primary's yet"),
            None if detail.bounds.is_some() => {
                format!("canary {subject} not judged before the primary shows enough requests")
            }
            None => format!("canary {subject} compared look by look"),
        }
    }
}

fn outlook(needs: &Needs, withheld: &[String]) -> String {
    let outcome = needs.towards.map(|towards| match towards {
        Outcome::Pass => "to pass",
        Outcome::Fail => "to roll back",
    });
    let forecast = match (outcome, needs.requests, needs.seconds) {
        (Some(outcome), Some(requests), Some(seconds)) => {
            format!(
                "about {requests:.0} more requests ({} s) {outcome}",
                seconds.ceil()
            )
        }
        (Some(outcome), Some(requests), None) => {
            format!("about {requests:.0} more requests {outcome}")
        }
        (Some(_) | None, _, _) => "no decision in sight".to_owned(),
    };
    let reasons: Vec<String> = withheld
        .iter()
        .map(|reason| match reason.strip_prefix("primary:") {
            Some(metric) => format!("the primary's own {metric} are too high"),
            None => "in doubt".to_owned(),
        })
        .collect();
    if reasons.is_empty() {
        forecast
    } else {
        format!("{forecast}; no pass while {}", reasons.join(" and "))
    }
}

/// A number as people read it: one decimal below 10, whole above, words beyond a million.
struct Rounded(f64);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        if value >= 1e6 {
            f.write_str("over a million")
        } else if value >= 9.95 {
            write!(f, "{value:.0}")
        } else if value >= 0.095 || value == 0.0 {
            let text = format!("{value:.1}");
            f.write_str(text.strip_suffix(".0").unwrap_or(&text))
        } else if value >= 0.001 {
            write!(f, "{value:.3}")
        } else {
            f.write_str("under 0.001")
        }
    }
}

/// Whole numbers without a decimal point where an integer holds them exactly.
#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
#[expect(
    clippy::cast_possible_truncation,
    reason = "checked to be whole and below 2^53"
)]
pub(super) fn whole<S: Serializer>(value: &f64, to: S) -> Result<S::Ok, S::Error> {
    if value.fract().abs() > 0.0 || value.abs() > 9_007_199_254_740_992.0 {
        to.serialize_f64(*value)
    } else {
        to.serialize_i64(*value as i64)
    }
}

#[expect(clippy::ref_option, reason = "serde passes fields by reference")]
fn maybe_whole<S: Serializer>(value: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => whole(value, to),
        None => to.serialize_none(),
    }
}

//! A finding in words.

use std::fmt;

use super::finding::{Finding, Focus, Needs, Outcome, Verdict};
use super::interval::RatioInterval;

impl Finding {
    /// One sentence for people, such as "canary errors 3.1× the primary's, between 1.9× and 5.2×
    /// (99 %); evidence 42 of the 100 that roll back; needs about 120 more requests,
    /// about 12 s at this rate, to roll back".
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
    let forecast = match outcome.zip(needs.requests) {
        Some((outcome, requests)) if needs.seconds.is_some() => {
            format!("{}, {outcome}", self::needs(requests, needs.seconds))
        }
        Some((outcome, requests)) => format!("{} {outcome}", self::needs(requests, None)),
        None => "no decision in sight".to_owned(),
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

/// What a decision still needs, as people say it: so many requests, and about so many seconds.
pub fn needs(requests: f64, seconds: Option<f64>) -> String {
    let requests = format!("needs about {requests:.0} more requests");
    match seconds {
        Some(seconds) => format!("{requests}, about {} at this rate", Spell(seconds)),
        None => requests,
    }
}

/// A stretch of time, seconds, as people say it.
struct Spell(f64);

impl fmt::Display for Spell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.ceil();
        if seconds < 120.0 {
            write!(f, "{seconds:.0} s")
        } else if seconds < 7200.0 {
            write!(f, "{:.0} minutes", seconds / 60.0)
        } else {
            write!(f, "{:.0} hours", seconds / 3600.0)
        }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Judge, Look};
    use super::*;

    /// The sentences after each look of a judge with these metrics.
    fn sentences(metrics: &str, looks: &[&str]) -> Vec<String> {
        let config = format!(r#"{{"metrics":[{metrics}]}}"#);
        let mut judge = Judge::new(serde_json::from_str(&config).unwrap()).unwrap();
        let sentence = |look: &&str| {
            judge
                .look(&serde_json::from_str::<Look>(look).unwrap())
                .sentence()
        };
        looks.iter().map(sentence).collect()
    }

    #[test]
    fn sentence_about_a_defect_names_ratio_interval_and_evidence() {
        let bad = r#"{"t":15,"dt":15,"metrics":{"errors":{"primary":[1200,6],"canary":[300,9]}}}"#;
        let sentences = sentences(r#"{"name":"errors","kind":"ratio"}"#, &[bad; 3]);
        assert_eq!(
            sentences,
            [
                "canary errors 6× the primary's, between 0.6× and 92× (99 %); evidence 4.4 of the 100 that roll back; needs about 380 more requests, about 19 s at this rate, to roll back",
                "canary errors 6× the primary's, between 1.5× and 27× (99 %); evidence 46 of the 100 that roll back; needs about 60 more requests, about 3 s at this rate, to roll back; no pass while in doubt",
                "canary errors 6× the primary's, between 1.9× and 20× (99 %); evidence 2372, past the 100 that roll back",
            ]
        );
    }

    #[test]
    fn sentence_without_data_sees_no_decision() {
        let nothing = r#"{"t":15}"#;
        let histogram = r#"{"name":"latency","kind":"histogram"}"#;
        assert_eq!(
            sentences(histogram, &[nothing]),
            [
                "canary latency not judged before the primary shows enough requests; evidence 1 of the 100 that roll back; no decision in sight"
            ]
        );
    }

    #[test]
    fn sentence_while_the_primary_is_sick_says_so() {
        let sick =
            r#"{"t":15,"dt":15,"metrics":{"errors":{"primary":[1000,300],"canary":[1000,300]}}}"#;
        let sentences = sentences(r#"{"name":"errors","kind":"ratio"}"#, &[sick]);
        assert!(
            sentences[0].ends_with("no pass while the primary's own errors are too high"),
            "{sentences:?}"
        );
    }

    #[test]
    fn times_read_like_people_say_them() {
        let cases = [
            (2.1, "3 s"),
            (119.0, "119 s"),
            (290.0, "5 minutes"),
            (9000.0, "2 hours"),
        ];
        for (seconds, text) in cases {
            assert_eq!(Spell(seconds).to_string(), text);
        }
    }

    #[test]
    fn rounded_numbers_read_like_people_write_them() {
        let cases = [
            (0.0, "0"),
            (0.0004, "under 0.001"),
            (0.0247, "0.025"),
            (0.31, "0.3"),
            (3.0, "3"),
            (3.12, "3.1"),
            (9.96, "10"),
            (42.4, "42"),
            (100.0, "100"),
            (2e6, "over a million"),
        ];
        for (value, text) in cases {
            assert_eq!(Rounded(value).to_string(), text);
        }
    }
}

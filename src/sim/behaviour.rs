//! How the pods of one version of a workload behave.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the pods of one version of a workload behave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Behaviour {
    /// Seconds from creation to readiness; absent: the pods crash and never get ready.
    pub start_seconds: Option<f64>,
    /// Share of requests that fail, in percent.
    pub error_percent: f64,
    /// Share of requests that fail later, in percent: once a pod has been ready for
    /// `errors_after_seconds`, or the release has reached `errors_from_step`.
    pub late_error_percent: f64,
    /// Seconds that a pod is ready before `late_error_percent` holds; absent: not by age.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors_after_seconds: Option<f64>,
    /// Step of the release, from 1, from which on `late_error_percent` holds; absent: not by step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub errors_from_step: Option<u32>,
    /// Median time of a request, in milliseconds.
    pub latency_ms: f64,
    /// Spread of that time: standard deviation of its logarithm.
    pub latency_spread: f64,
    /// Processor time of a request, in milliseconds: what autoscalers go by.
    pub cpu_ms: f64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            start_seconds: Some(3.0),
            error_percent: 0.05,
            late_error_percent: 0.0,
            errors_after_seconds: None,
            errors_from_step: None,
            latency_ms: 24.0,
            latency_spread: 0.45,
            cpu_ms: 4.0,
        }
    }
}

impl Behaviour {
    /// The share of requests that fail, in percent, when pods of this version have been ready for
    /// so many seconds.
    pub fn error_percent_at(&self, age: f64) -> f64 {
        if self.errors_after_seconds.is_some_and(|after| age >= after) {
            self.late_error_percent
        } else {
            self.error_percent
        }
    }
}

impl Behaviour {
    /// How pods behave once the release has reached a step; the same as before when this step
    /// changes nothing.
    #[must_use]
    pub fn at_step(&self, step: u32) -> Self {
        let mut next = self.clone();
        if self.errors_from_step.is_some_and(|from| step >= from) {
            next.error_percent = self.late_error_percent;
        }
        next
    }

    /// The first figure that makes no sense: its field, and what it has to be.
    pub fn fault(&self) -> Option<(&'static str, &'static str)> {
        let percent = |value: f64| (0.0..=100.0).contains(&value);
        let time = |value: f64| (0.0..=86_400.0).contains(&value);
        let checks = [
            (
                self.start_seconds.is_none_or(time),
                "startSeconds",
                "from 0 to 86400, or null for pods that crash",
            ),
            (percent(self.error_percent), "errorPercent", "from 0 to 100"),
            (
                percent(self.late_error_percent),
                "lateErrorPercent",
                "from 0 to 100",
            ),
            (
                self.errors_after_seconds.is_none_or(time),
                "errorsAfterSeconds",
                "from 0 to 86400",
            ),
            (
                (0.0..=600_000.0).contains(&self.latency_ms),
                "latencyMs",
                "from 0 to 600000",
            ),
            (
                (0.0..=5.0).contains(&self.latency_spread),
                "latencySpread",
                "from 0 to 5",
            ),
            (
                (0.0..=60_000.0).contains(&self.cpu_ms),
                "cpuMs",
                "from 0 to 60000",
            ),
        ];
        let wrong = checks.into_iter().find(|(holds, _, _)| !holds)?;
        Some((wrong.1, wrong.2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_come_late_start_after_their_time() {
        let late = Behaviour {
            late_error_percent: 20.0,
            errors_after_seconds: Some(60.0),
            ..Behaviour::default()
        };
        let before = late.error_percent_at(59.0);
        assert!((before - 0.05).abs() < 1e-9, "{before}");
        assert!((late.error_percent_at(60.0) - 20.0).abs() < 1e-9);
    }
}

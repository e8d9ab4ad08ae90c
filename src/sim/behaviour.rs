//! How the pods of one version of a workload behave.

use serde::{Deserialize, Serialize};

/// How the pods of one version of a workload behave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Behaviour {
    /// Seconds from creation to readiness; absent: the pods crash and never get ready.
    pub start_seconds: Option<f64>,
    /// Share of requests that fail, in percent.
    pub error_percent: f64,
    /// Share of requests that fail once `errors_after_seconds` have passed, in percent.
    pub late_error_percent: f64,
    /// Seconds that a pod takes traffic well before `late_error_percent` holds.
    pub errors_after_seconds: f64,
    /// Median time of a request, in milliseconds.
    pub latency_ms: f64,
    /// Spread of that time: standard deviation of its logarithm.
    pub latency_spread: f64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            start_seconds: Some(3.0),
            error_percent: 0.05,
            late_error_percent: 0.0,
            errors_after_seconds: f64::MAX,
            latency_ms: 24.0,
            latency_spread: 0.45,
        }
    }
}

impl Behaviour {
    /// The share of requests that fail, in percent, when pods of this version have been ready for
    /// so many seconds.
    pub fn error_percent_at(&self, age: f64) -> f64 {
        if age >= self.errors_after_seconds {
            self.late_error_percent
        } else {
            self.error_percent
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_that_come_late_start_after_their_time() {
        let late = Behaviour {
            late_error_percent: 20.0,
            errors_after_seconds: 60.0,
            ..Behaviour::default()
        };
        let before = late.error_percent_at(59.0);
        assert!((before - 0.05).abs() < 1e-9, "{before}");
        assert!((late.error_percent_at(60.0) - 20.0).abs() < 1e-9);
    }
}

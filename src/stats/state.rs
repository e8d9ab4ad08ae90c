//! What is kept between looks, and how it is written down.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::latency::LatencyState;
use super::look::StepId;
use super::stream::StreamState;

/// Everything a judge keeps between looks; with the configuration it is the whole judge.
///
/// Bounded: at most three streams a metric and four strata a stream, so about 0.45 KB of JSON a
/// stream and, until its ratios are known, one summed histogram a latency metric. Written as JSON
/// and read back it is the same bit for bit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JudgeState {
    /// The time of the last look, seconds; none before the first. After a restart counters are
    /// read again at this time.
    pub t: Option<f64>,
    /// The step of the last look.
    pub step: Option<StepId>,
    /// Canary requests in this step: at each look the largest gain among critical streams.
    pub step_requests: f64,
    /// Seconds of this step's looks in which the canary had requests.
    pub step_seconds: f64,
    /// max ln E since the start of the release; at least 0.
    pub max_log_e: f64,
    /// The metric that failed the release, once one did.
    pub failed: Option<String>,
    /// By metric name.
    pub metrics: BTreeMap<String, MetricState>,
}

/// What is kept of one metric.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MetricState {
    /// One stream, or one a bound for latency once bounds are chosen.
    pub streams: Vec<StreamState>,
    /// Latency: bounds and ratios, or the sum they will be chosen from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyState>,
}

/// Lists of logarithms in which −∞ stands for "nothing": null in JSON.
pub(super) mod log_list {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(values: &[f64], to: S) -> Result<S::Ok, S::Error> {
        let values: Vec<Option<f64>> = values.iter().map(|v| v.is_finite().then_some(*v)).collect();
        values.serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
        let values: Vec<Option<f64>> = Vec::deserialize(from)?;
        Ok(values
            .into_iter()
            .map(|v| v.unwrap_or(f64::NEG_INFINITY))
            .collect())
    }
}

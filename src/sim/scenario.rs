//! What happens in a world: how versions behave, how many users come, what fails besides.

use serde::{Deserialize, Serialize};

use super::behaviour::Behaviour;

/// What happens in a world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Scenario {
    /// The name.
    pub name: String,
    /// What happens, as one sentence.
    pub about: String,
    /// Requests that users make each second.
    pub requests_per_second: u32,
    /// The version that runs at the start.
    pub stable: Behaviour,
    /// The version that is released.
    pub release: Behaviour,
    /// Metrics and webhooks.
    pub outside: Disturbances,
    /// Seconds after which proxies follow a change of routes and endpoints.
    pub proxy_lag_seconds: u64,
    /// Seconds between two scrapes of a pod's metrics.
    pub scrape_seconds: u64,
}

/// What is wrong with the metrics server and webhooks, by seconds since the release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Disturbances {
    /// When the metrics server cannot be reached: from and to, in seconds since the release.
    pub outages: Vec<(f64, f64)>,
    /// Share of queries that the metrics server refuses, in percent.
    pub refused_percent: f64,
    /// What webhooks answer: an HTTP status.
    pub webhook_status: u16,
    /// What chats answer: an HTTP status.
    pub alert_status: u16,
}

impl Default for Disturbances {
    fn default() -> Self {
        Self {
            outages: Vec::new(),
            refused_percent: 0.0,
            webhook_status: 200,
            alert_status: 200,
        }
    }
}

impl Default for Scenario {
    fn default() -> Self {
        Self {
            name: "good".to_owned(),
            about: "the new version is as good as the old one".to_owned(),
            requests_per_second: 40,
            stable: Behaviour::default(),
            release: Behaviour {
                latency_ms: 22.0,
                ..Behaviour::default()
            },
            outside: Disturbances::default(),
            proxy_lag_seconds: 1,
            scrape_seconds: 5,
        }
    }
}

/// Names of all scenarios.
pub const NAMES: [&str; 8] = [
    "good",
    "errors",
    "slow",
    "crash-loop",
    "late-errors",
    "no-traffic",
    "flaky-metrics",
    "metrics-outage",
];

impl Scenario {
    /// The scenario of a name.
    pub fn named(name: &str) -> Option<Self> {
        let mut scenario = Self::default();
        let release = &mut scenario.release;
        let about = match name {
            "good" => return Some(scenario),
            "errors" => {
                release.error_percent = 12.0;
                "one in eight requests to the new version fails"
            }
            "slow" => {
                release.latency_ms = 900.0;
                "the new version takes almost a second for a request"
            }
            "crash-loop" => {
                release.start_seconds = None;
                "the new version crashes at its start"
            }
            "late-errors" => {
                release.late_error_percent = 12.0;
                release.errors_after_seconds = 70.0;
                "one in eight requests to the new version fails once it has run for a minute"
            }
            "no-traffic" => {
                scenario.requests_per_second = 0;
                "nobody uses the application, so that there is nothing to judge by"
            }
            "flaky-metrics" => {
                scenario.outside.refused_percent = 20.0;
                "the new version is good, but one query in five is refused"
            }
            "metrics-outage" => {
                scenario.outside.outages = vec![(60.0, 180.0)];
                "the new version is good, but the metrics server is away for two minutes"
            }
            _ => return None,
        };
        name.clone_into(&mut scenario.name);
        about.clone_into(&mut scenario.about);
        Some(scenario)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_have_the_names_that_are_listed() {
        for name in NAMES {
            let scenario = Scenario::named(name);
            assert_eq!(scenario.map(|s| s.name), Some(name.to_owned()));
        }
        assert_eq!(Scenario::named("weather"), None);
    }

    #[test]
    fn scenario_survives_its_text_form() {
        for scenario in NAMES.iter().filter_map(|name| Scenario::named(name)) {
            let text = serde_json::to_string(&scenario).unwrap_or_default();
            assert_eq!(serde_json::from_str(&text).ok(), Some(scenario), "{text}");
        }
    }
}

//! What happens in a world: how versions behave, how many users come, what fails besides.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};

use super::{behaviour::Behaviour, event::Event, server::Limit};

/// What happens in a world.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Scenario {
    /// The name.
    pub name: String,
    /// What happens, as one sentence.
    pub about: String,
    /// What a policy should come to: a release that deserves rollback is a bad version.
    pub deserves: Deserved,
    /// Requests that users make each second.
    pub requests_per_second: u32,
    /// How that number changes over time, from the release on.
    pub traffic: Shape,
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
    /// What the API server grants the operator.
    pub api: Api,
    /// What happens as the release goes on.
    pub events: Vec<Event>,
}

/// What the API server grants the operator.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Api {
    /// Requests a second, in the long run; absent: as many as it likes. More are answered with 429.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<f64>,
    /// Requests at once, after a pause, where they are limited.
    pub burst: u32,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            requests_per_second: None,
            burst: 10,
        }
    }
}

/// What a release should come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Deserved {
    /// The new version is good.
    Promotion,
    /// The new version is bad, or cannot be judged.
    Rollback,
}

/// Most requests each second: more take long to simulate and say nothing else.
const MOST_REQUESTS: u32 = 2_000;

/// How the number of requests changes over time, from the release on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Shape {
    /// It does not.
    #[default]
    Constant,
    /// It goes evenly to another number, and stays.
    Ramp {
        /// The number at the end.
        to_requests_per_second: u32,
        /// Seconds until then.
        over_seconds: u64,
    },
    /// It rises and falls as days and nights do.
    Wave {
        /// How far up and down, in percent of the number.
        percent: f64,
        /// Seconds from one crest to the next.
        every_seconds: u64,
    },
    /// It jumps up for a while, again and again.
    Bursts {
        /// The number in a burst, as a multiple.
        factor: f64,
        /// Seconds from the end of one burst to the end of the next.
        every_seconds: u64,
        /// Seconds that a burst lasts.
        for_seconds: u64,
    },
}

impl Shape {
    /// Requests each second at a second after the release, when `base` is the usual number.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are at most thousands, and clamped"
    )]
    pub fn rate(&self, base: u32, second: u64) -> u32 {
        let usual = f64::from(base);
        let rate = match *self {
            Self::Constant => return base,
            Self::Ramp {
                to_requests_per_second,
                over_seconds,
            } => {
                let part = (second as f64 / over_seconds.max(1) as f64).min(1.0);
                usual + (f64::from(to_requests_per_second) - usual) * part
            }
            Self::Wave {
                percent,
                every_seconds,
            } => {
                let turn = (second % every_seconds.max(1)) as f64 / every_seconds.max(1) as f64;
                usual * (1.0 + percent / 100.0 * (std::f64::consts::TAU * turn).sin())
            }
            Self::Bursts {
                factor,
                every_seconds,
                for_seconds,
            } => {
                let left = every_seconds - second % every_seconds.max(1);
                if left <= for_seconds {
                    usual * factor
                } else {
                    usual
                }
            }
        };
        rate.round().clamp(0.0, f64::from(MOST_REQUESTS)) as u32
    }

    fn fault(&self) -> Option<String> {
        let wrong = |holds: bool, fault: &str| (!holds).then(|| fault.to_owned());
        match *self {
            Self::Constant => None,
            Self::Ramp {
                to_requests_per_second,
                ..
            } => wrong(
                to_requests_per_second <= MOST_REQUESTS,
                "ramp.toRequestsPerSecond must be from 0 to 2000",
            ),
            Self::Wave {
                percent,
                every_seconds,
            } => wrong(
                (0.0..=100.0).contains(&percent) && every_seconds > 0,
                "wave.percent must be from 0 to 100, and wave.everySeconds more than 0",
            ),
            Self::Bursts {
                factor,
                every_seconds,
                for_seconds,
            } => wrong(
                (0.0..=100.0).contains(&factor)
                    && for_seconds <= every_seconds
                    && every_seconds > 0,
                "bursts.factor must be from 0 to 100, and bursts.everySeconds more than 0 and not less than bursts.forSeconds",
            ),
        }
    }
}

/// What is wrong with the metrics server and webhooks, by seconds since the release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
            deserves: Deserved::Promotion,
            requests_per_second: 40,
            traffic: Shape::Constant,
            stable: Behaviour::default(),
            release: Behaviour {
                latency_ms: 22.0,
                ..Behaviour::default()
            },
            outside: Disturbances::default(),
            proxy_lag_seconds: 1,
            scrape_seconds: 5,
            api: Api::default(),
            events: Vec::new(),
        }
    }
}

/// All named scenarios: their names and files.
const FILES: [(&str, &str); 8] = [
    ("good", include_str!("../../examples/scenarios/good.yaml")),
    (
        "errors",
        include_str!("../../examples/scenarios/errors.yaml"),
    ),
    ("slow", include_str!("../../examples/scenarios/slow.yaml")),
    (
        "crash-loop",
        include_str!("../../examples/scenarios/crash-loop.yaml"),
    ),
    (
        "late-errors",
        include_str!("../../examples/scenarios/late-errors.yaml"),
    ),
    (
        "no-traffic",
        include_str!("../../examples/scenarios/no-traffic.yaml"),
    ),
    (
        "flaky-metrics",
        include_str!("../../examples/scenarios/flaky-metrics.yaml"),
    ),
    (
        "metrics-outage",
        include_str!("../../examples/scenarios/metrics-outage.yaml"),
    ),
];

/// Names of all scenarios.
pub const NAMES: [&str; 8] = {
    let mut names = [""; 8];
    let mut index = 0;
    while index < names.len() {
        names[index] = FILES[index].0;
        index += 1;
    }
    names
};

impl Scenario {
    /// The scenario of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::read(Self::file(name)?).ok()
    }

    /// The file of a named scenario.
    pub fn file(name: &str) -> Option<&'static str> {
        let mut files = FILES.iter();
        files
            .find(|(found, _)| *found == name)
            .map(|(_, text)| *text)
    }

    /// Reads a scenario file.
    ///
    /// # Errors
    /// What is wrong with it, in words for whoever wrote it, with the field's name.
    pub fn read(text: &str) -> Result<Self, String> {
        let scenario: Self = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        match scenario.fault() {
            None => Ok(scenario),
            Some(fault) => Err(fault),
        }
    }

    /// What scenario files may say, as JSON Schema.
    pub fn schema() -> serde_json::Value {
        let settings =
            SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        settings
            .into_generator()
            .into_root_schema_for::<Self>()
            .to_value()
    }

    /// The limit on the operator's requests, if there is one.
    pub fn api_limit(&self) -> Option<Limit> {
        self.api
            .requests_per_second
            .map(|requests_per_second| Limit {
                requests_per_second,
                burst: self.api.burst,
            })
    }

    /// The first figure that makes no sense.
    fn fault(&self) -> Option<String> {
        for (version, behaviour) in [("stable", &self.stable), ("release", &self.release)] {
            if let Some((field, range)) = behaviour.fault() {
                return Some(format!("{version}.{field}: must be {range}"));
            }
        }
        if self.stable.start_seconds.is_none() {
            return Some(
                "stable.startSeconds: the version that runs at the start has to start".to_owned(),
            );
        }
        if self.requests_per_second > MOST_REQUESTS {
            return Some(format!(
                "requestsPerSecond: must be from 0 to {MOST_REQUESTS}"
            ));
        }
        if let Some(fault) = self.traffic.fault() {
            return Some(format!("traffic: {fault}"));
        }
        let outside = &self.outside;
        if !(0.0..=100.0).contains(&outside.refused_percent) {
            return Some("outside.refusedPercent: must be from 0 to 100".to_owned());
        }
        if outside
            .outages
            .iter()
            .any(|(from, to)| from.is_nan() || to.is_nan() || from >= to)
        {
            return Some(
                "outside.outages: each must be [from, to], and from less than to".to_owned(),
            );
        }
        for (field, status) in [
            ("webhookStatus", outside.webhook_status),
            ("alertStatus", outside.alert_status),
        ] {
            if !(100..=599).contains(&status) {
                return Some(format!(
                    "outside.{field}: must be an HTTP status, from 100 to 599"
                ));
            }
        }
        if self.proxy_lag_seconds > 600 {
            return Some("proxyLagSeconds: must be from 0 to 600".to_owned());
        }
        if !(1..=300).contains(&self.scrape_seconds) {
            return Some("scrapeSeconds: must be from 1 to 300".to_owned());
        }
        let rate = self.api.requests_per_second;
        if rate.is_some_and(|rate| !(0.01..=10_000.0).contains(&rate)) {
            return Some("api.requestsPerSecond: must be from 0.01 to 10000".to_owned());
        }
        if self.api.burst == 0 {
            return Some("api.burst: must be more than 0".to_owned());
        }
        for (index, event) in self.events.iter().enumerate() {
            if let Some(fault) = event.fault() {
                return Some(format!("events[{index}]: {fault}"));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn scenarios_have_the_names_that_are_listed() {
        for (name, text) in FILES {
            assert_eq!(Scenario::read(text).unwrap().name, name);
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

    #[test]
    fn scenario_with_every_field_can_be_read() {
        let text = include_str!("../../examples/scenarios/reference.yaml");
        let scenario = Scenario::read(text).unwrap();
        assert!(
            matches!(scenario.traffic, Shape::Wave { .. }),
            "{scenario:?}"
        );
    }

    #[test]
    fn scenario_that_makes_no_sense_is_refused_by_the_name_of_its_field() {
        for (text, named) in [
            ("release: {errorPercent: 120}", "release.errorPercent"),
            ("release: {latencyMs: -1}", "release.latencyMs"),
            ("release: {latencyMs: .nan}", "release.latencyMs"),
            ("stable: {startSeconds: null}", "stable.startSeconds"),
            ("release: {errorPercnt: 1}", "errorPercnt"),
            ("requestsPerSecond: -3", "requestsPerSecond"),
            ("requestsPerSecond: 100000", "requestsPerSecond"),
            ("traffic: {wave: {percent: 20, everySeconds: 0}}", "traffic"),
            ("traffic: storm", "storm"),
            ("outside: {outages: [[90, 30]]}", "outside.outages"),
            ("outside: {webhookStatus: 9}", "outside.webhookStatus"),
            ("scrapeSeconds: 0", "scrapeSeconds"),
            ("api: {requestsPerSecond: 0}", "api.requestsPerSecond"),
            ("events: [{atSeconds: 1}]", "events[0]"),
            ("events: [{alertStatus: 9}]", "events[0]"),
            (
                "events: [{everySeconds: 0, alertStatus: 500}]",
                "everySeconds",
            ),
            (
                "events: [{behave: {version: release, like: {errorPercent: 101}}}]",
                "errorPercent",
            ),
            (
                "events: [{edit: {apiVersion: v1, kind: Pod, name: a, patch: 1}}]",
                "edit.patch",
            ),
            ("wether: sunny", "wether"),
            ("[1, 2]", ""),
        ] {
            let error = Scenario::read(text).unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }

    #[test]
    fn traffic_follows_its_shape() {
        let ramp = Shape::Ramp {
            to_requests_per_second: 100,
            over_seconds: 10,
        };
        let wave = Shape::Wave {
            percent: 50.0,
            every_seconds: 40,
        };
        let bursts = Shape::Bursts {
            factor: 3.0,
            every_seconds: 60,
            for_seconds: 5,
        };
        for (shape, second, rate) in [
            (Shape::Constant, 1000, 20),
            (ramp, 0, 20),
            (ramp, 5, 60),
            (ramp, 10, 100),
            (ramp, 99, 100),
            (wave, 0, 20),
            (wave, 10, 30),
            (wave, 20, 20),
            (wave, 30, 10),
            (bursts, 0, 20),
            (bursts, 54, 20),
            (bursts, 55, 60),
            (bursts, 59, 60),
            (bursts, 60, 20),
        ] {
            assert_eq!(shape.rate(20, second), rate, "{shape:?} at {second} s");
        }
    }
}

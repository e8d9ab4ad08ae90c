//! What users' requests leave behind: counters of errors and durations, as a metrics server has
//! them.

use std::collections::BTreeMap;

use haldane::{
    api::judge::JudgeKind,
    plan::{LookAnswer, LookColumn, LookRequest, SeriesCounts},
};
use jiff::Timestamp;

/// Upper boundaries of the buckets, and the share of a usual version's requests up to each.
const BUCKETS: [(f64, f64); 6] = [
    (50.0, 0.41),
    (100.0, 0.74),
    (250.0, 0.96),
    (500.0, 0.996),
    (1000.0, 0.9998),
    (f64::INFINITY, 1.0),
];

/// What the metrics server does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Server {
    #[default]
    Answers,
    /// Connections are refused.
    Down,
    /// The answer does not come.
    Silent,
    /// It has lost the canary's series.
    NoCanary,
    /// It answers, and scrapes nothing any more.
    Stuck(Timestamp),
}

/// Totals by workload and image.
type All = BTreeMap<(&'static str, String), Totals>;

/// Requests by version since the begin, as real numbers: exact, whenever they are asked for.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Requests of all users; none: nothing is counted.
    pub requests_per_second: f64,
    /// Share of a version's requests that fail, by image; usual: 0.1 %.
    pub errors: BTreeMap<String, f64>,
    /// Versions whose requests take twice the time.
    pub slow: Vec<String>,
    pub server: Server,
    /// Totals over time.
    history: Vec<(Timestamp, All)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    requests: f64,
    bad: f64,
    slow: f64,
}

impl Counters {
    /// Users go on from one time to another, with a share of them on the canary.
    pub fn count(&mut self, from: Timestamp, to: Timestamp, share: f64, image: &str) {
        let mut totals = self
            .history
            .last()
            .map_or_else(BTreeMap::new, |(_, totals)| totals.clone());
        if self.history.is_empty() {
            self.history.push((from, totals.clone()));
        }
        let requests = self.requests_per_second * to.duration_since(from).as_secs_f64();
        let mut add = |workload, image: &str, requests: f64, errors: f64, slow: bool| {
            let total: &mut Totals = totals.entry((workload, image.to_owned())).or_default();
            total.requests += requests;
            total.bad += requests * errors;
            total.slow += if slow { requests } else { 0.0 };
        };
        add("primary", "", requests * (1.0 - share), 0.001, false);
        if share > 0.0 {
            let errors = self.errors.get(image).copied().unwrap_or(0.001);
            let slow = self.slow.iter().any(|slow| slow == image);
            add("canary", image, requests * share, errors, slow);
        }
        self.history.push((to, totals));
    }

    /// The totals at a time, in a straight line between what was written down.
    fn at(&self, time: Timestamp) -> All {
        let time = match self.server {
            Server::Stuck(since) => time.min(since),
            Server::Answers | Server::Down | Server::Silent | Server::NoCanary => time,
        };
        let after = self.history.partition_point(|(at, _)| *at <= time);
        let Some((start, before)) = after.checked_sub(1).map(|at| &self.history[at]) else {
            return BTreeMap::new();
        };
        let Some((end, later)) = self.history.get(after) else {
            return before.clone();
        };
        let share =
            time.duration_since(*start).as_secs_f64() / end.duration_since(*start).as_secs_f64();
        let between = |a: f64, b: f64| a + share * (b - a);
        later
            .iter()
            .map(|(key, later)| {
                let before = before.get(key).copied().unwrap_or_default();
                let totals = Totals {
                    requests: between(before.requests, later.requests),
                    bad: between(before.bad, later.bad),
                    slow: between(before.slow, later.slow),
                };
                (key.clone(), totals)
            })
            .collect()
    }

    /// What the metrics server says; `None`: nothing, ever.
    pub fn answer(&self, request: &LookRequest) -> Option<LookAnswer> {
        match self.server {
            Server::Silent => None,
            Server::Down => Some(Err("query of errors: connection refused".to_owned())),
            Server::Answers | Server::NoCanary | Server::Stuck(_) => Some(Ok(request
                .times
                .iter()
                .map(|at| self.column(*at, request))
                .collect())),
        }
    }

    fn column(&self, at: Timestamp, request: &LookRequest) -> LookColumn {
        let totals = self.at(at);
        let metrics = request.metrics.iter().map(|metric| {
            let sides = ["primary", "canary"].map(|side| {
                totals
                    .iter()
                    .filter(|((workload, _), _)| *workload == side)
                    .filter(|_| side == "primary" || self.server != Server::NoCanary)
                    .map(|((_, image), totals)| (image.clone(), counts(metric.kind, *totals)))
                    .collect()
            });
            (metric.name.clone(), sides)
        });
        LookColumn {
            at,
            metrics: metrics.collect(),
        }
    }
}

fn counts(kind: JudgeKind, totals: Totals) -> SeriesCounts {
    match kind {
        JudgeKind::Ratio => SeriesCounts::Pair(totals.requests.floor(), totals.bad.floor()),
        JudgeKind::Histogram => {
            let below = |at: usize| at.checked_sub(1).map_or(0.0, |at| BUCKETS[at].1);
            let buckets = BUCKETS.iter().enumerate().map(|(at, (le, share))| {
                let usual = (totals.requests - totals.slow) * share;
                // Twice the time: about one bucket further.
                let slow = totals.slow * if le.is_finite() { below(at) } else { 1.0 };
                (*le, (usual + slow).floor())
            });
            SeriesCounts::Buckets(buckets.collect())
        }
        JudgeKind::Scalar => SeriesCounts::Number(totals.requests),
    }
}

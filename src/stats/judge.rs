//! The judge: configuration and state, one look at a time.

use std::collections::BTreeMap;

use thiserror::Error;

use super::config::{ConfigError, JudgeConfig, MetricConfig, MetricKind};
use super::counters::Counters;
use super::finding::{Finding, Focus, Needs, Outcome, Verdict};
use super::look::{Look, Reading};
use super::metric::Circumstances;
use super::primitive::{is_count, log_sum_exp};
use super::state::{JudgeState, MetricState};

/// E from which a step no longer passes though the release has not failed.
const DOUBT: f64 = 10.0;

/// Judges one release: shown a look after each scrape, it says fail, pass or undecided.
///
/// One α covers the whole release, any number of looks, steps, extensions and metrics, stopping
/// at will: E = Σ `w_m` `E_m` over critical metrics is an e-process under "tolerated", so by Ville's
/// inequality P(ever fail) ≤ α. Shares that sum to 1 keep that under any dependence (Vovk, Wang,
/// arXiv 1912.06116).
#[derive(Clone, Debug)]
pub struct Judge {
    config: JudgeConfig,
    state: JudgeState,
    counters: BTreeMap<String, Counters>,
}

/// A state that does not belong to a configuration.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ResumeError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The state is of other metrics, or was altered.
    #[error(
        "the saved state of metric `{metric}` is {found}: it belongs to another configuration; start a new judge, which is a new test with a new alpha"
    )]
    Foreign {
        /// The metric.
        metric: String,
        /// What is wrong with it.
        found: &'static str,
    },
    /// A number of the state itself is impossible.
    #[error(
        "the saved state's `{field}` is {found}: it was altered; start a new judge, which is a new test with a new alpha"
    )]
    Altered {
        /// The field.
        field: &'static str,
        /// The value found.
        found: f64,
    },
}

impl Judge {
    /// A judge at the start of a release.
    pub fn new(config: JudgeConfig) -> Result<Self, ConfigError> {
        config.validate()?;
        let fresh = |metric: &MetricConfig| (metric.name.clone(), MetricState::new(&metric.kind));
        let metrics = config.metrics.iter().map(fresh).collect();
        Ok(Self {
            config,
            state: JudgeState {
                metrics,
                ..JudgeState::default()
            },
            counters: BTreeMap::new(),
        })
    }

    /// A judge that goes on where `state` was saved, under the same configuration.
    ///
    /// If looks carry raw counters, call [`Self::rebase`] with the counters as of `state.t` first.
    pub fn resume(config: JudgeConfig, state: JudgeState) -> Result<Self, ResumeError> {
        config.validate()?;
        let foreign = |metric: &str, found| {
            Err(ResumeError::Foreign {
                metric: metric.to_owned(),
                found,
            })
        };
        for metric in &config.metrics {
            match state.metrics.get(&metric.name) {
                None => return foreign(&metric.name, "missing"),
                Some(saved) if !saved.fits(metric) => {
                    return foreign(&metric.name, "of another kind or altered");
                }
                Some(_) => {}
            }
        }
        let known = |name: &String| config.metrics.iter().any(|metric| metric.name == *name);
        if let Some(name) = state.metrics.keys().find(|name| !known(name)) {
            return foreign(name, "of a metric that is not configured");
        }
        let numbers = [
            ("stepRequests", state.step_requests),
            ("stepSeconds", state.step_seconds),
            ("maxLogE", state.max_log_e),
        ];
        if let Some((field, found)) = numbers
            .into_iter()
            .find(|(_, value)| !(*value >= 0.0 && value.is_finite()))
        {
            return Err(ResumeError::Altered { field, found });
        }
        Ok(Self {
            config,
            state,
            counters: BTreeMap::new(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &JudgeConfig {
        &self.config
    }

    /// What to keep until the next look.
    pub fn state(&self) -> &JudgeState {
        &self.state
    }

    /// Take a look's raw counters as the base of the next increments, without judging them.
    pub fn rebase(&mut self, look: &Look) {
        for metric in &self.config.metrics {
            let Some(reading) = look.metrics.get(&metric.name) else {
                continue;
            };
            let length = match metric.kind {
                MetricKind::Ratio(_) => 2,
                MetricKind::Histogram(_) => reading.le.len() + 1,
                MetricKind::Scalar(_) => continue,
            };
            let counters = self.counters.entry(metric.name.clone()).or_default();
            counters.increments(&reading.primary, &reading.canary, length);
        }
    }

    /// Judge one look. Total: whatever is missing or no number counts as not seen.
    pub fn look(&mut self, look: &Look) -> Finding {
        self.enter_step(look);
        let around = Circumstances::of(look, self.config.alpha);
        let nothing = Reading::default();
        let mut gained = 0.0_f64;
        let mut detail = BTreeMap::new();
        for metric in &self.config.metrics {
            let Some(state) = self.state.metrics.get_mut(&metric.name) else {
                continue;
            };
            let counters = self.counters.entry(metric.name.clone()).or_default();
            let reading = look.metrics.get(&metric.name).unwrap_or(&nothing);
            let played = state.play(&metric.kind, reading, counters, around);
            if metric.critical {
                gained = gained.max(played.gained);
            }
            detail.insert(
                metric.name.clone(),
                state.detail(&metric.kind, played.phi, self.config.alpha),
            );
        }
        if gained > 0.0 {
            self.state.step_requests += gained;
            self.state.step_seconds += if is_count(look.dt) { look.dt } else { 0.0 };
        }
        self.state.t = Some(look.t);

        let (culprit, log_e_all) = self.weigh_evidence();
        self.state.max_log_e = self.state.max_log_e.max(log_e_all);
        if self.state.failed.is_none() && log_e_all >= -self.config.alpha.ln() {
            self.state.failed.clone_from(&culprit);
        }
        let verdict = self.verdict(log_e_all);
        let metrics = &self.state.metrics;
        Finding {
            t: look.t,
            step: look.step.clone(),
            log_e: metrics
                .iter()
                .map(|(name, metric)| (name.clone(), metric.log_evidence()))
                .collect(),
            log_e_all,
            p_value: (-self.state.max_log_e).exp(),
            log_pass: metrics
                .iter()
                .map(|(name, metric)| (name.clone(), metric.log_pass()))
                .collect(),
            detail,
            focus: self.focus(self.state.failed.clone().or(culprit)),
            verdict,
        }
    }

    fn enter_step(&mut self, look: &Look) {
        if self.state.step.as_ref() == Some(&look.step) {
            return;
        }
        if self.state.step.replace(look.step.clone()).is_some() {
            for stream in self
                .state
                .metrics
                .values_mut()
                .flat_map(|metric| &mut metric.streams)
            {
                stream.begin_step();
            }
            self.state.step_requests = 0.0;
            self.state.step_seconds = 0.0;
        }
    }

    /// The critical metrics with their states.
    fn critical(&self) -> impl Iterator<Item = (&MetricConfig, &MetricState)> + Clone {
        self.config
            .metrics
            .iter()
            .filter(|metric| metric.critical)
            .filter_map(|metric| {
                self.state
                    .metrics
                    .get(&metric.name)
                    .map(|state| (metric, state))
            })
    }

    /// ln `w_m`, the log of a critical metric's share.
    fn log_share(&self, metric: &MetricConfig) -> f64 {
        let all: f64 = self.critical().map(|(metric, _)| metric.weight).sum();
        (metric.weight / all).ln()
    }

    /// The metric with the largest `w_m` `E_m`, the first on a tie, and ln Σ `w_m` `E_m`.
    fn weigh_evidence(&self) -> (Option<String>, f64) {
        let weighed = self.critical().map(|(metric, state)| {
            (
                self.log_share(metric) + state.log_evidence(),
                metric.name.as_str(),
            )
        });
        let largest = weighed
            .clone()
            .reduce(|best, other| if other.0 > best.0 { other } else { best });
        let all = log_sum_exp(weighed.map(|(evidence, _)| evidence));
        (largest.map(|(_, name)| name.to_owned()), all)
    }

    fn verdict(&self, log_e_all: f64) -> Verdict {
        if let Some(metric) = &self.state.failed {
            return Verdict::Fail {
                metric: metric.clone(),
            };
        }
        let sick = self
            .critical()
            .filter(|(metric, state)| state.is_primary_sick(&metric.kind));
        let mut withheld: Vec<String> = sick
            .map(|(metric, _)| format!("primary:{}", metric.name))
            .collect();
        if log_e_all >= DOUBT.ln() {
            withheld.push("doubt".to_owned());
        }
        let goal = -self.config.beta.ln();
        let shown = self
            .critical()
            .all(|(_, state)| state.log_pass().is_some_and(|log_p| log_p >= goal));
        let enough =
            !self.counts_requests() || self.state.step_requests >= self.config.min_requests;
        if shown && enough && withheld.is_empty() {
            Verdict::Pass
        } else {
            Verdict::Undecided {
                needs: self.needs(withheld.is_empty()),
                withheld,
            }
        }
    }

    fn counts_requests(&self) -> bool {
        self.critical().any(|(metric, _)| counts_requests(metric))
    }

    fn needs(&self, may_pass: bool) -> Needs {
        let fail = self.least_to_fail(false);
        let pass = if may_pass { self.most_to_pass() } else { None };
        let (towards, requests) = match (pass, fail) {
            (Some(pass), Some(fail)) if fail < pass => (Some(Outcome::Fail), Some(fail)),
            (Some(pass), _) => (Some(Outcome::Pass), Some(pass)),
            (None, Some(fail)) => (Some(Outcome::Fail), Some(fail)),
            (None, None) => (None, None),
        };
        let pace = self.state.step_requests / self.state.step_seconds;
        let pace = Some(pace).filter(|pace| *pace > 0.0 && pace.is_finite());
        Needs {
            towards,
            requests: requests.map(rounded_up),
            seconds: requests
                .zip(pace)
                .map(|(requests, pace)| requests / pace)
                .filter(|s| s.is_finite()),
            requests_if_bad: self.least_to_fail(true).map(rounded_up),
        }
    }

    /// Requests until the first critical stream alone fails the release.
    fn least_to_fail(&self, bad: bool) -> Option<f64> {
        let requests = self.critical().flat_map(|(metric, state)| {
            let goal = -self.config.alpha.ln() - self.log_share(metric) + state.log_streams();
            state
                .counting(&metric.kind)
                .filter_map(move |(stream, rules)| stream.requests_to_fail(&rules, goal, bad))
        });
        requests.reduce(f64::min)
    }

    /// Requests until every critical stream passes; none if one never does. Scalars are left out.
    fn most_to_pass(&self) -> Option<f64> {
        let mut most: Option<f64> = None;
        for (metric, state) in self
            .critical()
            .filter(|(metric, _)| counts_requests(metric))
        {
            if state.streams.is_empty() {
                return None;
            }
            for (stream, rules) in state.counting(&metric.kind) {
                let requests = stream.requests_to_pass(&rules, self.config.beta)?;
                most = Some(most.map_or(requests, |most| most.max(requests)));
            }
        }
        most.map(|most| most.max(self.config.min_requests - self.state.step_requests))
    }

    fn focus(&self, metric: Option<String>) -> Focus {
        let metric = metric.unwrap_or_default();
        let streams = self
            .state
            .metrics
            .get(&metric)
            .map(|state| state.streams.as_slice())
            .unwrap_or_default();
        let evidence = |stream: usize| {
            streams
                .get(stream)
                .map_or(0.0, |stream| stream.bettor.log_evidence())
        };
        let stream = (0..streams.len()).reduce(|best, other| {
            if evidence(other) > evidence(best) {
                other
            } else {
                best
            }
        });
        let stream = stream.unwrap_or(0);
        let by_objective = streams
            .get(stream)
            .is_some_and(|stream| stream.by_objective);
        Focus {
            metric,
            stream,
            by_objective,
            alpha: self.config.alpha,
        }
    }
}

fn counts_requests(metric: &MetricConfig) -> bool {
    match metric.kind {
        MetricKind::Ratio(_) | MetricKind::Histogram(_) => true,
        MetricKind::Scalar(_) => false,
    }
}

/// The next whole number, unless a forecast is above one by rounding alone.
fn rounded_up(requests: f64) -> f64 {
    (requests - 1e-9).ceil().max(0.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::float_cmp)]
    use super::*;

    fn config(json: &str) -> JudgeConfig {
        serde_json::from_str(json).unwrap()
    }

    fn look(json: &str) -> Look {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn new_without_metrics_judges_errors_and_latency() {
        let judge = Judge::new(config("{}")).unwrap();
        let names: Vec<&String> = judge.state().metrics.keys().collect();
        assert_eq!(names, ["errors", "latency"]);
        assert_eq!(config(r#"{"metrics":[]}"#), JudgeConfig::default());
    }

    #[test]
    fn fail_is_final_and_keeps_its_culprit() {
        let mut judge = Judge::new(config(
            r#"{"metrics":[{"name":"a","kind":"ratio"},{"name":"b","kind":"ratio"}]}"#,
        ))
        .unwrap();
        let bad = look(
            r#"{"t":1,"dt":15,"metrics":{"a":{"primary":[1000,5],"canary":[1000,5]},"b":{"primary":[1000,5],"canary":[1000,90]}}}"#,
        );
        let good = look(
            r#"{"t":2,"dt":15,"metrics":{"a":{"primary":[1000,5],"canary":[1000,5]},"b":{"primary":[1000,90],"canary":[1000,5]}}}"#,
        );
        for _ in 0..4 {
            judge.look(&bad);
        }
        for _ in 0..50 {
            assert_eq!(
                judge.look(&good).verdict,
                Verdict::Fail { metric: "b".into() }
            );
        }
    }

    #[test]
    fn resume_under_another_configuration_is_refused() {
        let one = Judge::new(config(r#"{"metrics":[{"name":"a","kind":"ratio"}]}"#)).unwrap();
        for other in [
            r#"{"metrics":[{"name":"b","kind":"ratio"}]}"#,
            r#"{"metrics":[{"name":"a","kind":"scalar"}]}"#,
            r#"{"metrics":[{"name":"a","kind":"ratio"},{"name":"b","kind":"ratio"}]}"#,
        ] {
            let error = Judge::resume(config(other), one.state().clone()).unwrap_err();
            assert!(matches!(error, ResumeError::Foreign { .. }), "{error}");
        }
        let mut altered = one.state().clone();
        altered.max_log_e = f64::NAN;
        let error = Judge::resume(one.config().clone(), altered).unwrap_err();
        assert!(
            matches!(
                error,
                ResumeError::Altered {
                    field: "maxLogE",
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn state_of_a_long_release_stays_small() {
        let mut judge = Judge::new(JudgeConfig::default()).unwrap();
        let le = "[0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10]";
        for t in 0..400 {
            let (bad, step) = (t % 7, t / 20);
            let look = look(&format!(
                r#"{{"t":{t}.25,"dt":15,"step":{step},"next":0.3,"metrics":{{"errors":{{"primary":[601,{bad}],"canary":[123,1]}},
                "latency":{{"le":{le},"primary":[2,8,98,286,509,64{bad},659,660,660,660,660,660],"canary":[0,0,14,52,105,154,163,165,165,165,165,165]}}}}}}"#
            ));
            judge.look(&look);
        }
        let streams: usize = judge
            .state()
            .metrics
            .values()
            .map(|metric| metric.streams.len())
            .sum();
        assert_eq!(streams, 3);
        let size = serde_json::to_string(judge.state()).unwrap().len();
        assert!(size < 800 * streams, "{size} bytes");
    }
}

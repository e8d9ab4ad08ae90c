//! Checks every setting before use.

use std::fmt::Display;

use thiserror::Error;

use super::{
    Compare, DispersionSetting, HistogramSettings, JudgeConfig, MetricConfig, MetricKind,
    RatioSettings, ScalarSettings,
};

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("{field} is {found}: {remedy}")]
pub struct ConfigError {
    /// The path of the field, such as `metrics[errors].maxRatio`.
    pub field: String,
    /// The value found there.
    pub found: String,
    /// What to do about it.
    pub remedy: &'static str,
}

impl JudgeConfig {
    /// Check every setting; the first that cannot be used is the error.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let top = Fields { metric: None };
        let open_unit = |v: f64| v > 0.0 && v < 1.0;
        top.number(
            "alpha",
            self.alpha,
            open_unit,
            "set a number between 0 and 1, such as 0.01",
        )?;
        top.number(
            "beta",
            self.beta,
            open_unit,
            "set a number between 0 and 1, such as 0.05",
        )?;
        top.number(
            "minRequests",
            self.min_requests,
            not_negative,
            "set a number of at least 0, such as 30",
        )?;
        for (at, metric) in self.metrics.iter().enumerate() {
            if self
                .metrics
                .iter()
                .take(at)
                .any(|other| other.name == metric.name)
            {
                return Err(error(
                    format!("metrics[{at}].name"),
                    &metric.name,
                    "give each metric a name of its own",
                ));
            }
            metric.validate(at)?;
        }
        if !self.metrics.iter().any(|metric| metric.critical) {
            let found = if self.metrics.is_empty() {
                "empty"
            } else {
                "without a critical metric"
            };
            return Err(error(
                "metrics".into(),
                &found,
                "let at least one metric be critical, else nothing is judged",
            ));
        }
        Ok(())
    }
}

impl MetricConfig {
    fn validate(&self, at: usize) -> Result<(), ConfigError> {
        if self.name.is_empty() {
            return Err(error(
                format!("metrics[{at}].name"),
                &"empty",
                "give the metric a name",
            ));
        }
        let fields = Fields {
            metric: Some(&self.name),
        };
        fields.number(
            "weight",
            self.weight,
            |v| v > 0.0 && v <= 1e9,
            "set a number above 0, such as 1",
        )?;
        match &self.kind {
            MetricKind::Ratio(settings) => settings.validate(fields),
            MetricKind::Histogram(settings) => settings.validate(fields),
            MetricKind::Scalar(settings) => settings.validate(fields),
        }
    }
}

const SHARE: &str = "set a share of requests, above 0 and at most 1";
const INCREASE: &str = "set a share of requests between 0 and 1";
const FACTOR: &str = "set a factor above 0 and at most 1000";
const SLOWER: &str =
    "set a share of time of at least 0 and at most 10, such as 0.08 for 8 % slower";

impl RatioSettings {
    fn validate(&self, fields: Fields<'_>) -> Result<(), ConfigError> {
        fields.number("maxRatio", self.max_ratio, is_factor, FACTOR)?;
        fields.number("maxIncrease", self.max_increase, is_increase, INCREASE)?;
        fields.number("badRatio", self.bad_ratio, is_factor, FACTOR)?;
        let above = |v| v >= self.max_ratio;
        fields.number(
            "badRatio",
            self.bad_ratio,
            above,
            "what is bad must not be tolerated: set at least maxRatio",
        )?;
        fields.number("harm", self.harm, is_share, SHARE)?;
        fields.optional("objective", self.objective, is_share, SHARE)?;
        fields.optional("holdAbove", self.hold_above, is_share, SHARE)?;
        fields.dispersion(self.dispersion)?;
        fields.compare(self.compare, self.objective)
    }
}

impl HistogramSettings {
    fn validate(&self, fields: Fields<'_>) -> Result<(), ConfigError> {
        let is_slower = |v: f64| (0.0..=10.0).contains(&v);
        fields.number("maxSlower", self.max_slower, is_slower, SLOWER)?;
        fields.number("maxIncrease", self.max_increase, is_increase, INCREASE)?;
        fields.number("badSlower", self.bad_slower, is_slower, SLOWER)?;
        let above = |v| v >= self.max_slower;
        fields.number(
            "badSlower",
            self.bad_slower,
            above,
            "what is bad must not be tolerated: set at least maxSlower",
        )?;
        fields.number("harm", self.harm, is_share, SHARE)?;
        let positive = |v: f64| v > 0.0 && v.is_finite();
        fields.optional(
            "bound",
            self.bound,
            positive,
            "set a time above 0 in the unit of the histogram",
        )?;
        fields.optional("objective", self.objective, is_share, SHARE)?;
        let with_bound = |_| self.bound.is_some();
        fields.optional(
            "objective",
            self.objective,
            with_bound,
            "set `bound` too: it is the share slower than that",
        )?;
        fields.optional("holdAbove", self.hold_above, is_share, SHARE)?;
        fields.dispersion(self.dispersion)?;
        fields.compare(self.compare, self.objective)
    }
}

impl ScalarSettings {
    fn validate(&self, fields: Fields<'_>) -> Result<(), ConfigError> {
        fields.number("maxRatio", self.max_ratio, is_factor, FACTOR)?;
        fields.number(
            "maxIncrease",
            self.max_increase,
            not_negative,
            "set a number of at least 0",
        )?;
        fields.optional("min", self.min, f64::is_finite, "set a finite number")?;
        fields.optional("max", self.max, f64::is_finite, "set a finite number")?;
        let above = |v| self.min.is_none_or(|min| v >= min);
        fields.optional(
            "max",
            self.max,
            above,
            "set at least `min`, else every look is worse",
        )
    }
}

fn is_factor(value: f64) -> bool {
    value > 0.0 && value <= 1000.0
}

fn is_share(value: f64) -> bool {
    value > 0.0 && value <= 1.0
}

fn is_increase(value: f64) -> bool {
    (0.0..=1.0).contains(&value)
}

fn not_negative(value: f64) -> bool {
    value >= 0.0 && value.is_finite()
}

fn error(field: String, found: &dyn Display, remedy: &'static str) -> ConfigError {
    ConfigError {
        field,
        found: found.to_string(),
        remedy,
    }
}

/// Names fields of one metric, or of the configuration itself, in errors.
#[derive(Clone, Copy)]
struct Fields<'a> {
    metric: Option<&'a str>,
}

impl Fields<'_> {
    fn path(self, field: &str) -> String {
        match self.metric {
            Some(metric) => format!("metrics[{metric}].{field}"),
            None => field.to_owned(),
        }
    }

    fn number(
        self,
        field: &str,
        value: f64,
        fits: impl Fn(f64) -> bool,
        remedy: &'static str,
    ) -> Result<(), ConfigError> {
        if fits(value) {
            Ok(())
        } else {
            Err(error(self.path(field), &value, remedy))
        }
    }

    fn optional(
        self,
        field: &str,
        value: Option<f64>,
        fits: impl Fn(f64) -> bool,
        remedy: &'static str,
    ) -> Result<(), ConfigError> {
        value.map_or(Ok(()), |value| self.number(field, value, fits, remedy))
    }

    fn dispersion(self, setting: DispersionSetting) -> Result<(), ConfigError> {
        match setting {
            DispersionSetting::Auto => Ok(()),
            DispersionSetting::Fixed(value) => {
                let fits = |v: f64| (1.0..=1e6).contains(&v);
                self.number(
                    "dispersion",
                    value,
                    fits,
                    "set `auto` or a number of at least 1",
                )
            }
        }
    }

    fn compare(self, compare: Compare, objective: Option<f64>) -> Result<(), ConfigError> {
        match (compare, objective) {
            (Compare::Objective, None) => Err(error(
                self.path("compare"),
                &"objective",
                "set `objective` too, or compare with the primary",
            )),
            (Compare::Objective | Compare::Primary, _) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn validate_of_an_unusable_setting_names_it() {
        let metric = |settings: &str| format!(r#"{{"metrics":[{{"name":"m",{settings}}}]}}"#);
        let cases = [
            (r#"{"alpha":0}"#.to_owned(), "alpha is 0"),
            (r#"{"beta":1}"#.to_owned(), "beta is 1"),
            (r#"{"minRequests":-1}"#.to_owned(), "minRequests is -1"),
            (
                metric(r#""kind":"ratio","maxRatio":0"#),
                "metrics[m].maxRatio is 0",
            ),
            (
                metric(r#""kind":"ratio","maxRatio":3"#),
                "metrics[m].badRatio is 2",
            ),
            (
                metric(r#""kind":"ratio","maxIncrease":2"#),
                "metrics[m].maxIncrease is 2",
            ),
            (metric(r#""kind":"ratio","harm":0"#), "metrics[m].harm is 0"),
            (
                metric(r#""kind":"ratio","dispersion":0.5"#),
                "metrics[m].dispersion is 0.5",
            ),
            (
                metric(r#""kind":"ratio","objective":null,"compare":"objective""#),
                "metrics[m].compare is objective",
            ),
            (
                metric(r#""kind":"ratio","weight":0"#),
                "metrics[m].weight is 0",
            ),
            (
                metric(r#""kind":"ratio","critical":false"#),
                "metrics is without a critical metric",
            ),
            (
                metric(r#""kind":"histogram","badSlower":0.01"#),
                "metrics[m].badSlower is 0.01",
            ),
            (
                metric(r#""kind":"histogram","objective":0.1"#),
                "metrics[m].objective is 0.1: set `bound` too",
            ),
            (
                metric(r#""kind":"histogram","bound":-1"#),
                "metrics[m].bound is -1",
            ),
            (
                metric(r#""kind":"scalar","min":2,"max":1"#),
                "metrics[m].max is 1",
            ),
            (
                r#"{"metrics":[{"name":"","kind":"ratio"}]}"#.to_owned(),
                "metrics[0].name is empty",
            ),
            (
                r#"{"metrics":[{"name":"m","kind":"ratio"},{"name":"m","kind":"scalar"}]}"#
                    .to_owned(),
                "metrics[1].name is m",
            ),
        ];
        for (json, expected) in cases {
            let config: JudgeConfig = serde_json::from_str(&json).unwrap();
            let error = config.validate().unwrap_err().to_string();
            assert!(error.starts_with(expected), "{json}: {error}");
        }
    }

    #[test]
    fn config_with_every_setting_round_trips() {
        let json = r#"{"alpha":0.05,"beta":0.1,"minRequests":10.0,"metrics":[
            {"name":"r","weight":2.0,"critical":false,"kind":"ratio","maxRatio":1.5,"maxIncrease":0.1,"badRatio":3.0,
             "harm":0.02,"objective":null,"holdAbove":null,"compare":"primary","dispersion":2.5,"skipCold":true},
            {"name":"h","weight":1.0,"critical":true,"kind":"histogram","maxSlower":0.1,"maxIncrease":0.1,
             "badSlower":0.5,"harm":0.02,"bound":0.3,"objective":0.1,"holdAbove":0.2,"compare":"objective",
             "dispersion":"auto","skipCold":false},
            {"name":"s","weight":1.0,"critical":true,"kind":"scalar","maxRatio":2.0,"maxIncrease":1.0,
             "worse":"lower","min":1.0,"max":2.0,"skipCold":false}]}"#;
        let config: JudgeConfig = serde_json::from_str(json).unwrap();
        config.validate().unwrap();
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(
            written,
            serde_json::from_str::<serde_json::Value>(json).unwrap()
        );
    }
}

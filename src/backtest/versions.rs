//! Versions that ran under one name: told apart by a label of their series.

use std::collections::BTreeMap;

use crate::{
    api::{MetricTemplate, judge::JudgeMetric},
    plan::{LookMetric, MetricQuery, MetricSource, SeriesQuery},
};

/// Two values of a label, such as `pod_template_hash` or `version`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versions {
    label: String,
    primary: String,
    canary: String,
}

/// Why versions cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidVersions {
    /// No label is called so.
    #[error("--by: found {0}; name a label of the series, such as pod_template_hash")]
    Label(String),
    /// Both are the same.
    #[error("--primary and --canary: found {0} twice; name two versions")]
    Same(String),
}

impl Versions {
    /// The versions at which a label has these values.
    ///
    /// # Errors
    /// When no series can have the label, or the values are the same.
    pub fn new(label: &str, primary: &str, canary: &str) -> Result<Self, InvalidVersions> {
        let is_name = |(index, c): (usize, char)| {
            c.is_ascii_alphabetic() || c == '_' || index > 0 && c.is_ascii_digit()
        };
        if label.is_empty() || !label.chars().enumerate().all(is_name) {
            return Err(InvalidVersions::Label(label.to_owned()));
        }
        if primary == canary {
            return Err(InvalidVersions::Same(primary.to_owned()));
        }
        Ok(Self {
            label: label.to_owned(),
            primary: primary.to_owned(),
            canary: canary.to_owned(),
        })
    }

    /// A metric with the queries of each version. Builtin queries ask the workload of the Canary with
    /// the label at the value; others use it as `{{ variables.LABEL }}`.
    ///
    /// # Errors
    /// When a query of the user's own does not tell versions apart, or `ask` fails.
    pub fn tell_apart(
        &self,
        metric: &JudgeMetric,
        template: Option<&MetricTemplate>,
        ask: impl Fn(&JudgeMetric) -> Result<LookMetric, String>,
    ) -> Result<LookMetric, String> {
        let own = template
            .map(|template| template.spec.query.as_str())
            .or(metric.query.as_deref())
            .filter(|query| !query.is_empty());
        if let Some(query) = own
            && !query.contains(&format!("variables.{}", self.label))
        {
            return Err(format!(
                "judge metric {}: its query does not tell versions apart; write \
                 {}=\"{{{{ variables.{} }}}}\" in it",
                metric.name, self.label, self.label
            ));
        }
        let side = |value: &str| {
            let mut metric = metric.clone();
            let variables = metric.template_variables.get_or_insert_default();
            variables.insert(self.label.clone(), value.to_owned());
            let asked = ask(&metric)?;
            let [_, mut queries] = asked.sides.clone();
            if own.is_none() {
                for SeriesQuery { query, .. } in &mut queries {
                    *query = self.choose(query, value);
                }
            }
            Ok::<_, String>((asked, queries))
        };
        let (asked, primary) = side(&self.primary)?;
        let (_, canary) = side(&self.canary)?;
        Ok(LookMetric {
            sides: [primary, canary],
            ..asked
        })
    }

    /// Makes a threshold one of the canary's version.
    pub fn choose_canary(&self, query: &mut MetricQuery) {
        if query.source == MetricSource::Builtin {
            query.query = self.choose(&query.query, &self.canary);
        }
    }

    /// Gives the canary's version to queries of the user's own.
    pub fn name(&self, variables: &mut Option<BTreeMap<String, String>>) {
        let variables = variables.get_or_insert_default();
        variables.insert(self.label.clone(), self.canary.clone());
    }

    /// A builtin query, of one version. Builtin queries have no brace but those of selectors.
    fn choose(&self, query: &str, value: &str) -> String {
        let value = value.replace('\\', r"\\").replace('"', r#"\""#);
        query.replace('{', &format!("{{{}=\"{value}\",", self.label))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        api::{Canary, judge::JudgeKind},
        measure::judging::queries,
        settings::Settings,
    };

    fn asked(metric: &JudgeMetric) -> Result<[Vec<String>; 2], String> {
        let canary: Canary = serde_json::from_value(json!({
            "apiVersion": "flagger.app/v1beta1", "kind": "Canary",
            "metadata": {"name": "shop", "namespace": "prod"},
            "spec": {
                "targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"},
                "analysis": {},
            },
        }))
        .unwrap();
        let versions = Versions::new("version", "v1", "v\"2").unwrap();
        let ask = |metric: &_| {
            queries(&canary, &Settings::default(), metric, None).map_err(|e| e.to_string())
        };
        let asked = versions.tell_apart(metric, None, ask)?;
        let texts = |side: Vec<SeriesQuery>| side.into_iter().map(|query| query.query).collect();
        Ok(asked.sides.map(texts))
    }

    #[test]
    fn builtin_queries_choose_the_version_of_one_workload() {
        let [primary, canary] = asked(&JudgeMetric::new("errors", JudgeKind::Ratio)).unwrap();
        assert!(
            primary[0].contains(r#"{version="v1",reporter="#),
            "{primary:?}"
        );
        assert!(
            primary[0].contains(r#"destination_workload="shop""#),
            "{primary:?}"
        );
        assert!(
            canary[0].contains(r#"{version="v\"2",reporter="#),
            "{canary:?}"
        );
    }

    #[test]
    fn own_queries_are_given_the_version_or_refused() {
        let mut metric = JudgeMetric::new("errors", JudgeKind::Ratio);
        metric.query = Some("bad{v=\"{{ variables.version }}\"}".to_owned());
        metric.total = Some("all{v=\"{{ variables.version }}\"}".to_owned());
        let [primary, canary] = asked(&metric).unwrap();
        assert_eq!(primary, [r#"all{v="v1"}"#, r#"bad{v="v1"}"#]);
        assert_eq!(canary[1], r#"bad{v="v\"2"}"#);
        metric.query = Some("bad".to_owned());
        let refused = asked(&metric).unwrap_err();
        assert!(refused.contains("{{ variables.version }}"), "{refused}");
    }

    #[test]
    fn versions_that_cannot_be_told_apart_are_refused() {
        for (label, primary, canary) in [
            ("", "a", "b"),
            ("a-b", "a", "b"),
            ("1a", "a", "b"),
            ("v", "a", "a"),
        ] {
            assert!(Versions::new(label, primary, canary).is_err(), "{label}");
        }
        assert!(Versions::new("_v1", "a", "b").is_ok());
    }
}

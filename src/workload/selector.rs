//! The label that tells the pods of the primary from those of the canary.

use std::collections::BTreeMap;

use super::{WorkloadError, strings};
use crate::{
    object::{At, Object},
    settings::Settings,
};

/// How the pods of a target are selected, and which label makes the difference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    /// Key of the label that differs between primary and canary.
    pub label: String,
    /// Its value at the canary; the primary has `VALUE-primary`.
    pub value: String,
    /// All `matchLabels` of the target.
    pub labels: BTreeMap<String, String>,
}

/// Reads the selector of a Deployment or DaemonSet.
///
/// # Errors
/// When `spec.selector.matchLabels` has none of the operator's selector labels.
pub fn selector(target: &Object, settings: &Settings) -> Result<Selector, WorkloadError> {
    let labels = strings(target.body.read().at("/spec/selector/matchLabels"));
    settings
        .selector_labels
        .iter()
        .find_map(|label| Some((label.clone(), labels.get(label)?.clone())))
        .map(|(label, value)| Selector {
            label,
            value,
            labels: labels.clone(),
        })
        .ok_or_else(|| WorkloadError::NoSelectorLabel {
            kind: target.key.kind.to_string().to_lowercase(),
            name: target.key.name.clone(),
            namespace: target.key.namespace.clone(),
            wanted: settings.selector_labels.join(" "),
        })
}

impl Selector {
    /// Selects the pods of the primary.
    ///
    /// All labels count, not only the one that differs: two workloads may share its value and be
    /// told apart by another, such as `app.kubernetes.io/instance`.
    pub fn primary(&self) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.insert(self.label.clone(), self.primary_value());
        labels
    }

    /// Selects the pods of the canary.
    pub fn canary(&self) -> BTreeMap<String, String> {
        self.labels.clone()
    }

    /// Value of the label that differs, at the primary.
    pub fn primary_value(&self) -> String {
        format!("{}-primary", self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        object::Kind,
        workload::fixtures::{deployment, object},
    };

    #[test]
    fn selector_takes_first_configured_label_and_keeps_the_others() {
        let found = selector(&deployment(), &Settings::default()).unwrap();
        assert_eq!(
            (found.label.as_str(), found.value.as_str()),
            ("app", "podinfo")
        );
        let primary = found.primary();
        assert_eq!(primary["app"], "podinfo-primary");
        assert_eq!(primary["app.kubernetes.io/instance"], "blue");
        assert_eq!(found.canary()["app"], "podinfo");
    }

    #[test]
    fn selector_prefers_the_order_of_the_operator() {
        let target = object(
            Kind::Deployment,
            "{metadata: {name: a}, spec: {selector: {matchLabels: {app: first, name: second}}}}",
        );
        let settings = Settings {
            selector_labels: vec!["name".to_owned(), "app".to_owned()],
            ..Settings::default()
        };
        assert_eq!(selector(&target, &settings).unwrap().value, "second");
    }

    #[test]
    fn selector_without_known_label_says_which_would_do() {
        let target = object(
            Kind::Deployment,
            "{metadata: {name: podinfo}, spec: {selector: {matchLabels: {tier: x}}}}",
        );
        let error = selector(&target, &Settings::default()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "deployment podinfo.test spec.selector.matchLabels must contain one of \
             [app name app.kubernetes.io/name]"
        );
        assert_eq!(error.reason(), "NoSelectorLabel");
    }
}

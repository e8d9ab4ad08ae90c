//! Pod anti-affinity and topology spread: a primary keeps away from primaries, not from canaries.

use serde_json::Value;

use super::{elements_mut, selector::Selector};
use crate::settings::Settings;

/// Lets the pods of a primary spread among themselves: selectors that name the workload's own
/// pods in `podAntiAffinity` and `topologySpreadConstraints` name the primary's.
pub(super) fn rewrite(pod: &mut Value, name: &str, selector: &Selector, settings: &Settings) {
    own_selectors(pod, &|key, value| {
        names_workload(key, value, name, selector, settings).then(|| format!("{value}-primary"))
    });
}

/// Undoes [`rewrite`].
pub(super) fn undo(pod: &mut Value, name: &str, selector: &Selector, settings: &Settings) {
    own_selectors(pod, &|key, value| {
        let value = value.strip_suffix("-primary")?;
        names_workload(key, value, name, selector, settings).then(|| value.to_owned())
    });
}

/// Whether a label is one by which a workload is known: a selector label with the workload's
/// name, or the label that tells primary from canary.
fn names_workload(key: &str, value: &str, name: &str, own: &Selector, settings: &Settings) -> bool {
    (value == name && settings.selector_labels.iter().any(|label| label == key))
        || (key == own.label && value == own.value)
}

fn own_selectors(pod: &mut Value, rename: &dyn Fn(&str, &str) -> Option<String>) {
    const RULES: &str = "DuringSchedulingIgnoredDuringExecution";
    for constraint in elements_mut(pod.get_mut("topologySpreadConstraints")) {
        label_selector(constraint, rename);
    }
    let Some(anti) = pod.pointer_mut("/affinity/podAntiAffinity") else {
        return;
    };
    for term in elements_mut(anti.get_mut(format!("required{RULES}"))) {
        label_selector(term, rename);
    }
    for weighted in elements_mut(anti.get_mut(format!("preferred{RULES}"))) {
        if let Some(term) = weighted.get_mut("podAffinityTerm") {
            label_selector(term, rename);
        }
    }
}

fn label_selector(holder: &mut Value, rename: &dyn Fn(&str, &str) -> Option<String>) {
    let Some(selector) = holder.get_mut("labelSelector") else {
        return;
    };
    if let Some(labels) = selector
        .get_mut("matchLabels")
        .and_then(Value::as_object_mut)
    {
        for (key, value) in labels {
            if let Some(new) = value.as_str().and_then(|value| rename(key, value)) {
                *value = Value::String(new);
            }
        }
    }
    for expression in elements_mut(selector.get_mut("matchExpressions")) {
        let Some(key) = expression.get("key").and_then(Value::as_str) else {
            continue;
        };
        let key = key.to_owned();
        for value in elements_mut(expression.get_mut("values")) {
            if let Some(new) = value.as_str().and_then(|value| rename(&key, value)) {
                *value = Value::String(new);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        object::Kind,
        workload::{
            fixtures::{deployment, object},
            selector::selector,
        },
    };

    fn rewritten(target: &crate::object::Object) -> Value {
        let settings = Settings::default();
        let selector = selector(target, &settings).unwrap();
        let mut pod = target.body.value()["spec"]["template"]["spec"].take();
        let before = pod.clone();
        rewrite(&mut pod, &target.key.name, &selector, &settings);
        let mut back = pod.clone();
        undo(&mut back, &target.key.name, &selector, &settings);
        assert_eq!(back, before);
        pod
    }

    #[test]
    fn rewrite_names_the_primary_where_pods_keep_apart() {
        let pod = rewritten(&deployment());
        let anti = &pod["affinity"]["podAntiAffinity"];
        let required = &anti["requiredDuringSchedulingIgnoredDuringExecution"][0];
        assert_eq!(
            required["labelSelector"]["matchExpressions"][0]["values"],
            serde_json::json!(["podinfo-primary", "other"])
        );
        let preferred = &anti["preferredDuringSchedulingIgnoredDuringExecution"][0];
        // `tier` is not a selector label.
        assert_eq!(
            preferred["podAffinityTerm"]["labelSelector"]["matchLabels"],
            serde_json::json!({"app": "podinfo-primary", "tier": "podinfo"})
        );
        assert_eq!(
            pod["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"]["app"],
            "podinfo-primary"
        );
        let affinity = &pod["affinity"]["podAffinity"];
        assert_eq!(
            affinity["requiredDuringSchedulingIgnoredDuringExecution"][0]["labelSelector"]["matchLabels"]
                ["app"],
            "podinfo"
        );
    }

    #[test]
    fn rewrite_knows_a_workload_by_its_label_too() {
        let target = object(
            Kind::Deployment,
            "
metadata: {name: web}
spec:
  selector: {matchLabels: {app: shop}}
  template:
    spec:
      topologySpreadConstraints:
      - labelSelector: {matchLabels: {app: shop, name: web, tier: shop}}
",
        );
        assert_eq!(
            rewritten(&target)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
            serde_json::json!({"app": "shop-primary", "name": "web-primary", "tier": "shop"})
        );
    }
}

//! What the operator may do in a cluster: the one table, which the chart's role is made from.

use serde_json::{Value, json};

/// Permission for some verbs on some resources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Plural names, with `/status` and the like.
    pub resources: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// What for.
    pub reason: &'static str,
    /// The chart's boolean value without which the rule is not needed.
    pub when: Option<&'static str>,
}

/// Verbs on what the operator makes and changes, and never deletes.
const KEPT: &[&str] = &["get", "list", "watch", "create", "patch"];

const TRACKING: Option<&str> = Some("configTracking.enabled");

/// Permissions in every namespace with Canaries.
pub const RULES: &[Rule] = &[
    Rule {
        group: "flagger.app",
        resources: &["canaries"],
        verbs: &["get", "list", "watch", "patch"],
        reason: "The releases; read to confirm a status before writes that follow from it, patched \
                 for finalizers and to take back requests that were obeyed.",
        when: None,
    },
    Rule {
        group: "flagger.app",
        resources: &["canaries/status"],
        verbs: &["patch"],
        reason: "Where a release stands.",
        when: None,
    },
    Rule {
        group: "flagger.app",
        resources: &["canaries/finalizers"],
        verbs: &["update"],
        reason: "Asked for by servers that check who makes a Canary the owner of an object.",
        when: None,
    },
    Rule {
        group: "flagger.app",
        resources: &["metrictemplates", "alertproviders"],
        verbs: &["list", "watch"],
        reason: "What releases are measured by, and who is told.",
        when: None,
    },
    Rule {
        group: "apps",
        resources: &["deployments", "daemonsets"],
        verbs: KEPT,
        reason: "Targets are read when a release begins, and scaled; primaries are made and promoted.",
        when: None,
    },
    Rule {
        group: "apps",
        resources: &["replicasets"],
        verbs: &["list", "watch"],
        reason: "Which pods are of the wanted revision; only metadata is asked for.",
        when: None,
    },
    Rule {
        group: "",
        resources: &["services"],
        verbs: KEPT,
        reason: "The apex, primary and canary services.",
        when: None,
    },
    Rule {
        group: "discovery.k8s.io",
        resources: &["endpointslices"],
        verbs: &["list", "watch"],
        reason: "Whether pods can be reached before they get traffic.",
        when: None,
    },
    Rule {
        group: "",
        resources: &["secrets"],
        verbs: &["get"],
        reason: "Credentials of metrics servers and alert channels, read by name when needed.",
        when: None,
    },
    Rule {
        group: "",
        resources: &["secrets"],
        verbs: &["list", "watch", "create", "patch"],
        reason: "Copies for primaries. Only metadata is listed and watched, never contents, but RBAC \
                 cannot tell the two apart.",
        when: TRACKING,
    },
    Rule {
        group: "",
        resources: &["configmaps"],
        verbs: &["get", "list", "watch", "create", "patch"],
        reason: "Copies for primaries; only metadata is listed and watched.",
        when: TRACKING,
    },
    Rule {
        group: "autoscaling",
        resources: &["horizontalpodautoscalers"],
        verbs: KEPT,
        reason: "Autoscalers of primaries.",
        when: None,
    },
    Rule {
        group: "keda.sh",
        resources: &["scaledobjects"],
        verbs: KEPT,
        reason: "Autoscalers of primaries; those of targets are paused.",
        when: None,
    },
    Rule {
        group: "networking.istio.io",
        resources: &["virtualservices", "destinationrules"],
        verbs: KEPT,
        reason: "Routes; read before the capacity goes that they may send users to.",
        when: None,
    },
    Rule {
        group: "gateway.networking.k8s.io",
        resources: &["httproutes"],
        verbs: KEPT,
        reason: "Routes; read before the capacity goes that they may send users to.",
        when: None,
    },
    Rule {
        group: "",
        resources: &["events"],
        verbs: &["create"],
        reason: "What happened, for people.",
        when: None,
    },
];

/// Permissions in the operator's own namespace.
pub const OWN_NAMESPACE: &[Rule] = &[Rule {
    group: "coordination.k8s.io",
    resources: &["leases"],
    verbs: &["get", "create", "update"],
    reason: "Who leads.",
    when: None,
}];

/// A role with these rules, without those that are only for a chart's value that is off.
pub fn role(rules: &[Rule], config_tracking: bool) -> Value {
    let needed = rules
        .iter()
        .filter(|rule| rule.when.is_none() || config_tracking);
    let rules: Vec<Value> = needed
        .map(|rule| json!({"apiGroups": [rule.group], "resources": rule.resources, "verbs": rule.verbs}))
        .collect();
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "rules": rules})
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Write, fs};

    use super::*;
    use crate::object::{Kind, Scope};

    /// The chart's `templates/_rules.tpl`.
    fn chart_template() -> String {
        let mut text = String::from(
            "{{/* Generated from src/controller/rbac.rs; a test compares the two. */}}\n",
        );
        for (name, rules) in [
            ("haldane.rules", RULES),
            ("haldane.ownRules", OWN_NAMESPACE),
        ] {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{{{{- define \"{name}\" -}}}}");
            for rule in rules {
                write(rule, &mut text);
            }
            text.push_str("{{- end }}\n");
        }
        text
    }

    fn write(rule: &Rule, text: &mut String) {
        let quoted = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| format!("\"{word}\"")).collect();
            words.join(", ")
        };
        let (open, close) = match rule.when {
            Some(value) => (format!("{{{{- if .Values.{value} }}}}\n"), "{{- end }}\n"),
            None => (String::new(), ""),
        };
        let _ = write!(
            text,
            "{open}# {}\n- apiGroups: [{}]\n  resources: [{}]\n  verbs: [{}]\n{close}",
            rule.reason,
            quoted(&[rule.group]),
            quoted(rule.resources),
            quoted(rule.verbs),
        );
    }

    fn verbs_of(kind: Kind) -> BTreeSet<&'static str> {
        let (group, _, _, plural) = kind.names();
        RULES
            .iter()
            .filter(|rule| rule.group == group && rule.resources.contains(&plural))
            .flat_map(|rule| rule.verbs.iter().copied())
            .collect()
    }

    #[test]
    fn chart_template_is_this_table() {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/charts/haldane/templates/_rules.tpl"
        );
        if std::env::var_os("HALDANE_WRITE_GENERATED").is_some() {
            fs::write(path, chart_template()).unwrap();
        }
        assert_eq!(
            fs::read_to_string(path).unwrap(),
            chart_template(),
            "write it anew: HALDANE_WRITE_GENERATED=1 cargo test --lib rbac"
        );
    }

    #[test]
    fn kinds_that_are_watched_may_be_and_no_others() {
        for kind in Kind::ALL {
            let watched = kind.scope() != Scope::None;
            for verb in ["list", "watch"] {
                assert_eq!(verbs_of(kind).contains(verb), watched, "{verb} {kind}");
            }
        }
    }

    #[test]
    fn rules_name_only_kinds_that_the_operator_knows() {
        let known: BTreeSet<_> = Kind::ALL
            .map(|kind| (kind.names().0, kind.names().3))
            .into();
        for rule in RULES {
            for resource in rule.resources {
                let plural = resource.split('/').next().unwrap();
                assert!(known.contains(&(rule.group, plural)), "{resource}");
            }
        }
    }

    #[test]
    fn rules_have_no_wildcards_and_grant_nothing_twice() {
        let mut seen = BTreeSet::new();
        for rule in RULES.iter().chain(OWN_NAMESPACE) {
            for resource in rule.resources {
                for verb in rule.verbs {
                    assert!(![rule.group, resource, verb].contains(&"*"), "{rule:?}");
                    assert!(seen.insert((rule.group, resource, verb)), "{rule:?}");
                }
            }
        }
    }

    #[test]
    fn secrets_are_never_deleted_and_not_listed_without_tracking() {
        assert!(!verbs_of(Kind::Secret).contains("delete"));
        for rule in RULES
            .iter()
            .filter(|rule| rule.resources.contains(&"secrets"))
        {
            assert!(rule.when == TRACKING || rule.verbs == ["get"], "{rule:?}");
        }
    }
}

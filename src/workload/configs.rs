//! ConfigMaps and Secrets that a workload uses, and their copies for the primary.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    POD_SPEC, WorkloadError, adopts, elements_mut,
    owner::{is_only_of, owner},
};
use crate::{
    api::{CONFIG_TRACKING, Canary},
    object::{At, Key, Kind, Object, Want},
    plan::ConfigCopy,
    settings::Settings,
};

/// A ConfigMap or Secret that a workload uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConfigRef {
    /// `ConfigMap` or `Secret`.
    pub kind: Kind,
    /// Name, in the workload's namespace.
    pub name: String,
    /// Whether the workload can do without it. A name that is used twice is optional only if
    /// both uses are.
    pub optional: bool,
}

/// The key of a config in `status.trackedConfigs`: `configmap/NAME` or `secret/NAME`.
pub fn tracked_key(kind: Kind, name: &str) -> String {
    format!("{}/{name}", kind.to_string().to_lowercase())
}

/// Names of copies, by kind and name of the original.
pub type Copies = BTreeMap<(Kind, String), String>;

/// The ConfigMaps and Secrets that a workload uses in volumes and environments of its
/// containers, sorted.
pub fn config_refs(target: &Object) -> Vec<ConfigRef> {
    let body = target.body.read();
    let mut refs: BTreeMap<(Kind, String), bool> = BTreeMap::new();
    if let Some(pod) = body.at(POD_SPEC) {
        for (list, uses) in USES {
            let Some(list) = pod.get(list) else { continue };
            for (kind, path, field) in uses {
                each(list, path, &mut |reference| {
                    if let Some(name) = reference.get(field).and_then(Value::as_str)
                        && !name.is_empty()
                    {
                        let optional = reference.get("optional") == Some(&Value::Bool(true));
                        *refs.entry((kind, name.to_owned())).or_insert(true) &= optional;
                    }
                });
            }
        }
    }
    refs.into_iter()
        .map(|((kind, name), optional)| ConfigRef {
            kind,
            name,
            optional,
        })
        .collect()
}

/// Makes a pod spec use copies. Names that have no copy stay.
pub fn rename_configs(pod_spec: &mut Value, copies: &Copies) {
    for_each_name(pod_spec, &mut |kind, name| {
        if let Some(copy) = copies.get(&(kind, name.clone())) {
            name.clone_from(copy);
        }
    });
}

/// Takes the names of all configs out of a pod spec, in the order of their uses.
pub(super) fn take_names(pod_spec: &mut Value) -> Vec<String> {
    let mut names = Vec::new();
    for_each_name(pod_spec, &mut |_, name| names.push(std::mem::take(name)));
    names
}

/// A way to references to a kind, and the field with the name; `*` is each element of a list.
type Use = (Kind, &'static [&'static str], &'static str);

/// Where the volumes of a pod spec refer to ConfigMaps and Secrets.
const OF_VOLUMES: [Use; 4] = {
    use Kind::{ConfigMap, Secret};
    [
        (ConfigMap, &["*", "configMap"], "name"),
        (Secret, &["*", "secret"], "secretName"),
        (
            ConfigMap,
            &["*", "projected", "sources", "*", "configMap"],
            "name",
        ),
        (
            Secret,
            &["*", "projected", "sources", "*", "secret"],
            "name",
        ),
    ]
};

/// Where its containers do.
const OF_CONTAINERS: [Use; 4] = {
    use Kind::{ConfigMap, Secret};
    [
        (
            ConfigMap,
            &["*", "env", "*", "valueFrom", "configMapKeyRef"],
            "name",
        ),
        (
            Secret,
            &["*", "env", "*", "valueFrom", "secretKeyRef"],
            "name",
        ),
        (ConfigMap, &["*", "envFrom", "*", "configMapRef"], "name"),
        (Secret, &["*", "envFrom", "*", "secretRef"], "name"),
    ]
};

/// The lists of a pod spec that refer to ConfigMaps and Secrets.
const USES: [(&str, [Use; 4]); 3] = [
    ("volumes", OF_VOLUMES),
    ("containers", OF_CONTAINERS),
    ("initContainers", OF_CONTAINERS),
];

/// Calls `visit` with all that is at a path.
fn each(value: &Value, path: &[&str], visit: &mut dyn FnMut(&Value)) {
    match path {
        [] => visit(value),
        ["*", rest @ ..] => {
            for element in value.as_array().into_iter().flatten() {
                each(element, rest, visit);
            }
        }
        [field, rest @ ..] => {
            if let Some(value) = value.get(field) {
                each(value, rest, visit);
            }
        }
    }
}

/// Like [`each`], to change it.
fn each_mut(value: &mut Value, path: &[&str], visit: &mut dyn FnMut(&mut Value)) {
    match path {
        [] => visit(value),
        ["*", rest @ ..] => {
            for element in elements_mut(Some(value)) {
                each_mut(element, rest, visit);
            }
        }
        [field, rest @ ..] => {
            if let Some(value) = value.get_mut(field) {
                each_mut(value, rest, visit);
            }
        }
    }
}

/// Calls `visit` with kind and name of each reference to a ConfigMap or Secret.
fn for_each_name(pod: &mut Value, visit: &mut dyn FnMut(Kind, &mut String)) {
    for (list, uses) in USES {
        let Some(list) = pod.get_mut(list) else {
            continue;
        };
        for (kind, path, field) in uses {
            each_mut(list, path, &mut |reference| {
                if let Some(Value::String(name)) = reference.get_mut(field)
                    && !name.is_empty()
                {
                    visit(kind, name);
                }
            });
        }
    }
}

/// Whether a ConfigMap or Secret is watched for changes and copied for the primary: tracking is
/// on, and it has not opted out by the annotation `flagger.app/config-tracking: disabled`.
/// Secrets must have a [tracked type](is_tracked_secret_type) besides.
pub fn is_tracked(settings: &Settings, source: &Object) -> bool {
    settings.config_tracking
        && source
            .annotations
            .get(CONFIG_TRACKING)
            .is_none_or(|value| !value.starts_with("disable"))
}

/// Whether Secrets of a type are tracked: credentials that people write, not those that
/// controllers make.
pub fn is_tracked_secret_type(kind: &str) -> bool {
    [
        "Opaque",
        "kubernetes.io/basic-auth",
        "kubernetes.io/ssh-auth",
        "kubernetes.io/tls",
    ]
    .contains(&kind)
}

/// The name of a config's copy: `NAME-primary`, unless that is another Canary's too; then
/// `NAME-TARGET-primary`. So no promotion changes what another workload's primary uses.
///
/// `existing` finds an object in the cache.
///
/// # Errors
/// [`WorkloadError::NameConflict`] when both names belong to somebody else.
pub fn copy_name<'a>(
    canary: &Canary,
    source: &Key,
    existing: impl Fn(&Key) -> Option<&'a Object>,
) -> Result<String, WorkloadError> {
    let [shared, own] = copy_names(&source.name, &canary.spec.target_ref.name);
    let find = |name: &str| existing(&Key::new(source.kind, &source.namespace, name));
    let this = owner(canary);
    if find(&shared).is_none_or(|copy| is_only_of(&this, copy)) {
        return Ok(shared);
    }
    if let Some(copy) = find(&own) {
        adopts(canary, copy)?;
    }
    Ok(own)
}

/// The name under which what a copy had before the last release that changed it is kept.
pub fn former_name(copy: &str) -> String {
    format!("{copy}-previous")
}

/// The names that a config's copy may have, the usual one first.
pub fn copy_names(name: &str, target: &str) -> [String; 2] {
    [
        format!("{name}-primary"),
        format!("{name}-{target}-primary"),
    ]
}

/// The copying of a config for the primary, under the name that [`copy_name`] gave.
///
/// `checksum` is that of the data which was analysed: other data is not copied. `None` copies a
/// copy as it is.
pub fn config_copy(
    canary: &Canary,
    settings: &Settings,
    source: &Object,
    checksum: Option<&str>,
    name: &str,
) -> ConfigCopy {
    let key = Key::new(source.key.kind, &source.key.namespace, name);
    let mut to = Want::new(key, json!({}));
    to.labels = source.labels.clone();
    to.labels.retain(|key, _| settings.includes_label(key));
    to.owner = Some(owner(canary));
    ConfigCopy {
        from: source.key.clone(),
        checksum: checksum.map(str::to_owned),
        to,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::fixtures::{canary, deployment, object};

    fn config(kind: Kind, name: &str, optional: bool) -> ConfigRef {
        ConfigRef {
            kind,
            name: name.to_owned(),
            optional,
        }
    }

    #[test]
    fn config_refs_finds_volumes_and_environments_once() {
        use Kind::{ConfigMap, Secret};
        let refs = config_refs(&deployment());
        assert_eq!(
            refs,
            [
                config(ConfigMap, "colors", false),
                config(ConfigMap, "environment", false),
                config(ConfigMap, "files", true),
                config(Secret, "certificate", false),
                // Optional in one place and needed in another.
                config(Secret, "database", false),
                config(Secret, "token", true),
            ]
        );
        assert_eq!(tracked_key(refs[0].kind, &refs[0].name), "configmap/colors");
        assert_eq!(
            tracked_key(refs[3].kind, &refs[3].name),
            "secret/certificate"
        );
    }

    #[test]
    fn rename_configs_renames_every_use_and_nothing_else() {
        let target = deployment();
        let mut body = target.body.value();
        let copies: Copies = config_refs(&target)
            .into_iter()
            .filter(|config| config.name != "token")
            .map(|config| {
                (
                    (config.kind, config.name.clone()),
                    format!("{}-primary", config.name),
                )
            })
            .collect();
        rename_configs(&mut body["spec"]["template"]["spec"], &copies);
        let renamed = Object {
            body: crate::object::Json::of(&body),
            ..target
        };
        let names: Vec<String> = config_refs(&renamed).into_iter().map(|c| c.name).collect();
        assert_eq!(
            names,
            [
                "colors-primary",
                "environment-primary",
                "files-primary",
                "certificate-primary",
                "database-primary",
                "token"
            ]
        );
        // A plain value that reads like a config's name.
        let env = &body["spec"]["template"]["spec"]["containers"][0]["env"];
        assert_eq!(env[2]["value"], "colors");
    }

    #[test]
    fn rename_configs_tells_kinds_apart() {
        let mut pod = json!({"volumes": [
            {"configMap": {"name": "a"}},
            {"secret": {"secretName": "a"}},
        ]});
        let copies = Copies::from([((Kind::Secret, "a".to_owned()), "b".to_owned())]);
        rename_configs(&mut pod, &copies);
        assert_eq!(
            pod,
            json!({"volumes": [
                {"configMap": {"name": "a"}},
                {"secret": {"secretName": "b"}},
            ]})
        );
    }

    #[test]
    fn is_tracked_obeys_flag_and_annotation() {
        let tracking = Settings::default();
        let off = Settings {
            config_tracking: false,
            ..Settings::default()
        };
        let plain = object(Kind::ConfigMap, "metadata: {name: a}");
        assert!(is_tracked(&tracking, &plain));
        assert!(!is_tracked(&off, &plain));
        for (value, tracked) in [("disabled", false), ("disable", false), ("enabled", true)] {
            let text = format!(
                "metadata: {{name: a, annotations: {{flagger.app/config-tracking: {value}}}}}"
            );
            let annotated = object(Kind::ConfigMap, &text);
            assert_eq!(is_tracked(&tracking, &annotated), tracked, "{value}");
        }
        assert!(is_tracked_secret_type("kubernetes.io/tls"));
        assert!(!is_tracked_secret_type(
            "kubernetes.io/service-account-token"
        ));
    }

    fn copy(name: &str, owners: &[(&str, bool)]) -> Object {
        let owners: Vec<Value> = owners
            .iter()
            .map(|(canary, controller)| {
                json!({"kind": "Canary", "name": canary, "uid": format!("uid-{canary}"), "controller": controller})
            })
            .collect();
        crate::workload::fixtures::live(
            Kind::ConfigMap,
            json!({"metadata": {"name": name, "ownerReferences": owners}}),
        )
    }

    fn name_given(existing: &[Object]) -> Result<String, WorkloadError> {
        let source = Key::new(Kind::ConfigMap, "test", "colors");
        copy_name(&canary(""), &source, |key| {
            existing.iter().find(|object| object.key == *key)
        })
    }

    #[test]
    fn copy_name_is_the_usual_one_unless_shared() {
        let usual = Ok("colors-primary".to_owned());
        let own = Ok("colors-podinfo-primary".to_owned());
        assert_eq!(name_given(&[]), usual);
        assert_eq!(
            name_given(&[copy("colors-primary", &[("podinfo", true)])]),
            usual
        );
        for owners in [
            &[("other", true)][..],
            &[("other", true), ("podinfo", false)],
            &[("podinfo", true), ("other", false)],
            &[],
        ] {
            assert_eq!(
                name_given(&[copy("colors-primary", owners)]),
                own,
                "{owners:?}"
            );
        }
    }

    #[test]
    fn copy_name_with_both_names_taken_is_a_conflict() {
        let taken = [
            copy("colors-primary", &[("other", true)]),
            copy("colors-podinfo-primary", &[]),
        ];
        assert_eq!(name_given(&taken).unwrap_err().reason(), "NameConflict");
        let ours = [
            copy("colors-primary", &[("other", true)]),
            copy("colors-podinfo-primary", &[("podinfo", true)]),
        ];
        assert_eq!(name_given(&ours).unwrap(), "colors-podinfo-primary");
    }

    #[test]
    fn config_copy_takes_over_included_labels_and_no_annotations() {
        let source = object(
            Kind::Secret,
            "metadata: {name: token, labels: {team: shop, app: podinfo}, annotations: {a: b}}",
        );
        let settings = Settings {
            include_label_prefix: vec!["te".to_owned()],
            ..Settings::default()
        };
        let copy = config_copy(
            &canary(""),
            &settings,
            &source,
            Some("0123"),
            "token-primary",
        );
        assert_eq!(copy.from, source.key);
        assert_eq!(copy.checksum.as_deref(), Some("0123"));
        assert_eq!(
            copy.to.manifest(),
            json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {
                    "name": "token-primary",
                    "namespace": "test",
                    "labels": {"team": "shop"},
                    "ownerReferences": [{
                        "apiVersion": "flagger.app/v1beta1",
                        "kind": "Canary",
                        "name": "podinfo",
                        "uid": "uid-of-canary",
                        "controller": true,
                        "blockOwnerDeletion": true,
                    }],
                },
            })
        );
    }
}

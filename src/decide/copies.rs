//! Copies of ConfigMaps and Secrets for the primary, and what they had before.

use std::collections::BTreeMap;

use crate::{
    api::{CHECKSUM, CanaryStatus, REPLACED_BY},
    object::{Key, Object},
    observe::Snapshot,
    plan::Effect,
    workload,
};

use super::facts::Facts;

/// The data that a copy carries, by its checksum.
fn carried(copy: &Object) -> Option<&String> {
    copy.annotations.get(CHECKSUM)
}

/// The release that replaced what a former copy carries.
fn replaced_by(former: &Object) -> Option<&str> {
    former.annotations.get(REPLACED_BY).map(String::as_str)
}

/// Checksums of the target's configs as the primary has them, which may lag behind.
pub(super) fn of_primary(s: &Snapshot, facts: &Facts) -> BTreeMap<String, String> {
    let mut configs = facts.configs.clone();
    for ((kind, name), copy) in &facts.copies {
        if let Some(checksum) = s.object(*kind, copy).and_then(|copy| carried(copy))
            && let Some(found) = configs.get_mut(&workload::tracked_key(*kind, name))
        {
            found.clone_from(checksum);
        }
    }
    configs
}

/// The copies whose data differ from what is to be released.
fn outdated<'a>(
    s: &'a Snapshot,
    facts: &'a Facts,
) -> impl Iterator<Item = (&'a Object, &'a str, &'a str)> {
    s.configs.iter().filter_map(|(key, config)| {
        let checksum = config.checksum.as_ref()?;
        let name = facts.copies.get(&(key.kind, key.name.clone()))?;
        let found = s.object(key.kind, name).and_then(|copy| carried(copy));
        (found != Some(checksum)).then_some((&*config.object, checksum.as_str(), name.as_str()))
    })
}

/// Gives the primary the configs that are to be released.
pub(super) fn copy(s: &Snapshot, facts: &Facts, effects: &mut Vec<Effect>) {
    for (config, checksum, name) in outdated(s, facts) {
        effects.push(write(s, config, checksum, name));
    }
}

/// Gives the primary the configs back that somebody deleted, while the target still has what was
/// promoted: its pods would not start again without them.
pub(super) fn mend(s: &Snapshot, facts: &Facts, status: &CanaryStatus, effects: &mut Vec<Effect>) {
    let Some(primary) = &facts.primary else {
        return;
    };
    if !status.phase.is_promoted() || !facts.is_applied(status) {
        return;
    }
    for (config, checksum, name) in outdated(s, facts) {
        let kind = config.key.kind;
        let is_it = |used: &workload::ConfigRef| used.kind == kind && used.name == name;
        if s.object(kind, name).is_none() && workload::config_refs(primary).iter().any(is_it) {
            effects.push(write(s, config, checksum, name));
        }
    }
}

/// The copy of a config under this name, with a mark of what it carries.
fn write(s: &Snapshot, config: &Object, checksum: &str, name: &str) -> Effect {
    let mut copy = workload::config_copy(&s.canary, &s.settings, config, Some(checksum), name);
    let mark = (CHECKSUM.to_owned(), checksum.to_owned());
    copy.to.annotations.extend([mark]);
    Effect::CopyConfig(copy)
}

/// Keeps what a promotion is about to replace, once: repeated after a crash it would keep what
/// the promotion itself wrote.
pub(super) fn keep(s: &Snapshot, facts: &Facts, effects: &mut Vec<Effect>) {
    let release = workload::release_id(&s.canary, &facts.revision, &facts.configs);
    for (config, _, name) in outdated(s, facts) {
        // A copy that Flagger made does not tell what it carries.
        let Some((copy, checksum)) = s
            .object(config.key.kind, name)
            .and_then(|copy| Some((copy, carried(copy)?)))
        else {
            continue;
        };
        let former_name = workload::former_name(name);
        if let Some(former) = s.object(config.key.kind, &former_name)
            && (replaced_by(former) == Some(&release)
                || workload::adopts(&s.canary, former).is_err())
        {
            continue;
        }
        let mut former = workload::config_copy(&s.canary, &s.settings, copy, None, &former_name);
        former.to.annotations.extend([
            (CHECKSUM.to_owned(), checksum.clone()),
            (REPLACED_BY.to_owned(), release.clone()),
        ]);
        effects.push(Effect::CopyConfig(former));
    }
}

/// Gives a primary whose promotion failed the configs back that the promotion replaced.
pub(super) fn restore(s: &Snapshot, primary: &Object, effects: &mut Vec<Effect>) {
    let release = workload::release_of(primary);
    for reference in workload::config_refs(primary) {
        let object = |name: String| {
            s.objects
                .get(&Key::new(reference.kind, s.namespace(), name))
        };
        let (Some(copy), Some(former)) = (
            object(reference.name.clone()),
            object(workload::former_name(&reference.name)),
        ) else {
            continue;
        };
        let Some(checksum) = carried(former).filter(|checksum| carried(copy) != Some(*checksum))
        else {
            continue;
        };
        if replaced_by(former) != release.as_deref() {
            continue;
        }
        let mut back = workload::config_copy(&s.canary, &s.settings, former, None, &reference.name);
        let mark = (CHECKSUM.to_owned(), checksum.clone());
        back.to.annotations.extend([mark]);
        effects.push(Effect::CopyConfig(back));
    }
}

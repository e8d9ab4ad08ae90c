//! Who owns which field: `metadata.managedFields`, and server-side apply.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::error::{Cause, Refusal};
use super::fields::FieldSet;
use super::meta::list;
use super::request::{Subresource, Target};
use super::state::{WriteOptions, metadata};
use super::typed::{Comparison, compare, field_set, merge, remove, with_named};
use crate::schema::{Schema, blank_builtin};

/// How many managers that do not apply are kept apart; older ones become `ancient-changes`.
const MANAGER_LIMIT: usize = 10;

/// What tells managers apart. The order is the order in `managedFields` among equals.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Manager {
    operation: String,
    name: String,
    /// Empty for appliers, whose entry survives a change of version.
    version: String,
    subresource: String,
}

/// What a manager owns.
#[derive(Clone, Debug, PartialEq)]
struct Entry {
    version: String,
    time: String,
    set: FieldSet,
}

type Managers = BTreeMap<Manager, Entry>;

fn read(entries: &Value) -> Managers {
    let text = |entry: &Value, field: &str| entry[field].as_str().unwrap_or_default().to_owned();
    list(entries)
        .iter()
        .filter(|entry| entry["operation"].is_string())
        .map(|entry| {
            let operation = text(entry, "operation");
            let version = text(entry, "apiVersion");
            let manager = Manager {
                name: text(entry, "manager"),
                version: if operation == "Apply" {
                    String::new()
                } else {
                    version.clone()
                },
                subresource: text(entry, "subresource"),
                operation,
            };
            let set = FieldSet::from_json(&entry["fieldsV1"]);
            let time = text(entry, "time");
            (manager, Entry { version, time, set })
        })
        .collect()
}

/// Writes entries down, together with others that stay as they are.
fn write(object: &mut Value, managers: &Managers, mut entries: Vec<Value>) {
    for (manager, entry) in managers {
        if entry.set.is_empty() {
            continue;
        }
        let mut json = json!({
            "operation": manager.operation, "apiVersion": entry.version,
            "fieldsType": "FieldsV1", "fieldsV1": entry.set.to_json(),
        });
        for (field, text) in [
            ("manager", &manager.name),
            ("subresource", &manager.subresource),
            ("time", &entry.time),
        ] {
            if !text.is_empty() {
                json[field] = json!(text);
            }
        }
        entries.push(json);
    }
    sort(&mut entries);
    let meta = metadata(object);
    if entries.is_empty() {
        meta.remove("managedFields");
    } else {
        meta.insert("managedFields".to_owned(), Value::Array(entries));
    }
}

/// Paths that nobody owns: identity and what the server writes.
fn system_fields() -> &'static FieldSet {
    static FIELDS: LazyLock<FieldSet> = LazyLock::new(list_system_fields);
    &FIELDS
}

fn list_system_fields() -> FieldSet {
    let mut set = FieldSet::default();
    set.insert(&["f:apiVersion"]);
    set.insert(&["f:kind"]);
    set.insert(&["f:metadata"]);
    for field in [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ] {
        set.insert(&["f:metadata".to_owned(), format!("f:{field}")]);
    }
    set
}

/// Paths that a request to this path of the API cannot change.
fn reset_fields(target: &Target) -> FieldSet {
    let mut set = FieldSet::default();
    match target.sub {
        Some(Subresource::Status) => {
            set.insert(&["f:spec"]);
            if target.resource.plural == "deployments" {
                set.insert(&["f:metadata", "f:labels"]);
            }
        }
        Some(Subresource::Scale) | None => {
            if target.served().is_ok_and(|version| version.status) {
                set.insert(&["f:status"]);
            }
        }
    }
    set
}

fn own_name(target: &Target) -> String {
    target
        .sub
        .map_or_else(String::new, |sub| sub.as_str().to_owned())
}

fn unmanaged(object: &Value) -> Value {
    let mut object = object.clone();
    metadata(&mut object).remove("managedFields");
    object
}

/// Notes in a new state of an object what its writer (not by apply) changed. `live` is the state before.
pub fn track(
    target: &Target,
    schema: &Schema,
    live: Option<&Value>,
    new: &mut Value,
    options: &WriteOptions,
    now: &str,
) {
    let untracked = |object: &Value| object["metadata"]["managedFields"].is_null();
    if live.is_some_and(untracked) && untracked(new) {
        return; // fields of an object that nobody tracks stay untracked
    }
    let followed = live.filter(|live| {
        target.sub != Some(Subresource::Scale)
            && new["metadata"]["managedFields"] == live["metadata"]["managedFields"]
    });
    let changes = followed.map(|live| compare(schema, Some(live), Some(new)));
    if let Some(changes) = &changes
        && track_same(target, changes, new, options, now)
    {
        return;
    }
    let mut given = new["metadata"]["managedFields"].take();
    let untouched = match (&changes, given.as_array_mut()) {
        (Some(changes), Some(entries)) if entries.len() < MANAGER_LIMIT => {
            take_untouched(entries, target, changes, options)
        }
        _ => Vec::new(),
    };
    let reset = given
        .as_array()
        .is_some_and(|entries| entries.iter().all(|entry| entry == &json!({})));
    let mut managers = match (live, &given) {
        (_, Value::Array(entries)) if reset && !entries.is_empty() => Managers::new(),
        (_, Value::Array(_)) if !untouched.is_empty() => read(&given),
        (_, Value::Array(_)) if !reset && target.sub.is_none() => read(&given),
        (Some(live), _) => read(&live["metadata"]["managedFields"]),
        (None, _) => Managers::new(),
    };
    metadata(new).remove("managedFields");
    if live.is_some() && managers.is_empty() && untouched.is_empty() {
        return; // fields of an object that nobody tracks stay untracked
    }
    let changes = changes.unwrap_or_else(|| {
        let before = live.map_or_else(|| blank(target, schema), unmanaged);
        compare(schema, Some(&before), Some(new))
    });
    let ignored = reset_fields(target);
    let taken = changes.modified.union(&changes.added).without(&ignored);
    let removed = changes.removed.without(&ignored);
    for entry in managers.values_mut() {
        entry.set = entry.set.difference(&taken).difference(&removed);
    }
    let mine = taken.difference(system_fields());
    if !mine.is_empty() {
        let version = target.resource.api_version(&target.version);
        let me = Manager {
            operation: "Update".to_owned(),
            name: options.manager.clone(),
            version: version.clone(),
            subresource: own_name(target),
        };
        let entry = managers.entry(me).or_insert_with(|| Entry {
            version,
            time: String::new(),
            set: FieldSet::default(),
        });
        entry.set.absorb(&mine);
        if target.sub == Some(Subresource::Scale) {
            entry.time.clear();
        } else {
            now.clone_into(&mut entry.time);
        }
        cap(&mut managers);
    }
    write(new, &managers, untouched);
}

/// Takes out the entries that a write leaves as they are: of others, and without a field that it
/// changed.
fn take_untouched(
    entries: &mut Vec<Value>,
    target: &Target,
    changes: &Comparison,
    options: &WriteOptions,
) -> Vec<Value> {
    let touched = |entry: &Value| {
        let fields = &entry["fieldsV1"];
        !entry["operation"].is_string()
            || is_own(entry, target, options)
            || [&changes.added, &changes.modified, &changes.removed]
                .iter()
                .any(|set| set.touches(fields))
    };
    let (concerned, untouched) = std::mem::take(entries).into_iter().partition(touched);
    *entries = concerned;
    untouched
}

/// Whether an entry is where the fields of this writer are noted.
fn is_own(entry: &Value, target: &Target, options: &WriteOptions) -> bool {
    entry["operation"] == "Update"
        && entry["manager"] == options.manager.as_str()
        && entry["apiVersion"] == target.resource.api_version(&target.version).as_str()
        && entry["subresource"].as_str().unwrap_or_default() == own_name(target)
}

/// Notes a write that moves no ownership: the writer owns all that it changed, and nothing is gone.
/// False when it is not so simple.
fn track_same(
    target: &Target,
    changes: &Comparison,
    new: &mut Value,
    options: &WriteOptions,
    now: &str,
) -> bool {
    let ignored = reset_fields(target);
    let removed = changes.removed.without(&ignored);
    let taken = changes.modified.union(&changes.added).without(&ignored);
    let mine = taken.difference(system_fields());
    if mine.is_empty() || !removed.difference(system_fields()).is_empty() {
        return false;
    }
    let Some(entries) = new["metadata"]["managedFields"].as_array_mut() else {
        return false;
    };
    let mut all = entries.iter();
    let Some(place) = all.position(|entry| is_own(entry, target, options)) else {
        return false;
    };
    let untouched = |(index, entry): (usize, &Value)| {
        let fields = &entry["fieldsV1"];
        if index == place {
            mine.is_within(fields)
        } else {
            !taken.touches(fields)
        }
    };
    if !entries.iter().enumerate().all(untouched) {
        return false;
    }
    if let Some(entry) = entries.get_mut(place) {
        entry["time"] = json!(now);
    }
    sort(entries);
    true
}

/// The order of `managedFields`.
fn sort(entries: &mut [Value]) {
    let order = |entry: &Value| {
        ["operation", "time", "manager", "apiVersion", "subresource"]
            .map(|field| entry[field].as_str().unwrap_or_default().to_owned())
    };
    if entries.len() > 1 {
        entries.sort_by_cached_key(order);
    }
}

/// An object before it exists.
pub fn blank(target: &Target, schema: &Schema) -> Value {
    let mut blank = if target.resource.custom {
        json!({})
    } else {
        blank_builtin(schema)
    };
    blank["apiVersion"] = json!(target.resource.api_version(&target.version));
    blank["kind"] = json!(target.resource.kind);
    blank
}

/// Puts the oldest managers that do not apply together when there are too many.
fn cap(managers: &mut Managers) {
    let mut updaters: Vec<Manager> = managers
        .keys()
        .filter(|manager| manager.operation == "Update")
        .cloned()
        .collect();
    updaters.sort_by_key(|manager| managers.get(manager).map(|entry| entry.time.clone()));
    let excess = updaters.len().saturating_sub(MANAGER_LIMIT);
    if excess == 0 {
        return;
    }
    for manager in updaters.into_iter().take(excess + 1) {
        let Some(entry) = managers.remove(&manager) else {
            continue;
        };
        let bucket = Manager {
            name: "ancient-changes".to_owned(),
            subresource: String::new(),
            ..manager
        };
        let kept = managers.entry(bucket).or_insert_with(|| Entry {
            set: FieldSet::default(),
            ..entry.clone()
        });
        kept.set.absorb(&entry.set);
        kept.time = kept.time.clone().max(entry.time);
    }
}

/// Applies a configuration to a live object and returns the object wanted.
///
/// # Errors
/// 400 for a configuration that cannot be merged, 409 with one cause a field that another manager owns.
pub fn apply(
    target: &Target,
    schema: &Schema,
    live: &Value,
    config: &Value,
    options: &WriteOptions,
    now: &str,
) -> Result<Value, Refusal> {
    let mut managers = read(&live["metadata"]["managedFields"]);
    if managers.is_empty() && live["metadata"]["uid"].is_string() {
        // what an object had before anybody applied belongs to a manager of this name
        let mut adopted = live.clone();
        let former = WriteOptions {
            manager: "before-first-apply".to_owned(),
            ..WriteOptions::default()
        };
        let mut main = target.clone();
        main.sub = None;
        track(&main, schema, None, &mut adopted, &former, now);
        managers = read(&adopted["metadata"]["managedFields"]);
    }
    let live = unmanaged(live);
    let merged = merge(schema, Some(&live), Some(config)).map_err(|error| {
        Refusal::new(
            500,
            "",
            format!("failed to create typed patch object: {error}"),
        )
    })?;
    let merged = merged.unwrap_or_default();
    let me = Manager {
        operation: "Apply".to_owned(),
        name: options.manager.clone(),
        version: String::new(),
        subresource: own_name(target),
    };
    let ignored = reset_fields(target);
    let claimed = field_set(schema, config).without(&ignored);
    let last = managers.get(&me).map(|entry| entry.set.clone());
    let version = target.resource.api_version(&target.version);
    let time = managers
        .get(&me)
        .map(|entry| entry.time.clone())
        .unwrap_or_default();
    managers.insert(
        me.clone(),
        Entry {
            version,
            time,
            set: claimed,
        },
    );
    let wanted = match last {
        Some(last) if !last.is_empty() => prune(schema, &merged, &last, &managers),
        _ => merged,
    };
    let changes = compare(schema, Some(&live), Some(&wanted));
    let taken = changes.modified.union(&changes.added).without(&ignored);
    let conflicts: Vec<(Manager, FieldSet)> = managers
        .iter()
        .filter(|(manager, _)| **manager != me)
        .map(|(manager, entry)| (manager.clone(), entry.set.intersection(&taken)))
        .filter(|(_, set)| !set.is_empty())
        .collect();
    if !options.force && !conflicts.is_empty() {
        return Err(conflict(&conflicts, &managers));
    }
    for (manager, entry) in &mut managers {
        if *manager == me {
            entry.set = entry.set.difference(system_fields());
            if wanted != live {
                now.clone_into(&mut entry.time);
            }
        } else {
            entry.set = entry.set.difference(&taken).difference(&changes.removed);
        }
    }
    let mut wanted = wanted;
    write(&mut wanted, &managers, Vec::new());
    Ok(wanted)
}

/// Takes out what this manager applied last time and not this time, unless another one owns it.
fn prune(schema: &Schema, merged: &Value, last: &FieldSet, managers: &Managers) -> Value {
    let named = |set: &FieldSet| with_named(schema, set);
    let all = |value: &Value| named(&field_set(schema, value));
    let cut = remove(schema, merged, &named(last));
    let owned = managers
        .values()
        .fold(FieldSet::default(), |all, entry| all.union(&entry.set));
    let kept = all(&cut).union(&named(&owned));
    let cut = remove(schema, merged, &all(merged).difference(&kept));
    let gone = all(merged)
        .difference(&all(&cut))
        .intersection(&named(last));
    remove(schema, merged, &gone)
}

fn conflict(conflicts: &[(Manager, FieldSet)], managers: &Managers) -> Refusal {
    let mut causes = Vec::new();
    for (manager, set) in conflicts {
        let version = managers
            .get(manager)
            .map(|entry| entry.version.clone())
            .unwrap_or_default();
        for path in set.paths() {
            let text = format!("conflict with {:?} using {version}", manager.name);
            causes.push(Cause::new("FieldManagerConflict", path, text));
        }
    }
    let count = causes.len();
    let text = format!(
        "Apply failed with {count} conflict{}",
        if count == 1 { "" } else { "s" }
    );
    let mut refusal = Refusal::new(409, "Conflict", text);
    refusal.details.causes = causes;
    refusal
}

//! POST, PUT and what PATCH shares with them: the way of an object into the store.

use std::sync::Arc;

use serde_json::Value;

use super::defect::Defect;
use super::error::{Cause, Refusal};
use super::request::{Subresource, Target};
use super::scale::scale_faults;
use super::shape::shape;
use super::state::{State, WriteOptions, metadata};
use super::store::{Action, Object};
use super::{builtin_rules, crd, defaults, managed, meta, validate};
use crate::schema::plain_numbers;

/// What a write answers.
#[derive(Debug)]
pub enum Written {
    /// The object is new (201).
    Created(Arc<Object>),
    /// The object changed, or is as it was (200).
    Updated(Arc<Object>),
}

impl Written {
    /// The object.
    pub fn object(&self) -> &Arc<Object> {
        match self {
            Self::Created(object) | Self::Updated(object) => object,
        }
    }
}

impl State {
    /// Makes a new object.
    ///
    /// # Errors
    /// What the API server refuses: 400, 403, 404, 409 `AlreadyExists`, 422.
    pub fn create(
        &mut self,
        target: &Target,
        mut new: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Refusal> {
        let resource = target.resource.clone();
        check_place(target, &mut new)?;
        if !new["metadata"]["resourceVersion"]
            .as_str()
            .unwrap_or_default()
            .is_empty()
        {
            return Err(Refusal::new(
                500,
                "",
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let meta = metadata(&mut new);
        for field in [
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "selfLink",
            "uid",
            "creationTimestamp",
        ] {
            meta.remove(field);
        }
        let said = |field: &str| new["metadata"][field].as_str().unwrap_or_default();
        let (name, prefix) = (said("name"), said("generateName"));
        let mut target = target.clone();
        let generates = name.is_empty() && !prefix.is_empty();
        target.name = if generates { prefix } else { name }.to_owned();
        self.admit_to_namespace(&target)?;
        if generates {
            let room: String = target.name.chars().take(58).collect();
            target.name = format!("{room}{}", self.next_suffix());
            new["metadata"]["name"] = Value::from(target.name.as_str());
        }
        if target.served()?.status
            && let Some(map) = new.as_object_mut()
        {
            map.remove("status");
        }
        if !self.has(Defect::NoShaping) {
            shape(&target, None, &mut new, options)?;
        }
        if !options.applied && !self.untracked {
            let schema = target.served()?.schema.clone();
            managed::track(&target, &schema, None, &mut new, options, &self.now());
        }
        let uid = self.next_uid();
        let now = self.now();
        let meta = metadata(&mut new);
        meta.insert("uid".to_owned(), Value::from(uid));
        meta.insert("creationTimestamp".to_owned(), Value::from(now));
        if resource.conduct.generation {
            meta.insert("generation".to_owned(), Value::from(1));
        }
        to_stored(&target, &mut new);
        if !resource.custom {
            self.allocate(&resource.plural, &mut new, None, options);
            defaults::admit(&resource.plural, &mut new, None);
            defaults::begin(&resource.plural, &mut new);
        }
        if !self.has(Defect::NoChecks) {
            check(&target, None, &new)?;
        }
        if resource.custom {
            plain_numbers(&mut new);
        }
        if self
            .store
            .get(resource.index, &target.namespace, &target.name)
            .is_some()
        {
            if self.has(Defect::ExistsAsConflict) {
                return Err(target.conflict("it exists"));
            }
            return Err(Refusal::already_exists(
                &resource.group,
                &resource.plural,
                &target.name,
            ));
        }
        if options.dry_run && !self.has(Defect::DryRunWrites) {
            return Ok(Arc::new(Object::new(new)));
        }
        let object = self.store.commit(&resource, Action::Added, new);
        if crd::is_definition(&resource) {
            return Ok(self.follow_definition(object, false));
        }
        Ok(object)
    }

    /// Gives a Service its addresses and ports; a dry run takes none, and shows always the same.
    fn allocate(
        &mut self,
        plural: &str,
        new: &mut Value,
        old: Option<&Value>,
        options: &WriteOptions,
    ) {
        if plural == "services" && !self.has(Defect::NoAllocation) {
            let dry = options.dry_run;
            defaults::allocate_service(new, old, || if dry { 0 } else { self.next_number() });
        }
    }

    /// Replaces an object.
    ///
    /// # Errors
    /// What the API server refuses: 400, 404, 409 `Conflict`, 422.
    pub fn update(
        &mut self,
        target: &Target,
        mut new: Value,
        options: &WriteOptions,
    ) -> Result<Written, Refusal> {
        let resource = target.resource.clone();
        let found = self
            .store
            .get(resource.index, &target.namespace, &target.name)
            .cloned();
        check_place(target, &mut new)?;
        let said = new["metadata"]["name"].as_str().unwrap_or_default();
        if said != target.name {
            return Err(Refusal::bad_request(format!(
                "the name of the object ({said}) does not match the name on the URL ({})",
                target.name
            )));
        }
        let Some(old) = found else {
            if resource.conduct.create_on_update && target.sub.is_none() {
                metadata(&mut new).remove("resourceVersion");
                return self.create(target, new, options).map(Written::Created);
            }
            return Err(target.not_found());
        };
        self.finish(target, &old, new, options)
            .map(Written::Updated)
    }

    /// Puts what a controller of the cluster says of an object in the place of these fields.
    ///
    /// # Errors
    /// 404 when there is no such object.
    pub fn report<const N: usize>(
        &mut self,
        target: &Target,
        fields: [(&str, Value); N],
    ) -> Result<(), Refusal> {
        let index = target.resource.index;
        let found = self.store.get(index, &target.namespace, &target.name);
        let old = found.cloned().ok_or_else(|| target.not_found())?;
        let mut new = old.value().clone();
        let is_wish = fields.iter().any(|(field, _)| *field != "status");
        if is_wish && target.resource.conduct.generation {
            let generation = new["metadata"]["generation"].as_i64();
            new["metadata"]["generation"] = Value::from(generation.unwrap_or_default() + 1);
        }
        for (field, value) in fields {
            new[field] = value;
        }
        self.store.commit(&target.resource, Action::Modified, new);
        Ok(())
    }

    /// Checks a wanted object against the stored one and stores it.
    ///
    /// # Errors
    /// What the API server refuses: 409 `Conflict`, 422.
    pub fn finish(
        &mut self,
        target: &Target,
        old: &Arc<Object>,
        mut new: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Refusal> {
        let resource = target.resource.clone();
        if !self.has(Defect::VersionIgnored) {
            check_version(target, old, &new, options)?;
        }
        if !options.shaped && !self.has(Defect::NoShaping) {
            shape(target, Some(old), &mut new, options)?;
        }
        if !options.applied && !self.has(Defect::UpdatesOwnNothing) {
            let schema = target.served()?.schema.clone();
            managed::track(
                target,
                &schema,
                Some(old.value()),
                &mut new,
                options,
                &self.now(),
            );
        }
        if !self.has(Defect::StatusNotApart) {
            narrow(target, old, &mut new);
        }
        to_stored(target, &mut new);
        if !resource.custom {
            self.allocate(&resource.plural, &mut new, Some(old.value()), options);
            defaults::admit(&resource.plural, &mut new, Some(old.value()));
        }
        let meta = metadata(&mut new);
        for field in [
            "creationTimestamp",
            "deletionTimestamp",
            "deletionGracePeriodSeconds",
            "generation",
        ] {
            keep(meta, field, &old.value()["metadata"][field]);
        }
        if meta
            .get("uid")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .is_empty()
        {
            keep(meta, "uid", &old.value()["metadata"]["uid"]);
        }
        keep(
            meta,
            "resourceVersion",
            &old.value()["metadata"]["resourceVersion"],
        );
        if resource.conduct.generation
            && target.sub != Some(Subresource::Status)
            && !self.has(Defect::GenerationNever)
            && (self.has(Defect::GenerationAlways) || wants_new(target, old.value(), &new))
        {
            let generation = old.value()["metadata"]["generation"]
                .as_i64()
                .unwrap_or_default();
            new["metadata"]["generation"] = Value::from(generation + 1);
        }
        if resource.plural == "daemonsets" {
            count_template(old.value(), &mut new);
        }
        if !self.has(Defect::NoChecks) {
            check(target, Some(old), &new)?;
        }
        if resource.custom {
            plain_numbers(&mut new);
        }
        if options.dry_run && !self.has(Defect::DryRunWrites) {
            return Ok(Arc::new(Object::new(new)));
        }
        let finalizers = meta::list(&new["metadata"]["finalizers"]).len();
        let waits = new["metadata"]["deletionGracePeriodSeconds"]
            .as_i64()
            .unwrap_or_default()
            > 0;
        if old.terminating()
            && finalizers == 0
            && !waits
            && !is_held_namespace(target, &new)
            && !self.has(Defect::LastFinalizerKeeps)
        {
            // the answer still has the version before: only the event tells the new one
            let answer = Arc::new(Object::new(new));
            let gone = self
                .store
                .commit(&resource, Action::Deleted, old.value().clone());
            if crd::is_definition(&resource) {
                self.follow_definition(gone, true);
            }
            return Ok(answer);
        }
        let idle = same_but_times(old.value(), &new) && !old.outdated();
        if idle && !self.has(Defect::IdleWriteCounts) {
            return Ok(old.clone());
        }
        let object = self.store.commit(&resource, Action::Modified, new);
        if crd::is_definition(&resource) {
            return Ok(self.follow_definition(object, false));
        }
        Ok(object)
    }
}

/// Refuses a body of another kind, version or namespace than the path says.
pub fn check_place(target: &Target, new: &mut Value) -> Result<(), Refusal> {
    let resource = &target.resource;
    if !new.is_object() {
        return Err(Refusal::bad_request(
            "the object provided is unrecognized: it is not an object",
        ));
    }
    let wanted = resource.api_version(&target.version);
    let (kind, version) = (new["kind"].as_str(), new["apiVersion"].as_str());
    if resource.custom && (kind.is_none() || version.is_none()) {
        return Err(Refusal::bad_request(
            "Object 'Kind' or 'apiVersion' is missing",
        ));
    }
    let (kind, version) = (kind.unwrap_or(&resource.kind), version.unwrap_or(&wanted));
    if resource.custom && version == wanted && kind != resource.kind {
        let name = new["metadata"]["name"].as_str().unwrap_or_default();
        let text = format!("Invalid value: \"{kind}\": must be {}", resource.kind);
        let cause = Cause::invalid("kind", text);
        return Err(Refusal::invalid(&resource.group, kind, name, vec![cause]));
    }
    if kind != resource.kind || version != wanted {
        return Err(Refusal::bad_request(format!(
            "{kind} in version \"{version}\" cannot be handled as a {} in version \"{wanted}\"",
            resource.kind
        )));
    }
    new["kind"] = Value::from(resource.kind.clone());
    new["apiVersion"] = Value::from(wanted);
    let meta = metadata(new);
    if let Some(Value::Array(owners)) = meta.get_mut("ownerReferences") {
        // an owner that is named twice in the same words is kept once
        let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
        for owner in owners.drain(..) {
            if !kept.contains(&owner) {
                kept.push(owner);
            }
        }
        *owners = kept;
    }
    if !resource.namespaced {
        meta.remove("namespace");
        return Ok(());
    }
    let said = meta
        .get("namespace")
        .and_then(Value::as_str)
        .unwrap_or_default();
    if !said.is_empty() && said != target.namespace {
        return Err(Refusal::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    meta.insert(
        "namespace".to_owned(),
        Value::from(target.namespace.clone()),
    );
    Ok(())
}

/// Lets a write change only what its path may change.
fn narrow(target: &Target, old: &Object, new: &mut Value) {
    let has_status = target.served().is_ok_and(|version| version.status);
    match target.sub {
        Some(Subresource::Status) => {
            restore(new, old.value(), &["metadata", "status"]);
            let meta = &old.value()["metadata"];
            if target.resource.custom {
                restore(&mut new["metadata"], meta, &["managedFields"]);
            } else if target.resource.plural == "deployments" {
                keep(metadata(new), "labels", &meta["labels"]);
            }
        }
        Some(Subresource::Scale) | None => {
            if has_status && let Some(map) = new.as_object_mut() {
                keep(map, "status", &old.value()["status"]);
            }
        }
    }
}

/// Brings all fields but some back to what they were.
fn restore(new: &mut Value, old: &Value, but: &[&str]) {
    let (Some(new), Some(old)) = (new.as_object_mut(), old.as_object()) else {
        return;
    };
    new.retain(|field, value| {
        if but.contains(&field.as_str()) {
            !value.is_null()
        } else {
            old.contains_key(field)
        }
    });
    for (field, value) in old {
        if !but.contains(&field.as_str()) && new.get(field) != Some(value) {
            new.insert(field.clone(), value.clone());
        }
    }
}

/// Refuses an object that breaks a rule.
fn check(target: &Target, old: Option<&Object>, new: &Value) -> Result<(), Refusal> {
    let resource = &target.resource;
    let mut causes = validate::metadata_faults(new, resource);
    if let Some(old) = old {
        let changed = meta::change_faults(old, new);
        // the rules of most kinds check the change of metadata once more
        let once = matches!(resource.plural.as_str(), "events" | "endpointslices");
        if resource.custom || !once {
            causes.extend(changed.clone());
        }
        causes.extend(changed);
    }
    if resource.custom {
        let schema = &target.served()?.schema;
        causes.extend(validate::faults(schema, new, old.map(Object::value)));
        causes.extend(scale_faults(target, new));
    } else if crd::is_definition(resource) {
        crd::parse(new)?;
    } else {
        causes.extend(builtin_rules::faults(
            &resource.plural,
            new,
            old.map(Object::value),
        ));
    }
    if causes.is_empty() {
        return Ok(());
    }
    let name = new["metadata"]["name"].as_str().unwrap_or_default();
    Err(Refusal::invalid(
        &resource.group,
        &resource.kind,
        name,
        causes,
    ))
}

/// Refuses a write that was made for another state or another life of the object.
fn check_version(
    target: &Target,
    old: &Object,
    new: &Value,
    options: &WriteOptions,
) -> Result<(), Refusal> {
    let said = |field: &str| new["metadata"][field].as_str().unwrap_or_default();
    let revision = said("resourceVersion");
    if revision.is_empty() || revision == "0" {
        if !target.resource.conduct.unconditional_update {
            let cause = Cause::invalid(
                "metadata.resourceVersion",
                "Invalid value: 0: must be specified for an update",
            );
            let resource = &target.resource;
            return Err(Refusal::invalid(
                &resource.group,
                &resource.plural,
                &target.name,
                vec![cause],
            ));
        }
    } else if revision != old.meta("resourceVersion") {
        return Err(target.conflict(
            "the object has been modified; please apply your changes to the latest version and try again",
        ));
    }
    let uid = said("uid");
    if !options.patched && !uid.is_empty() && uid != old.uid() {
        return Err(target.conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            old.uid()
        )));
    }
    Ok(())
}

/// The version in which objects are kept.
fn to_stored(target: &Target, new: &mut Value) {
    if let Some(stored) = target.resource.stored() {
        new["apiVersion"] = Value::from(target.resource.api_version(&stored.name));
    }
}

/// True when nothing differs but the times at which managers wrote.
fn same_but_times(old: &Value, new: &Value) -> bool {
    if old == new {
        return true;
    }
    let (before, after) = (
        meta::list(&old["metadata"]["managedFields"]),
        meta::list(&new["metadata"]["managedFields"]),
    );
    let same_entry = |(before, after): (&Value, &Value)| {
        [
            "manager",
            "operation",
            "apiVersion",
            "subresource",
            "fieldsV1",
        ]
        .iter()
        .all(|field| before[*field] == after[*field])
    };
    if before.len() != after.len() || !before.iter().zip(after).all(same_entry) {
        return false;
    }
    same_without(old, new, "metadata")
        && same_without(&old["metadata"], &new["metadata"], "managedFields")
}

/// True when two objects agree in all fields but one.
fn same_without(left: &Value, right: &Value, field: &str) -> bool {
    let (Some(left), Some(right)) = (left.as_object(), right.as_object()) else {
        return left == right;
    };
    left.contains_key(field) == right.contains_key(field)
        && left.len() == right.len()
        && left
            .iter()
            .all(|(key, value)| key == field || right.get(key) == Some(value))
}

/// Sets a field, or removes it when the value is null.
pub fn keep(map: &mut serde_json::Map<String, Value>, field: &str, value: &Value) {
    if value.is_null() {
        map.remove(field);
    } else if map.get(field) != Some(value) {
        map.insert(field.to_owned(), value.clone());
    }
}

/// True when a write asks for something new, so that the generation counts up.
fn wants_new(target: &Target, old: &Value, new: &Value) -> bool {
    if !target.resource.custom {
        if target.resource.plural == "endpointslices" {
            return ["endpoints", "ports", "addressType"]
                .iter()
                .any(|field| old[*field] != new[*field])
                || old["metadata"]["labels"] != new["metadata"]["labels"];
        }
        return old["spec"] != new["spec"];
    }
    let has_status = target.served().is_ok_and(|version| version.status);
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else {
        return true;
    };
    let counts = |key: &String| key != "metadata" && !(has_status && key == "status");
    let some = |map: &serde_json::Map<String, Value>, other: &serde_json::Map<String, Value>| {
        map.iter()
            .any(|(key, value)| counts(key) && other.get(key) != Some(value))
    };
    some(old, new) || some(new, old)
}

/// True for a namespace whose own finalizer is still there.
fn is_held_namespace(target: &Target, new: &Value) -> bool {
    !target.resource.custom
        && target.resource.plural == "namespaces"
        && !meta::list(&new["spec"]["finalizers"]).is_empty()
}

/// A `DaemonSet` counts the changes of its template in an annotation, whatever a writer says there.
fn count_template(old: &Value, new: &mut Value) {
    let place =
        |object: &Value| object["metadata"]["annotations"][defaults::TEMPLATE_GENERATION].clone();
    let changed = old["spec"]["template"] != new["spec"]["template"];
    let count = defaults::template_count(&place(old)) + i64::from(changed);
    new["metadata"]["annotations"][defaults::TEMPLATE_GENERATION] = Value::from(count.to_string());
}

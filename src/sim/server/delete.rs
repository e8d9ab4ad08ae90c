//! DELETE, finalizers and the collector of orphans.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::defect::Defect;
use super::error::{Cause, Refusal};
use super::meta::list;
use super::request::Target;
use super::selector::Selector;
use super::state::{State, metadata};
use super::store::{Action, Object};

/// What becomes of the objects that the deleted one owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Propagation {
    /// The collector deletes them afterwards.
    #[default]
    Background,
    /// The object waits until they are gone.
    Foreground,
    /// They stay.
    Orphan,
}

/// How to delete.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Answer as if deleted, delete nothing.
    pub dry_run: bool,
    /// What becomes of dependents; none for the default of the resource.
    pub propagation: Option<Propagation>,
    /// Only this life of the object.
    pub uid: String,
    /// Only this state of the object.
    pub revision: String,
    /// Seconds that a pod has to end.
    pub grace: Option<i64>,
}

impl DeleteOptions {
    /// Reads the body of a DELETE and its query.
    ///
    /// # Errors
    /// 422 for values that are not known.
    pub fn read(
        body: &Value,
        query_propagation: &str,
        query_dry_run: bool,
    ) -> Result<Self, Refusal> {
        let mut causes = Vec::new();
        let said = body["propagationPolicy"]
            .as_str()
            .unwrap_or(query_propagation);
        let propagation = match said {
            "" => None,
            "Background" => Some(Propagation::Background),
            "Foreground" => Some(Propagation::Foreground),
            "Orphan" => Some(Propagation::Orphan),
            _ => {
                let text = "Unsupported value: supported values: \"Background\", \"Foreground\", \"Orphan\"";
                causes.push(Cause::new(
                    "FieldValueNotSupported",
                    "propagationPolicy",
                    text,
                ));
                None
            }
        };
        // the older way to ask for one of two policies
        let orphans = body["orphanDependents"].as_bool();
        if orphans.is_some() && !said.is_empty() {
            let text = "Invalid value: orphanDependents and deletionPropagation cannot be both set";
            causes.push(Cause::invalid("propagationPolicy", text));
        }
        if !causes.is_empty() {
            return Err(Refusal::invalid("meta.k8s.io", "DeleteOptions", "", causes));
        }
        let orphans = orphans.map(|orphans| {
            if orphans {
                Propagation::Orphan
            } else {
                Propagation::Background
            }
        });
        let wanted = |field: &str| {
            body["preconditions"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        Ok(Self {
            dry_run: query_dry_run || !list(&body["dryRun"]).is_empty(),
            propagation: propagation.or(orphans),
            uid: wanted("uid"),
            revision: wanted("resourceVersion"),
            grace: body["gracePeriodSeconds"].as_i64(),
        })
    }
}

/// What a DELETE answers.
#[derive(Debug)]
pub enum Deleted {
    /// The object stays for now, marked.
    Marked(Arc<Object>),
    /// The object is gone.
    Gone(Arc<Object>),
}

impl State {
    /// Deletes an object, or marks it when something still holds it.
    ///
    /// # Errors
    /// 404, 409 when a precondition does not hold.
    pub fn delete(&mut self, target: &Target, options: &DeleteOptions) -> Result<Deleted, Refusal> {
        let resource = target.resource.clone();
        let Some(old) = self
            .store
            .get(resource.index, &target.namespace, &target.name)
            .cloned()
        else {
            return Err(target.not_found());
        };
        if !self.has(Defect::PreconditionsIgnored) {
            check_preconditions(target, &old, options)?;
        }
        let mut new = old.value().clone();
        if !self.has(Defect::PropagationIgnored) {
            set_propagation(&mut new, options.propagation);
        }
        let grace = grace(target, &old, options);
        let held = !list(&new["metadata"]["finalizers"]).is_empty() || is_namespace(target);
        if (!held || self.has(Defect::FinalizersIgnored)) && grace == 0 {
            let pod = !target.resource.custom && target.resource.plural == "pods";
            if pod {
                mark(&mut new, &old, self.now(), 0);
            }
            if options.dry_run && !self.has(Defect::DryRunWrites) {
                let shown = if pod { Arc::new(Object::new(new)) } else { old };
                return Ok(Deleted::Gone(shown));
            }
            if pod && new != *old.value() {
                // a pod is marked first, even when nothing holds it
                self.store.commit(&resource, Action::Modified, new.clone());
            }
            // what leaves is the object as it was stored, whatever the propagation took from it
            let held_by = old.value()["metadata"]["finalizers"].clone();
            super::write::keep(metadata(&mut new), "finalizers", &held_by);
            let gone = self.store.commit(&resource, Action::Deleted, new);
            if super::crd::is_definition(&resource) {
                self.follow_definition(gone.clone(), true);
            }
            return Ok(Deleted::Gone(gone));
        }
        let now = self.now();
        if is_namespace(target) {
            mark(&mut new, &old, now, 0);
            metadata(&mut new).remove("deletionGracePeriodSeconds");
            new["status"]["phase"] = json!("Terminating");
        } else {
            let kept = old.value()["metadata"]["deletionGracePeriodSeconds"].as_i64();
            mark(
                &mut new,
                &old,
                now,
                kept.map_or(grace, |kept| kept.min(grace)),
            );
        }
        if options.dry_run {
            return Ok(Deleted::Marked(Arc::new(Object::new(new))));
        }
        if new == *old.value() {
            return Ok(Deleted::Marked(old));
        }
        Ok(Deleted::Marked(self.store.commit(
            &resource,
            Action::Modified,
            new,
        )))
    }

    /// Deletes every object of a collection that a selector matches; returns what was there.
    ///
    /// # Errors
    /// As for a single deletion.
    pub fn delete_all(
        &mut self,
        target: &Target,
        selector: &Selector,
        options: &DeleteOptions,
    ) -> Result<Vec<Arc<Object>>, Refusal> {
        let found: Vec<Arc<Object>> = self
            .store
            .objects(target.resource.index)
            .values()
            .filter(|object| target.namespace.is_empty() || object.namespace() == target.namespace)
            .filter(|object| selector.matches(object.value()))
            .cloned()
            .collect();
        for object in &found {
            let mut one = target.clone();
            object.name().clone_into(&mut one.name);
            object.namespace().clone_into(&mut one.namespace);
            self.delete(&one, options)?;
        }
        Ok(found)
    }

    /// One pass of the garbage collector and of the namespace controller. Returns how many objects it
    /// changed or deleted; call it until it returns 0 to reach the end. Nothing is collected in between,
    /// as with the real one, which is asynchronous.
    pub fn collect_garbage(&mut self) -> usize {
        let mut done = self.empty_namespaces();
        let all: Vec<(Target, Arc<Object>)> = self.everything();
        let objects = all.iter().map(|(_, object)| object);
        let living = objects.map(|object| (object.uid(), object.namespace()));
        let living: BTreeSet<(&str, &str)> = living.collect();
        for (target, object) in &all {
            done += usize::from(self.collect_one(target, object, &living, &all));
        }
        done
    }

    fn everything(&self) -> Vec<(Target, Arc<Object>)> {
        let mut all = Vec::new();
        for resource in self.registry.all() {
            for object in self.store.objects(resource.index).values() {
                all.push((
                    Target::stored(resource, object.namespace(), object.name()),
                    object.clone(),
                ));
            }
        }
        all
    }

    fn collect_one(
        &mut self,
        target: &Target,
        object: &Arc<Object>,
        living: &BTreeSet<(&str, &str)>,
        all: &[(Target, Arc<Object>)],
    ) -> bool {
        let lives = |uid: &str| {
            let places = [object.namespace(), ""];
            places.iter().any(|place| living.contains(&(uid, *place)))
        };
        if !object.terminating() && lives(object.controller()) {
            // As nearly all are.
            return false;
        }
        let meta = &object.value()["metadata"];
        let finalizers = list(&meta["finalizers"]);
        let dependents = || {
            all.iter().filter(|(_, other)| {
                list(&other.value()["metadata"]["ownerReferences"])
                    .iter()
                    .any(|owner| owner["uid"] == meta["uid"])
            })
        };
        if object.terminating() && finalizers.contains(&json!("orphan")) {
            for (place, other) in dependents() {
                self.without_owner(place, other, object.uid());
            }
            return self.without_finalizer(target, "orphan");
        }
        if object.terminating() && finalizers.contains(&json!("foregroundDeletion")) {
            let mut changed = false;
            let mut blocked = false;
            for (place, other) in dependents() {
                blocked |= list(&other.value()["metadata"]["ownerReferences"])
                    .iter()
                    .any(|owner| {
                        owner["uid"] == meta["uid"] && owner["blockOwnerDeletion"] == true
                    });
                if !other.terminating() {
                    let options = DeleteOptions {
                        propagation: Some(Propagation::Foreground),
                        ..DeleteOptions::default()
                    };
                    changed |= self.delete(place, &options).is_ok();
                }
            }
            return if blocked {
                changed
            } else {
                self.without_finalizer(target, "foregroundDeletion") || changed
            };
        }
        let owners = list(&meta["ownerReferences"]);
        let here = |owner: &Value| lives(owner["uid"].as_str().unwrap_or_default());
        if owners.is_empty() || object.terminating() || owners.iter().any(here) {
            return false;
        }
        self.delete(target, &DeleteOptions::default()).is_ok()
    }

    fn without_owner(&mut self, target: &Target, object: &Arc<Object>, uid: &str) {
        let mut new = object.value().clone();
        if let Some(owners) = new["metadata"]["ownerReferences"].as_array_mut() {
            owners.retain(|owner| owner["uid"] != uid);
            if owners.is_empty() {
                metadata(&mut new).remove("ownerReferences");
            }
            self.store.commit(&target.resource, Action::Modified, new);
        }
    }

    fn without_finalizer(&mut self, target: &Target, finalizer: &str) -> bool {
        let resource = &target.resource;
        let Some(object) = self
            .store
            .get(resource.index, &target.namespace, &target.name)
            .cloned()
        else {
            return false;
        };
        let mut new = object.value().clone();
        let Some(finalizers) = new["metadata"]["finalizers"].as_array_mut() else {
            return false;
        };
        finalizers.retain(|found| found != finalizer);
        let free = finalizers.is_empty();
        if free {
            metadata(&mut new).remove("finalizers");
        }
        let action = if free {
            Action::Deleted
        } else {
            Action::Modified
        };
        self.store.commit(resource, action, new);
        true
    }

    /// Deletes the contents of namespaces that are going away, then the namespaces.
    fn empty_namespaces(&mut self) -> usize {
        let Some(namespaces) = self.registry.find("", "namespaces") else {
            return 0;
        };
        let going: Vec<Arc<Object>> = self
            .store
            .objects(namespaces.index)
            .values()
            .filter(|namespace| namespace.terminating())
            .cloned()
            .collect();
        let mut done = 0;
        for namespace in going {
            let mut left = 0;
            for (target, object) in self.everything() {
                if object.namespace() != namespace.name() {
                    continue;
                }
                left += 1;
                if !object.terminating() {
                    let options = DeleteOptions {
                        grace: Some(0),
                        ..DeleteOptions::default()
                    };
                    done += usize::from(self.delete(&target, &options).is_ok());
                }
            }
            if left == 0 {
                let mut new = namespace.value().clone();
                new["spec"] = json!({});
                let held = !list(&new["metadata"]["finalizers"]).is_empty();
                if !held {
                    self.store.commit(&namespaces, Action::Deleted, new);
                    done += 1;
                }
            }
        }
        done
    }
}

/// Seconds that the object stays after the request: a pod on a node has time to end.
fn grace(target: &Target, old: &Object, options: &DeleteOptions) -> i64 {
    let scheduled = !old.value()["spec"]["nodeName"]
        .as_str()
        .unwrap_or_default()
        .is_empty();
    if target.resource.custom || target.resource.plural != "pods" || !scheduled {
        return 0;
    }
    let phase = old.value()["status"]["phase"].as_str().unwrap_or_default();
    if matches!(phase, "Failed" | "Succeeded") {
        return 0;
    }
    let own = old.value()["spec"]["terminationGracePeriodSeconds"].as_i64();
    options.grace.or(own).unwrap_or(30).max(0)
}

/// Marks an object as being deleted.
fn mark(new: &mut Value, old: &Object, now: String, grace: i64) {
    let meta = metadata(new);
    meta.insert("deletionGracePeriodSeconds".to_owned(), Value::from(grace));
    if old.terminating() {
        return;
    }
    meta.insert("deletionTimestamp".to_owned(), Value::from(now));
    let generation = meta.get("generation").and_then(Value::as_i64);
    if let Some(generation) = generation.filter(|count| *count > 0) {
        meta.insert("generation".to_owned(), Value::from(generation + 1));
    }
}

fn is_namespace(target: &Target) -> bool {
    !target.resource.custom && target.resource.plural == "namespaces"
}

fn check_preconditions(
    target: &Target,
    old: &Object,
    options: &DeleteOptions,
) -> Result<(), Refusal> {
    for (field, wanted) in [
        ("uid", &options.uid),
        ("resourceVersion", &options.revision),
    ] {
        let found = old.meta(field);
        if !wanted.is_empty() && wanted != found {
            let text = format!(
                "the {field} in the precondition ({wanted}) does not match that of the object ({found})"
            );
            let resource = &target.resource;
            return Err(Refusal::conflict(
                &resource.group,
                &resource.kind,
                &target.name,
                &text,
            ));
        }
    }
    Ok(())
}

/// Puts the finalizer of a propagation policy in place.
fn set_propagation(object: &mut Value, propagation: Option<Propagation>) {
    let Some(propagation) = propagation else {
        return;
    };
    let mut finalizers: Vec<Value> = list(&object["metadata"]["finalizers"])
        .iter()
        .filter(|finalizer| *finalizer != "orphan" && *finalizer != "foregroundDeletion")
        .cloned()
        .collect();
    match propagation {
        Propagation::Background => {}
        Propagation::Foreground => finalizers.push(json!("foregroundDeletion")),
        Propagation::Orphan => finalizers.push(json!("orphan")),
    }
    let meta = metadata(object);
    if finalizers.is_empty() {
        meta.remove("finalizers");
    } else {
        meta.insert("finalizers".to_owned(), Value::Array(finalizers));
    }
}

//! From a request to its answer: which part of the server acts on what.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::ApiServer;
use super::delete::{DeleteOptions, Deleted};
use super::discovery::discover;
use super::error::{Cause, Refusal};
use super::intercept::Call;
use super::read::{Listing, shown, shown_list};
use super::request::{PatchKind, Request, Route, Subresource, Target, Verb, View};
use super::scale::scale_of;
use super::selector::Selector;
use super::state::{State, WriteOptions};
use super::store::Object;
use super::watch::Watch;
use super::write::Written;

/// What goes back to the client.
pub enum Answer {
    /// A document with its HTTP status code.
    Json(u16, Bytes),
    /// A stream of events.
    Watch(Box<Watch>),
}

impl Answer {
    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        match self {
            Self::Json(code, _) => *code,
            Self::Watch(_) => 200,
        }
    }
}

impl ApiServer {
    /// Acts on a request; reads see the cluster as it was `behind` revisions ago.
    ///
    /// # Errors
    /// What the API server refuses.
    pub(super) fn answer(
        &self,
        call: &Call,
        request: &Request,
        behind: u64,
    ) -> Result<Answer, Refusal> {
        let target = match &request.route {
            Route::Discovery(path) => {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                let document = self.look(|state| discover(&path, &state.registry))?;
                return Ok(Answer::Json(200, Bytes::from(document.to_string())));
            }
            Route::Objects(target) => target.clone(),
        };
        let params = &request.params;
        let selector = Selector::parse(
            &params.labels,
            &params.fields,
            &target.resource,
            &target.version,
        )?;
        match request.verb {
            Verb::Get => {
                let object = self.look(|state| state.read(&target, behind))?;
                Ok(document(200, &object, &target, request.view))
            }
            Verb::List => {
                let listing = self.look(|state| state.list(&target, params, &selector, behind))?;
                let list = shown_list(&listing, &target, request.view);
                Ok(Answer::Json(200, Bytes::from(list.to_string())))
            }
            Verb::Watch => {
                let (start, news) = self.look_mut(|state| {
                    let start = state.start_watch(&target, params, &selector)?;
                    let news = state.store.news(target.resource.index);
                    Ok((start, news.ok_or_else(Refusal::no_such_path)?))
                })?;
                let watch = Watch::open(
                    self.clone(),
                    call.clone(),
                    target,
                    selector,
                    request.view,
                    params,
                    (start, news),
                );
                Ok(Answer::Watch(Box::new(watch)))
            }
            Verb::Create | Verb::Update | Verb::Patch => self.write(call, &target, request),
            Verb::Delete | Verb::DeleteCollection => self.remove(&target, request, &selector),
        }
    }

    fn write(&self, call: &Call, target: &Target, request: &Request) -> Result<Answer, Refusal> {
        if self.makes(target, request) {
            let verb = Verb::Create;
            self.authorize(&Call {
                verb,
                ..call.clone()
            })?;
        }
        let body = request.json()?;
        let kind = match request.verb {
            Verb::Create => "CreateOptions",
            Verb::Update => "UpdateOptions",
            Verb::Get
            | Verb::List
            | Verb::Watch
            | Verb::Patch
            | Verb::Delete
            | Verb::DeleteCollection => "PatchOptions",
        };
        let options = WriteOptions::read(&request.params, &request.agent, kind)?;
        if options.force && request.content_type != "application/apply-patch+yaml" {
            let text = "Forbidden: may not be specified for non-apply patch";
            let cause = Cause::forbidden("force", text);
            return Err(Refusal::invalid("meta.k8s.io", kind, "", vec![cause]));
        }
        let written = self.look_mut(|state| match (request.verb, target.sub) {
            (Verb::Create, None) => state.create(target, body, &options).map(Written::Created),
            (Verb::Patch, Some(Subresource::Scale)) => {
                state.patch_scale(target, request.patch_kind()?, body, &options)
            }
            (Verb::Patch, _) => state.patch(target, request.patch_kind()?, body, &options),
            (Verb::Update, Some(Subresource::Scale)) => state.update_scale(target, &body, &options),
            (Verb::Update, _) => state.update(target, body, &options),
            _ => Err(Refusal::method_not_allowed()),
        })?;
        let code = match &written {
            Written::Created(_) => 201,
            Written::Updated(_) => 200,
        };
        if target.sub == Some(Subresource::Scale) {
            let scale = scale_of(target, written.object().value())?;
            return Ok(Answer::Json(code, Bytes::from(scale.to_string())));
        }
        Ok(document(code, written.object(), target, request.view))
    }

    /// True for a PUT or an applied configuration of an object that is not there: its writer needs the right
    /// to create too.
    fn makes(&self, target: &Target, request: &Request) -> bool {
        let may_make = match request.verb {
            Verb::Update => target.resource.conduct.create_on_update,
            Verb::Patch => matches!(request.patch_kind(), Ok(PatchKind::Apply)),
            Verb::Get
            | Verb::List
            | Verb::Watch
            | Verb::Create
            | Verb::Delete
            | Verb::DeleteCollection => false,
        };
        may_make
            && target.sub.is_none()
            && self.look(|state| {
                let index = target.resource.index;
                let found = state.store.get(index, &target.namespace, &target.name);
                found.is_none()
            })
    }

    fn remove(
        &self,
        target: &Target,
        request: &Request,
        selector: &Selector,
    ) -> Result<Answer, Refusal> {
        let body = if request.body.is_empty() {
            Value::Null
        } else {
            request.json()?
        };
        let params = &request.params;
        let options = DeleteOptions::read(&body, &params.propagation, !params.dry_run.is_empty())?;
        if request.verb == Verb::DeleteCollection {
            let (items, revision) = self.look_mut(|state| {
                let items = state.delete_all(target, selector, &options)?;
                Ok::<_, Refusal>((items, state.store.revision()))
            })?;
            let listing = Listing {
                items,
                revision,
                resume: None,
                remaining: None,
            };
            let list = shown_list(&listing, target, request.view);
            return Ok(Answer::Json(200, Bytes::from(list.to_string())));
        }
        match self.look_mut(|state| state.delete(target, &options))? {
            Deleted::Marked(object) => Ok(document(200, &object, target, request.view)),
            Deleted::Gone(object) if target.resource.conduct.returns_deleted => {
                Ok(document(200, &object, target, request.view))
            }
            Deleted::Gone(object) => {
                let resource = &target.resource;
                let mut status = json!({
                    "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
                    "details": {"name": object.name(), "kind": resource.plural, "uid": object.uid()},
                });
                if !resource.group.is_empty() {
                    status["details"]["group"] = json!(resource.group);
                }
                Ok(Answer::Json(200, Bytes::from(status.to_string())))
            }
        }
    }
}

fn document(code: u16, object: &Arc<Object>, target: &Target, view: View) -> Answer {
    let resource = &target.resource;
    let stored = resource
        .stored()
        .is_some_and(|stored| stored.name == target.version);
    let text = if view == View::Full && stored {
        object.text()
    } else {
        Bytes::from(shown(object, resource, &target.version, view).to_string())
    };
    Answer::Json(code, text)
}

impl State {
    /// Replaces the `Scale` of an object.
    ///
    /// # Errors
    /// As for [`update`](Self::update).
    pub fn update_scale(
        &mut self,
        target: &Target,
        scale: &Value,
        options: &WriteOptions,
    ) -> Result<Written, Refusal> {
        let index = target.resource.index;
        let found = self
            .store
            .get(index, &target.namespace, &target.name)
            .cloned();
        let old = found.ok_or_else(|| target.not_found())?;
        let path = target
            .served()?
            .scale
            .as_ref()
            .map(|paths| paths.spec.clone());
        let mut new = old.value().clone();
        let wanted = scale["spec"]["replicas"].as_i64().unwrap_or_default();
        if wanted < 0 {
            let text = format!("Invalid value: {wanted}: must be greater than or equal to 0");
            let cause = Cause::invalid("spec.replicas", text);
            return Err(Refusal::invalid(
                "autoscaling",
                "Scale",
                &target.name,
                vec![cause],
            ));
        }
        let path = path.unwrap_or_default();
        let place = path.split('.').try_fold(&mut new, |found, part| {
            if !found.is_object() {
                *found = json!({});
            }
            found
                .as_object_mut()
                .map(|map| map.entry(part.to_owned()).or_insert(Value::Null))
        });
        if let Some(place) = place {
            *place = Value::from(wanted);
        }
        for field in ["resourceVersion", "uid"] {
            let said = &scale["metadata"][field];
            if said.as_str().is_some_and(|text| !text.is_empty()) {
                new["metadata"][field] = said.clone();
            }
        }
        self.finish(target, &old, new, options)
            .map(Written::Updated)
    }

    /// Changes the `Scale` of an object by a patch.
    ///
    /// # Errors
    /// As for [`patch`](Self::patch).
    pub fn patch_scale(
        &mut self,
        target: &Target,
        kind: PatchKind,
        patch: Value,
        options: &WriteOptions,
    ) -> Result<Written, Refusal> {
        let index = target.resource.index;
        let found = self.store.get(index, &target.namespace, &target.name);
        let mut scale = scale_of(target, found.ok_or_else(|| target.not_found())?.value())?;
        super::patch::change(&mut scale, kind, patch)?;
        self.update_scale(target, &scale, options)
    }
}

//! GET and LIST.

use std::sync::Arc;

use serde_json::{Value, json};

use super::defaults;
use super::defect::Defect;
use super::error::{Cause, Refusal};
use super::request::{Params, Subresource, Target, View};
use super::resource::Resource;
use super::scale::{check_scale, scale_of};
use super::selector::Selector;
use super::state::State;
use super::store::{Key, Object, Objects};

/// A list as it is answered.
#[derive(Debug)]
pub struct Listing {
    /// The objects, in order.
    pub items: Vec<Arc<Object>>,
    /// The revision that the list shows.
    pub revision: u64,
    /// The token for the next page.
    pub resume: Option<String>,
    /// How many objects are left, when that is known.
    pub remaining: Option<usize>,
}

impl State {
    /// One object, as it is or as it was `behind` revisions ago.
    ///
    /// # Errors
    /// 404.
    pub fn read(&self, target: &Target, behind: u64) -> Result<Arc<Object>, Refusal> {
        let index = target.resource.index;
        let key: Key = (target.namespace.clone(), target.name.clone());
        let found = if behind == 0 {
            self.store.objects(index).get(&key).cloned()
        } else {
            self.past(index, behind).0.get(&key).cloned()
        };
        let object = found.ok_or_else(|| target.not_found())?;
        match target.sub {
            Some(Subresource::Scale) => {
                check_scale(target, object.value())?;
                Ok(Arc::new(Object::new(scale_of(target, object.value())?)))
            }
            Some(Subresource::Status) | None => Ok(object),
        }
    }

    /// The objects as they were so many revisions ago, with that revision.
    fn past(&self, index: usize, behind: u64) -> (Objects, u64) {
        let revision = self
            .store
            .revision()
            .saturating_sub(behind)
            .max(self.store.compacted());
        let objects = self.store.objects_at(index, revision);
        (objects.unwrap_or_default(), revision)
    }

    /// The objects of a collection that match.
    ///
    /// # Errors
    /// 400 and 422 for parameters that make no sense, 410 when the asked revision is forgotten, 504 when it
    /// has not come yet.
    pub fn list(
        &self,
        target: &Target,
        params: &Params,
        selector: &Selector,
        behind: u64,
    ) -> Result<Listing, Refusal> {
        check_list(params)?;
        let index = target.resource.index;
        let now = self.store.revision();
        let (mut revision, mut after) = (now, None);
        if behind > 0 {
            revision = now.saturating_sub(behind).max(self.store.compacted());
        }
        if let Some((pinned, key)) = parse_token(&params.resume)? {
            if !matches!(params.revision.as_str(), "" | "0") {
                return Err(Refusal::bad_request(
                    "specifying resource version is not allowed when using continue",
                ));
            }
            let drifts = self.has(Defect::PagesDrift);
            (revision, after) = (if drifts { now } else { pinned }, Some(key));
        } else {
            let asked = parse_revision(&params.revision)?;
            if asked > now {
                let text = format!("Too large resource version: {asked}, current: {now}");
                let mut refusal = Refusal::new(504, "Timeout", text).retry_after(1);
                refusal.details.causes.push(Cause::new(
                    "ResourceVersionTooLarge",
                    "",
                    "Too large resource version",
                ));
                return Err(refusal);
            }
            if asked > 0
                && (params.revision_match == "Exact"
                    || (params.limit > 0 && params.revision_match.is_empty()))
            {
                revision = asked;
            }
        }
        let past;
        let objects = if revision == now {
            self.store.objects(index)
        } else {
            past = self.store.objects_at(index, revision).ok_or_else(|| {
                let mut refusal = Refusal::expired(
                    "The provided continue parameter is too old to display a consistent list result. \
                     You can start a new list without the continue parameter.",
                );
                if let Some(key) = &after {
                    refusal.details.resume = Some(token(now, key));
                }
                refusal
            })?;
            &past
        };
        let mut matching = objects
            .iter()
            .filter(|(key, _)| target.namespace.is_empty() || key.0 == target.namespace)
            .filter(|(key, _)| after.as_ref().is_none_or(|after| *key > after))
            .filter(|(_, object)| {
                self.has(Defect::ListIgnoresSelector) || selector.matches(object.value())
            });
        let limit = if params.limit == 0 {
            usize::MAX
        } else {
            params.limit
        };
        let page: Vec<(&Key, &Arc<Object>)> = matching.by_ref().take(limit).collect();
        let left = matching.count();
        let resume = match page.last() {
            Some((key, _)) if left > 0 => Some(token(revision, key)),
            _ => None,
        };
        Ok(Listing {
            items: page.into_iter().map(|(_, object)| object.clone()).collect(),
            revision,
            remaining: (left > 0 && selector.is_empty()).then_some(left),
            resume,
        })
    }
}

fn check_list(params: &Params) -> Result<(), Refusal> {
    let mut causes = Vec::new();
    if params.initial_events.is_some() {
        let text = "Forbidden: sendInitialEvents is forbidden for list";
        causes.push(Cause::forbidden("sendInitialEvents", text));
    }
    let asked = &params.revision_match;
    if !asked.is_empty() {
        if !params.resume.is_empty() {
            let text = "Forbidden: resourceVersionMatch is forbidden when continue is provided";
            causes.push(Cause::forbidden("resourceVersionMatch", text));
        }
        if params.revision.is_empty() {
            let text =
                "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
            causes.push(Cause::forbidden("resourceVersionMatch", text));
        }
        if asked != "Exact" && asked != "NotOlderThan" {
            let text = "Unsupported value: supported values: \"Exact\", \"NotOlderThan\"";
            causes.push(Cause::new(
                "FieldValueNotSupported",
                "resourceVersionMatch",
                text,
            ));
        }
        if asked == "Exact" && params.revision == "0" {
            let text =
                "Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            causes.push(Cause::forbidden("resourceVersionMatch", text));
        }
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Refusal::invalid("meta.k8s.io", "ListOptions", "", causes))
    }
}

/// A `resourceVersion` of a query; 0 when absent.
///
/// # Errors
/// 400 when it is not a number.
pub fn parse_revision(text: &str) -> Result<u64, Refusal> {
    if text.is_empty() {
        return Ok(0);
    }
    text.parse().map_err(|_| {
        Refusal::bad_request(format!(
            "invalid resource version: Invalid value: \"{text}\": strconv.ParseUint: parsing \"{text}\": invalid syntax"
        ))
    })
}

fn token(revision: u64, key: &Key) -> String {
    format!("{revision}_{}_{}", key.0, key.1)
}

fn parse_token(token: &str) -> Result<Option<(u64, Key)>, Refusal> {
    if token.is_empty() {
        return Ok(None);
    }
    let mut parts = token.splitn(3, '_');
    let parsed = (|| {
        let revision = parts.next()?.parse().ok()?;
        Some((
            revision,
            (parts.next()?.to_owned(), parts.next()?.to_owned()),
        ))
    })();
    match parsed {
        Some(parsed) => Ok(Some(parsed)),
        None => Err(Refusal::bad_request("continue key is not valid")),
    }
}

/// An object as an answer shows it.
pub fn shown(object: &Object, resource: &Resource, version: &str, view: View) -> Value {
    match view {
        View::Metadata => {
            let mut metadata = object.value()["metadata"].clone();
            if !resource.custom && resource.plural == "daemonsets" {
                defaults::hide_template_count(&mut metadata);
            }
            json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata})
        }
        View::Full => {
            let mut value = object.value().clone();
            if value["kind"] == resource.kind.as_str() {
                value["apiVersion"] = Value::from(resource.api_version(version));
            }
            value
        }
    }
}

/// A list as an answer shows it.
pub fn shown_list(listing: &Listing, target: &Target, view: View) -> Value {
    let resource = &target.resource;
    let items: Vec<Value> = listing
        .items
        .iter()
        .map(|object| {
            let mut item = shown(object, resource, &target.version, view);
            if view == View::Full
                && !resource.custom
                && let Some(map) = item.as_object_mut()
            {
                map.remove("kind");
                map.remove("apiVersion");
            }
            item
        })
        .collect();
    let mut metadata = json!({"resourceVersion": listing.revision.to_string()});
    if resource.custom && view == View::Full {
        metadata["continue"] = json!("");
    }
    if let Some(token) = &listing.resume {
        metadata["continue"] = json!(token);
    }
    if let Some(left) = listing.remaining {
        metadata["remainingItemCount"] = json!(left);
    }
    let (kind, version) = match view {
        View::Full => (
            format!("{}List", resource.kind),
            resource.api_version(&target.version),
        ),
        View::Metadata => (
            "PartialObjectMetadataList".to_owned(),
            "meta.k8s.io/v1".to_owned(),
        ),
    };
    let none = view == View::Metadata && items.is_empty();
    let items = if none {
        Value::Null
    } else {
        Value::Array(items)
    };
    json!({"kind": kind, "apiVersion": version, "metadata": metadata, "items": items})
}

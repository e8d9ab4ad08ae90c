//! WATCH: a stream of changes.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use futures::stream::{self, Stream};
use serde_json::{Value, json};
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, sleep, sleep_until};

use super::ApiServer;
use super::defect::Defect;
use super::error::{Cause, Refusal};
use super::intercept::{Call, Delivery, WatchEvent};
use super::read::{parse_revision, shown};
use super::request::{Params, Target, View};
use super::selector::Selector;
use super::state::State;
use super::store::{Action, Change, Object};

/// A watch that closes by itself lives this long when the client names no time.
const LIFETIME: std::time::Duration = std::time::Duration::from_mins(30);

/// An open watch.
pub struct Watch {
    server: ApiServer,
    call: Call,
    target: Target,
    selector: Selector,
    view: View,
    bookmarks: bool,
    cursor: u64,
    queue: VecDeque<Pending>,
    ends: Instant,
    news: Receiver<u64>,
    done: bool,
}

/// An event that has not left yet.
enum Pending {
    Event(Action, Arc<Object>, u64),
    /// A bookmark; with the mark of the end of the initial events.
    Bookmark(u64, bool),
}

/// What a watch is asked for, checked.
pub struct WatchStart {
    cursor: u64,
    initial: Vec<Arc<Object>>,
    end_mark: bool,
}

impl State {
    /// Checks the parameters of a watch and finds where it starts.
    ///
    /// # Errors
    /// 422 for parameters that make no sense.
    pub fn start_watch(
        &self,
        target: &Target,
        params: &Params,
        selector: &Selector,
    ) -> Result<WatchStart, Refusal> {
        check_watch(params)?;
        let asked = parse_revision(&params.revision)
            .map_err(|refusal| Refusal::new(500, "", refusal.details.message))?;
        let from_now = asked == 0 || params.initial_events == Some(true);
        if !from_now || params.initial_events == Some(false) {
            let cursor = if asked == 0 || self.has(Defect::WatchForgetsRevision) {
                self.store.revision()
            } else {
                asked
            };
            // a revision that is forgotten is answered in the stream, as the real server does
            return Ok(WatchStart {
                cursor,
                initial: Vec::new(),
                end_mark: false,
            });
        }
        let initial = self
            .store
            .objects(target.resource.index)
            .values()
            .filter(|object| in_scope(target, object) && selector.matches(object.value()))
            .cloned()
            .collect();
        Ok(WatchStart {
            cursor: self.store.revision(),
            initial,
            end_mark: params.initial_events == Some(true) && params.bookmarks,
        })
    }
}

fn check_watch(params: &Params) -> Result<(), Refusal> {
    let mut causes = Vec::new();
    let asked = &params.revision_match;
    match params.initial_events {
        None if !asked.is_empty() => {
            let text = "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
            causes.push(Cause::forbidden("resourceVersionMatch", text));
        }
        Some(_) if asked.is_empty() => {
            let text = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            causes.push(Cause::forbidden("resourceVersionMatch", text));
        }
        Some(_) if asked != "NotOlderThan" => {
            let text = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            causes.push(Cause::forbidden("resourceVersionMatch", text));
            let text = "Unsupported value: supported values: \"NotOlderThan\"";
            causes.push(Cause::new(
                "FieldValueNotSupported",
                "resourceVersionMatch",
                text,
            ));
        }
        None | Some(_) => {}
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Refusal::invalid("meta.k8s.io", "ListOptions", "", causes))
    }
}

fn in_scope(target: &Target, object: &Object) -> bool {
    (target.namespace.is_empty() || object.namespace() == target.namespace)
        && (target.name.is_empty() || object.name() == target.name)
}

impl Watch {
    /// A watch of `target`, from where `start` says.
    pub fn open(
        server: ApiServer,
        call: Call,
        target: Target,
        selector: Selector,
        view: View,
        params: &Params,
        (start, news): (WatchStart, Receiver<u64>),
    ) -> Self {
        let life = params
            .timeout
            .map_or(LIFETIME, std::time::Duration::from_secs);
        let mut queue: VecDeque<Pending> = start
            .initial
            .into_iter()
            .map(|object| {
                let revision = object.revision();
                Pending::Event(Action::Added, object, revision)
            })
            .collect();
        if start.end_mark {
            queue.push_back(Pending::Bookmark(start.cursor, true));
        }
        Self {
            server,
            call,
            target,
            selector,
            view,
            // a watch that lives only moments says nothing at its end
            bookmarks: params.bookmarks && life > std::time::Duration::from_secs(2),
            cursor: start.cursor,
            queue,
            ends: Instant::now() + life,
            news,
            done: false,
        }
    }

    /// The lines of the answer's body.
    pub fn lines(self) -> impl Stream<Item = Bytes> + Send {
        stream::unfold(self, |mut watch| async move {
            let line = watch.next_line().await?;
            Some((line, watch))
        })
    }

    async fn next_line(&mut self) -> Option<Bytes> {
        loop {
            if self.done {
                return None;
            }
            if self.queue.is_empty() && !self.refill() {
                self.done = true;
                return Some(error_line(&Refusal::expired("too old resource version")));
            }
            if let Some(pending) = self.queue.pop_front() {
                let Pending::Event(action, object, revision) = &pending else {
                    return Some(self.line(&pending));
                };
                let event = WatchEvent {
                    action: *action,
                    object,
                    revision: *revision,
                };
                match self.server.deliver(&self.call, event) {
                    Delivery::Deliver => return Some(self.line(&pending)),
                    Delivery::Drop => continue,
                    Delivery::Hold(time) => {
                        sleep(time).await;
                        return Some(self.line(&pending));
                    }
                    Delivery::Wait => self.queue.push_front(pending),
                    Delivery::Close => return None,
                    Delivery::Merge(time) => {
                        sleep(time).await;
                        self.done = true;
                        return Some(error_line(&Refusal::expired("too old resource version")));
                    }
                    Delivery::Expire => {
                        self.done = true;
                        return Some(error_line(&Refusal::expired("too old resource version")));
                    }
                }
            }
            tokio::select! {
                biased;
                changed = self.news.changed() => if changed.is_err() { return None; },
                () = sleep_until(self.ends) => {
                    self.done = true;
                    return (self.bookmarks && self.queue.is_empty())
                        .then(|| self.line(&Pending::Bookmark(self.cursor, false)));
                }
            }
        }
    }

    /// Takes the changes since the last look; false when some of them are forgotten.
    fn refill(&mut self) -> bool {
        let (target, selector, queue) = (&self.target, &self.selector, &mut self.queue);
        let cursor = self.cursor;
        let seen = self.server.look(|state| {
            let renewed = state.store.renewed(target.resource.index);
            let changes = state.store.since(cursor).filter(|_| cursor >= renewed)?;
            let everything = Selector::default();
            let selector = if state.has(Defect::WatchIgnoresSelector) {
                &everything
            } else {
                selector
            };
            let misses = state.has(Defect::WatchMissesDeletes);
            let seen = changes.filter(|change| !(misses && change.action == Action::Deleted));
            queue.extend(seen.filter_map(|change| translate(change, target, selector)));
            Some(state.store.revision())
        });
        match seen {
            Some(revision) => {
                self.cursor = self.cursor.max(revision);
                true
            }
            None => false,
        }
    }

    fn line(&self, pending: &Pending) -> Bytes {
        let (resource, version) = (&self.target.resource, &self.target.version);
        match pending {
            Pending::Event(action, object, _) => {
                let word = match action {
                    Action::Added => "ADDED",
                    Action::Modified => "MODIFIED",
                    Action::Deleted => "DELETED",
                };
                let stored = resource
                    .stored()
                    .is_some_and(|stored| stored.name == *version);
                let text = if self.view == View::Full && stored {
                    object.text()
                } else {
                    let shown = shown(object, resource, version, self.view);
                    Bytes::from(serde_json::to_vec(&shown).unwrap_or_default())
                };
                let mut line = Vec::with_capacity(text.len() + 40);
                line.extend_from_slice(b"{\"type\":\"");
                line.extend_from_slice(word.as_bytes());
                line.extend_from_slice(b"\",\"object\":");
                line.extend_from_slice(&text);
                line.extend_from_slice(b"}\n");
                Bytes::from(line)
            }
            Pending::Bookmark(revision, end) => {
                let mut metadata = json!({"resourceVersion": revision.to_string()});
                if *end {
                    metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
                }
                let (kind, api_version) = match self.view {
                    View::Full => (resource.kind.clone(), resource.api_version(version)),
                    View::Metadata => (
                        "PartialObjectMetadata".to_owned(),
                        "meta.k8s.io/v1".to_owned(),
                    ),
                };
                let object = json!({"kind": kind, "apiVersion": api_version, "metadata": metadata});
                line_of("BOOKMARK", &object)
            }
        }
    }
}

fn line_of(word: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{{\"type\":\"{word}\",\"object\":{object}}}\n"))
}

fn error_line(refusal: &Refusal) -> Bytes {
    line_of("ERROR", &refusal.to_status())
}

/// A change as a watch with a selector sees it: an object that starts to match is new to it, one that
/// stops to match is gone.
fn translate(change: &Arc<Change>, target: &Target, selector: &Selector) -> Option<Pending> {
    if change.resource.index != target.resource.index || !in_scope(target, &change.object) {
        return None;
    }
    let matches = |object: &Arc<Object>| selector.is_empty() || selector.matches(object.value());
    let before = change.previous.as_ref().is_some_and(matches);
    let after = change.action != Action::Deleted && matches(&change.object);
    let action = match (before, after) {
        (false, true) => Action::Added,
        (true, true) => Action::Modified,
        (true, false) => Action::Deleted,
        (false, false) => return None,
    };
    let object = match (action, &change.previous) {
        // the last state that matched, at the revision of the change
        (Action::Deleted, Some(previous)) if change.action != Action::Deleted => {
            let mut value = previous.value().clone();
            value["metadata"]["resourceVersion"] = Value::from(change.revision.to_string());
            Arc::new(Object::new(value))
        }
        _ => change.object.clone(),
    };
    Some(Pending::Event(action, object, change.revision))
}

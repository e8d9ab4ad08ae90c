//! Objects, the one revision that counts every write, and the log of changes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde_json::Value;
use tokio::sync::watch;

use super::resource::Resource;

/// Where an object is: its namespace (empty for cluster scope) and name.
pub type Key = (String, String);

/// The objects of one resource, in order of namespace and name.
pub type Objects = BTreeMap<Key, Arc<Object>>;

/// How many changes the log keeps before the oldest expire.
pub const LOG_LIMIT: usize = 20_000;

/// A stored object. It never changes: a write puts another one in its place.
#[derive(Debug)]
pub struct Object {
    value: Value,
    text: OnceLock<Bytes>,
    /// Of the metadata, what is asked for more often than anything else.
    namespace: Box<str>,
    name: Box<str>,
    uid: Box<str>,
    controller: Box<str>,
    revision: u64,
    terminating: bool,
    /// What is stored lacks defaults that the definition of its kind brought since.
    outdated: bool,
}

impl Object {
    /// An object with this content.
    pub fn new(value: Value) -> Self {
        let [
            mut namespace,
            mut name,
            mut uid,
            mut controller,
            mut revision,
        ] = [""; 5];
        let mut terminating = false;
        // One way through all fields is shorter than one for each of these.
        for (field, found) in value["metadata"].as_object().into_iter().flatten() {
            let text = found.as_str().unwrap_or_default();
            match field.as_str() {
                "namespace" => namespace = text,
                "name" => name = text,
                "uid" => uid = text,
                "resourceVersion" => revision = text,
                "deletionTimestamp" => terminating = !text.is_empty(),
                "ownerReferences" => {
                    let mut owners = found.as_array().into_iter().flatten();
                    let owner = owners.find(|owner| owner["controller"] == true);
                    let uid = owner.and_then(|owner| owner["uid"].as_str());
                    controller = uid.unwrap_or_default();
                }
                _ => {}
            }
        }
        Self {
            namespace: namespace.into(),
            name: name.into(),
            uid: uid.into(),
            controller: controller.into(),
            revision: revision.parse().unwrap_or_default(),
            terminating,
            value,
            text: OnceLock::new(),
            outdated: false,
        }
    }

    /// Whether a write stores it again even if it changes nothing: the definition of its kind changed
    /// how it is read.
    pub fn outdated(&self) -> bool {
        self.outdated
    }

    /// The content.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The content as JSON text, rendered once.
    pub fn text(&self) -> Bytes {
        self.text
            .get_or_init(|| Bytes::from(serde_json::to_vec(&self.value).unwrap_or_default()))
            .clone()
    }

    /// A string of the metadata; empty when absent.
    pub fn meta(&self, field: &str) -> &str {
        self.value["metadata"][field].as_str().unwrap_or_default()
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace; empty for cluster scope.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The UID.
    pub fn uid(&self) -> &str {
        &self.uid
    }

    /// The UID of the owner that controls it; empty when none does.
    pub fn controller(&self) -> &str {
        &self.controller
    }

    /// The resource version as a number.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// True once deletion was asked for.
    pub fn terminating(&self) -> bool {
        self.terminating
    }

    /// Where the object is.
    pub fn key(&self) -> Key {
        (self.namespace().to_owned(), self.name().to_owned())
    }
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The object is new.
    Added,
    /// The object changed.
    Modified,
    /// The object is gone.
    Deleted,
}

/// One write.
#[derive(Clone, Debug)]
pub struct Change {
    /// The revision that the write made.
    pub revision: u64,
    /// The resource of the object.
    pub resource: Arc<Resource>,
    /// What was done.
    pub action: Action,
    /// The object after the write; for a deletion its last state, with the deletion's revision.
    pub object: Arc<Object>,
    /// The object before the write.
    pub previous: Option<Arc<Object>>,
}

/// Objects by resource, and their history.
#[derive(Debug)]
pub struct Store {
    revision: u64,
    objects: Vec<Objects>,
    log: VecDeque<Arc<Change>>,
    compacted: u64,
    renewed: BTreeMap<usize, u64>,
    news: Vec<watch::Sender<u64>>,
    latest: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            revision: 1,
            objects: Vec::new(),
            log: VecDeque::new(),
            compacted: 0,
            renewed: BTreeMap::new(),
            news: Vec::new(),
            latest: watch::Sender::new(1),
        }
    }
}

impl Store {
    /// The revision of the last write.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The same objects and history, which nobody watches yet.
    pub fn copy(&self) -> Self {
        let senders = self.news.iter();
        Self {
            revision: self.revision,
            objects: self.objects.clone(),
            log: self.log.clone(),
            compacted: self.compacted,
            renewed: self.renewed.clone(),
            news: senders
                .map(|news| watch::Sender::new(*news.borrow()))
                .collect(),
            latest: watch::Sender::new(self.revision),
        }
    }

    /// Changes up to and including this revision are forgotten.
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// Makes room for a resource.
    pub fn ensure(&mut self, index: usize) {
        while self.objects.len() <= index {
            self.objects.push(Objects::new());
            self.news.push(watch::Sender::new(0));
        }
    }

    /// A receiver that wakes at each change of a resource.
    pub fn news(&mut self, index: usize) -> Option<watch::Receiver<u64>> {
        self.ensure(index);
        self.news.get(index).map(watch::Sender::subscribe)
    }

    /// A receiver that wakes at each change of any resource.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.latest.subscribe()
    }

    /// Wakes every watch, changes or not.
    pub fn wake_all(&self) {
        for sender in &self.news {
            sender.send_modify(|_| {});
        }
    }

    /// The objects of a resource now.
    pub fn objects(&self, index: usize) -> &Objects {
        static NONE: Objects = Objects::new();
        self.objects.get(index).unwrap_or(&NONE)
    }

    /// One object now.
    pub fn get(&self, index: usize, namespace: &str, name: &str) -> Option<&Arc<Object>> {
        self.objects(index)
            .get(&(namespace.to_owned(), name.to_owned()))
    }

    /// The objects of a resource as they were at a revision; none when history does not reach so far.
    pub fn objects_at(&self, index: usize, revision: u64) -> Option<Objects> {
        if revision < self.compacted {
            return None;
        }
        let mut objects = self.objects(index).clone();
        for change in self.log.iter().rev() {
            if change.revision <= revision {
                break;
            }
            if change.resource.index != index {
                continue;
            }
            match &change.previous {
                Some(previous) => objects.insert(change.object.key(), previous.clone()),
                None => objects.remove(&change.object.key()),
            };
        }
        Some(objects)
    }

    /// The changes after a revision, oldest first; none when some of them are forgotten.
    pub fn since(&self, revision: u64) -> Option<impl Iterator<Item = &Arc<Change>>> {
        let first = self.revision + 1 - self.log.len() as u64;
        (revision >= self.compacted).then(|| {
            let skip = usize::try_from((revision + 1).saturating_sub(first)).unwrap_or(usize::MAX);
            self.log.iter().skip(skip)
        })
    }

    /// Stores a write and returns the object with its resource version.
    pub fn commit(
        &mut self,
        resource: &Arc<Resource>,
        action: Action,
        mut value: Value,
    ) -> Arc<Object> {
        self.ensure(resource.index);
        self.revision += 1;
        value["metadata"]["resourceVersion"] = Value::from(self.revision.to_string());
        let object = Arc::new(Object::new(value));
        let key = object.key();
        let Some(objects) = self.objects.get_mut(resource.index) else {
            return object;
        };
        let previous = match action {
            Action::Deleted => objects.remove(&key),
            Action::Added | Action::Modified => objects.insert(key, object.clone()),
        };
        self.log.push_back(Arc::new(Change {
            revision: self.revision,
            resource: resource.clone(),
            action,
            object: object.clone(),
            previous,
        }));
        if self.log.len() > LOG_LIMIT
            && let Some(oldest) = self.log.pop_front()
        {
            self.compacted = oldest.revision;
        }
        if let Some(news) = self.news.get(resource.index) {
            news.send_replace(self.revision);
        }
        self.latest.send_replace(self.revision);
        object
    }

    /// The revision from which on a resource can be watched: its definition changed then.
    pub fn renewed(&self, index: usize) -> u64 {
        self.renewed.get(&index).copied().unwrap_or_default()
    }

    /// Reads the objects of a resource by a new definition: `reshape` brings each into its new form,
    /// which is no write. Watches from before end.
    pub fn renew(&mut self, index: usize, reshape: impl Fn(&mut Value)) {
        self.ensure(index);
        self.renewed.insert(index, self.revision);
        for object in self.objects.get_mut(index).into_iter().flatten() {
            let mut value = object.1.value().clone();
            reshape(&mut value);
            if value != *object.1.value() {
                *object.1 = Arc::new(Object {
                    outdated: true,
                    ..Object::new(value)
                });
            }
        }
        if let Some(news) = self.news.get(index) {
            news.send_replace(self.revision);
        }
    }

    /// Forgets history up to and including a revision, as etcd's compaction does.
    pub fn compact(&mut self, revision: u64) {
        while self
            .log
            .front()
            .is_some_and(|change| change.revision <= revision)
        {
            self.log.pop_front();
        }
        self.compacted = self.compacted.max(revision.min(self.revision));
        self.wake_all();
    }
}

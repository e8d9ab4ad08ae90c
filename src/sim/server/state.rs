//! The state of the server, and the start of every write: who writes, and into which namespace.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::defect::Defect;
use super::error::{Cause, Refusal};
use super::request::{Params, Target};
use super::resource::Registry;
use super::store::{Action, Object, Store};

/// Where the server takes the time from.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// Everything that a request reads or changes.
pub struct State {
    /// Objects and history.
    pub store: Store,
    /// Known resources.
    pub registry: Registry,
    /// The rule that is broken on purpose, if any.
    pub defect: Option<Defect>,
    /// New objects have no managed fields, and so nobody's are tracked; but for server-side apply.
    pub untracked: bool,
    clock: Clock,
    made: u64,
}

/// How a write is to be done.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools)] // independent wishes
pub struct WriteOptions {
    /// Answer as if written, write nothing.
    pub dry_run: bool,
    /// The field manager.
    pub manager: String,
    /// The field manager is named in the request, not taken from the user agent.
    pub named: bool,
    /// Take fields from other managers (server-side apply).
    pub force: bool,
    /// Refuse unknown fields.
    pub strict: bool,
    /// The object comes from a patch.
    pub patched: bool,
    /// The object has the form of its schema already.
    pub shaped: bool,
    /// The object comes from server-side apply, which tracks fields itself.
    pub applied: bool,
}

impl WriteOptions {
    /// Reads the query parameters of a write whose options have this kind.
    ///
    /// # Errors
    /// 422 for values that are not known.
    pub fn read(params: &Params, agent: &str, kind: &str) -> Result<Self, Refusal> {
        let mut causes = Vec::new();
        if params.dry_run.iter().any(|value| value != "All") {
            let text = "Unsupported value: supported values: \"All\"";
            causes.push(Cause::new("FieldValueNotSupported", "dryRun", text));
        }
        if !matches!(
            params.validation.as_str(),
            "" | "Ignore" | "Warn" | "Strict"
        ) {
            let text = "Unsupported value: supported values: \"Ignore\", \"Strict\", \"Warn\"";
            causes.push(Cause::new(
                "FieldValueNotSupported",
                "fieldValidation",
                text,
            ));
        }
        if params.manager.len() > 128 {
            let text = "Too long: may not be more than 128 bytes";
            causes.push(Cause::new("FieldValueTooLong", "fieldManager", text));
        }
        if !causes.is_empty() {
            return Err(Refusal::invalid("meta.k8s.io", kind, "", causes));
        }
        let manager = if params.manager.is_empty() {
            agent.to_owned()
        } else {
            params.manager.clone()
        };
        Ok(Self {
            dry_run: !params.dry_run.is_empty(),
            manager,
            named: !params.manager.is_empty(),
            force: params.force,
            strict: params.validation == "Strict",
            patched: false,
            shaped: false,
            applied: false,
        })
    }
}

impl State {
    /// An empty cluster: the namespaces that every cluster has.
    pub fn new(clock: Clock) -> Self {
        let registry = Registry::builtin();
        let mut store = Store::default();
        for resource in registry.all() {
            store.ensure(resource.index);
        }
        let mut state = Self {
            store,
            registry,
            defect: None,
            untracked: false,
            clock,
            made: 0,
        };
        for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            state.ensure_namespace(name);
        }
        let beginning = state.store.revision();
        state.store.compact(beginning);
        state
    }

    /// A cluster in the same state, with a clock of its own.
    pub fn copy(&self, clock: Clock) -> Self {
        Self {
            store: self.store.copy(),
            registry: self.registry.clone(),
            defect: self.defect,
            untracked: self.untracked,
            clock,
            made: self.made,
        }
    }

    /// True when a rule is broken on purpose.
    pub fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    /// The time.
    pub fn timestamp(&self) -> Timestamp {
        (self.clock)()
    }

    /// The time now, as the server writes it: RFC 3339, whole seconds.
    pub fn now(&self) -> String {
        format!("{:.0}", (self.clock)())
    }

    /// A UID that was not given before: the same in each run.
    pub fn next_uid(&mut self) -> String {
        if !self.has(Defect::UidReused) {
            self.made += 1;
        }
        format!("00000000-0000-4000-8000-{:012x}", self.made)
    }

    /// A number that was not given before: the same in each run.
    pub fn next_number(&mut self) -> u64 {
        self.made += 1;
        self.made
    }

    /// A suffix for `generateName`: five characters of the server's alphabet, the same in each run.
    pub fn next_suffix(&mut self) -> String {
        const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
        self.made += 1;
        let mut rest = self.made.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let mut suffix = String::new();
        for _ in 0..5 {
            let place = usize::try_from(rest % 27).unwrap_or_default();
            suffix.push(char::from(*ALPHABET.get(place).unwrap_or(&b'x')));
            rest /= 27;
        }
        suffix
    }

    /// Makes a namespace, unless it is there.
    pub fn ensure_namespace(&mut self, name: &str) {
        let Some(resource) = self.registry.find("", "namespaces") else {
            return;
        };
        if self.store.get(resource.index, "", name).is_some() {
            return;
        }
        let uid = self.next_uid();
        let value = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {
                "name": name, "uid": uid, "creationTimestamp": self.now(),
                "labels": {"kubernetes.io/metadata.name": name},
            },
            "spec": {"finalizers": ["kubernetes"]},
            "status": {"phase": "Active"},
        });
        self.store.commit(&resource, Action::Added, value);
    }

    /// The namespace object that a target lives in.
    pub fn namespace_of(&self, target: &Target) -> Option<Arc<Object>> {
        let resource = self.registry.find("", "namespaces")?;
        self.store
            .get(resource.index, "", &target.namespace)
            .cloned()
    }

    /// Refuses a new object in a namespace that is missing or going away.
    ///
    /// # Errors
    /// 404 for a missing namespace, 403 with the cause `NamespaceTerminating`.
    pub fn admit_to_namespace(&self, target: &Target) -> Result<(), Refusal> {
        if !target.resource.namespaced || self.has(Defect::MissingNamespaceAccepts) {
            return Ok(());
        }
        let Some(namespace) = self.namespace_of(target) else {
            return Err(Refusal::not_found("", "namespaces", &target.namespace));
        };
        if namespace.terminating() && !self.has(Defect::TerminatingAccepts) {
            let name = &target.namespace;
            let text = format!(
                "unable to create new content in namespace {name} because it is being terminated"
            );
            let cause = Cause::new(
                "NamespaceTerminating",
                "metadata.namespace",
                format!("namespace {name} is being terminated"),
            );
            let resource = &target.resource;
            return Err(
                Refusal::forbidden(&resource.group, &resource.plural, &target.name, &text)
                    .because(cause),
            );
        }
        Ok(())
    }
}

/// The metadata of an object, made an object when it is not.
pub fn metadata(object: &mut Value) -> &mut serde_json::Map<String, Value> {
    if !object.is_object() {
        *object = json!({});
    }
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    match &mut object["metadata"] {
        Value::Object(map) => map,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            unreachable!("made an object above")
        }
    }
}

//! Who may do what: an authorizer made of the rules of roles.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::error::Refusal;
use super::intercept::Call;
use super::meta::list;
use super::request::Verb;

/// One rule, with the namespace it counts in (empty for all).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Grant {
    namespace: String,
    groups: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
    verbs: Vec<String>,
}

/// The rights of users. A user without an entry may do everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    grants: BTreeMap<String, Vec<Grant>>,
}

impl Rights {
    /// Gives a user the rules of a `Role` or `ClusterRole`, in one namespace or (empty) in all. From then
    /// on the user may do only what was given.
    pub fn grant(&mut self, user: &str, role: &Value, namespace: &str) {
        let texts = |value: &Value| {
            let items = list(value).iter().filter_map(Value::as_str);
            items.map(str::to_owned).collect::<Vec<_>>()
        };
        let grants = self.grants.entry(user.to_owned()).or_default();
        grants.extend(list(&role["rules"]).iter().map(|rule| Grant {
            namespace: namespace.to_owned(),
            groups: texts(&rule["apiGroups"]),
            resources: texts(&rule["resources"]),
            names: texts(&rule["resourceNames"]),
            verbs: texts(&rule["verbs"]),
        }));
    }

    /// Takes everything from a user that was given.
    pub fn revoke(&mut self, user: &str) {
        self.grants.insert(user.to_owned(), Vec::new());
    }

    /// Refuses a request that its user may not make.
    ///
    /// # Errors
    /// 403.
    pub fn check(&self, user: &str, asked: &Asked<'_>) -> Result<(), Refusal> {
        let Some(grants) = self.grants.get(user) else {
            return Ok(());
        };
        if asked.resource.is_empty() || grants.iter().any(|grant| grant.covers(asked)) {
            return Ok(());
        }
        let place = if asked.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", asked.namespace)
        };
        let text = format!(
            "User \"{user}\" cannot {} resource \"{}\" in API group \"{}\" {place}",
            asked.verb.as_str(),
            asked.full_resource(),
            asked.group,
        );
        let (group, resource) = (asked.group, asked.resource);
        Err(Refusal::forbidden(group, resource, &asked.name, &text))
    }
}

/// What a request asks to do.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// What is done.
    pub verb: Verb,
    /// The API group.
    pub group: &'a str,
    /// The plural name; empty for documents about the API itself.
    pub resource: &'a str,
    /// The subresource; empty for the object itself.
    pub sub: &'a str,
    /// The namespace; empty for cluster scope.
    pub namespace: &'a str,
    /// The name of the object; empty when it names none.
    pub name: Cow<'a, str>,
}

impl<'a> Asked<'a> {
    /// What a call asks. A list or watch of one name asks for that object.
    pub fn of(call: &'a Call) -> Self {
        let many = matches!(call.verb, Verb::List | Verb::Watch);
        let selected = many.then(|| selected_name(&call.path)).flatten();
        Self {
            verb: call.verb,
            group: &call.group,
            resource: &call.resource,
            sub: call.subresource.map_or("", |sub| sub.as_str()),
            namespace: &call.namespace,
            name: selected.map_or(Cow::Borrowed(call.name.as_str()), Cow::Owned),
        }
    }

    fn full_resource(&self) -> String {
        let Self { resource, sub, .. } = self;
        if sub.is_empty() {
            (*resource).to_owned()
        } else {
            format!("{resource}/{sub}")
        }
    }
}

/// The one name that a field selector lets through.
fn selected_name(path: &str) -> Option<String> {
    let (_, query) = path.split_once('?')?;
    let url = reqwest::Url::parse(&format!("http://server/?{query}")).ok()?;
    let (_, selector) = url.query_pairs().find(|(key, _)| key == "fieldSelector")?;
    selector.split(',').find_map(|term| {
        let value = term.strip_prefix("metadata.name")?;
        let name = value
            .strip_prefix("==")
            .or_else(|| value.strip_prefix('='))?;
        Some(name.to_owned())
    })
}

impl Grant {
    fn covers(&self, asked: &Asked<'_>) -> bool {
        let has =
            |list: &[String], wanted: &str| list.iter().any(|item| item == wanted || item == "*");
        let resource = asked.full_resource();
        let every = format!("*/{}", asked.sub);
        // a create by POST names no object yet, so a rule for named objects never covers it
        let named = self.names.is_empty() || self.names.iter().any(|name| *name == *asked.name);
        (self.namespace.is_empty() || self.namespace == asked.namespace)
            && has(&self.groups, asked.group)
            && (has(&self.resources, &resource) || self.resources.contains(&every))
            && has(&self.verbs, asked.verb.as_str())
            && named
    }
}

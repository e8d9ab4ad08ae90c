//! Who may do what: an authorizer made of the rules of roles.

use std::collections::BTreeMap;

use serde_json::Value;

use super::error::Refusal;
use super::intercept::Call;
use super::meta::list;

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
    pub fn check(&self, call: &Call) -> Result<(), Refusal> {
        let Some(grants) = self.grants.get(&call.user) else {
            return Ok(());
        };
        if call.resource.is_empty() || grants.iter().any(|grant| grant.covers(call)) {
            return Ok(());
        }
        let sub = call.subresource.map(|sub| format!("/{}", sub.as_str()));
        let place = if call.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", call.namespace)
        };
        let text = format!(
            "User \"{}\" cannot {} resource \"{}{}\" in API group \"{}\" {place}",
            call.user,
            call.verb.as_str(),
            call.resource,
            sub.unwrap_or_default(),
            call.group,
        );
        Err(Refusal::forbidden(
            &call.group,
            &call.resource,
            &call.name,
            &text,
        ))
    }
}

impl Grant {
    fn covers(&self, call: &Call) -> bool {
        let has =
            |list: &[String], wanted: &str| list.iter().any(|item| item == wanted || item == "*");
        let resource = match call.subresource {
            Some(sub) => format!("{}/{}", call.resource, sub.as_str()),
            None => call.resource.clone(),
        };
        // a create by POST names no object yet, so a rule for named objects never covers it
        let named =
            self.names.is_empty() || (!call.name.is_empty() && self.names.contains(&call.name));
        (self.namespace.is_empty() || self.namespace == call.namespace)
            && has(&self.groups, &call.group)
            && has(&self.resources, &resource)
            && has(&self.verbs, call.verb.as_str())
            && named
    }
}

//! Requests, and what becomes of them.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::Value;

/// A request, as far as routes look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Path without the query.
    pub path: String,
    /// Method.
    pub method: String,
    /// Scheme.
    pub scheme: String,
    /// Host that was asked for.
    pub authority: String,
    /// Headers by lower-case name, `cookie` included.
    pub headers: BTreeMap<String, String>,
    /// Query parameters.
    pub query: BTreeMap<String, String>,
    /// Port that was called.
    pub port: Option<i64>,
    /// Gateway that the request came through; `None`: the mesh itself.
    pub gateway: Option<String>,
    /// Labels of the caller.
    pub source_labels: BTreeMap<String, String>,
    /// Namespace of the caller.
    pub source_namespace: String,
}

impl Request {
    /// A GET of a path.
    pub fn get(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            method: "GET".to_owned(),
            scheme: "http".to_owned(),
            ..Self::default()
        }
    }

    /// The request with a header more.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers
            .insert(name.to_ascii_lowercase(), value.to_owned());
        self
    }

    /// The request with a cookie more, `name=value`.
    #[must_use]
    pub fn with_cookie(mut self, cookie: &str) -> Self {
        let cookies = self.headers.entry("cookie".to_owned()).or_default();
        if !cookies.is_empty() {
            cookies.push_str("; ");
        }
        cookies.push_str(cookie);
        self
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Forwarding {
    /// Destinations that can get it; those without a share are left out.
    pub shares: Vec<Share>,
    /// Destinations that get a copy.
    pub mirrors: Vec<Share>,
}

/// A destination's share.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    /// Host of the destination.
    pub host: String,
    /// Percent of the requests.
    pub percent: f64,
    /// `Set-Cookie` headers that the response gets on its way.
    pub set_cookies: Vec<String>,
}

/// Compares one string. A condition that names no comparison asks for presence.
pub(super) fn matches_text(wanted: &Value, found: Option<&str>, fold: bool) -> bool {
    let Some(found) = found else {
        return false;
    };
    let case = |text: &str| {
        if fold {
            text.to_lowercase()
        } else {
            text.to_owned()
        }
    };
    let comparison = |name: &str| wanted.get(name).and_then(Value::as_str);
    if let Some(exact) = comparison("exact") {
        return case(found) == case(exact);
    }
    if let Some(prefix) = comparison("prefix") {
        return case(found).starts_with(&case(prefix));
    }
    if let Some(regex) = comparison("regex") {
        return matches_regex(regex, found);
    }
    true
}

/// Whether an expression matches a whole text; one that cannot be read matches nothing.
pub(super) fn matches_regex(regex: &str, found: &str) -> bool {
    Regex::new(&format!("^(?:{regex})$")).is_ok_and(|regex| regex.is_match(found))
}

//! What a request asks, read from its method, path, query and headers.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, header};
use serde_json::Value;

use super::error::Refusal;
use super::rbac::Asked;
use super::resource::{Registry, Resource, Version};

/// What a request does, in the words of RBAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verb {
    /// Read one object.
    Get,
    /// Read many.
    List,
    /// Follow changes.
    Watch,
    /// POST.
    Create,
    /// PUT.
    Update,
    /// PATCH.
    Patch,
    /// DELETE of one object.
    Delete,
    /// DELETE of many.
    DeleteCollection,
}

impl Verb {
    /// The verb as RBAC writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Watch => "watch",
            Self::Create => "create",
            Self::Update => "update",
            Self::Patch => "patch",
            Self::Delete => "delete",
            Self::DeleteCollection => "deletecollection",
        }
    }

    /// True for a verb that changes something.
    pub fn writes(self) -> bool {
        match self {
            Self::Get | Self::List | Self::Watch => false,
            Self::Create | Self::Update | Self::Patch | Self::Delete | Self::DeleteCollection => {
                true
            }
        }
    }
}

/// A part of an object with its own path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subresource {
    /// `/status`.
    Status,
    /// `/scale`.
    Scale,
}

impl Subresource {
    /// The last segment of the path.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
        }
    }
}

/// What a request is about.
#[derive(Clone, Debug)]
pub struct Target {
    /// The resource.
    pub resource: Arc<Resource>,
    /// The version spoken.
    pub version: String,
    /// The namespace; empty for cluster scope or all namespaces.
    pub namespace: String,
    /// The name; empty for a collection.
    pub name: String,
    /// The subresource.
    pub sub: Option<Subresource>,
}

impl Target {
    /// One object in the version in which it is kept.
    pub fn stored(resource: &Arc<Resource>, namespace: &str, name: &str) -> Self {
        let version = resource.stored().map(|version| version.name.clone());
        Self {
            resource: resource.clone(),
            version: version.unwrap_or_default(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            sub: None,
        }
    }

    /// The version spoken.
    ///
    /// # Errors
    /// 404 when it is not served.
    pub fn served(&self) -> Result<&Version, Refusal> {
        self.resource
            .version(&self.version)
            .ok_or_else(Refusal::no_such_path)
    }

    /// 404 for this object.
    pub fn not_found(&self) -> Refusal {
        Refusal::not_found(&self.resource.group, &self.resource.plural, &self.name)
    }

    /// 409 for this object.
    pub fn conflict(&self, message: &str) -> Refusal {
        Refusal::conflict(
            &self.resource.group,
            &self.resource.plural,
            &self.name,
            message,
        )
    }
}

/// Where a path leads.
#[derive(Clone, Debug)]
pub enum Route {
    /// To objects.
    Objects(Target),
    /// To a document about the API itself: the segments of the path.
    Discovery(Vec<String>),
}

/// How an answer shows objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum View {
    /// Whole.
    #[default]
    Full,
    /// Metadata only (`PartialObjectMetadata`).
    Metadata,
}

/// The format of a PATCH body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 6902.
    Json,
    /// RFC 7396.
    Merge,
    /// Kubernetes' own merge by list keys.
    Strategic,
    /// Server-side apply.
    Apply,
}

/// The query parameters that the server reads.
#[derive(Clone, Debug, Default)]
pub struct Params {
    /// `labelSelector`.
    pub labels: String,
    /// `fieldSelector`.
    pub fields: String,
    /// `limit`; 0 for none.
    pub limit: usize,
    /// `continue`.
    pub resume: String,
    /// `resourceVersion`.
    pub revision: String,
    /// `resourceVersionMatch`.
    pub revision_match: String,
    /// `timeoutSeconds`.
    pub timeout: Option<u64>,
    /// `allowWatchBookmarks`.
    pub bookmarks: bool,
    /// `sendInitialEvents`.
    pub initial_events: Option<bool>,
    /// `watch`.
    pub watch: bool,
    /// `fieldManager`.
    pub manager: String,
    /// `force`.
    pub force: bool,
    /// `dryRun`, each value.
    pub dry_run: Vec<String>,
    /// `fieldValidation`.
    pub validation: String,
    /// `propagationPolicy` (DELETE also takes it in the body).
    pub propagation: String,
}

/// A request, read.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where it goes.
    pub route: Route,
    /// What it does.
    pub verb: Verb,
    /// The query.
    pub params: Params,
    /// How objects are shown.
    pub view: View,
    /// The media type of the body.
    pub content_type: String,
    /// The first word of the user agent: the default field manager.
    pub agent: String,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// Reads the head of an HTTP request, with its body.
    ///
    /// # Errors
    /// 404 for a path that leads nowhere, 405 for a method that does not go there.
    pub fn read(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
        known: &Registry,
    ) -> Result<Self, Refusal> {
        let route = route(uri.path(), known)?;
        let params = params(uri);
        let verb = verb(method, &route, &params)?;
        let text = |name| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        let accept = text(header::ACCEPT);
        let view = if accept.contains("as=PartialObjectMetadata") {
            View::Metadata
        } else {
            View::Full
        };
        let content_type = text(header::CONTENT_TYPE);
        let content_type = content_type.split(';').next().unwrap_or_default().trim();
        let agent = text(header::USER_AGENT)
            .split('/')
            .next()
            .unwrap_or_default();
        Ok(Self {
            route,
            verb,
            params,
            view,
            content_type: content_type.to_owned(),
            agent: agent.to_owned(),
            body,
        })
    }

    /// The format of the body of a PATCH.
    ///
    /// # Errors
    /// 415 for another media type.
    pub fn patch_kind(&self) -> Result<PatchKind, Refusal> {
        match self.content_type.as_str() {
            "application/json-patch+json" => Ok(PatchKind::Json),
            "application/merge-patch+json" => Ok(PatchKind::Merge),
            "application/strategic-merge-patch+json" => Ok(PatchKind::Strategic),
            "application/apply-patch+yaml" => Ok(PatchKind::Apply),
            other => Err(Refusal::unsupported_media_type(format!(
                "the body of the request was in an unknown format - accepted media types include: \
                 application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml; got {other}"
            ))),
        }
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// 400 when it is not JSON, 413 when it is too large, 415 for another media type.
    pub fn json(&self) -> Result<Value, Refusal> {
        if self.body.len() > 3 * 1024 * 1024 {
            let text = format!("Request entity too large: limit is {}", 3 * 1024 * 1024);
            return Err(Refusal::new(413, "RequestEntityTooLarge", text));
        }
        if self.content_type == "application/apply-patch+yaml"
            || self.content_type == "application/yaml"
        {
            if let Ok(value) = serde_json::from_slice(&self.body) {
                return Ok(value);
            }
            let text = str::from_utf8(&self.body).unwrap_or_default();
            return serde_saphyr::from_str(text)
                .map_err(|error| Refusal::bad_request(format!("error decoding YAML: {error}")));
        }
        if self.content_type.contains("protobuf") {
            return Err(Refusal::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json",
            ));
        }
        serde_json::from_slice(&self.body).map_err(|error| {
            Refusal::bad_request(format!(
                "the object provided is unrecognized: couldn't parse JSON: {error}"
            ))
        })
    }
}

/// What a path names: group, version, namespace, plural, name and subresource; empty where it names none.
struct Place<'a> {
    group: &'a str,
    version: &'a str,
    namespace: &'a str,
    plural: &'a str,
    name: &'a str,
    sub: &'a str,
}

/// Takes the path of objects apart; none for a path that is not of objects.
fn place<'a>(parts: &[&'a str]) -> Option<Result<Place<'a>, Refusal>> {
    let (group, version, rest) = match *parts {
        ["api", version, ref rest @ ..] if !rest.is_empty() => ("", version, rest),
        ["apis", group, version, ref rest @ ..] if !rest.is_empty() => (group, version, rest),
        _ => return None,
    };
    let (namespace, plural, name, sub) = match *rest {
        ["namespaces", name, "status"] => ("", "namespaces", name, "status"),
        ["namespaces", namespace, plural] => (namespace, plural, "", ""),
        ["namespaces", namespace, plural, name] => (namespace, plural, name, ""),
        ["namespaces", namespace, plural, name, sub] => (namespace, plural, name, sub),
        [plural] => ("", plural, "", ""),
        [plural, name] => ("", plural, name, ""),
        [plural, name, sub] => ("", plural, name, sub),
        _ => return Some(Err(Refusal::no_such_path())),
    };
    Some(Ok(Place {
        group,
        version,
        namespace,
        plural,
        name,
        sub,
    }))
}

fn segments(path: &str) -> Vec<&str> {
    path.split('/').filter(|part| !part.is_empty()).collect()
}

/// What a request asks to do that leads nowhere: it is refused to who may not do it before it is known
/// to lead nowhere.
pub fn asked<'a>(method: &Method, uri: &'a Uri) -> Option<Asked<'a>> {
    let place = place(&segments(uri.path()))?.ok()?;
    let one = !place.name.is_empty();
    let verb = match *method {
        Method::GET if one => Verb::Get,
        Method::GET if params(uri).watch => Verb::Watch,
        Method::GET => Verb::List,
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE if one => Verb::Delete,
        Method::DELETE => Verb::DeleteCollection,
        _ => return None,
    };
    Some(Asked {
        verb,
        group: place.group,
        resource: place.plural,
        sub: place.sub,
        namespace: place.namespace,
        name: Cow::Borrowed(place.name),
    })
}

fn route(path: &str, known: &Registry) -> Result<Route, Refusal> {
    let parts = segments(path);
    let Some(place) = place(&parts) else {
        return Ok(Route::Discovery(
            parts.into_iter().map(str::to_owned).collect(),
        ));
    };
    let Place {
        group,
        version,
        namespace,
        plural,
        name,
        sub,
    } = place?;
    let mut group_served = known
        .all()
        .iter()
        .filter(|resource| resource.group == group);
    if !group_served.any(|resource| resource.version(version).is_some()) {
        return Err(Refusal::new(404, "", "404 page not found\n"));
    }
    let resource = known
        .find(group, plural)
        .ok_or_else(Refusal::no_such_path)?;
    let served = resource
        .version(version)
        .ok_or_else(Refusal::no_such_path)?;
    let sub = match sub {
        "" => None,
        "status" if served.status => Some(Subresource::Status),
        "scale" if served.scale.is_some() => Some(Subresource::Scale),
        _ if resource.custom => return Err(Refusal::not_found(group, plural, name)),
        _ => return Err(Refusal::no_such_path()),
    };
    let misplaced = if resource.namespaced {
        namespace.is_empty() && !name.is_empty()
    } else {
        !namespace.is_empty()
    };
    if misplaced {
        return Err(Refusal::no_such_path());
    }
    Ok(Route::Objects(Target {
        version: version.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        sub,
        resource,
    }))
}

fn verb(method: &Method, route: &Route, params: &Params) -> Result<Verb, Refusal> {
    let Route::Objects(target) = route else {
        return match *method {
            Method::GET => Ok(Verb::Get),
            _ => Err(Refusal::method_not_allowed()),
        };
    };
    let one = !target.name.is_empty();
    let in_place = !target.resource.namespaced || !target.namespace.is_empty();
    match *method {
        Method::GET if one => Ok(Verb::Get),
        Method::GET if params.watch => Ok(Verb::Watch),
        Method::GET => Ok(Verb::List),
        Method::POST if !one && in_place => Ok(Verb::Create),
        Method::PUT if one => Ok(Verb::Update),
        Method::PATCH if one => Ok(Verb::Patch),
        Method::DELETE if one && target.sub.is_none() => Ok(Verb::Delete),
        Method::DELETE if !one && in_place && target.resource.plural != "namespaces" => {
            Ok(Verb::DeleteCollection)
        }
        _ => Err(Refusal::method_not_allowed()),
    }
}

fn params(uri: &Uri) -> Params {
    let mut params = Params::default();
    let Some(query) = uri.query() else {
        return params;
    };
    let Ok(url) = reqwest::Url::parse(&format!("http://server/?{query}")) else {
        return params;
    };
    for (key, value) in url.query_pairs() {
        let yes = || matches!(value.as_ref(), "true" | "1");
        match key.as_ref() {
            "labelSelector" => params.labels = value.into_owned(),
            "fieldSelector" => params.fields = value.into_owned(),
            "limit" => params.limit = value.parse().unwrap_or_default(),
            "continue" => params.resume = value.into_owned(),
            "resourceVersion" => params.revision = value.into_owned(),
            "resourceVersionMatch" => params.revision_match = value.into_owned(),
            "timeoutSeconds" => params.timeout = value.parse().ok().filter(|seconds| *seconds > 0),
            "allowWatchBookmarks" => params.bookmarks = yes(),
            "sendInitialEvents" => params.initial_events = Some(yes()),
            "watch" => params.watch = yes(),
            "fieldManager" => params.manager = value.into_owned(),
            "force" => params.force = yes(),
            "dryRun" => params.dry_run.push(value.into_owned()),
            "fieldValidation" => params.validation = value.into_owned(),
            "propagationPolicy" => params.propagation = value.into_owned(),
            _ => {}
        }
    }
    params
}

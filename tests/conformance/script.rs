//! Scripts as data, and how to run one through a client.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use futures::AsyncBufReadExt;
use futures::TryStreamExt;
use haldane::sim::server::ApiServer;
use http::Request;
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::normalise::Normaliser;

/// A named list of requests. Each runs in a namespace of its own, `$ns`.
#[derive(Debug, Deserialize)]
pub struct Script {
    pub name: String,
    pub steps: Vec<Step>,
}

/// One request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Verb and path: `post configmaps`, `merge deployments/web/status`, `watch configmaps?…`.
    #[serde(rename = "do")]
    pub request: String,
    /// The body. `$2.metadata.uid` stands for a field of the answer to step 2 (the first is 0).
    #[serde(default)]
    pub body: Value,
    /// Sends the answer to this step back, changed by `body` as a merge patch.
    pub from: Option<usize>,
    /// Asks for metadata only.
    #[serde(default)]
    pub metadata: bool,
    /// Who asks: a user of the script's own, whose rights `grant NAME` gives; none: who may do everything.
    #[serde(rename = "as", default)]
    pub user: String,
    /// Asks a real server again until the answer has this value here: a pointer into `{code, body}`.
    pub until: Option<(String, Value)>,
    /// The answer does not count: what it tells differs for good reasons.
    #[serde(default)]
    pub aside: bool,
}

/// Who answers a script.
pub enum Server {
    Memory(ApiServer),
    Real(Client),
}

impl Server {
    /// A client of a user; of who may do everything when there is none.
    fn client(&self, user: &str) -> Client {
        match self {
            Self::Memory(server) if user.is_empty() => server.client(),
            Self::Memory(server) => server.client_for(user),
            Self::Real(client) => client.clone(),
        }
    }

    /// Gives a user these rules in a namespace, and no others.
    async fn grant(&self, user: &str, rules: &Value, space: &str) {
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
            "metadata": {"name": user}, "rules": rules,
        });
        let client = match self {
            Self::Memory(server) => {
                server.revoke(user);
                return server.grant(user, &role, space);
            }
            Self::Real(client) => client,
        };
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": user},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        });
        let at = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{space}");
        for (plural, object) in [("roles", &role), ("rolebindings", &binding)] {
            let one = format!("{at}/{plural}/{user}?fieldManager=conformance&force=true");
            let (code, answer) = send(client, "apply", &one, object, false, "").await;
            assert!(code < 300, "{user}: {answer}");
        }
        // The server takes note of new rights a moment later.
        for rule in rules.as_array().into_iter().flatten() {
            let names = rule["resourceNames"].as_array();
            for verb in rule["verbs"].as_array().unwrap() {
                for resource in rule["resources"].as_array().unwrap() {
                    let resource = resource.as_str().unwrap();
                    let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
                    let asked = json!({
                        "namespace": space, "verb": verb, "group": rule["apiGroups"][0],
                        "resource": resource, "subresource": sub,
                        "name": names.map_or(&Value::Null, |names| &names[0]),
                    });
                    self.await_right(user, &asked, true).await;
                }
            }
        }
    }

    /// Waits until a user may do this, or may not.
    async fn await_right(&self, user: &str, asked: &Value, wanted: bool) {
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {"user": user, "resourceAttributes": asked},
        });
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let client = self.client("");
        while send(&client, "post", path, &review, false, "").await.1["status"]["allowed"] != wanted
        {
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Takes every right in a namespace from a user who could do `asked`.
    async fn revoke(&self, user: &str, asked: &Value, space: &str) {
        match self {
            Self::Memory(server) => server.revoke(user),
            Self::Real(client) => {
                let at = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{space}");
                let binding = format!("{at}/rolebindings/{user}");
                send(client, "delete", &binding, &Value::Null, false, "").await;
                self.await_right(user, asked, false).await;
            }
        }
    }
}

/// How long a script waits before it asks once more.
const AGAIN: Duration = Duration::from_millis(50);

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/conformance")
        .join(name)
}

/// Every script by the name of its file.
pub fn all() -> BTreeMap<String, Vec<Script>> {
    let files = std::fs::read_dir(folder("scripts")).unwrap();
    files
        .map(|file| {
            let path = file.unwrap().path();
            let text = std::fs::read_to_string(&path).unwrap();
            let scripts = serde_saphyr::from_str(&text)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (
                path.file_stem().unwrap().to_string_lossy().into_owned(),
                scripts,
            )
        })
        .collect()
}

/// The definitions of the custom resources that scripts use. Those of `HALDANE_TEST_CRDS`, a folder of
/// what other projects publish, take the place of the short ones here.
pub fn definitions() -> &'static [Value] {
    static DEFINITIONS: LazyLock<Vec<Value>> = LazyLock::new(|| {
        let text = std::fs::read_to_string(folder("definitions.yaml")).unwrap();
        let mut all: Vec<Value> = serde_saphyr::from_str(&text).unwrap();
        let own = haldane::api::crds::crds().into_iter();
        all.extend(own.map(|definition| serde_json::to_value(definition).unwrap()));
        for published in published() {
            let name = &published["metadata"]["name"];
            if let Some(short) = all.iter_mut().find(|one| one["metadata"]["name"] == *name) {
                *short = published;
            }
        }
        all
    });
    &DEFINITIONS
}

/// Definitions as other projects publish them.
fn published() -> Vec<Value> {
    let Ok(folder) = std::env::var("HALDANE_TEST_CRDS") else {
        return Vec::new();
    };
    let files = std::fs::read_dir(folder).unwrap();
    let texts = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    texts
        .flat_map(|text| serde_saphyr::from_multiple::<Value>(&text).unwrap())
        .collect()
}

/// A client of the real server, with the definitions in place.
pub async fn real_client() -> Client {
    let path = std::env::var("HALDANE_TEST_KUBECONFIG")
        .expect("HALDANE_TEST_KUBECONFIG names a kubeconfig");
    let file = kube::config::Kubeconfig::read_from(path).unwrap();
    let mut config =
        kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default())
            .await
            .unwrap();
    config.default_retry = false;
    let client = Client::try_from(config).unwrap();
    for definition in definitions() {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        send(&client, "post", path, definition, false, "").await;
        let spec = &definition["spec"];
        let (group, version) = (&spec["group"], &spec["versions"][0]["name"]);
        let plural = &spec["names"]["plural"];
        let path = format!("/apis/{group}/{version}/{plural}").replace('"', "");
        while send(&client, "get", &path, &Value::Null, false, "").await.0 == 404 {
            tokio::time::sleep(AGAIN).await;
        }
    }
    client
}

/// Runs a script and returns its normalised answers.
pub async fn run(script: &Script, server: &Server, space: &str) -> Vec<Value> {
    let client = server.client("");
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": space}});
    let path = "/api/v1/namespaces";
    let (code, _) = send(&client, "post", path, &namespace, false, "").await;
    assert_eq!(code, 201, "namespace {space}");
    let mut answers: Vec<(u16, Value)> = Vec::new();
    for step in &script.steps {
        let said = fill(&Value::from(step.request.as_str()), &answers, space);
        let (verb, path) = said.as_str().unwrap().split_once(' ').unwrap();
        let mut body = fill(&step.body, &answers, space);
        match verb {
            "grant" => {
                server.grant(&format!("{space}-{path}"), &body, space).await;
                answers.push((0, Value::Null));
                continue;
            }
            "revoke" => {
                body["namespace"] = json!(space);
                server
                    .revoke(&format!("{space}-{path}"), &body, space)
                    .await;
                answers.push((0, Value::Null));
                continue;
            }
            _ => {}
        }
        if let Some(from) = step.from {
            let mut earlier = answers[from].1.clone();
            if !body.is_null() {
                json_patch::merge(&mut earlier, &body);
            }
            body = earlier;
        }
        let path = full_path(path, space);
        complete(verb, &path, &mut body);
        let user = match step.user.as_str() {
            "" => String::new(),
            name => format!("{space}-{name}"),
        };
        let client = server.client(&user);
        let mut answer = send(&client, verb, &path, &body, step.metadata, &user).await;
        if let (Some((pointer, wanted)), Server::Real(_)) = (&step.until, server) {
            let seen = |(code, body): &(u16, Value)| {
                json!({"code": code, "body": body}).pointer(pointer) == Some(wanted)
            };
            let mut tries = 0;
            while !seen(&answer) {
                tries += 1;
                assert!(tries < 400, "{}: {said}: {answer:?}", script.name);
                tokio::time::sleep(AGAIN).await;
                answer = send(&client, verb, &path, &body, step.metadata, &user).await;
            }
        }
        if step.aside {
            answer.1 = Value::Null;
        }
        answers.push(answer);
    }
    Normaliser::new(space).transcript(&answers)
}

/// Puts earlier answers and the namespace in the place of `$N.path` and `$ns`.
fn fill(value: &Value, answers: &[(u16, Value)], space: &str) -> Value {
    match value {
        Value::String(text) => fill_text(text, answers, space),
        Value::Array(items) => items
            .iter()
            .map(|item| fill(item, answers, space))
            .collect(),
        Value::Object(map) => {
            let filled = map
                .iter()
                .map(|(key, value)| (key.clone(), fill(value, answers, space)));
            Value::Object(filled.collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value.clone(),
    }
}

fn fill_text(text: &str, answers: &[(u16, Value)], space: &str) -> Value {
    let mut rest = text.replace("$ns", space);
    while let Some(start) = rest.find('$') {
        let tail = &rest[start + 1..];
        let length = tail
            .find(|c: char| !c.is_alphanumeric() && c != '.')
            .unwrap_or(tail.len());
        let mut parts = tail[..length].split('.');
        let Some(answer) = parts.next().and_then(|step| step.parse::<usize>().ok()) else {
            break;
        };
        let found = parts.fold(&answers[answer].1, |value, part| {
            match part.parse::<usize>() {
                Ok(index) => &value[index],
                Err(_) => &value[part],
            }
        });
        if start == 0 && length + 1 == rest.len() {
            return found.clone();
        }
        let found = found
            .as_str()
            .map_or_else(|| found.to_string(), str::to_owned);
        rest = format!("{}{found}{}", &rest[..start], &tail[length..]);
    }
    Value::from(rest)
}

/// Group and version of the resources that scripts name by their plural.
fn prefix(plural: &str) -> &'static str {
    match plural {
        "deployments" | "replicasets" | "daemonsets" | "statefulsets" => "/apis/apps/v1",
        "horizontalpodautoscalers" => "/apis/autoscaling/v2",
        "ingresses" => "/apis/networking.k8s.io/v1",
        "endpointslices" => "/apis/discovery.k8s.io/v1",
        "leases" => "/apis/coordination.k8s.io/v1",
        "roles" => "/apis/rbac.authorization.k8s.io/v1",
        "widgets" | "gears" => "/apis/example.com/v1",
        "canaries" | "metrictemplates" | "alertproviders" => "/apis/flagger.app/v1beta1",
        "httproutes" => "/apis/gateway.networking.k8s.io/v1",
        // Not the version that is stored.
        "virtualservices" => "/apis/networking.istio.io/v1beta1",
        _ => "/api/v1",
    }
}

fn full_path(path: &str, space: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    let end = path.find(['/', '?']).unwrap_or(path.len());
    format!("{}/namespaces/{space}/{path}", prefix(&path[..end]))
}

/// Writes kind and apiVersion into a body that leaves them out.
fn complete(verb: &str, path: &str, body: &mut Value) {
    if !matches!(verb, "post" | "put" | "apply") || !body.is_object() || path.contains("/scale") {
        return;
    }
    let parts: Vec<&str> = path
        .split(['/', '?'])
        .filter(|part| !part.is_empty())
        .collect();
    let (version, rest) = match parts.as_slice() {
        ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
        ["api", version, rest @ ..] => ((*version).to_owned(), rest),
        _ => return,
    };
    let plural = if rest.first() == Some(&"namespaces") && rest.len() > 2 {
        rest[2]
    } else {
        rest[0]
    };
    let kind = match plural {
        "configmaps" => "ConfigMap",
        "secrets" => "Secret",
        "services" => "Service",
        "pods" => "Pod",
        "namespaces" => "Namespace",
        "events" => "Event",
        "serviceaccounts" => "ServiceAccount",
        "deployments" => "Deployment",
        "replicasets" => "ReplicaSet",
        "daemonsets" => "DaemonSet",
        "statefulsets" => "StatefulSet",
        "horizontalpodautoscalers" => "HorizontalPodAutoscaler",
        "ingresses" => "Ingress",
        "endpointslices" => "EndpointSlice",
        "leases" => "Lease",
        "roles" => "Role",
        "widgets" => "Widget",
        "gears" => "Gear",
        "canaries" => "Canary",
        "metrictemplates" => "MetricTemplate",
        "alertproviders" => "AlertProvider",
        "httproutes" => "HTTPRoute",
        "virtualservices" => "VirtualService",
        "customresourcedefinitions" => "CustomResourceDefinition",
        "rolebindings" => "RoleBinding",
        "subjectaccessreviews" => "SubjectAccessReview",
        other => match body["kind"].as_str() {
            Some(_) => return,
            None => panic!("no kind known for {other}"),
        },
    };
    let map = body.as_object_mut().unwrap();
    map.entry("apiVersion").or_insert(json!(version));
    map.entry("kind").or_insert(json!(kind));
}

async fn send(
    client: &Client,
    verb: &str,
    path: &str,
    body: &Value,
    metadata: bool,
    user: &str,
) -> (u16, Value) {
    let (method, media) = match verb {
        "get" | "watch" => ("GET", ""),
        "post" => ("POST", "application/json"),
        "put" => ("PUT", "application/json"),
        "delete" => ("DELETE", "application/json"),
        "json" => ("PATCH", "application/json-patch+json"),
        "merge" => ("PATCH", "application/merge-patch+json"),
        "strategic" => ("PATCH", "application/strategic-merge-patch+json"),
        "apply" => ("PATCH", "application/apply-patch+yaml"),
        other => panic!("no such verb: {other}"),
    };
    let path = match (verb, path.contains('?')) {
        ("watch", true) => format!("{path}&watch=true&timeoutSeconds=1"),
        ("watch", false) => format!("{path}?watch=true&timeoutSeconds=1"),
        _ => path.to_owned(),
    };
    let collection = {
        let parts = path
            .split('?')
            .next()
            .unwrap_or_default()
            .split('/')
            .count();
        verb == "get" && parts == if path.starts_with("/api/") { 6 } else { 7 }
    };
    let accept = match (metadata, collection) {
        (true, true) => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        (true, false) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        (false, _) => "application/json",
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path.replace(' ', "%20"))
        .header("accept", accept)
        .header("user-agent", "conformance/1");
    if !user.is_empty() {
        request = request.header("impersonate-user", user);
    }
    if !media.is_empty() {
        request = request.header("content-type", media);
    }
    let bytes = if body.is_null() {
        Vec::new()
    } else {
        body.to_string().into_bytes()
    };
    let response = client
        .send(request.body(Body::from(bytes)).unwrap())
        .await
        .unwrap();
    let code = response.status().as_u16();
    if verb == "watch" && code == 200 {
        let stream = response
            .into_body()
            .into_data_stream()
            .map_err(std::io::Error::other);
        let lines = stream.into_async_read().lines();
        let mut events: Vec<Value> = lines
            .map_ok(|line| serde_json::from_str(&line).unwrap())
            .try_collect()
            .await
            .unwrap();
        // nobody promises when bookmarks come, but the one that ends a list
        events.retain(|event| {
            event["type"] != "BOOKMARK" || event["object"]["metadata"]["annotations"].is_object()
        });
        return (code, json!({"events": events}));
    }
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    let text = || Value::from(String::from_utf8_lossy(&bytes).into_owned());
    (
        code,
        serde_json::from_slice(&bytes).unwrap_or_else(|_| text()),
    )
}

//! The real [`Outside`].

use std::{
    collections::BTreeMap,
    error::Error,
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use reqwest::{
    Client, Proxy, Response,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue},
    redirect::Policy,
};
use rustls::CertificateError;

use crate::plan::MetricServer;

use super::{
    Credentials, Egress, InstantQuery, Outside, Post, PostError, QueryError, RangeQuery, Reply,
    Sample, SecretError,
    egress::{DeniedAddress, Refusal},
    outside::REPLY_LIMIT,
    reading, text,
};

/// Time to establish a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// Time after which an unused connection is closed.
const IDLE: Duration = Duration::from_secs(90);

/// Most HTTP clients that are kept.
const CLIENTS: usize = 32;

/// The real world, over HTTP.
///
/// HTTP clients are kept, and with them their connections: a query to a server that was asked
/// before costs no handshake. Credentials belong to requests, not to clients, so that a rotated
/// Secret is used at once.
pub struct Network {
    secrets: Secrets,
    egress: Egress,
    clients: Mutex<BTreeMap<(bool, Option<String>), Client>>,
}

/// Where Secrets are read.
pub enum Secrets {
    /// In a cluster, with the rights of a client.
    Cluster(kube::Client),
    /// Given beforehand: contents by key, by namespace and name.
    Given(BTreeMap<(String, String), BTreeMap<String, Vec<u8>>>),
}

impl Network {
    /// The network as seen with these Secrets and rules.
    pub fn new(secrets: Secrets, egress: Egress) -> Self {
        // Fails when one is installed already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self {
            secrets,
            egress,
            clients: Mutex::default(),
        }
    }

    fn client(&self, insecure: bool, proxy: Option<&str>) -> Result<Client, Refusal> {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (insecure, proxy.map(str::to_owned));
        if let Some(client) = clients.get(&key) {
            return Ok(client.clone());
        }
        let mut builder = Client::builder()
            .user_agent(concat!("haldane/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT)
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(4)
            .tls_danger_accept_invalid_certs(insecure)
            .dns_resolver(self.egress)
            .no_proxy();
        if let Some(proxy) = proxy {
            let url = self.egress.url(proxy)?;
            let proxy = Proxy::all(url).map_err(|_| {
                Refusal::Invalid(
                    "the proxy's address cannot be used; write http://HOST:PORT".into(),
                )
            })?;
            builder = builder.proxy(proxy);
        }
        let client = builder
            .build()
            .map_err(|error| Refusal::Invalid(cause(&error)))?;
        if clients.len() >= CLIENTS {
            clients.clear();
        }
        clients.insert(key, client.clone());
        Ok(client)
    }

    /// A client of a Prometheus server, and the headers of a query.
    fn prometheus(
        &self,
        server: &MetricServer,
        credentials: &Credentials,
    ) -> Result<(prometheus_http_query::Client, HeaderMap), QueryError> {
        let url = self.egress.url(&server.address)?;
        let client = self.client(server.insecure_skip_verify, None)?;
        let headers = query_headers(&client, server, credentials)?;
        let client = prometheus_http_query::Client::from(client, url.as_str())
            .map_err(|error| QueryError::Invalid(error.to_string()))?;
        Ok((client, headers))
    }

    async fn ask(&self, question: InstantQuery<'_>) -> Result<Vec<Sample>, QueryError> {
        let (client, headers) = self.prometheus(question.server, question.credentials)?;
        let mut request = client.query(question.query);
        if question.pinned {
            request = request.at(question.at.as_second());
        }
        for (name, value) in &headers {
            request = request.header(name.clone(), value.clone());
        }
        let (status, body) = answer(request.get_raw().await, reading::LIMIT).await?;
        if question.pinned {
            return reading::counters(status, &body);
        }
        reading::samples(status, &body)
    }

    async fn ask_range(&self, question: RangeQuery<'_>) -> Result<Vec<Sample>, QueryError> {
        let (client, headers) = self.prometheus(question.server, question.credentials)?;
        let (from, to) = (question.from.as_second(), question.to.as_second());
        #[expect(clippy::cast_precision_loss, reason = "minutes at most")]
        let every = question.every as f64;
        let mut request = client.query_range(question.query, from, to, every);
        for (name, value) in &headers {
            request = request.header(name.clone(), value.clone());
        }
        let (status, body) = answer(request.get_raw().await, reading::RANGE_LIMIT).await?;
        reading::ranges(status, &body)
    }

    async fn send(&self, post: &Post) -> Result<Reply, PostError> {
        let url = self.egress.url(&post.url)?;
        let client = self.client(post.disable_tls, post.proxy.as_deref())?;
        let mut headers = HeaderMap::new();
        for (name, value) in &post.headers {
            headers.insert(header_name(name)?, header_value(name, value)?);
        }
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let response = client
            .post(url)
            .headers(headers)
            .body(post.body.clone())
            .send()
            .await
            .map_err(|error| PostError::from(failure(&error)))?;
        let status = response.status().as_u16();
        let body = read(response, REPLY_LIMIT)
            .await
            .map_err(|error| PostError::from(failure(&error)))?;
        Ok(Reply { status, body })
    }
}

/// A Secret's contents by key, read with the rights of a client.
///
/// # Errors
/// When there is no such Secret, or the API server does not give it.
pub async fn read_secret(
    client: &kube::Client,
    namespace: &str,
    name: &str,
) -> Result<BTreeMap<String, Vec<u8>>, SecretError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let secret = secrets.get_opt(name).await.map_err(|error| {
        SecretError::Unavailable(if let kube::Error::Api(status) = error {
            format!("the API server answered {} {}", status.code, status.reason)
        } else {
            "the API server cannot be reached".to_owned()
        })
    })?;
    let data = secret.ok_or(SecretError::NotFound)?.data;
    Ok(data
        .unwrap_or_default()
        .into_iter()
        .map(|(key, value)| (key, value.0))
        .collect())
}

impl Outside for Network {
    fn instant_query<'a>(
        &'a self,
        question: InstantQuery<'a>,
    ) -> BoxFuture<'a, Result<Vec<Sample>, QueryError>> {
        self.ask(question).boxed()
    }

    fn range_query<'a>(
        &'a self,
        question: RangeQuery<'a>,
    ) -> BoxFuture<'a, Result<Vec<Sample>, QueryError>> {
        self.ask_range(question).boxed()
    }

    fn post<'a>(&'a self, post: &'a Post) -> BoxFuture<'a, Result<Reply, PostError>> {
        self.send(post).boxed()
    }

    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, Vec<u8>>, SecretError>> {
        match &self.secrets {
            Secrets::Cluster(client) => read_secret(client, namespace, name).boxed(),
            Secrets::Given(secrets) => {
                let secret = secrets.get(&(namespace.to_owned(), name.to_owned()));
                let secret = secret.cloned().ok_or_else(|| {
                    SecretError::Unavailable("not in the files; add its manifest".to_owned())
                });
                async move { secret }.boxed()
            }
        }
    }
}

/// Status and body of an answer, of which one byte more than allowed is read.
async fn answer(
    response: Result<Response, prometheus_http_query::Error>,
    limit: usize,
) -> Result<(u16, Vec<u8>), QueryError> {
    let response = response.map_err(|error| {
        if let prometheus_http_query::Error::Client(client) = &error
            && let Some(error) = client.inner()
        {
            return failure(error).into();
        }
        QueryError::Invalid(error.to_string())
    })?;
    let status = response.status().as_u16();
    let body = read(response, limit + 1)
        .await
        .map_err(|error| QueryError::from(failure(&error)))?;
    Ok((status, body))
}

/// The headers of a query: the template's, but for those that steer connections, proxies or
/// identities, and the credentials, which win.
fn query_headers(
    client: &Client,
    server: &MetricServer,
    credentials: &Credentials,
) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::new();
    for (name, values) in &server.headers {
        for value in values {
            headers.append(header_name(name)?, header_value(name, value)?);
        }
    }
    let request = client.get(server.address.as_str());
    let request = match credentials {
        Credentials::None => return Ok(headers),
        Credentials::Bearer(token) => request.bearer_auth(token),
        Credentials::Basic { username, password } => request.basic_auth(username, Some(password)),
    };
    let unusable =
        |_| Refusal::Invalid("the Secret's values have characters that headers cannot have".into());
    let request = request.build().map_err(unusable)?;
    headers.remove(AUTHORIZATION);
    headers.extend(
        request
            .headers()
            .get(AUTHORIZATION)
            .map(|value| (AUTHORIZATION, value.clone())),
    );
    Ok(headers)
}

fn header_name(name: &str) -> Result<HeaderName, Refusal> {
    const STEERING: [&str; 8] = [
        "connection",
        "content-length",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let shown = text::first_line(name);
    let found = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| Refusal::Invalid(format!("{shown:?} is not the name of a header")))?;
    let lower = found.as_str();
    if STEERING.contains(&lower) || lower.starts_with("proxy-") || lower.starts_with("impersonate-")
    {
        return Err(Refusal::Invalid(format!(
            "the header {shown} may not be set; remove it"
        )));
    }
    Ok(found)
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(value).map_err(|_| {
        Refusal::Invalid(format!(
            "the value of the header {} has characters that headers cannot have",
            text::first_line(name)
        ))
    })
}

/// The start of a body, at most `limit` bytes.
async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = limit - body.len();
        body.extend_from_slice(chunk.get(..room).unwrap_or(&chunk));
        if body.len() >= limit {
            break;
        }
    }
    Ok(body)
}

/// What went wrong on the way.
enum Failure {
    Denied(String),
    TimedOut,
    Certificate(String),
    Connection(String),
}

fn failure(error: &reqwest::Error) -> Failure {
    let mut source: Option<&(dyn Error + 'static)> = error.source();
    while let Some(inner) = source {
        if let Some(denied) = inner.downcast_ref::<DeniedAddress>() {
            return Failure::Denied(denied.to_string());
        }
        if let Some(why) = distrust(inner) {
            return Failure::Certificate(format!(
                "the server's TLS certificate is not trusted: {why}; let an authority that the \
                 operator trusts sign it"
            ));
        }
        source = inner.source();
    }
    if error.is_timeout() {
        return Failure::TimedOut;
    }
    let what = if error.is_dns() {
        "the host's name cannot be resolved"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke"
    };
    Failure::Connection(format!("{what}: {}", cause(error)))
}

/// Why a certificate is not trusted, if that is what an error says. Nothing of what the
/// certificate says is repeated, and no address.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "the library may add kinds of errors at any time"
)]
fn distrust(error: &(dyn Error + 'static)) -> Option<&'static str> {
    // An I/O error hides the error that it was made of from `source`, perhaps another I/O error.
    if let Some(io) = error.downcast_ref::<io::Error>() {
        return io.get_ref().and_then(|inner| distrust(inner));
    }
    let rustls::Error::InvalidCertificate(why) = error.downcast_ref::<rustls::Error>()? else {
        return None;
    };
    Some(match why {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired",
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet"
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another host name"
        }
        CertificateError::Revoked => "it was revoked",
        CertificateError::UnknownIssuer => "its issuer is unknown",
        _ => "it cannot be verified",
    })
}

/// The innermost cause of an error, which does not know the address.
fn cause(error: &(dyn Error + 'static)) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    if inner.is::<reqwest::Error>() {
        return "the HTTP client failed".to_owned();
    }
    text::first_line(&inner.to_string())
}

impl From<Failure> for QueryError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Denied(text) => Self::Denied(text),
            Failure::TimedOut => Self::TimedOut(CONNECT),
            Failure::Certificate(text) => Self::Certificate(text),
            Failure::Connection(text) => Self::Connection(text),
        }
    }
}

impl From<Failure> for PostError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Denied(text) => Self::Denied(text),
            Failure::TimedOut => Self::TimedOut(CONNECT),
            Failure::Certificate(text) => Self::Certificate(text),
            Failure::Connection(text) => Self::Connection(text),
        }
    }
}

impl From<Refusal> for QueryError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(text) => Self::Invalid(text),
            Refusal::Denied(text) => Self::Denied(text),
        }
    }
}

impl From<Refusal> for PostError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Invalid(text) => Self::Invalid(text),
            Refusal::Denied(text) => Self::Denied(text),
        }
    }
}

#[cfg(test)]
#[path = "network_tests.rs"]
mod tests;

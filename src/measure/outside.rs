//! Everything of a measurement that leaves the process.

use std::{collections::BTreeMap, fmt, time::Duration};

use futures::future::BoxFuture;
use jiff::Timestamp;

use crate::plan::MetricServer;

/// Most bytes that are read of a reply to a POST.
pub const REPLY_LIMIT: usize = 64 * 1024;

/// The world beyond the operator: metrics servers, webhooks, chats, Secrets.
///
/// [`Network`](super::Network) is the real one; the embedded world has its own, on virtual time.
/// Implementations need no time-outs: callers bound every call by tokio's clock.
pub trait Outside: Send + Sync {
    /// Asks a Prometheus server for the value of an expression.
    ///
    /// # Errors
    /// When there is no answer, or it cannot be read as samples.
    fn instant_query<'a>(
        &'a self,
        question: InstantQuery<'a>,
    ) -> BoxFuture<'a, Result<Vec<Sample>, QueryError>>;

    /// Posts JSON and returns the reply, whatever its status. Redirects are not followed.
    ///
    /// # Errors
    /// When there is no reply.
    fn post<'a>(&'a self, post: &'a Post) -> BoxFuture<'a, Result<Reply, PostError>>;

    /// Reads a Secret's data.
    ///
    /// # Errors
    /// When there is no such Secret, or it may not be read.
    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, Vec<u8>>, SecretError>>;
}

/// A question to a Prometheus server.
#[derive(Clone, Copy, Debug)]
pub struct InstantQuery<'a> {
    /// The server.
    pub server: &'a MetricServer,
    /// What it wants to know before it answers.
    pub credentials: &'a Credentials,
    /// PromQL.
    pub query: &'a str,
    /// The time of asking. Real servers answer by their own clock, so that a skew between the
    /// clocks does not empty a range.
    pub at: Timestamp,
    /// Whether the server must answer as of `at`, not as of its own time.
    pub pinned: bool,
}

/// One value of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Labels of the series.
    pub labels: BTreeMap<String, String>,
    /// Time of the value.
    pub timestamp: Timestamp,
    /// The value; may be NaN or infinite.
    pub value: f64,
}

/// What a metrics server wants to know before it answers.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Credentials {
    /// Nothing.
    #[default]
    None,
    /// User name and password.
    Basic {
        /// User name.
        username: String,
        /// Password.
        password: String,
    },
    /// A bearer token.
    Bearer(String),
}

impl Credentials {
    /// Reads a Secret with `token`, or with `username` and `password`.
    ///
    /// # Errors
    /// When neither is there as text; says which key is missing, never a value.
    pub fn read(secret: &BTreeMap<String, Vec<u8>>) -> Result<Self, &'static str> {
        let text = |key: &str, problem| {
            secret
                .get(key)
                .map(|value| std::str::from_utf8(value).map(|text| text.trim_end().to_owned()))
                .transpose()
                .map_err(|_| problem)
        };
        if let Some(token) = text("token", "key token is not text")? {
            return Ok(Self::Bearer(token));
        }
        match (
            text("username", "key username is not text")?,
            text("password", "key password is not text")?,
        ) {
            (Some(username), Some(password)) => Ok(Self::Basic { username, password }),
            (Some(_), None) => Err("key password is missing"),
            (None, _) => Err("keys token, or username and password, are missing"),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Basic { .. } => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
        })
    }
}

/// A POST of JSON.
#[derive(Clone, PartialEq, Eq)]
pub struct Post {
    /// Address. May hold a secret, as the addresses of chats do.
    pub url: String,
    /// The JSON text.
    pub body: Vec<u8>,
    /// Headers beside `Content-Type`.
    pub headers: BTreeMap<String, String>,
    /// Time until the reply must have been read.
    pub timeout: Duration,
    /// Accept any TLS certificate.
    pub disable_tls: bool,
    /// HTTP proxy on the way.
    pub proxy: Option<String>,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("timeout", &self.timeout)
            .field("disable_tls", &self.disable_tls)
            .finish_non_exhaustive()
    }
}

/// A reply to a [`Post`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// The body, at most its first 64 KiB.
    pub body: Vec<u8>,
}

/// Why a [`Post`] had no reply. Texts never contain the address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The address, a header or the proxy cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The address is one that the operator does not call.
    #[error("{0}")]
    Denied(String),
    /// The server's TLS certificate is not trusted.
    #[error("{0}")]
    Certificate(String),
    /// No connection, or it broke.
    #[error("{0}")]
    Connection(String),
    /// Too slow.
    #[error("no reply within {}", super::text::seconds(*.0))]
    TimedOut(Duration),
}

/// Why a metrics server gave no samples. Texts contain nothing that the server wrote.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// The address or a header cannot be used.
    #[error("{0}")]
    Invalid(String),
    /// The address is one that the operator does not call.
    #[error("{0}")]
    Denied(String),
    /// The server's TLS certificate is not trusted.
    #[error("{0}, or set insecureSkipVerify: true in the MetricTemplate's provider")]
    Certificate(String),
    /// No connection, or it broke.
    #[error("{0}")]
    Connection(String),
    /// Too slow.
    #[error("no answer within {}", super::text::seconds(*.0))]
    TimedOut(Duration),
    /// The server answered with an error.
    #[error("the server answered HTTP {status}{}", kind.map(|kind| format!(", {kind}")).unwrap_or_default())]
    Refused {
        /// HTTP status.
        status: u16,
        /// Prometheus' word for the error.
        kind: Option<&'static str>,
    },
    /// The answer is too long.
    #[error("the answer has more than {0} bytes; let the query return one series")]
    TooLarge(usize),
    /// The answer is not what a Prometheus server writes.
    #[error("the answer is not that of a Prometheus server: {0}")]
    Unreadable(&'static str),
    /// The answer holds ranges of values.
    #[error(
        "query returned multiple values: found a range of values for each series; apply a function such as rate() or avg_over_time()"
    )]
    Ranges,
}

/// Why a Secret could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// It does not exist.
    #[error("not found")]
    NotFound,
    /// The API server refused, or could not be reached.
    #[error("{0}")]
    Unavailable(String),
}

/// Posts, and gives up at the post's time-out.
///
/// # Errors
/// When there is no reply in time.
pub async fn deliver(outside: &dyn Outside, post: &Post) -> Result<Reply, PostError> {
    tokio::time::timeout(post.timeout, outside.post(post))
        .await
        .unwrap_or(Err(PostError::TimedOut(post.timeout)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(pairs: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.to_vec()))
            .collect()
    }

    #[test]
    fn secret_with_a_token_or_a_password_is_read() {
        assert_eq!(
            Credentials::read(&secret(&[("token", b"t\n"), ("username", b"u")])),
            Ok(Credentials::Bearer("t".into()))
        );
        assert_eq!(
            Credentials::read(&secret(&[("username", b"u"), ("password", b"p")])),
            Ok(Credentials::Basic {
                username: "u".into(),
                password: "p".into()
            })
        );
    }

    #[test]
    fn secret_without_credentials_is_refused_by_key() {
        for (pairs, problem) in [
            (&[][..], "keys token, or username and password, are missing"),
            (&[("username", &b"u"[..])], "key password is missing"),
            (&[("token", &[0xff][..])], "key token is not text"),
        ] {
            assert_eq!(Credentials::read(&secret(pairs)), Err(problem));
        }
    }

    #[test]
    fn secrets_do_not_show_when_printed() {
        let credentials = Credentials::Bearer("hunter2".into());
        let post = Post {
            url: "https://chat/hunter2".into(),
            body: b"hunter2".to_vec(),
            headers: BTreeMap::from([("Authorization".into(), "hunter2".into())]),
            timeout: Duration::from_secs(5),
            disable_tls: false,
            proxy: None,
        };
        assert!(!format!("{credentials:?} {post:?}").contains("hunter2"));
    }
}

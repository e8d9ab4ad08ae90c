//! The tower service: an HTTP request in, an HTTP answer out.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use http::{Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use serde_json::Value;
use tokio::time::sleep;
use tower::Service;

use super::ApiServer;
use super::answer::Answer;
use super::error::Refusal;
use super::intercept::{After, Before, Outcome};
use super::request::{self, Request, Verb};
use crate::controller::ANSWER_TIMEOUT;

/// The body of an answer.
pub type ResponseBody = UnsyncBoxBody<Bytes, Infallible>;

/// The connection broke before an answer arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("connection reset by the API server")]
pub struct ConnectionReset;

/// The API server as one user sees it.
#[derive(Clone)]
pub struct Connection {
    server: ApiServer,
    user: String,
}

impl Connection {
    /// The server, spoken to by `user`.
    pub fn new(server: ApiServer, user: impl Into<String>) -> Self {
        Self {
            server,
            user: user.into(),
        }
    }
}

impl<B> Service<http::Request<B>> for Connection
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::fmt::Display,
{
    type Response = Response<ResponseBody>;
    type Error = ConnectionReset;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let this = self.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = match body.collect().await {
                Ok(body) => body.to_bytes(),
                Err(_) => return Err(ConnectionReset),
            };
            let read = this.server.look(|state| {
                Request::read(
                    &head.method,
                    &head.uri,
                    &head.headers,
                    body,
                    &state.registry,
                )
            });
            match read {
                Ok(request) => this.serve(request, &head.uri.to_string()).await,
                Err(refusal) => {
                    let asked = request::asked(&head.method, &head.uri);
                    let allowed =
                        asked.map_or(Ok(()), |asked| this.server.allows(&this.user, &asked));
                    Ok(refused(&allowed.err().unwrap_or(refusal)))
                }
            }
        })
    }
}

impl Connection {
    async fn serve(
        &self,
        request: Request,
        path: &str,
    ) -> Result<Response<ResponseBody>, ConnectionReset> {
        let call = self.server.enter(&self.user, &request, path);
        let interceptor = self.server.interceptor();
        let mut behind = 0;
        if let Some(interceptor) = &interceptor {
            match interceptor.before(&call) {
                Before::Proceed => {}
                Before::Delay(time) => sleep(time).await,
                Before::Refuse(refusal) => return Ok(refused(&refusal)),
                Before::Reset => return Err(ConnectionReset),
                Before::Hang => {
                    // What the operator's connection does then.
                    sleep(ANSWER_TIMEOUT).await;
                    return Err(ConnectionReset);
                }
                Before::Stale(revisions) => behind = revisions,
            }
        }
        let verb = request.verb;
        let mut whole = true;
        let answer = self
            .server
            .throttle(&call)
            .and_then(|()| self.server.authorize(&call))
            .and_then(|()| self.server.answer(&call, &request, behind));
        if let Err(refusal) = &answer {
            self.server.count_refusal(refusal.code);
        }
        if let Some(interceptor) = &interceptor {
            let outcome = match &answer {
                Ok(answer) => Outcome {
                    code: answer.code(),
                    reason: "",
                },
                Err(refusal) => Outcome {
                    code: refusal.code,
                    reason: refusal.reason,
                },
            };
            match interceptor.after(&call, outcome) {
                After::Deliver => {}
                After::Delay(time) => sleep(time).await,
                After::Replace(refusal) => return Ok(refused(&refusal)),
                After::Lose => return Err(ConnectionReset),
                After::Hang => {
                    // What the operator's connection does then.
                    sleep(ANSWER_TIMEOUT).await;
                    return Err(ConnectionReset);
                }
                After::Truncate => whole = false,
            }
        }
        match answer {
            Ok(Answer::Json(code, text)) if whole => Ok(response(code, text)),
            Ok(Answer::Json(code, text)) => Ok(response(code, text.slice(..text.len() / 2))),
            Ok(Answer::Watch(watch)) => {
                debug_assert_eq!(verb, Verb::Watch, "only a watch answers with a stream");
                let frames = watch.lines().map(|line| Ok(Frame::data(line)));
                Ok(with_body(200, StreamBody::new(frames).boxed_unsync()))
            }
            Err(refusal) => Ok(refused(&refusal)),
        }
    }
}

fn with_body(code: u16, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() =
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static("application/json"),
    );
    response
}

fn response(code: u16, text: Bytes) -> Response<ResponseBody> {
    with_body(code, Full::new(text).boxed_unsync())
}

fn refused(refusal: &Refusal) -> Response<ResponseBody> {
    if refusal.code == 404 && refusal.reason.is_empty() {
        // a group that nobody serves is answered by the mux, in plain text
        return response(404, Bytes::from(refusal.details.message.clone()));
    }
    let status: Value = refusal.to_status();
    let mut response = response(refusal.code, Bytes::from(status.to_string()));
    if let Some(seconds) = refusal.details.retry_after {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, header::HeaderValue::from(seconds));
    }
    response
}

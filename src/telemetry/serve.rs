//! The HTTP server of `/metrics`, `/healthz` and `/readyz`.

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use super::{
    health::{Health, Unhealthy},
    metrics::Metrics,
};

/// Listens on a port of all addresses; 0 chooses a free port.
///
/// # Errors
/// When the port is taken or may not be used.
pub async fn listen(port: u16) -> io::Result<TcpListener> {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await {
        // Nodes without IPv6.
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await
        }
        other => other,
    }
}

/// Answers until `stop` is ready, then finishes the requests under way.
///
/// # Errors
/// When the server cannot go on.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(metrics, health))
        .with_graceful_shutdown(stop)
        .await
}

fn router(metrics: Arc<Metrics>, health: Arc<Health>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .with_state(health)
        .merge(
            Router::new()
                .route("/metrics", get(scrape))
                .with_state(metrics),
        )
}

async fn healthz(State(health): State<Arc<Health>>) -> Response {
    answer(health.check_alive())
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    answer(health.check_ready())
}

fn answer(check: Result<(), Unhealthy>) -> Response {
    match check {
        Ok(()) => "OK\n".into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> Response {
    match metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, Metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, http::Request};
    use http_body_util::BodyExt;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        sync::oneshot,
    };
    use tower::ServiceExt;

    use super::*;
    use crate::api::Provider;

    fn parts() -> (Arc<Metrics>, Arc<Health>) {
        (
            Arc::new(Metrics::new(Provider::Istio)),
            Arc::new(Health::new(Health::STALE_AFTER, ["canaries"])),
        )
    }

    async fn get(router: &Router, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn probes_tell_state_and_reason() {
        let (metrics, health) = parts();
        let router = router(metrics, health.clone());
        let ok = (StatusCode::OK, "OK\n".to_owned());
        assert_eq!(get(&router, "/healthz").await, ok);
        assert_eq!(
            get(&router, "/readyz").await,
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "not ready yet: canaries\n".to_owned()
            )
        );
        health.ready("canaries");
        assert_eq!(get(&router, "/readyz").await, ok);
        tokio::time::advance(Health::STALE_AFTER * 2).await;
        assert_eq!(
            get(&router, "/healthz").await,
            (
                StatusCode::SERVICE_UNAVAILABLE,
                "the loop has not turned for 120 s\n".to_owned()
            )
        );
    }

    #[tokio::test]
    async fn server_answers_until_it_is_stopped() {
        let (metrics, health) = parts();
        let listener = listen(0).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (stop, stopped) = oneshot::channel();
        let served = tokio::spawn(serve(listener, metrics, health, async {
            let _ = stopped.await;
        }));
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .unwrap();
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(answer.contains("application/openmetrics-text"), "{answer}");
        assert!(answer.contains("flagger_info{"), "{answer}");
        stop.send(()).unwrap();
        served.await.unwrap().unwrap();
    }
}

#![allow(clippy::unwrap_used)]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    sync::Arc,
    thread,
};

use jiff::Timestamp;
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};

use crate::{
    api::{HookType, MetricProviderType, analysis::ThresholdRange},
    plan::{Check, HookCall, HookPayload, MetricQuery, MetricServer, MetricSource, Outcome, Probe},
};

use super::*;
use crate::measure::run;

const VECTOR: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1767225600,"42"]}]}}"#;

/// A TLS server on loopback with a certificate that nobody but itself vouches for. It answers
/// every request with the same body, and lives as long as the process.
fn self_signed_server(names: &[&str], is_ca: rcgen::IsCa, body: &'static str) -> u16 {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = rcgen::CertificateParams::new(names).unwrap();
    params.is_ca = is_ca;
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let config =
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for connection in listener.incoming() {
            let tls = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = BufReader::new(StreamOwned::new(tls, connection.unwrap()));
            // A client that does not trust us hangs up: then there is nothing to answer.
            if read_request(&mut stream).is_some() {
                let length = body.len();
                let reply = format!(
                    "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                );
                let _ = stream.get_mut().write_all(reply.as_bytes());
                stream.get_mut().conn.send_close_notify();
                let _ = stream.get_mut().flush();
            }
        }
    });
    port
}

/// Reads one request with its body.
fn read_request(stream: &mut impl BufRead) -> Option<()> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
    }
    stream.read_exact(&mut vec![0; length]).ok()
}

fn network() -> Network {
    let kube = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let _ = rustls::crypto::ring::default_provider().install_default();
    Network::new(
        Secrets::Cluster(kube::Client::try_from(kube).unwrap()),
        Egress { loopback: true },
    )
}

async fn outcome(probe: Probe) -> Outcome {
    let check = Check {
        id: "check".to_owned(),
        stages: vec![vec![probe]],
    };
    let answer = run(
        &check,
        &network(),
        Timestamp::from_second(1_767_225_600).unwrap(),
    )
    .await;
    answer.stages[0][0].clone()
}

fn hook(port: u16, disable_tls: bool) -> Probe {
    Probe::Hook(HookCall {
        name: "gate".to_owned(),
        kind: HookType::ConfirmRollout,
        url: format!("https://127.0.0.1:{port}/gate"),
        timeout: Duration::from_secs(10),
        // Tries again would take minutes: a certificate does not heal by itself.
        retries: 10,
        disable_tls,
        payload: HookPayload {
            name: "podinfo".to_owned(),
            namespace: "test".to_owned(),
            phase: "Progressing".to_owned(),
            checksum: "0".to_owned(),
            metadata: None,
        },
    })
}

fn metric(port: u16, insecure_skip_verify: bool) -> Probe {
    Probe::Metric(MetricQuery {
        name: "errors".to_owned(),
        source: MetricSource::Inline,
        server: MetricServer {
            kind: MetricProviderType::Prometheus,
            address: format!("https://127.0.0.1:{port}"),
            secret: None,
            region: None,
            headers: BTreeMap::new(),
            insecure_skip_verify,
        },
        query: "vector(42)".to_owned(),
        interval: "1m".to_owned(),
        scale: 1.0,
        whole: false,
        bound: ThresholdRange::default(),
    })
}

#[tokio::test]
async fn webhook_of_a_server_with_a_certificate_of_its_own_needs_disable_tls() {
    for is_ca in [
        rcgen::IsCa::NoCa,
        rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
    ] {
        let port = self_signed_server(&["127.0.0.1"], is_ca, "");
        let Outcome::Refused(why) = outcome(hook(port, false)).await else {
            unreachable!("the certificate was trusted");
        };
        assert!(
            why.starts_with("the server's TLS certificate is not trusted: it"),
            "{why}"
        );
        assert!(why.ends_with(", or set disableTLS: true"), "{why}");
        assert!(!why.contains("127.0.0.1"), "{why}");
        assert_eq!(outcome(hook(port, true)).await, Outcome::Agreed);
    }
}

#[tokio::test]
async fn webhook_with_disable_tls_does_not_ask_for_whom_the_certificate_is() {
    let port = self_signed_server(&["elsewhere.example"], rcgen::IsCa::NoCa, "");
    assert!(matches!(
        outcome(hook(port, false)).await,
        Outcome::Refused(why) if why.contains("certificate is not trusted") && !why.contains("elsewhere")
    ));
    assert_eq!(outcome(hook(port, true)).await, Outcome::Agreed);
}

#[tokio::test]
async fn metric_of_a_server_with_a_certificate_of_its_own_needs_insecure_skip_verify() {
    let port = self_signed_server(&["127.0.0.1"], rcgen::IsCa::NoCa, VECTOR);
    let Outcome::Unavailable(why) = outcome(metric(port, false)).await else {
        unreachable!("the certificate was trusted");
    };
    assert_eq!(
        why,
        "the server's TLS certificate is not trusted: its issuer is unknown; let an authority \
         that the operator trusts sign it, or set insecureSkipVerify: true in the \
         MetricTemplate's provider"
    );
    assert_eq!(outcome(metric(port, true)).await, Outcome::Value(42.0));
}

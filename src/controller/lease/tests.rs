//! The decision by tables; candidates against a scripted Lease server on paused time.

use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::{Value, json};
use tokio::{sync::oneshot, time::sleep};

use super::*;

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn held_by(holder: &str, lease_seconds: Option<i32>) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: lease_seconds,
        lease_transitions: Some(3),
        ..LeaseSpec::default()
    }
}

#[test]
fn timing_outside_of_its_bounds_is_refused() {
    assert_eq!(Timing::of(seconds(15)), Some(Timing::default()));
    for lease in [2, 301, u64::MAX] {
        assert_eq!(Timing::of(seconds(lease)), None, "{lease}");
    }
}

#[test]
fn lease_of_another_replica_is_left_alone_until_it_has_run_out() {
    let timing = Timing::default();
    let since = Instant::now();
    for (record, lease) in [
        (held_by("b", Some(60)), 60),
        (held_by("b", Some(15)), 15),
        (held_by("b", None), 15),
        (held_by("b", Some(0)), 15),
        (held_by("b", Some(-4)), 15),
    ] {
        let observed = Observed {
            spec: record.clone(),
            since,
        };
        let at = |now| decide("a", Some(&observed), now, Timestamp::UNIX_EPOCH, timing);
        let last = since + seconds(lease) - Duration::from_millis(1);
        assert_eq!(at(last), Step::Wait(since + seconds(lease)), "{record:?}");
        assert_eq!(at(since), Step::Wait(since + timing.retry), "{record:?}");
        assert!(
            matches!(at(since + seconds(lease)), Step::Hold(_)),
            "{record:?}"
        );
    }
}

#[test]
fn lease_without_holder_is_taken_at_once() {
    let now = Instant::now();
    for spec in [held_by("", Some(60)), LeaseSpec::default()] {
        let observed = Observed { spec, since: now };
        let step = decide(
            "a",
            Some(&observed),
            now,
            Timestamp::UNIX_EPOCH,
            Timing::default(),
        );
        assert!(matches!(step, Step::Hold(_)), "{observed:?}");
    }
}

#[test]
fn takeover_counts_a_transition_and_renewal_does_not() {
    let now = Instant::now();
    let wall = Timestamp::UNIX_EPOCH;
    for (holder, transitions, acquired) in [("", 4, Some(MicroTime(wall))), ("a", 3, None)] {
        let observed = Observed {
            spec: held_by(holder, Some(15)),
            since: now,
        };
        let expected = LeaseSpec {
            acquire_time: acquired,
            holder_identity: Some("a".to_owned()),
            lease_duration_seconds: Some(15),
            lease_transitions: Some(transitions),
            renew_time: Some(MicroTime(wall)),
            ..LeaseSpec::default()
        };
        assert_eq!(
            decide("a", Some(&observed), now, wall, Timing::default()),
            Step::Hold(Box::new(expected)),
            "{holder:?}"
        );
    }
}

#[test]
fn record_seen_again_keeps_the_time_when_it_was_first_seen() {
    let first = Instant::now();
    let later = first + seconds(9);
    let seen = Observed::update(None, held_by("b", Some(15)), first);
    let again = Observed::update(Some(seen.clone()), held_by("b", Some(15)), later);
    assert_eq!(again.since, first);
    let renewed = LeaseSpec {
        renew_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
        ..held_by("b", Some(15))
    };
    assert_eq!(Observed::update(Some(seen), renewed, later).since, later);
}

#[test]
fn identities_of_two_processes_differ() {
    assert_ne!(identity("haldane-0"), identity("haldane-0"));
}

/// What the server does with a replica's requests.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// The write is stored, but the answer never comes.
    LoseAnswer,
    Hang,
    Unavailable,
}

#[derive(Default)]
struct Stored {
    lease: Option<Value>,
    version: u64,
    writes: Vec<(Instant, String)>,
}

/// A server with one Lease.
#[derive(Clone, Default)]
struct Server(Arc<Mutex<Stored>>);

impl Server {
    /// A client whose faults can be switched.
    fn client(&self) -> (Client, Arc<Mutex<Fault>>) {
        let fault = Arc::new(Mutex::new(Fault::None));
        let (server, switch) = (self.clone(), fault.clone());
        let service = tower::service_fn(move |request: Request<Body>| {
            let (server, switch) = (server.clone(), switch.clone());
            async move {
                let (parts, body) = request.into_parts();
                let bytes = body.collect().await?.to_bytes();
                let fault = *switch.lock().unwrap();
                let writes = parts.method != Method::GET;
                if fault == Fault::Hang {
                    std::future::pending::<()>().await;
                }
                if fault == Fault::Unavailable {
                    return Ok(status(StatusCode::INTERNAL_SERVER_ERROR));
                }
                let answer = server.answer(&parts.method, serde_json::from_slice(&bytes).ok());
                if fault == Fault::LoseAnswer && writes {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Box<dyn std::error::Error + Send + Sync>>(answer)
            }
        });
        (Client::new(service, "ops"), fault)
    }

    fn answer(&self, method: &Method, body: Option<Value>) -> Response<Full<bytes::Bytes>> {
        let mut stored = self.0.lock().unwrap();
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        let refused = match (method, &stored.lease, &body) {
            (&Method::POST, Some(_), _) => Some(StatusCode::CONFLICT),
            (&Method::PUT | &Method::GET, None, _) => Some(StatusCode::NOT_FOUND),
            (&Method::PUT, Some(lease), Some(new)) if version(lease) != version(new) => {
                Some(StatusCode::CONFLICT)
            }
            _ => None,
        };
        if let Some(code) = refused {
            return status(code);
        }
        if let Some(mut lease) = body {
            stored.version += 1;
            lease["metadata"]["resourceVersion"] = json!(stored.version.to_string());
            let holder = lease["spec"]["holderIdentity"].as_str().unwrap();
            let write = (Instant::now(), holder.to_owned());
            stored.writes.push(write);
            stored.lease = Some(lease);
        }
        let body = stored.lease.as_ref().unwrap().to_string();
        Response::new(Full::from(body))
    }

    fn holder(&self) -> String {
        let stored = self.0.lock().unwrap();
        stored
            .writes
            .last()
            .map(|(_, holder)| holder.clone())
            .unwrap_or_default()
    }
}

fn status(code: StatusCode) -> Response<Full<bytes::Bytes>> {
    let reason = match code {
        StatusCode::NOT_FOUND => "NotFound",
        StatusCode::CONFLICT => "Conflict",
        _ => "InternalError",
    };
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": code.as_str(), "reason": reason, "code": code.as_u16(),
    });
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = code;
    response
}

/// A running candidate.
struct Replica {
    leadership: Leadership,
    fault: Arc<Mutex<Fault>>,
    stop: Option<oneshot::Sender<()>>,
    ended: tokio::task::JoinHandle<Ended>,
}

impl Replica {
    fn start(server: &Server, name: &str) -> Self {
        let (client, fault) = server.client();
        let election = Election {
            namespace: "ops".to_owned(),
            lease: "flagger-leader-election".to_owned(),
            timing: Timing::default(),
        };
        let (candidate, leadership) = Candidate::new(client, election, name.to_owned());
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(candidate.run(async {
            let _ = stopped.await;
        }));
        Self {
            leadership,
            fault,
            stop: Some(stop),
            ended,
        }
    }

    /// Waits for the lead; far longer than it can take.
    async fn leads(&self) {
        timeout(seconds(100), self.leadership.wait_leader())
            .await
            .unwrap()
            .unwrap();
    }

    /// Waits for the end; far longer than it can take.
    async fn ends(&mut self) -> Ended {
        timeout(seconds(100), &mut self.ended)
            .await
            .unwrap()
            .unwrap()
    }

    fn breaks(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }
}

#[tokio::test(start_paused = true)]
async fn first_replica_leads_and_the_second_waits() {
    let server = Server::default();
    let a = Replica::start(&server, "a");
    a.leads().await;
    let b = Replica::start(&server, "b");
    for _ in 0..120 {
        sleep(seconds(1)).await;
        assert!(a.leadership.is_leader() && !b.leadership.is_leader());
    }
    let renewals = server.0.lock().unwrap().writes.len();
    assert!((35..=45).contains(&renewals), "{renewals} in 2 minutes");
}

#[tokio::test(start_paused = true)]
async fn replicas_that_start_together_elect_one() {
    let server = Server::default();
    let replicas: Vec<_> = ["a", "b", "c"]
        .map(|name| Replica::start(&server, name))
        .into();
    for _ in 0..60 {
        sleep(seconds(1)).await;
        let leaders = replicas.iter().filter(|r| r.leadership.is_leader()).count();
        assert_eq!(leaders, 1);
    }
}

#[tokio::test(start_paused = true)]
async fn replica_that_stops_hands_over_within_two_seconds() {
    let server = Server::default();
    let mut a = Replica::start(&server, "a");
    a.leads().await;
    let b = Replica::start(&server, "b");
    sleep(seconds(7)).await;
    let stopped = Instant::now();
    a.stop.take().unwrap().send(()).unwrap();
    assert_eq!(a.ends().await, Ended::Released);
    assert!(!a.leadership.is_leader());
    b.leads().await;
    assert!(stopped.elapsed() <= seconds(2), "{:?}", stopped.elapsed());
}

#[tokio::test(start_paused = true)]
async fn replica_that_is_cut_off_stops_before_another_takes_over_within_twenty_seconds() {
    for fault in [Fault::Hang, Fault::Unavailable] {
        let server = Server::default();
        let mut a = Replica::start(&server, "a");
        a.leads().await;
        let b = Replica::start(&server, "b");
        sleep(seconds(12)).await;
        let cut = Instant::now();
        a.breaks(fault);
        a.leadership.lost().await;
        assert!(!a.leadership.is_leader());
        let lost = Instant::now();
        assert!(matches!(a.ends().await, Ended::Lost(_)));
        b.leads().await;
        let gap = lost.elapsed();
        assert!(gap >= seconds(4), "room for requests under way: {gap:?}");
        assert!(cut.elapsed() <= seconds(20), "{:?}", cut.elapsed());
        assert_eq!(server.holder(), "b");
    }
}

#[tokio::test(start_paused = true)]
async fn renewal_whose_answer_is_lost_keeps_the_lead() {
    let server = Server::default();
    let a = Replica::start(&server, "a");
    a.leads().await;
    a.breaks(Fault::LoseAnswer);
    let before = server.0.lock().unwrap().writes.len();
    sleep(seconds(4)).await;
    assert_eq!(server.0.lock().unwrap().writes.len(), before + 1);
    a.breaks(Fault::None);
    for _ in 0..60 {
        sleep(seconds(1)).await;
    }
    assert!(a.leadership.is_leader());
}

#[tokio::test(start_paused = true)]
async fn lease_taken_by_another_ends_the_lead() {
    let server = Server::default();
    let mut a = Replica::start(&server, "a");
    a.leads().await;
    {
        let mut stored = server.0.lock().unwrap();
        let lease = stored.lease.as_mut().unwrap();
        lease["metadata"]["resourceVersion"] = json!("900");
        lease["spec"]["holderIdentity"] = json!("z");
    }
    let Ended::Lost(why) = a.ends().await else {
        unreachable!("nobody told it to stop")
    };
    assert!(why.contains("\"z\""), "{why}");
    assert!(!a.leadership.is_leader());
    assert_eq!(server.holder(), "a", "the other's Lease is not touched");
}

#[tokio::test(start_paused = true)]
async fn lease_that_is_deleted_is_made_anew_by_the_one_that_leads() {
    let server = Server::default();
    let a = Replica::start(&server, "a");
    a.leads().await;
    let b = Replica::start(&server, "b");
    sleep(seconds(3)).await;
    server.0.lock().unwrap().lease = None;
    for _ in 0..60 {
        sleep(seconds(1)).await;
        assert!(a.leadership.is_leader() && !b.leadership.is_leader());
    }
}

#[tokio::test]
async fn replica_that_is_alone_always_leads() {
    let alone = Leadership::always();
    assert!(alone.is_leader());
    assert_eq!(alone.wait_leader().await, Ok(()));
}

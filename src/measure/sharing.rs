//! One question to a metrics server for all who ask it at the same time.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use jiff::Timestamp;
use tokio::sync::Semaphore;

use crate::plan::MetricServer;

use super::{
    Credentials, InstantQuery, Outside, Post, PostError, QueryError, RangeQuery, Reply, Sample,
    SecretError,
};

/// Most questions that one server is asked at once. Others wait, within the time that their askers
/// give them: a slow server delays nobody who asks another one, and is not flooded.
const AT_ONCE: usize = 8;

type Answer = Result<Vec<Sample>, QueryError>;
type Flight = BoxFuture<'static, Answer>;

/// The world beyond the operator, of which nobody asks what is being asked already.
///
/// A question belongs to all its askers: it ends when it is answered, or when the last of them
/// gives up.
pub struct Sharing {
    outside: Arc<dyn Outside>,
    flights: Mutex<BTreeMap<Question, WeakShared<Flight>>>,
    servers: Mutex<BTreeMap<String, Arc<Semaphore>>>,
}

/// What makes two questions the same. Credentials are a part of it: an answer is only for those who
/// may have it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Question {
    server: MetricServer,
    credentials: Credentials,
    query: String,
    /// As of when the server answers; `None`: as of its own time.
    at: Option<Timestamp>,
}

impl Sharing {
    /// Shares what `outside` answers.
    pub fn new(outside: Arc<dyn Outside>) -> Self {
        Self {
            outside,
            flights: Mutex::default(),
            servers: Mutex::default(),
        }
    }

    fn ask(&self, question: Question, asked: Timestamp) -> Shared<Flight> {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let under_way =
            |flight: &WeakShared<Flight>| flight.upgrade().filter(|flight| flight.peek().is_none());
        if let Some(flight) = flights.get(&question).and_then(under_way) {
            return flight;
        }
        flights.retain(|_, flight| under_way(flight).is_some());
        let turn = self.server(&question.server.address);
        let outside = Arc::clone(&self.outside);
        let asks = question.clone();
        let flight = async move {
            // Closed by nobody; without a turn the question is asked all the same.
            let _turn = turn.acquire_owned().await.ok();
            let query = InstantQuery {
                server: &asks.server,
                credentials: &asks.credentials,
                query: &asks.query,
                at: asked,
                pinned: asks.at.is_some(),
            };
            outside.instant_query(query).await
        }
        .boxed()
        .shared();
        if let Some(weak) = flight.downgrade() {
            flights.insert(question, weak);
        }
        flight
    }

    fn server(&self, address: &str) -> Arc<Semaphore> {
        let mut servers = self.servers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(server) = servers.get(address) {
            return Arc::clone(server);
        }
        servers.retain(|_, server| Arc::strong_count(server) > 1);
        let server = Arc::new(Semaphore::new(AT_ONCE));
        servers.insert(address.to_owned(), Arc::clone(&server));
        server
    }
}

impl Outside for Sharing {
    fn instant_query<'a>(&'a self, query: InstantQuery<'a>) -> BoxFuture<'a, Answer> {
        let question = Question {
            server: query.server.clone(),
            credentials: query.credentials.clone(),
            query: query.query.to_owned(),
            at: query.pinned.then_some(query.at),
        };
        self.ask(question, query.at).boxed()
    }

    /// Each release looks back at a primary of its own: there is nothing to share.
    fn range_query<'a>(&'a self, query: RangeQuery<'a>) -> BoxFuture<'a, Answer> {
        let turn = self.server(&query.server.address);
        Box::pin(async move {
            let _turn = turn.acquire_owned().await.ok();
            self.outside.range_query(query).await
        })
    }

    fn post<'a>(&'a self, post: &'a Post) -> BoxFuture<'a, Result<Reply, PostError>> {
        self.outside.post(post)
    }

    fn secret<'a>(
        &'a self,
        namespace: &'a str,
        name: &'a str,
    ) -> BoxFuture<'a, Result<BTreeMap<String, Vec<u8>>, SecretError>> {
        self.outside.secret(namespace, name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::{join_all, pending};
    use tokio::time::{sleep, timeout};

    use super::*;

    /// Answers after a second, with the number of the question; never at the address `tarpit`.
    #[derive(Default)]
    struct Slow(Mutex<(u32, usize)>);

    impl Slow {
        fn most_at_once(&self) -> usize {
            self.0.lock().unwrap().1
        }

        fn asked(&self) -> usize {
            self.0.lock().unwrap().0 as usize
        }
    }

    impl Outside for Slow {
        fn instant_query<'a>(&'a self, query: InstantQuery<'a>) -> BoxFuture<'a, Answer> {
            async move {
                let number = {
                    let mut counts = self.0.lock().unwrap();
                    counts.0 += 1;
                    counts.1 += 1;
                    counts.0
                };
                if query.server.address == "tarpit" {
                    pending::<()>().await;
                }
                sleep(Duration::from_secs(1)).await;
                self.0.lock().unwrap().1 -= 1;
                if query.query == "error" {
                    return Err(QueryError::Ranges);
                }
                Ok(vec![Sample {
                    labels: BTreeMap::new(),
                    timestamp: query.at,
                    value: number.into(),
                }])
            }
            .boxed()
        }

        fn post<'a>(&'a self, _: &'a Post) -> BoxFuture<'a, Result<Reply, PostError>> {
            pending().boxed()
        }

        fn secret<'a>(
            &'a self,
            _: &'a str,
            _: &'a str,
        ) -> BoxFuture<'a, Result<BTreeMap<String, Vec<u8>>, SecretError>> {
            pending().boxed()
        }
    }

    fn server(address: &str) -> MetricServer {
        MetricServer::prometheus(address.to_owned())
    }

    fn sharing() -> (Arc<Slow>, Sharing) {
        let slow = Arc::new(Slow::default());
        (slow.clone(), Sharing::new(slow))
    }

    /// One question; the number of the question that was answered.
    async fn ask(
        sharing: &Sharing,
        (address, query, credentials): (&str, &str, Credentials),
        pinned: Option<i64>,
    ) -> Result<f64, QueryError> {
        let question = InstantQuery {
            server: &server(address),
            credentials: &credentials,
            query,
            at: Timestamp::from_second(pinned.unwrap_or_default()).unwrap(),
            pinned: pinned.is_some(),
        };
        let samples = sharing.instant_query(question).await?;
        Ok(samples[0].value)
    }

    #[tokio::test(start_paused = true)]
    async fn same_question_at_the_same_time_is_asked_once() {
        let (slow, sharing) = sharing();
        let same = || ask(&sharing, ("a", "up", Credentials::None), None);
        assert_eq!(join_all((0..5).map(|_| same())).await, vec![Ok(1.0); 5]);
        assert_eq!(same().await, Ok(2.0), "an answer is not kept");
        let error = || ask(&sharing, ("a", "error", Credentials::None), None);
        assert_eq!(
            join_all((0..2).map(|_| error())).await,
            vec![Err(QueryError::Ranges); 2]
        );
        assert_eq!(slow.asked(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn questions_that_differ_in_anything_are_asked_each() {
        let (slow, sharing) = sharing();
        let bearer = |token: &str| Credentials::Bearer(token.to_owned());
        let all = [
            (("a", "up", Credentials::None), None),
            (("b", "up", Credentials::None), None),
            (("a", "down", Credentials::None), None),
            (("a", "up", bearer("x")), None),
            (("a", "up", bearer("y")), None),
            (("a", "up", Credentials::None), Some(7)),
            (("a", "up", Credentials::None), Some(8)),
        ];
        let count = all.len();
        join_all(all.map(|(what, at)| ask(&sharing, what, at))).await;
        assert_eq!(slow.asked(), count);
    }

    #[tokio::test(start_paused = true)]
    async fn answer_comes_though_the_first_asker_gave_up() {
        let (slow, sharing) = sharing();
        let same = || ask(&sharing, ("a", "up", Credentials::None), None);
        let (first, second) = tokio::join!(timeout(Duration::from_millis(500), same()), same());
        assert!(first.is_err());
        assert_eq!((second, slow.asked()), (Ok(1.0), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn server_is_asked_few_questions_at_once_and_keeps_no_other_waiting() {
        let (slow, sharing) = sharing();
        let query = |address: &'static str, number: usize| {
            let sharing = &sharing;
            async move {
                let text = format!("up{number}");
                let what = (address, text.as_str(), Credentials::None);
                timeout(Duration::from_secs(5), ask(sharing, what, None)).await
            }
        };
        let stuck = join_all((0..2 * AT_ONCE).map(|number| query("tarpit", number)));
        let served = join_all((0..2 * AT_ONCE).map(|number| query("a", number)));
        let (stuck, served) = tokio::join!(stuck, served);
        assert!(stuck.iter().all(Result::is_err));
        assert!(served.iter().all(Result::is_ok));
        assert!(slow.most_at_once() <= 2 * AT_ONCE);
        // Who gave up leaves the turn to others.
        assert!(slow.asked() <= 4 * AT_ONCE);
        assert!(sharing.server("tarpit").available_permits() == AT_ONCE);
    }
}

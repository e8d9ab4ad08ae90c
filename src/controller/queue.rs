//! Who is looked at next: several Canaries at a time, none twice at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt, StreamExt, stream::FuturesUnordered};
use kube::runtime::scheduler::{ScheduleRequest, scheduler};
use tokio::{sync::mpsc, time::Instant};

use crate::observe::{Cache, CanaryKey};

use super::{driver::Driver, lease::Leadership};

/// Most Canaries that are looked at at the same time. Looking waits for the API server only.
const MOST_AT_ONCE: usize = 32;

/// How often the loop shows that it is alive.
const BEAT: Duration = Duration::from_secs(10);

/// How long a Canary rests whose look panicked.
const PANIC_REST: Duration = Duration::from_secs(30);

/// Most looks at one Canary in [`SPAN`]. More are those of a dispute with somebody who changes
/// everything back at once, and the API server shall not suffer from it.
const MOST_LOOKS: u32 = 50;

/// See [`MOST_LOOKS`].
const SPAN: Duration = Duration::from_secs(1);

/// Counts looks at Canaries.
#[derive(Default)]
struct Looks(BTreeMap<CanaryKey, (Instant, u32)>);

impl Looks {
    /// Counts a look; when the Canary has had too many, the time of the next one instead.
    fn rest(&mut self, key: &CanaryKey) -> Option<Instant> {
        let now = Instant::now();
        self.0.retain(|_, (since, _)| *since + SPAN > now);
        let (since, count) = self.0.entry(key.clone()).or_insert((now, 0));
        *count += 1;
        (*count > MOST_LOOKS).then(|| *since + SPAN)
    }
}

/// Looks at Canaries as they change or their time comes, until `stop`; then waits for the looks
/// under way.
pub async fn work(
    driver: Arc<Driver>,
    cache: Arc<Cache>,
    changed: mpsc::UnboundedReceiver<CanaryKey>,
    leadership: Leadership,
    beat: impl Fn(),
    stop: impl Future<Output = ()>,
) {
    let (timer, due) = mpsc::unbounded_channel();
    let requests = futures::stream::select(
        stream(changed).map(|message| ScheduleRequest {
            message,
            run_at: Instant::now(),
        }),
        stream(due),
    );
    let mut queue = pin!(scheduler(requests));
    let mut stop = pin!(stop);
    let mut heart = tokio::time::interval(BEAT);
    let mut looking = FuturesUnordered::new();
    let mut busy: BTreeSet<CanaryKey> = BTreeSet::new();
    let mut looks = Looks::default();
    let mut leading = leadership.is_leader();
    let mut lead = Box::pin(wait_for_lead(leadership.clone()));
    loop {
        let room = looking.len() < MOST_AT_ONCE;
        tokio::select! {
            biased;
            () = &mut stop => break,
            _ = heart.tick() => beat(),
            () = &mut lead, if !leading => {
                leading = true;
                for message in cache.canaries() {
                    let _ = timer.send(ScheduleRequest { message, run_at: Instant::now() });
                }
            }
            Some((key, wake)) = looking.next(), if !looking.is_empty() => {
                busy.remove(&key);
                if let Some(run_at) = wake {
                    let _ = timer.send(ScheduleRequest { message: key, run_at });
                }
            }
            Some(key) = async {
                let free = |key: &CanaryKey| !busy.contains(key);
                queue.as_mut().hold_unless(free).next().await
            }, if room => {
                // A replica that does not lead looks at all Canaries once it does.
                if !leading || !leadership.is_leader() {
                    continue;
                }
                if let Some(run_at) = looks.rest(&key) {
                    let _ = timer.send(ScheduleRequest { message: key, run_at });
                    continue;
                }
                busy.insert(key.clone());
                let look = AssertUnwindSafe(Arc::clone(&driver).look(key.clone())).catch_unwind();
                looking.push(async move {
                    let wake = look.await.unwrap_or_else(|_| {
                        tracing::error!(canary = format!("{}.{}", key.name, key.namespace), "panicked");
                        Some(Instant::now() + PANIC_REST)
                    });
                    (key, wake)
                });
            }
        }
    }
    while looking.next().await.is_some() {}
}

async fn wait_for_lead(leadership: Leadership) {
    if leadership.wait_leader().await.is_err() {
        // The election has ended; so will the process.
        std::future::pending::<()>().await;
    }
}

fn stream<T>(receiver: mpsc::UnboundedReceiver<T>) -> impl futures::Stream<Item = T> {
    futures::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::{Key, Kind};

    #[tokio::test(start_paused = true)]
    async fn canary_that_is_changed_without_end_is_looked_at_with_pauses() {
        let mut looks = Looks::default();
        let [disputed, other] = ["disputed", "other"].map(|name| Key::new(Kind::Canary, "n", name));
        let start = Instant::now();
        for _ in 0..MOST_LOOKS {
            assert_eq!(looks.rest(&disputed), None);
        }
        assert_eq!(looks.rest(&disputed), Some(start + SPAN));
        assert_eq!(looks.rest(&other), None, "nobody else waits");
        tokio::time::sleep(SPAN).await;
        assert_eq!(looks.rest(&disputed), None);
    }
}

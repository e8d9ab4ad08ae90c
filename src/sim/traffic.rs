//! Users, proxies and pods: each second, requests go where routes and endpoints send them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Dice,
    controllers::{Behaviours, Busy, Shared},
    meter::Meter,
    paths::{Paths, Way, plain},
    prometheus::Prometheus,
    server::ApiServer,
    view::{Backend, View},
    visitors::Visitors,
};
use crate::{clock::Clock, route::istio::eval::Request};

/// Seconds of the past that rates and percentiles are shown over.
const WINDOW: usize = 10;

/// Share of requests for what does not exist, in percent.
const NOT_FOUND_PERCENT: f64 = 0.1;

/// An application that users come to.
#[derive(Clone, Debug, PartialEq)]
pub struct Application {
    /// Namespace.
    pub namespace: String,
    /// Host that users ask for: the apex service.
    pub host: String,
    /// Requests each second.
    pub requests_per_second: u32,
    /// Kinds of requests and their shares in percent; the rest are plain ones.
    pub special: Vec<(f64, Request)>,
    /// Whether users keep the cookies that they are given.
    pub sticky: bool,
}

/// The path that users ask for.
pub const PATH: &str = "/api/info";

/// What became of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Answered well.
    pub served: u64,
    /// Answered with a server's error.
    pub failed: u64,
    /// Sent to where no pod could take them.
    pub dropped: u64,
}

/// What users saw of one version of late.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Impression {
    /// Requests in the last seconds.
    pub requests: usize,
    /// Share of requests that did not fail, in percent.
    pub success_percent: f64,
    /// 99th percentile of the time of a request, in milliseconds.
    pub p99_ms: f64,
}

/// What users saw of an image in one second.
#[derive(Clone, Debug, Default)]
struct Second {
    failed: usize,
    times: Vec<f64>,
}

/// A pod that can answer, and what it counted.
#[derive(Clone)]
struct Pod {
    backend: Backend,
    /// The place of its image among those that were ever seen.
    image: usize,
    meter: Meter,
    /// Probability, this second, that it answers with an error.
    failing: f64,
    /// What became of its requests this second.
    second: Totals,
}

/// Requests by cookie, as `name=value`, and by the image that answered.
type Cookies = BTreeMap<String, BTreeMap<String, u64>>;

/// Users, proxies and pods.
#[derive(Clone)]
pub struct Traffic {
    server: ApiServer,
    clock: Clock,
    behaviours: Behaviours,
    prometheus: Arc<Mutex<Prometheus>>,
    busy: Busy,
    dice: Dice,
    lag: usize,
    /// Seconds so far.
    seconds: u64,
    applications: Vec<Application>,
    loads: Vec<Application>,
    visitors: BTreeMap<(String, String), Visitors>,
    /// Requests by cookie, as `name=value`, and by image.
    cookies: Cookies,
    views: VecDeque<Arc<View>>,
    /// The API server's revision at the last look.
    looked: u64,
    /// Whether the last view no longer says how versions behave.
    stale: bool,
    paths: Option<Arc<Paths>>,
    /// Those of the last view, by UID.
    pods: BTreeMap<String, Pod>,
    totals: BTreeMap<String, Totals>,
    images: Vec<String>,
    /// By second, and by the place of the image.
    recent: VecDeque<Vec<Second>>,
}

impl Traffic {
    /// No users yet.
    pub fn new(shared: Shared, dice: Dice, lag_seconds: u64) -> Self {
        Self {
            server: shared.server,
            clock: shared.clock,
            behaviours: shared.behaviours,
            busy: shared.measured.busy,
            prometheus: shared.measured.prometheus,
            dice,
            lag: usize::try_from(lag_seconds).unwrap_or(0),
            seconds: 0,
            applications: Vec::new(),
            loads: Vec::new(),
            visitors: BTreeMap::new(),
            cookies: Cookies::new(),
            views: VecDeque::new(),
            looked: 0,
            stale: false,
            paths: None,
            pods: BTreeMap::new(),
            totals: BTreeMap::new(),
            images: Vec::new(),
            recent: VecDeque::new(),
        }
    }

    /// The same users of a copy of their cluster.
    #[must_use]
    pub fn copy(&self, shared: Shared) -> Self {
        Self {
            server: shared.server,
            clock: shared.clock,
            behaviours: shared.behaviours,
            busy: shared.measured.busy,
            prometheus: shared.measured.prometheus,
            ..self.clone()
        }
    }

    /// Seconds so far.
    pub fn seconds(&self) -> u64 {
        self.seconds
    }

    /// Whether versions behave differently since the last second.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Users come to an application from now on.
    pub fn open(&mut self, application: Application) {
        self.applications.push(application);
        self.paths = None;
    }

    /// Users make so many requests each second from now on.
    pub fn set_rate(&mut self, requests_per_second: u32) {
        for application in &mut self.applications {
            application.requests_per_second = requests_per_second;
        }
    }

    /// Versions behave differently from now on.
    pub fn look_again(&mut self) {
        self.stale = true;
    }

    /// The load tests under way; what becomes of their requests concerns no user.
    pub fn set_loads(&mut self, loads: Vec<Application>) {
        if self.loads != loads {
            self.loads = loads;
            self.paths = None;
        }
    }

    /// What became of all requests, by image; of those that reached no pod, by the empty text.
    pub fn totals(&self) -> &BTreeMap<String, Totals> {
        &self.totals
    }

    /// Requests that carried a cookie, by cookie as `name=value`, and by the image that answered.
    pub fn cookies(&self) -> &Cookies {
        &self.cookies
    }

    /// What users saw of an image in the last seconds; nothing when it had no requests.
    pub fn impression(&self, image: &str) -> Option<Impression> {
        let image = self.images.iter().position(|known| known == image)?;
        let seconds = || self.recent.iter().filter_map(|second| second.get(image));
        let failed = seconds().map(|second| second.failed).sum();
        let requests: usize = seconds().map(|second| second.times.len()).sum();
        let longer = requests.checked_sub(1)? / 100;
        // The longest times so far, the shortest of them first.
        let mut longest: Vec<f64> = Vec::with_capacity(longer + 2);
        for time in seconds().flat_map(|second| &second.times) {
            if longest.len() <= longer || longest.first().is_some_and(|least| time > least) {
                let place = longest.partition_point(|other| other < time);
                longest.insert(place, *time);
                if longest.len() > longer + 1 {
                    longest.remove(0);
                }
            }
        }
        Some(Impression {
            requests,
            success_percent: 100.0 - percent(failed, requests),
            p99_ms: *longest.first()?,
        })
    }

    /// One second of traffic.
    pub fn tick(&mut self) {
        self.seconds += 1;
        let now = self.view();
        self.views.push_back(Arc::clone(&now));
        while self.views.len() > self.lag + 1 {
            self.views.pop_front();
        }
        let seen = self.views.front().unwrap_or(&now);
        if !matches!(&self.paths, Some(paths) if paths.hold(seen, &now)) {
            let applications = self.applications.iter().chain(&self.loads);
            let paths = Paths::new(seen, &now, applications);
            self.follow_pods(&now);
            self.paths = Some(Arc::new(paths));
        }
        self.begin_second();
        let Some(paths) = &self.paths else { return };
        let Some(latest) = self.recent.back_mut() else {
            return;
        };
        let mut round = Round {
            dice: &mut self.dice,
            pods: self.pods.values_mut().collect(),
            latest,
            dropped: 0,
        };
        let users = self.applications.iter().map(|a| (a, true));
        let loads = self.loads.iter().map(|a| (a, false));
        let time = self.clock.now();
        for ((application, counts), ways) in users.chain(loads).zip(paths.ways()) {
            if application.sticky && counts {
                let key = (application.namespace.clone(), application.host.clone());
                let visitors = self.visitors.entry(key).or_default();
                round.visits(application, paths, visitors, &mut self.cookies, time);
                continue;
            }
            for _ in 0..application.requests_per_second {
                let kind = round.kind_of(application);
                if let Some(way) = ways.get(kind) {
                    round.request(way, counts);
                }
            }
        }
        let dropped = round.dropped;
        if dropped > 0 {
            self.totals.entry(String::new()).or_default().dropped += dropped;
        }
        self.add_up();
    }

    /// The cluster as it is now.
    fn view(&mut self) -> Arc<View> {
        let revision = self.server.revision();
        let changed = || {
            let changes = self.server.changes_since(self.looked);
            changes
                .iter()
                .any(|change| View::depends_on(&change.resource))
        };
        let view = match self.views.back() {
            Some(view) if !self.stale && (revision == self.looked || !changed()) => {
                Arc::clone(view)
            }
            _ => Arc::new(View::of(&self.server, &self.behaviours)),
        };
        (self.looked, self.stale) = (revision, false);
        view
    }

    /// Pods that are gone have their series ended, and new ones start to count.
    fn follow_pods(&mut self, view: &View) {
        let mut prometheus = self
            .prometheus
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for backend in view.pods.values() {
            if let Some(pod) = self.pods.get_mut(&backend.uid) {
                pod.backend.clone_from(backend);
                continue;
            }
            let known = self.images.iter().position(|image| *image == backend.image);
            let image = known.unwrap_or_else(|| {
                self.images.push(backend.image.clone());
                self.images.len() - 1
            });
            let pod = Pod {
                backend: backend.clone(),
                image,
                meter: Meter::new(&backend.subject, &mut prometheus),
                failing: 0.0,
                second: Totals::default(),
            };
            self.pods.insert(backend.uid.clone(), pod);
        }
        let at = self.clock.now().as_millisecond();
        self.pods.retain(|uid, pod| {
            let stays = view.pods.values().any(|backend| backend.uid == *uid);
            if !stays {
                pod.meter.end(&mut prometheus, at);
            }
            stays
        });
    }

    /// Forgets what is no longer recent, and asks pods how they behave at their age.
    fn begin_second(&mut self) {
        let oldest = if self.recent.len() < WINDOW {
            None
        } else {
            self.recent.pop_front()
        };
        let mut latest = oldest.unwrap_or_default();
        for second in &mut latest {
            second.failed = 0;
            second.times.clear();
        }
        latest.resize_with(self.images.len(), Second::default);
        self.recent.push_back(latest);
        let now = self.clock.now();
        for pod in self.pods.values_mut() {
            let age = now.duration_since(pod.backend.since).as_secs_f64();
            pod.failing = pod.backend.behaviour.error_percent_at(age) / 100.0;
        }
    }

    /// Adds the second to the totals.
    fn add_up(&mut self) {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|uid, _| self.pods.contains_key(uid));
        for (uid, pod) in &mut self.pods {
            let fresh = pod.meter.since_last();
            match busy.get_mut(uid) {
                // An average over some ten seconds.
                Some(rate) => *rate += 0.1 * (fresh - *rate),
                None => drop(busy.insert(uid.clone(), 0.1 * fresh)),
            }
        }
        drop(busy);
        for pod in self.pods.values_mut() {
            let Totals { served, failed, .. } = std::mem::take(&mut pod.second);
            if served + failed == 0 {
                continue;
            }
            let image = &pod.backend.image;
            if !self.totals.contains_key(image) {
                self.totals.insert(image.clone(), Totals::default());
            }
            if let Some(totals) = self.totals.get_mut(image) {
                totals.served += served;
                totals.failed += failed;
            }
        }
    }

    /// Prometheus reads the counters of all pods.
    pub fn scrape(&self) {
        let mut prometheus = self
            .prometheus
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let at = self.clock.now().as_millisecond();
        for pod in self.pods.values() {
            pod.meter.scrape(&mut prometheus, at);
        }
    }
}

/// The requests of one second.
struct Round<'a> {
    dice: &'a mut Dice,
    /// In order of their UIDs.
    pods: Vec<&'a mut Pod>,
    latest: &'a mut [Second],
    dropped: u64,
}

impl Round<'_> {
    /// Which kind of request the next one is: 0 for a plain one.
    fn kind_of(&mut self, application: &Application) -> usize {
        if application.special.is_empty() {
            return 0;
        }
        let mut drawn = 100.0 * self.dice.fraction();
        for (index, (share, _)) in application.special.iter().enumerate() {
            if drawn < *share {
                return index + 1;
            }
            drawn -= share;
        }
        0
    }

    /// Requests of users who keep their cookies.
    fn visits(
        &mut self,
        application: &Application,
        paths: &Paths,
        visitors: &mut Visitors,
        counted: &mut Cookies,
        time: Timestamp,
    ) {
        let plain = plain(application);
        // Most users have the same few cookies.
        let mut ways: BTreeMap<Vec<String>, Way> = BTreeMap::new();
        for _ in 0..application.requests_per_second {
            let user = visitors.user(self.dice.roll());
            let cookies = visitors.cookies(user, time);
            let way = ways.entry(cookies.clone()).or_insert_with(|| {
                let with = |request: Request, cookie: &String| request.with_cookie(cookie);
                paths.way(application, &cookies.iter().fold(plain.clone(), with))
            });
            let share = way.draw(self.dice);
            let pod = share.and_then(|share| share.pods.draw(self.dice));
            self.serve(pod, true);
            let answered = pod.and_then(|pod| self.pods.get(pod));
            let (Some(share), Some(pod)) = (share, answered) else {
                continue;
            };
            for cookie in cookies {
                let images = counted.entry(cookie).or_default();
                *images.entry(pod.backend.image.clone()).or_default() += 1;
            }
            for header in &share.set_cookies {
                visitors.receive(user, header, time);
            }
        }
    }

    fn request(&mut self, way: &Way, counts: bool) {
        let share = way.draw(self.dice);
        let pod = share.and_then(|share| share.pods.draw(self.dice));
        self.serve(pod, counts);
        for (percent, pods) in &way.mirrors {
            if self.dice.chance(percent / 100.0)
                && let Some(pod) = pods.draw(self.dice)
            {
                // A copy: its answer reaches nobody.
                self.serve(Some(pod), false);
            }
        }
    }

    fn serve(&mut self, pod: Option<usize>, counts: bool) {
        let Some(pod) = pod.and_then(|pod| self.pods.get_mut(pod)) else {
            self.dropped += u64::from(counts);
            return;
        };
        let failed = self.dice.chance(pod.failing);
        let code = if failed {
            2
        } else {
            usize::from(self.dice.chance(NOT_FOUND_PERCENT / 100.0))
        };
        let behaviour = &pod.backend.behaviour;
        let time = behaviour.latency_ms * (behaviour.latency_spread * self.dice.normal()).exp();
        pod.meter.count(code, time);
        if !counts {
            return;
        }
        pod.second.served += u64::from(!failed);
        pod.second.failed += u64::from(failed);
        if let Some(second) = self.latest.get_mut(pod.image) {
            second.failed += usize::from(failed);
            second.times.push(time);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are small")]
fn percent(part: usize, of: usize) -> f64 {
    100.0 * part as f64 / of as f64
}

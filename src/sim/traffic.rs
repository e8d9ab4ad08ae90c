//! Users, proxies and pods: each second, requests go where routes and endpoints send them.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use serde::Serialize;

use super::{
    Dice,
    controllers::{Behaviours, Busy},
    meter::Meter,
    prometheus::Prometheus,
    server::ApiServer,
    view::{Backend, View},
    visitors::Visitors,
};
use crate::{
    clock::Clock,
    route::istio::eval::{Forwarding, Request, Share},
};

/// Seconds of the past that rates and percentiles are shown over.
const WINDOW: usize = 10;

/// Share of requests for what does not exist, in percent.
const NOT_FOUND_PERCENT: f64 = 0.1;

/// An application that users come to.
#[derive(Clone, Debug)]
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

#[derive(Clone, Debug, Default)]
struct Second {
    failed: usize,
    times: Vec<f64>,
}

/// Users, proxies and pods.
pub struct Traffic {
    server: ApiServer,
    clock: Clock,
    behaviours: Behaviours,
    prometheus: Arc<Mutex<Prometheus>>,
    busy: Busy,
    dice: Dice,
    lag: usize,
    applications: Vec<Application>,
    loads: Vec<Application>,
    visitors: BTreeMap<(String, String), Visitors>,
    /// Requests by cookie, as `name=value`, and by image.
    cookies: BTreeMap<String, BTreeMap<String, u64>>,
    views: VecDeque<Arc<View>>,
    meters: BTreeMap<String, Meter>,
    totals: BTreeMap<String, Totals>,
    recent: VecDeque<BTreeMap<String, Second>>,
    /// Whether the last view no longer says how versions behave.
    stale: bool,
}

impl Traffic {
    /// No users yet.
    pub fn new(
        server: ApiServer,
        clock: Clock,
        behaviours: Behaviours,
        prometheus: Arc<Mutex<Prometheus>>,
        dice: Dice,
        lag_seconds: u64,
        busy: Busy,
    ) -> Self {
        Self {
            server,
            clock,
            behaviours,
            prometheus,
            busy,
            dice,
            lag: usize::try_from(lag_seconds).unwrap_or(0),
            applications: Vec::new(),
            loads: Vec::new(),
            visitors: BTreeMap::new(),
            cookies: BTreeMap::new(),
            views: VecDeque::new(),
            meters: BTreeMap::new(),
            totals: BTreeMap::new(),
            recent: VecDeque::new(),
            stale: false,
        }
    }

    /// Users come to an application from now on.
    pub fn open(&mut self, application: Application) {
        self.applications.push(application);
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
        self.loads = loads;
    }

    /// What became of all requests, by image; of those that reached no pod, by the empty text.
    pub fn totals(&self) -> &BTreeMap<String, Totals> {
        &self.totals
    }

    /// Requests that carried a cookie, by cookie as `name=value`, and by the image that answered.
    pub fn cookies(&self) -> &BTreeMap<String, BTreeMap<String, u64>> {
        &self.cookies
    }

    /// What users saw of an image in the last seconds; nothing when it had no requests.
    pub fn impression(&self, image: &str) -> Option<Impression> {
        let seconds = self.recent.iter().filter_map(|second| second.get(image));
        let (mut failed, mut times) = (0, Vec::new());
        for second in seconds {
            failed += second.failed;
            times.extend_from_slice(&second.times);
        }
        times.sort_by(f64::total_cmp);
        let last = times.len().checked_sub(1)?;
        let p99 = times.get(last - last / 100)?;
        Some(Impression {
            requests: times.len(),
            success_percent: 100.0 - percent(failed, times.len()),
            p99_ms: *p99,
        })
    }

    /// One second of traffic.
    pub fn tick(&mut self) {
        let view = match self.views.back() {
            Some(view) if view.revision == self.server.revision() && !self.stale => {
                Arc::clone(view)
            }
            _ => Arc::new(View::of(&self.server, &self.behaviours)),
        };
        self.stale = false;
        self.views.push_back(Arc::clone(&view));
        while self.views.len() > self.lag + 1 {
            self.views.pop_front();
        }
        let seen = self
            .views
            .front()
            .map_or_else(|| Arc::clone(&view), Arc::clone);
        self.recent.push_back(BTreeMap::new());
        if self.recent.len() > WINDOW {
            self.recent.pop_front();
        }
        self.follow_pods(&view);
        let users = self.applications.clone().into_iter().map(|a| (a, true));
        let loads = self.loads.clone().into_iter().map(|a| (a, false));
        for (application, counts) in users.chain(loads).collect::<Vec<_>>() {
            let plain = Request {
                authority: application.host.clone(),
                ..Request::get(PATH)
            };
            if application.sticky && counts {
                self.visits(&application, &plain, &seen, &view);
                continue;
            }
            let mut routes = vec![seen.route(&application, &plain)];
            for (_, request) in &application.special {
                routes.push(seen.route(&application, request));
            }
            for _ in 0..application.requests_per_second {
                let kind = self.kind_of(&application);
                let Some(route) = routes.get(kind) else {
                    continue;
                };
                self.request(&application.namespace, &seen, &view, route, counts);
            }
        }
    }

    /// A second of requests of users who keep their cookies.
    fn visits(&mut self, application: &Application, plain: &Request, seen: &View, now: &View) {
        let key = (application.namespace.clone(), application.host.clone());
        let mut visitors = self.visitors.remove(&key).unwrap_or_default();
        let time = self.clock.now();
        // Most users have the same few cookies.
        let mut routes: BTreeMap<Vec<String>, Forwarding> = BTreeMap::new();
        for _ in 0..application.requests_per_second {
            let user = visitors.user(self.dice.roll());
            let cookies = visitors.cookies(user, time);
            let route = routes.entry(cookies.clone()).or_insert_with(|| {
                let with = |request: Request, cookie: &String| request.with_cookie(cookie);
                seen.route(application, &cookies.iter().fold(plain.clone(), with))
            });
            let Some(share) = self.draw(&route.shares).cloned() else {
                self.serve(None, true);
                continue;
            };
            let backend = self.backend(&application.namespace, &share.host, seen, now);
            self.serve(backend, true);
            let Some(backend) = backend else { continue };
            for cookie in cookies {
                let images = self.cookies.entry(cookie).or_default();
                *images.entry(backend.image.clone()).or_default() += 1;
            }
            for header in &share.set_cookies {
                visitors.receive(user, header, time);
            }
        }
        self.visitors.insert(key, visitors);
    }

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

    fn request(
        &mut self,
        namespace: &str,
        seen: &View,
        now: &View,
        route: &Forwarding,
        counts: bool,
    ) {
        let to = self.draw(&route.shares);
        let backend = to.and_then(|share| self.backend(namespace, &share.host, seen, now));
        self.serve(backend, counts);
        for mirror in &route.mirrors {
            if self.dice.chance(mirror.percent / 100.0)
                && let Some(backend) = self.backend(namespace, &mirror.host, seen, now)
            {
                // A copy: its answer reaches nobody.
                self.serve(Some(backend), false);
            }
        }
    }

    fn draw<'a>(&mut self, shares: &'a [Share]) -> Option<&'a Share> {
        if let [only] = shares {
            return Some(only);
        }
        let mut drawn = 100.0 * self.dice.fraction();
        for share in shares {
            if drawn < share.percent {
                return Some(share);
            }
            drawn -= share.percent;
        }
        shares.last()
    }

    /// The pod that a proxy chooses, if it still runs.
    fn backend<'a>(
        &mut self,
        namespace: &str,
        host: &str,
        seen: &View,
        now: &'a View,
    ) -> Option<&'a Backend> {
        let pods = seen.endpoints(namespace, host);
        let count = u64::try_from(pods.len()).unwrap_or_default();
        let index = self.dice.roll().checked_rem(count)?;
        let pod = pods.get(usize::try_from(index).unwrap_or_default())?;
        now.pods.get(pod)
    }

    fn serve(&mut self, backend: Option<&Backend>, counts: bool) {
        let Some(backend) = backend else {
            if counts {
                self.totals.entry(String::new()).or_default().dropped += 1;
            }
            return;
        };
        let behaviour = &backend.behaviour;
        let age = self.clock.now().duration_since(backend.since).as_secs_f64();
        let failed = self.dice.chance(behaviour.error_percent_at(age) / 100.0);
        let code = if failed {
            2
        } else {
            usize::from(self.dice.chance(NOT_FOUND_PERCENT / 100.0))
        };
        let time = behaviour.latency_ms * (behaviour.latency_spread * self.dice.normal()).exp();
        if let Some(meter) = self.meters.get_mut(&backend.uid) {
            meter.count(code, time);
        }
        if !counts {
            return;
        }
        let totals = self.totals.entry(backend.image.clone()).or_default();
        totals.served += u64::from(!failed);
        totals.failed += u64::from(failed);
        if let Some(second) = self.recent.back_mut() {
            let second = second.entry(backend.image.clone()).or_default();
            second.failed += usize::from(failed);
            second.times.push(time);
        }
    }

    /// New pods start to count, and those that are gone have their series ended.
    fn follow_pods(&mut self, view: &View) {
        let mut prometheus = self
            .prometheus
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        busy.retain(|uid, _| self.meters.contains_key(uid));
        for (uid, meter) in &mut self.meters {
            let share = busy.entry(uid.clone()).or_default();
            // An average over some ten seconds.
            *share += 0.1 * (meter.since_last() - *share);
        }
        drop(busy);
        for backend in view.pods.values() {
            if !self.meters.contains_key(&backend.uid) {
                let meter = Meter::new(&backend.subject, &mut prometheus);
                self.meters.insert(backend.uid.clone(), meter);
            }
        }
        let at = self.clock.now().as_millisecond();
        self.meters.retain(|uid, meter| {
            let stays = view.pods.values().any(|backend| backend.uid == *uid);
            if !stays {
                meter.end(&mut prometheus, at);
            }
            stays
        });
    }

    /// Prometheus reads the counters of all pods.
    pub fn scrape(&self) {
        let mut prometheus = self
            .prometheus
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let at = self.clock.now().as_millisecond();
        for meter in self.meters.values() {
            meter.scrape(&mut prometheus, at);
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "counts are small")]
fn percent(part: usize, of: usize) -> f64 {
    100.0 * part as f64 / of as f64
}

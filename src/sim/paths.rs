//! Where requests can go, for as long as routes, endpoints and pods stay as they are.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    Dice,
    traffic::{Application, PATH},
    view::{Name, View},
};
use crate::route::istio::eval::Request;

/// Where the requests of all applications can go.
pub struct Paths {
    seen: Arc<View>,
    now: Arc<View>,
    /// Where the pods that run stand in order of their UIDs.
    places: BTreeMap<Name, usize>,
    /// By application, and by kind of request.
    ways: Vec<Vec<Way>>,
    /// By application, and by the cookies that a user sends.
    with_cookies: BTreeMap<(usize, Vec<String>), Way>,
}

/// Where requests of one kind can go.
#[derive(Default)]
pub struct Way {
    shares: Vec<Share>,
    /// Shares in percent of which copies are made, and who gets the copies.
    pub mirrors: Vec<(f64, Pods)>,
}

/// A share of requests.
pub struct Share {
    percent: f64,
    /// Who gets them.
    pub pods: Pods,
    /// `Set-Cookie` headers of the answers.
    pub set_cookies: Vec<String>,
}

/// The pods behind a host, as proxies know them: each by its place among those that run, in order
/// of UIDs, if it still does.
pub struct Pods(Vec<Option<usize>>);

impl Paths {
    /// Ways to the pods that run `now`, by routes and endpoints that proxies have `seen`.
    pub fn new<'a>(
        seen: &Arc<View>,
        now: &Arc<View>,
        applications: impl Iterator<Item = &'a Application>,
    ) -> Self {
        let mut running: Vec<(&str, &Name)> = now
            .pods
            .iter()
            .map(|(name, backend)| (backend.uid.as_str(), name))
            .collect();
        running.sort_unstable();
        let names = running.into_iter().map(|(_, name)| name.clone());
        let mut paths = Self {
            seen: Arc::clone(seen),
            now: Arc::clone(now),
            places: names.zip(0..).collect(),
            ways: Vec::new(),
            with_cookies: BTreeMap::new(),
        };
        let ways = applications.map(|application| {
            let special = application.special.iter().map(|(_, request)| request);
            let plain = plain(application);
            let all = std::iter::once(&plain).chain(special);
            all.map(|request| paths.find(application, request))
                .collect()
        });
        paths.ways = ways.collect();
        paths
    }

    fn find(&self, application: &Application, request: &Request) -> Way {
        let pods = |host: &str| {
            let known = self.seen.endpoints(&application.namespace, host);
            let places = known.iter().map(|pod| self.places.get(pod).copied());
            Pods(places.collect())
        };
        let to = self.seen.route(application, request);
        let shares = to.shares.into_iter().map(|to| Share {
            percent: to.percent,
            pods: pods(&to.host),
            set_cookies: to.set_cookies,
        });
        let mirrors = to.mirrors.iter().map(|to| (to.percent, pods(&to.host)));
        Way {
            shares: shares.collect(),
            mirrors: mirrors.collect(),
        }
    }

    /// Whether nothing has changed.
    pub fn hold(&self, seen: &Arc<View>, now: &Arc<View>) -> bool {
        Arc::ptr_eq(&self.seen, seen) && Arc::ptr_eq(&self.now, now)
    }

    /// The way of a kind of request to the application at a place: 0 is the plain kind.
    pub fn way(&self, application: usize, kind: usize) -> Option<&Way> {
        self.ways.get(application)?.get(kind)
    }

    /// The way of plain requests with cookies to the application at a place.
    pub fn way_with(
        &mut self,
        index: usize,
        application: &Application,
        cookies: &[String],
    ) -> &Way {
        let key = (index, cookies.to_vec());
        if !self.with_cookies.contains_key(&key) {
            let with = |request: Request, cookie: &String| request.with_cookie(cookie);
            let request = cookies.iter().fold(plain(application), with);
            let way = self.find(application, &request);
            self.with_cookies.insert(key.clone(), way);
        }
        // It is there: put in above.
        self.with_cookies.entry(key).or_default()
    }
}

/// A request like most.
fn plain(application: &Application) -> Request {
    Request {
        authority: application.host.clone(),
        ..Request::get(PATH)
    }
}

impl Way {
    /// Who gets the next request.
    pub fn draw(&self, dice: &mut Dice) -> Option<&Share> {
        if let [only] = self.shares.as_slice() {
            return Some(only);
        }
        let mut drawn = 100.0 * dice.fraction();
        for share in &self.shares {
            if drawn < share.percent {
                return Some(share);
            }
            drawn -= share.percent;
        }
        self.shares.last()
    }
}

impl Pods {
    /// The pod that a proxy chooses, if it still runs.
    pub fn draw(&self, dice: &mut Dice) -> Option<usize> {
        let count = u64::try_from(self.0.len()).unwrap_or_default();
        let index = dice.roll().checked_rem(count)?;
        *self.0.get(usize::try_from(index).unwrap_or_default())?
    }
}

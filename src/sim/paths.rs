//! Where requests can go, for as long as routes, endpoints and pods stay as they are.

use std::sync::Arc;

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
    /// By application, and by kind of request.
    ways: Vec<Vec<Way>>,
}

/// Where requests of one kind can go.
pub struct Way {
    shares: Vec<Share>,
    /// Shares in percent of which copies are made, and who gets the copies.
    pub mirrors: Vec<(f64, Pods)>,
}

/// A share of requests.
pub struct Share {
    percent: f64,
    /// Who gets it.
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
        let ways = applications.map(|application| {
            let plain = plain(application);
            let special = application.special.iter().map(|(_, request)| request);
            let way = |request: &Request| Way::of(seen, now, application, request);
            std::iter::once(&plain).chain(special).map(way).collect()
        });
        Self {
            ways: ways.collect(),
            seen: Arc::clone(seen),
            now: Arc::clone(now),
        }
    }

    /// Whether nothing has changed.
    pub fn hold(&self, seen: &Arc<View>, now: &Arc<View>) -> bool {
        Arc::ptr_eq(&self.seen, seen) && Arc::ptr_eq(&self.now, now)
    }

    /// Where a request goes.
    pub fn way(&self, application: &Application, request: &Request) -> Way {
        Way::of(&self.seen, &self.now, application, request)
    }

    /// Ways by application, and by kind of request.
    pub fn ways(&self) -> &[Vec<Way>] {
        &self.ways
    }
}

/// A request like most that an application gets.
pub fn plain(application: &Application) -> Request {
    Request {
        authority: application.host.clone(),
        ..Request::get(PATH)
    }
}

impl Way {
    fn of(seen: &View, now: &View, application: &Application, request: &Request) -> Self {
        let mut running: Vec<(&str, &Name)> = now
            .pods
            .iter()
            .map(|(name, backend)| (backend.uid.as_str(), name))
            .collect();
        running.sort_unstable();
        let place = |pod: &Name| running.iter().position(|(_, name)| *name == pod);
        let pods = |host: &str| {
            let known = seen.endpoints(&application.namespace, host);
            Pods(known.iter().map(place).collect())
        };
        let to = seen.route(application, request);
        let shares = to.shares.into_iter().map(|to| Share {
            percent: to.percent,
            pods: pods(&to.host),
            set_cookies: to.set_cookies,
        });
        let mirrors = to.mirrors.iter().map(|to| (to.percent, pods(&to.host)));
        Self {
            shares: shares.collect(),
            mirrors: mirrors.collect(),
        }
    }

    /// The share of the next request.
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

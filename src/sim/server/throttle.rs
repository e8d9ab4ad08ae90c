//! Throttling: users who ask for more than their share are told to come back later.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::error::Refusal;

/// What a user may ask for: so many requests a second over time, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limit {
    /// Requests a second, in the long run.
    pub requests_per_second: f64,
    /// Requests at once, after a pause.
    pub burst: u32,
}

/// What is left of a user's share.
#[derive(Clone, Copy, Debug)]
struct Share {
    limit: Limit,
    left: f64,
    at: Timestamp,
}

/// The shares of users. A user without a limit is never throttled.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    shares: BTreeMap<String, Share>,
}

impl Shares {
    /// Limits a user from now on.
    pub fn limit(&mut self, user: &str, limit: Limit, now: Timestamp) {
        let share = Share {
            limit,
            left: f64::from(limit.burst),
            at: now,
        };
        self.shares.insert(user.to_owned(), share);
    }

    /// Counts a request.
    ///
    /// # Errors
    /// 429 with a `Retry-After` when the user's share is used up.
    pub fn take(&mut self, user: &str, now: Timestamp) -> Result<(), Refusal> {
        let Some(share) = self.shares.get_mut(user) else {
            return Ok(());
        };
        let passed = now.duration_since(share.at).as_secs_f64().max(0.0);
        let Limit {
            requests_per_second,
            burst,
        } = share.limit;
        share.left = (share.left + passed * requests_per_second).min(f64::from(burst));
        share.at = now;
        if share.left < 1.0 {
            let text = "too many requests, please try again later";
            return Err(Refusal::new(429, "TooManyRequests", text).retry_after(1));
        }
        share.left -= 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn user_who_asks_too_often_waits_and_others_do_not() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut shares = Shares::default();
        let limit = Limit {
            requests_per_second: 0.5,
            burst: 2,
        };
        shares.limit("a", limit, at(0));
        let mut asks = |user, second| {
            shares
                .take(user, at(second))
                .map_err(|r| r.details.retry_after)
        };
        assert_eq!([asks("a", 0), asks("a", 0)], [Ok(()), Ok(())]);
        assert_eq!(asks("a", 1), Err(Some(1)));
        assert_eq!(asks("b", 1), Ok(()));
        assert_eq!([asks("a", 2), asks("a", 2)], [Ok(()), Err(Some(1))]);
        // a pause fills the share, and no more than that
        let answers = [9; 3].map(|second| asks("a", 1000 + second).is_ok());
        assert_eq!(answers, [true, true, false]);
    }
}

//! Users who come back, with the cookies that they were given.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

/// How many users an application has that keep cookies.
const COUNT: usize = 100;

/// Longest that a cookie is kept: a year, as browsers do.
const LONGEST_SECONDS: i64 = 365 * 86_400;

/// The cookies of one user: names, with values and when they end.
type Jar = BTreeMap<String, (String, Timestamp)>;

/// Users who come back, with the cookies that they were given.
#[derive(Clone, Debug)]
pub struct Visitors {
    jars: Vec<Jar>,
}

impl Default for Visitors {
    fn default() -> Self {
        Self {
            jars: vec![Jar::new(); COUNT],
        }
    }
}

impl Visitors {
    /// The user that a number stands for.
    pub fn user(&self, number: u64) -> usize {
        let count = u64::try_from(self.jars.len()).unwrap_or(1);
        let user = number.checked_rem(count).unwrap_or_default();
        usize::try_from(user).unwrap_or_default()
    }

    /// The cookies that a user sends, as `name=value`.
    pub fn cookies(&self, user: usize, now: Timestamp) -> Vec<String> {
        let jar = self.jars.get(user).into_iter().flatten();
        jar.filter(|(_, (_, ends))| *ends > now)
            .map(|(name, (value, _))| format!("{name}={value}"))
            .collect()
    }

    /// A user gets a `Set-Cookie` header.
    pub fn receive(&mut self, user: usize, header: &str, now: Timestamp) {
        let Some(jar) = self.jars.get_mut(user) else {
            return;
        };
        let mut parts = header.split(';').map(str::trim);
        let Some((name, value)) = parts.next().and_then(|pair| pair.split_once('=')) else {
            return;
        };
        let age = parts.find_map(|part| {
            let (name, age) = part.split_once('=')?;
            let age: i64 = age.parse().ok()?;
            name.eq_ignore_ascii_case("max-age").then_some(age)
        });
        let age = age.unwrap_or(LONGEST_SECONDS).clamp(0, LONGEST_SECONDS);
        let ends = now
            .checked_add(SignedDuration::from_secs(age))
            .unwrap_or(now);
        if ends > now {
            jar.insert(name.to_owned(), (value.to_owned(), ends));
        } else {
            jar.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cookie_is_sent_until_it_ends_or_is_taken_back() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut visitors = Visitors::default();
        visitors.receive(3, "a=1; Max-Age=60; Path=/", at(0));
        visitors.receive(3, "b=2", at(0));
        assert_eq!(visitors.cookies(3, at(59)), ["a=1", "b=2"]);
        assert_eq!(visitors.cookies(3, at(60)), ["b=2"]);
        assert_eq!(visitors.cookies(4, at(1)), Vec::<String>::new());
        visitors.receive(3, "b=2; Max-Age=-1", at(61));
        assert!(visitors.cookies(3, at(62)).is_empty());
        assert_eq!(visitors.user(u64::MAX), 15);
    }
}

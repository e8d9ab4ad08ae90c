//! Session affinity: cookies that keep users on the version that they met first.

use std::time::Duration;

use super::{
    Traffic,
    matching::{self, combine},
    rules::Rule,
};
use crate::api::analysis::{SameSite, SessionAffinity};

/// Lifetime of the canary's cookie unless the Canary gives one, in seconds.
const DAY: i64 = 86_400;

/// The rules for users with a cookie, then the one for `everybody`.
///
/// While the canary has no weight nobody is kept on it, and cookies are taken back. While the
/// primary has no weight nobody is kept on the primary.
pub(super) fn rules(
    everybody: Rule,
    affinity: &SessionAffinity,
    interval: Duration,
    traffic: &Traffic,
) -> Vec<Rule> {
    if traffic.canary() == 0 {
        expiring(everybody, affinity, traffic)
    } else {
        keeping(everybody, affinity, interval, traffic)
    }
}

fn keeping(
    mut everybody: Rule,
    affinity: &SessionAffinity,
    interval: Duration,
    traffic: &Traffic,
) -> Vec<Rule> {
    let mut rules = Vec::new();
    let served = everybody.matches.clone();
    let kept = |condition, canary| Rule {
        matches: combine(&[condition], &served),
        canary: Some(canary),
        ..Rule::default()
    };
    if let Some(cookie) = &traffic.cookie
        && let Some(condition) = matching::cookie(cookie)
    {
        let age = affinity.max_age.filter(|age| *age != 0);
        rules.push(kept(condition, 100));
        everybody.canary_set_cookie =
            Some(set_cookie(affinity, cookie, age.map_or(DAY, i64::from)));
    }
    if let Some(cookie) = &traffic.primary_cookie
        && affinity.primary_cookie_name.is_some()
        && traffic.primary() > 0
        && let Some(condition) = matching::cookie(cookie)
    {
        let age = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX);
        rules.push(kept(condition, 0));
        everybody.primary_set_cookie = Some(set_cookie(affinity, cookie, age));
    }
    rules.push(everybody);
    rules
}

fn expiring(everybody: Rule, affinity: &SessionAffinity, traffic: &Traffic) -> Vec<Rule> {
    // The present cookie too: between a rollback's decision and its end it may still be in status.
    let mut cookies: Vec<&String> = [&traffic.previous_cookie, &traffic.cookie]
        .into_iter()
        .flatten()
        .collect();
    cookies.dedup();
    let mut rules: Vec<Rule> = cookies
        .into_iter()
        .filter_map(|cookie| {
            Some(Rule {
                matches: combine(&[matching::cookie(cookie)?], &everybody.matches),
                set_cookie: Some(set_cookie(affinity, cookie, -1)),
                ..everybody.clone()
            })
        })
        .collect();
    rules.push(everybody);
    rules
}

/// The text of a `Set-Cookie` header. To take a cookie back, domain and path must be those that
/// it was given with.
fn set_cookie(affinity: &SessionAffinity, cookie: &str, age: i64) -> String {
    let text = |name: &str, value: &Option<String>| {
        value
            .as_ref()
            .filter(|value| !value.is_empty())
            .map(|value| format!("{name}={value}"))
    };
    let flag = |name: &str, value: Option<bool>| value.unwrap_or_default().then(|| name.to_owned());
    let same_site = affinity.same_site.map(|site| match site {
        SameSite::Strict => "SameSite=Strict".to_owned(),
        SameSite::Lax => "SameSite=Lax".to_owned(),
        SameSite::None => "SameSite=None".to_owned(),
    });
    let attributes = [
        text("Domain", &affinity.domain),
        flag("HttpOnly", affinity.http_only),
        flag("Partitioned", affinity.partitioned),
        text("Path", &affinity.path),
        same_site,
        flag("Secure", affinity.secure),
    ];
    let mut header = format!("{cookie}; Max-Age={age}");
    for attribute in attributes.into_iter().flatten() {
        header.push_str("; ");
        header.push_str(&attribute);
    }
    header
}

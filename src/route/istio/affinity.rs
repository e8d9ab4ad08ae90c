//! Session affinity: rules and cookies that keep users on the version that they met first.

use serde_json::{Value, json};

use super::{matching, virtual_service::Route};
use crate::api::analysis::{SameSite, SessionAffinity};

/// Lifetime of the canary's cookie unless the Canary gives one, in seconds.
const DAY: i64 = 86_400;

/// The rules, first match first: users with a cookie, then everybody by weight.
///
/// While the canary has no weight nobody is kept on it, and cookies are taken back. While the
/// primary has no weight nobody is kept on the primary.
pub(super) fn rules(route: &Route, affinity: &SessionAffinity) -> Vec<Value> {
    if route.traffic.canary() == 0 {
        expiring(route, affinity)
    } else {
        sticky(route, affinity)
    }
}

fn sticky(route: &Route, affinity: &SessionAffinity) -> Vec<Value> {
    let traffic = route.traffic;
    let mut rules = Vec::new();
    let [mut primary, mut canary] = route.split(traffic.canary());
    if let Some(cookie) = &traffic.cookie
        && let Some(rule) = rule_of(route, cookie, 100)
    {
        rules.push(rule);
        let age = affinity.max_age.filter(|age| *age != 0);
        let text = set_cookie(affinity, cookie, age.map_or(DAY, i64::from));
        canary["headers"] = response(&text);
    }
    if let Some(cookie) = &traffic.primary_cookie
        && affinity.primary_cookie_name.is_some()
        && traffic.primary() > 0
        && let Some(rule) = rule_of(route, cookie, 0)
    {
        rules.push(rule);
        let interval = route.analysis.interval().as_secs();
        let text = set_cookie(
            affinity,
            cookie,
            i64::try_from(interval).unwrap_or(i64::MAX),
        );
        primary["headers"] = response(&text);
    }
    rules.push(route.rule(route.conditions(), vec![primary, canary]));
    rules
}

fn expiring(route: &Route, affinity: &SessionAffinity) -> Vec<Value> {
    let weighted = route.weighted_rule();
    // The present cookie too: between a rollback's decision and its end it is still in status.
    let mut cookies: Vec<&String> = [&route.traffic.previous_cookie, &route.traffic.cookie]
        .into_iter()
        .flatten()
        .collect();
    cookies.dedup();
    let mut rules: Vec<Value> = cookies
        .into_iter()
        .filter_map(|cookie| {
            let mut rule = rule_of(route, cookie, 0)?;
            rule["headers"]["response"]["add"]["Set-Cookie"] =
                json!(set_cookie(affinity, cookie, -1));
            route.mirror(&mut rule);
            Some(rule)
        })
        .collect();
    rules.push(weighted);
    rules
}

/// The rule for users with this cookie; `None` when the text is no cookie.
fn rule_of(route: &Route, cookie: &str, canary: i32) -> Option<Value> {
    let matches = matching::combine(&[matching::cookie(cookie)?], route.conditions());
    Some(route.rule(&matches, route.split(canary).into()))
}

fn response(set_cookie: &str) -> Value {
    json!({ "response": { "add": { "Set-Cookie": set_cookie } } })
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

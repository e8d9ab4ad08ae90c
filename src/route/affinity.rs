//! Session affinity: cookies that keep users on the version that they met first.

use super::Traffic;
use crate::api::{
    Analysis,
    analysis::{SameSite, SessionAffinity},
};

/// Lifetime of the canary's cookie unless the Canary gives one, in seconds.
const DAY: i64 = 86_400;

/// What a route does about cookies. Its rules, first match first: those for users with a cookie,
/// then the one that splits everybody by weight.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Affinity<'a> {
    /// Users with a cookie, and the weight of the canary for them.
    pub kept: Vec<(&'a str, i32)>,
    /// Users with a cookie that is taken back, and the `Set-Cookie` header that does it. Their
    /// requests are split by weight.
    pub expired: Vec<(&'a str, String)>,
    /// `Set-Cookie` header of the primary's responses to users without a cookie.
    pub primary: Option<String>,
    /// `Set-Cookie` header of the canary's responses to users without a cookie.
    pub canary: Option<String>,
}

impl<'a> Affinity<'a> {
    /// While the canary has no weight nobody is kept on it, and cookies are taken back. While the
    /// primary has no weight nobody is kept on the primary.
    pub fn of(analysis: &Analysis, traffic: &'a Traffic) -> Self {
        let mut affinity = Self::default();
        let Some(wanted) = &analysis.session_affinity else {
            return affinity;
        };
        let [cookie, primary_cookie, previous] = [
            &traffic.cookie,
            &traffic.primary_cookie,
            &traffic.previous_cookie,
        ]
        .map(|cookie| cookie.as_deref().filter(|pair| pair.contains('=')));
        if traffic.canary() == 0 {
            // The present cookie too: between a rollback's decision and its end it may still be
            // in status.
            let mut cookies: Vec<&str> = previous.into_iter().chain(cookie).collect();
            cookies.dedup();
            affinity.expired = cookies
                .into_iter()
                .map(|cookie| (cookie, set_cookie(wanted, cookie, -1)))
                .collect();
            return affinity;
        }
        if let Some(cookie) = cookie {
            let age = wanted.max_age.filter(|age| *age != 0);
            let age = age.map_or(DAY, i64::from);
            affinity.kept.push((cookie, 100));
            affinity.canary = Some(set_cookie(wanted, cookie, age));
        }
        if let Some(cookie) = primary_cookie
            && wanted.primary_cookie_name.is_some()
            && traffic.primary() > 0
        {
            let age = i64::try_from(analysis.interval().as_secs()).unwrap_or(i64::MAX);
            affinity.kept.push((cookie, 0));
            affinity.primary = Some(set_cookie(wanted, cookie, age));
        }
        affinity
    }
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

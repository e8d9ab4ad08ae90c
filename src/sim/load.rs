//! The load tester: commands of webhooks become requests.

use std::time::Duration;

use serde_json::Value;

use super::traffic::Application;
use crate::{api::duration, route::istio::eval::Request};

/// Requests each second where a command names no rate.
const RATE: u32 = 10;

/// How long a load lasts where a command names no time.
const LENGTH: Duration = Duration::from_mins(1);

/// The load that a webhook's body asks for by `metadata.cmd`, such as
/// `hey -z 1m -q 10 -c 2 http://podinfo-canary/`, and how long it lasts.
pub fn load(body: &Value) -> Option<(Application, Duration)> {
    let command = body["metadata"]["cmd"].as_str()?;
    let words: Vec<&str> = command
        .split_whitespace()
        .map(|word| word.trim_matches(['\'', '"']))
        .collect();
    let after = |flag: &str| {
        let at = words.iter().position(|word| *word == flag)?;
        words.get(at + 1).copied()
    };
    let number = |flag: &str| after(flag).and_then(|word| word.parse::<u32>().ok());
    let url = words.iter().find_map(|word| word.strip_prefix("http://"))?;
    let (authority, path) = url.split_once('/').unwrap_or((url, ""));
    let host = authority.split(':').next().unwrap_or(authority);
    let (service, rest) = host.split_once('.').unwrap_or((host, ""));
    let namespace = match rest.split('.').next() {
        Some(namespace) if !namespace.is_empty() => namespace,
        _ => body["namespace"].as_str()?,
    };
    let request = words
        .iter()
        .zip(words.iter().skip(1))
        .filter(|(flag, _)| **flag == "-H")
        .filter_map(|(_, header)| header.split_once(':'))
        .fold(
            Request::get(&format!("/{path}")),
            |request, (name, value)| request.with_header(name, value.trim()),
        );
    let rate = number("-q").map(|rate| rate.saturating_mul(number("-c").unwrap_or(1)));
    let application = Application {
        namespace: namespace.to_owned(),
        host: service.to_owned(),
        requests_per_second: rate.unwrap_or(RATE).clamp(1, 200),
        special: vec![(100.0, request)],
        sticky: false,
    };
    let length = after("-z").and_then(|text| duration::parse(text).ok());
    Some((application, length.unwrap_or(LENGTH)))
}

/// What the load tester answers at its gates, which nobody opens here but those for checks: an
/// HTTP status; absent for other addresses.
pub fn gate(url: &str) -> Option<u16> {
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    match path.trim_end_matches('/') {
        "gate/halt" | "rollback/check" => Some(403),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use serde_json::json;

    use super::*;

    #[test]
    fn load_follows_the_command() {
        let of = |cmd: &str| load(&json!({"namespace": "test", "metadata": {"cmd": cmd}}));
        let (application, length) =
            of("hey -z 30s -q 10 -c 2 -H 'X-A:b' http://podinfo-canary.prod:9898/a").unwrap();
        assert_eq!(
            (
                application.namespace.as_str(),
                application.host.as_str(),
                application.requests_per_second
            ),
            ("prod", "podinfo-canary", 20)
        );
        assert_eq!(length, Duration::from_secs(30));
        let (_, request) = &application.special[0];
        assert_eq!(request.path, "/a");
        assert_eq!(request.headers["x-a"], "b");
        let (application, length) = of("hey http://podinfo-canary/").unwrap();
        assert_eq!(application.namespace, "test");
        assert_eq!(length, LENGTH);
        assert!(of("bash -c true").is_none());
        assert!(load(&json!({})).is_none());
    }

    #[test]
    fn gates_that_nobody_opened_refuse() {
        assert_eq!(
            gate("http://flagger-loadtester.test/rollback/check"),
            Some(403)
        );
        assert_eq!(gate("http://flagger-loadtester.test/gate/halt"), Some(403));
        assert_eq!(gate("http://flagger-loadtester.test/gate/check"), None);
        assert_eq!(gate("http://flagger-loadtester.test/"), None);
    }
}

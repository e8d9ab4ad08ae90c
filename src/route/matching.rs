//! Conditions on requests.

use std::collections::BTreeMap;

use crate::api::istio::{HttpMatch, StringMatch};

/// Each of the `specific` conditions together with each of the `general` ones. Where both speak of
/// the same field, header, parameter or label, the specific condition counts.
pub(super) fn combine(specific: &[HttpMatch], general: &[HttpMatch]) -> Vec<HttpMatch> {
    if general.is_empty() {
        return specific.to_vec();
    }
    specific
        .iter()
        .flat_map(|one| general.iter().map(|other| both(one, other)))
        .collect()
}

fn both(specific: &HttpMatch, general: &HttpMatch) -> HttpMatch {
    let (a, b) = (specific.clone(), general.clone());
    HttpMatch {
        name: a.name.or(b.name),
        uri: a.uri.or(b.uri),
        scheme: a.scheme.or(b.scheme),
        method: a.method.or(b.method),
        authority: a.authority.or(b.authority),
        headers: union(a.headers, b.headers),
        query_params: union(a.query_params, b.query_params),
        without_headers: union(a.without_headers, b.without_headers),
        port: a.port.or(b.port),
        source_labels: union(a.source_labels, b.source_labels),
        gateways: a.gateways.or(b.gateways),
        ignore_uri_case: a.ignore_uri_case.or(b.ignore_uri_case),
        source_namespace: a.source_namespace.or(b.source_namespace),
    }
}

fn union<V>(
    specific: Option<BTreeMap<String, V>>,
    general: Option<BTreeMap<String, V>>,
) -> Option<BTreeMap<String, V>> {
    match (specific, general) {
        (Some(specific), Some(mut general)) => {
            general.extend(specific);
            Some(general)
        }
        (specific, general) => specific.or(general),
    }
}

/// The requests that carry a cookie `name=value`; `None` when the text is no such pair.
pub(super) fn cookie(pair: &str) -> Option<HttpMatch> {
    let (name, value) = pair.split_once('=')?;
    let regex = format!(".*{}.*{}.*", escape(name), escape(value));
    let header = StringMatch {
        regex: Some(regex),
        ..StringMatch::default()
    };
    Some(HttpMatch {
        headers: Some(BTreeMap::from([("Cookie".to_owned(), header)])),
        ..HttpMatch::default()
    })
}

/// The text as an RE2 expression that matches it and nothing else.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::{Value, json};

    use super::*;

    fn read(value: Value) -> Vec<HttpMatch> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn combine_without_general_conditions_keeps_the_specific_ones() {
        let specific = read(json!([{"headers": {"x": {"exact": "1"}}}]));
        assert_eq!(combine(&specific, &[]), specific);
    }

    #[test]
    fn combine_crosses_conditions_and_lets_the_specific_win() {
        let specific = read(json!([
            {"headers": {"x": {"exact": "1"}}, "sourceLabels": {"app": "a"}},
            {"queryParams": {"q": {"exact": "2"}}},
        ]));
        let general = read(json!([
            {"uri": {"prefix": "/a"}, "headers": {"x": {"exact": "0"}, "y": {"exact": "0"}}},
            {"uri": {"prefix": "/b"}, "sourceLabels": {"app": "b", "tier": "c"}},
        ]));
        assert_eq!(
            combine(&specific, &general),
            read(json!([
                {"uri": {"prefix": "/a"}, "headers": {"x": {"exact": "1"}, "y": {"exact": "0"}},
                 "sourceLabels": {"app": "a"}},
                {"uri": {"prefix": "/b"}, "headers": {"x": {"exact": "1"}},
                 "sourceLabels": {"app": "a", "tier": "c"}},
                {"uri": {"prefix": "/a"}, "headers": {"x": {"exact": "0"}, "y": {"exact": "0"}},
                 "queryParams": {"q": {"exact": "2"}}},
                {"uri": {"prefix": "/b"}, "queryParams": {"q": {"exact": "2"}},
                 "sourceLabels": {"app": "b", "tier": "c"}},
            ]))
        );
    }

    #[test]
    fn cookie_with_special_characters_is_escaped() {
        assert_eq!(
            cookie("a.b=c+d").into_iter().collect::<Vec<_>>(),
            read(json!([{"headers": {"Cookie": {"regex": r".*a\.b.*c\+d.*"}}}]))
        );
        assert_eq!(cookie("no pair"), None);
    }
}

//! Conditions on requests in the form of Istio's API.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    api::istio::{HttpMatch, StringMatch},
    route::matching::escape,
};

/// The conditions as Istio takes them.
pub(in crate::route) fn conditions(matches: &[HttpMatch]) -> Value {
    matches.iter().map(condition).collect()
}

fn condition(wanted: &HttpMatch) -> Value {
    let mut wanted = wanted.clone();
    let maps = [
        &mut wanted.headers,
        &mut wanted.query_params,
        &mut wanted.without_headers,
    ];
    for text in maps.into_iter().flatten().flat_map(BTreeMap::values_mut) {
        without_suffix(text);
    }
    let texts = [
        &mut wanted.uri,
        &mut wanted.scheme,
        &mut wanted.method,
        &mut wanted.authority,
    ];
    for text in texts.into_iter().flatten() {
        without_suffix(text);
    }
    json!(wanted)
}

/// Istio has no `suffix`: its server would drop the field and leave a condition that any value
/// meets. A regular expression, which has to match as a whole, says the same.
fn without_suffix(text: &mut StringMatch) {
    if let Some(suffix) = text.suffix.take() {
        text.regex
            .get_or_insert_with(|| format!(".*{}", escape(&suffix)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffix_is_written_as_a_regular_expression() {
        let suffix = StringMatch {
            suffix: Some(".io".to_owned()),
            ..StringMatch::default()
        };
        let condition = HttpMatch {
            headers: Some(BTreeMap::from([("x".to_owned(), suffix)])),
            ..HttpMatch::default()
        };
        assert_eq!(
            conditions(&[condition]),
            json!([{"headers": {"x": {"regex": r".*\.io"}}}])
        );
    }
}

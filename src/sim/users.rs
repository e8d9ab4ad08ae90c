//! Users who are meant to get the new version: requests that an A/B test's conditions take.

use regex_lite::Regex;
use serde_json::Value;

use crate::{api::Canary, route::istio::eval::Request};

/// Share of users who meet the conditions of an A/B test, in percent.
const SHARE: f64 = 10.0;

/// A request that meets one of the Canary's conditions, and its share of all in percent; none when
/// it has no conditions, or none that a request could be found for.
pub fn chosen(canary: &Canary) -> Vec<(f64, Request)> {
    let conditions = serde_json::to_value(&canary.spec.analysis.matches).unwrap_or_default();
    let conditions = conditions.as_array().map_or(&[][..], Vec::as_slice);
    conditions
        .iter()
        .find_map(request)
        .map(|request| (SHARE, request))
        .into_iter()
        .collect()
}

fn request(condition: &Value) -> Option<Request> {
    let mut request = Request::get("/");
    for (name, wanted) in condition["headers"].as_object()? {
        request = request.with_header(name, &example(wanted)?);
    }
    Some(request)
}

/// A text that a comparison takes.
fn example(wanted: &Value) -> Option<String> {
    let text = |field: &str| wanted[field].as_str();
    if let Some(exact) = text("exact").or_else(|| text("prefix")) {
        return Some(exact.to_owned());
    }
    let Some(expression) = text("regex") else {
        return Some("any".to_owned());
    };
    // Without its optional parts, wildcards and brackets, a common expression is its own example.
    let mut plain = expression.to_owned();
    for part in [
        "(.*?;)?", "(;.*)?", "(.*;)?", ".*?", ".*", ".+", "^", "$", "(", ")", "?:", "\\",
    ] {
        plain = plain.replace(part, "");
    }
    let alternatives = plain.split('|').map(str::to_owned);
    let regex = Regex::new(&format!("^(?:{expression})$")).ok()?;
    alternatives.into_iter().find(|text| regex.is_match(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn example_is_taken_by_its_comparison() {
        for (wanted, text) in [
            (json!({"exact": "insider"}), Some("insider")),
            (json!({"prefix": "in"}), Some("in")),
            (
                json!({"regex": "^(.*?;)?(canary=always)(;.*)?$"}),
                Some("canary=always"),
            ),
            (json!({"regex": ".*(a|b).*"}), Some("a")),
            (json!({"regex": "[0-9]{4}"}), None),
            (json!({}), Some("any")),
        ] {
            assert_eq!(example(&wanted).as_deref(), text, "{wanted}");
        }
    }
}

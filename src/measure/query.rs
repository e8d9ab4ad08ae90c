//! The language of queries: PromQL with `{{ name }}` and the like.
//!
//! Known are `{{ name }}`, `{{ namespace }}`, `{{ target }}`, `{{ service }}`, `{{ ingress }}`,
//! `{{ route }}`, `{{ interval }}` and `{{ variables.KEY }}`, with any white space inside the
//! braces and with Go's trim marks (`{{- name -}}`). Nothing else is: no functions, no loops.
//!
//! A value cannot change the shape of a query:
//! - Inside a quoted string it is escaped: `"`, `\` and line breaks become `\"`, `\\` and `\n`.
//!   A value in which all of them are escaped already stays as it is, because manifests written
//!   for Flagger, which escapes nothing, escape by hand.
//! - Inside a raw string (`` `…` ``) it may hold anything but a backtick.
//! - Outside strings (a range, a number, a label matcher) it is inserted as it is, but must not
//!   leave a string open or start a comment. A template that inserts a variable there hands this
//!   part of the query to the author of the Canary.
//!
//! White space outside strings collapses to single spaces and comments disappear.

use std::collections::BTreeMap;

use crate::api::{Canary, Metric};

/// Time range of a metric that names none.
pub const DEFAULT_INTERVAL: &str = "1m";

/// What a query can refer to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryFacts {
    /// Name of the Canary.
    pub name: String,
    /// Namespace of the Canary.
    pub namespace: String,
    /// Name of the workload.
    pub target: String,
    /// Name of the apex service.
    pub service: String,
    /// Name of the Ingress, else of the workload.
    pub ingress: String,
    /// Name of the route, else of the workload.
    pub route: String,
    /// Time range of the metric.
    pub interval: String,
    /// The metric's `templateVariables`.
    pub variables: BTreeMap<String, String>,
}

impl QueryFacts {
    /// The facts for one metric of a Canary.
    pub fn new(canary: &Canary, metric: &Metric) -> Self {
        let target = &canary.spec.target_ref.name;
        let or_target =
            |name: Option<&String>| name.map_or_else(|| target.clone(), String::to_owned);
        Self {
            name: canary.metadata.name.clone().unwrap_or_default(),
            namespace: canary.metadata.namespace.clone().unwrap_or_default(),
            target: target.clone(),
            service: canary.spec.apex_name().to_owned(),
            ingress: or_target(canary.spec.ingress_ref.as_ref().map(|r| &r.name)),
            route: or_target(canary.spec.route_ref.as_ref().map(|r| &r.name)),
            interval: metric
                .interval
                .clone()
                .filter(|interval| !interval.is_empty())
                .unwrap_or_else(|| DEFAULT_INTERVAL.to_owned()),
            variables: metric.template_variables.clone().unwrap_or_default(),
        }
    }

    fn value(&self, expression: &str) -> Result<&str, RenderError> {
        let value = match expression {
            "name" => &self.name,
            "namespace" => &self.namespace,
            "target" => &self.target,
            "service" => &self.service,
            "ingress" => &self.ingress,
            "route" => &self.route,
            "interval" => &self.interval,
            other => match other.strip_prefix("variables.") {
                Some(key) => self
                    .variables
                    .get(key)
                    .ok_or_else(|| RenderError::Variable {
                        key: key.to_owned(),
                        known: if self.variables.is_empty() {
                            "none".to_owned()
                        } else {
                            let keys: Vec<_> = self.variables.keys().map(String::as_str).collect();
                            keys.join(", ")
                        },
                    })?,
                None => {
                    return Err(RenderError::Expression {
                        found: other.to_owned(),
                    });
                }
            },
        };
        Ok(value)
    }
}

/// Why a query could not be rendered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// An opening brace without a closing one.
    #[error("found `{{{{` without `}}}}` at {near:?}; close the expression")]
    Open {
        /// What follows the brace.
        near: String,
    },
    /// Something other than a known name.
    #[error(
        "found `{{{{ {found} }}}}`; known are name, namespace, target, service, ingress, route, \
         interval and variables.KEY, without functions"
    )]
    Expression {
        /// What was found.
        found: String,
    },
    /// A variable that the metric does not give.
    #[error(
        "found `{{{{ variables.{key} }}}}`, but templateVariables has no {key:?} (known: {known}); \
         add it to the metric"
    )]
    Variable {
        /// Name of the variable.
        key: String,
        /// Names that the metric gives.
        known: String,
    },
    /// A value that would change the query around it.
    #[error("the value {value:?} of `{{{{ {expression} }}}}` {problem}")]
    Value {
        /// What was inserted.
        expression: String,
        /// The value.
        value: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

/// Fills in a query.
///
/// # Errors
/// When the template uses what is not known, or when a value would change the query's shape.
pub fn render(template: &str, facts: &QueryFacts) -> Result<String, RenderError> {
    let mut query = Promql::default();
    let mut rest = template;
    let mut trim = false;
    loop {
        let (literal, tail) = match rest.split_once("{{") {
            Some((literal, tail)) => (literal, Some(tail)),
            None => (rest, None),
        };
        let literal = if trim { literal.trim_start() } else { literal };
        let Some(tail) = tail else {
            query.push(literal);
            return Ok(query.finish());
        };
        let Some((expression, after)) = tail.split_once("}}") else {
            return Err(RenderError::Open {
                near: tail.chars().take(20).collect(),
            });
        };
        let (before, expression) = match expression.strip_prefix('-') {
            Some(expression) => (literal.trim_end(), expression),
            None => (literal, expression),
        };
        let marked = expression.strip_suffix('-');
        trim = marked.is_some();
        let expression = marked.unwrap_or(expression);
        let expression = expression.trim();
        query.push(before);
        query.insert(expression, facts.value(expression)?)?;
        rest = after;
    }
}

/// Where in PromQL a character stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Plain,
    Comment,
    /// A string that starts and ends with this quote.
    Quoted(char),
    /// Behind the backslash in such a string.
    Escaped(char),
}

/// A query in the making.
#[derive(Default)]
struct Promql {
    text: String,
    place: Place,
    gap: bool,
}

impl Promql {
    fn push(&mut self, text: &str) {
        for c in text.chars() {
            self.push_char(c);
        }
    }

    fn push_char(&mut self, c: char) {
        match self.place {
            Place::Comment => {
                if c == '\n' {
                    self.place = Place::Plain;
                }
                return;
            }
            Place::Plain => {
                if c.is_whitespace() {
                    self.gap = true;
                    return;
                }
                if c == '#' {
                    self.gap = true;
                    self.place = Place::Comment;
                    return;
                }
                if self.gap && !self.text.is_empty() {
                    self.text.push(' ');
                }
                self.gap = false;
                if matches!(c, '"' | '\'' | '`') {
                    self.place = Place::Quoted(c);
                }
            }
            Place::Quoted(quote) => {
                if c == quote {
                    self.place = Place::Plain;
                } else if c == '\\' && quote != '`' {
                    self.place = Place::Escaped(quote);
                }
            }
            Place::Escaped(quote) => self.place = Place::Quoted(quote),
        }
        self.text.push(c);
    }

    fn insert(&mut self, expression: &str, value: &str) -> Result<(), RenderError> {
        let refused = |problem| RenderError::Value {
            expression: expression.to_owned(),
            value: value.chars().take(100).collect(),
            problem,
        };
        match self.place {
            Place::Comment => {}
            Place::Plain => {
                self.push(value);
                if self.place != Place::Plain {
                    return Err(refused(
                        "leaves a string open or starts a comment; close the string or remove the #",
                    ));
                }
            }
            Place::Quoted('`') if value.contains('`') => {
                return Err(refused(
                    "has a backtick, which ends the raw string; use a quoted string",
                ));
            }
            Place::Quoted('`') => self.push(value),
            Place::Quoted(quote) if is_escaped(value, quote) => self.push(value),
            Place::Quoted(quote) => self.push(&escape(value, quote)),
            Place::Escaped(_) => {
                return Err(refused(
                    "follows a backslash in the template; remove the backslash",
                ));
            }
        }
        Ok(())
    }

    fn finish(self) -> String {
        self.text
    }
}

/// Whether a value is the inside of a string already: every backslash and quote is escaped.
fn is_escaped(value: &str, quote: char) -> bool {
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(next) if next == '\\' || next == quote => {}
                _ => return false,
            },
            '\n' | '\r' => return false,
            c if c == quote => return false,
            _ => {}
        }
    }
    true
}

fn escape(value: &str, quote: char) -> String {
    let mut text = String::with_capacity(value.len() + 8);
    for c in value.chars() {
        match c {
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            c => {
                if c == '\\' || c == quote {
                    text.push('\\');
                }
                text.push(c);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use proptest::prelude::*;

    use super::*;

    fn facts() -> QueryFacts {
        QueryFacts {
            name: "shop".into(),
            namespace: "prod".into(),
            target: "shop-app".into(),
            service: "shop-svc".into(),
            ingress: "shop-in".into(),
            route: "shop-route".into(),
            interval: "1m".into(),
            variables: BTreeMap::from([("code".into(), "5..".into())]),
        }
    }

    fn with(value: &str) -> QueryFacts {
        QueryFacts {
            variables: BTreeMap::from([("v".into(), value.into())]),
            ..facts()
        }
    }

    #[test]
    fn template_with_known_names_is_filled_in() {
        for (template, query) in [
            (
                "{{ name }} {{ namespace }} {{ target }} {{ service }}",
                "shop prod shop-app shop-svc",
            ),
            (
                "{{ ingress }} {{route}} {{  interval\t}}",
                "shop-in shop-route 1m",
            ),
            ("{{ variables.code }}", "5.."),
            ("a {{- name -}} b", "ashopb"),
            ("a {{- name }} b", "ashop b"),
            ("a {{ name -}} \n b", "a shopb"),
            ("  sum (\n\t x )\n", "sum ( x )"),
            ("sum(x) # all of it\n * 100", "sum(x) * 100"),
            (r#"x{a="  #  ",b='{{ name }}'}"#, r#"x{a="  #  ",b='shop'}"#),
            (r#"x{a="\"{{ name }}"}"#, r#"x{a="\"shop"}"#),
            ("", ""),
        ] {
            assert_eq!(
                render(template, &facts()).as_deref(),
                Ok(query),
                "{template}"
            );
        }
    }

    #[test]
    fn template_with_anything_else_is_an_error_that_says_what_is_known() {
        for (template, part) in [
            ("{{ printf \"%s\" name }}", "found `{{ printf"),
            ("{{ if name }}x{{ end }}", "found `{{ if name }}`"),
            ("{{ Name }}", "known are name, namespace"),
            ("{{ }}", "found `{{  }}`"),
            ("{{ variables }}", "found `{{ variables }}`"),
            ("{{ variables.color }}", "(known: code)"),
            ("x {{ name", "without `}}` at \" name\""),
            ("{{ $x := 1 }}", "found `{{ $x := 1 }}`"),
            ("{{ name | printf }}", "without functions"),
        ] {
            let error = render(template, &facts()).unwrap_err().to_string();
            assert!(error.contains(part), "{template}: {error}");
        }
    }

    #[test]
    fn value_in_a_quoted_string_is_escaped() {
        let double = r#"x{v="{{ variables.v }}"}"#;
        for (value, inside) in [
            ("a", "a"),
            ("5..|4..", "5..|4.."),
            (r#"a"b"#, r#"a\"b"#),
            (r"a\d", r"a\\d"),
            (r"a\\d", r"a\\d"),
            (r#"a\"b"#, r#"a\"b"#),
            ("a\\", "a\\\\"),
            ("a\nb", "a\\nb"),
            ("a'b", "a'b"),
            (
                r#""} or vector(0) or x{v=""#,
                r#"\"} or vector(0) or x{v=\""#,
            ),
            ("{{ name }}", "{{ name }}"),
        ] {
            assert_eq!(
                render(double, &with(value)).unwrap(),
                format!(r#"x{{v="{inside}"}}"#),
                "{value:?}"
            );
        }
        assert_eq!(
            render("x{v='{{ variables.v }}'}", &with("a'b\"c")).unwrap(),
            r#"x{v='a\'b"c'}"#
        );
    }

    #[test]
    fn value_that_would_change_the_query_around_it_is_an_error() {
        for (template, value) in [
            ("x{v=`{{ variables.v }}`}", "a`b"),
            ("x > {{ variables.v }} or y", "1 # "),
            ("x{ {{ variables.v }} }", "a=\"b"),
            (r#"x{v="\{{ variables.v }}"}"#, "a"),
        ] {
            let error = render(template, &with(value)).unwrap_err();
            assert!(matches!(error, RenderError::Value { .. }), "{template}");
        }
    }

    #[test]
    fn value_outside_strings_is_inserted_as_it_is() {
        assert_eq!(
            render(
                "x{ {{ variables.v }} }[{{ interval }}]",
                &with(r#"a="b",c!~"d""#)
            )
            .unwrap(),
            r#"x{ a="b",c!~"d" }[1m]"#
        );
    }

    /// The query without the insides of its strings, read by the rules of PromQL; `None` when a
    /// string stays open or breaks the line.
    fn skeleton(query: &str) -> Option<String> {
        let mut shape = String::new();
        let mut chars = query.chars();
        while let Some(c) = chars.next() {
            shape.push(c);
            if matches!(c, '"' | '\'' | '`') {
                loop {
                    match chars.next()? {
                        '\\' if c != '`' => {
                            chars.next()?;
                        }
                        '\n' if c != '`' => return None,
                        end if end == c => break,
                        _ => {}
                    }
                }
                shape.push(c);
            }
        }
        Some(shape)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn value_in_strings_never_changes_the_shape_of_the_query(
            value in prop_oneof![
                ".*",
                r#"[\\"'`\n\r{}()#a ]{0,12}"#,
            ],
        ) {
            for template in [
                r#"sum(rate(x{a="{{ variables.v }}",b=~"{{variables.v}}.*"}[1m])) > 1"#,
                "x{a='{{ variables.v }}'} or y{b=`{{ name }}`}",
                "x{a=`{{ variables.v }}`} + 1",
            ] {
                let harmless = skeleton(&render(template, &with("v")).unwrap());
                match render(template, &with(&value)) {
                    Ok(query) => prop_assert_eq!(skeleton(&query), harmless, "{}", query),
                    Err(_) => prop_assert!(template.contains("`{{ v") && value.contains('`')),
                }
            }
        }

        #[test]
        fn any_template_renders_or_is_refused_without_panic(template in "[{}a-z\\-. \"'`#\\\\\n]{0,40}") {
            let first = render(&template, &facts());
            prop_assert_eq!(first, render(&template, &facts()));
        }

        #[test]
        fn rendering_a_rendered_query_changes_nothing(template in "[a-z\\-. \"'`#\\\\\n]{0,40}") {
            let once = render(&template, &facts()).unwrap();
            prop_assert_eq!(render(&once, &facts()).unwrap(), once);
        }
    }
}

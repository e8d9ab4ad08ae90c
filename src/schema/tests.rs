use serde_json::json;

use super::*;

fn schema(fields: &Value) -> Schema {
    Schema::read(&json!({"type": "object", "properties": fields})).unwrap()
}

fn faults(fields: &Value, object: &Value) -> Vec<String> {
    let mut object = object.clone();
    let faults = schema(fields).admit(&mut object);
    faults.iter().map(Fault::to_string).collect()
}

#[test]
fn values_that_break_a_keyword_are_named_with_what_to_write() {
    let fields = json!({
        "word": {"type": "string", "pattern": "^a+$", "maxLength": 3},
        "number": {"type": "integer", "minimum": 1.0, "maximum": 9.0},
        "list": {"type": "array", "minItems": 1, "items": {"type": "string", "enum": ["", "x"]}},
        "map": {"type": "object", "additionalProperties": {"type": "boolean"}},
        "time": {"type": "string", "format": "date-time"},
        "port": {"x-kubernetes-int-or-string": true},
        "choice": {
            "type": "object",
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
    });
    for (object, expected) in [
        (
            json!({"word": "b"}),
            r#"word: found "b"; write what matches ^a+$"#,
        ),
        (
            json!({"word": "aaaa"}),
            "word: found 4 characters; write at most 3 characters",
        ),
        (
            json!({"word": 1}),
            "word: found 1; write a text (in quotes if it looks otherwise)",
        ),
        (
            json!({"number": 0}),
            "number: found 0; write a number from 1 to 9",
        ),
        (
            json!({"number": 1.5}),
            "number: found 1.5; write a whole number",
        ),
        (
            json!({"list": []}),
            "list: found nothing; write at least 1 item",
        ),
        (
            json!({"list": ["y"]}),
            r#"list[0]: found "y"; write one of "", "x""#,
        ),
        (
            json!({"map": {"k": "v"}}),
            r#"map[k]: found "v"; write true or false"#,
        ),
        (
            json!({"time": "now"}),
            r#"time: found "now"; write a time such as 2006-01-02T15:04:05Z"#,
        ),
        (
            json!({"port": true}),
            "port: found true; write a whole number or a text",
        ),
        (
            json!({"choice": {}}),
            "choice: found none of the fields; write exactly one of: a | b",
        ),
        (
            json!({"choice": {"a": "", "b": ""}}),
            "choice: found a + b; write exactly one of: a | b",
        ),
    ] {
        assert_eq!(faults(&fields, &object), [expected], "{object}");
    }
}

#[test]
fn values_that_fit_are_admitted() {
    let fields = json!({
        "number": {"type": "integer"},
        "share": {"type": "number", "minimum": 0.0},
        "port": {"x-kubernetes-int-or-string": true},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
        "maybe": {"type": "string", "nullable": true},
    });
    let object = json!({
        "apiVersion": "x/v1", "kind": "X", "metadata": {"name": "x"},
        "number": 5.0, "share": 5, "port": "http", "free": {"a": {"b": 1}}, "maybe": null,
    });
    let mut admitted = object.clone();
    assert_eq!(schema(&fields).admit(&mut admitted), []);
    assert_eq!(admitted["number"].to_string(), "5", "as servers write it");
    admitted["number"] = object["number"].clone();
    assert_eq!(admitted, object);
}

#[test]
fn unknown_fields_and_nulls_are_dropped_and_defaults_filled_in() {
    let fields = json!({
        "spec": {
            "type": "object",
            "properties": {
                "kind": {"type": "string", "default": "Gateway"},
                "name": {"type": "string"},
                "list": {"type": "array", "items": {
                    "type": "object", "properties": {"a": {"type": "integer", "default": 1}},
                }},
            },
        },
    });
    let mut object = json!({"spec": {"kind": null, "name": null, "list": [{"b": 2}], "typo": 1}});
    assert_eq!(
        schema(&fields).prune(&mut object, None),
        ["spec.list[0].b", "spec.typo"]
    );
    schema(&fields).fill_in(&mut object, None);
    assert_eq!(
        object,
        json!({"spec": {"kind": "Gateway", "list": [{"a": 1}]}})
    );
}

#[test]
fn rules_are_evaluated_where_they_stand_and_say_what_they_found() {
    let fields = json!({
        "items": {"type": "array", "items": {
            "type": "object",
            "properties": {
                "min": {"type": "number"}, "max": {"type": "number"},
                "namespace": {"type": "string"},
            },
            "x-kubernetes-validations": [
                {
                    "rule": "!has(self.min) || self.min <= self.max",
                    "messageExpression": "'found %s above %s; lower it'.format([self.min, self.max])",
                    "fieldPath": ".min",
                },
                {"rule": "!has(self.__namespace__) || self.__namespace__ == 'a'", "message": "use a"},
                {"rule": "self == oldSelf", "message": "keep it"},
            ],
        }},
        "weights": {"type": "array", "items": {"type": "integer"}, "x-kubernetes-validations": [
            {"rule": "self.isSorted()", "messageExpression": "'found %s; sort'.format([self])"},
        ]},
    });
    let object = json!({
        "items": [{"min": 1, "max": 2.5}, {"min": 3, "max": 2.5}, {"namespace": "b"}, {"min": 1}],
        "weights": [2, 1],
    });
    let found = faults(&fields, &object);
    assert_eq!(found[0], "items[1].min: found 3 above 2.5; lower it");
    assert_eq!(found[1], "items[2]: found another value; use a");
    assert!(
        found[2].starts_with("items[3].min: found a value for which "),
        "{}",
        found[2]
    );
    assert_eq!(found[3], "weights: found [2, 1]; sort");
    assert_eq!(found.len(), 4);
}

#[test]
fn schemas_that_cannot_be_applied_are_errors() {
    for (schema, part) in [
        (json!({"type": "text"}), "found type \"text\""),
        (json!({"pattern": "("}), "regex parse error"),
        (
            json!({"x-kubernetes-validations": [{"rule": "self ++"}]}),
            "make it CEL",
        ),
    ] {
        let error = Schema::read(&schema).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

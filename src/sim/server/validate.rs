//! Checking a custom resource against its schema.

use serde_json::Value;

use super::error::Cause;
use super::schema::{Checks, Merge, Schema, Type};

/// The faults of a custom resource. With the stored object, what has not changed is not checked again.
pub fn faults(schema: &Schema, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    check(schema, new, old, "", &mut causes);
    let blocked = causes.iter().any(|cause| {
        matches!(
            cause.reason,
            "FieldValueNotSupported"
                | "FieldValueRequired"
                | "FieldValueTooLong"
                | "FieldValueTooMany"
                | "FieldValueTypeInvalid"
        )
    });
    if has_rules(schema) {
        if blocked {
            let text = "some validation rules were not checked because the object was invalid; \
                        correct the existing errors to complete validation";
            causes.push(Cause::invalid("<nil>", text));
        } else {
            check_rules(schema, new, old, "", &mut causes);
        }
    }
    causes
}

fn has_rules(schema: &Schema) -> bool {
    schema
        .checks
        .as_ref()
        .is_some_and(|checks| !checks.rules.is_empty())
        || schema.fields.values().any(|field| has_rules(field))
        || schema
            .values
            .as_ref()
            .is_some_and(|values| has_rules(values))
        || schema.items.as_ref().is_some_and(|items| has_rules(items))
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn check(schema: &Schema, value: &Value, old: Option<&Value>, path: &str, causes: &mut Vec<Cause>) {
    if old == Some(value) || (value.is_null() && schema.nullable) {
        return;
    }
    if let Some(cause) = type_fault(schema.ty, value, path) {
        causes.push(cause);
        if let Some(checks) = &schema.checks {
            check_branches(checks, value, path, causes);
        }
        return;
    }
    if let Some(checks) = &schema.checks {
        check_value(checks, value, path, causes);
    }
    match value {
        Value::Object(map) => {
            for name in &schema.required {
                if !map.contains_key(name) {
                    causes.push(Cause::required(join(path, name), "Required value"));
                }
            }
            for (key, value) in map {
                if path.is_empty() && matches!(key.as_str(), "metadata" | "apiVersion" | "kind") {
                    continue;
                }
                if let Some(field) = schema.field(key) {
                    let place = if schema.fields.contains_key(key) {
                        join(path, key)
                    } else {
                        format!("{path}[{key}]")
                    };
                    let place = if schema.fields.contains_key(key) {
                        place
                    } else {
                        join(path, key)
                    };
                    check(
                        field,
                        value,
                        old.and_then(|old| old.get(key)),
                        &place,
                        causes,
                    );
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if let Some(shape) = &schema.items {
                    let before = old_item(schema, old, item, index);
                    check(shape, item, before, &format!("{path}[{index}]"), causes);
                }
            }
            if schema.ty == Type::Array && schema.merge == Merge::Granular {
                for (index, item) in items.iter().enumerate() {
                    if items.iter().take(index).any(|other| other == item) {
                        let text = format!("Duplicate value: {item}");
                        let place = format!("{path}[{index}]");
                        causes.push(Cause::new("FieldValueDuplicate", place, text));
                    }
                }
            }
            if let Merge::Keys(keys) = &schema.merge {
                let id =
                    |item: &Value| keys.iter().map(|key| item[key].clone()).collect::<Vec<_>>();
                for (index, item) in items.iter().enumerate() {
                    if items.iter().take(index).any(|other| id(other) == id(item)) {
                        let text = format!("Duplicate value: {item}");
                        causes.push(Cause::new(
                            "FieldValueDuplicate",
                            format!("{path}[{index}]"),
                            text,
                        ));
                    }
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The item of the stored list that an item continues: by its keys where the list has them.
fn old_item<'a>(
    schema: &Schema,
    old: Option<&'a Value>,
    item: &Value,
    index: usize,
) -> Option<&'a Value> {
    let items = old?.as_array()?;
    match &schema.merge {
        Merge::Keys(keys) => items
            .iter()
            .find(|old| keys.iter().all(|key| old[key] == item[key])),
        Merge::Atomic | Merge::Granular => items.get(index).filter(|old| *old == item),
    }
}

fn type_fault(ty: Type, value: &Value, path: &str) -> Option<Cause> {
    let fits = match (ty, value) {
        (Type::Any, _)
        | (Type::Object, Value::Object(_))
        | (Type::Array, Value::Array(_))
        | (
            Type::String | Type::Bytes | Type::Time | Type::IntOrString | Type::Quantity,
            Value::String(_),
        )
        | (Type::Number | Type::Quantity, Value::Number(_))
        | (Type::Boolean, Value::Bool(_)) => true,
        (Type::Integer | Type::IntOrString, Value::Number(number)) => {
            number.is_i64() || number.is_u64() || number.as_f64().is_some_and(|n| n.fract() == 0.0)
        }
        _ => false,
    };
    if fits {
        return None;
    }
    let wanted = if ty == Type::IntOrString {
        "integer,string".to_owned()
    } else {
        format!("{ty:?}").to_lowercase()
    };
    let text = format!("Invalid value: {value}: {path} in body must be of type {wanted}");
    let reason = "FieldValueTypeInvalid";
    Some(Cause::new(reason, path, text))
}

fn check_value(checks: &Checks, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let mut fault =
        |reason: &'static str, text: String| causes.push(Cause::new(reason, path, text));
    let invalid = "FieldValueInvalid";
    if !checks.one_of_values.is_empty() && !checks.one_of_values.contains(value) {
        let listed: Vec<String> = checks.one_of_values.iter().map(Value::to_string).collect();
        fault(
            "FieldValueNotSupported",
            format!(
                "Unsupported value: {value}: supported values: {}",
                listed.join(", ")
            ),
        );
    }
    if let Value::String(text) = value {
        let length = text.chars().count() as u64;
        let (least, most) = checks.length;
        if most.is_some_and(|most| length > most) {
            fault(
                "FieldValueTooLong",
                format!("Too long: may not be more than {most:?} bytes"),
            );
        } else if least.is_some_and(|least| length < least) {
            fault(
                invalid,
                format!("Invalid value: {value}: should be at least {least:?} chars long"),
            );
        } else if let Some(pattern) = &checks.pattern
            && !pattern.is_match(text)
        {
            fault(
                invalid,
                format!("Invalid value: {value}: should match '{pattern}'"),
            );
        }
        if let Some(format) = &checks.format
            && !super::formats::fits(format, text)
        {
            fault(
                "FieldValueTypeInvalid",
                format!("Invalid value: {value}: must be of type {format}"),
            );
        }
    }
    if let Some(number) = value.as_f64() {
        if let Some((limit, exclusive)) = checks.minimum
            && (number < limit || (exclusive && number <= limit))
        {
            fault(
                invalid,
                format!("Invalid value: {value}: should be greater than or equal to {limit}"),
            );
        }
        if let Some((limit, exclusive)) = checks.maximum
            && (number > limit || (exclusive && number >= limit))
        {
            fault(
                invalid,
                format!("Invalid value: {value}: should be less than or equal to {limit}"),
            );
        }
        if let Some(step) = checks.multiple_of
            && (number / step).fract() != 0.0
        {
            fault(
                invalid,
                format!("Invalid value: {value}: should be a multiple of {step}"),
            );
        }
    }
    if let Value::Array(items) = value {
        check_count(items.len() as u64, checks.items, "items", &mut fault);
        let twice =
            |(index, item): (usize, &Value)| items.iter().take(index).any(|other| other == item);
        if checks.unique && items.iter().enumerate().any(twice) {
            fault(invalid, "shouldn't contain duplicates".to_owned());
        }
    }
    if let Value::Object(map) = value {
        check_count(
            map.len() as u64,
            checks.properties,
            "properties",
            &mut fault,
        );
    }
    check_branches(checks, value, path, causes);
}

fn check_count(
    count: u64,
    (least, most): (Option<u64>, Option<u64>),
    what: &str,
    fault: &mut impl FnMut(&'static str, String),
) {
    if most.is_some_and(|most| count > most) {
        fault(
            "FieldValueTooMany",
            format!("Too many: {count}: must have at most {most:?} {what}"),
        );
    }
    if least.is_some_and(|least| count < least) {
        fault(
            "FieldValueInvalid",
            format!("Invalid value: {count}: should have at least {least:?} {what}"),
        );
    }
}

/// The combining keywords. Their own fault names no field; when no branch fits, the faults of the nearest
/// branch are told too.
fn check_branches(checks: &Checks, value: &Value, path: &str, causes: &mut Vec<Cause>) {
    let faults_of = |branch: &Schema| {
        let mut found = Vec::new();
        check(branch, value, None, path, &mut found);
        found
    };
    let invalid =
        |text: &str| Cause::invalid("<nil>", format!("Invalid value: {path} in body {text}"));
    let all = |branches: &[Schema]| branches.iter().map(faults_of).collect::<Vec<_>>();
    let nearest = |faults: &[Vec<Cause>]| {
        faults
            .iter()
            .min_by_key(|faults| faults.len())
            .cloned()
            .unwrap_or_default()
    };
    for faults in all(&checks.all_of)
        .into_iter()
        .filter(|faults| !faults.is_empty())
    {
        causes.push(invalid("must validate all the schemas (allOf)"));
        causes.extend(faults);
    }
    let any = all(&checks.any_of);
    if !any.is_empty() && any.iter().all(|faults| !faults.is_empty()) {
        causes.push(invalid("must validate at least one schema (anyOf)"));
        causes.extend(nearest(&any));
    }
    let one = all(&checks.one_of);
    let fitting = one.iter().filter(|faults| faults.is_empty()).count();
    if !one.is_empty() && fitting != 1 {
        causes.push(invalid("must validate one and only one schema (oneOf)"));
        if fitting == 0 {
            causes.extend(nearest(&one));
        }
    }
    if checks
        .not
        .as_ref()
        .is_some_and(|not| faults_of(not).is_empty())
    {
        causes.push(invalid("must not validate the schema (not)"));
    }
}

fn check_rules(
    schema: &Schema,
    value: &Value,
    old: Option<&Value>,
    path: &str,
    causes: &mut Vec<Cause>,
) {
    if let Some(checks) = &schema.checks {
        for rule in &checks.rules {
            if let Some((field, message)) = rule.fault(schema, value, old) {
                let place = match (path.is_empty(), field) {
                    (_, "") => path.to_owned(),
                    (true, field) => field.trim_start_matches('.').to_owned(),
                    (false, field) => format!("{path}{field}"),
                };
                causes.push(Cause::new(rule.reason, place, message));
            }
        }
    }
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                if path.is_empty() && key == "metadata" {
                    continue;
                }
                if let Some(field) = schema.field(key) {
                    check_rules(
                        field,
                        value,
                        old.and_then(|old| old.get(key)),
                        &join(path, key),
                        causes,
                    );
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                if let Some(shape) = &schema.items {
                    let before = old_item(schema, old, item, index);
                    check_rules(shape, item, before, &format!("{path}[{index}]"), causes);
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

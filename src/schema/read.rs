//! Reading the structural schema of a CRD version.

use std::sync::Arc;

use serde_json::Value;

use super::metadata::list;
use super::{Checks, Fault, Merge, Rule, Schema, Type, builtin};

impl Schema {
    /// Reads the `openAPIV3Schema` of one version of a `CustomResourceDefinition`, and adds what
    /// every object has.
    ///
    /// # Errors
    /// The type, pattern or rule that cannot be applied here.
    pub fn read(json: &Value) -> Result<Self, Fault> {
        let mut schema = parse(json, "")?;
        schema.ty = Type::Object;
        for field in ["apiVersion", "kind"] {
            let plain = Self {
                ty: Type::String,
                ..Self::default()
            };
            schema.fields.insert(field.to_owned(), Arc::new(plain));
        }
        add_metadata(&mut schema);
        schema
            .required
            .retain(|field| !matches!(field.as_str(), "metadata" | "apiVersion" | "kind"));
        Ok(schema)
    }
}

/// Adds the metadata that every object has.
fn add_metadata(schema: &mut Schema) {
    let metadata = builtin("meta.v1.ObjectMeta").unwrap_or_else(Schema::any);
    schema.fields.insert("metadata".to_owned(), metadata);
}

/// What cannot be applied at a path of a schema.
fn unusable(path: &str, found: String, action: impl Into<String>) -> Fault {
    Fault {
        path: path.trim_start_matches('.').to_owned(),
        found,
        action: action.into(),
    }
}

/// Reads one node at a path.
fn parse(json: &Value, path: &str) -> Result<Schema, Fault> {
    let flag = |name: &str| json[name] == true;
    let mut schema = Schema {
        ty: type_of(json, path)?,
        preserve: flag("x-kubernetes-preserve-unknown-fields"),
        embedded: flag("x-kubernetes-embedded-resource"),
        nullable: flag("nullable"),
        default: json.get("default").cloned(),
        required: texts(&json["required"]),
        checks: parse_checks(json, path)?.map(Box::new),
        ..Schema::default()
    };
    for (name, field) in json["properties"].as_object().into_iter().flatten() {
        let field = parse(field, &format!("{path}.{name}"))?;
        schema.fields.insert(name.clone(), Arc::new(field));
    }
    match &json["additionalProperties"] {
        Value::Object(_) => {
            let values = parse(&json["additionalProperties"], &format!("{path}.*"))?;
            schema.values = Some(Arc::new(values));
        }
        Value::Bool(true) => schema.values = Some(Schema::any()),
        Value::Null
        | Value::Bool(false)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_) => {}
    }
    if json["items"].is_object() {
        schema.items = Some(Arc::new(parse(&json["items"], &format!("{path}[]"))?));
    }
    schema.merge = match (schema.ty, json["x-kubernetes-list-type"].as_str()) {
        (Type::Array, Some("map")) => Merge::Keys(texts(&json["x-kubernetes-list-map-keys"])),
        (Type::Array, Some("set")) => Merge::Granular,
        (Type::Array, _) => Merge::Atomic,
        _ if json["x-kubernetes-map-type"] == "atomic" => Merge::Atomic,
        _ => Merge::Granular,
    };
    if schema.embedded {
        add_metadata(&mut schema);
    }
    let below = schema.fields.values().chain(&schema.values);
    let own = schema
        .checks
        .as_ref()
        .is_some_and(|checks| !checks.rules.is_empty());
    schema.ruled = own || below.chain(&schema.items).any(|schema| schema.ruled);
    Ok(schema)
}

fn type_of(json: &Value, path: &str) -> Result<Type, Fault> {
    if json["x-kubernetes-int-or-string"] == true {
        return Ok(Type::IntOrString);
    }
    Ok(match json["type"].as_str() {
        Some("object") => Type::Object,
        Some("array") => Type::Array,
        Some("string") => Type::String,
        Some("integer") => Type::Integer,
        Some("number") => Type::Number,
        Some("boolean") => Type::Boolean,
        Some(other) => {
            let action = "write object, array, string, integer, number or boolean";
            return Err(unusable(path, format!("type {other:?}"), action));
        }
        None => Type::Any,
    })
}

fn texts(value: &Value) -> Vec<String> {
    list(value)
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// The checks of a node; none when it has none.
fn parse_checks(json: &Value, path: &str) -> Result<Option<Checks>, Fault> {
    const CHECKED: [&str; 19] = [
        "enum",
        "pattern",
        "format",
        "minimum",
        "maximum",
        "multipleOf",
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "uniqueItems",
        "allOf",
        "anyOf",
        "oneOf",
        "not",
        "x-kubernetes-validations",
        "exclusiveMinimum",
    ];
    if !CHECKED.iter().any(|name| json.get(name).is_some()) {
        return Ok(None);
    }
    let count = |name: &str| json[name].as_u64();
    let bound = |name: &str, exclusive: &str| {
        json[name]
            .as_f64()
            .map(|limit| (limit, json[exclusive] == true))
    };
    let branches = |name: &str| -> Result<Vec<Schema>, Fault> {
        let branches = list(&json[name]).iter().enumerate();
        branches
            .map(|(index, branch)| parse(branch, &format!("{path}.{name}[{index}]")))
            .collect()
    };
    let pattern = json["pattern"].as_str().map(|pattern| {
        regex::Regex::new(pattern).map_err(|error| {
            let action = format!("write a regular expression: {error}");
            unusable(path, format!("pattern {pattern:?}"), action)
        })
    });
    let not = match json.get("not") {
        Some(not) => Some(Box::new(parse(not, &format!("{path}.not"))?)),
        None => None,
    };
    Ok(Some(Checks {
        one_of_values: list(&json["enum"]).to_vec(),
        pattern: pattern.transpose()?,
        format: json["format"].as_str().map(str::to_owned),
        minimum: bound("minimum", "exclusiveMinimum"),
        maximum: bound("maximum", "exclusiveMaximum"),
        multiple_of: json["multipleOf"].as_f64(),
        length: (count("minLength"), count("maxLength")),
        items: (count("minItems"), count("maxItems")),
        properties: (count("minProperties"), count("maxProperties")),
        unique: json["uniqueItems"] == true,
        all_of: branches("allOf")?,
        any_of: branches("anyOf")?,
        one_of: branches("oneOf")?,
        not,
        rules: list(&json["x-kubernetes-validations"])
            .iter()
            .map(|rule| {
                let text = rule["rule"].to_string();
                Rule::read(rule).map_err(|error| unusable(path, format!("rule {text}"), error))
            })
            .collect::<Result<_, _>>()?,
    }))
}

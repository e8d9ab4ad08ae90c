//! CEL rules of custom resources (`x-kubernetes-validations`).

use crate::schema::rules::escape;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::common::types::{CelInt, CelString, STRING_TYPE};
use cel::common::value::CowVal;
use cel::extractors::This;
use cel::{Context, Env, ExecutionError, Program};
use serde_json::Value;

use super::formats::go_duration;
use super::schema::{Schema, Type};

/// The functions that a rule may call. Another one makes the CRD be refused: a rule that cannot be
/// evaluated must never pass.
const KNOWN: [&str; 38] = [
    "size",
    "matches",
    "contains",
    "startsWith",
    "endsWith",
    "int",
    "uint",
    "double",
    "string",
    "bool",
    "type",
    "dyn",
    "has",
    "all",
    "exists",
    "exists_one",
    "map",
    "filter",
    "duration",
    "hasValue",
    "value",
    "orValue",
    "or",
    "optional.of",
    "optional.none",
    "replace",
    "split",
    "join",
    "substring",
    "trim",
    "lowerAscii",
    "upperAscii",
    "indexOf",
    "lastIndexOf",
    "charAt",
    "distinct",
    "format",
    "isSorted",
];

/// One rule.
#[derive(Clone)]
pub struct Rule {
    text: String,
    program: Arc<Program>,
    message: Option<String>,
    message_program: Option<Arc<Program>>,
    field: String,
    uses_old: bool,
    optional_old: bool,
    /// The reason of a cause that this rule makes.
    pub reason: &'static str,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rule").field(&self.text).finish()
    }
}

fn env() -> Arc<Env> {
    static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| {
        let mut env = Env::stdlib();
        // these only fail when a name is taken; a function that is then missing is refused at registration
        let _ = env.add_extension(cel::extensions::strings);
        let _ = env.add_extension(cel::extensions::lists);
        let _ = env.add_overload(
            "duration",
            "string_to_nanoseconds",
            vec![STRING_TYPE],
            |args| {
                let text = args.first().and_then(|arg| arg.downcast_ref::<CelString>());
                let text = text.map(|text| text.inner().to_owned()).unwrap_or_default();
                let nanoseconds = go_duration(&text).ok_or_else(|| {
                    ExecutionError::function_error("duration", format!("invalid duration {text:?}"))
                })?;
                Ok(CowVal::owned(CelInt::from(nanoseconds)))
            },
        );
        Arc::new(env)
    });
    ENV.clone()
}

fn compile(text: &str) -> Result<Program, String> {
    let program = env()
        .compile(text)
        .map_err(|error| format!("rule {text:?} cannot be read: {error}"))?;
    let references = program.references();
    let operator = |name: &str| !name.starts_with(|c: char| c.is_ascii_alphabetic());
    let unknown: Vec<&str> = references
        .functions()
        .into_iter()
        .filter(|name| !operator(name) && !KNOWN.contains(name))
        .collect();
    if !unknown.is_empty() {
        return Err(format!(
            "rule {text:?} calls {unknown:?}, which this server cannot evaluate"
        ));
    }
    Ok(program)
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// A sentence when it cannot be evaluated here.
    pub fn parse(json: &Value) -> Result<Self, String> {
        let text = json["rule"].as_str().unwrap_or_default().to_owned();
        let program = compile(&text)?;
        let uses_old = program.references().has_variable("oldSelf");
        let message_program = json["messageExpression"]
            .as_str()
            .map(compile)
            .transpose()?;
        Ok(Self {
            uses_old,
            program: Arc::new(program),
            message: json["message"].as_str().map(str::to_owned),
            message_program: message_program.map(Arc::new),
            field: json["fieldPath"].as_str().unwrap_or_default().to_owned(),
            optional_old: json["optionalOldSelf"] == true,
            reason: match json["reason"].as_str() {
                Some("FieldValueForbidden") => "FieldValueForbidden",
                Some("FieldValueRequired") => "FieldValueRequired",
                Some("FieldValueDuplicate") => "FieldValueDuplicate",
                _ => "FieldValueInvalid",
            },
            text,
        })
    }

    /// The field (relative, with a leading dot) and the message of a broken rule.
    pub fn fault(
        &self,
        schema: &Schema,
        value: &Value,
        old: Option<&Value>,
    ) -> Option<(&str, String)> {
        if old == Some(value) || (self.uses_old && old.is_none() && !self.optional_old) {
            return None;
        }
        let mut context = Context::with_env(env());
        // Declared nowhere else, so this cannot fail.
        let _ = context.add_function("isSorted", is_sorted);
        context.add_variable_from_value("self", to_cel(schema, value));
        if self.optional_old {
            let old = old.map_or_else(cel::objects::OptionalValue::none, |old| {
                cel::objects::OptionalValue::of(to_cel(schema, old))
            });
            context.add_variable_from_value("oldSelf", cel::Value::Opaque(Arc::new(old)));
        } else if let Some(old) = old {
            context.add_variable_from_value("oldSelf", to_cel(schema, old));
        }
        let said =
            |message: String| Some((self.field.as_str(), format!("Invalid value: {message}")));
        match self.program.execute(&context) {
            Ok(cel::Value::Bool(true)) => None,
            Ok(cel::Value::Bool(false)) => {
                let computed = self.message_program.as_ref().and_then(|program| {
                    match program.execute(&context) {
                        Ok(cel::Value::String(text)) => Some(text.to_string()),
                        _ => None,
                    }
                });
                let fallback = || {
                    let message = self.message.clone();
                    message.unwrap_or_else(|| format!("failed rule: {}", self.text))
                };
                said(computed.unwrap_or_else(fallback))
            }
            Ok(other) => said(format!(
                "rule {:?} is not a truth value but {other:?}",
                self.text
            )),
            Err(error) => said(format!(
                "rule {:?} could not be evaluated: {error}",
                self.text
            )),
        }
    }
}

/// A list's function `isSorted`, which servers have and the standard library has not.
fn is_sorted(This(list): This<Arc<Vec<cel::Value>>>) -> bool {
    list.is_sorted()
}

/// A value as CEL sees it: numbers by the type that the schema gives, field names escaped.
fn to_cel(schema: &Schema, value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(set) => cel::Value::Bool(*set),
        Value::Number(number) if schema.ty == Type::Number => {
            cel::Value::Float(number.as_f64().unwrap_or_default())
        }
        Value::Number(number) => match number.as_i64() {
            Some(whole) => cel::Value::Int(whole),
            None => cel::Value::Float(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => cel::Value::String(Arc::new(text.clone())),
        Value::Array(items) => {
            let any = Schema::any();
            let shape = schema.items.as_ref().unwrap_or(&any);
            cel::Value::List(Arc::new(
                items.iter().map(|item| to_cel(shape, item)).collect(),
            ))
        }
        Value::Object(map) => {
            let any = Schema::any();
            let entries: HashMap<cel::objects::Key, cel::Value> = map
                .iter()
                .map(|(key, value)| {
                    let name = if schema.fields.contains_key(key) {
                        escape(key)
                    } else {
                        key.clone()
                    };
                    let shape = schema.field(key).unwrap_or(&any);
                    (cel::objects::Key::from(name), to_cel(shape, value))
                })
                .collect();
            cel::Value::from(entries)
        }
    }
}

//! CEL rules of a schema (`x-kubernetes-validations`).

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use cel::common::types::{CelInt, CelString, STRING_TYPE};
use cel::common::value::CowVal;
use cel::extractors::This;
use cel::objects::{Key, OptionalValue};
use cel::{Context, Env, ExecutionError, Program};
use serde_json::Value;

use super::formats::go_duration;
use super::path::Path;
use super::{Reason, Schema, Type, Violation};

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

/// What rules may use, beside the standard library: texts and lists are taken apart and joined.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // These only fail when a name is taken; a function that is then missing is refused on reading.
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

/// A compiled rule.
#[derive(Clone)]
pub struct Rule {
    text: String,
    test: Arc<Program>,
    message: Option<String>,
    message_expression: Option<Arc<Program>>,
    field_path: String,
    uses_old: bool,
    optional_old: bool,
    reason: Reason,
}

impl std::fmt::Debug for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rule").field(&self.text).finish()
    }
}

/// Compiles an expression.
fn compile(text: &str) -> Result<Arc<Program>, String> {
    let program = ENVIRONMENT
        .compile(text)
        .map_err(|error| format!("make it CEL: {error}"))?;
    let references = program.references();
    let operator = |name: &str| !name.starts_with(|c: char| c.is_ascii_alphabetic());
    let functions = references.functions().into_iter();
    let unknown: Vec<&str> = functions
        .filter(|name| !operator(name) && !KNOWN.contains(name))
        .collect();
    if unknown.is_empty() {
        Ok(Arc::new(program))
    } else {
        let unknown = unknown.join(", ");
        Err(format!(
            "do without {unknown}, which cannot be evaluated here"
        ))
    }
}

impl Rule {
    /// Reads a rule.
    ///
    /// # Errors
    /// What to do, when it cannot be evaluated here.
    pub fn read(json: &Value) -> Result<Self, String> {
        let text = json["rule"].as_str().unwrap_or_default().to_owned();
        let program = compile(&text)?;
        let message_expression = json["messageExpression"].as_str().map(compile);
        Ok(Self {
            uses_old: program.references().has_variable("oldSelf"),
            test: program,
            message: json["message"].as_str().map(str::to_owned),
            message_expression: message_expression.transpose()?,
            field_path: json["fieldPath"].as_str().unwrap_or_default().to_owned(),
            optional_old: json["optionalOldSelf"] == true,
            reason: match json["reason"].as_str() {
                Some("FieldValueForbidden") => Reason::Forbidden,
                Some("FieldValueRequired") => Reason::Required,
                Some("FieldValueDuplicate") => Reason::Duplicate,
                _ => Reason::Invalid,
            },
            text,
        })
    }

    /// The violation, if the rule does not hold for the value that `context` calls `self`.
    fn violation(&self, path: Path<'_>, context: &Context) -> Option<Violation> {
        let message = match self.test.execute(context) {
            Ok(cel::Value::Bool(true)) => return None,
            Ok(_) => self.words(context),
            Err(error) => format!("found a value for which {} fails; {error}", self.text),
        };
        let (found, action) = match message.split_once("; ") {
            Some((found, action)) => (found.trim_start_matches("found "), action),
            None => ("another value", message.as_str()),
        };
        let mut violation = Violation::at(path, self.reason, found, action);
        let place = format!("{path}{}", self.field_path);
        let place = place.trim_start_matches('.');
        place.clone_into(&mut violation.fault.path);
        place.clone_into(&mut violation.field);
        Some(violation)
    }

    /// What the rule says when it is broken.
    fn words(&self, context: &Context) -> String {
        let computed =
            self.message_expression
                .as_ref()
                .and_then(|program| match program.execute(context) {
                    Ok(cel::Value::String(text)) => Some(text.to_string()),
                    Ok(_) | Err(_) => None,
                });
        computed
            .filter(|text| !text.trim().is_empty() && !text.contains('\n'))
            .or_else(|| self.message.clone())
            .unwrap_or_else(|| format!("failed rule: {}", self.text))
    }
}

impl Schema {
    /// Lists the rules that an object of the right shape breaks. Rules about what has not changed
    /// since `old` are not evaluated again; those about changes say nothing about a new object.
    pub fn broken_rules(&self, object: &Value, old: Option<&Value>) -> Vec<Violation> {
        let mut found = Vec::new();
        self.judge(object, old, Path::ROOT, &mut found);
        found
    }

    fn judge(
        &self,
        value: &Value,
        old: Option<&Value>,
        path: Path<'_>,
        found: &mut Vec<Violation>,
    ) {
        if !self.ruled || old == Some(value) {
            return;
        }
        if let Some(checks) = &self.checks {
            self.judge_here(&checks.rules, value, old, path, found);
        }
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let Some(field) = self.field(name) {
                        let before = old.and_then(|old| old.get(name));
                        field.judge(value, before, self.entry(&path, name), found);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(schema) = &self.items {
                        let before = self.old_item(old, item, index);
                        schema.judge(item, before, path.item(index), found);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// Evaluates the rules of one value.
    fn judge_here(
        &self,
        rules: &[Rule],
        value: &Value,
        old: Option<&Value>,
        path: Path<'_>,
        found: &mut Vec<Violation>,
    ) {
        let told = |rule: &&Rule| !rule.uses_old || rule.optional_old || old.is_some();
        let mut told = rules.iter().filter(told).peekable();
        if told.peek().is_none() {
            return;
        }
        let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
        // Declared nowhere else, so this cannot fail.
        let _ = context.add_function("isSorted", is_sorted);
        context.add_variable_from_value("self", self.to_cel(value));
        for rule in told {
            if rule.uses_old {
                let before = old.map(|old| self.to_cel(old));
                let before = match before {
                    Some(before) if !rule.optional_old => before,
                    Some(before) => cel::Value::Opaque(Arc::new(OptionalValue::of(before))),
                    None => cel::Value::Opaque(Arc::new(OptionalValue::none())),
                };
                context.add_variable_from_value("oldSelf", before);
            }
            found.extend(rule.violation(path, &context));
        }
    }

    /// A value as rules see it: whole numbers are `int`, others `double`, as the schema says,
    /// and fields that the schema does not name are hidden.
    fn to_cel(&self, value: &Value) -> cel::Value {
        match value {
            Value::Null => cel::Value::Null,
            Value::Bool(set) => cel::Value::Bool(*set),
            Value::String(text) => cel::Value::String(Arc::new(text.clone())),
            Value::Number(number) => match number.as_i64() {
                Some(whole) if self.ty != Type::Number => cel::Value::Int(whole),
                Some(_) | None => cel::Value::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::Array(items) => {
                let item = |item| match &self.items {
                    Some(schema) => schema.to_cel(item),
                    None => cel::Value::Null,
                };
                cel::Value::List(Arc::new(items.iter().map(item).collect()))
            }
            Value::Object(fields) => {
                let entry = |(name, value): (&String, &Value)| {
                    let (name, schema) = match self.fields.get(name) {
                        Some(schema) => (escape(name), schema),
                        None => (name.clone(), self.values.as_ref()?),
                    };
                    Some((Key::from(name), schema.to_cel(value)))
                };
                let entries: HashMap<Key, cel::Value> = fields.iter().filter_map(entry).collect();
                cel::Value::from(entries)
            }
        }
    }
}

/// A list's function `isSorted`, which servers have and the standard library has not.
fn is_sorted(This(list): This<Arc<Vec<cel::Value>>>) -> bool {
    list.is_sorted()
}

/// The name of a field in an expression: what CEL cannot spell is written otherwise.
fn escape(name: &str) -> String {
    const KEYWORDS: [&str; 18] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
    ];
    if KEYWORDS.contains(&name) || ["var", "void", "while"].contains(&name) {
        return format!("__{name}__");
    }
    name.replace("__", "__underscores__")
        .replace('.', "__dot__")
        .replace('-', "__dash__")
        .replace('/', "__slash__")
}

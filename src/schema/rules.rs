//! CEL rules of a schema (`x-kubernetes-validations`).

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use cel::{
    Context, Env, Program, Value as CelValue,
    extractors::This,
    objects::{Key, Map},
};
use serde::Deserialize;
use serde_json::Value;

use super::{Fault, Kind, Schema};

/// What rules may use, beside the standard library: texts are joined, split and formatted.
static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut env = Env::stdlib();
    // Fails only where a name is declared twice, and then the first declaration holds.
    let _ = env.add_extension(cel::extensions::strings);
    Arc::new(env)
});

/// A compiled rule.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Written")]
pub struct Rule {
    test: Program,
    source: String,
    message: Option<String>,
    message_expression: Option<Program>,
    field_path: String,
}

/// A rule as the schema spells it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    rule: String,
    message: Option<String>,
    message_expression: Option<String>,
    #[serde(default)]
    field_path: String,
}

impl TryFrom<Written> for Rule {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let compile = |text: &str| {
            let program = ENVIRONMENT.compile(text);
            program.map_err(|error| format!("found rule {text:?}; make it CEL: {error}"))
        };
        Ok(Self {
            test: compile(&written.rule)?,
            message: written.message,
            message_expression: written
                .message_expression
                .as_deref()
                .map(compile)
                .transpose()?,
            field_path: written.field_path,
            source: written.rule,
        })
    }
}

impl Rule {
    /// The fault, if the rule does not hold for the value that `context` calls `self`.
    fn fault(&self, path: &str, context: &Context) -> Option<Fault> {
        // Rules about changes say nothing about a new object.
        if self.test.references().has_variable("oldSelf") {
            return None;
        }
        let message = match self.test.execute(context) {
            Ok(CelValue::Bool(true)) => return None,
            Ok(_) => self.text(context),
            Err(error) => format!("a value for which {} fails; {error}", self.source),
        };
        let (found, action) = match message.split_once("; ") {
            Some((found, action)) => (found.trim_start_matches("found "), action),
            None => ("another value", message.as_str()),
        };
        Some(Fault {
            path: format!("{path}{}", self.field_path)
                .trim_start_matches('.')
                .to_owned(),
            found: found.to_owned(),
            action: action.to_owned(),
        })
    }

    /// What the rule says when it is broken.
    fn text(&self, context: &Context) -> String {
        let computed =
            self.message_expression
                .as_ref()
                .and_then(|program| match program.execute(context) {
                    Ok(CelValue::String(text)) => Some(text.to_string()),
                    Ok(_) | Err(_) => None,
                });
        computed
            .filter(|text| !text.trim().is_empty() && !text.contains('\n'))
            .or_else(|| self.message.clone())
            .unwrap_or_else(|| format!("failed rule: {}", self.source))
    }
}

impl Schema {
    /// Lists the rules that an object of the right shape breaks.
    pub(super) fn judge(&self, object: &Value) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.judge_at("", object, &mut faults);
        faults
    }

    fn judge_at(&self, path: &str, value: &Value, faults: &mut Vec<Fault>) {
        if !self.rules.is_empty() {
            let mut context = Context::with_env(Arc::clone(&ENVIRONMENT));
            context.add_variable_from_value("self", self.to_cel(value));
            // Declared nowhere else, so this cannot fail.
            let _ = context.add_function("isSorted", is_sorted);
            faults.extend(
                self.rules
                    .iter()
                    .filter_map(|rule| rule.fault(path, &context)),
            );
        }
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if let Some(schema) = self.field(name) {
                        schema.judge_at(&self.path_of(path, name), value, faults);
                    }
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Some(schema) = &self.items {
                        schema.judge_at(&format!("{path}[{index}]"), item, faults);
                    }
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    /// A value as rules see it: whole numbers are `int`, others `double`, as the schema says,
    /// and fields that the schema does not name are hidden.
    fn to_cel(&self, value: &Value) -> CelValue {
        match value {
            Value::Null => CelValue::Null,
            Value::Bool(value) => CelValue::Bool(*value),
            Value::String(text) => CelValue::String(Arc::new(text.clone())),
            Value::Number(number) => match number.as_i64() {
                Some(whole) if self.kind != Some(Kind::Number) => CelValue::Int(whole),
                Some(_) | None => CelValue::Float(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::Array(items) => {
                let item = |item| match &self.items {
                    Some(schema) => schema.to_cel(item),
                    None => CelValue::Null,
                };
                CelValue::List(Arc::new(items.iter().map(item).collect()))
            }
            Value::Object(fields) => {
                let entry = |(name, value): (&String, &Value)| {
                    let (name, schema) = match self.properties.get(name) {
                        Some(schema) => (escape(name), schema),
                        None => (name.clone(), self.values()?),
                    };
                    Some((Key::String(Arc::new(name)), schema.to_cel(value)))
                };
                let map: HashMap<Key, CelValue> = fields.iter().filter_map(entry).collect();
                CelValue::Map(Map { map: Arc::new(map) })
            }
        }
    }
}

/// A list's function `isSorted`, which servers have and the standard library has not.
fn is_sorted(This(list): This<Arc<Vec<CelValue>>>) -> bool {
    list.is_sorted()
}

/// The name of a field in an expression: what CEL cannot spell is written otherwise.
pub(crate) fn escape(name: &str) -> String {
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

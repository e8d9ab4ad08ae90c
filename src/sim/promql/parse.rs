//! PromQL text becomes an expression.

use std::{sync::Arc, time::Duration};

use regex_lite::Regex;

use super::{
    PromqlError,
    token::{Token, tokens},
};

/// What is asked.
#[derive(Clone, Debug)]
pub enum Expression {
    /// A number.
    Number(f64),
    /// Series by name and labels, now or over a range.
    Selector {
        /// What labels must be like, the name included.
        matchers: Vec<Matcher>,
        /// Length of the range; absent for the latest values.
        range: Option<Duration>,
        /// How far in the past.
        offset: Duration,
    },
    /// The values of an expression over a range, one each step.
    Subquery {
        /// What is asked at each step.
        inner: Box<Self>,
        /// Length of the range.
        range: Duration,
        /// Time between two values.
        step: Duration,
        /// How far in the past.
        offset: Duration,
    },
    /// A function.
    Call(String, Vec<Self>),
    /// Many series become few.
    Aggregate {
        /// `sum`, `avg`, `min`, `max` or `count`.
        operation: String,
        /// Labels to group by, or to leave out.
        labels: Vec<Arc<str>>,
        /// Whether `labels` are those to leave out.
        without: bool,
        /// What is aggregated.
        inner: Box<Self>,
    },
    /// An operator between two values.
    Binary {
        /// The operator.
        operator: &'static str,
        /// Whether a comparison says 0 or 1 instead of leaving out.
        boolean: bool,
        /// Which series of the two sides belong together.
        matching: Matching,
        /// Left side.
        left: Box<Self>,
        /// Right side.
        right: Box<Self>,
    },
}

/// Which series of two sides belong together: those whose labels are the same.
#[derive(Clone, Debug, Default)]
pub struct Matching {
    /// The labels that `on` or `ignoring` names.
    pub labels: Vec<Arc<str>>,
    /// Whether only `labels` count; else all others.
    pub on: bool,
    /// The side that may have many series for one of the other; absent: neither may.
    pub many: Option<Many>,
}

/// Many series on one side that belong to one on the other.
#[derive(Clone, Debug)]
pub struct Many {
    /// Whether the left side has the many.
    pub left: bool,
    /// Labels that results take from the one.
    pub taken: Vec<Arc<str>>,
}

/// Labels, and whether they are those to leave out.
type Grouping = (Vec<Arc<str>>, bool);

/// What a label must be like.
#[derive(Clone, Debug)]
pub struct Matcher {
    /// The label.
    pub label: Arc<str>,
    test: Test,
}

#[derive(Clone, Debug)]
enum Test {
    Is(String),
    IsNot(String),
    Like(Regex),
    Unlike(Regex),
}

impl Matcher {
    /// The value that the label must have.
    pub fn wanted(&self) -> Option<&str> {
        match &self.test {
            Test::Is(wanted) => Some(wanted),
            Test::IsNot(_) | Test::Like(_) | Test::Unlike(_) => None,
        }
    }

    /// Whether a label's value fits; an absent label has an empty one.
    pub fn fits(&self, value: &str) -> bool {
        match &self.test {
            Test::Is(wanted) => value == wanted,
            Test::IsNot(wanted) => value != wanted,
            Test::Like(regex) => regex.is_match(value),
            Test::Unlike(regex) => !regex.is_match(value),
        }
    }
}

/// Operators by how tightly they bind, loosest first.
const LEVELS: [&[&str]; 5] = [
    &["or"],
    &["and", "unless"],
    &["==", "!=", ">=", "<=", ">", "<"],
    &["+", "-"],
    &["*", "/", "%"],
];

/// The level of comparisons.
const COMPARISONS: usize = 2;

const AGGREGATIONS: [&str; 5] = ["sum", "avg", "min", "max", "count"];

/// Time between two values of a subquery that names none.
const STEP: Duration = Duration::from_mins(1);

/// Most levels of nesting, so that no query exhausts the stack.
const DEEPEST: usize = 100;

/// Reads a query.
///
/// # Errors
/// When it is no PromQL, or more of it than is understood here.
pub fn parse(query: &str) -> Result<Expression, PromqlError> {
    let mut parser = Parser {
        tokens: tokens(query)?,
        next: 0,
        depth: 0,
    };
    let expression = parser.binary(0)?;
    match parser.tokens.get(parser.next) {
        None => Ok(expression),
        Some(token) => Err(PromqlError(format!("unexpected {token:?}"))),
    }
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.tokens.get(self.next).cloned();
        self.next += 1;
        token
    }

    fn accept(&mut self, sign: &'static str) -> bool {
        let there = self.peek() == Some(&Token::Sign(sign));
        self.next += usize::from(there);
        there
    }

    fn accept_name(&mut self, name: &str) -> bool {
        let there = matches!(self.peek(), Some(Token::Name(found)) if found == name);
        self.next += usize::from(there);
        there
    }

    fn expect(&mut self, sign: &'static str) -> Result<(), PromqlError> {
        if self.accept(sign) {
            return Ok(());
        }
        Err(match self.peek() {
            Some(found) => PromqlError(format!("expected {sign:?}, found {found:?}")),
            None => PromqlError(format!("expected {sign:?}, found the end")),
        })
    }

    fn binary(&mut self, level: usize) -> Result<Expression, PromqlError> {
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(PromqlError("nested too deeply".to_owned()));
        }
        let Some(operators) = LEVELS.get(level) else {
            let mut factor = self.factor()?;
            while self.accept("[") {
                factor = self.subquery(factor)?;
            }
            self.depth -= 1;
            return Ok(factor);
        };
        let mut left = self.binary(level + 1)?;
        while let Some(operator) = operators
            .iter()
            .find(|sign| self.accept(sign) || self.accept_name(sign))
        {
            let boolean = level == COMPARISONS && self.accept_name("bool");
            let matching = self.matching()?;
            left = Expression::Binary {
                operator,
                boolean,
                matching,
                left: Box::new(left),
                right: Box::new(self.binary(level + 1)?),
            };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn factor(&mut self) -> Result<Expression, PromqlError> {
        match self.take() {
            Some(Token::Number(number)) => Ok(Expression::Number(number)),
            Some(Token::Sign("-")) => Ok(Expression::Binary {
                operator: "*",
                boolean: false,
                matching: Matching::default(),
                left: Box::new(Expression::Number(-1.0)),
                right: Box::new(self.binary(LEVELS.len())?),
            }),
            Some(Token::Sign("+")) => self.binary(LEVELS.len()),
            Some(Token::Sign("(")) => {
                let inner = self.binary(0)?;
                self.expect(")")?;
                Ok(inner)
            }
            Some(Token::Sign("{")) => {
                self.next -= 1;
                self.selector(None)
            }
            Some(Token::Name(name)) if AGGREGATIONS.contains(&name.as_str()) => {
                self.aggregate(name)
            }
            Some(Token::Name(name)) if self.accept("(") => {
                Ok(Expression::Call(name, self.arguments()?))
            }
            Some(Token::Name(name)) => self.selector(Some(name)),
            Some(token) => Err(PromqlError(format!("unexpected {token:?}"))),
            None => Err(PromqlError("the query ends too early".to_owned())),
        }
    }

    /// Arguments up to and with the closing parenthesis.
    fn arguments(&mut self) -> Result<Vec<Expression>, PromqlError> {
        let mut arguments = Vec::new();
        while !self.accept(")") {
            arguments.push(self.binary(0)?);
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(arguments)
    }

    fn aggregate(&mut self, operation: String) -> Result<Expression, PromqlError> {
        let mut grouping = self.grouping()?;
        self.expect("(")?;
        let inner = self.binary(0)?;
        self.expect(")")?;
        if grouping.is_none() {
            grouping = self.grouping()?;
        }
        let (labels, without) = grouping.unwrap_or_default();
        Ok(Expression::Aggregate {
            operation,
            labels,
            without,
            inner: Box::new(inner),
        })
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, PromqlError> {
        let without = self.accept_name("without");
        if !without && !self.accept_name("by") {
            return Ok(None);
        }
        Ok(Some((self.labels()?, without)))
    }

    fn matching(&mut self) -> Result<Matching, PromqlError> {
        let on = self.accept_name("on");
        if !on && !self.accept_name("ignoring") {
            return Ok(Matching::default());
        }
        let labels = self.labels()?;
        let left = self.accept_name("group_left");
        let mut many = None;
        if left || self.accept_name("group_right") {
            let named = self.peek() == Some(&Token::Sign("("));
            let taken = if named { self.labels()? } else { Vec::new() };
            many = Some(Many { left, taken });
        }
        Ok(Matching { labels, on, many })
    }

    /// A range with steps, after its bracket: `[5m:30s]`. The colon belongs to the word behind it.
    fn subquery(&mut self, inner: Expression) -> Result<Expression, PromqlError> {
        let range = self.duration()?;
        let step = match self.take() {
            Some(Token::Name(word)) if word == ":" => STEP,
            Some(Token::Name(word)) if word.starts_with(':') => {
                match tokens(word.trim_start_matches(':'))?.as_slice() {
                    [Token::Duration(step)] if !step.is_zero() => *step,
                    _ => return Err(PromqlError(format!("bad step {word:?}"))),
                }
            }
            found => return Err(PromqlError(format!("expected a step, found {found:?}"))),
        };
        self.expect("]")?;
        let mut offset = Duration::ZERO;
        if self.accept_name("offset") {
            offset = self.duration()?;
        }
        Ok(Expression::Subquery {
            inner: Box::new(inner),
            range,
            step,
            offset,
        })
    }

    /// Names of labels in parentheses.
    fn labels(&mut self) -> Result<Vec<Arc<str>>, PromqlError> {
        self.expect("(")?;
        let mut labels = Vec::new();
        while !self.accept(")") {
            match self.take() {
                Some(Token::Name(name)) => labels.push(name.into()),
                found => return Err(PromqlError(format!("expected a label, found {found:?}"))),
            }
            if !self.accept(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(labels)
    }

    fn selector(&mut self, name: Option<String>) -> Result<Expression, PromqlError> {
        let mut matchers: Vec<Matcher> = name
            .into_iter()
            .map(|name| Matcher {
                label: "__name__".into(),
                test: Test::Is(name),
            })
            .collect();
        if self.accept("{") {
            while !self.accept("}") {
                matchers.push(self.matcher()?);
                if !self.accept(",") {
                    self.expect("}")?;
                    break;
                }
            }
        }
        // Cheap tests first: most series are of another name.
        matchers.sort_by_key(|matcher| matches!(matcher.test, Test::Like(_) | Test::Unlike(_)));
        let mut range = None;
        let steps = matches!(self.tokens.get(self.next + 2), Some(Token::Name(_)));
        if !steps && self.accept("[") {
            range = Some(self.duration()?);
            self.expect("]")?;
        }
        let mut offset = Duration::ZERO;
        if self.accept_name("offset") {
            offset = self.duration()?;
        }
        Ok(Expression::Selector {
            matchers,
            range,
            offset,
        })
    }

    fn duration(&mut self) -> Result<Duration, PromqlError> {
        match self.take() {
            Some(Token::Duration(duration)) if !duration.is_zero() => Ok(duration),
            found => Err(PromqlError(format!("expected a duration, found {found:?}"))),
        }
    }

    fn matcher(&mut self) -> Result<Matcher, PromqlError> {
        let (Some(Token::Name(label)), Some(Token::Sign(sign)), Some(Token::Text(value))) =
            (self.take(), self.take(), self.take())
        else {
            return Err(PromqlError("a label matcher cannot be read".to_owned()));
        };
        let regex = |value: &str| {
            Regex::new(&format!("^(?:{value})$"))
                .map_err(|_| PromqlError(format!("bad regular expression {value:?}")))
        };
        let test = match sign {
            "=" => Test::Is(value),
            "!=" => Test::IsNot(value),
            "=~" => Test::Like(regex(&value)?),
            "!~" => Test::Unlike(regex(&value)?),
            _ => return Err(PromqlError(format!("unexpected {sign:?} in a matcher"))),
        };
        let label = label.into();
        Ok(Matcher { label, test })
    }
}

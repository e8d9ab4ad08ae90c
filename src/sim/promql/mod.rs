//! As much of PromQL as release checks use: selectors, `rate`, `increase`, `irate`, the usual
//! `*_over_time`, subqueries, aggregations, `histogram_quantile`, arithmetic, comparisons and set
//! operators with `on`, `ignoring`, `group_left` and `group_right`.
//!
//! Whatever else is asked is refused by name, never answered wrongly.

mod eval;
mod matching;
mod parse;
mod token;

pub use eval::{Labels, Series, Value, evaluate};
pub use parse::{Expression, parse};

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PromqlError(pub String);

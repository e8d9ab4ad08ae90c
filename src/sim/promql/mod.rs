//! As much of PromQL as release checks use: selectors, `rate`, `increase`, `irate`, the usual
//! `*_over_time`, aggregations, `histogram_quantile`, arithmetic, comparisons and set operators with
//! `on` and `ignoring`.
//!
//! Whatever else is asked is refused by name, never answered wrongly.

mod eval;
mod parse;
mod token;

pub use eval::{Labels, Series, Value, evaluate};
pub use parse::{Expression, parse};

/// Why a query has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct PromqlError(pub String);

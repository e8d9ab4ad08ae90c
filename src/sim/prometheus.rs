//! A Prometheus server: series of samples, and answers to queries.

use std::sync::Arc;

use super::promql::{Labels, PromqlError, Series, Value, evaluate};

/// The samples of all series.
#[derive(Clone, Debug, Default)]
pub struct Prometheus {
    series: Vec<Series>,
}

/// A series that samples can be added to.
#[derive(Clone, Copy, Debug)]
pub struct Handle(usize);

impl Prometheus {
    /// A new series.
    pub fn add(&mut self, labels: Labels) -> Handle {
        self.series.push(Series {
            labels: Arc::new(labels),
            samples: Vec::new(),
        });
        Handle(self.series.len() - 1)
    }

    /// Adds a sample, at a time in milliseconds since 1970.
    pub fn push(&mut self, series: Handle, at: i64, value: f64) {
        if let Some(series) = self.series.get_mut(series.0) {
            series.samples.push((at, value));
        }
    }

    /// Marks that a series has ended: its target is gone.
    pub fn end(&mut self, series: Handle, at: i64) {
        if let Some(series) = self.series.get_mut(series.0)
            && !series.samples.is_empty()
        {
            series.samples.push((at, f64::NAN));
        }
    }

    /// Answers a query at a time, in milliseconds since 1970.
    ///
    /// # Errors
    /// When the query is not understood.
    pub fn query(&self, query: &str, at: i64) -> Result<Value, PromqlError> {
        evaluate(query, &self.series, at)
    }
}

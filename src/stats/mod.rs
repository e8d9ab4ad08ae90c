//! Sequential tests that compare a canary with its primary.

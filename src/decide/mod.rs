//! The pure middle: from a snapshot to a plan.

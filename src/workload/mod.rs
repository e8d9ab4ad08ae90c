//! Workloads: readiness, primaries, configs, scalers.

//! The kinds of services and of new versions.

use super::{
    RAMP,
    service::{Moment, Service},
};

/// One kind of service under one question.
#[derive(Debug)]
pub(super) struct Row {
    /// What people call it; unique.
    pub name: &'static str,
    /// What it asks.
    pub kind: Kind,
    /// The service.
    pub service: Service,
}

/// What a row asks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Is a new version that is no worse rolled back within an hour at this share?
    Healthy {
        /// The canary's share.
        share: f64,
    },
    /// How soon is a worse one rolled back?
    Defect {
        /// The canary's share.
        share: f64,
        /// Second in which the defect begins.
        onset: f64,
    },
    /// What does a release that goes up by itself come to?
    Ramp {
        /// The canary's shares, step by step.
        shares: &'static [f64],
    },
}

impl Kind {
    /// The question, for a heading.
    pub const fn question(self) -> &'static str {
        match self {
            Self::Healthy { .. } => "healthy",
            Self::Defect { .. } => "defect",
            Self::Ramp { .. } => "ramp",
        }
    }
}

const HEALTHY: Service = Service {
    rate: 100.0,
    errors: |_| 0.005,
    canary_errors: |_| 0.005,
    slowdown: |_| 1.0,
    burst: 1.0,
    jitter: (0.0, 0.0),
    pods: (0.0, 0.0),
    warm: false,
};

const QUIET: Service = Service {
    errors: |_| 0.001,
    canary_errors: |_| 0.001,
    ..HEALTHY
};

/// Both sides fail for three minutes in the middle of the hour.
fn outage(at: Moment) -> f64 {
    if (1800.0..1980.0).contains(&(at.seconds - 15.0)) {
        0.1
    } else {
        0.005
    }
}

const fn healthy(name: &'static str, share: f64, service: Service) -> Row {
    Row {
        name,
        kind: Kind::Healthy { share },
        service,
    }
}

const fn defect(name: &'static str, share: f64, service: Service) -> Row {
    Row {
        name,
        kind: Kind::Defect { share, onset: 0.0 },
        service,
    }
}

const fn ramp(name: &'static str, service: Service) -> Row {
    Row {
        name,
        kind: Kind::Ramp { shares: &RAMP },
        service,
    }
}

/// All rows, question by question.
pub(super) const ROWS: &[Row] = &[
    healthy(
        "10 requests/s, 5 % on the canary",
        0.05,
        Service {
            rate: 10.0,
            ..HEALTHY
        },
    ),
    healthy("100 requests/s, 5 % on the canary", 0.05, HEALTHY),
    healthy(
        "1000 requests/s, 5 % on the canary",
        0.05,
        Service {
            rate: 1000.0,
            ..HEALTHY
        },
    ),
    healthy(
        "errors in bursts of 3, 5 %",
        0.05,
        Service {
            burst: 3.0,
            ..HEALTHY
        },
    ),
    healthy(
        "errors in bursts of 5, 10 requests/s, 20 %",
        0.2,
        Service {
            rate: 10.0,
            burst: 5.0,
            ..HEALTHY
        },
    ),
    healthy(
        "errors in bursts of 10, 20 %",
        0.2,
        Service {
            burst: 10.0,
            ..HEALTHY
        },
    ),
    healthy(
        "error rate varies by half, latency by 5 %, 20 %",
        0.2,
        Service {
            jitter: (0.5, 0.05),
            ..HEALTHY
        },
    ),
    healthy(
        "pods differ for good (errors 10 %, latency 3 %), 5 %",
        0.05,
        Service {
            pods: (0.1, 0.03),
            ..HEALTHY
        },
    ),
    healthy(
        "both sides fail at 10 % for 3 minutes, 20 %",
        0.2,
        Service {
            errors: outage,
            canary_errors: outage,
            ..HEALTHY
        },
    ),
    healthy(
        "three times slower in its first minute, 20 %",
        0.2,
        Service {
            slowdown: |at| if at.seconds <= 60.0 { 3.0 } else { 1.0 },
            ..HEALTHY
        },
    ),
    healthy(
        "a fifth of its requests fails for 15 s, 20 %",
        0.2,
        Service {
            canary_errors: |at| {
                if (1800.0..1815.0).contains(&(at.seconds - 15.0)) {
                    0.2
                } else {
                    0.005
                }
            },
            ..HEALTHY
        },
    ),
    healthy(
        "exactly at the tolerance: errors 0.675 %, 20 %",
        0.2,
        Service {
            canary_errors: |_| 0.00675,
            ..HEALTHY
        },
    ),
    healthy(
        "exactly at the tolerance: 8 % slower, 1000 requests/s, 20 %",
        0.2,
        Service {
            rate: 1000.0,
            slowdown: |_| 1.08,
            ..HEALTHY
        },
    ),
    defect(
        "errors 0.1 % → 1 %, 5 % on the canary",
        0.05,
        Service {
            canary_errors: |_| 0.01,
            ..QUIET
        },
    ),
    defect(
        "errors 0.5 % → 5 %, 20 % on the canary",
        0.2,
        Service {
            canary_errors: |_| 0.05,
            ..HEALTHY
        },
    ),
    defect(
        "errors 0.5 % → 1 % (between tolerated and bad), 20 %",
        0.2,
        Service {
            canary_errors: |_| 0.01,
            ..HEALTHY
        },
    ),
    defect(
        "errors 0.5 % → 1.5 % (exactly bad), 20 %",
        0.2,
        Service {
            canary_errors: |_| 0.015,
            ..HEALTHY
        },
    ),
    defect(
        "errors 0.5 % → 5 %, 10 requests/s, 20 %",
        0.2,
        Service {
            rate: 10.0,
            canary_errors: |_| 0.05,
            ..HEALTHY
        },
    ),
    defect(
        "1.3 times slower, 20 %",
        0.2,
        Service {
            slowdown: |_| 1.3,
            ..QUIET
        },
    ),
    defect(
        "the same, pods warm already",
        0.2,
        Service {
            slowdown: |_| 1.3,
            warm: true,
            ..QUIET
        },
    ),
    defect(
        "errors 0.5 % → 5 % in bursts of 3, 20 %",
        0.2,
        Service {
            canary_errors: |_| 0.05,
            burst: 3.0,
            ..HEALTHY
        },
    ),
    Row {
        name: "errors 0.1 % → 1 % from minute 20, 20 %",
        kind: Kind::Defect {
            share: 0.2,
            onset: 1200.0,
        },
        service: Service {
            canary_errors: |at| if at.seconds > 1200.0 { 0.01 } else { 0.001 },
            ..QUIET
        },
    },
    ramp("healthy, errors 0.1 %", QUIET),
    Row {
        name: "healthy, errors 0.5 %, 10 requests/s, 5-20-50 %",
        kind: Kind::Ramp {
            shares: &[0.05, 0.2, 0.5],
        },
        service: Service {
            rate: 10.0,
            ..HEALTHY
        },
    },
    ramp(
        "errors 0.1 % → 1 %",
        Service {
            canary_errors: |_| 0.01,
            ..QUIET
        },
    ),
    ramp(
        "errors 0.1 % → 1 % from 20 % on the canary",
        Service {
            canary_errors: |at| if at.share >= 0.2 { 0.01 } else { 0.001 },
            ..QUIET
        },
    ),
    ramp(
        "errors grow by 0.2 points a minute",
        Service {
            canary_errors: |at| 0.001 + 0.002 * at.seconds / 60.0,
            ..QUIET
        },
    ),
    ramp(
        "1.3 times slower",
        Service {
            slowdown: |_| 1.3,
            ..QUIET
        },
    ),
];

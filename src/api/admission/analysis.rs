//! What is asked of `Canary.spec.analysis`.

use super::{
    Ask::{Entries, FieldSets, Items, Length, OneOf, Only, Pattern, Range, Rule},
    DURATION,
    Found::{Format, Text},
    INTERVAL, Line, NAME, NAMESPACE, Rule as R, URL,
    service::ONE_COMPARISON,
};

/// A share in percent that is not nothing.
const SHARE: &[super::Ask] = &[Range(1, 100)];
const OBJECT_NAME: &[super::Ask] = &[Length(1, 253), Pattern(NAME)];
const OBJECT_NAMESPACE: &[super::Ask] = &[Length(0, 63), Pattern(NAMESPACE)];
/// Name of a cookie, as RFC 6265 has it.
const COOKIE: &str = "^[-!#$%&'*+.^_`|~0-9A-Za-z]+$";
/// Attribute of a cookie: no `;` by which further attributes could follow.
const COOKIE_ATTRIBUTE: &[super::Ask] = &[Length(0, 255), Pattern(r"^[^;,\s]*$")];

/// Lines of `spec.analysis`.
pub(super) const LINES: &[Line] = &[
    (
        "spec.analysis",
        &[
            FieldSets(&[
                &["interval", "threshold", "iterations"],
                &["interval", "threshold", "stepWeight"],
                &["interval", "threshold", "stepWeights"],
            ]),
            Rule(R {
                test: "!has(self.judge)",
                found: Text("a judge, which this version does not carry out yet"),
                action: "remove it and judge by metrics with a thresholdRange",
                at: Some(".judge"),
            }),
            Rule(R {
                test: "!has(self.stepWeight) || !has(self.maxWeight) \
                       || self.stepWeight <= self.maxWeight",
                found: Format(
                    "stepWeight %s above maxWeight %s",
                    "self.stepWeight, self.maxWeight",
                ),
                action: "lower stepWeight or raise maxWeight: the first step would pass it",
                at: Some(".stepWeight"),
            }),
        ],
    ),
    (
        "spec.analysis.interval",
        &[Length(0, 32), Pattern(INTERVAL)],
    ),
    ("spec.analysis.threshold", &[Range(0, i32::MAX as i64)]),
    ("spec.analysis.iterations", &[Range(1, 100_000)]),
    ("spec.analysis.maxWeight", SHARE),
    ("spec.analysis.stepWeight", SHARE),
    (
        "spec.analysis.stepWeights",
        &[
            Items(1, 100),
            Rule(R {
                test: "self.isSorted() && self.all(a, self.exists_one(b, a == b))",
                found: Format("%s", "self"),
                action: "write weights of which each is higher than the one before",
                at: None,
            }),
        ],
    ),
    ("spec.analysis.stepWeights[]", SHARE),
    ("spec.analysis.stepWeightPromotion", &[Range(0, 100)]),
    ("spec.analysis.mirrorWeight", &[Range(0, 100)]),
    ("spec.analysis.primaryReadyThreshold", SHARE),
    ("spec.analysis.canaryReadyThreshold", SHARE),
    ("spec.analysis.match", &[Items(0, 32)]),
    (
        "spec.analysis.match[]",
        &[
            Only(&["headers", "queryParams", "sourceLabels"]),
            Rule(R {
                test: "has(self.headers) || has(self.queryParams) || has(self.sourceLabels)",
                found: Text("a condition that every request meets"),
                action: "add headers, queryParams or sourceLabels; others are not read here",
                at: None,
            }),
        ],
    ),
    ("spec.analysis.match[].headers", &[Entries(64)]),
    ("spec.analysis.match[].headers{}", &[ONE_COMPARISON]),
    ("spec.analysis.match[].queryParams", &[Entries(64)]),
    ("spec.analysis.match[].queryParams{}", &[ONE_COMPARISON]),
    ("spec.analysis.metrics", &[Items(0, 64)]),
    (
        "spec.analysis.metrics[]",
        &[
            Rule(R {
                test: "self.name in ['request-success-rate', 'request-duration'] \
                       || has(self.templateRef) || (has(self.query) && self.query != '')",
                found: Format("%s without templateRef", "self.name"),
                action: "name a MetricTemplate in templateRef; only request-success-rate and \
                         request-duration are built in",
                at: Some(".templateRef"),
            }),
            Rule(R {
                test: "self.name != 'request-success-rate' || has(self.templateRef) \
                       || ((!has(self.threshold) || self.threshold <= 100.0) \
                       && (!has(self.thresholdRange) || !has(self.thresholdRange.min) \
                       || self.thresholdRange.min <= 100.0) \
                       && (!has(self.thresholdRange) || !has(self.thresholdRange.max) \
                       || self.thresholdRange.max >= 0.0))",
                found: Text("a success rate that no release can have"),
                action: "write bounds from 0 to 100, in percent",
                at: Some(".thresholdRange"),
            }),
        ],
    ),
    ("spec.analysis.metrics[].name", &[Length(1, 253)]),
    (
        "spec.analysis.metrics[].interval",
        &[
            Length(0, 32),
            Pattern(INTERVAL),
            Rule(R {
                test: "self.matches('[1-9]')",
                found: Format("%s", "self"),
                action: "write how far back the query looks, for example 1m",
                at: None,
            }),
        ],
    ),
    ("spec.analysis.metrics[].query", &[Length(0, 65536)]),
    ("spec.analysis.metrics[].templateRef.name", OBJECT_NAME),
    (
        "spec.analysis.metrics[].templateRef.namespace",
        OBJECT_NAMESPACE,
    ),
    (
        "spec.analysis.metrics[].thresholdRange",
        &[
            Rule(R {
                test: "has(self.min) || has(self.max)",
                found: Text("neither min nor max"),
                action: "write the smallest value that passes as min, the largest as max, or both",
                at: None,
            }),
            Rule(R {
                test: "!has(self.min) || !has(self.max) || self.min <= self.max",
                found: Format("min %s above max %s", "self.min, self.max"),
                action: "lower min or raise max: no value passes",
                at: Some(".min"),
            }),
        ],
    ),
    (
        "spec.analysis.judge.minRequests",
        &[Range(0, i32::MAX as i64)],
    ),
    (
        "spec.analysis.judge.scrapeInterval",
        &[
            Length(0, 32),
            Pattern(INTERVAL),
            Rule(R {
                test: "self.matches('[1-9]')",
                found: Format("%s", "self"),
                action: "write how often the metrics server scrapes, for example 15s",
                at: None,
            }),
        ],
    ),
    ("spec.analysis.judge.undecided.extend", &[Range(0, 1000)]),
    (
        "spec.analysis.judge",
        &[
            Rule(R {
                test: "!has(self.alpha) || (self.alpha > 0.0 && self.alpha < 1.0)",
                found: Format("alpha %s", "self.alpha"),
                action: "write a number between 0 and 1, such as 0.01",
                at: Some(".alpha"),
            }),
            Rule(R {
                test: "!has(self.beta) || (self.beta > 0.0 && self.beta < 1.0)",
                found: Format("beta %s", "self.beta"),
                action: "write a number between 0 and 1, such as 0.05",
                at: Some(".beta"),
            }),
            Rule(R {
                test: "!has(self.metrics) || self.metrics.size() == 0 \
                       || self.metrics.exists(m, !has(m.critical) || m.critical)",
                found: Text("no critical metric"),
                action: "let at least one metric be critical, else nothing is judged",
                at: Some(".metrics"),
            }),
        ],
    ),
    ("spec.analysis.judge.metrics", &[Items(0, 8)]),
    (
        "spec.analysis.judge.metrics[]",
        &[
            Rule(R {
                test: "(self.name == 'errors' && self.kind == 'ratio') \
                       || (self.name == 'latency' && self.kind == 'histogram') \
                       || has(self.templateRef) || (has(self.query) && self.query != '')",
                found: Format("%s %s without a query", "self.kind, self.name"),
                action: "write query or templateRef; only ratio errors and histogram latency are \
                         built in",
                at: Some(".query"),
            }),
            Rule(R {
                test: "self.kind == 'ratio' ? has(self.query) == has(self.total) \
                       : !has(self.total)",
                found: Format(
                    "%s",
                    "has(self.total) ? 'total where no query counts bad requests' \
                     : 'a query of bad requests without total'",
                ),
                action: "write both query and total for a ratio, and total for nothing else",
                at: Some(".total"),
            }),
        ],
    ),
    ("spec.analysis.judge.metrics[].name", &[Length(1, 63)]),
    ("spec.analysis.judge.metrics[].query", &[Length(0, 65536)]),
    ("spec.analysis.judge.metrics[].total", &[Length(0, 65536)]),
    (
        "spec.analysis.judge.metrics[].templateRef.name",
        OBJECT_NAME,
    ),
    (
        "spec.analysis.judge.metrics[].templateRef.namespace",
        OBJECT_NAMESPACE,
    ),
    ("spec.analysis.webhooks", &[Items(0, 64)]),
    ("spec.analysis.webhooks[].name", &[Length(1, 253)]),
    (
        "spec.analysis.webhooks[].type",
        &[OneOf(&[
            "",
            "confirm-rollout",
            "pre-rollout",
            "rollout",
            "confirm-promotion",
            "post-rollout",
            "event",
            "rollback",
            "confirm-traffic-increase",
        ])],
    ),
    (
        "spec.analysis.webhooks[].url",
        &[Length(1, 2048), Pattern(URL)],
    ),
    (
        "spec.analysis.webhooks[].timeout",
        &[
            Length(0, 32),
            Pattern(DURATION),
            Rule(R {
                test: "self == '' || self.matches('[1-9]')",
                found: Format("%s", "self"),
                action: "write how long a call may take, for example 10s",
                at: None,
            }),
        ],
    ),
    ("spec.analysis.webhooks[].retries", &[Range(0, 100)]),
    ("spec.analysis.alerts", &[Items(0, 64)]),
    (
        "spec.analysis.alerts[].severity",
        &[OneOf(&["", "info", "warn", "error"])],
    ),
    ("spec.analysis.alerts[].providerRef.name", OBJECT_NAME),
    (
        "spec.analysis.alerts[].providerRef.namespace",
        OBJECT_NAMESPACE,
    ),
    (
        "spec.analysis.sessionAffinity",
        &[Rule(R {
            test: "!has(self.primaryCookieName) || self.primaryCookieName != self.cookieName",
            found: Format("%s as the name of both cookies", "self.cookieName"),
            action: "give primaryCookieName a name of its own",
            at: Some(".primaryCookieName"),
        })],
    ),
    (
        "spec.analysis.sessionAffinity.cookieName",
        &[Length(1, 128), Pattern(COOKIE)],
    ),
    (
        "spec.analysis.sessionAffinity.primaryCookieName",
        &[Length(0, 128), Pattern("^[-!#$%&'*+.^_`|~0-9A-Za-z]*$")],
    ),
    (
        "spec.analysis.sessionAffinity.maxAge",
        &[Range(0, i32::MAX as i64)],
    ),
    ("spec.analysis.sessionAffinity.domain", COOKIE_ATTRIBUTE),
    ("spec.analysis.sessionAffinity.path", COOKIE_ATTRIBUTE),
];

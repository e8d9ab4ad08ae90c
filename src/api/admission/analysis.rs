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

/// A part of all requests.
const PART: super::Ask = Rule(R {
    test: "self > 0.0 && self <= 1.0",
    found: Format("%s", "self"),
    action: "write a share of requests, above 0 and at most 1",
    at: None,
});
/// A factor on the primary's rate.
const FACTOR: super::Ask = Rule(R {
    test: "self > 0.0 && self <= 1000.0",
    found: Format("%s", "self"),
    action: "write a factor above 0 and at most 1000",
    at: None,
});
/// How much slower.
const SLOWER: super::Ask = Rule(R {
    test: "self >= 0.0 && self <= 10.0",
    found: Format("%s", "self"),
    action: "write a share of time from 0 to 10, such as 0.08",
    at: None,
});

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
    (
        "spec.analysis.judge.metrics",
        &[
            Items(0, 8),
            Rule(R {
                test: "self.all(a, self.exists_one(b, a.name == b.name))",
                found: Text("two metrics of one name"),
                action: "give each metric a name of its own",
                at: None,
            }),
        ],
    ),
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
            Rule(R {
                test: "self.kind == 'ratio' ? !(has(self.maxSlower) || has(self.badSlower) \
                       || has(self.bound) || has(self.worse) || has(self.min) || has(self.max)) \
                       : self.kind == 'histogram' ? !(has(self.maxRatio) || has(self.badRatio) \
                       || has(self.worse) || has(self.min) || has(self.max)) \
                       : !(has(self.badRatio) || has(self.maxSlower) || has(self.badSlower) \
                       || has(self.harm) || has(self.bound) || has(self.objective) \
                       || has(self.holdAbove) || has(self.compare) || has(self.dispersion))",
                found: Format("%s with a setting of another kind", "self.kind"),
                action: "remove maxSlower, badSlower and bound but for a histogram; maxRatio for \
                         one; badRatio but for a ratio; worse, min and max but for a scalar; all \
                         others for a scalar",
                at: Some(".kind"),
            }),
            Rule(R {
                test: "!has(self.maxIncrease) || (self.maxIncrease >= 0.0 \
                       && (self.kind == 'scalar' || self.maxIncrease <= 1.0))",
                found: Format("%s", "self.maxIncrease"),
                action: "write a share of requests from 0 to 1, or for a scalar a number of at \
                         least 0",
                at: Some(".maxIncrease"),
            }),
            Rule(R {
                test: "self.kind != 'ratio' || (has(self.badRatio) ? self.badRatio : 2.0) \
                       >= (has(self.maxRatio) ? self.maxRatio : 1.25)",
                found: Text("a ratio that is tolerated though it is bad"),
                action: "write a badRatio (default 2) of at least maxRatio (default 1.25)",
                at: Some(".badRatio"),
            }),
            Rule(R {
                test: "(has(self.badSlower) ? self.badSlower : 0.3) \
                       >= (has(self.maxSlower) ? self.maxSlower : 0.08)",
                found: Text("a slowness that is tolerated though it is bad"),
                action: "write a badSlower (default 0.3) of at least maxSlower (default 0.08)",
                at: Some(".badSlower"),
            }),
            Rule(R {
                test: "!has(self.min) || !has(self.max) || self.min <= self.max",
                found: Format("min %s above max %s", "self.min, self.max"),
                action: "lower min or raise max: every look is worse",
                at: Some(".min"),
            }),
            Rule(R {
                test: "self.kind != 'histogram' || !has(self.objective) || has(self.bound)",
                found: Text("an objective of a histogram without bound"),
                action: "write bound too: the objective is the share slower than that",
                at: Some(".bound"),
            }),
            Rule(R {
                test: "self.kind != 'histogram' || !has(self.compare) \
                       || self.compare != 'objective' || has(self.objective)",
                found: Text("a comparison with an objective that is not there"),
                action: "write objective and bound, or compare with the primary",
                at: Some(".objective"),
            }),
        ],
    ),
    ("spec.analysis.judge.metrics[].name", &[Length(1, 63)]),
    ("spec.analysis.judge.metrics[].maxRatio", &[FACTOR]),
    ("spec.analysis.judge.metrics[].badRatio", &[FACTOR]),
    ("spec.analysis.judge.metrics[].maxSlower", &[SLOWER]),
    ("spec.analysis.judge.metrics[].badSlower", &[SLOWER]),
    ("spec.analysis.judge.metrics[].harm", &[PART]),
    ("spec.analysis.judge.metrics[].objective", &[PART]),
    ("spec.analysis.judge.metrics[].holdAbove", &[PART]),
    (
        "spec.analysis.judge.metrics[].bound",
        &[Rule(R {
            test: "self > 0.0",
            found: Format("%s", "self"),
            action: "write a time above 0 in the unit of the histogram",
            at: None,
        })],
    ),
    (
        "spec.analysis.judge.metrics[].dispersion",
        &[Rule(R {
            test: "self >= 1.0 && self <= 1000000.0",
            found: Format("%s", "self"),
            action: "write a number of at least 1, or remove it to have it estimated",
            at: None,
        })],
    ),
    (
        "spec.analysis.judge.metrics[].weight",
        &[Rule(R {
            test: "self > 0.0 && self <= 1000000000.0",
            found: Format("%s", "self"),
            action: "write a number above 0, such as 1",
            at: None,
        })],
    ),
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

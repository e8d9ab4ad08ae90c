//! What is asked of `MetricTemplate` and `AlertProvider`.

use super::{
    Ask::{FieldSets, Fields, Length, Pattern, Rule},
    Found::{Format, Text},
    Line, NAME, OPTIONAL_URL, Rule as R, URL,
};

/// Lines of `MetricTemplate`.
pub(super) const METRIC_TEMPLATE: &[Line] = &[
    (
        "spec.provider",
        &[
            Fields(&["type"]),
            Rule(R {
                test: "!(self.type in ['prometheus', 'graphite']) \
                       || (has(self.address) && self.address != '')",
                found: Format("%s without an address", "self.type"),
                action: "write the address of the server, for example http://prometheus:9090",
                at: Some(".address"),
            }),
            Rule(R {
                test: "self.type != 'cloudwatch' || (has(self.region) && self.region != '')",
                found: Text("cloudwatch without a region"),
                action: "write the region, for example eu-central-1",
                at: Some(".region"),
            }),
        ],
    ),
    (
        "spec.provider.address",
        &[Length(0, 2048), Pattern(OPTIONAL_URL)],
    ),
    ("spec.provider.region", &[Length(0, 63)]),
    (
        "spec.provider.secretRef.name",
        &[Length(1, 253), Pattern(NAME)],
    ),
    ("spec.query", &[Length(1, 65536)]),
    ("spec.total", &[Length(1, 65536)]),
];

/// Lines of `AlertProvider`.
pub(super) const ALERT_PROVIDER: &[Line] = &[
    (
        "spec",
        &[FieldSets(&[&["type", "address"], &["type", "secretRef"]])],
    ),
    ("spec.address", &[Length(1, 2048), Pattern(URL)]),
    ("spec.proxy", &[Length(0, 2048), Pattern(OPTIONAL_URL)]),
    ("spec.secretRef.name", &[Length(1, 253), Pattern(NAME)]),
];

//! What a pod and its proxy count, under the names that Prometheus finds in real ones.

use super::{
    prometheus::{Handle, Prometheus},
    promql::Labels,
    traffic::PATH,
};

/// Upper bounds of the buckets of request times, in milliseconds.
const BOUNDS: [f64; 13] = [
    0.5, 1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0,
];

/// Answers that are told apart.
pub const CODES: [u16; 3] = [200, 404, 500];

/// Whose requests are counted.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub pod: String,
    /// Name of the pod's workload.
    pub workload: String,
    /// The pod's label `app`.
    pub app: String,
}

/// The counters of one pod.
#[derive(Clone, Debug)]
pub struct Meter {
    codes: [u64; CODES.len()],
    /// Requests at the last look.
    seen: u64,
    /// Requests by bucket, the last one without a bound.
    buckets: [u64; BOUNDS.len() + 1],
    total_ms: f64,
    code_series: [Vec<Handle>; CODES.len()],
    bucket_series: Vec<[Handle; 2]>,
    time_series: [(Handle, f64); 2],
    count_series: Handle,
}

impl Meter {
    /// Counters at zero.
    pub fn new(subject: &Subject, prometheus: &mut Prometheus) -> Self {
        // Names and values are shared: a pod has many series, and most of their labels are the same.
        let base = |more: &[(&str, &str)]| -> Labels {
            let all = [("job", "kubernetes-pods")];
            let pairs = all.iter().chain(more);
            pairs
                .map(|(label, value)| ((*label).into(), (*value).into()))
                .collect()
        };
        let Subject {
            namespace,
            pod,
            workload,
            app,
        } = subject;
        let istio = base(&[
            ("reporter", "destination"),
            ("destination_workload_namespace", namespace),
            ("destination_workload", workload),
            ("pod", pod),
        ]);
        let kubernetes = base(&[
            ("kubernetes_namespace", namespace),
            ("kubernetes_pod_name", pod),
            ("app", app),
        ]);
        let plain = base(&[
            ("namespace", namespace),
            ("pod", pod),
            ("app", app),
            ("path", PATH),
        ]);
        let mut add = |base: &Labels, name: &str, more: Option<(&str, &str)>| {
            let mut labels = base.clone();
            let named = [("__name__", name)].into_iter().chain(more);
            labels.extend(named.map(|(label, value)| (label.into(), value.into())));
            prometheus.add(labels)
        };
        let code_series = CODES.map(|code| {
            let code = code.to_string();
            [
                (&istio, "response_code", "istio_requests_total"),
                (&kubernetes, "status", "http_request_duration_seconds_count"),
                (&plain, "status", "http_requests_total"),
            ]
            .map(|(base, label, name)| add(base, name, Some((label, &code))))
            .to_vec()
        });
        let bounds = BOUNDS.iter().map(|bound| Some(*bound)).chain([None]);
        let bucket_series = bounds
            .map(|bound| {
                [
                    (&istio, 1.0, "istio_request_duration_milliseconds_bucket"),
                    (&kubernetes, 0.001, "http_request_duration_seconds_bucket"),
                ]
                .map(|(base, scale, name)| {
                    let bound = bound.map(|bound| (bound * scale).to_string());
                    let bound = bound.as_deref().unwrap_or("+Inf");
                    add(base, name, Some(("le", bound)))
                })
            })
            .collect();
        let [istio_sum, istio_count] = ["sum", "count"].map(|of| {
            let name = format!("istio_request_duration_milliseconds_{of}");
            add(&istio, &name, None)
        });
        Self {
            codes: [0; CODES.len()],
            seen: 0,
            buckets: [0; BOUNDS.len() + 1],
            total_ms: 0.0,
            code_series,
            bucket_series,
            time_series: [
                (istio_sum, 1.0),
                (
                    add(&kubernetes, "http_request_duration_seconds_sum", None),
                    0.001,
                ),
            ],
            count_series: istio_count,
        }
    }

    /// Counts a request: the place of its answer in [`CODES`], and its time.
    pub fn count(&mut self, code: usize, millis: f64) {
        if let Some(count) = self.codes.get_mut(code) {
            *count += 1;
        }
        let bucket = BOUNDS.partition_point(|bound| *bound < millis);
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count += 1;
        }
        self.total_ms += millis;
    }

    /// Requests since the last look.
    pub fn since_last(&mut self) -> f64 {
        let all: u64 = self.codes.iter().sum();
        let fresh = all - self.seen;
        self.seen = all;
        float(fresh)
    }

    /// Writes the counters down. What was never counted has no series yet.
    pub fn scrape(&self, prometheus: &mut Prometheus, at: i64) {
        for (count, series) in self.codes.iter().zip(&self.code_series) {
            for series in series.iter().filter(|_| *count > 0) {
                prometheus.push(*series, at, float(*count));
            }
        }
        let all: u64 = self.codes.iter().sum();
        if all == 0 {
            return;
        }
        let mut below = 0;
        for (count, series) in self.buckets.iter().zip(&self.bucket_series) {
            below += count;
            for series in series {
                prometheus.push(*series, at, float(below));
            }
        }
        for (series, scale) in self.time_series {
            prometheus.push(series, at, self.total_ms * scale);
        }
        prometheus.push(self.count_series, at, float(all));
    }

    /// Marks that the pod is gone.
    pub fn end(&self, prometheus: &mut Prometheus, at: i64) {
        let buckets = self.bucket_series.iter().flatten();
        let codes = self.code_series.iter().flatten();
        let times = self.time_series.iter().map(|(series, _)| series);
        for series in codes.chain(buckets).chain(times) {
            prometheus.end(*series, at);
        }
        prometheus.end(self.count_series, at);
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "counts stay far below 2 to the 53"
)]
fn float(count: u64) -> f64 {
    count as f64
}

//! Traffic that a test makes up, as a service mesh would count it, and the real Prometheus that
//! scrapes it.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    net::Ipv4Addr,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, routing::get};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep, timeout},
};

use super::{cluster::variable, operator::free_port};

/// What the users of one workload see.
#[derive(Clone, Copy, Debug)]
pub struct Flow {
    /// Requests a second.
    pub rate: f64,
    /// Share of them that is answered with an error, 0 to 1.
    pub errors: f64,
    /// How long each takes.
    pub latency: Duration,
}

impl Flow {
    /// Every request is answered, and at once.
    pub const HEALTHY: Self = Self {
        rate: 20.0,
        errors: 0.0,
        latency: Duration::from_millis(40),
    };
    /// Nobody asks.
    pub const NONE: Self = Self {
        rate: 0.0,
        ..Self::HEALTHY
    };
    /// Every second request fails.
    pub const FAILING: Self = Self {
        errors: 0.5,
        ..Self::HEALTHY
    };
    /// Requests take a second and a half.
    pub const SLOW: Self = Self {
        latency: Duration::from_millis(1500),
        ..Self::HEALTHY
    };
}

/// Upper bounds of the latency histogram, in milliseconds.
const BOUNDS: [u16; 6] = [10, 50, 100, 500, 1000, 2500];

/// Counters of one workload.
#[derive(Debug)]
struct Counters {
    flow: Flow,
    since: Instant,
    good: f64,
    bad: f64,
    /// By [`BOUNDS`], cumulative as Prometheus has it.
    buckets: [f64; BOUNDS.len()],
}

impl Counters {
    /// Counts what has flowed until now.
    fn settle(&mut self) {
        let now = Instant::now();
        let requests = self.flow.rate * now.duration_since(self.since).as_secs_f64();
        self.since = now;
        self.bad += requests * self.flow.errors;
        self.good += requests * (1.0 - self.flow.errors);
        for (bound, bucket) in BOUNDS.iter().zip(&mut self.buckets) {
            if self.flow.latency <= Duration::from_millis((*bound).into()) {
                *bucket += requests;
            }
        }
    }
}

/// The traffic of all workloads, by namespace and workload.
#[derive(Debug, Default)]
pub struct Traffic(Mutex<BTreeMap<(String, String), Counters>>);

impl Traffic {
    /// From now on, users of a workload see this.
    pub fn set(&self, namespace: &str, workload: &str, flow: Flow) {
        let mut all = self.0.lock().unwrap();
        let counters = all
            .entry((namespace.to_owned(), workload.to_owned()))
            .or_insert_with(|| Counters {
                flow,
                since: Instant::now(),
                good: 0.0,
                bad: 0.0,
                buckets: [0.0; BOUNDS.len()],
            });
        counters.settle();
        counters.flow = flow;
    }

    /// The users of a namespace are gone.
    pub fn forget(&self, namespace: &str) {
        self.0.lock().unwrap().retain(|(n, _), _| n != namespace);
    }

    /// All counters as Prometheus reads them.
    fn page(&self) -> String {
        let mut page = String::new();
        for ((namespace, workload), counters) in &mut *self.0.lock().unwrap() {
            counters.settle();
            let labels = format!(
                "reporter=\"destination\",destination_workload_namespace=\"{namespace}\",destination_workload=\"{workload}\""
            );
            let total = counters.good + counters.bad;
            for (code, count) in [(200, counters.good), (500, counters.bad)] {
                writeln!(
                    page,
                    "istio_requests_total{{{labels},response_code=\"{code}\"}} {count}"
                )
                .unwrap();
            }
            let bounds = BOUNDS.iter().map(ToString::to_string);
            let buckets = bounds
                .zip(counters.buckets)
                .chain([("+Inf".to_owned(), total)]);
            for (bound, count) in buckets {
                writeln!(
                    page,
                    "istio_request_duration_milliseconds_bucket{{{labels},le=\"{bound}\"}} {count}"
                )
                .unwrap();
            }
        }
        page
    }
}

/// Shows traffic on a port of this host; which one.
pub async fn export(traffic: Arc<Traffic>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let page = get(move || async move { traffic.page() });
    let router = Router::new().route("/metrics", page);
    tokio::spawn(async move { axum::serve(listener, router).await });
    port
}

/// A running Prometheus; killed when dropped, or when the thread that started it ends.
#[derive(Debug)]
pub struct Prometheus {
    child: Child,
    port: u16,
}

impl Prometheus {
    /// Starts one that scrapes the exporter each second, and waits until it answers.
    pub async fn start(name: &str, exporter: u16) -> Self {
        let folder = std::path::PathBuf::from(variable("HALDANE_TEST_CLUSTER_DIR"))
            .join(format!("prometheus-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let config = folder.join("prometheus.yml");
        let settings = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: mesh, static_configs: [{{targets: ['127.0.0.1:{exporter}']}}]}}]\n"
        );
        fs::write(&config, settings).unwrap();
        let log = fs::File::create(folder.join("log")).unwrap();
        let port = free_port();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(variable("HALDANE_TEST_PROMETHEUS"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let prometheus = Self { child, port };
        let ready = format!("{}/-/ready", prometheus.url());
        // The port says nothing before it is listened on: asking again is all that can be done.
        let answers = async {
            while !reqwest::get(&ready)
                .await
                .is_ok_and(|answer| answer.status().is_success())
            {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_mins(1), answers)
            .await
            .expect("Prometheus answers within a minute");
        prometheus
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// It is gone from one moment to the next.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

//! The real operator, as a process of its own.

use std::{
    fs::OpenOptions,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use tokio::time::{sleep, timeout};

use super::{
    cluster::{cluster, variable},
    scene::Scene,
};

/// A running operator; killed when dropped, or when the thread that started it ends.
#[derive(Debug)]
pub struct Operator {
    child: Child,
    port: u16,
}

/// The program under test.
pub fn program() -> String {
    std::env::var("HALDANE_TEST_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_haldane").to_owned())
}

/// A port of this host that nobody listens on, below the range that clients are given.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 80).unwrap() * 100 + 10_000;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed) % 2000;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// Where the operators of a namespace log to.
pub fn log(namespace: &str) -> PathBuf {
    cluster().folder.join(format!("log/{namespace}.log"))
}

impl Operator {
    /// Starts an operator that looks after the scene's namespace.
    pub fn start(scene: &Scene) -> Self {
        Self::start_with(scene, &[])
    }

    /// Starts an operator that has the rights of a kubeconfig's user.
    pub fn start_as(scene: &Scene, kubeconfig: &Path) -> Self {
        Self::spawn(scene, kubeconfig.to_str().unwrap(), &[])
    }

    /// Starts an operator with more flags.
    pub fn start_with(scene: &Scene, flags: &[&str]) -> Self {
        Self::spawn(scene, &variable("HALDANE_TEST_KUBECONFIG"), flags)
    }

    fn spawn(scene: &Scene, kubeconfig: &str, flags: &[&str]) -> Self {
        let namespace = scene.namespace();
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log(namespace))
            .unwrap();
        let port = free_port();
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", &program(), "run"])
            .args(["--kubeconfig", kubeconfig])
            .args(["--namespace", namespace])
            .args(["--drain", "1s", "--allow-loopback"])
            .args(["--log-level", "haldane=debug,info"])
            .args(["--port", &port.to_string()]);
        let has = |name: &str| flags.iter().any(|flag| flag.starts_with(name));
        if !has("--metrics-server") {
            command.args(["--metrics-server", &cluster().prometheus]);
        }
        let child = command
            .args(flags)
            .env_remove("KUBECONFIG")
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { child, port }
    }

    /// SIGKILL: it is gone from one moment to the next.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM, as the kubelet ends a pod; how it ended.
    pub fn stop(mut self) -> ExitStatus {
        let told = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(told.success(), "the operator is told to stop");
        self.child.wait().unwrap()
    }

    /// Its resident memory, in KiB.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or_default()
    }

    /// Its own metrics.
    pub async fn metrics(&self) -> String {
        self.shows("something", |page| !page.is_empty()).await
    }

    /// Waits until its own metrics are as described; the page.
    pub async fn shows(&self, what: &str, holds: impl Fn(&str) -> bool) -> String {
        let url = format!("http://127.0.0.1:{}/metrics", self.port);
        let mut page = String::new();
        // Metrics are there to be asked for: nothing tells that they changed.
        let found = async {
            loop {
                if let Ok(answer) = reqwest::get(&url).await {
                    page = answer.text().await.unwrap();
                    if holds(&page) {
                        return;
                    }
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        let found = timeout(Duration::from_secs(30), found).await;
        assert!(found.is_ok(), "metrics show {what}: they show {page}");
        page
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

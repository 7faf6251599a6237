//! What the benchmarks of the bot share: a bot that acts on nothing, and percentiles.

#![allow(dead_code)] // each benchmark uses a part of it

pub mod seed;

use std::{path::Path, sync::Arc, time::Duration};

use alert_bot::{backend::docker::DockerBackend, config::Config};
use telemetry::Runtime;
use tokio::task::JoinHandle;

const POLICY: &str = "version: 1
mode: auto
rules: [{name: disk, match: {alertname: Disk}, leave_to_people: no container is at fault}]
";

/// How the binary is started: its own policy, no token that matters, and nothing that answers it.
pub fn arguments(dir: &Path, journal: &Path) -> Vec<String> {
    let policy = dir.join("policy.yaml");
    std::fs::write(&policy, POLICY).unwrap();
    vec![
        format!("--policy-file={}", policy.display()),
        format!("--journal-file={}", journal.display()),
        "--docker-host=tcp://127.0.0.1:9".to_owned(),
        "--prometheus-url=http://127.0.0.1:9".to_owned(),
        "--alertmanager-url=http://127.0.0.1:9".to_owned(),
        "--webhook-token=t".to_owned(),
        "--operator-token=an-operator-s-token".to_owned(),
    ]
}

/// A whole bot over HTTP; Docker, Prometheus and Alertmanager do not answer it.
pub struct Bot {
    pub base: String,
    pub rt: Runtime,
    pub client: reqwest::Client,
    running: JoinHandle<()>,
}

impl Bot {
    pub async fn start(dir: &Path, journal: &Path) -> Self {
        let args = std::iter::once("alert-bot".to_owned()).chain(arguments(dir, journal));
        let config: Config = telemetry::config::parse(args.map(Into::into)).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let backend = Arc::new(DockerBackend::new(&config.docker_host, None).unwrap());
        let rt = Runtime::for_test();
        let run = alert_bot::run_on(listener, config, rt.clone(), backend);
        let running = tokio::spawn(async move { run.await.unwrap() });
        Self { base, rt, client: reqwest::Client::builder().no_proxy().build().unwrap(), running }
    }

    pub async fn stop(self) {
        self.rt.shutdown.cancel();
        self.running.await.unwrap();
    }
}

/// Milliseconds.
pub fn percentile(sorted: &[Duration], share: f64) -> f64 {
    let i = ((sorted.len() - 1) as f64 * share).round() as usize;
    sorted[i].as_secs_f64() * 1e3
}

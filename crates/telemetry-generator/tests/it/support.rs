use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use clap::Parser;
use lake::{Cursor, Lake, Reading, SeenReadings};
use telemetry::{Runtime, config::Service};
use telemetry_generator::config::Config;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

pub const TOKEN: &str = "operator-token";

/// The service on a port of its own.
pub struct App {
    pub url: String,
    pub client: reqwest::Client,
    rt: Runtime,
    task: JoinHandle<anyhow::Result<()>>,
}

pub fn config(args: &[&str]) -> Config {
    let mut all = vec!["x", "--tick-interval", "50ms", "--write-interval", "200ms"];
    if !args.contains(&"--lake-access-key") {
        all.extend(["--lake-access-key", "a", "--lake-secret-key", "b"]);
    }
    all.extend(args);
    let config = Config::parse_from(all);
    config.validate().unwrap();
    config
}

/// A service whose lake and state are folders under `dir`.
pub fn folder_config(dir: &Path, more: &[&str]) -> Config {
    let (lake, state) = (dir.join("lake"), dir.join("state"));
    let args = ["--lake-dir", lake.to_str().unwrap(), "--state-dir", state.to_str().unwrap()];
    config(&[&args, more].concat())
}

impl App {
    pub async fn start(config: Config) -> Self {
        let rt = Runtime::for_test();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(telemetry_generator::serve(config, listener, rt.clone()));
        Self { url, client: reqwest::Client::new(), rt, task }
    }

    /// Stops it and returns how many readings of each machine it took, by its own count.
    pub async fn stop(self) -> u64 {
        self.rt.shutdown.cancel();
        self.task.await.unwrap().unwrap();
        let text = String::from_utf8(self.rt.registry.encode(None).1).unwrap();
        find(&text, r#"machine_readings_total{line="line-1",machine_id="machine-001",site="site-1"}"#).unwrap() as u64
    }

    pub async fn get(&self, path: &str) -> (u16, serde_json::Value) {
        let response = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn post(&self, path: &str, token: Option<&str>, body: &str) -> (u16, serde_json::Value) {
        let mut request = self.client.post(format!("{}{path}", self.url));
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.header("content-type", "application/json").body(body.to_owned()).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn metrics(&self) -> String {
        self.client.get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap()
    }

    pub async fn metric(&self, series: &str) -> Option<f64> {
        find(&self.metrics().await, series)
    }

    /// Waits until the series has a value that pleases.
    pub async fn until(&self, series: &str, pleases: impl Fn(f64) -> bool) -> f64 {
        let started = Instant::now();
        loop {
            let value = self.metric(series).await;
            if let Some(value) = value.filter(|v| pleases(*v)) {
                return value;
            }
            assert!(started.elapsed() < Duration::from_secs(20), "{series} is {value:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn find(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

pub fn open(config: &Config) -> Lake {
    Lake::open(&config.lake.settings().unwrap(), Arc::new(())).unwrap()
}

/// All readings of a lake, as a reader sees them: a batch whose answer was lost on the way is
/// in there twice, and told apart by its numbers.
pub async fn all_readings(lake: &Lake) -> Vec<Reading> {
    let mut all = Vec::new();
    let mut seen = SeenReadings::default();
    for name in lake.manifests_after(&Cursor::starting_at(0), 100_000).await.unwrap() {
        let fetched = lake.fetch(&name).await.unwrap();
        assert!(fetched.rejected.is_empty(), "{:?}", fetched.rejected);
        all.extend(fetched.readings.into_iter().filter(|r| seen.insert(r)));
    }
    all
}

/// The readings of each boot; the same number of each of five machines.
pub fn count_by_boot(readings: &[Reading]) -> BTreeMap<String, u64> {
    let mut counts: BTreeMap<String, BTreeMap<&str, u64>> = BTreeMap::new();
    for r in readings {
        *counts.entry(r.boot_id.to_string()).or_default().entry(&r.machine_id).or_default() += 1;
    }
    let each = counts.into_iter().map(|(boot, machines)| {
        let count = *machines.values().next().unwrap();
        assert!(machines.len() == 5 && machines.values().all(|n| *n == count), "{boot}: {machines:?}");
        (boot, count)
    });
    each.collect()
}

/// A TCP proxy that can be cut.
pub struct Proxy {
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Proxy {
    pub async fn start(address: &str, target: String) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut inward, _)) = listener.accept().await {
                let target = target.clone();
                connections.spawn(async move {
                    if let Ok(mut outward) = TcpStream::connect(target).await {
                        let _ = copy_bidirectional(&mut inward, &mut outward).await;
                    }
                });
            }
        });
        Self { address, task }
    }

    pub async fn cut(self) -> SocketAddr {
        self.task.abort();
        let _ = self.task.await;
        self.address
    }
}

pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("set {name}, or run ./stack test"))
}

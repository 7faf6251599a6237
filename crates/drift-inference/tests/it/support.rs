use std::{
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::Parser;
use drift_inference::config::Config;
use lake::{Batch, Lake, Reading};
use telemetry::{Runtime, config::Service};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// The service on a port of its own.
pub struct App {
    pub url: String,
    pub client: reqwest::Client,
    rt: Runtime,
    task: JoinHandle<anyhow::Result<()>>,
}

pub fn config(args: &[&str]) -> Config {
    let mut all = vec!["x", "--pull-interval", "100ms"];
    if !args.contains(&"--lake-access-key") {
        all.extend(["--lake-access-key", "a", "--lake-secret-key", "b"]);
    }
    all.extend(args);
    let config = Config::parse_from(all);
    config.validate().unwrap();
    config
}

/// A service whose lake and state are folders under `dir`.
pub fn folder_config(dir: &Path) -> Config {
    folder_config_with(dir, &[])
}

/// The same with more arguments.
pub fn folder_config_with(dir: &Path, more: &[&str]) -> Config {
    let (lake, state) = (dir.join("lake"), dir.join("state"));
    let folders = ["--lake-dir", lake.to_str().unwrap(), "--state-dir", state.to_str().unwrap()];
    config(&[&folders, more].concat())
}

impl App {
    pub async fn start(config: Config) -> Self {
        let rt = Runtime::for_test();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(drift_inference::serve(config, listener, rt.clone()));
        Self { url, client: reqwest::Client::new(), rt, task }
    }

    pub async fn stop(self) {
        self.rt.shutdown.cancel();
        self.task.await.unwrap().unwrap();
    }

    pub async fn get(&self, path: &str) -> (u16, serde_json::Value) {
        let response = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn predict(&self, body: &str) -> (u16, serde_json::Value) {
        let request = self.client.post(format!("{}/v1/predict", self.url)).header("content-type", "application/json");
        let response = request.body(body.to_owned()).send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.client.get(format!("{}/metrics", self.url)).send().await.unwrap().text().await.unwrap();
        text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
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

pub fn open(config: &Config) -> Lake {
    Lake::open(&config.lake.settings().unwrap(), Arc::new(())).unwrap()
}

pub fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as i64
}

/// The beginning of the last minute that lies within one hour, as the readings of one batch must.
pub fn a_minute_ago() -> i64 {
    let (now, minute) = (now_us(), 60_000_000);
    let within = now.rem_euclid(60 * minute);
    if within < minute { now - within - minute } else { now - minute }
}

/// A healthy reading, `second` seconds after `start_us`.
pub fn reading(start_us: i64, second: u64) -> Reading {
    Reading {
        machine_id: "m-1".into(),
        line: "line-1".into(),
        site: "site-1".into(),
        boot_id: "boot".into(),
        seq: second,
        ts_us: start_us + second as i64 * 1_000_000,
        temperature: 46.0 + (second % 7) as f64 * 0.1,
        load: 0.5,
        vibration: 1.2,
        power_watts: 10_000.0,
        energy_millijoules_total: second as i64 * 10_000_000,
        error_code: 0,
        status: 1,
        failed: false,
    }
}

/// Writes readings as the generator does: hour by hour.
pub async fn write(lake: &Lake, mut readings: &[Reading]) {
    while !readings.is_empty() {
        let (now, later) = readings.split_at(Batch::extent(readings));
        lake.write(&Batch::new(now).unwrap(), now_us()).await.unwrap();
        readings = later;
    }
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

//! A guard in front of the real daemon, with throw-away containers to guard.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use bollard::{
    Docker,
    models::{ContainerCreateBody, ContainerInspectResponse, HostConfig},
    query_parameters::{
        CreateContainerOptionsBuilder, InspectContainerOptions, RemoveContainerOptionsBuilder, StartContainerOptions,
    },
};
use clap::Parser;
use docker_guard::{App, Config};
use serde_json::Value;
use telemetry::Runtime;

pub const TOKEN: &str = "a-token-of-the-tests";

/// Says a word and waits; ends at once when told to.
pub const WAITS: &str = "trap 'exit 0' TERM; echo ready; while :; do sleep 0.1; done";

/// A guard that runs.
pub struct Guard {
    pub address: SocketAddr,
    pub rt: Runtime,
}

impl Guard {
    /// Starts one with quick intervals; `args` win over the defaults.
    pub async fn start(args: &[&str]) -> Self {
        let mut all = vec!["docker-guard", "--listen-addr", "127.0.0.1:0", "--token", TOKEN];
        for (name, value) in [("--collect-interval", "1s"), ("--stats-interval", "1s"), ("--shutdown-grace", "1s")] {
            if !args.contains(&name) {
                all.extend([name, value]);
            }
        }
        all.extend(args);
        let config = Config::try_parse_from(all).unwrap();
        let rt = Runtime::for_test();
        let app = App::build(config, rt.clone()).await.unwrap();
        let address = app.address().unwrap();
        tokio::spawn(app.run());
        Self { address, rt }
    }

    pub async fn send(&self, method: &str, path: &str, token: Option<&str>) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let mut request = reqwest::Client::new().request(method, format!("http://{}{path}", self.address));
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.send("GET", path, None).await
    }

    /// The value of a series, as text; empty if there is none.
    pub fn metric(&self, series: &str) -> String {
        let text = String::from_utf8(self.rt.registry.encode(None).1).unwrap();
        text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' ')).unwrap_or_default().to_owned()
    }

    /// Waits until a series has a value.
    pub async fn metric_becomes(&self, series: &str, value: &str) {
        until(&format!("{series} = {value}"), || async { self.metric(series) == value }).await;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.rt.shutdown.cancel();
    }
}

/// Waits for something to become true.
pub async fn until<F: Future<Output = bool>>(what: &str, mut check: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !check().await {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A compose project of one test's own, and the containers that the test made.
pub struct Stage {
    pub docker: Docker,
    pub project: String,
    image: String,
    made: Vec<String>,
}

impl Stage {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let image = std::env::var("TEST_BASE_IMAGE").expect("set TEST_BASE_IMAGE, or run ./stack test");
        Self {
            docker: Docker::connect_with_defaults().unwrap(),
            project: format!("guardtest-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)),
            image,
            made: Vec::new(),
        }
    }

    /// A guard of this project.
    pub async fn guard(&self, args: &[&str]) -> Guard {
        let mut all = vec!["--project", &self.project];
        all.extend(args);
        Guard::start(&all).await
    }

    /// The name that a service's container has.
    pub fn name(&self, service: &str) -> String {
        format!("{}-{service}", self.project)
    }

    /// Creates and starts a container of a service of this project; gives its id.
    pub async fn run(&mut self, service: &str, labels: &[(&str, &str)], script: &str) -> String {
        let project = self.project.clone();
        let mut all = vec![("com.docker.compose.project", project.as_str()), ("com.docker.compose.service", service)];
        all.extend(labels);
        self.run_with(service, &all, script, HostConfig::default()).await
    }

    /// The same with all labels given.
    pub async fn run_with(&mut self, service: &str, labels: &[(&str, &str)], script: &str, host: HostConfig) -> String {
        let name = self.name(service);
        let labels: HashMap<_, _> = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let body = ContainerCreateBody {
            image: Some(self.image.clone()),
            entrypoint: Some(vec!["/bin/sh".to_owned(), "-c".to_owned()]),
            cmd: Some(vec![script.to_owned()]),
            env: Some(vec!["PASSWORD=hunter2".to_owned()]),
            labels: Some(labels),
            host_config: Some(host),
            ..Default::default()
        };
        let options = CreateContainerOptionsBuilder::new().name(&name).build();
        let id = self.docker.create_container(Some(options), body).await.unwrap().id;
        self.made.push(id.clone());
        self.docker.start_container(&id, None::<StartContainerOptions>).await.unwrap();
        id
    }

    /// Takes over a container that was made by other means, to remove it in the end.
    pub fn adopt(&mut self, id: String) {
        self.made.push(id);
    }

    pub async fn inspect(&self, id: &str) -> ContainerInspectResponse {
        self.docker.inspect_container(id, None::<InspectContainerOptions>).await.unwrap()
    }

    /// When a container was last started.
    pub async fn started_at(&self, id: &str) -> String {
        self.inspect(id).await.state.unwrap().started_at.unwrap()
    }

    pub async fn is_running(&self, id: &str) -> bool {
        self.inspect(id).await.state.unwrap().running.unwrap()
    }

    pub async fn remove(&self, id: &str) {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        self.docker.remove_container(id, Some(options)).await.unwrap();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let made = std::mem::take(&mut self.made);
        // The test's own runtime cannot be waited for in here, least of all when it panics.
        let cleaner = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let docker = Docker::connect_with_defaults().unwrap();
                for id in made {
                    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
                    let _ = docker.remove_container(&id, Some(options)).await;
                }
            });
        });
        let _ = cleaner.join();
    }
}

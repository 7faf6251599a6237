//! What the tests share: the components, throw-away containers, a running bot.

use std::{
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use alert_bot::{backend::docker::DockerBackend, config::Config};
use serde_json::{Value, json};
use telemetry::Runtime;
use tempfile::TempDir;

pub const TOKEN: &str = "test-token";
pub const OPERATOR: &str = "test-operator-token";

/// Two alerts that are left to people and one that is healed, for tests in which nothing outside answers.
pub const POLICY: &str = "version: 1
mode: auto
rules:
  - name: disk
    match: {alertname: Disk}
    leave_to_people: no container is at fault
  - name: cache
    match: {alertname: Cache}
    leave_to_people: it evicts by itself
  - name: api
    match: {alertname: Errors}
    target: {label: service, default: api}
    steps: [{action: restart}]
    verify: {sli: errors, below: 0.5}
";

/// What must come, comes long before; a machine that has other things to do may take its time.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// A variable of the test environment.
pub fn env(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("set {name}, or run ./stack test"))
}

pub fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A name that no other test has.
pub fn unique(prefix: &str) -> String {
    format!("{prefix}-{}", &uuid::Uuid::new_v4().simple().to_string()[..10])
}

pub fn docker(args: &[&str]) -> String {
    let output = Command::new("docker").args(args).output().expect("docker runs");
    assert!(output.status.success(), "docker {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A container that is removed with the value.
pub struct Container(pub String);

impl Container {
    /// It writes a line at each start and exits at once when told to stop.
    pub fn run(project: &str, service: &str, labels: &[&str]) -> Self {
        let name = unique(&format!("{project}-{service}"));
        let project = format!("com.docker.compose.project={project}");
        let service = format!("selfheal.service={service}");
        let mut args = vec!["run", "-d", "--name", &name, "--label", "selfheal.test=alert-bot"];
        for label in [project.as_str(), service.as_str()].into_iter().chain(labels.iter().copied()) {
            args.extend(["--label", label]);
        }
        let image = env("TEST_BASE_IMAGE");
        args.extend([image.as_str(), "/bin/sh", "-c", "echo started; trap 'exit 0' TERM; while :; do sleep 0.2; done"]);
        docker(&args);
        Self(name)
    }

    /// Healable.
    pub fn healable(project: &str, service: &str) -> Self {
        Self::run(project, service, &["selfheal.enable=true"])
    }

    /// How often it was started.
    pub fn starts(&self) -> usize {
        docker(&["logs", &self.0]).lines().filter(|l| *l == "started").count()
    }

    pub fn running(&self) -> bool {
        docker(&["inspect", "-f", "{{.State.Running}}", &self.0]) == "true"
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["rm", "-f", "-v", &self.0]).output();
    }
}

/// The settings of a bot for a test, in a directory of its own.
pub struct Setting {
    pub dir: Arc<TempDir>,
    pub project: String,
    pub extra: Vec<String>,
}

impl Setting {
    pub fn new(policy: &str) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        std::fs::write(dir.path().join("policy.yaml"), policy).unwrap();
        Self { dir, project: unique("abt"), extra: Vec::new() }
    }

    /// One more setting; the last one of a kind counts.
    pub fn with(mut self, flag: &str, value: &str) -> Self {
        self.extra.retain(|e| !e.starts_with(&format!("--{flag}=")));
        self.extra.push(format!("--{flag}={value}"));
        self
    }

    pub fn policy_file(&self) -> PathBuf {
        self.dir.path().join("policy.yaml")
    }

    pub fn journal(&self) -> PathBuf {
        self.dir.path().join("journal.db")
    }

    pub fn args(&self) -> Vec<String> {
        let mut args: Vec<(&str, String)> = vec![
            ("policy-file", self.policy_file().display().to_string()),
            ("journal-file", self.journal().display().to_string()),
            ("project", self.project.clone()),
            ("docker-host", "unix:///var/run/docker.sock".to_owned()),
            ("webhook-token", TOKEN.to_owned()),
            ("operator-token", OPERATOR.to_owned()),
            ("reconcile-interval", "1s".to_owned()),
            ("shutdown-grace", "2s".to_owned()),
        ];
        for (flag, variable) in
            [("prometheus-url", "TEST_PROMETHEUS_URL"), ("alertmanager-url", "TEST_ALERTMANAGER_URL")]
        {
            if !self.extra.iter().any(|e| e.starts_with(&format!("--{flag}="))) {
                args.push((flag, env(variable)));
            }
        }
        let overridden = |flag: &str| self.extra.iter().any(|e| e.starts_with(&format!("--{flag}=")));
        args.into_iter()
            .filter(|(flag, _)| !overridden(flag))
            .map(|(flag, value)| format!("--{flag}={value}"))
            .chain(self.extra.iter().cloned())
            .collect()
    }

    /// Starts the bot inside this process.
    pub async fn start(&self) -> Bot {
        let args = std::iter::once("alert-bot".to_owned()).chain(self.args()).map(Into::into);
        let config = telemetry::config::parse::<Config>(args).map_err(|e| e.unwrap_or_else(|e| e.to_string()));
        let config = config.unwrap();
        telemetry::config::Service::validate(&config).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let rt = Runtime::for_test();
        let backend = Arc::new(DockerBackend::new(&config.docker_host, None).unwrap());
        let run = alert_bot::run_on(listener, config, rt.clone(), backend);
        let task = tokio::spawn(async move { run.await.inspect_err(|e| eprintln!("the bot failed: {e:#}")) });
        Bot { api: Api::new(url), rt, task: Some(task), _dir: self.dir.clone() }
    }
}

/// A bot that runs inside the test.
pub struct Bot {
    pub api: Api,
    rt: Runtime,
    task: Option<tokio::task::JoinHandle<anyhow::Result<()>>>,
    /// Its files live as long as it does.
    _dir: Arc<TempDir>,
}

impl Bot {
    /// A metric's value, by its name and labels as printed.
    pub fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.rt.registry.encode(None);
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().unwrap()
    }

    /// Ends it as SIGTERM would.
    pub async fn stop(mut self) {
        self.rt.shutdown.cancel();
        self.task.take().unwrap().await.unwrap().unwrap();
    }
}

impl Drop for Bot {
    fn drop(&mut self) {
        self.rt.shutdown.cancel();
    }
}

/// A client of a bot.
pub struct Api {
    pub url: String,
    pub client: reqwest::Client,
}

impl Api {
    pub fn new(url: String) -> Self {
        Self { url, client: client() }
    }

    pub async fn get(&self, path: &str) -> Value {
        let answer = self.client.get(format!("{}{path}", self.url)).send().await.unwrap();
        let status = answer.status();
        let text = answer.text().await.unwrap();
        assert!(status.is_success(), "GET {path}: {status} {text}");
        serde_json::from_str(&text).unwrap()
    }

    pub async fn status_of(&self, path: &str) -> u16 {
        self.client.get(format!("{}{path}", self.url)).send().await.unwrap().status().as_u16()
    }

    pub async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, Value) {
        let request = self.client.post(format!("{}/webhook", self.url)).bearer_auth(TOKEN).body(body);
        let answer = request.send().await.unwrap();
        (answer.status().as_u16(), answer.json().await.unwrap_or(Value::Null))
    }

    /// The form that a person types.
    pub async fn fire(&self, labels: Value) {
        let body = json!({ "alerts": [{ "status": "firing", "labels": labels }] }).to_string();
        let (status, answer) = self.post(body).await;
        assert_eq!(status, 202, "{answer}");
    }

    /// The one incident of an alert, with everything.
    pub async fn incident(&self, alertname: &str) -> Option<Value> {
        let list = self.get("/v1/incidents?limit=500").await;
        let found = list["incidents"].as_array()?.iter().find(|i| i["alertname"] == alertname)?.clone();
        Some(self.get(&format!("/v1/incidents/{}", found["id"].as_str()?)).await)
    }

    /// Waits until the incident is as wanted.
    pub async fn until(&self, alertname: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let started = Instant::now();
        loop {
            let incident = self.incident(alertname).await;
            if let Some(found) = incident.as_ref().filter(|i| wanted(i)) {
                return found.clone();
            }
            assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {incident:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Waits until there is something to be seen.
pub async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Kinds of a timeline's lines, in order.
pub fn kinds(incident: &Value) -> Vec<String> {
    incident["timeline"].as_array().unwrap().iter().map(|e| e["kind"].as_str().unwrap().to_owned()).collect()
}

/// Puts one sample into the real Prometheus, at a time of the caller's choice.
///
/// By remote write, whose message is small enough to be put together here.
pub async fn write_sample(name: &str, labels: &[(&str, &str)], value: f64, age: Duration) {
    fn field(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
        out.push(tag);
        let mut n = bytes.len();
        while n >= 0x80 {
            out.push((n as u8 & 0x7f) | 0x80);
            n >>= 7;
        }
        out.push(n as u8);
        out.extend_from_slice(bytes);
    }
    let mut sorted: Vec<_> = std::iter::once(("__name__", name)).chain(labels.iter().copied()).collect();
    sorted.sort_unstable();
    let mut series = Vec::new();
    for (name, value) in sorted {
        let mut label = Vec::new();
        field(0x0a, name.as_bytes(), &mut label);
        field(0x12, value.as_bytes(), &mut label);
        field(0x0a, &label, &mut series);
    }
    let at = alert_bot::timestamp::Timestamp::now().minus(age).millis();
    let mut sample = vec![0x09];
    sample.extend_from_slice(&value.to_le_bytes());
    sample.push(0x10);
    let mut n = u64::try_from(at).unwrap();
    while n >= 0x80 {
        sample.push((n as u8 & 0x7f) | 0x80);
        n >>= 7;
    }
    sample.push(n as u8);
    field(0x12, &sample, &mut series);
    let mut request = Vec::new();
    field(0x0a, &series, &mut request);
    let body = snap::raw::Encoder::new().compress_vec(&request).unwrap();
    let answer = client()
        .post(format!("{}/api/v1/write", env("TEST_PROMETHEUS_URL")))
        .header("content-encoding", "snappy")
        .header("content-type", "application/x-protobuf")
        .header("x-prometheus-remote-write-version", "0.1.0")
        .body(body)
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "remote write: {}", answer.text().await.unwrap());
}

/// Writes a sample twice a second until dropped.
pub struct Signal(tokio::task::JoinHandle<()>);

impl Signal {
    pub fn steady(name: &str, value: f64) -> Self {
        let name = name.to_owned();
        Self(tokio::spawn(async move {
            loop {
                write_sample(&name, &[], value, Duration::ZERO).await;
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }))
    }
}

impl Drop for Signal {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// An alert in the real Alertmanager.
pub async fn alertmanager_alert(labels: &Value, ended: bool) {
    let now = alert_bot::timestamp::Timestamp::now();
    let ends = if ended { now } else { now.plus(Duration::from_secs(300)) };
    let starts = now.minus(Duration::from_secs(60));
    let body = if ended {
        json!([{ "labels": labels, "endsAt": ends }])
    } else {
        json!([{ "labels": labels, "startsAt": starts, "endsAt": ends }])
    };
    alertmanager_post("/api/v2/alerts", &body).await;
}

pub async fn alertmanager_post(path: &str, body: &Value) {
    let answer = client().post(format!("{}{path}", env("TEST_ALERTMANAGER_URL"))).json(body).send().await.unwrap();
    assert!(answer.status().is_success(), "{path}: {}", answer.text().await.unwrap());
}

/// A policy with one rule that restarts, quick enough for a test.
pub fn quick_policy(alertname: &str, service: &str, sli: &str, rest: &str) -> String {
    format!(
        "version: 1
mode: auto
defaults: {{min_age: 0s, stable_for: 2s, within: 12s, every: 500ms, max_age: 5s}}
rules:
  - name: r
    match: {{alertname: {alertname}}}
    target: {{label: service, default: {service}}}
    steps: [{{action: restart, timeout: 10s, stop_timeout: 1s}}]
    verify: {{sli: {sli}, below: 0.5}}
{rest}"
    )
}

/// Lines of the record about one kind of thing.
pub fn lines<'a>(incident: &'a Value, kind: &str) -> Vec<&'a Value> {
    incident["timeline"].as_array().unwrap().iter().filter(|e| e["kind"] == kind).collect()
}

//! The real binary: killed at every moment of a real heal, and its exit codes.

use std::{
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UnixStream},
    sync::mpsc,
};

use crate::support::{Api, Container, PATIENCE, Setting, Signal, quick_policy, unique};

const SECOND: Duration = Duration::from_secs(1);
const BINARY: &str = env!("CARGO_BIN_EXE_alert-bot");

pub struct Process {
    child: Child,
    pub api: Api,
}

impl Process {
    pub async fn start(setting: &Setting, abort_at: Option<&str>) -> Self {
        Self::start_writing(setting, abort_at, Stdio::null()).await
    }

    /// The same with a place for what it writes to its standard output.
    pub async fn start_writing(setting: &Setting, abort_at: Option<&str>, stdout: Stdio) -> Self {
        let port = free_port();
        let mut command = Command::new(BINARY);
        command.args(setting.args()).arg(format!("--listen=127.0.0.1:{port}"));
        command.arg(format!("--admin-addr=127.0.0.1:{}", free_port()));
        command.env_remove("DOCKER_HOST").stdout(stdout).stderr(Stdio::null());
        if let Some(at) = abort_at {
            command.env("ALERT_BOT_ABORT_AT", at);
        }
        let mut child = command.spawn().unwrap();
        let api = Api::new(format!("http://127.0.0.1:{port}"));
        let started = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "the bot does not listen");
            tokio::time::sleep(SECOND / 20).await;
        }
        Self { child, api }
    }

    /// Sends a signal, by its name.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(sent.unwrap().success(), "kill -{name}");
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn dead(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn setting(alertname: &str, sli: &str) -> Setting {
    // The manual form: nobody repeats it, so that what is lost stays lost.
    Setting::new(&quick_policy(alertname, "api", sli, ""))
}

fn fire(alertname: &str) -> String {
    json!({ "alerts": [{ "status": "firing", "labels": { "alertname": alertname } }] }).to_string()
}

/// One heal whose process aborts at the given commit and is started again.
async fn heal_with_abort(abort_at: String) -> (String, usize, Value, bool) {
    let (alertname, sli) = (unique("Errors"), unique("abt_sli").replace('-', "_"));
    let setting = setting(&alertname, &sli);
    let api = Container::healable(&setting.project, "api");
    let _signal = Signal::steady(&sli, 0.0);
    let mut first = Process::start(&setting, Some(&abort_at)).await;
    let request = first.api.client.post(format!("{}/webhook", first.api.url)).bearer_auth(crate::support::TOKEN);
    let acknowledged = request.body(fire(&alertname)).send().await.is_ok_and(|a| a.status() == 202);
    let started = Instant::now();
    let mut aborted = first.dead();
    while !aborted && started.elapsed() < 12 * SECOND {
        tokio::time::sleep(SECOND / 20).await;
        aborted = first.dead();
    }
    first.kill();
    let second = Process::start(&setting, None).await;
    if !acknowledged {
        // What was not acknowledged is the sender's to repeat.
        second.api.fire(json!({ "alertname": alertname })).await;
    }
    let closed = second.api.until(&alertname, |i| i["state"] == "closed").await;
    (abort_at, api.starts(), closed, aborted)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_commit_nothing_is_lost_and_nothing_doubled() {
    // A whole heal takes about ten commits: alert, intent, result, looks, verdict. The first is the boot's.
    let moments: Vec<String> = (1..=8).flat_map(|n| [format!("before:{n}"), format!("after:{n}")]).collect();
    let mut aborted = 0;
    for moments in moments.chunks(4) {
        let runs = moments.iter().map(|m| heal_with_abort(m.clone()));
        for (at, starts, incident, was_aborted) in futures::future::join_all(runs).await {
            assert_eq!(starts, 2, "{at}: started once, restarted once: {incident:#}");
            assert_eq!(incident["outcome"], "healed", "{at}: {incident:#}");
            aborted += usize::from(was_aborted);
        }
    }
    assert!(aborted >= 10, "only {aborted} of the runs were aborted");
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hold {
    /// The restart never reaches Docker.
    Request,
    /// It does, and its answer never comes back.
    Answer,
}

/// A way to Docker on which the first restart is held. The real one cannot be stopped so exactly.
pub async fn holding_proxy(hold: Hold) -> (String, mpsc::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let (held, told) = mpsc::channel(1);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let held = held.clone();
            tokio::spawn(async move {
                let docker = UnixStream::connect("/var/run/docker.sock").await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_docker, mut to_docker) = docker.into_split();
                let back = tokio::spawn(async move { tokio::io::copy(&mut from_docker, &mut to_client).await });
                let mut buffer = vec![0; 64 * 1024];
                while let Ok(n) = from_client.read(&mut buffer).await {
                    if n == 0 {
                        break;
                    }
                    let text = String::from_utf8_lossy(&buffer[..n]);
                    if text.starts_with("POST ") && text.contains("/restart") {
                        back.abort();
                        if hold == Hold::Answer {
                            to_docker.write_all(&buffer[..n]).await.unwrap();
                        }
                        held.send(()).await.unwrap();
                        // Both ends stay open, and nothing moves any more.
                        std::future::pending::<()>().await;
                    }
                    to_docker.write_all(&buffer[..n]).await.unwrap();
                }
            });
        }
    });
    (address, told)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_between_intent_and_result_the_restart_happens_exactly_once() {
    for hold in [Hold::Request, Hold::Answer] {
        let (alertname, sli) = (unique("Errors"), unique("abt_sli").replace('-', "_"));
        let (proxy, mut held) = holding_proxy(hold).await;
        let api;
        let closed = {
            let setting = setting(&alertname, &sli);
            api = Container::healable(&setting.project, "api");
            let _signal = Signal::steady(&sli, 0.0);
            let setting = setting.with("docker-host", &proxy);
            let mut first = Process::start(&setting, None).await;
            first.api.fire(json!({ "alertname": alertname })).await;
            tokio::time::timeout(PATIENCE, held.recv()).await.expect("a restart").unwrap();
            first.kill();
            let setting = setting.with("docker-host", "unix:///var/run/docker.sock");
            let second = Process::start(&setting, None).await;
            second.api.until(&alertname, |i| i["state"] == "closed").await
        };
        assert_eq!(closed["outcome"], "healed", "{hold:?}: {closed:#}");
        assert_eq!(api.starts(), 2, "{hold:?}: started once, restarted once");
        let attempts = closed["actions"].as_array().unwrap().len();
        assert_eq!(attempts, if hold == Hold::Request { 2 } else { 1 }, "{hold:?}: {closed:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledged_notification_survives_a_kill() {
    let policy = "version: 1
mode: auto
rules: [{name: disk, match: {alertname: Disk}, leave_to_people: no container is at fault}]
";
    let setting = Setting::new(policy);
    let mut first = Process::start(&setting, None).await;
    let mut acknowledged = Vec::new();
    for i in 0..40 {
        let labels = json!({ "alertname": "Disk", "instance": i.to_string() });
        let body = json!({ "alerts": [{ "status": "firing", "labels": labels }] }).to_string();
        if first.api.post(body).await.0 == 202 {
            acknowledged.push(i.to_string());
        }
    }
    first.kill();
    assert_eq!(acknowledged.len(), 40);
    let second = Process::start(&setting, None).await;
    let started = Instant::now();
    loop {
        let list = second.api.get("/v1/incidents?limit=100").await;
        let known = list["incidents"].as_array().unwrap().len();
        if known == acknowledged.len() {
            break;
        }
        assert!(started.elapsed() < PATIENCE, "{known} of {}", acknowledged.len());
        tokio::time::sleep(SECOND / 10).await;
    }
    assert_eq!(second.api.get("/v1/audit/verify").await["intact"], true);
}

fn run(args: &[&str]) -> Output {
    Command::new(BINARY).args(args).env_remove("DOCKER_HOST").output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn the_shipped_policy_is_valid_and_covers_every_alert() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let policy = root.join("healing/policy.yaml");
    let checked = run(&["check", policy.to_str().unwrap()]);
    assert!(checked.status.success(), "{}", text(&checked.stderr));
    let policy = alert_bot::policy::Policy::parse(&std::fs::read_to_string(policy).unwrap()).unwrap();
    let mut alerts = Vec::new();
    for dir in ["prometheus/rules/demo", "prometheus/rules/production", "loki/rules/demo"] {
        for file in std::fs::read_dir(root.join(dir)).into_iter().flatten().flatten() {
            let rules = std::fs::read_to_string(file.path()).unwrap();
            alerts.extend(rules.lines().filter_map(|l| l.trim().strip_prefix("- alert: ").map(str::to_owned)));
        }
    }
    assert!(alerts.len() > 20, "only {} alerts found", alerts.len());
    for alert in alerts {
        let labels = [("alertname".to_owned(), alert.clone())].into();
        assert!(policy.rule_for(&labels).is_some(), "no rule for {alert}: heal it, or leave it to people and say why");
    }
}

#[test]
fn a_wrong_policy_is_named_with_its_lines() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.yaml");
    std::fs::write(
        &file,
        "version: 2
mode: auto
deny: [\"a b\"]
rules:
  - name: one
    match: {severity: critical}
    leave_to_people: because
  - name: one
    match: {alertname: B}
    target: {service: prometheus}
    steps: []
    verify: {sli: 'rate(x[1m])', below: 1, stable_for: 5m}
",
    )
    .unwrap();
    let checked = run(&["check", file.to_str().unwrap()]);
    assert_eq!(checked.status.code(), Some(64));
    let faults = text(&checked.stderr);
    for expected in [
        "policy.yaml:1: version 2 is not known",
        "policy.yaml:3: 'a b' is not a service name",
        "policy.yaml:6: match must name an alertname",
        "policy.yaml:8: there is another rule named 'one'",
        "policy.yaml:10: 'prometheus' is denied",
        "policy.yaml:11: steps must not be empty",
        "policy.yaml:12: an SLI that is an expression needs a heartbeat",
        "policy.yaml:12: stable_for 5m must be less than within",
    ] {
        assert!(faults.contains(expected), "no '{expected}' in\n{faults}");
    }
}

#[test]
fn a_simulation_tells_the_decisions_and_touches_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let dir = tempfile::tempdir().unwrap();
    let payload = dir.path().join("payload.json");
    let body = json!({ "alerts": [
        { "status": "firing", "labels": { "alertname": "HighErrorRate", "severity": "critical" } },
        { "status": "firing", "labels": { "alertname": "HighErrorRate", "service": "prometheus" } },
        { "status": "firing", "labels": { "alertname": "DiskAlmostFull" } },
        { "status": "firing", "labels": { "alertname": "Unheard" } },
        { "status": "firing", "labels": { "alertname": "Watchdog" } },
    ] });
    std::fs::write(&payload, body.to_string()).unwrap();
    let policy = root.join("healing/policy.yaml");
    let told = run(&["simulate", "--policy", policy.to_str().unwrap(), "--payload", payload.to_str().unwrap()]);
    assert!(told.status.success(), "{}", text(&told.stderr));
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let decisions: Vec<_> =
        told.as_array().unwrap().iter().map(|d| (d["decision"].clone(), d["reason"].clone())).collect();
    assert_eq!(
        decisions,
        [
            (json!("look_up_and_act"), Value::Null),
            (json!("do_not_act"), json!("denied")),
            (json!("do_not_act"), json!("left_to_people")),
            (json!("do_not_act"), json!("no_policy")),
            (json!("ignore"), Value::Null),
        ]
    );
    assert_eq!(told[0]["target"]["service"], "transaction-api");
    assert_eq!(told[0]["steps"], json!(["restart"]));
}

#[test]
fn wrong_settings_stop_the_start_with_64_and_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let policy = dir.path().join("policy.yaml");
    let wrong = dir.path().join("wrong.yaml");
    std::fs::write(&policy, "version: 1\nmode: auto\nrules: [{name: a, match: {alertname: A}, ignore: b}]\n").unwrap();
    std::fs::write(&wrong, "version: 1\nmode: maybe\nrules: []\n").unwrap();
    let policy = format!("--policy-file={}", policy.display());
    let wrong = format!("--policy-file={}", wrong.display());
    let operator = "--operator-token=an-operator-s-token";
    for (args, variable) in [
        (vec![policy.as_str()], "WEBHOOK_TOKEN"),
        (vec![policy.as_str(), "--webhook-token=t"], "OPERATOR_TOKEN"),
        (vec![policy.as_str(), "--webhook-token=t", "--operator-token=short"], "OPERATOR_TOKEN"),
        (vec![policy.as_str(), operator, "--webhook-token=an-operator-s-token"], "OPERATOR_TOKEN"),
        (vec![policy.as_str(), operator, "--webhook-token=t", "--read-access=all"], "READ_ACCESS"),
        (vec![policy.as_str(), operator, "--webhook-token=t", "--read-access=networks"], "TRUSTED_NETWORKS"),
        (vec![policy.as_str(), operator, "--webhook-token=t", "--trusted-networks=10.0.0.0/33"], "TRUSTED_NETWORKS"),
        (vec![policy.as_str(), operator, "--webhook-token=t", "--docker-host=ssh://x"], "DOCKER_HOST"),
        (vec![policy.as_str(), operator, "--webhook-token=t", "--prometheus-url=prometheus:9090"], "PROMETHEUS_URL"),
        (vec![policy.as_str(), operator, "--webhook-token=t", "--reconcile-interval=60"], "RECONCILE_INTERVAL"),
        (vec![policy.as_str(), operator, "--webhook-token=t", "--lease-time=500ms"], "LEASE_TIME"),
        (vec![wrong.as_str(), operator, "--webhook-token=t"], "POLICY_FILE"),
        (vec!["--policy-file=/nowhere", operator, "--webhook-token=t"], "POLICY_FILE"),
    ] {
        let output = run(&[args.as_slice(), &["--check-config"]].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {error}");
        assert!(error.lines().count() == 1 && error.contains(&format!("alert-bot: {variable}: ")), "{args:?}: {error}");
    }
    let good = run(&["serve", &policy, operator, "--webhook-token=t", "--check-config"]);
    assert!(good.status.success(), "{}", text(&good.stderr));
}

//! The real program: start, logs, traces, signals, crash and restart.

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{TOKEN, TestDatabase, client, env, redis_addr};

const PROGRAM: &str = env!("CARGO_BIN_EXE_transaction-api");

fn free_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn command() -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_clear();
    command
}

struct Process {
    child: Child,
    address: SocketAddr,
    admin: SocketAddr,
}

impl Process {
    async fn start(db: &TestDatabase) -> Self {
        let (address, admin) = (free_port(), free_port());
        let server = env("TEST_POSTGRES_URL").parse::<sqlx::postgres::PgConnectOptions>().unwrap();
        let postgres = format!("{}:{}", server.get_host(), server.get_port()).parse().unwrap();
        let child = command()
            .env("LISTEN_ADDR", address.to_string())
            .env("ADMIN_ADDR", admin.to_string())
            .env("DATABASE_URL", db.url(postgres))
            .env("REDIS_ADDR", redis_addr().to_string())
            .env("CACHE_PREFIX", &db.name)
            .env("GATEWAY_LATENCY", "0ms")
            .env("FAULTS_TOKEN", TOKEN)
            .env("USER_HASH_KEY", "key")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let process = Self { child, address, admin };
        let client = client();
        for _ in 0..200 {
            let ready = client.get(format!("http://{admin}/readyz")).send().await;
            let serving = client.get(format!("http://{address}/health")).send().await;
            if ready.is_ok_and(|r| r.status() == 200) && serving.is_ok() {
                return process;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("not ready within 10 s");
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    fn wait(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < Duration::from_secs(15), "does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn output(&mut self) -> String {
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn wrong_configuration_ends_with_64_and_one_line() {
    for (name, value) in [
        ("DB_POOL_SIZE", "none"),
        ("GATEWAY_LATENCY", "fast"),
        ("REDIS_ADDR", "redis"),
        ("DB_PASSWORD_FILE", "/nonexistent"),
        ("FAULT_MAX_TTL", "60"),
        ("LISTEN_ADDR", "8000"),
    ] {
        let output = command().env(name, value).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{name}: {told}");
        assert_eq!(told.lines().count(), 1, "{told}");
        assert!(told.contains(name), "{told}");
    }
    let output = command().arg("--check-config").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_join_traces_and_tell_nothing_personal() {
    let db = TestDatabase::new().await;
    let mut process = Process::start(&db).await;
    let client = client();
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let response = client
        .post(process.url("/transactions/create"))
        .header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"))
        .header("x-request-id", "req-42")
        .header("x-user-id", "erika.mustermann@example.org")
        .json(&json!({"amount": 1, "currency": "EUR", "description": "invoice for max@example.org"}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["x-request-id"], "req-42");
    let failed = client
        .get(process.url("/error"))
        .header("traceparent", format!("00-{trace}-b7ad6b7169203331-01"))
        .send()
        .await
        .unwrap();
    assert_eq!(failed.json::<Value>().await.unwrap()["trace_id"], trace);

    let metrics = client
        .get(process.url("/metrics"))
        .header("accept", "application/openmetrics-text")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    let exemplar = metrics.lines().find(|line| {
        line.starts_with("http_request_duration_seconds_bucket")
            && line.contains("/transactions/create")
            && line.contains('#')
    });
    assert!(exemplar.is_some_and(|line| line.contains(trace)), "{exemplar:?}");
    let plain = client.get(format!("http://{}/metrics", process.admin)).send().await.unwrap().text().await.unwrap();
    assert!(plain.contains("transactions_total{") && !plain.contains("# {"));

    process.signal("TERM");
    assert_eq!(process.wait().code(), Some(0));
    let output = process.output();
    for personal in ["erika", "mustermann", "max@", "example.org", "invoice", "key\""] {
        assert!(!output.contains(personal), "'{personal}' in the log:\n{output}");
    }
    let lines: Vec<Value> = output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let traced: Vec<_> = lines.iter().filter(|line| line["request_id"] == "req-42").collect();
    assert!(!traced.is_empty(), "{output}");
    for line in traced {
        assert_eq!(line["trace_id"], trace);
        assert_eq!(line["service"], "transaction-api");
        assert!(line["user_id"].as_str().unwrap().starts_with("u-"), "{line}");
    }
    let errors: Vec<_> = lines.iter().filter(|line| line["level"] == "error").collect();
    assert_eq!(errors.len(), 1, "an error is logged once: {output}");
    assert_eq!(errors[0]["trace_id"], trace);
    assert!(errors[0].to_string().contains("settlement failed"), "the operator sees the cause");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_ends_it_and_a_restart_heals_every_fault() {
    let db = TestDatabase::new().await;
    let mut process = Process::start(&db).await;
    let client = client();
    let put = |process: &Process, body: Value| client.put(process.url("/faults")).bearer_auth(TOKEN).json(&body).send();
    put(&process, json!({"fault": "error_rate", "ttl": "15m"})).await.unwrap();
    assert_eq!(client.get(process.url("/transactions")).send().await.unwrap().status(), 500);
    let answer = put(&process, json!({"fault": "crash"})).await.unwrap();
    assert_eq!(answer.status(), 200, "the request is answered before the crash");
    assert_eq!(process.wait().code(), Some(70));
    let process = Process::start(&db).await;
    assert_eq!(client.get(process.url("/transactions")).send().await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_answered_at_the_end() {
    let db = TestDatabase::new().await;
    let mut process = Process::start(&db).await;
    let client = client();
    client
        .put(process.url("/faults"))
        .bearer_auth(TOKEN)
        .json(&json!({"fault": "latency", "delay": "1s"}))
        .send()
        .await
        .unwrap();
    let slow = tokio::spawn(client.post(process.url("/transactions/create")).send());
    tokio::time::sleep(Duration::from_millis(300)).await;
    process.signal("TERM");
    assert_eq!(slow.await.unwrap().unwrap().status(), 201);
    assert_eq!(process.wait().code(), Some(0));
    assert_eq!(db.count().await, 1);
    let mut errors = String::new();
    BufReader::new(process.child.stderr.take().unwrap()).read_line(&mut errors).unwrap();
    assert_eq!(errors, "");
}

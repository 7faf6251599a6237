//! How long it takes from a notification until its action begins, where nothing has to be waited for:
//! `cargo bench -p alert-bot --bench act`, with `TEST_BASE_IMAGE`, `TEST_PROMETHEUS_URL` and
//! `TEST_ALERTMANAGER_URL` as `./stack test` sets them.
//!
//! Real Docker, Prometheus and Alertmanager; the action is a call to an address in this process, so that its beginning
//! is seen and not reported. Between the two lie two commits to disk, the look-up of the container and of the alert,
//! and the decision. Beside it, in the same run: what the look-up of the containers alone takes.

#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code, unreachable_pub, reason = "shared with the tests, which use all of it")]
#[path = "../tests/it/support.rs"]
mod support;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use alert_bot::backend::{Backend, docker::DockerBackend};
use serde_json::{Value, json};
use support::{Container, Setting, Signal, unique};
use tokio::sync::mpsc;

const SERVICES: usize = 8;
const ROUNDS: usize = 40;
/// Between two notifications.
const PAUSE: Duration = Duration::from_millis(40);
const LIMIT: Duration = Duration::from_secs(60);

fn policy(sli: &str, url: &str) -> String {
    format!(
        "version: 1
mode: auto
limits: {{actions: 10000, window: 10m, concurrent: {SERVICES}}}
storm: {{share: 1.0, at_least: 100, within: 1m, freeze: 1m}}
settle: 0s
rules:
  - name: r
    match: {{alertname: Errors}}
    target: {{label: service}}
    hold: 0s
    min_age: 0s
    budget: {{actions: 10000, window: 10m, cooldown: 0s}}
    steps: [{{action: webhook, url: '{url}', timeout: 10s, body: {{container: '{{{{target}}}}'}}}}]
    verify: {{sli: {sli}, below: 0.5, stable_for: 500ms, within: 20s, every: 200ms, max_age: 5s}}
"
    )
}

fn report(name: &str, times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize].as_secs_f64() * 1e3;
    let (p50, p99, max) = (at(0.5), at(0.99), at(1.0));
    println!("{name:<44} n {:>6}   p50 {p50:>8.2} ms   p99 {p99:>8.2} ms   max {max:>8.2} ms", times.len());
    p99
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let (arrived, mut arrivals) = mpsc::unbounded_channel();
    let router = axum::Router::new().fallback(move |body: String| async move {
        let now = Instant::now();
        let body: Value = serde_json::from_str(&body).unwrap();
        arrived.send((body["container"].as_str().unwrap().to_owned(), now)).unwrap();
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/act", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let sli = unique("act_sli").replace('-', "_");
    let setting = Setting::new(&policy(&sli, &url));
    let services: Vec<String> = (0..SERVICES).map(|i| format!("s{i}")).collect();
    let containers: Vec<_> = services.iter().map(|s| Container::healable(&setting.project, s)).collect();
    let _signal = Signal::steady(&sli, 0.0);
    let bot = setting.start().await;

    let backend = DockerBackend::new("unix:///var/run/docker.sock", None).unwrap();
    let mut looks = Vec::new();
    let mut times = Vec::new();
    for round in 0..ROUNDS {
        let began = Instant::now();
        backend.list().await.unwrap();
        looks.push(began.elapsed());
        let mut posted = BTreeMap::new();
        for (service, container) in services.iter().zip(&containers) {
            posted.insert(container.0.clone(), Instant::now());
            bot.api.fire(json!({ "alertname": "Errors", "service": service, "round": round.to_string() })).await;
            tokio::time::sleep(PAUSE).await;
        }
        for _ in 0..SERVICES {
            let (container, at) = tokio::time::timeout(LIMIT, arrivals.recv()).await.expect("an action").unwrap();
            times.push(at - posted[&container]);
        }
        // What is proven is over, and the next round finds its targets idle.
        let began = Instant::now();
        while bot.api.get("/v1/incidents?state=open").await["incidents"] != json!([]) {
            assert!(began.elapsed() < LIMIT, "the incidents of round {round} do not end");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert!(arrivals.try_recv().is_err(), "an action was taken twice");
    let look = report("the containers looked up alone", &mut looks);
    let act = report("posted until the action begins, hold 0", &mut times);
    println!("{:<44} {:.1}", "p99 in look-ups", act / look);
    bot.stop().await;
}

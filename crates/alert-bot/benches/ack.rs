//! How long a notification waits for its acknowledgement.
//!
//! The bot acknowledges what is on disk, so the measure is the disk's own flush,
//! taken in the same run: `cargo bench -p alert-bot --bench ack`.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{
    io::Write,
    time::{Duration, Instant},
};

use common::{Bot, percentile};
use serde_json::json;

const RATE: u32 = 100;
const SECONDS: u32 = 15;

fn report(name: &str, mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    let p99 = percentile(&times, 0.99);
    println!(
        "{name:<44} n {:>6}   p50 {:>8.2} ms   p99 {p99:>8.2} ms   max {:>8.2} ms",
        times.len(),
        percentile(&times, 0.5),
        percentile(&times, 1.0)
    );
    p99
}

fn body(i: usize) -> String {
    json!({
        "version": "4",
        "alerts": [{
            "status": "firing",
            "labels": { "alertname": "Disk", "severity": "critical", "instance": i.to_string() },
            "annotations": { "summary": "the disk is almost full" },
            "startsAt": "2026-07-01T10:00:00Z",
            "fingerprint": format!("{i:016x}"),
        }],
    })
    .to_string()
}

async fn post(client: &reqwest::Client, url: &str, body: String) -> Duration {
    let started = Instant::now();
    let answer = client.post(url).bearer_auth("t").body(body).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    started.elapsed()
}

/// One small append and flush at the same rate: what the disk itself needs.
async fn flushes(dir: &std::path::Path) -> Vec<Duration> {
    let mut file = std::fs::File::create(dir.join("flush")).unwrap();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    let mut times = Vec::new();
    for _ in 0..RATE * 5 {
        tick.tick().await;
        let started = Instant::now();
        file.write_all(&[7; 4096]).unwrap();
        file.sync_data().unwrap();
        times.push(started.elapsed());
    }
    times
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let dir = tempfile::tempdir().unwrap();
    let bot = Bot::start(dir.path(), &dir.path().join("journal.db")).await;
    let client = bot.client.clone();
    let url = format!("{}/webhook", bot.base);
    post(&client, &url, body(0)).await;

    let disk = report("4 KiB append and flush, 100/s", flushes(dir.path()).await);

    let mut tick = tokio::time::interval(Duration::from_secs(1) / RATE);
    let mut posts = Vec::new();
    for i in 1..=usize::try_from(RATE * SECONDS).unwrap() {
        tick.tick().await;
        let (client, url) = (client.clone(), url.clone());
        posts.push(tokio::spawn(async move { post(&client, &url, body(i)).await }));
    }
    let times = futures::future::join_all(posts).await.into_iter().map(Result::unwrap).collect();
    let ack = report("acknowledged notifications, 100/s", times);
    println!("{:<44} {:.1}", "p99 in flushes of the disk", ack / disk);

    let alerts: Vec<serde_json::Value> = (0..10_000)
        .map(|i| serde_json::from_str::<serde_json::Value>(&body(100_000 + i)).unwrap()["alerts"][0].clone())
        .collect();
    let payload = json!({ "version": "4", "alerts": alerts }).to_string();
    let size = payload.len();
    let took = post(&client, &url, payload).await;
    println!(
        "{:<44} {:.0} ms ({:.1} MB)",
        "one notification of 10,000 alerts",
        took.as_secs_f64() * 1e3,
        size as f64 / 1e6
    );
    let started = Instant::now();
    loop {
        let (_, text) = bot.rt.registry.encode(None);
        let text = String::from_utf8(text).unwrap();
        let line = text.lines().find_map(|l| l.strip_prefix("alertbot_refusals_total{reason=\"left_to_people\"} "));
        if line.unwrap().parse::<f64>().unwrap() >= f64::from(RATE * SECONDS) + 10_001.0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("{:<44} {:.1} s", "until all of them were decided on", started.elapsed().as_secs_f64());

    let counted = Instant::now();
    let workers = (0..32).map(|w| {
        let (client, url) = (client.clone(), url.clone());
        tokio::spawn(async move {
            let mut times = Vec::new();
            for i in 0..100 {
                times.push(post(&client, &url, body(1_000_000 + w * 1_000 + i)).await);
            }
            times
        })
    });
    let times: Vec<_> = futures::future::join_all(workers).await.into_iter().flat_map(Result::unwrap).collect();
    let rate = times.len() as f64 / counted.elapsed().as_secs_f64();
    report("acknowledged as fast as 32 senders can", times);
    println!("{:<44} {rate:.0}/s", "which is");
    bot.stop().await;
}

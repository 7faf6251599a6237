//! How long a list of incidents takes, with a few incidents in the journal and
//! with a hundred thousand: `cargo bench -p alert-bot --bench list`.
//!
//! Over HTTP, as a console or a program asks, in one run: the ratio says whether
//! the lists depend on how much there is.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::time::Instant;

use common::{Bot, percentile, seed::fill};
use serde_json::Value;

const FEW: usize = 1_000;
const MANY: usize = 100_000;
const ROUNDS: usize = 400;
const LISTS: [&str; 8] = [
    "/v1/incidents",
    "/v1/incidents?state=open",
    "/v1/incidents?state=healed",
    "/v1/incidents?service=service-7",
    "/v1/incidents?service=service-7&state=not_healed",
    "/v1/incidents?service=service-7&state=open",
    "/v1/incidents?since=30d&state=closed",
    "/",
];

/// Milliseconds at the 99th percentile, per list.
async fn measure(count: usize) -> Vec<f64> {
    let dir = tempfile::tempdir().unwrap();
    let journal = dir.path().join("journal.db");
    fill(&journal, count).await;
    let bot = Bot::start(dir.path(), &journal).await;
    let get = |path: String| {
        let request = bot.client.get(format!("{}{path}", bot.base));
        async move {
            let started = Instant::now();
            let answer = request.send().await.unwrap();
            let status = answer.status();
            let body = answer.bytes().await.unwrap();
            assert_eq!(status, 200);
            (started.elapsed(), body)
        }
    };
    let mut worst = Vec::new();
    for path in LISTS {
        let mut times = Vec::new();
        let mut cursor = String::new();
        for _ in 0..ROUNDS {
            let (took, body) = get(format!("{path}{cursor}")).await;
            times.push(took);
            // Deeper and deeper: the hundredth page must cost what the first does.
            if let Ok(page) = serde_json::from_slice::<Value>(&body) {
                let sign = if path.contains('?') { '&' } else { '?' };
                cursor = page["next_cursor"].as_str().map(|c| format!("{sign}cursor={c}")).unwrap_or_default();
            }
        }
        times.sort_unstable();
        let p99 = percentile(&times, 0.99);
        println!("{count:>7} incidents   {path:<52} p50 {:>7.2} ms   p99 {p99:>7.2} ms", percentile(&times, 0.5));
        worst.push(p99);
    }
    bot.stop().await;
    worst
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let few = measure(FEW).await;
    let many = measure(MANY).await;
    for ((path, few), many) in LISTS.iter().zip(few).zip(many) {
        println!("{path:<52} p99 with {MANY} over p99 with {FEW}: {:.1}", many / few);
    }
}

//! How long a list of incidents takes, with a few incidents in the journal and
//! with a hundred thousand: `cargo bench -p alert-bot --bench list`.
//!
//! Over HTTP, as a console or a program asks, in one run: the ratio says whether
//! the lists depend on how much there is.

#![allow(missing_docs, clippy::unwrap_used)]

mod common;

use std::{path::Path, time::Instant};

use alert_bot::journal::Journal;
use common::{Bot, percentile};
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

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

/// Incidents as they look after a heal, over a month, a hundred of them open.
async fn fill(path: &Path, count: usize) {
    Journal::open(path).await.unwrap();
    let mut file = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path)).await.unwrap();
    let now =
        i64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let mut tx = file.begin().await.unwrap();
    for i in 0..count {
        let opened = now - i64::try_from(i).unwrap() * (30 * 86_400_000 / i64::try_from(count).unwrap());
        let open = i % (count / 100) == 5;
        let (state, outcome) = match (open, i % 5) {
            (true, _) => ("waiting", None),
            (_, 0) => ("closed", Some("not_healed")),
            (_, 1) => ("closed", Some("resolved")),
            _ => ("closed", Some("healed")),
        };
        let id = format!("{i:016x}");
        let service = format!("service-{}", i % 20);
        let at = |offset: i64| alert_bot::timestamp::Timestamp::from_millis(opened + offset);
        let closed = (!open).then(|| at(90_000));
        let doc = json!({
            "id": id,
            "alert": { "status": "firing", "fingerprint": id, "starts_at": at(-5_000),
                "labels": { "alertname": "Disk", "severity": "critical", "service": service, "instance": format!("host-{i}:9100") },
                "annotations": { "summary": "the disk is almost full", "description": "x".repeat(200), "runbook_url": "docs/runbooks/DiskAlmostFull.md" },
                "generator_url": "http://prometheus:9090/graph?g0.expr=disk_free" },
            "starts_at": at(-5_000), "manual": false, "opened_at": at(0), "updated_at": at(90_000), "last_seen": at(90_000),
            "missing_since": null, "alert_active": open, "suppressed": null, "rule": null, "policy": "0123456789ab",
            "phase": state, "step": 0, "next_at": null,
            "target": { "id": "4f1c0ffee".repeat(7), "name": format!("selfheal-{service}-1"), "service": service },
            "decision": { "reason": "left_to_people", "text": "no container is at fault", "at": at(10), "step": 0 },
            "action": null, "verification": null, "verdict": null, "escalated_at": null, "outcome": outcome, "closed_at": closed,
            "trace": { "trace_id": "0".repeat(32), "traceparent": format!("00-{}-{}-01", "0".repeat(32), "1".repeat(16)) },
        });
        sqlx::query(
            "INSERT INTO incidents (id, fingerprint, starts_at, opened_at, closed_at, state, outcome, alertname, service, doc) \
             VALUES (?, ?, ?, ?, ?, ?, ?, 'Disk', ?, ?)",
        )
        .bind(&id)
        .bind(&id)
        .bind(opened - 5_000)
        .bind(opened)
        .bind(closed.map(|c| c.millis()))
        .bind(state)
        .bind(outcome)
        .bind(&service)
        .bind(doc.to_string())
        .execute(&mut *tx)
        .await
        .unwrap();
    }
    tx.commit().await.unwrap();
    file.close().await.unwrap();
}

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

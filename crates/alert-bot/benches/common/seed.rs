//! A journal with a history.

use std::path::Path;

use alert_bot::journal::Journal;
use serde_json::json;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

/// Incidents as they look after a heal, over a month, a hundred of them open.
pub async fn fill(path: &Path, count: usize) {
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

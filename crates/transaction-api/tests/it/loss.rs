//! Postgres and Redis go away and come back, under the real drivers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Start, TestApp, problem};

#[tokio::test(flavor = "multi_thread")]
async fn without_postgres_it_answers_503_and_recovers_by_itself() {
    let app = TestApp::new().await;
    let made = app.pay(json!({"amount": 5, "currency": "EUR"})).await;
    let path = format!("/transactions/{}", made["id"].as_str().unwrap());
    assert_eq!(app.status("/health").await, 200);
    assert!(app.rt.readiness.check().await.ready);

    app.postgres.cut();
    for path in [path.as_str(), "/transactions?limit=3"] {
        let response = app.get(path).send().await.unwrap();
        assert!(response.headers().contains_key("retry-after"));
        problem(response, 503).await;
    }
    problem(app.post("/transactions/create").send().await.unwrap(), 503).await;
    problem(app.post("/transactions/create").header("idempotency-key", "k").send().await.unwrap(), 503).await;
    let response = app.get("/health").send().await.unwrap();
    assert_eq!(response.status(), 503);
    let health: Value = response.json().await.unwrap();
    assert_eq!((&health["status"], &health["checks"]["postgres"]["ok"]), (&json!("unavailable"), &json!(false)));
    assert!(!app.rt.readiness.check().await.ready);
    assert!(app.metric(r#"app_exceptions_total{type="database"}"#).await >= 4.0);
    assert!(app.metric("payment_gateway_voids_total").await >= 1.0, "what cannot be recorded is given back");

    app.postgres.open();
    app.eventually("healthy again", async |app| app.status("/health").await == 200).await;
    assert_eq!(app.json(&path).await, made);
    // Every pooled connection is dead now; not one request may notice.
    for _ in 0..20 {
        app.pay(json!({"amount": 6, "currency": "EUR"})).await;
    }
    assert!(app.rt.readiness.check().await.ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_break_are_not_noticed_if_postgres_is_back_at_once() {
    let app = Arc::new(TestApp::new().await);
    join_all((1..=20).map(|amount| {
        let app = app.clone();
        async move { app.pay(json!({"amount": amount, "currency": "EUR"})).await }
    }))
    .await;
    app.postgres.cut();
    tokio::time::sleep(Duration::from_millis(50)).await;
    app.postgres.open();
    for _ in 0..20 {
        let made = app.pay(json!({"amount": 6, "currency": "EUR"})).await;
        app.json(&format!("/transactions/{}", made["id"].as_str().unwrap())).await;
    }
    assert_eq!(app.db().count().await, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_acknowledged_transaction_is_lost_and_none_is_doubled() {
    let app = Arc::new(TestApp::new().await);
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (app, stop) = (app.clone(), stop.clone());
            tokio::spawn(async move {
                let (mut acknowledged, mut refused) = (Vec::new(), 0);
                let mut payment = 0;
                while !stop.load(Ordering::Relaxed) {
                    payment += 1;
                    // A client that repeats with its key until it is answered, as clients should.
                    loop {
                        let response = app
                            .post("/transactions/create")
                            .header("idempotency-key", format!("{client}-{payment}"))
                            .json(&json!({"amount": payment, "currency": "EUR"}))
                            .send()
                            .await
                            .unwrap();
                        match response.status().as_u16() {
                            201 => {
                                let body: Value = response.json().await.unwrap();
                                acknowledged.push(body["id"].as_str().unwrap().to_owned());
                                break;
                            }
                            503 | 409 if !stop.load(Ordering::Relaxed) => {
                                refused += 1;
                                tokio::time::sleep(Duration::from_millis(20)).await;
                            }
                            503 | 409 => break,
                            other => panic!("{other}: {}", response.text().await.unwrap()),
                        }
                    }
                }
                (acknowledged, refused)
            })
        })
        .collect();
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        app.postgres.cut();
        tokio::time::sleep(Duration::from_millis(400)).await;
        app.postgres.open();
    }
    app.eventually("healthy again", async |app| app.status("/health").await == 200).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);

    let mut acknowledged = Vec::new();
    let mut refused = 0;
    for client in clients {
        let (ids, no) = client.await.unwrap();
        acknowledged.extend(ids);
        refused += no;
    }
    assert!(refused > 0, "the cuts were not felt at all");
    assert!(!acknowledged.is_empty());
    let stored: Vec<uuid::Uuid> =
        sqlx::query_scalar("SELECT id FROM transactions").fetch_all(&app.db().pool).await.unwrap();
    let mut unique = acknowledged.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(unique.len(), acknowledged.len(), "one payment, one transaction");
    for id in &acknowledged {
        assert!(stored.iter().any(|row| row.to_string() == *id), "{id} was acknowledged and is gone");
    }
    let keys: i64 =
        sqlx::query_scalar("SELECT count(*) FROM idempotency_keys").fetch_one(&app.db().pool).await.unwrap();
    assert!(stored.len() as i64 <= keys, "{} transactions for {keys} keys", stored.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_hangs_costs_a_bounded_time() {
    let app = Start::default().with("--db-acquire-timeout", "2s").with("--db-query-timeout", "1s").start().await;
    app.pay(json!({"amount": 5, "currency": "EUR"})).await;
    app.postgres.hang();
    let started = Instant::now();
    let (one, create, health) = tokio::join!(
        app.get("/transactions/0190b0a0-0000-7000-8000-000000000000").send(),
        app.post("/transactions/create").send(),
        app.get("/health").send(),
    );
    problem(one.unwrap(), 503).await;
    problem(create.unwrap(), 503).await;
    assert_eq!(health.unwrap().status(), 503);
    // Nobody waits for longer than a connection and a statement, each once more at most.
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    app.postgres.open();
    app.eventually("healthy again", async |app| app.status("/health").await == 200).await;
    app.eventually("paying again", async |app| app.post("/transactions/create").send().await.unwrap().status() == 201)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_starts_without_postgres_and_without_redis() {
    let app = Start::default().without_postgres().with("--redis-addr", "127.0.0.1:1").without_redis().start().await;
    assert_eq!(app.status("/health").await, 503);
    assert!(!app.rt.readiness.check().await.ready);
    problem(app.get("/transactions").send().await.unwrap(), 503).await;
    assert_eq!(app.status("/docs").await, 200);
    app.postgres.open();
    app.eventually("degraded", async |app| app.status("/health").await == 200).await;
    assert_eq!(app.json("/health").await["status"], "degraded");
    app.pay(json!({"amount": 5, "currency": "EUR"})).await;
    assert_eq!(app.json("/transactions").await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_list_stands_in_while_postgres_is_down() {
    let app = Start::default().with("--cache-local-ttl", "50ms").with("--cache-ttl", "50ms").start().await;
    let made = app.pay(json!({"amount": 5, "currency": "EUR"})).await;
    assert_eq!(app.json("/transactions").await["items"], json!([made]));
    tokio::time::sleep(Duration::from_millis(100)).await;
    app.postgres.cut();
    let response = app.get("/transactions").send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["x-cache"], "stale");
    assert!(response.headers().contains_key("warning") && response.headers().contains_key("age"));
    assert_eq!(response.json::<Value>().await.unwrap()["items"], json!([made]));
    assert_eq!(app.metric("cache_stale_total").await, 1.0);
    app.postgres.open();
    app.eventually("fresh again", async |app| {
        app.get("/transactions").send().await.unwrap().headers()["x-cache"] != "stale"
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_lists_are_right_and_quick() {
    let app = Start::default().with("--cache-local-ttl", "1ms").with("--redis-timeout", "50ms").start().await;
    app.json("/transactions").await;
    for lose in [crate::proxy::Proxy::cut, crate::proxy::Proxy::hang] {
        lose(&app.redis);
        let started = Instant::now();
        for amount in 1..=5 {
            let made = app.pay(json!({"amount": amount, "currency": "EUR"})).await;
            assert_eq!(app.json("/transactions").await["items"][0], made);
        }
        // REDIS_TIMEOUT (50 ms) is paid once, not by each request; the rest is a busy machine.
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        app.eventually("known to be down", async |app| app.metric("cache_redis_up").await == 0.0).await;
        let health = app.json("/health").await;
        assert_eq!((&health["status"], &health["checks"]["redis"]["ok"]), (&json!("degraded"), &json!(false)));
        assert_eq!(app.json("/cache/stats").await["backend"], "redis_down");
        assert!(app.rt.readiness.check().await.ready, "it can serve");
        app.redis.open();
        app.eventually("redis in use again", async |app| app.metric("cache_redis_up").await == 1.0).await;
        assert_eq!(app.json("/health").await["status"], "ok");
        // Redis must not bring back a list of before.
        assert_eq!(app.json("/transactions").await["items"][0]["amount"], 5);
    }
    assert!(app.metric("cache_errors_total").await >= 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_without_a_free_connection_answers_503_in_time() {
    let app = Start::default().with("--db-pool-size", "2").with("--db-acquire-timeout", "1s").start().await;
    app.pay(json!({"amount": 5, "currency": "EUR"})).await;
    let mut lock = app.db().pool.begin().await.unwrap();
    sqlx::query("LOCK TABLE transactions IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.unwrap();
    let id = "/transactions/0190b0a0-0000-7000-8000-000000000000";
    let answers = join_all((0..12).map(|_| app.get(id).send())).await;
    for answer in answers {
        problem(answer.unwrap(), 503).await;
    }
    assert!(app.metric("db_pool_timeouts_total").await >= 1.0);
    assert_eq!(app.json("/health").await["status"], "ok", "a busy pool is not a dead Postgres");
    lock.rollback().await.unwrap();
    app.eventually("serving again", async |app| app.status(id).await == 404).await;
    app.pay(json!({"amount": 6, "currency": "EUR"})).await;
}

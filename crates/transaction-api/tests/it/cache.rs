use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use serde_json::{Value, json};

use crate::support::{Start, TestApp};

const LIST_QUERIES: &str = r#"db_query_success_total{query="list_transactions"}"#;

async fn x_cache(app: &TestApp, path: &str) -> String {
    let response = app.get(path).send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.headers()["x-cache"].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_misses_are_one_query() {
    for start in [Start::default(), Start::default().without_redis()] {
        let app = Arc::new(start.start().await);
        app.pay(json!({"amount": 1, "currency": "EUR"})).await;
        let answers = join_all((0..100).map(|_| {
            let app = app.clone();
            async move { app.json("/transactions?limit=9").await }
        }))
        .await;
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        assert_eq!(app.metric(LIST_QUERIES).await, 1.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_and_headers_say_what_the_cache_did() {
    let app = TestApp::new().await;
    assert_eq!(x_cache(&app, "/transactions").await, "miss");
    assert_eq!(x_cache(&app, "/transactions").await, "hit");
    assert_eq!(x_cache(&app, "/transactions?limit=50").await, "hit", "the default limit is 50");
    assert_eq!(x_cache(&app, "/transactions?limit=51").await, "miss");
    let stats = app.json("/cache/stats").await;
    assert_eq!((&stats["backend"], &stats["hits"], &stats["misses"]), (&json!("redis"), &json!(2), &json!(2)));
    assert_eq!(stats["hit_ratio"], 0.5);
    assert_eq!(stats["local_pages"], 2);
    let cleared: Value = app.post("/cache/clear").send().await.unwrap().json().await.unwrap();
    assert_eq!(cleared, json!({"local": true, "redis": true}));
    assert_eq!(app.json("/cache/stats").await["local_pages"], 0);
    assert_eq!(x_cache(&app, "/transactions").await, "miss");
    assert_eq!((app.metric("cache_hits_total").await, app.metric("cache_misses_total").await), (2.0, 3.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_shares_redis_and_learns_of_a_payment_in_time() {
    let a = Start::default().with("--cache-local-ttl", "100ms").start().await;
    let b = Start::default().with("--cache-local-ttl", "100ms").start_beside(a.db(), &a.db().name).await;
    a.pay(json!({"amount": 1, "currency": "EUR"})).await;
    // Once both have told Redis that what was there before them is old, and the token has settled.
    a.eventually("a list stored by the one is read by the other", async |a| {
        a.json("/transactions").await;
        tokio::time::sleep(Duration::from_millis(150)).await;
        let before = b.metric(LIST_QUERIES).await;
        x_cache(&b, "/transactions").await == "hit" && b.metric(LIST_QUERIES).await == before
    })
    .await;
    let made = a.pay(json!({"amount": 2, "currency": "EUR"})).await;
    assert_eq!(a.json("/transactions").await["items"][0], made, "at once where it was made");
    tokio::time::sleep(Duration::from_millis(250)).await;
    assert_eq!(b.json("/transactions").await["items"][0], made, "after CACHE_LOCAL_TTL everywhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_has_paid_finds_it_in_the_list_under_load() {
    let app = Arc::new(TestApp::new().await);
    join_all((0..8).map(|n| {
        let app = app.clone();
        async move {
            for round in 0..15 {
                let made = app.pay(json!({"amount": 100 * n + round + 1, "currency": "EUR"})).await;
                let list = app.json("/transactions?limit=200").await;
                let found = list["items"].as_array().unwrap().contains(&made);
                assert!(found, "{made} is not in the list");
            }
        }
    }))
    .await;
}

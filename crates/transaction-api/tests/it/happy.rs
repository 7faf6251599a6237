use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::{Start, TestApp, problem};

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_post_makes_a_random_payment_that_can_be_read_at_once() {
    let app = TestApp::new().await;
    assert_eq!(app.json("/transactions").await["items"], json!([]));
    let response = app.post("/transactions/create").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let made: Value = response.json().await.unwrap();
    assert_eq!(location, format!("/transactions/{}", made["id"].as_str().unwrap()));
    assert_eq!(made["status"], "approved");
    assert_eq!(made["decline_reason"], Value::Null);
    assert!(made["amount"].as_i64().unwrap() > 0, "{made}");
    assert_eq!(app.json(&location).await, made);
    // Both the cached list of before and the filtered one know it.
    assert_eq!(app.json("/transactions").await["items"], json!([made]));
    assert_eq!(app.json("/transactions?status=approved").await["items"], json!([made]));
    assert_eq!(app.json("/transactions?status=declined").await["items"], json!([]));
    assert_eq!(app.metric(r#"transactions_total{outcome="approved"}"#).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_is_stored_as_asked() {
    let app = TestApp::new().await;
    for body in [
        json!({"amount": 1250, "currency": "EUR", "description": "spare drive belts"}),
        json!({"amount": 99_999_999_999_i64, "currency": "JPY"}),
        json!({"amount": 1, "currency": "KWD", "description": null}),
        // SQL in a field is text like any other.
        json!({"amount": 5, "currency": "USD", "description": "'); DROP TABLE transactions; --"}),
        json!({"amount": 5, "currency": "USD", "description": "\u{1f9ff} \u{fc}ber \"quoted\" \\ <b>"}),
    ] {
        let made = app.pay(body.clone()).await;
        let read = app.json(&format!("/transactions/{}", made["id"].as_str().unwrap())).await;
        assert_eq!(read, made);
        for name in ["amount", "currency", "description"] {
            assert_eq!(read[name], body.get(name).cloned().unwrap_or_default(), "{name} of {read}");
        }
    }
    assert_eq!(app.db().count().await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decline_is_a_stored_business_failure_and_no_error() {
    let app = Start::default().with("--gateway-decline-ratio", "1").start().await;
    let response = app.post("/transactions/create").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::CREATED);
    let made: Value = response.json().await.unwrap();
    assert_eq!(made["status"], "declined");
    assert!(made["decline_reason"].is_string(), "{made}");
    assert_eq!(app.json("/transactions?status=declined").await["items"], json!([made]));
    assert_eq!(app.metric(r#"transactions_total{outcome="declined"}"#).await, 1.0);
    assert_eq!(app.metric(r#"transactions_total{outcome="approved"}"#).await, 0.0);
    let metrics = app.get("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(!metrics.contains(r#"status="5"#), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_says_what_was_checked_and_how_long_it_took() {
    let app = TestApp::new().await;
    let health = app.json("/health").await;
    assert_eq!(health["status"], "ok");
    for name in ["postgres", "redis"] {
        assert_eq!(health["checks"][name]["ok"], true, "{health}");
        assert!(health["checks"][name]["seconds"].as_f64().unwrap() > 0.0);
    }
    for name in ["database", "redis", "system"] {
        assert_eq!(app.metric(&format!("{name}_health_check_duration_seconds_count")).await, 1.0, "{name}");
    }
    let alone = Start::default().without_redis().start().await.json("/health").await;
    assert_eq!((&alone["status"], &alone["checks"]["redis"]), (&json!("ok"), &Value::Null));
}

#[tokio::test(flavor = "multi_thread")]
async fn error_is_always_500_and_counted_once() {
    let app = TestApp::new().await;
    for _ in 0..3 {
        let told = problem(app.get("/error").send().await.unwrap(), 500).await;
        assert_eq!(told["instance"], "/error");
    }
    assert_eq!(app.metric(r#"app_exceptions_total{type="settlement"}"#).await, 3.0);
    let requests = r#"http_requests_total{endpoint="/error",method="GET",status="500"}"#;
    assert_eq!(app.metric(requests).await, 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_that_others_rely_on_are_there_from_the_start() {
    let app = TestApp::new().await;
    let text = app.get("/metrics").send().await.unwrap().text().await.unwrap();
    for series in [
        r#"transactions_total{outcome="approved"} 0"#,
        r#"transactions_total{outcome="declined"} 0"#,
        r#"transactions_total{outcome="gateway_error"} 0"#,
        r#"app_exceptions_total{type="settlement"} 0"#,
        r#"db_query_success_total{query="insert_transactions"} 0"#,
        r#"db_query_errors_total{query="list_transactions"} 0"#,
        r#"db_query_duration_seconds_count{query="get_transaction"} 0"#,
        r#"db_pool_connections{state="idle"} "#,
        r#"db_pool_connections{state="in_use"} "#,
        "db_pool_max_connections 16",
        "cache_hits_total 0",
        "cache_misses_total 0",
        "cache_errors_total 0",
        "cache_stale_total 0",
        r#"fault_active{fault="memory_leak"} 0"#,
        "payment_gateway_duration_seconds_count 0",
        "build_info{",
    ] {
        assert!(text.lines().any(|line| line.starts_with(series)), "{series} is not in\n{text}");
    }
    app.eventually("a temperature", async |app| (20.0..110.0).contains(&app.metric("app_temperature_celsius").await))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_payments_at_once_are_all_stored() {
    let app = std::sync::Arc::new(TestApp::new().await);
    let all: Vec<_> = (1..=200)
        .map(|amount| {
            let app = app.clone();
            tokio::spawn(async move { app.pay(json!({"amount": amount, "currency": "EUR"})).await })
        })
        .collect();
    for (amount, made) in (1..=200).zip(all) {
        assert_eq!(made.await.unwrap()["amount"], amount, "each request is answered with its own transaction");
    }
    assert_eq!(app.db().count().await, 200);
    assert_eq!(app.json("/transactions?limit=200").await["items"].as_array().unwrap().len(), 200);
    let rows = app.metric("db_insert_batch_rows_sum").await;
    let statements = app.metric("db_insert_batch_rows_count").await;
    assert_eq!(rows, 200.0);
    assert!(statements < 200.0, "nothing was batched: {statements} statements");
}

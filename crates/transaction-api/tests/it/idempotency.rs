use std::sync::Arc;

use futures::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{TestApp, field, problem};

async fn post(app: &TestApp, key: &str, body: Option<Value>) -> reqwest::Response {
    let request = app.post("/transactions/create").header("idempotency-key", key);
    match body {
        Some(body) => request.json(&body),
        None => request,
    }
    .send()
    .await
    .unwrap()
}

async fn answer(response: reqwest::Response) -> (StatusCode, bool, Value) {
    let replayed = response.headers().get("idempotent-replayed").is_some_and(|v| v == "true");
    (response.status(), replayed, response.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repetition_answers_with_the_first_transaction() {
    let app = TestApp::new().await;
    let body = json!({"amount": 700, "currency": "CHF", "description": "freight"});
    let (status, replayed, first) = answer(post(&app, "k-1", Some(body)).await).await;
    assert_eq!((status, replayed), (StatusCode::CREATED, false));
    // Another spelling of the same request.
    let again = app
        .post("/transactions/create")
        .header("idempotency-key", "k-1")
        .header("content-type", "application/json; charset=utf-8")
        .body(r#"{ "description":"freight" , "currency":"CHF","amount":700 }"#)
        .send()
        .await
        .unwrap();
    assert_eq!(answer(again).await, (StatusCode::CREATED, true, first));
    assert_eq!(app.db().count().await, 1);
    assert_eq!(app.metric(r#"transactions_total{outcome="approved"}"#).await, 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_random_payment_is_drawn_once() {
    let app = TestApp::new().await;
    let (_, _, first) = answer(post(&app, "random", None).await).await;
    assert_eq!(answer(post(&app, "random", None).await).await, (StatusCode::CREATED, true, first));
    assert_eq!(app.db().count().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_request_is_refused() {
    let app = TestApp::new().await;
    post(&app, "k", Some(json!({"amount": 1, "currency": "EUR"}))).await;
    for body in [Some(json!({"amount": 2, "currency": "EUR"})), None] {
        let told = problem(post(&app, "k", body).await, 422).await;
        assert_eq!(field(&told), "idempotency-key");
        assert_eq!(told["type"], "/docs#idempotency-key-reused");
    }
    assert_eq!(app.db().count().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_at_once_make_one_transaction() {
    // With the gateway's wait, so that they really overlap.
    let app = crate::support::Start::default().with("--gateway-latency", "50ms..100ms").start().await;
    let app = Arc::new(app);
    let answers = join_all((0..20).map(|_| {
        let app = app.clone();
        async move { answer(post(&app, "same", Some(json!({"amount": 9, "currency": "EUR"}))).await).await }
    }))
    .await;
    assert_eq!(app.db().count().await, 1);
    assert_eq!(app.metric("payment_gateway_duration_seconds_count").await, 1.0, "the gateway was asked once");
    assert_eq!(answers.iter().filter(|(_, replayed, _)| !replayed).count(), 1);
    for (status, _, body) in &answers {
        assert_eq!((status, body), (&StatusCode::CREATED, &answers[0].2));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_gateway_gives_the_key_back() {
    let app = TestApp::new().await;
    app.faults(Method::PUT).json(&json!({"fault": "gateway_error"})).send().await.unwrap();
    let told = problem(post(&app, "k", None).await, 500).await;
    assert_eq!(told["type"], "/docs#gateway-error");
    assert_eq!(app.db().count().await, 0);
    assert_eq!(app.metric(r#"transactions_total{outcome="gateway_error"}"#).await, 1.0);
    assert_eq!(app.metric(r#"app_exceptions_total{type="gateway"}"#).await, 1.0);
    app.faults(Method::DELETE).send().await.unwrap();
    let (status, replayed, _) = answer(post(&app, "k", None).await).await;
    assert_eq!((status, replayed), (StatusCode::CREATED, false));
}

/// Leaves a key as a process that died would: claimed, without a transaction.
async fn orphan(app: &TestApp, key: &str, lease: &str) -> uuid::Uuid {
    post(app, key, None).await;
    sqlx::query_scalar(
        "WITH k AS (UPDATE idempotency_keys SET locked_until = clock_timestamp() + $2::text::interval WHERE key = $1
                    RETURNING transaction_id)
         DELETE FROM transactions USING k WHERE id = k.transaction_id RETURNING id",
    )
    .bind(key)
    .bind(lease)
    .fetch_one(&app.db().pool)
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_owner_died_is_taken_over_with_its_transaction_id() {
    let app = TestApp::new().await;
    let id = orphan(&app, "k", "-1 second").await;
    let (status, replayed, body) = answer(post(&app, "k", None).await).await;
    assert_eq!((status, replayed), (StatusCode::CREATED, false));
    assert_eq!(body["id"], id.to_string());
    assert_eq!(app.db().count().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_elsewhere_is_a_conflict() {
    let app = TestApp::new().await;
    orphan(&app, "k", "60 seconds").await;
    let told = problem(post(&app, "k", None).await, 409).await;
    assert_eq!(told["type"], "/docs#request-in-progress");
    assert_eq!(app.db().count().await, 0);
}

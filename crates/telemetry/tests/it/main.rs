//! The HTTP layer as a client of a service sees it, over a real socket.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use axum::{
    Router,
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;
use telemetry::{
    Runtime, client, http,
    metrics::HttpMetrics,
    problem::{Json, Path, Problem, Query},
};
use tokio::net::TcpListener;

#[derive(Deserialize)]
struct Page {
    limit: Option<u8>,
}

#[derive(Deserialize)]
struct Order {
    amount: u32,
}

async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(300)).await;
    "done"
}

struct App {
    url: String,
    rt: Runtime,
    server: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn start(grace: Duration) -> App {
    let rt = Runtime::for_test();
    let metrics = HttpMetrics::new(&rt.registry).unwrap();
    let router = Router::new()
        .route("/items/{id}", get(|Path(id): Path<u32>| async move { id.to_string() }))
        .route("/list", get(|Query(page): Query<Page>| async move { page.limit.unwrap_or(10).to_string() }))
        .route("/orders", post(|Json(order): Json<Order>| async move { order.amount.to_string() }))
        .route("/fail", get(|| async { Problem::internal("secret cause") }))
        .route("/panic", get(|| async { panic!("secret panic") as &'static str }))
        .route("/slow", get(slow));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = tokio::spawn(http::serve(listener, http::instrument(router, metrics), rt.shutdown.clone(), grace));
    App { url, rt, server }
}

impl App {
    async fn get(&self, path: &str) -> (u16, String, String) {
        let client = client::new(Duration::from_secs(5)).unwrap();
        let response = client.get(format!("{}{path}", self.url)).send().await.unwrap();
        let content_type = response.headers().get("content-type").map_or("", |v| v.to_str().unwrap()).to_owned();
        (response.status().as_u16(), content_type, response.text().await.unwrap())
    }

    fn metrics(&self) -> String {
        String::from_utf8(self.rt.registry.encode(None).1).unwrap()
    }
}

#[tokio::test]
async fn errors_are_problems_that_name_the_field_and_hide_the_cause() {
    let app = start(Duration::from_secs(1)).await;
    for (path, status, says) in [
        ("/items/x", 400, "\"field\":\"id\""),
        ("/list?limit=900", 400, "\"field\":\"limit\""),
        ("/nowhere", 404, "no such resource"),
        ("/orders", 405, "GET is not possible here"),
        ("/fail", 500, "Internal server error"),
        ("/panic", 500, "Internal server error"),
    ] {
        let (got, content_type, body) = app.get(path).await;
        assert_eq!((got, content_type.as_str()), (status, "application/problem+json"), "{path}: {body}");
        assert!(body.contains(says), "{path}: {body}");
        assert!(!body.contains("secret"), "{path} shows internals: {body}");
        let instance = path.split('?').next().unwrap();
        assert!(body.contains(&format!("\"instance\":\"{instance}\"")), "{path}: {body}");
    }
}

#[tokio::test]
async fn requests_are_counted_once_by_route_template() {
    let app = start(Duration::from_secs(1)).await;
    for path in ["/items/1", "/items/2", "/fail", "/panic", "/nowhere/1", "/nowhere/2"] {
        app.get(path).await;
    }
    let metrics = app.metrics();
    for line in [
        r#"http_requests_total{endpoint="/items/{id}",method="GET",status="200"} 2"#,
        r#"http_requests_total{endpoint="/fail",method="GET",status="500"} 1"#,
        r#"http_requests_total{endpoint="/panic",method="GET",status="500"} 1"#,
        r#"http_requests_total{endpoint="unmatched",method="GET",status="404"} 2"#,
        r#"http_request_duration_seconds_count{endpoint="/items/{id}",method="GET"} 2"#,
        "http_requests_in_flight 0",
    ] {
        assert!(metrics.lines().any(|l| l == line), "missing {line}\n{metrics}");
    }
}

#[tokio::test]
async fn bodies_are_bounded_and_typed() {
    let app = start(Duration::from_secs(1)).await;
    let client = client::new(Duration::from_secs(5)).unwrap();
    let post = |body: String, content_type: &'static str| {
        let request = client
            .post(format!("{}/orders", app.url))
            .header(axum::http::header::CONTENT_TYPE, content_type)
            .body(body);
        async move { request.send().await.unwrap().status() }
    };
    assert_eq!(post(r#"{"amount":7}"#.into(), "application/json").await, StatusCode::OK);
    assert_eq!(post(r#"{"amount":7}"#.into(), "text/plain").await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(post(r#"{"amount":-7}"#.into(), "application/json").await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(post("{".into(), "application/json").await, StatusCode::BAD_REQUEST);
    let huge = format!("{{\"amount\":7,\"pad\":\"{}\"}}", "x".repeat(http::DEFAULT_BODY_LIMIT));
    assert_eq!(post(huge, "application/json").await, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn sane_request_ids_are_kept_and_others_replaced() {
    let app = start(Duration::from_secs(1)).await;
    let client = client::new(Duration::from_secs(5)).unwrap();
    for (sent, kept) in [("order-17.a_b", true), ("has space", false), (&"x".repeat(65), false)] {
        let response = client.get(format!("{}/items/1", app.url)).header(http::REQUEST_ID, sent).send().await.unwrap();
        let got = response.headers()[http::REQUEST_ID].to_str().unwrap();
        assert_eq!(got == sent, kept, "sent {sent:?}, got {got:?}");
        assert!(!got.is_empty());
    }
}

#[tokio::test]
async fn shutdown_lets_requests_finish_within_the_grace_period() {
    let app = start(Duration::from_secs(5)).await;
    let url = app.url.clone();
    let client = client::new(Duration::from_secs(5)).unwrap();
    let request = tokio::spawn(async move { client.get(format!("{url}/slow")).send().await });
    while !app.metrics().contains("http_requests_in_flight 1") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    app.rt.shutdown.cancel();
    assert_eq!(request.await.unwrap().unwrap().text().await.unwrap(), "done");
    app.server.await.unwrap().unwrap();
}

#[tokio::test]
async fn readiness_names_the_dependency_and_turns_off_while_draining() {
    let rt = Runtime::for_test();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(telemetry::admin::serve(listener, rt.clone()));
    let client = client::new(Duration::from_secs(5)).unwrap();
    let ready = || async { client.get(format!("{url}/readyz")).send().await.unwrap() };
    assert_eq!(ready().await.status(), 200);
    rt.readiness.register("postgres", || async { Err("connection refused".to_owned()) });
    let answer = ready().await;
    assert_eq!(answer.status(), 503);
    let report: serde_json::Value = answer.json().await.unwrap();
    assert_eq!(report["checks"][0]["name"], "postgres");
    assert_eq!(report["checks"][0]["error"], "connection refused");
    assert_eq!(client.get(format!("{url}/livez")).send().await.unwrap().status(), 200);
    let metrics = client.get(format!("{url}/metrics")).send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("build_info{service=\"test\",version=\"0\"} 1"));
}

//! Intake, API and page over HTTP.

use serde_json::json;

use crate::TestApp;

#[tokio::test]
async fn what_comes_in_is_listed_counted_and_can_be_forgotten() {
    let app = TestApp::start(&[]).await;
    assert_eq!(app.post("/slack", r##"{"channel": "#ops", "text": "one"}"##).await, (200, "ok".to_owned()));
    let (status, body) = app.post("/webhook", r#"{"title": "two"}"#).await;
    assert_eq!((status, body.as_str()), (200, r#"{"id":2}"#));

    let (_, all) = app.get("/v1/notifications").await;
    assert_eq!(all["total"], 2);
    assert_eq!(all["notifications"][0]["title"], "two");
    assert_eq!(all["notifications"][1]["to"], json!(["#ops"]));
    let (_, slack) = app.get("/v1/notifications?channel=slack&limit=1").await;
    assert_eq!((slack["total"].clone(), slack["notifications"][0]["id"].clone()), (json!(1), json!(1)));
    assert_eq!(app.get("/v1/notifications/2").await.1["channel"], "webhook");
    assert_eq!(app.metric(r#"notifications_received_total{channel="slack"}"#), "1");
    assert_eq!(app.metric(r#"notifications_received_total{channel="email"}"#), "0");
    assert_eq!(app.metric("notifications_kept"), "2");

    let page = reqwest::get(app.url("/")).await.unwrap();
    assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
    let page = page.text().await.unwrap();
    assert!(page.contains("<h2>two</h2>") && page.contains("2 kept"));
    for asset in ["style.css", "app.js"] {
        assert!(page.contains(&format!(r#""assets/{asset}""#)));
        assert_eq!(reqwest::get(app.url(&format!("/assets/{asset}"))).await.unwrap().status(), 200);
    }

    let deleted = reqwest::Client::new().delete(app.url("/v1/notifications")).send().await.unwrap();
    assert_eq!(deleted.text().await.unwrap(), r#"{"deleted":2}"#);
    assert_eq!(app.get("/v1/notifications").await.1["total"], 0);
    assert_eq!(app.metric("notifications_kept"), "0");
}

#[tokio::test]
async fn bad_input_is_refused_and_named() {
    let app = TestApp::start(&["--max-body", "2000"]).await;
    assert_eq!(app.post("/slack", "{").await, (400, "invalid_payload".to_owned()));
    assert_eq!(app.post("/slack", r#"{"text": ""}"#).await, (400, "no_text".to_owned()));
    let (status, body) = app.post("/webhook", "[1]").await;
    assert!(status == 400 && body.contains("not a JSON object"), "{body}");
    assert_eq!(app.post("/webhook", "x".repeat(3000)).await.0, 413);
    for (path, field) in [
        ("/v1/notifications?limit=0", "limit"),
        ("/v1/notifications?limit=many", "limit"),
        ("/v1/notifications?channel=pigeon", "channel"),
        ("/v1/notifications?page=2", "page"),
    ] {
        let (status, problem) = app.get(path).await;
        assert_eq!((status, problem["errors"][0]["field"].clone()), (400, json!(field)), "{path}: {problem}");
    }
    assert_eq!(app.get("/v1/notifications/7").await.0, 404);
    assert_eq!(app.get("/nowhere").await.0, 404);
    assert_eq!(app.get("/slack").await.0, 405);
    assert_eq!(app.metric(r#"notifications_refused_total{channel="slack"}"#), "2");
    assert_eq!(app.get("/v1/notifications").await.1["total"], 0);
}

#[tokio::test]
async fn a_heartbeat_pushes_nothing_out() {
    let app = TestApp::start(&["--keep", "2"]).await;
    app.post("/slack", r#"{"text": "alert"}"#).await;
    for _ in 0..5 {
        assert_eq!(app.post("/webhook/dead-man", r#"{"alerts": []}"#).await.0, 200);
    }
    let (_, all) = app.get("/v1/notifications").await;
    assert_eq!(all["total"], 2);
    assert_eq!(all["notifications"][1]["title"], "alert");
}

use reqwest::Method;

use crate::support::{TestApp, field, problem};

/// Posts a body; expects this status and field, and that nothing is written.
async fn check(app: &TestApp, body: &str, status: u16, named: &str) {
    let request = app.post("/transactions/create").header("content-type", "application/json").body(body.to_owned());
    let told = problem(request.send().await.unwrap(), status).await;
    assert_eq!(field(&told), named, "{body}: {told}");
    assert_eq!(told["instance"], "/transactions/create");
    assert_eq!(app.db().count().await, 0, "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_bodies_are_refused_by_the_name_of_the_field() {
    let app = TestApp::new().await;
    let long = "x".repeat(201);
    for (body, status, named) in [
        // No JSON.
        ("{", 400, ""),
        ("hello", 400, ""),
        (r#"{"amount": 1, "currency": "EUR"} trailing"#, 400, ""),
        (r#"{"amount": 01, "currency": "EUR"}"#, 400, ""),
        (" ", 400, ""),
        ("\u{0}", 400, ""),
        // JSON of another shape.
        ("[]", 422, "body"),
        ("null", 422, "body"),
        ("42", 422, "body"),
        ("{}", 422, "amount"),
        (r#"{"amount": 1}"#, 422, "currency"),
        // Wrong types.
        (r#"{"amount": "1", "currency": "EUR"}"#, 422, "amount"),
        (r#"{"amount": 1.5, "currency": "EUR"}"#, 422, "amount"),
        (r#"{"amount": 1e2, "currency": "EUR"}"#, 422, "amount"),
        (r#"{"amount": null, "currency": "EUR"}"#, 422, "amount"),
        (r#"{"amount": {"$gt": 0}, "currency": "EUR"}"#, 422, "amount"),
        (r#"{"amount": 1, "currency": 978}"#, 422, "currency"),
        (r#"{"amount": 1, "currency": "EUR", "description": 5}"#, 422, "description"),
        // Negative and absurd amounts.
        (r#"{"amount": 0, "currency": "EUR"}"#, 422, "amount"),
        (r#"{"amount": -1, "currency": "EUR"}"#, 422, "amount"),
        (r#"{"amount": 100000000000, "currency": "EUR"}"#, 422, "amount"),
        (r#"{"amount": 18446744073709551615, "currency": "EUR"}"#, 422, "amount"),
        (r#"{"amount": 99999999999999999999999, "currency": "EUR"}"#, 422, "amount"),
        // Values that are none.
        (r#"{"amount": 1, "currency": "eur"}"#, 422, "currency"),
        (r#"{"amount": 1, "currency": "XYZ"}"#, 422, "currency"),
        (r#"{"amount": 1, "currency": "EUR'; DROP TABLE transactions; --"}"#, 422, "currency"),
        (r#"{"amount": 1, "currency": "EUR", "description": ""}"#, 422, "description"),
        (r#"{"amount": 1, "currency": "EUR", "description": "a\u0000b"}"#, 422, "description"),
        (&format!(r#"{{"amount": 1, "currency": "EUR", "description": "{long}"}}"#), 422, "description"),
        // Unknown and repeated fields.
        (r#"{"amount": 1, "currency": "EUR", "status": "approved"}"#, 422, "status"),
        (r#"{"amount": 1, "amount": 2, "currency": "EUR"}"#, 422, "amount"),
    ] {
        check(&app, body, status, named).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_huge_body_is_refused_unread() {
    let app = TestApp::new().await;
    let huge = format!(r#"{{"amount": 1, "currency": "EUR", "description": "{}"}}"#, "x".repeat(10 << 20));
    let request = app.post("/transactions/create").header("content-type", "application/json").body(huge);
    // The answer may come before all is sent; then the connection breaks off.
    if let Ok(response) = request.send().await {
        problem(response, 413).await;
    }
    assert_eq!(app.db().count().await, 0);
    assert_eq!(app.status("/health").await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deeply_nested_body_does_no_harm() {
    let app = TestApp::new().await;
    let nested = "[".repeat(30_000);
    let request = app.post("/transactions/create").header("content-type", "application/json").body(nested);
    let status = request.send().await.unwrap().status();
    assert!(status.is_client_error(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_another_kind_is_refused() {
    let app = TestApp::new().await;
    for kind in ["application/x-www-form-urlencoded", "text/plain", "application/json5"] {
        let request =
            app.post("/transactions/create").header("content-type", kind).body(r#"{"amount":1,"currency":"EUR"}"#);
        problem(request.send().await.unwrap(), 415).await;
    }
    assert_eq!(app.db().count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_ids_and_parameters_are_refused_by_name() {
    let app = TestApp::new().await;
    for (path, status, named) in [
        ("/transactions/0190b0a0-0000-7000-8000-000000000000", 404, ""),
        ("/transactions/1", 400, "id"),
        ("/transactions/%27%20OR%201%3D1%20--", 400, "id"),
        ("/transactions/%FF", 400, ""),
        ("/transactions?limit=0", 400, "limit"),
        ("/transactions?limit=201", 400, "limit"),
        ("/transactions?limit=-1", 400, "limit"),
        ("/transactions?limit=ten", 400, "limit"),
        ("/transactions?limit=99999999999999999999", 400, "limit"),
        ("/transactions?limit=", 400, "limit"),
        ("/transactions?status=lost", 400, "status"),
        ("/transactions?status=approved%27%3B--", 400, "status"),
        ("/transactions?cursor=garbage", 400, "cursor"),
        ("/transactions?cursor=", 400, "cursor"),
        ("/transactions?page=2", 400, "page"),
        ("/nothing/here", 404, ""),
    ] {
        let told = problem(app.get(path).send().await.unwrap(), status).await;
        assert_eq!(field(&told), named, "{path}: {told}");
    }
    problem(app.request(Method::DELETE, "/transactions").send().await.unwrap(), 405).await;
    problem(app.get("/transactions/create").send().await.unwrap(), 405).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_keys_are_refused() {
    let app = TestApp::new().await;
    for key in ["with space", &"k".repeat(256), ""] {
        let told =
            problem(app.post("/transactions/create").header("idempotency-key", key).send().await.unwrap(), 400).await;
        assert_eq!(field(&told), "idempotency-key");
    }
    assert_eq!(app.db().count().await, 0);
}

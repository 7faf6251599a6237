use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use reqwest::Method;
use serde_json::{Value, json};
use transaction_api::faults::Hooks;

use crate::support::{Start, TOKEN, TestApp, field, problem};

async fn put(app: &TestApp, body: Value) {
    let response = app.faults(Method::PUT).json(&body).send().await.unwrap();
    assert_eq!(response.status(), 200, "{}", response.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_token_nobody_gets_in() {
    let app = TestApp::new().await;
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        let request = || app.request(method.clone(), "/faults").json(&json!({"fault": "hang"}));
        let longer = format!("{TOKEN}x");
        for token in [None, Some("wrong"), Some(""), Some(&TOKEN[1..]), Some(&longer)] {
            let request = match token {
                Some(token) => request().bearer_auth(token),
                None => request(),
            };
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            problem(response, 401).await;
        }
        problem(request().basic_auth("user", Some(TOKEN)).send().await.unwrap(), 401).await;
    }
    assert_eq!(app.metric(r#"fault_active{fault="hang"}"#).await, 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_faults_are_refused_by_the_name_of_the_field() {
    let app = TestApp::new().await;
    for (body, named) in [
        (json!({"fault": "error_rate", "ratio": 7}), "ratio"),
        (json!({"fault": "error_rate", "ttl": "1h"}), "ttl"),
        (json!({"fault": "nothing"}), "fault"),
        (json!({"fault": "hang", "until": "late"}), "until"),
        (json!({}), "fault"),
    ] {
        let told = problem(app.faults(Method::PUT).json(&body).send().await.unwrap(), 422).await;
        assert_eq!(field(&told), named, "{told}");
    }
    problem(app.faults(Method::DELETE).query(&[("fault", "nothing")]).send().await.unwrap(), 400).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_rate_fails_requests_until_its_time_is_over() {
    let clock = Arc::new(Mutex::new(Instant::now()));
    let hooks = Hooks {
        now: Arc::new({
            let clock = clock.clone();
            move || *clock.lock().unwrap()
        }),
        ..Hooks::default()
    };
    let app = Start::default().hooks(hooks).start().await;
    put(&app, json!({"fault": "error_rate", "ratio": 1, "ttl": "5m"})).await;
    let list: Value = app.faults(Method::GET).send().await.unwrap().json().await.unwrap();
    assert_eq!(list["active"][0]["fault"], "error_rate");
    assert_eq!(list["active"][0]["expires_in_seconds"], 300.0);
    for path in ["/transactions", "/health", "/cache/stats"] {
        problem(app.get(path).send().await.unwrap(), 500).await;
    }
    problem(app.post("/transactions/create").send().await.unwrap(), 500).await;
    assert_eq!(app.db().count().await, 0);
    assert_eq!(app.metric(r#"app_exceptions_total{type="injected"}"#).await, 4.0);
    assert_eq!(app.metric(r#"fault_active{fault="error_rate"}"#).await, 1.0);
    *clock.lock().unwrap() += Duration::from_secs(299);
    assert_eq!(app.status("/transactions").await, 500);
    *clock.lock().unwrap() += Duration::from_secs(1);
    assert_eq!(app.status("/transactions").await, 200);
    app.eventually("the metric says so", async |app| app.metric(r#"fault_active{fault="error_rate"}"#).await == 0.0)
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn latency_delays_and_a_hang_holds_until_removed() {
    let app = TestApp::new().await;
    put(&app, json!({"fault": "latency", "delay": "300ms"})).await;
    let started = Instant::now();
    assert_eq!(app.status("/health").await, 200);
    assert!(started.elapsed() >= Duration::from_millis(300));
    app.faults(Method::DELETE).query(&[("fault", "latency")]).send().await.unwrap();

    put(&app, json!({"fault": "hang"})).await;
    let hangs = app.get("/transactions").timeout(Duration::from_millis(500)).send().await;
    assert!(hangs.unwrap_err().is_timeout());
    let waits = tokio::spawn(app.get("/transactions").send());
    app.eventually("it hangs", async |app| app.metric("http_requests_in_flight").await >= 2.0).await;
    // Deaf to its clients is not ready, whatever else works.
    let report = app.rt.readiness.check().await;
    let deaf: Vec<_> = report.checks.iter().filter(|check| !check.ok).map(|check| check.name).collect();
    assert_eq!((report.ready, deaf), (false, vec!["listener"]));
    let left: Value = app.faults(Method::DELETE).send().await.unwrap().json().await.unwrap();
    assert!(app.rt.readiness.check().await.ready);
    assert_eq!(left["active"], json!([]));
    assert_eq!(waits.await.unwrap().unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leak_takes_memory_and_a_crash_ends_the_process() {
    let crashes = Arc::new(AtomicUsize::new(0));
    let hooks = Hooks {
        // As if the process held nothing but the leak.
        resident: Arc::new(|| 0),
        crash: Arc::new({
            let crashes = crashes.clone();
            move || {
                crashes.fetch_add(1, Ordering::Relaxed);
            }
        }),
        ..Hooks::default()
    };
    let app = Start::default().hooks(hooks).start().await;
    put(&app, json!({"fault": "memory_leak", "mib_per_second": 64, "max_mib": 8})).await;
    app.eventually("8 MiB are taken", async |app| {
        let list: Value = app.faults(Method::GET).send().await.unwrap().json().await.unwrap();
        list["leaked_bytes"] == 8 << 20
    })
    .await;
    let left: Value = app.faults(Method::DELETE).send().await.unwrap().json().await.unwrap();
    assert_eq!(left["leaked_bytes"], 0);
    put(&app, json!({"fault": "crash"})).await;
    app.eventually("the crash", async |_| crashes.load(Ordering::Relaxed) > 0).await;
}

//! The API: what it shows, what it refuses, what faults do.

use serde_json::json;

use crate::support::{App, TOKEN, folder_config};

const GAPS: &str =
    r#"machine_reading_gaps_total{line="line-1",machine_id="machine-002",reason="sensor_silent",site="site-1"}"#;

#[tokio::test]
async fn the_fleet_is_shown_in_json_and_in_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start(folder_config(dir.path(), &["--machines", "7"])).await;
    app.until(r#"machine_readings_total{line="line-2",machine_id="machine-007",site="site-1"}"#, |n| n >= 3.0).await;
    let (status, machines) = app.get("/v1/machines").await;
    assert_eq!((status, machines.as_array().unwrap().len()), (200, 7));
    let (status, one) = app.get("/v1/machines/machine-003").await;
    assert_eq!((status, &one["line"], &one["status"]), (200, &json!("line-1"), &json!(1)));
    assert_eq!(app.get("/v1/machines/machine-999").await.0, 404);
    let (_, fleet) = app.get("/v1/fleet").await;
    assert_eq!((&fleet["machines"], &fleet["up"]), (&json!(7), &json!(7)));
    let (status, health) = app.get("/health").await;
    assert_eq!((status, &health["status"]), (200, &json!("ok")));
    let (_, openapi) = app.get("/openapi.json").await;
    for path in ["/health", "/v1/machines", "/v1/machines/{id}/faults", "/v1/fleet/faults"] {
        assert!(openapi["paths"][path].is_object(), "{path}");
    }
    let text = app.metrics().await;
    for name in [
        "machine_temperature{",
        "machine_status{",
        "esg_energy_kwh_total{",
        "machine_error_codes_total{",
        "build_info{",
        "http_requests_total{",
        "lake_pending_readings ",
    ] {
        assert!(text.lines().any(|l| l.starts_with(name)), "{name}");
    }
    app.stop().await;
}

#[tokio::test]
async fn faults_need_the_token_and_a_body_that_makes_sense() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start(folder_config(dir.path(), &["--operator-token", TOKEN])).await;
    let path = "/v1/machines/machine-001/faults";
    for token in [None, Some("wrong"), Some("")] {
        assert_eq!(app.post(path, token, r#"{"kind":"overheat"}"#).await.0, 401, "{token:?}");
    }
    assert_eq!(app.post("/v1/machines/x'--/faults", Some(TOKEN), r#"{"kind":"overheat"}"#).await.0, 404);
    for (body, status, field) in [
        (r#"{"kind":"explode"}"#, 422, "kind"),
        (r#"{}"#, 422, "kind"),
        (r#"{"kind":"overheat","severity":0}"#, 422, "severity"),
        (r#"{"kind":"overheat","severity":1e308}"#, 422, "severity"),
        (r#"{"kind":"overheat","ttl":"300"}"#, 422, "ttl"),
        (r#"{"kind":"overheat","ttl":"2h"}"#, 422, "ttl"),
        (r#"{"kind":"overheat","offset":3}"#, 422, "offset"),
        (r#"{"kind":"sensor_drift"}"#, 422, "offset"),
        (r#"{"kind":"sensor_drift","feature":"temperature","offset":1000}"#, 422, "offset"),
        (r#"{"kind":"overheat","color":"red"}"#, 422, "color"),
    ] {
        let (got, problem) = app.post(path, Some(TOKEN), body).await;
        assert_eq!((got, &problem["errors"][0]["field"]), (status, &json!(field)), "{body}: {problem}");
    }
    assert_eq!(app.post(path, Some(TOKEN), "{").await.0, 400);
    assert_eq!(app.get("/v1/fleet").await.1["faults"], json!([]), "nothing was switched");
    app.stop().await;

    let closed = App::start(folder_config(dir.path(), &[])).await;
    assert_eq!(closed.post(path, Some(TOKEN), r#"{"kind":"overheat"}"#).await.0, 403);
    closed.stop().await;
}

#[tokio::test]
async fn a_sensor_gap_is_counted_shown_and_ends_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start(folder_config(dir.path(), &["--operator-token", TOKEN])).await;
    let temperature = r#"machine_temperature{line="line-1",machine_id="machine-002",site="site-1"}"#;
    app.until(temperature, |t| t > 0.0).await;
    let body = r#"{"kind":"sensor_gap","ttl":"1s"}"#;
    let (status, fault) = app.post("/v1/machines/machine-002/faults", Some(TOKEN), body).await;
    assert_eq!((status, &fault["machine_id"]), (201, &json!("machine-002")));
    app.until(GAPS, |n| n == 1.0).await;
    assert_eq!(app.metric(temperature).await, None, "a gap looks like one");
    assert_eq!(app.get("/v1/machines/machine-002").await.1["open_gap"], "sensor_silent");
    app.until(temperature, |t| t > 0.0).await;
    let failures = r#"esg_governance_failures_total{line="line-1",machine_id="machine-002",site="site-1"}"#;
    // A machine that is short of time may have paused the process too: that counts as well.
    assert!(app.metric(failures).await.unwrap() >= 1.0);
    assert_eq!(app.metric(GAPS).await, Some(1.0));
    app.stop().await;
}

#[tokio::test]
async fn drift_on_the_whole_fleet_is_switched_and_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start(folder_config(dir.path(), &["--operator-token", TOKEN])).await;
    let body = r#"{"kind":"sensor_drift","feature":"vibration","offset":20,"ttl":"1m"}"#;
    assert_eq!(app.post("/v1/fleet/faults", Some(TOKEN), body).await.0, 201);
    let vibration = r#"machine_vibration_mm_per_second{line="line-1",machine_id="machine-005",site="site-1"}"#;
    app.until(vibration, |v| v > 20.0).await;
    assert_eq!(app.metric(r#"fault_active{fault="sensor_drift"}"#).await, Some(1.0));
    let cleared = app.client.delete(format!("{}/v1/fleet/faults", app.url)).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(cleared.json::<serde_json::Value>().await.unwrap()["cleared"], 1);
    app.until(vibration, |v| v < 10.0).await;
    app.stop().await;
}

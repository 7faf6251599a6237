//! Machines come, go, and are real; the load is reduced; readings are posted.

use serde_json::{Value, json};

use crate::support::{App, TOKEN, all_readings, folder_config, open};

async fn delete(app: &App, path: &str, token: &str) -> (u16, String) {
    let response = app.client.delete(format!("{}{path}", app.url)).bearer_auth(token).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

fn reading(seq: u64, energy: i64) -> Value {
    json!({
        "machine_id": "press-7", "seq": seq, "temperature": 55.5, "load": 0.5, "vibration": 1.1,
        "power_watts": 7_000, "energy_millijoules_total": energy,
    })
}

const PRESS: &str = r#"{line="presses",machine_id="press-7",site="hall-2"}"#;

#[tokio::test]
async fn simulated_machines_come_and_go_with_their_metrics() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start(folder_config(dir.path(), &["--operator-token", TOKEN])).await;
    for token in [None, Some("wrong")] {
        assert_eq!(app.post("/v1/machines", token, r#"{"count":1}"#).await.0, 401);
    }
    assert_eq!(delete(&app, "/v1/machines/machine-001", "wrong").await.0, 401);
    let (status, added) = app.post("/v1/machines", Some(TOKEN), r#"{"count":2}"#).await;
    assert_eq!((status, added), (201, json!({"machine_ids": ["machine-006", "machine-007"]})));
    let seventh = r#"machine_temperature{line="line-2",machine_id="machine-007",site="site-1"}"#;
    app.until(seventh, |t| t > 0.0).await;
    assert_eq!(delete(&app, "/v1/machines/machine-007", TOKEN).await.0, 204);
    assert!(!app.metrics().await.contains("machine-007"), "nothing is left of it");
    assert_eq!(delete(&app, "/v1/machines/machine-007", TOKEN).await.0, 404);
    for (body, field) in [
        (r#"{}"#, "count"),
        (r#"{"count":0}"#, "count"),
        (r#"{"count":100000}"#, "count"),
        (r#"{"count":49996}"#, "count"),
        (r#"{"count":1,"line":"x"}"#, "line"),
        (r#"{"count":1,"machine_id":"x"}"#, "count"),
        (r#"{"machine_id":"x"}"#, "line"),
        (r#"{"machine_id":"a\nb","line":"l","site":"s"}"#, "machine_id"),
        (r#"{"machine_id":"x","line":"l","site":"s","period":"2h"}"#, "period"),
    ] {
        let (status, problem) = app.post("/v1/machines", Some(TOKEN), body).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{body}: {problem}");
    }
    app.stop().await;
}

#[tokio::test]
async fn a_reduced_load_is_obeyed_until_it_is_lifted() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start(folder_config(dir.path(), &["--operator-token", TOKEN])).await;
    let overload = r#"{"kind":"overload","ttl":"1m"}"#;
    assert_eq!(app.post("/v1/machines/machine-002/faults", Some(TOKEN), overload).await.0, 201);
    let load = r#"machine_load_ratio{line="line-1",machine_id="machine-002",site="site-1"}"#;
    let path = "/v1/machines/machine-002/load";
    assert_eq!(app.post(path, None, r#"{"limit":0.1}"#).await.0, 401);
    for body in [r#"{"limit":2}"#, r#"{"limit":-0.1}"#, r#"{"limit":0.1,"ttl":"0s"}"#, "{}"] {
        assert_eq!(app.post(path, Some(TOKEN), body).await.0, 422, "{body}");
    }
    assert_eq!(app.post("/v1/machines/nobody/load", Some(TOKEN), r#"{"limit":0.1}"#).await.0, 404);
    let (status, relief) = app.post("/v1/fleet/relief", Some(TOKEN), r#"{"what":"MachineOverheatPredicted"}"#).await;
    assert_eq!((status, &relief["machine_ids"]), (200, &json!([])), "none is going to overheat");
    assert_eq!(app.post("/v1/fleet/relief", None, "{}").await.0, 401);
    assert_eq!(app.post("/v1/fleet/relief", Some(TOKEN), r#"{"limit":9}"#).await.0, 422);
    let before = app.until(load, |l| l > 0.3).await;
    let (status, order) = app.post(path, Some(TOKEN), r#"{"limit":0.1,"ttl":"1h"}"#).await;
    assert_eq!((status, &order["limit"]), (200, &json!(0.1)));
    app.until(load, |l| l < before - 0.02).await;
    assert_eq!(app.get("/v1/machines/machine-002").await.1["load_limit"], 0.1);
    assert_eq!(delete(&app, path, TOKEN).await.0, 200);
    assert_eq!(app.get("/v1/machines/machine-002").await.1["load_limit"], Value::Null);
    app.stop().await;
}

#[tokio::test]
async fn a_real_machine_posts_and_its_readings_reach_metrics_and_lake() {
    let dir = tempfile::tempdir().unwrap();
    let config = folder_config(dir.path(), &["--operator-token", TOKEN]);
    let app = App::start(config.clone()).await;
    let post = async |body: Value| app.post("/v1/readings", Some(TOKEN), &body.to_string()).await;
    let (status, problem) = post(json!([reading(1, 100)])).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!("[0].machine_id")), "unknown");
    let press = r#"{"machine_id":"press-7","line":"presses","site":"hall-2","period":"1h"}"#;
    assert_eq!(app.post("/v1/machines", Some(TOKEN), press).await.0, 201);
    assert_eq!(app.post("/v1/machines", Some(TOKEN), press).await.0, 409);
    assert_eq!(app.post("/v1/machines/press-7/faults", Some(TOKEN), r#"{"kind":"overheat"}"#).await.0, 409);
    assert_eq!(post(json!([reading(1, 3_600_000_000)])).await.0, 202);
    assert_eq!(app.metric(&format!("machine_temperature{PRESS}")).await, Some(55.5));
    assert_eq!(app.metric(&format!("esg_energy_kwh_total{PRESS}")).await, Some(1.0));
    assert_eq!(app.metric(&format!("machine_oee_ratio{PRESS}")).await, None, "nothing is made up");

    let late = json!({"time": "2001-01-01T00:00:00Z"});
    let ahead = json!({"time": "2999-01-01T00:00:00Z"});
    for (change, field) in [
        (json!({"seq": 1}), "[1].seq"),
        (json!({"energy_millijoules_total": -1}), "[1].energy_millijoules_total"),
        (json!({"energy_millijoules_total": 5}), "[1].energy_millijoules_total"),
        (json!({"energy_millijoules_total": 1.5}), "[1].energy_millijoules_total"),
        (json!({"temperature": "hot"}), "[1].temperature"),
        (json!({"temperature": null}), "[1].temperature"),
        (json!({"load": 7}), "[1].load"),
        (json!({"status": 3}), "[1].status"),
        (late, "[1].time"),
        (ahead, "[1].time"),
        (json!({"time": "today"}), "[1].time"),
        (json!({"machine_id": "machine-001"}), "[1].machine_id"),
    ] {
        let mut bad = reading(3, 3_700_000_000);
        bad.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (status, problem) = post(json!([reading(2, 3_650_000_000i64), bad])).await;
        assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)), "{change}: {problem}");
    }
    assert_eq!(app.post("/v1/readings", Some(TOKEN), r#"[{"temperature":NaN}]"#).await.0, 400);
    assert_eq!(app.post("/v1/readings", Some(TOKEN), &" ".repeat(100_000)).await.0, 413);
    assert_eq!(app.post("/v1/readings", None, "[]").await.0, 401);
    assert_eq!(app.metric(&format!("machine_readings_total{PRESS}")).await, Some(1.0), "none of it counted");
    assert_eq!(post(json!([reading(2, 3_700_000_000i64)])).await.0, 202);
    app.stop().await;
    let readings = all_readings(&open(&config)).await;
    let press: Vec<_> = readings.iter().filter(|r| *r.machine_id == *"press-7").map(|r| r.seq).collect();
    assert_eq!(press, [1, 2]);
}

//! Reading the lake: accuracy, drift, bad data, outages, restarts.

use lake::Reading;
use serde_json::json;

use crate::support::{App, Proxy, a_minute_ago, config, folder_config, now_us, open, reading, variable, write};

const SECOND: i64 = 1_000_000;
const OK_ROWS: &str = r#"lake_rows_total{result="ok"}"#;
const ACCURACY: &str = "inference_accuracy_ratio";

#[tokio::test]
async fn accuracy_and_drift_are_measured_on_what_the_lake_holds() {
    let dir = tempfile::tempdir().unwrap();
    let config = folder_config(dir.path());
    let lake = open(&config);
    let start = now_us() - 600 * SECOND;
    let healthy: Vec<Reading> = (1..=300).map(|s| reading(start, s)).collect();
    write(&lake, &healthy).await;
    let app = App::start(config).await;
    app.until(OK_ROWS, |n| n == 300.0).await;
    assert_eq!(app.until(ACCURACY, |a| !a.is_nan()).await, 1.0);
    assert!(app.metric(r#"feature_mean_shift_sigma{feature="vibration"}"#).await.unwrap() < 1.0);

    // The vibration sensor drifts: failures are predicted that do not come.
    let drifted: Vec<Reading> = (301..=600).map(|s| Reading { vibration: 21.2, ..reading(start, s) }).collect();
    write(&lake, &drifted).await;
    app.until(OK_ROWS, |n| n == 600.0).await;
    let accuracy = app.until(ACCURACY, |a| a < 0.8).await;
    assert!(accuracy > 0.0);
    assert!(app.metric(r#"feature_mean_shift_sigma{feature="vibration"}"#).await.unwrap() > 3.0);
    let false_alarms = r#"inference_outcomes_total{actual="healthy",predicted="failure"}"#;
    assert!(app.metric(false_alarms).await.unwrap() > 100.0);
    let (_, drift) = app.get("/v1/drift").await;
    assert_eq!(drift["features"][3]["feature"], "vibration");
    assert!(app.metric("lake_ingestion_delay_seconds").await.unwrap() < 30.0);
    app.stop().await;
}

#[tokio::test]
async fn bad_rows_duplicates_and_corrupt_objects_are_counted_and_do_not_stop_it() {
    let dir = tempfile::tempdir().unwrap();
    let config = folder_config(dir.path());
    let lake = open(&config);
    let start = a_minute_ago();
    let mut rows: Vec<Reading> = (1..=10).map(|s| reading(start, s)).collect();
    rows[3].temperature = f64::NAN;
    rows[7].energy_millijoules_total = -1;
    write(&lake, &rows).await;
    write(&lake, &rows[..3]).await;
    let spoiled: Vec<Reading> = (11..=20).map(|s| reading(start, s)).collect();
    write(&lake, &spoiled).await;
    let objects = dir.path().join("lake/readings");
    let object = walk(&objects).into_iter().find(|p| p.to_str().unwrap().contains("-11-20-")).unwrap();
    let mut bytes = std::fs::read(&object).unwrap();
    bytes[40] ^= 1;
    std::fs::write(&object, bytes).unwrap();
    write(&lake, &(21..=25).map(|s| reading(start, s)).collect::<Vec<_>>()).await;

    let app = App::start(config).await;
    app.until(OK_ROWS, |n| n == 13.0).await;
    assert_eq!(app.metric(r#"lake_rows_total{result="quarantined"}"#).await, Some(2.0));
    assert_eq!(app.metric(r#"lake_rows_total{result="duplicate"}"#).await, Some(3.0));
    assert_eq!(app.metric("lake_corrupt_objects_total").await, Some(1.0));
    let records: String =
        walk(&dir.path().join("lake/quarantine")).iter().map(|p| std::fs::read_to_string(p).unwrap()).collect();
    for reason in ["temperature is not a finite number", "energy_millijoules_total is negative", "sha256"] {
        assert!(records.contains(reason), "{reason}: {records}");
    }
    app.stop().await;
}

fn walk(dir: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path());
    entries.flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p] }).collect()
}

#[tokio::test]
async fn a_restart_goes_on_where_it_stopped_and_counts_nothing_twice() {
    let dir = tempfile::tempdir().unwrap();
    let config = folder_config(dir.path());
    let lake = open(&config);
    let start = now_us() - 300 * SECOND;
    write(&lake, &(1..=200).map(|s| reading(start, s)).collect::<Vec<_>>()).await;
    let first = App::start(config.clone()).await;
    first.until(OK_ROWS, |n| n == 200.0).await;
    first.stop().await;
    // While it is away there is more.
    write(&lake, &(201..=250).map(|s| reading(start, s)).collect::<Vec<_>>()).await;
    let second = App::start(config).await;
    second.until(OK_ROWS, |n| n >= 50.0).await;
    // The windows know what was before the restart.
    let labels = second.until("inference_accuracy_window_labels", |n| n > 0.0).await;
    assert_eq!(second.metric(OK_ROWS).await, Some(50.0));
    assert!(labels >= 129.0, "{labels}");
    second.stop().await;
}

#[tokio::test]
async fn while_a_real_lake_is_away_predictions_go_on_and_nothing_is_lost() {
    let target = variable("TEST_S3_ENDPOINT").trim_start_matches("http://").to_owned();
    let (access, secret) = (variable("TEST_S3_ACCESS_KEY"), variable("TEST_S3_SECRET_KEY"));
    let proxy = Proxy::start("127.0.0.1:0", target.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let bucket = format!("drift-{}", uuid::Uuid::new_v4());
    let state = dir.path().to_str().unwrap();
    let through = |endpoint: &str, limit: &str| {
        config(&[
            "--lake-endpoint",
            endpoint,
            "--lake-bucket",
            &bucket,
            "--state-dir",
            state,
            "--lake-access-key",
            &access,
            "--lake-secret-key",
            &secret,
            "--lake-request-timeout",
            limit,
        ])
    };
    // The writer is not under test: it may take its time.
    let lake = open(&through(&format!("http://{target}"), "20s"));
    let start = now_us() - 120 * SECOND;
    write(&lake, &(1..=50).map(|s| reading(start, s)).collect::<Vec<_>>()).await;
    let app = App::start(through(&format!("http://{}", proxy.address), "1s")).await;
    app.until(OK_ROWS, |n| n == 50.0).await;
    app.until("lake_up", |up| up == 1.0).await;
    assert_eq!(app.get("/health").await.1["status"], "ok");

    let address = proxy.cut().await;
    app.until("lake_up", |up| up == 0.0).await;
    app.until(r#"lake_read_total{result="unavailable"}"#, |n| n >= 2.0).await;
    let (status, health) = app.get("/health").await;
    assert_eq!((status, &health["status"], &health["lake"]["up"]), (200, &json!("degraded"), &json!(false)));
    let row = r#"{"temperature":50,"load":0.5,"vibration":1.5,"power_watts":9000}"#;
    assert_eq!(app.predict(row).await.0, 200);
    let delay = app.metric("lake_ingestion_delay_seconds").await.unwrap();
    app.until("lake_ingestion_delay_seconds", |d| d > delay).await;
    write(&lake, &(51..=100).map(|s| reading(start, s)).collect::<Vec<_>>()).await;

    let _proxy = Proxy::start(&address.to_string(), target).await;
    app.until(OK_ROWS, |n| n == 100.0).await;
    app.until("lake_up", |up| up == 1.0).await;
    assert_eq!(app.get("/health").await.1["status"], "ok");
    app.stop().await;
}

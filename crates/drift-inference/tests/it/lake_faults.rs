//! The lake breaks on demand: the real client, a real S3 server, and the service's own proxy between them.

use lake::{Batch, LakeError, Reading};
use serde_json::{Value, json};

use crate::support::{App, a_minute_ago, config, now_us, open, reading, variable, write};

const SECOND: i64 = 1_000_000;
const OK_ROWS: &str = r#"lake_rows_total{result="ok"}"#;

/// A service on a bucket of its own whose lake can be broken.
fn breakable(dir: &tempfile::TempDir) -> drift_inference::config::Config {
    let bucket = format!("broken-{}", uuid::Uuid::new_v4());
    config(&[
        "--lake-endpoint",
        &variable("TEST_S3_ENDPOINT"),
        "--lake-bucket",
        &bucket,
        "--lake-access-key",
        &variable("TEST_S3_ACCESS_KEY"),
        "--lake-secret-key",
        &variable("TEST_S3_SECRET_KEY"),
        "--state-dir",
        dir.path().to_str().unwrap(),
        "--lake-request-timeout",
        "2s",
        "--lake-faults",
        "true",
        "--models-token",
        "secret",
    ])
}

impl App {
    async fn break_lake(&self, fault: Value) -> (u16, Value) {
        let request = self.client.put(format!("{}/v1/lake/faults", self.url)).bearer_auth("secret").json(&fault);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn mend_lake(&self) {
        let request = self.client.delete(format!("{}/v1/lake/faults", self.url)).bearer_auth("secret");
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
}

#[tokio::test]
async fn answers_of_503_slow_ones_and_broken_ones_cost_no_reading() {
    let dir = tempfile::tempdir().unwrap();
    let config = breakable(&dir);
    // Past the proxy, and with time: what is under test is the reading.
    let mut direct = config.clone();
    direct.lake.lake_request_timeout = "20s".parse().unwrap();
    let lake = open(&direct);
    let start = now_us() - 300 * SECOND;
    let rows = |from: u64, upto: u64| (from..=upto).map(|s| reading(start, s)).collect::<Vec<Reading>>();
    write(&lake, &rows(1, 10)).await;
    let app = App::start(config).await;
    app.until(OK_ROWS, |n| n == 10.0).await;
    // Told at the end of a pull, after its rows.
    app.until("lake_up", |up| up == 1.0).await;
    let mut expected = 10.0;
    for (fault, metric) in [
        (json!({"fault": "unavailable"}), "lake_unavailable"),
        (json!({"fault": "slow", "delay": "10s"}), "lake_slow"),
        (json!({"fault": "cut", "bytes": 300}), "lake_cut"),
    ] {
        assert_eq!(app.break_lake(fault.clone()).await.0, 200);
        write(&lake, &rows(expected as u64 + 1, expected as u64 + 10)).await;
        app.until("lake_up", |up| up == 0.0).await;
        app.until(&format!("fault_active{{fault=\"{metric}\"}}"), |on| on == 1.0).await;
        let (_, health) = app.get("/health").await;
        assert_eq!((&health["status"], &health["predictions"]), (&json!("degraded"), &json!(true)), "{fault}");
        assert_eq!(app.metric(OK_ROWS).await, Some(expected), "{fault}");
        app.mend_lake().await;
        expected += 10.0;
        app.until(OK_ROWS, |n| n == expected).await;
        app.until("lake_up", |up| up == 1.0).await;
    }
    assert_eq!(app.metric("lake_corrupt_objects_total").await, Some(0.0), "half an answer is no corrupt object");
    let unavailable = app.metric(r#"lake_read_total{result="unavailable"}"#).await;
    assert!(unavailable.unwrap() >= 3.0, "{unavailable:?}");
    for (fault, status) in [(json!({"fault": "gone"}), 422), (json!({"fault": "slow", "delay": "2h"}), 422)] {
        assert_eq!(app.break_lake(fault.clone()).await.0, status, "{fault}");
    }
    app.stop().await;
}

#[tokio::test]
async fn an_object_whose_writing_broke_off_is_never_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = breakable(&dir);
    let app = App::start(config.clone()).await;
    // A writer behind a proxy of its own, of the same make.
    let target = config.breakable_lake().unwrap().unwrap();
    let (listener, address) = drift_inference::lake_faults::listen().await.unwrap();
    let faults = drift_inference::lake_faults::Faults::default();
    let end = tokio_util::sync::CancellationToken::new();
    tokio::spawn(drift_inference::lake_faults::run(listener, target, faults.clone(), end.clone()));
    config.lake.lake_endpoint = format!("http://{address}");
    let writer = open(&config);
    let start = a_minute_ago();
    let readings: Vec<Reading> = (1..=50).map(|s| reading(start, s)).collect();
    write(&writer, &readings[..10]).await;
    app.until(OK_ROWS, |n| n == 10.0).await;

    let broken = drift_inference::lake_faults::Fault {
        kind: drift_inference::lake_faults::Kind::HalfWritten,
        ratio: 1.0,
        delay: std::time::Duration::ZERO,
        bytes: 1_500,
    };
    faults.put(broken, std::time::Duration::from_secs(300));
    let batch = Batch::new(&readings[10..]).unwrap();
    let error = writer.write(&batch, now_us()).await.unwrap_err();
    assert!(matches!(error, LakeError::Unavailable { .. }), "{error}");
    faults.clear();
    // The same batch again, as the generator does it.
    writer.write(&batch, now_us()).await.unwrap();
    app.until(OK_ROWS, |n| n == 50.0).await;
    assert_eq!(app.metric("lake_corrupt_objects_total").await, Some(0.0));
    end.cancel();
    app.stop().await;
}

#[tokio::test]
async fn without_being_asked_for_the_lake_cannot_be_broken() {
    let dir = tempfile::tempdir().unwrap();
    let (lake, state) = (dir.path().join("lake"), dir.path().join("state"));
    let args =
        ["--lake-dir", lake.to_str().unwrap(), "--state-dir", state.to_str().unwrap(), "--models-token", "secret"];
    let app = App::start(config(&args)).await;
    assert_eq!(app.break_lake(json!({"fault": "unavailable"})).await.0, 403);
    app.stop().await;
}

//! Readings reach the lake: whole, once, and after an outage too.

use std::time::Duration;

use crate::support::{App, Proxy, all_readings, config, count_by_boot, folder_config, open, variable};

const WRITTEN: &str = "lake_written_readings_total";

#[tokio::test]
async fn every_reading_reaches_the_lake_and_the_rest_at_the_stop() {
    let dir = tempfile::tempdir().unwrap();
    let config = folder_config(dir.path(), &[]);
    let app = App::start(config.clone()).await;
    app.until(WRITTEN, |n| n >= 50.0).await;
    let taken = app.stop().await;
    let counts = count_by_boot(&all_readings(&open(&config)).await);
    assert_eq!(counts.into_values().collect::<Vec<_>>(), [taken]);
}

#[tokio::test]
async fn a_restart_goes_on_with_the_meter_and_admits_the_gap() {
    let dir = tempfile::tempdir().unwrap();
    let meter = r#"esg_energy_kwh_total{line="line-1",machine_id="machine-001",site="site-1"}"#;
    let first = App::start(folder_config(dir.path(), &[])).await;
    let before = first.until(meter, |kwh| kwh > 0.0).await;
    first.stop().await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let second = App::start(folder_config(dir.path(), &[])).await;
    second.until(meter, |kwh| kwh > before).await;
    let gap = r#"machine_reading_gaps_total{line="line-1",machine_id="machine-001",reason="restart",site="site-1"}"#;
    assert_eq!(second.metric(gap).await, Some(1.0));
    second.stop().await;
}

#[tokio::test]
async fn an_outage_of_a_real_lake_delays_readings_and_loses_none() {
    let target = variable("TEST_S3_ENDPOINT").trim_start_matches("http://").to_owned();
    let (access, secret) = (variable("TEST_S3_ACCESS_KEY"), variable("TEST_S3_SECRET_KEY"));
    let proxy = Proxy::start("127.0.0.1:0", target.clone()).await;
    let dir = tempfile::tempdir().unwrap();
    let bucket = format!("generator-{}", uuid::Uuid::new_v4());
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
    let app = App::start(through(&format!("http://{}", proxy.address), "1s")).await;
    app.until(WRITTEN, |n| n > 0.0).await;

    let address = proxy.cut().await;
    app.until(r#"lake_write_total{result="unavailable"}"#, |n| n >= 2.0).await;
    assert_eq!(app.get("/health").await.1["status"], "degraded");
    let before = app.metric(WRITTEN).await.unwrap();
    app.until("lake_pending_readings", |n| n >= 100.0).await;
    assert_eq!(app.metric(WRITTEN).await, Some(before));

    let proxy = Proxy::start(&address.to_string(), target.clone()).await;
    app.until(WRITTEN, |n| n >= before + 100.0).await;
    assert_eq!(app.get("/health").await.1["status"], "ok");

    // Once more, and the process ends while the lake is away: the next one hands over the rest.
    proxy.cut().await;
    app.until("lake_pending_readings", |n| n >= 20.0).await;
    let first = app.stop().await;
    let direct = through(&format!("http://{target}"), "20s");
    let next = App::start(direct.clone()).await;
    next.until(WRITTEN, |n| n >= 20.0).await;
    let second = next.stop().await;

    let counts = count_by_boot(&all_readings(&open(&direct)).await);
    let mut found: Vec<u64> = counts.into_values().collect();
    let mut taken = vec![first, second];
    found.sort_unstable();
    taken.sort_unstable();
    assert_eq!(found, taken);
}

#[tokio::test]
async fn beyond_the_bound_the_oldest_are_lost_and_counted() {
    // Nobody listens there.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let endpoint = format!("http://{free}");
    let app = App::start(config(&[
        "--lake-endpoint",
        &endpoint,
        "--buffer-readings",
        "50",
        "--state-dir",
        dir.path().to_str().unwrap(),
        "--lake-connect-timeout",
        "100ms",
        "--lake-request-timeout",
        "100ms",
    ]))
    .await;
    let lost = r#"machine_readings_missed_total{line="line-1",machine_id="machine-001",reason="buffer_overflow",site="site-1"}"#;
    app.until(lost, |n| n >= 5.0).await;
    assert!(app.metric("lake_pending_readings").await.unwrap() <= 50.0 + 100.0);
    app.stop().await;
}

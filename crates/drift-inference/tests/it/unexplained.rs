//! What features tell of each other: learned from a lake, kept over a restart, held against the present, learned anew.

use lake::Reading;
use serde_json::json;

use crate::support::{App, folder_config_with, now_us, open, reading, write};

const HOUR: i64 = 3_600 * 1_000_000;
const LEARNED: &str = "feature_unexplained_learned_ratio";
const VIBRATION: &str = r#"feature_unexplained_drifted{feature="vibration"}"#;

/// A machine whose load comes and goes, and the rest with it; a reading each 15 s.
fn machine(start_us: i64, number: u64) -> Reading {
    let wobble = |k: u64| {
        let x = (number * 131 + k).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let x = (x ^ (x >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        (x >> 40) as f64 / f64::from(1u32 << 24) - 0.5
    };
    let load = 0.5 + 0.3 * (number as f64 / 30.0).sin() + 0.05 * wobble(1);
    Reading {
        temperature: 25.0 + 40.0 * load + wobble(2),
        load,
        vibration: (0.6 + 0.6 * load) * (1.0 + 0.1 * wobble(3)),
        power_watts: 9_000.0 * load + 400.0 * wobble(4),
        energy_millijoules_total: number as i64 * 75_000_000,
        ..reading(start_us, number * 15)
    }
}

#[tokio::test]
async fn half_a_sigma_of_one_sensor_is_named_after_a_day() {
    let dir = tempfile::tempdir().unwrap();
    let more = ["--lookback", "30h", "--max-catch-up", "30h", "--models-token", "secret"];
    let config = folder_config_with(dir.path(), &more);
    let lake = open(&config);
    // Windows are cut by the clock: so that they always hold the same readings.
    let start = now_us() / (HOUR / 3) * (HOUR / 3) - 27 * HOUR;
    let until = (27 * 240) as u64;
    let calm: Vec<Reading> = (1..until - 100).map(|i| machine(start, i)).collect();
    write(&lake, &calm).await;
    let app = App::start(config.clone()).await;
    app.until(LEARNED, |l| l == 1.0).await;
    app.until(r#"lake_rows_total{result="ok"}"#, |n| n == calm.len() as f64).await;
    let (_, drift) = app.get("/v1/drift").await;
    let vibration = &drift["unexplained"]["features"][3];
    assert_eq!((&vibration["feature"], &vibration["drifted"]), (&json!("vibration"), &json!(false)), "{drift}");
    assert!(vibration["line"].as_f64().is_some_and(|l| l < 0.3), "{vibration}");
    app.stop().await;

    // σ of the vibration is 0.13 mm/s. What was learned outlives the process.
    let drifted = |i| Reading { vibration: machine(start, i).vibration + 0.065, ..machine(start, i) };
    write(&lake, &(until - 100..until).map(drifted).collect::<Vec<_>>()).await;
    let app = App::start(config).await;
    app.until(VIBRATION, |v| v == 1.0).await;
    assert_eq!(app.metric(LEARNED).await, Some(1.0));
    assert_eq!(app.metric(r#"feature_unexplained_drifted{feature="load"}"#).await, Some(0.0));
    assert_eq!(app.metric(r#"feature_drifted{feature="vibration"}"#).await, Some(0.0), "far too little for the PSI");
    let moved = app.metric(r#"feature_unexplained_moved_sigma{feature="vibration"}"#).await.unwrap();
    assert!((moved - 0.5).abs() < 0.1, "{moved}");
    let (_, drift) = app.get("/v1/drift").await;
    let reason = drift["unexplained"]["features"][3]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("σ higher than the other features explain, since 20"), "{reason}");
    let page = app.client.get(format!("{}/v1/drift/report.html", app.url)).send().await.unwrap().text().await.unwrap();
    // Too few readings in 5 min to tell of the others; this one is known by its 20.
    assert!(page.contains(&reason) && page.contains("drift in 1 of"), "the page says so too");

    let learn = |token: &'static str| {
        let request = app.client.post(format!("{}/v1/drift/learn", app.url)).bearer_auth(token);
        async { request.send().await.unwrap().status().as_u16() }
    };
    assert_eq!(learn("wrong").await, 401);
    assert_eq!(app.metric(LEARNED).await, Some(1.0));
    assert_eq!(learn("secret").await, 202);
    app.until(LEARNED, |l| l == 0.0).await;
    app.until(VIBRATION, |v| v == 0.0).await;
    app.stop().await;
}

//! Champion and challenger on a running service, with readings in a folder.

use drift_inference::{
    clock::now_us,
    model::{BUILT_IN, Model},
    registry::{Action, Code, Draft, History, Registry},
};
use lake::{Lake, Reading};
use serde_json::{Value, json};

use crate::support::{App, folder_config_with, open, reading, write};

const SECOND: i64 = 1_000_000;
const STEP: i64 = 5;
/// Each machine fails so often, s.
const CYCLE: i64 = 1_200;
const PROMOTED: &str = r#"model_retrainings_total{outcome="promoted"}"#;
const FAILED: &str = r#"model_retrainings_total{outcome="failed"}"#;

/// Two hours of five machines that heat up and fail every twenty minutes, if `failing`. All vibration sensors
/// read 20 mm/s too much, which the built-in model takes for failures to come.
async fn write_history(lake: &Lake, failing: bool) {
    let start = now_us() - 7_200 * SECOND;
    let mut readings = Vec::new();
    for second in (0..7_200).step_by(STEP as usize) {
        for machine in 0..5i64 {
            let phase = (second + machine * 217) % CYCLE;
            // The last four minutes: three of heating up, one of having failed.
            let heating = if failing { (phase - (CYCLE - 240)).max(0) } else { 0 };
            let wobble = ((second * 7 + machine * 13) % 11) as f64;
            let temperature = 50.0 + 0.5 * wobble + (heating.min(180) as f64) / 180.0 * 38.0;
            readings.push(Reading {
                machine_id: format!("m-{machine}").into(),
                temperature: if heating >= 180 { 91.0 } else { temperature },
                load: 0.3 + 0.05 * wobble,
                vibration: 21.0 + 0.1 * wobble,
                power_watts: 8_000.0 + 100.0 * wobble,
                ..reading(start, second as u64)
            });
        }
    }
    // One boot and all machines in turn, as the generator writes them: each look at the window sees all of them.
    write(lake, &readings).await;
}

fn service(dir: &std::path::Path, more: &[&str]) -> drift_inference::config::Config {
    let fixed = [
        "--models-token",
        "secret",
        "--retrain-holdout",
        "20m",
        "--retrain-half-life",
        "1h",
        "--lookback",
        "3h",
        "--retrain-after",
        "1s",
    ];
    folder_config_with(dir, &[&fixed, more].concat())
}

fn codes(decisions: &Value) -> Vec<String> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let entries = decisions.as_array().unwrap().iter();
    entries.map(|e| format!("{} {}", text(&e["action"]), text(&e["code"]))).collect()
}

#[tokio::test]
async fn low_accuracy_that_lasts_trains_a_challenger_that_wins_and_serves() {
    let dir = tempfile::tempdir().unwrap();
    let config = service(dir.path(), &[]);
    write_history(&open(&config), true).await;
    let app = App::start(config).await;
    app.until(PROMOTED, |n| n == 1.0).await;
    let (_, decisions) = app.get("/v1/decisions").await;
    assert_eq!(codes(&decisions), ["train accuracy_low", "judge judged", "promote challenger_wins"], "{decisions}");
    let challenger = decisions[0]["challenger"].as_str().unwrap().to_owned();
    assert_eq!((&decisions[2]["version"], &decisions[2]["previous"]), (&json!(challenger), &json!("failure-v1")));
    let figure = |name: &str| decisions[1]["figures"][name].as_f64().unwrap_or_else(|| panic!("{name}: {decisions}"));
    assert!(figure("challenger_accuracy") > figure("champion_accuracy") + 0.3);
    assert!(figure("challenger_accuracy") >= figure("temperature_accuracy"));
    assert!(figure("challenger_accuracy") > figure("always_no_accuracy") && figure("failures") > 0.0);
    let shown = app.metric(r#"model_contest_accuracy_ratio{role="challenger"}"#).await;
    assert_eq!(shown, Some(figure("challenger_accuracy")));

    app.until(&format!(r#"model_info{{version="{challenger}"}}"#), |x| x == 1.0).await;
    let (_, model) = app.get("/v1/model").await;
    assert_eq!((&model["version"], &model["training"]["challenged"]), (&json!(challenger), &json!("failure-v1")));
    assert!(model["calibration"].is_object() && model["reference"]["together"].is_object(), "{}", model["training"]);
    let (_, models) = app.get("/v1/models").await;
    assert_eq!(models["models"][1]["challenged"], "failure-v1", "{models}");

    // The new champion has served for a moment only: what recovers is going back.
    let (status, answer) = app.post("/v1/models/recover", Some("secret")).await;
    assert_eq!((status, &answer["remedy"]), (202, &json!("rollback")), "{answer}");
    assert_eq!(
        (&answer["rollback"]["version"], &answer["rollback"]["code"]),
        (&json!("failure-v1"), &json!("recent_promotion"))
    );
    assert_eq!(app.get("/v1/model").await.1["version"], "failure-v1");
    // And the built-in one has no predecessor.
    let (status, answer) = app.post("/v1/models/recover", Some("secret")).await;
    let remedies = [json!("retrain"), Value::Null];
    assert!([202, 409].contains(&status) && remedies.contains(&answer["remedy"]), "{answer}");
    app.stop().await;
}

#[tokio::test]
async fn who_asks_without_failures_to_learn_from_is_told_and_then_has_to_wait() {
    let dir = tempfile::tempdir().unwrap();
    let config = service(dir.path(), &["--retrain", "false"]);
    write_history(&open(&config), false).await;
    let app = App::start(config).await;
    assert_eq!(app.post("/v1/retrain", None).await.0, 401);
    assert_eq!(app.post("/v1/models/recover", Some("wrong")).await.0, 401);
    let (status, answer) = app.post("/v1/retrain", Some("secret")).await;
    assert_eq!((status, &answer["state"]), (202, &json!("started")), "{answer}");
    app.until(FAILED, |n| n == 1.0).await;
    let (_, decisions) = app.get("/v1/decisions").await;
    assert_eq!(codes(&decisions), ["train requested", "discard too_few_failures"], "{decisions}");
    assert!(decisions[1]["reason"].as_str().unwrap().contains("100 are needed"), "{decisions}");
    app.until("model_retraining_running", |n| n == 0.0).await;
    for _ in 0..2 {
        let (status, problem) = app.post("/v1/retrain", Some("secret")).await;
        assert_eq!(status, 409, "{problem}");
        assert!(problem["detail"].as_str().unwrap().starts_with("backing_off: not before 2"), "{problem}");
    }
    let (_, decisions) = app.get("/v1/decisions").await;
    assert_eq!(codes(&decisions)[2..], ["hold backing_off"], "said once: {decisions}");
    assert_eq!(app.get("/v1/model").await.1["version"], "failure-v1");
    app.stop().await;
}

#[tokio::test]
async fn what_a_process_that_is_no_more_began_is_ended_and_nothing_is_half_promoted() {
    let dir = tempfile::tempdir().unwrap();
    let config = service(dir.path(), &["--retrain", "false"]);
    let registry = Registry::new(open(&config));
    let began = Draft {
        challenger: Some("failure-x".into()),
        ..Draft::of(Action::Train, Code::Drift, "drift has stayed in temperature")
    };
    registry.note(&mut History::default(), began, now_us() - 60 * SECOND).await.unwrap();
    // It had come as far as this before it was killed.
    registry.register(&Model { version: "failure-x".into(), ..Model::parse(BUILT_IN).unwrap() }).await.unwrap();
    let app = App::start(config).await;
    app.until(r#"model_retrainings_total{outcome="interrupted"}"#, |n| n == 1.0).await;
    let (_, decisions) = app.get("/v1/decisions").await;
    assert_eq!(codes(&decisions), ["train drift", "discard interrupted"], "{decisions}");
    let (_, models) = app.get("/v1/models").await;
    assert_eq!((&models["serving"], &models["champion"]), (&json!("failure-v1"), &json!("failure-v1")));
    app.stop().await;
}

#[tokio::test]
async fn the_report_is_a_page_and_names_what_drifted() {
    let dir = tempfile::tempdir().unwrap();
    let config = service(dir.path(), &["--retrain", "false"]);
    write_history(&open(&config), false).await;
    let app = App::start(config).await;
    app.until(r#"feature_drifted{feature="vibration"}"#, |x| x == 1.0).await;
    let (_, drift) = app.get("/v1/drift").await;
    let vibration = &drift["features"][3];
    let reason = vibration["reason"].as_str().unwrap();
    assert!(reason.contains("times what chance alone explains") && reason.contains("since 20"), "{drift}");
    assert!(vibration["times_chance"].as_f64().unwrap() > 2.0);
    let page = app.client.get(format!("{}/v1/drift/report.html", app.url)).send().await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let page = page.text().await.unwrap();
    for expected in ["drift in", "vibration", reason, "the reference of failure-v1", "<svg"] {
        assert!(page.contains(expected), "{expected}");
    }
    app.stop().await;
}

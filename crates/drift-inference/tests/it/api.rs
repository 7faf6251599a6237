//! The API: predictions, and what it refuses.

use serde_json::json;

use crate::support::{App, folder_config};

#[tokio::test]
async fn it_predicts_one_and_many_and_explains() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start(folder_config(dir.path())).await;
    let calm = r#"{"temperature":50,"load":0.5,"vibration":1.5,"power_watts":9000}"#;
    let (status, answer) = app.predict(calm).await;
    assert_eq!((status, &answer["predictions"][0]["will_fail"]), (200, &json!(false)));
    assert!(answer["predictions"][0]["contributions"]["temperature"].is_number());
    let hot =
        r#"{"temperature":88,"temperature_gradient":6,"load":0.6,"vibration":1.5,"power_watts":9000,"error_code":101}"#;
    let (_, answer) = app.predict(&format!(r#"{{"instances":[{calm},{hot}]}}"#)).await;
    let said: Vec<_> = answer["predictions"].as_array().unwrap().iter().map(|p| p["will_fail"].clone()).collect();
    assert_eq!(said, [json!(false), json!(true)]);
    assert_eq!(app.metric(r#"inference_predictions_total{outcome="healthy"}"#).await, Some(2.0));
    assert_eq!(app.metric(r#"inference_predictions_total{outcome="failure"}"#).await, Some(1.0));
    app.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_field() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start(folder_config(dir.path())).await;
    for (body, status, field) in [
        ("{}", 422, "temperature"),
        ("[]", 422, "body"),
        (r#"{"temperature":"'; DROP TABLE","load":0.5,"vibration":1,"power_watts":1}"#, 422, "temperature"),
        (r#"{"temperature":50,"load":7,"vibration":1,"power_watts":1}"#, 422, "load"),
        (r#"{"instances":[{"temperature":50,"load":0.5,"vibration":1}]}"#, 422, "instances[0].power_watts"),
    ] {
        let (got, problem) = app.predict(body).await;
        assert_eq!((got, &problem["errors"][0]["field"]), (status, &json!(field)), "{body}: {problem}");
    }
    assert_eq!(app.predict("{").await.0, 400);
    assert_eq!(app.predict(r#"{"temperature":NaN}"#).await.0, 400);
    assert_eq!(app.predict(&format!("[{}1]", "1,".repeat(1 << 20))).await.0, 413);
    assert_eq!(app.metric(r#"inference_predictions_total{outcome="healthy"}"#).await, Some(0.0));
    app.stop().await;
}

#[tokio::test]
async fn the_model_and_the_description_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start(folder_config(dir.path())).await;
    let (status, model) = app.get("/v1/model").await;
    assert_eq!((status, &model["version"]), (200, &json!("failure-v1")));
    let (_, openapi) = app.get("/openapi.json").await;
    assert!(openapi["paths"]["/v1/predict"]["post"].is_object());
    assert_eq!(app.metric(r#"model_info{version="failure-v1"}"#).await, Some(1.0));
    let (_, drift) = app.get("/v1/drift").await;
    assert_eq!((&drift["rows"], &drift["features"][0]["mean_shift_sigma"]), (&json!(0), &json!(null)));
    app.until("lake_up", |up| up == 1.0).await;
    app.stop().await;
}

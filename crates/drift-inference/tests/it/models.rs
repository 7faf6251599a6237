//! Promotion and rollback on a running service.

use std::process::Command;

use drift_inference::model::{BUILT_IN, Model};
use serde_json::{Value, json};

use crate::support::{App, folder_config, folder_config_with};

const ROW: &str = r#"{"temperature":71.5,"temperature_gradient":1.25,"load":0.5,"vibration":1.5,"power_watts":9000}"#;

impl App {
    pub async fn post(&self, path: &str, token: Option<&str>) -> (u16, Value) {
        let request = self.client.post(format!("{}{path}", self.url)).json(&json!({"reason": "a test"}));
        let request = if let Some(token) = token { request.bearer_auth(token) } else { request };
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    async fn raw_prediction(&self) -> Vec<u8> {
        let request = self.client.post(format!("{}/v1/predict", self.url)).header("content-type", "application/json");
        request.body(ROW).send().await.unwrap().bytes().await.unwrap().to_vec()
    }
}

#[tokio::test]
async fn a_bad_model_that_was_promoted_is_rolled_back_to_the_byte() {
    let dir = tempfile::tempdir().unwrap();
    let lake = dir.path().join("lake");
    let app = App::start(folder_config_with(dir.path(), &["--models-token", "secret"])).await;
    app.until("lake_up", |up| up == 1.0).await;
    let before = app.raw_prediction().await;

    let bad = Model { version: "bad-v2".into(), weights: vec![0.0; 6], bias: 9.0, ..Model::parse(BUILT_IN).unwrap() };
    let file = dir.path().join("bad.json");
    std::fs::write(&file, serde_json::to_string(&bad).unwrap()).unwrap();
    let models = |args: &[&str]| {
        let program = Command::new(env!("CARGO_BIN_EXE_drift-inference"));
        let output = { program }.arg("models").args(args).arg("--data").arg(&lake).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(models(&["register", file.to_str().unwrap()]).0, 0);
    assert_eq!(app.raw_prediction().await, before, "registered is not promoted");

    assert_eq!(app.post("/v1/models/bad-v2/promote", None).await.0, 401);
    assert_eq!(app.post("/v1/models/bad-v2/promote", Some("wrong")).await.0, 401);
    assert_eq!(app.post("/v1/models/nope/promote", Some("secret")).await.0, 404);
    assert_eq!(app.post("/v1/models/rollback", Some("secret")).await.0, 409);
    let (status, entry) = app.post("/v1/models/bad-v2/promote", Some("secret")).await;
    assert_eq!((status, &entry["previous"]), (200, &json!("failure-v1")), "{entry}");
    assert_ne!(app.raw_prediction().await, before);
    assert_eq!(app.metric(r#"model_info{version="bad-v2"}"#).await, Some(1.0));
    assert_eq!(app.metric(r#"model_info{version="failure-v1"}"#).await, None);

    let (status, entry) = app.post("/v1/models/rollback", Some("secret")).await;
    assert_eq!((status, &entry["version"]), (200, &json!("failure-v1")));
    assert_eq!(app.raw_prediction().await, before);
    let (_, view) = app.get("/v1/models").await;
    assert_eq!((&view["serving"], &view["champion"]), (&json!("failure-v1"), &json!("failure-v1")));
    assert_eq!(view["decisions"].as_array().unwrap().len(), 2);
    assert_eq!(app.get("/v1/models/bad-v2").await.1["bias"], 9.0);

    // By the command, without the API: the service follows the log.
    assert_eq!(models(&["promote", "bad-v2"]).0, 0);
    app.until(r#"model_info{version="bad-v2"}"#, |x| x == 1.0).await;
    let (code, text) = models(&["rollback", "--reason", "it was bad"]);
    assert_eq!((code, text.as_str()), (0, "failure-v1 serves again, bad-v2 is taken away\n"));
    app.until(r#"model_info{version="failure-v1"}"#, |x| x == 1.0).await;
    assert_eq!(app.raw_prediction().await, before);
    assert!(models(&["list"]).1.contains("it was bad"));
    app.stop().await;
}

#[tokio::test]
async fn a_copy_with_another_threshold_can_be_registered_and_promoted() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start(folder_config_with(dir.path(), &["--models-token", "secret"])).await;
    let register = async |body: Value, token: &str| {
        let request = app.client.post(format!("{}/v1/models", app.url)).bearer_auth(token).json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let eager = json!({"version": "eager", "of": "failure-v1", "threshold": 1e-9});
    assert_eq!(register(eager.clone(), "wrong").await.0, 401);
    let (status, model) = register(eager, "secret").await;
    assert_eq!((status, &model["threshold"]), (201, &json!(1e-9)), "{model}");
    for (body, expected) in [
        (json!({"version": "eager", "of": "failure-v1", "threshold": 0.5}), 409),
        (json!({"version": "../x", "of": "failure-v1", "threshold": 0.5}), 409),
        (json!({"version": "x", "of": "nope", "threshold": 0.5}), 404),
        (json!({"version": "x", "of": "failure-v1", "threshold": 1}), 422),
    ] {
        assert_eq!(register(body.clone(), "secret").await.0, expected, "{body}");
    }
    assert_eq!(app.post("/v1/models/eager/promote", Some("secret")).await.0, 200);
    let calm = r#"{"temperature":50,"load":0.5,"vibration":1.5,"power_watts":9000}"#;
    assert_eq!(app.predict(calm).await.1["predictions"][0]["will_fail"], true);
    app.stop().await;
}

#[tokio::test]
async fn without_a_token_nobody_changes_models_and_other_horizons_cannot_serve() {
    let dir = tempfile::tempdir().unwrap();
    let app = App::start(folder_config(dir.path())).await;
    assert_eq!(app.post("/v1/models/rollback", Some("x")).await.0, 403);
    app.stop().await;

    let lake = dir.path().join("lake");
    let other = Model { version: "hour".into(), horizon_seconds: 3_600.0, ..Model::parse(BUILT_IN).unwrap() };
    std::fs::create_dir_all(lake.join("models")).unwrap();
    std::fs::write(lake.join("models/hour.json"), serde_json::to_string(&other).unwrap()).unwrap();
    let app = App::start(folder_config_with(dir.path(), &["--models-token", "secret"])).await;
    let (status, problem) = app.post("/v1/models/hour/promote", Some("secret")).await;
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains("foresees 3600 s"), "{problem}");
    assert_eq!(app.get("/v1/model").await.1["version"], "failure-v1");
    app.stop().await;
}

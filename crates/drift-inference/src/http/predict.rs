//! `POST /v1/predict`: one row or many, by the model that scores the lake's readings.

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use telemetry::problem::{Json, Problem};
use utoipa::ToSchema;

use crate::{
    features::{Features, NAMES},
    ingest::{App, lock},
    model::Model,
};

/// Rows in one request.
const MAX_ROWS: usize = 1_000;
/// Faults told of one request: the first ones are enough.
const MAX_FAULTS: usize = 20;

/// One row, or `instances` with many.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "describes the body; parsing names the faulty field, which serde's untagged cannot")]
pub enum PredictRequest {
    /// One row.
    One(Row),
    /// Many rows.
    Many {
        /// At most 1000.
        instances: Vec<Row>,
    },
}

/// What is measured at one instant.
#[derive(Debug, Deserialize, ToSchema)]
#[allow(dead_code, reason = "describes the body")]
pub struct Row {
    /// °C, -90 to 2000.
    #[schema(example = 61.5)]
    temperature: f64,
    /// °C/min; 0 if not given.
    #[schema(example = 0.4)]
    temperature_gradient: Option<f64>,
    /// 0 to 1.
    #[schema(example = 0.6)]
    load: f64,
    /// mm/s RMS, 0 to 1000.
    #[schema(example = 1.7)]
    vibration: f64,
    /// 0 to 1e9.
    #[schema(example = 9000.0)]
    power_watts: f64,
    /// 0 is none; 0 if not given.
    #[schema(example = 0)]
    error_code: Option<i32>,
}

/// Predictions, in the order of the rows.
#[derive(Debug, Serialize, ToSchema)]
pub struct PredictResponse {
    model: String,
    horizon_seconds: f64,
    threshold: f64,
    predictions: Vec<PredictionView>,
}

/// One prediction.
#[derive(Debug, Serialize, ToSchema)]
pub struct PredictionView {
    /// That the machine fails within the horizon.
    probability: f64,
    /// The probability reaches the threshold.
    will_fail: bool,
    /// What each feature adds to the log-odds.
    contributions: BTreeMap<&'static str, f64>,
}

/// Predicts failures.
#[utoipa::path(
    post, path = "/v1/predict", request_body = PredictRequest,
    responses(
        (status = 200, body = PredictResponse),
        (status = 400, description = "not JSON"),
        (status = 413, description = "too large"),
        (status = 422, description = "a field is missing or not acceptable; errors names it"),
    )
)]
pub async fn predict(State(app): State<Arc<App>>, Json(body): Json<Value>) -> Result<Json<PredictResponse>, Problem> {
    let rows = rows(&body)?;
    let model = lock(&app.pipeline).model().clone();
    let response = answer(&model, &rows);
    let failures = response.predictions.iter().filter(|p| p.will_fail).count() as u64;
    app.metrics.count_predictions(failures, rows.len() as u64 - failures);
    Ok(Json(response))
}

fn answer(model: &Model, rows: &[Features]) -> PredictResponse {
    let predictions = rows.iter().map(|row| {
        let p = model.predict(row);
        PredictionView {
            probability: p.probability,
            will_fail: p.fails,
            contributions: NAMES.into_iter().zip(p.contributions).collect(),
        }
    });
    PredictResponse {
        model: model.version.clone(),
        horizon_seconds: model.horizon_seconds,
        threshold: model.threshold,
        predictions: predictions.collect(),
    }
}

/// Checks the whole body and tells all that is wrong with it, up to a limit.
fn rows(body: &Value) -> Result<Vec<Features>, Problem> {
    let Some(object) = body.as_object() else {
        return Err(Problem::invalid("body", "must be an object: one row, or {\"instances\": [rows]}"));
    };
    let mut faults = Vec::new();
    let rows = match object.get("instances") {
        None => vec![row("", body, &mut faults)],
        Some(Value::Array(instances)) => {
            if object.len() > 1 {
                return Err(Problem::invalid("instances", "cannot stand beside other fields"));
            }
            if instances.is_empty() || instances.len() > MAX_ROWS {
                return Err(Problem::invalid("instances", format!("must have 1 to {MAX_ROWS} rows")));
            }
            let each = instances.iter().enumerate();
            each.map(|(i, value)| row(&format!("instances[{i}]"), value, &mut faults)).collect()
        }
        Some(_) => return Err(Problem::invalid("instances", "must be a list of rows")),
    };
    let mut faults = faults.into_iter().take(MAX_FAULTS);
    let Some((field, detail)) = faults.next() else { return Ok(rows) };
    Err(faults.fold(Problem::invalid(field, detail), |problem, (field, detail)| problem.field(field, detail)))
}

type Faults = Vec<(String, String)>;

fn row(path: &str, value: &Value, faults: &mut Faults) -> Features {
    let name = |field: &str| if path.is_empty() { field.to_owned() } else { format!("{path}.{field}") };
    let Some(object) = value.as_object() else {
        faults.push((path.to_owned(), "must be an object".to_owned()));
        return Features([0.0; NAMES.len()]);
    };
    const KNOWN: [&str; 6] = ["temperature", "temperature_gradient", "load", "vibration", "power_watts", "error_code"];
    for field in object.keys().filter(|k| !KNOWN.contains(&k.as_str())) {
        faults.push((name(field), format!("is not known; known are {}", KNOWN.join(", "))));
    }
    let mut number = |field: &str, default: Option<f64>, low: f64, high: f64| {
        let fault = match (object.get(field), default) {
            (None | Some(Value::Null), Some(default)) => return default,
            (None | Some(Value::Null), None) => "is required".to_owned(),
            (Some(value), _) => match value.as_f64() {
                Some(x) if (low..=high).contains(&x) => return x,
                Some(_) => format!("must be between {low} and {high}"),
                None => "must be a number".to_owned(),
            },
        };
        faults.push((name(field), fault));
        0.0
    };
    let temperature = number("temperature", None, -90.0, 2_000.0);
    let gradient = number("temperature_gradient", Some(0.0), -1_000.0, 1_000.0);
    let load = number("load", None, 0.0, 1.0);
    let vibration = number("vibration", None, 0.0, 1_000.0);
    let power = number("power_watts", None, 0.0, 1e9);
    let code = number("error_code", Some(0.0), 0.0, f64::from(i32::MAX));
    Features([temperature, gradient, load, vibration, power, f64::from(u8::from(code != 0.0))])
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use serde_json::json;

    use super::*;

    fn good() -> Value {
        json!({"temperature": 60, "load": 0.5, "vibration": 1.5, "power_watts": 5000})
    }

    fn with(field: &str, value: Value) -> Value {
        let mut row = good();
        row[field] = value;
        row
    }

    /// The fields that are named, in order.
    fn refused(body: &Value) -> String {
        let problem = rows(body).expect_err("refused");
        assert_eq!(problem.clone().into_response().status(), 422);
        let shown = serde_json::to_value(&problem).unwrap();
        let fields = shown["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap().to_owned());
        fields.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn one_row_or_many() {
        assert_eq!(rows(&good()).unwrap()[0], Features([60.0, 0.0, 0.5, 1.5, 5_000.0, 0.0]));
        assert_eq!(rows(&with("error_code", json!(101))).unwrap()[0].0[5], 1.0);
        assert_eq!(rows(&json!({"instances": [good(), good()]})).unwrap().len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        assert_eq!(refused(&json!({})), "temperature load vibration power_watts");
        assert_eq!(refused(&with("temperature", json!("hot"))), "temperature");
        assert_eq!(refused(&with("temperature", json!(1e308))), "temperature");
        assert_eq!(refused(&with("load", json!(-0.1))), "load");
        assert_eq!(refused(&with("vibration", json!(null))), "vibration");
        assert_eq!(refused(&with("humidity", json!(1))), "humidity");
        assert_eq!(refused(&json!([1])), "body");
        assert_eq!(refused(&json!({"instances": []})), "instances");
        assert_eq!(refused(&json!({"instances": {}})), "instances");
        assert_eq!(refused(&json!({"instances": vec![good(); 1_001]})), "instances");
        assert_eq!(
            refused(&json!({"instances": [good(), 3, with("load", json!(2))]})),
            "instances[1] instances[2].load"
        );
        assert_eq!(refused(&json!({"instances": [good()], "x": 1})), "instances");
        assert_eq!(refused(&json!({"instances": vec![json!({}); 100]})).split(' ').count(), MAX_FAULTS);
    }
}

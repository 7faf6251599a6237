//! The API.

mod faults;
mod models;
mod openapi;
mod predict;
mod views;

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::StatusCode,
    response::Html,
    routing::{get, post},
};
use telemetry::{metrics::Registry, problem::Json};

use crate::{
    clock::now_us,
    ingest::{App, lock},
    model::Model,
};
use views::{DriftView, HealthView};

/// Room for the largest batch.
const BODY_LIMIT: usize = 1 << 20;

/// All routes, with the HTTP layer around them.
pub fn router(app: Arc<App>, registry: &Registry) -> Router {
    let http = app.metrics.http.clone();
    let router = Router::new()
        .route("/health", get(health))
        .route("/v1/predict", post(predict::predict))
        .route("/v1/drift", get(drift))
        .route("/v1/drift/report.html", get(report))
        .route("/v1/drift/learn", post(learn))
        .route("/v1/retrain", post(models::retrain))
        .route("/v1/models/recover", post(models::recover))
        .route("/v1/model", get(model))
        .route("/v1/models", get(models::models).post(models::register))
        .route("/v1/models/{version}", get(models::one))
        .route("/v1/models/rollback", post(models::roll_back))
        .route("/v1/models/{version}/promote", post(models::promote))
        .route("/v1/decisions", get(models::decisions))
        .route("/v1/lake/faults", get(faults::get).put(faults::put).delete(faults::delete))
        .route("/openapi.json", get(openapi::document))
        .route("/metrics", registry.http_handler())
        .with_state(app);
    telemetry::http::instrument_with_limit(router, http, BODY_LIMIT)
}

/// Can it predict, and does it see the lake? 200 either way: without the lake it still predicts.
#[utoipa::path(get, path = "/health", responses((status = 200, body = HealthView)))]
async fn health(State(app): State<Arc<App>>) -> Json<HealthView> {
    let snapshot = lock(&app.pipeline).snapshot();
    let health = lock(&app.health).clone();
    let version = lock(&app.pipeline).model().version.clone();
    Json(HealthView::of(&health, &snapshot, version, app.min_labels, now_us()))
}

/// How far the readings of the last minutes are from the reference.
#[utoipa::path(get, path = "/v1/drift", responses((status = 200, body = DriftView)))]
async fn drift(State(app): State<Arc<App>>) -> Json<DriftView> {
    let pipeline = lock(&app.pipeline);
    Json(DriftView::of(&pipeline.snapshot(), pipeline.model()))
}

/// The same as a page, with the features' distributions.
#[utoipa::path(get, path = "/v1/drift/report.html", responses((status = 200, content_type = "text/html", body = String)))]
async fn report(State(app): State<Arc<App>>) -> Html<String> {
    let report = views::report(&lock(&app.pipeline));
    Html(crate::report::page(&report))
}

/// Forgets what the features told of each other, and learns the next day: a sensor was mended or replaced, or the
/// machines run otherwise on purpose.
#[utoipa::path(post, path = "/v1/drift/learn", security(("models" = [])),
    responses((status = 202, description = "begun"), (status = 401, description = "no token"), (status = 403, description = "switched off")))]
async fn learn(_: models::Authorised, State(app): State<Arc<App>>) -> StatusCode {
    lock(&app.pipeline).unexplained.begin_anew();
    tracing::info!("what features tell of each other is learned anew, by order");
    StatusCode::ACCEPTED
}

/// The model in use, with its training and its reference.
#[utoipa::path(get, path = "/v1/model", responses((status = 200, body = Model)))]
async fn model(State(app): State<Arc<App>>) -> Json<Model> {
    Json(lock(&app.pipeline).model().as_ref().clone())
}

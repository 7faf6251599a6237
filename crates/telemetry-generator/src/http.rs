//! The API.

mod faults;
mod openapi;
mod plant;
mod readings;
mod token;
mod views;

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
    routing::{delete, get, post},
};
use telemetry::{
    config::Secret,
    metrics::Registry,
    problem::{Json, Path, Problem},
};

use crate::{
    exposition,
    service::{App, now_us},
};
use views::{FleetView, HealthView, LakeView, LedgerView, MachineView, SparkplugView};

/// All routes, with the HTTP layer around them.
pub fn router(app: Arc<App>, token: Option<Secret>, registry: &Registry) -> Router {
    let http = app.metrics.http.clone();
    let guarded = Router::new()
        .route("/v1/machines/{id}/faults", post(faults::inject_on_machine).delete(faults::clear_machine))
        .route("/v1/machines", post(plant::add))
        .route("/v1/machines/{id}", delete(plant::remove))
        .route("/v1/machines/{id}/load", post(plant::limit).delete(plant::lift))
        .route("/v1/fleet/relief", post(plant::relieve))
        .route("/v1/readings", post(readings::take))
        .route("/v1/fleet/faults", post(faults::inject_on_fleet).delete(faults::clear_fleet))
        .layer(axum::middleware::from_fn_with_state(Arc::new(token), token::require));
    let router = Router::new()
        .route("/health", get(health))
        .route("/v1/machines", get(machines))
        .route("/v1/machines/{id}", get(machine))
        .route("/v1/fleet", get(fleet))
        .route("/openapi.json", get(openapi::document))
        .route("/metrics", get(metrics))
        .merge(guarded)
        .layer(Extension(registry.clone()))
        .with_state(app);
    telemetry::http::instrument(router, http)
}

/// Is the fleet alive, do lake and ledger take what it says, is the MQTT broker heard?
#[utoipa::path(get, path = "/health", responses((status = 200, body = HealthView)))]
async fn health(State(app): State<Arc<App>>) -> Json<HealthView> {
    let lake = *app.lake_health.lock();
    let pending = app.outbox.lock().pending();
    let ledger = app.evidence.as_ref().map(|evidence| {
        let (ok, waiting_entries) = evidence.standing();
        LedgerView { ok, waiting_entries }
    });
    let sparkplug = app.sparkplug.as_ref().map(|sparkplug| {
        let (connected, nodes_online) = sparkplug.standing();
        SparkplugView { connected, nodes_online }
    });
    let degraded = lake.ok == Some(false)
        || ledger.as_ref().is_some_and(|l| l.ok == Some(false))
        || sparkplug.as_ref().is_some_and(|s| !s.connected);
    let fleet = app.fleet.lock();
    Json(HealthView {
        status: if degraded { "degraded" } else { "ok" },
        machines: fleet.machines().len(),
        last_tick: fleet.last_tick_us().map(views::rfc3339),
        lake: LakeView { ok: lake.ok, pending_readings: pending, last_write: lake.last_write_us.map(views::rfc3339) },
        ledger,
        sparkplug,
    })
}

/// Everything that the process measures, the fleet first rendered without detours.
async fn metrics(
    State(app): State<Arc<App>>,
    Extension(registry): Extension<Registry>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).map(str::to_owned);
    let render = move || exposition::render(&app.fleet, &registry, accept.as_deref());
    let (content_type, body) = tokio::task::spawn_blocking(render).await.map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, content_type)], body).into_response())
}

/// All machines.
#[utoipa::path(get, path = "/v1/machines", responses((status = 200, body = [MachineView])))]
async fn machines(State(app): State<Arc<App>>) -> Json<Vec<MachineView>> {
    let fleet = app.fleet.lock();
    Json((0..fleet.machines().len()).map(|i| MachineView::of(&fleet, i)).collect())
}

/// One machine.
#[utoipa::path(
    get, path = "/v1/machines/{id}", params(("id" = String, Path)),
    responses((status = 200, body = MachineView), (status = 404, description = "no such machine"))
)]
async fn machine(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<MachineView>, Problem> {
    let fleet = app.fleet.lock();
    let index = fleet.index_of(&id).ok_or_else(|| Problem::not_found("machine"))?;
    Ok(Json(MachineView::of(&fleet, index)))
}

/// The fleet as a whole.
#[utoipa::path(get, path = "/v1/fleet", responses((status = 200, body = FleetView)))]
async fn fleet(State(app): State<Arc<App>>) -> Json<FleetView> {
    Json(FleetView::of(&app.fleet.lock(), now_us()))
}

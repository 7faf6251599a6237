//! The HTTP interface: intake, the API, and a page for people.

mod api;
mod auth;
mod openapi;
mod page;
pub mod view;
mod webhook;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    routing::{get, post},
};
use telemetry::{Runtime, http::instrument_with_limit};
use tokio::sync::{Notify, watch};

pub use auth::WebhookAuth;

use crate::{driver::Control, journal::Journal, metrics::Metrics, policy::reload::Loaded};

/// What handlers share.
#[derive(Clone)]
pub struct AppState {
    /// Where everything is written down.
    pub journal: Journal,
    /// The policy in force.
    pub policy: watch::Receiver<Loaded>,
    /// Gives orders to the driver.
    pub control: Control,
    /// What is counted.
    pub metrics: Metrics,
    /// Who may post notifications.
    pub auth: Arc<WebhookAuth>,
    /// Wakes the driver.
    pub delivered: Arc<Notify>,
    /// For `/health`.
    pub runtime: Runtime,
    /// Largest notification.
    pub webhook_max_bytes: usize,
}

/// A write to the journal that takes longer is answered with 503.
pub(crate) const JOURNAL_LIMIT: Duration = Duration::from_secs(8);

/// All routes, instrumented.
pub fn router(state: AppState) -> Router {
    let limit = state.webhook_max_bytes;
    let metrics = state.metrics.http.clone();
    let router = Router::new()
        .route("/", get(page::index))
        .route("/incidents/{id}", get(page::incident))
        .route("/webhook", post(webhook::receive))
        .route("/health", get(api::health))
        .route("/v1/incidents", get(api::incidents))
        .route("/v1/incidents/{id}", get(api::incident))
        .route("/v1/decisions", get(api::decisions))
        .route("/v1/reasons", get(api::reasons))
        .route("/v1/policy", get(api::policy))
        .route("/v1/audit", get(api::audit))
        .route("/v1/audit/verify", get(api::verify))
        .route("/openapi.json", get(openapi::document))
        .route("/metrics", state.runtime.registry.http_handler())
        .with_state(state);
    instrument_with_limit(router, metrics, limit)
}

//! The HTTP interface: intake, the API, and a console for people.

pub mod access;
mod api;
mod console;
mod events;
mod openapi;
mod operate;
mod policy;
pub mod view;
mod webhook;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{get, post},
};
use telemetry::{Runtime, http::instrument_with_limit};
use tokio::sync::{Notify, watch};

use self::access::Access;
pub use self::events::Feed;
use crate::{driver::Control, journal::Journal, metrics::Metrics, policy::reload::Loaded};

/// What handlers share.
#[derive(Clone)]
pub struct AppState {
    /// Where everything is written down.
    pub journal: Journal,
    /// The policy in force.
    pub policy: watch::Receiver<Loaded>,
    /// Compose project whose containers may be healed.
    pub project: String,
    /// What is counted.
    pub metrics: Metrics,
    /// Who may do what.
    pub access: Arc<Access>,
    /// Gives orders to the driver.
    pub control: Control,
    /// Tells what has changed.
    pub feed: Feed,
    /// Wakes the driver.
    pub delivered: Arc<Notify>,
    /// For `/health`.
    pub runtime: Runtime,
    /// Largest notification.
    pub webhook_max_bytes: usize,
}

/// A write to the journal that takes longer is answered with 503.
pub(crate) const JOURNAL_LIMIT: Duration = Duration::from_secs(8);

/// Of a request that is not a notification, in bytes: a policy and a payload to try out, each a megabyte.
const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// All routes, instrumented.
pub fn router(state: AppState) -> Router {
    let limit = state.webhook_max_bytes;
    let metrics = state.metrics.http.clone();
    let router = Router::new()
        .route("/v1/incidents", get(api::incidents))
        .route("/v1/incidents/{id}", get(api::incident))
        .route("/v1/incidents/{id}/{command}", post(operate::operate))
        .route("/v1/decisions", get(api::decisions))
        .route("/v1/reasons", get(api::reasons))
        .route("/v1/policy", get(policy::policy))
        .route("/v1/policy/simulate", post(policy::simulate))
        .route("/v1/freeze", get(operate::freeze).put(operate::set_freeze))
        .route("/v1/targets", get(operate::targets))
        .route("/v1/targets/{service}/release", post(operate::release))
        .route("/v1/audit", get(api::audit))
        .route("/v1/audit/verify", get(api::verify))
        .route("/v1/events", get(events::events))
        .merge(console::routes())
        .route_layer(DefaultBodyLimit::max(BODY_LIMIT))
        .route("/webhook", post(webhook::receive))
        .route("/health", get(api::health))
        .route("/openapi.json", get(openapi::document))
        .route("/metrics", state.runtime.registry.http_handler())
        .with_state(state);
    instrument_with_limit(router, metrics, limit)
}

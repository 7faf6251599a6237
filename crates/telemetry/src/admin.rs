//! The admin listener: `/livez`, `/readyz` and `/metrics`, apart from the
//! service's own traffic and never published outside the stack's networks.

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use tokio::net::TcpListener;

use crate::Runtime;

/// The admin routes, also useful inside tests.
pub fn router(rt: &Runtime) -> Router {
    Router::new()
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", rt.registry.http_handler())
        .with_state(rt.clone())
}

/// Serves until dropped; outlives the service's own listener so that a drain can be watched.
pub async fn serve(listener: TcpListener, rt: Runtime) {
    if let Err(error) = axum::serve(listener, router(&rt)).await {
        tracing::error!(%error, "admin listener failed");
    }
}

async fn readyz(State(rt): State<Runtime>) -> impl IntoResponse {
    let mut report = rt.readiness.check().await;
    // A service that drains takes no new work.
    report.ready &= !rt.shutdown.is_cancelled();
    let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(report))
}

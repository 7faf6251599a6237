//! The HTTP interface: one table of routes, and the layers around them.

mod cache;
mod docs;
mod error;
mod faults;
mod health;
mod transactions;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use rand::RngExt;
use tower_http::catch_panic::CatchPanicLayer;

pub use self::docs::openapi;
use crate::{
    App,
    error::{ApiError, Exception},
};

/// One path. The table is what the router is built from and what the OpenAPI document is checked against.
pub struct Route {
    /// The template.
    pub path: &'static str,
    /// The methods, in lower case as OpenAPI writes them.
    pub methods: &'static [&'static str],
    /// Whether injected faults concern it. Those that do not are needed to see and end a fault.
    pub suffers: bool,
    handler: MethodRouter<Arc<App>>,
}

fn route(
    path: &'static str,
    methods: &'static [&'static str],
    suffers: bool,
    handler: MethodRouter<Arc<App>>,
) -> Route {
    Route { path, methods, suffers, handler }
}

/// All routes of the service.
pub fn routes(app: &Arc<App>) -> Vec<Route> {
    vec![
        route("/health", &["get"], true, get(health::health)),
        route("/transactions", &["get"], true, get(transactions::list)),
        route("/transactions/{id}", &["get"], true, get(transactions::one)),
        route("/transactions/create", &["post"], true, post(transactions::create)),
        route("/cache/stats", &["get"], true, get(cache::stats)),
        route("/cache/clear", &["post"], true, post(cache::clear)),
        route("/error", &["get"], true, get(error::error)),
        route("/faults", &["get", "put", "delete"], false, get(faults::list).put(faults::put).delete(faults::delete)),
        route("/metrics", &["get"], false, app.registry.http_handler()),
        route("/openapi.json", &["get"], false, get(docs::document)),
        route("/docs", &["get"], false, get(docs::page)),
    ]
}

/// The finished router, instrumented.
pub fn router(app: &Arc<App>) -> Router {
    let mut router = Router::new();
    for route in routes(app) {
        let handler =
            if route.suffers { route.handler.layer(from_fn_with_state(app.clone(), suffer)) } else { route.handler };
        router = router.route(route.path, handler);
    }
    let router = router
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(app.clone(), observe))
        .with_state(app.clone());
    telemetry::http::instrument(router, app.metrics.http.clone())
}

fn panicked(panic: Box<dyn std::any::Any + Send>) -> Response {
    let text = panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panic".to_owned());
    let mut response = ApiError::Internal(anyhow::anyhow!("handler panicked: {text}")).into_response();
    response.extensions_mut().insert(Exception::Panic);
    response
}

/// Tells the log whom a request is for, as a pseudonym, and counts the service's own failures once.
async fn observe(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    if let Some(pseudonyms) = &app.pseudonyms
        && let Some(id) = request.headers().get("x-user-id").and_then(|id| id.to_str().ok())
        && let Some(pseudonym) = pseudonyms.of(id)
    {
        tracing::Span::current().record("user_id", pseudonym);
    }
    let response = next.run(request).await;
    if let Some(exception) = response.extensions().get::<Exception>() {
        app.metrics.exceptions.with_label_values(&[exception.as_str()]).inc();
    }
    response
}

/// Does to a request what the injected faults demand.
async fn suffer(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let effect = app.faults.effect(|| rand::rng().random());
    if effect.hang {
        app.faults.hang_over().await;
    }
    if !effect.delay.is_zero() {
        tokio::time::sleep(effect.delay).await;
    }
    if effect.fail {
        return ApiError::Injected.into_response();
    }
    next.run(request).await
}

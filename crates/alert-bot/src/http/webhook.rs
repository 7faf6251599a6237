//! `POST /webhook`: check, write down, acknowledge. Acting comes later, elsewhere:
//! a sender that waits for an action repeats it.

use std::time::Instant;

use axum::{
    Json,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use telemetry::problem::{self, Problem};
use utoipa::ToSchema;

use super::{AppState, JOURNAL_LIMIT};
use crate::{intake, timestamp::Timestamp};

/// Of an unreadable notification no more than this is kept.
const QUARANTINE_BYTES: usize = 64 * 1024;

/// The acknowledgement.
#[derive(Serialize, ToSchema)]
pub struct Accepted {
    /// Alerts in the notification, now on disk.
    pub accepted: usize,
}

/// Takes a notification.
#[utoipa::path(
    post, path = "/webhook", tag = "intake",
    request_body(content = Object, description = "Alertmanager's webhook payload, version 4, or `{\"alerts\":[{\"status\":\"firing\",\"labels\":{\"alertname\":\"…\"}}]}`"),
    security(("webhook" = []), ("webhook-basic" = [])),
    responses(
        (status = 202, description = "On disk; acted on later", body = Accepted),
        (status = 400, description = "Not understood; kept in quarantine"),
        (status = 401, description = "No or wrong token"),
        (status = 413, description = "Too large"),
        (status = 503, description = "Could not be written down; send it again"),
    )
)]
pub async fn receive(State(app): State<AppState>, request: Request) -> Response {
    let started = Instant::now();
    let count = |result| app.metrics.webhooks.with_label_values(&[result]).inc();
    if !app.access.webhook.allows(request.headers()) {
        count("unauthorized");
        return Problem::unauthorized().into_response();
    }
    let body = match problem::bytes(request, &()).await {
        Ok(body) => body,
        Err(problem) => {
            count("malformed");
            return problem.into_response();
        }
    };
    let received_at = Timestamp::now();
    // Large ones are parsed aside: the others must not wait for it.
    let parsed = if body.len() > 256 * 1024 {
        let body = body.clone();
        match tokio::task::spawn_blocking(move || intake::parse(&body)).await {
            Ok(parsed) => parsed,
            Err(error) => return Problem::internal(error).into_response(),
        }
    } else {
        intake::parse(&body)
    };
    let notification = match parsed {
        Ok(notification) => notification,
        Err(error) => {
            count("malformed");
            let kept = body.get(..QUARANTINE_BYTES).unwrap_or(&body).to_vec();
            // 400 in any case: it will not be better understood the second time.
            if let Err(error) = app.journal.quarantine(received_at, error.to_string(), kept).await {
                tracing::warn!(%error, "an unreadable notification could not be kept");
            }
            tracing::warn!(field = error.field, detail = error.detail, "a notification was not understood");
            return Problem::new(StatusCode::BAD_REQUEST, "Not a notification")
                .field(error.field, error.detail)
                .into_response();
        }
    };
    let alerts = notification.alerts.len();
    let stored = tokio::time::timeout(JOURNAL_LIMIT, app.journal.deliver(received_at, alerts, body.into())).await;
    match stored {
        Ok(Ok(())) => {
            app.delivered.notify_one();
            count("accepted");
            app.metrics.ack.observe(started.elapsed().as_secs_f64());
            (StatusCode::ACCEPTED, Json(Accepted { accepted: alerts })).into_response()
        }
        failed => {
            // Alertmanager sends it again after 5xx; after 4xx it never would.
            count("unavailable");
            app.metrics.journal_errors.inc();
            let error = match failed {
                Ok(Err(error)) => error.to_string(),
                _ => "no answer in time".to_owned(),
            };
            tracing::error!(error, "a notification could not be written down");
            Problem::unavailable("the journal").into_response()
        }
    }
}

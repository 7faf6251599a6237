//! The API: the log as static files, and one way to append.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Serialize;
use subtle::ConstantTimeEq;
use telemetry::{
    config::Secret,
    metrics::Registry,
    problem::{Json, Problem},
};

use super::App;
use crate::{
    batch::Answer,
    disk,
    log::Outcome,
    tile::{TileId, width_in},
};

/// A request's body; about 10,000 entries.
const BODY_LIMIT: usize = 16 * 1024 * 1024;

/// Entries in one request.
const MOST_ENTRIES: usize = 10_000;

/// All routes, with the HTTP layer around them.
pub(super) fn router(app: Arc<App>, token: Secret, registry: &Registry) -> Router {
    let http = app.metrics.http.clone();
    let token = Arc::new(token);
    let router = Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/tile/{*path}", get(tile))
        .route("/key", get(key))
        .route("/v1/ledger", get(ledger))
        .route("/v1/entries", post(move |state, headers, body| append(token, state, headers, body)))
        .route("/metrics", registry.http_handler())
        .with_state(app);
    telemetry::http::instrument_with_limit(router, http, BODY_LIMIT)
}

async fn read(path: std::path::PathBuf) -> Result<Option<Vec<u8>>, Problem> {
    tokio::task::spawn_blocking(move || disk::read(&path)).await.map_err(Problem::internal)?.map_err(Problem::internal)
}

async fn checkpoint(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let bytes = read(app.place.dir.join("checkpoint")).await?.ok_or_else(|| Problem::not_found("checkpoint"))?;
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")];
    Ok((headers, bytes).into_response())
}

/// Tiles and bundles under the signed checkpoint; what lies beyond it is not published yet.
async fn tile(State(app): State<Arc<App>>, Path(path): Path<String>) -> Result<Response, Problem> {
    let id: TileId = format!("tile/{path}").parse().map_err(|_| Problem::not_found("tile"))?;
    let size = app.head.borrow().as_ref().map_or(0, |h| h.checkpoint.size);
    if id.width > width_in(size, id.kind, id.index) {
        return Err(Problem::not_found("tile"));
    }
    let bytes = read(app.place.dir.join(id.to_string())).await?.ok_or_else(|| Problem::not_found("tile"))?;
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::CACHE_CONTROL, "public, max-age=31536000, immutable"),
    ];
    Ok((headers, bytes).into_response())
}

async fn key(State(app): State<Arc<App>>) -> String {
    format!("{}\n", app.key)
}

#[derive(Serialize)]
struct LedgerView {
    origin: String,
    verifier_key: String,
    tree_size: u64,
    root: String,
    checkpoint_age_seconds: f64,
    signatures: usize,
}

async fn ledger(State(app): State<Arc<App>>) -> Result<Json<LedgerView>, Problem> {
    let head = app.head.borrow().clone().ok_or_else(|| Problem::unavailable("log"))?;
    Ok(Json(LedgerView {
        verifier_key: app.key.to_string(),
        tree_size: head.checkpoint.size,
        root: crate::scan::base64(&head.checkpoint.root),
        checkpoint_age_seconds: (super::now_us() - head.at_us).max(0) as f64 / 1e6,
        signatures: head.note.signatures().len(),
        origin: head.checkpoint.origin,
    }))
}

/// What became of the lines of one request.
#[derive(Debug, Default, Serialize)]
struct Appended {
    appended: u64,
    duplicates: u64,
    refused: Vec<RefusedLine>,
    /// Index of the last entry that was appended.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_index: Option<u64>,
}

#[derive(Debug, Serialize)]
struct RefusedLine {
    /// From 1.
    line: usize,
    detail: String,
}

fn authorized(token: &Secret, headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let given = given.and_then(|v| v.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    given.is_some_and(|(_, value)| bool::from(value.trim().as_bytes().ct_eq(token.expose().as_bytes())))
}

/// Takes entries, one JSON document a line. Answers when they are durable and signed.
///
/// A line that is refused does not spoil the others; a line that was there before counts as a
/// duplicate, so that a sender may repeat what it has no answer to.
async fn append(
    token: Arc<Secret>,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Appended>, Problem> {
    if !authorized(&token, &headers) {
        return Err(Problem::unauthorized());
    }
    let lines: Vec<Vec<u8>> =
        body.split(|b| *b == b'\n').filter(|l| !l.trim_ascii().is_empty()).map(<[u8]>::to_vec).collect();
    if lines.is_empty() {
        return Err(Problem::bad_request("the body has no entries: one JSON document a line"));
    }
    if lines.len() > MOST_ENTRIES {
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Too many entries")
            .detail(format!("{} lines, at most {MOST_ENTRIES}", lines.len())));
    }
    let (tx, rx) = tokio::sync::oneshot::channel::<Answer>();
    let reply = move |answer| {
        // A client that went away needs no answer.
        let _ = tx.send(answer);
    };
    app.sender.send(lines, reply).map_err(|_| Problem::unavailable("log"))?;
    let outcomes = rx.await.map_err(|_| Problem::unavailable("log"))?.map_err(|_| Problem::unavailable("log"))?;
    let mut answer = Appended::default();
    for (i, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Outcome::Appended(index) => {
                answer.appended += 1;
                answer.last_index = Some(index);
            }
            Outcome::Duplicate(_) => answer.duplicates += 1,
            Outcome::Refused(detail) => answer.refused.push(RefusedLine { line: i + 1, detail }),
        }
    }
    Ok(Json(answer))
}

//! Intake, API and page.

mod page;
mod slack;

use std::sync::{Arc, atomic::Ordering};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::IntoResponse,
    routing::{get, post},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use telemetry::problem::{Json, Path, Problem, Query};
use time::OffsetDateTime;

use crate::{
    Inbox,
    notification::{self, Channel, Draft},
    store::Notification,
    wire::webhook::Headers,
};

/// How many are shown unless a caller says otherwise.
const DEFAULT_LIMIT: usize = 100;

/// Nothing is loaded from elsewhere, nothing is framed, and no foreign text can run.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// All routes.
pub fn router(inbox: Arc<Inbox>) -> Router {
    Router::new()
        .route("/", get(show))
        .route("/assets/style.css", get(|| asset("text/css; charset=utf-8", include_str!("assets/style.css"))))
        .route("/assets/app.js", get(|| asset("text/javascript; charset=utf-8", include_str!("assets/app.js"))))
        .route("/slack", post(slack::hook))
        .route("/api/auth.test", post(slack::auth_test))
        .route("/api/chat.postMessage", post(slack::post_message))
        .route("/api/chat.update", post(slack::update))
        .route("/webhook", post(webhook))
        .route("/webhook/dead-man", post(heartbeat))
        .route("/v1/notifications", get(list).delete(clear))
        .route("/v1/notifications/{id}", get(one))
        .route("/v1/threads", get(threads))
        .route("/v1/violations", get(violations))
        .with_state(inbox)
}

impl Inbox {
    /// Keeps and counts one.
    pub fn take(&self, draft: Draft, now: OffsetDateTime) -> u64 {
        let channel = draft.channel.name();
        tracing::info!(channel, title = draft.title, "notification received");
        let found = draft.violations.len();
        if found > 0 {
            tracing::warn!(channel, violations = ?draft.violations, "a message breaks its medium's rules");
        }
        self.metrics.violations.with_label_values(&[channel]).inc_by(found as u64);
        let (id, kept) = self.store.put(draft, now);
        self.metrics.received.with_label_values(&[channel]).inc();
        self.metrics.kept.set(i64::try_from(kept).unwrap_or(i64::MAX));
        id
    }

    /// A `ts` that no other message has.
    fn next_ts(&self, now: OffsetDateTime) -> String {
        let count = self.sent.fetch_add(1, Ordering::Relaxed);
        format!("{}.{:06}", now.unix_timestamp(), count % 1_000_000)
    }

    fn refuse(&self, channel: Channel) {
        self.metrics.refused.with_label_values(&[channel.name()]).inc();
    }
}

async fn webhook(
    State(inbox): State<Arc<Inbox>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<serde_json::Value>, Problem> {
    take_webhook(&inbox, &headers, &body, false)
}

/// Where an alert that always fires reports: it proves that the alerting path works.
async fn heartbeat(State(inbox): State<Arc<Inbox>>, body: Bytes) -> Result<Json<serde_json::Value>, Problem> {
    take_webhook(&inbox, &HeaderMap::new(), &body, true)
}

fn take_webhook(
    inbox: &Inbox,
    headers: &HeaderMap,
    body: &[u8],
    heartbeat: bool,
) -> Result<Json<serde_json::Value>, Problem> {
    let header = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(ToOwned::to_owned);
    let headers = Headers { signature: header("x-selfheal-signature"), key: header("idempotency-key") };
    // The same key is the same message: it is answered as it was the first time.
    if let Some(id) = headers.key.as_ref().and_then(|key| inbox.store.by_key(Channel::Webhook, key)) {
        return Ok(Json(json!({ "id": id })));
    }
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let secret = inbox.webhook_secret.as_ref().map(|s| s.expose());
    match notification::signed_webhook(body, &headers, secret, now).map(|draft| Draft { heartbeat, ..draft }) {
        Ok(draft) => Ok(Json(json!({ "id": inbox.take(draft, OffsetDateTime::now_utc()) }))),
        Err(what) => {
            inbox.refuse(Channel::Webhook);
            Err(Problem::bad_request(what))
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    channel: Option<Channel>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct List {
    notifications: Vec<Notification>,
    /// How many there are, shown or not.
    total: usize,
}

async fn list(State(inbox): State<Arc<Inbox>>, Query(page): Query<Page>) -> Result<Json<List>, Problem> {
    let (notifications, total) = inbox.store.list(page.channel, limit(&page)?);
    Ok(Json(List { notifications, total }))
}

#[derive(Serialize)]
struct Threads {
    /// Each in order; the one with the newest notification first.
    threads: Vec<Vec<Notification>>,
    /// How many notifications there are.
    total: usize,
}

async fn threads(State(inbox): State<Arc<Inbox>>, Query(page): Query<Page>) -> Result<Json<Threads>, Problem> {
    let (threads, total) = inbox.store.threads(page.channel, limit(&page)?);
    Ok(Json(Threads { threads, total }))
}

/// Notifications that break their medium's rules.
async fn violations(State(inbox): State<Arc<Inbox>>, Query(page): Query<Page>) -> Result<Json<List>, Problem> {
    let (all, _) = inbox.store.list(page.channel, usize::MAX);
    let mut notifications: Vec<_> = all.into_iter().filter(|n| !n.draft.violations.is_empty()).collect();
    let total = notifications.len();
    notifications.truncate(limit(&page)?);
    Ok(Json(List { notifications, total }))
}

fn limit(page: &Page) -> Result<usize, Problem> {
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT);
    if (1..=1000).contains(&limit) {
        return Ok(limit);
    }
    Err(Problem::new(StatusCode::BAD_REQUEST, "Invalid query").field("limit", "must be 1 to 1000"))
}

async fn one(State(inbox): State<Arc<Inbox>>, Path(id): Path<u64>) -> Result<Json<Notification>, Problem> {
    inbox.store.get(id).map(Json).ok_or_else(|| Problem::not_found(format_args!("notification {id}")))
}

async fn clear(State(inbox): State<Arc<Inbox>>) -> Json<serde_json::Value> {
    let deleted = inbox.store.clear();
    inbox.metrics.kept.set(0);
    Json(json!({ "deleted": deleted }))
}

async fn show(State(inbox): State<Arc<Inbox>>, Query(page): Query<Page>) -> impl IntoResponse {
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT).clamp(1, 1000);
    let (threads, total) = inbox.store.threads(page.channel, limit);
    let html = page::render(&threads, total, page.channel);
    ([(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))], secured(html))
}

async fn asset(content_type: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(content_type))], secured(text))
}

fn secured<B>(body: B) -> ([(HeaderName, HeaderValue); 4], B) {
    let headers = [
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY)),
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, body)
}

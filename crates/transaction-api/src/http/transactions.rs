//! `/transactions`: list, read, create.

#![allow(unused_qualifications, reason = "utoipa's macro qualifies what is in scope")]

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Deserializer, Serialize, de};
use telemetry::problem::{self, Path, Problem, Query};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::docs::ProblemDocument;
use crate::{
    App,
    cache::{PageKey, Source},
    create::{self, Outcome},
    cursor::Cursor,
    db::{Database, DbError},
    error::ApiError,
    idempotency::{HEADER, Key},
    transaction::{Draft, Status, Transaction},
};

const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The length of a page: 1 to 200.
#[derive(Clone, Copy, Debug)]
pub struct Limit(u16);

impl Limit {
    const DEFAULT: Self = Self(50);
    const MAX: u16 = 200;
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        match text.parse() {
            Ok(limit) if (1..=Self::MAX).contains(&limit) => Ok(Self(limit)),
            _ => Err(de::Error::custom(format!("must be an integer from 1 to {}", Self::MAX))),
        }
    }
}

/// Parameters of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ListQuery {
    /// Length of the page.
    #[param(value_type = Option<u16>, minimum = 1, maximum = 200, default = 50)]
    limit: Option<Limit>,
    /// Only transactions with this status.
    #[param(inline)]
    status: Option<Status>,
    /// `next_cursor` of the page before, with the same `status`.
    #[param(value_type = Option<String>)]
    cursor: Option<String>,
}

/// A page of the list, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page {
    /// The transactions.
    pub items: Vec<Transaction>,
    /// Continues the list; `null` at its end.
    pub next_cursor: Option<String>,
}

/// Newest first. First pages come from a cache: `x-cache` says `hit`, `miss` or
/// `stale`, `age` how old the content is in seconds.
#[utoipa::path(
    get,
    path = "/transactions",
    tag = "transactions",
    operation_id = "list_transactions",
    params(ListQuery),
    responses(
        (status = 200, description = "A page", body = Page),
        (status = 400, description = "A parameter is wrong", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Postgres cannot be used and there is no copy to stand in", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub async fn list(State(app): State<Arc<App>>, Query(query): Query<ListQuery>) -> Result<Response, ApiError> {
    let limit = query.limit.unwrap_or(Limit::DEFAULT).0;
    let filter = query.status;
    if let Some(text) = query.cursor {
        let cursor = Cursor::decode(&text, filter).map_err(|error| {
            Problem::new(StatusCode::BAD_REQUEST, "Invalid query").field("cursor", error.to_string())
        })?;
        let body = read_page(&app.db, filter, Some(cursor), limit).await?;
        return Ok(json(StatusCode::OK, body));
    }
    let db = app.db.clone();
    let served = app
        .cache
        .get(PageKey { filter, limit }, move || async move { read_page(&db, filter, None, limit).await })
        .await?;
    let mut response = json(StatusCode::OK, served.body);
    let headers = response.headers_mut();
    let state = match served.source {
        Source::Cache => "hit",
        Source::Database => "miss",
        Source::Stale => "stale",
    };
    headers.insert(X_CACHE, HeaderValue::from_static(state));
    headers.insert(header::AGE, HeaderValue::from(served.age.as_secs()));
    if served.source == Source::Stale {
        headers.insert(header::WARNING, HeaderValue::from_static("110 - \"response is stale\""));
    }
    Ok(response)
}

async fn read_page(db: &Database, filter: Option<Status>, after: Option<Cursor>, limit: u16) -> Result<Bytes, DbError> {
    // One more than asked for tells whether there is a next page.
    let mut items = db.list(filter, after, i64::from(limit) + 1).await?;
    let more = items.len() > usize::from(limit);
    items.truncate(limit.into());
    let next_cursor = items.last().filter(|_| more).map(|last| Cursor::after(last, filter).encode());
    Ok(to_json(&Page { items, next_cursor }))
}

/// One transaction.
#[utoipa::path(
    get,
    path = "/transactions/{id}",
    tag = "transactions",
    operation_id = "get_transaction",
    params(("id" = String, Path, description = "The transaction's id", format = "uuid")),
    responses(
        (status = 200, description = "The transaction", body = Transaction),
        (status = 400, description = "Not an id", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "No such transaction", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Postgres cannot be used", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub async fn one(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Response, ApiError> {
    let id = Uuid::try_parse(&id).map_err(|_| {
        Problem::new(StatusCode::BAD_REQUEST, "Invalid path").field("id", "is not the id of a transaction (a UUID)")
    })?;
    match app.db.get(id).await? {
        Some(transaction) => Ok(json(StatusCode::OK, to_json(&transaction))),
        None => Err(Problem::not_found("transaction").into()),
    }
}

/// Takes a payment and stores it.
///
/// An empty body makes a plausible random payment. A payment that the gateway declines is stored
/// too and answered with 201 and `status: declined`: that is a business failure, not an error of
/// the service. With an `Idempotency-Key` a repetition of the same request answers with the first
/// one's transaction and `idempotent-replayed: true`.
#[utoipa::path(
    post,
    path = "/transactions/create",
    tag = "transactions",
    operation_id = "create_transaction",
    params(("Idempotency-Key" = Option<String>, Header, description = "1 to 255 visible ASCII characters; honoured for 24 hours", max_length = 255)),
    request_body(content = Option<Draft>, description = "What to pay; empty for a random payment"),
    responses(
        (status = 201, description = "Stored, approved or declined", body = Transaction,
            headers(("location" = String, description = "Where to read it"), ("idempotent-replayed" = bool, description = "An earlier request with this key stored it"))),
        (status = 400, description = "Not JSON", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "A request with this key has not ended yet", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "Larger than 64 KiB", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "A body that is not sent as application/json", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong, or the key was used for another request", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 500, description = "The payment gateway broke; nothing was stored", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Postgres cannot be used", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let key = Key::from_headers(request.headers())
        .map_err(|wrong| Problem::new(StatusCode::BAD_REQUEST, "Invalid header").field(HEADER, wrong))?;
    let is_json = is_json(request.headers().get(header::CONTENT_TYPE));
    let body = problem::bytes(request, &()).await?;
    let draft = match (body.is_empty(), is_json) {
        (true, _) => None,
        (false, true) => Some(problem::parse_json::<Draft>(&body)?),
        (false, false) => {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type")
                .detail("a body must be sent with content-type: application/json")
                .into());
        }
    };
    let Outcome { transaction, replayed } = create::create(app, draft, key).await?;
    let mut response = json(StatusCode::CREATED, to_json(&transaction));
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::try_from(format!("/transactions/{}", transaction.id)) {
        headers.insert(header::LOCATION, location);
    }
    if replayed {
        headers.insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn is_json(content_type: Option<&HeaderValue>) -> bool {
    content_type
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|mime| mime.trim().eq_ignore_ascii_case("application/json"))
}

/// Our own types always serialise: no map with other keys than strings, no failing implementation.
fn to_json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).unwrap_or_default().into()
}

fn json(status: StatusCode, body: Bytes) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
    (status, headers, body).into_response()
}

//! Errors as `application/problem+json` (RFC 9457), and extractors that answer with them.
//!
//! What a client may know and what an operator must know are kept apart:
//! [`Problem::internal`] logs the cause and answers without it.

use std::fmt::Display;

use axum::{
    extract::{FromRequest, FromRequestParts, Request, path::ErrorKind, rejection::PathRejection},
    http::{HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::trace;

/// One problem on its way to a client.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Problem(Box<Body>);

#[derive(Clone, Debug, Serialize)]
struct Body {
    #[serde(rename = "type")]
    kind: String,
    title: String,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(skip)]
    retry_after: Option<u32>,
}

/// What is wrong with one field of the request.
#[derive(Clone, Debug, Serialize)]
struct FieldError {
    field: String,
    detail: String,
}

impl Problem {
    /// A problem with a status and a short title that is the same for all of its kind.
    pub fn new(status: StatusCode, title: impl Into<String>) -> Self {
        Self(Box::new(Body {
            kind: "about:blank".to_owned(),
            title: title.into(),
            status: status.as_u16(),
            detail: None,
            instance: None,
            trace_id: None,
            errors: Vec::new(),
            retry_after: None,
        }))
    }

    /// 400, for a request that cannot be understood.
    pub fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "Bad request").detail(detail)
    }

    /// 422, for a field that is understood and not acceptable.
    pub fn invalid(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Invalid request").field(field, detail)
    }

    /// 404, naming what was not found.
    pub fn not_found(what: impl Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not found").detail(format!("no such {what}"))
    }

    /// 401, for a missing or wrong token.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized").detail("a valid bearer token is required")
    }

    /// 503 for a dependency that cannot be used now.
    pub fn unavailable(dependency: &str) -> Self {
        let mut problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable")
            .detail(format!("{dependency} cannot be used right now"));
        problem.0.retry_after = Some(1);
        problem
    }

    /// 500. Logs `error` here, once, marks the span, and tells the client nothing of it.
    pub fn internal(error: impl Display) -> Self {
        tracing::error!(error = %error, "request failed");
        trace::set_error("internal error");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal server error")
            .detail("the request failed; the trace id leads to the cause")
    }

    /// A type of its own, as a relative reference.
    #[must_use]
    pub fn with_type(mut self, kind: impl Into<String>) -> Self {
        self.0.kind = kind.into();
        self
    }

    /// What is particular to this occurrence.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Names a field and what is wrong with it.
    #[must_use]
    pub fn field(mut self, field: impl Into<String>, detail: impl Into<String>) -> Self {
        self.0.errors.push(FieldError { field: field.into(), detail: detail.into() });
        self
    }

    /// The status to answer with.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The body, with the request's path as `instance`.
    pub(crate) fn render(mut self, path: &str) -> Vec<u8> {
        self.0.instance = Some(path.to_owned());
        serde_json::to_vec(&self).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    fn into_response(mut self) -> Response {
        self.0.trace_id = trace::current_trace_id();
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (self.status(), [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if let Some(seconds) = self.0.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.0.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        // The HTTP layer takes it out again to fill in the path.
        response.extensions_mut().insert(self);
        response
    }
}

/// A JSON body; what is wrong with it becomes a problem that names the field.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let content_type = request.headers().get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
        let is_json = content_type.and_then(|v| v.split(';').next()).is_some_and(|mime| {
            let mime = mime.trim();
            mime.eq_ignore_ascii_case("application/json") || mime.to_ascii_lowercase().ends_with("+json")
        });
        if !is_json {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type")
                .detail("the body must be sent with content-type: application/json"));
        }
        let body = bytes(request, state).await?;
        parse_json(&body).map(Self)
    }
}

/// The whole body within the limit, as a problem otherwise.
pub async fn bytes<S: Send + Sync>(request: Request, state: &S) -> Result<bytes::Bytes, Problem> {
    bytes::Bytes::from_request(request, state).await.map_err(|rejection| {
        if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "Body too large").detail("the body is larger than allowed")
        } else {
            Problem::bad_request("the body could not be read")
        }
    })
}

/// Parses JSON, naming the field that is wrong.
///
/// # Errors
/// 400 for what is no JSON, 422 for JSON of another shape.
pub fn parse_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.inner();
        match inner.classify() {
            serde_json::error::Category::Data => Problem::invalid(field_of(&path, inner), plain(inner)),
            _ => Problem::bad_request(format!("the body is not valid JSON: {inner}")),
        }
    })?;
    deserializer.end().map_err(|e| Problem::bad_request(format!("the body is not valid JSON: {e}")))?;
    Ok(value)
}

/// serde's path stops at the object that misses or does not know a field; its message names it.
fn field_of(path: &str, error: &serde_json::Error) -> String {
    let text = error.to_string();
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .iter()
        .find_map(|start| text.strip_prefix(start))
        .and_then(|rest| rest.split('`').next());
    match (path, named) {
        (".", Some(name)) => name.to_owned(),
        (path, Some(name)) if path != name && !path.ends_with(&format!(".{name}")) => format!("{path}.{name}"),
        (".", None) => "body".to_owned(),
        (path, _) => path.to_owned(),
    }
}

/// serde's message without its position, which says little about a body of one line.
fn plain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

/// Query parameters; what is wrong with them becomes a problem that names the parameter.
#[derive(Clone, Copy, Debug, Default)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parse_query(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

/// Parses a query string, naming the parameter that is wrong.
///
/// # Errors
/// 400.
pub fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let text = error.inner().to_string();
        let named = ["missing field `", "unknown field `", "duplicate field `"]
            .iter()
            .find_map(|start| text.strip_prefix(start))
            .and_then(|rest| rest.split('`').next());
        let field = named.map_or_else(|| error.path().to_string(), ToOwned::to_owned);
        Problem::new(StatusCode::BAD_REQUEST, "Invalid query").field(field, text)
    })
}

/// Path parameters; one of the wrong form becomes a problem that names it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let rejection = match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => return Ok(Self(value)),
            Err(rejection) => rejection,
        };
        let problem = Problem::new(StatusCode::BAD_REQUEST, "Invalid path");
        Err(match rejection {
            PathRejection::FailedToDeserializePathParams(error) => match error.into_kind() {
                ErrorKind::ParseErrorAtKey { key, value, expected_type } => {
                    problem.field(key, format!("'{value}' is not a valid {expected_type}"))
                }
                ErrorKind::DeserializeError { key, value, message } => {
                    problem.field(key, format!("'{value}': {message}"))
                }
                // A lone parameter's error does not name it; the route does.
                ErrorKind::ParseError { value, expected_type } => {
                    let params = axum::extract::RawPathParams::from_request_parts(parts, state).await;
                    let name = params.ok().and_then(|p| p.iter().next().map(|(name, _)| name.to_owned()));
                    problem.field(
                        name.unwrap_or_else(|| "path".to_owned()),
                        format!("'{value}' is not a valid {expected_type}"),
                    )
                }
                other => problem.detail(other.to_string()),
            },
            other => problem.detail(other.to_string()),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Order {
        #[expect(dead_code, reason = "only its parsing matters")]
        amount: u32,
        #[expect(dead_code, reason = "only its parsing matters")]
        #[serde(default)]
        items: Vec<Item>,
    }

    #[derive(Debug, Deserialize)]
    struct Item {
        #[expect(dead_code, reason = "only its parsing matters")]
        name: String,
    }

    fn refused(body: &str) -> serde_json::Value {
        let problem = parse_json::<Order>(body.as_bytes()).unwrap_err();
        serde_json::from_slice(&problem.render("/orders")).unwrap()
    }

    #[test]
    fn a_refused_body_names_the_field() {
        for (body, status, field) in [
            (r#"{"amount": "x"}"#, 422, "amount"),
            (r#"{}"#, 422, "amount"),
            (r#"{"amount": 1, "tip": 2}"#, 422, "tip"),
            (r#"{"amount": 1, "items": [{"name": 3}]}"#, 422, "items[0].name"),
            (r#"{"amount": 1, "items": [{}]}"#, 422, "items[0].name"),
            (r#""x""#, 422, "body"),
        ] {
            let told = refused(body);
            assert_eq!(
                (told["status"].clone(), told["errors"][0]["field"].clone()),
                (json!(status), json!(field)),
                "{body}: {told}"
            );
        }
        for body in ["", "{", "{\"amount\": 1} x"] {
            assert_eq!(refused(body)["status"], 400, "{body}");
        }
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Page {
        #[expect(dead_code, reason = "only its parsing matters")]
        limit: Option<u32>,
    }

    #[test]
    fn a_refused_query_names_the_parameter() {
        for (query, field) in [("limit=many", "limit"), ("limit=1&x=2", "x"), ("limit=1&limit=2", "limit")] {
            let problem = parse_query::<Page>(query).unwrap_err();
            assert_eq!(problem.0.errors[0].field, field, "{query}");
        }
    }
}

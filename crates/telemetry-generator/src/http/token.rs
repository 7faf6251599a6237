//! Who may change something: the operator, by bearer token.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::Response,
};
use subtle::ConstantTimeEq;
use telemetry::{config::Secret, problem::Problem};

/// Lets a request through that carries the token.
pub async fn require(
    State(token): State<Arc<Option<Secret>>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let Some(expected) = token.as_ref() else {
        return Err(Problem::new(StatusCode::FORBIDDEN, "Forbidden").detail("no operator token is configured"));
    };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok());
    let given = given.and_then(|v| v.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    let ok = given.is_some_and(|(_, value)| bool::from(value.trim().as_bytes().ct_eq(expected.expose().as_bytes())));
    if !ok {
        return Err(Problem::unauthorized());
    }
    Ok(next.run(request).await)
}

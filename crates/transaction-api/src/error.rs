//! Errors of requests: what the client is told, what is logged, what is counted.

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use telemetry::problem::Problem;

use crate::{db::DbError, gateway::GatewayError};

/// Types of failure that are the service's own; label `type` of `app_exceptions_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exception {
    /// `GET /error`.
    Settlement,
    /// The payment gateway broke.
    Gateway,
    /// A fault was injected.
    Injected,
    /// Postgres could not be used.
    Database,
    /// A handler panicked.
    Panic,
    /// Anything else.
    Internal,
}

impl Exception {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Settlement, Self::Gateway, Self::Injected, Self::Database, Self::Panic, Self::Internal];

    /// The label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Settlement => "settlement",
            Self::Gateway => "gateway",
            Self::Injected => "injected",
            Self::Database => "database",
            Self::Panic => "panic",
            Self::Internal => "internal",
        }
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The client's mistake, told as it is.
    #[error("refused")]
    Refused(Problem),
    /// The key was used for another request.
    #[error("idempotency key reused")]
    KeyReused,
    /// The request with this key has not ended yet.
    #[error("idempotency key in progress")]
    InProgress,
    /// Postgres.
    #[error(transparent)]
    Database(#[from] DbError),
    /// The payment gateway.
    #[error(transparent)]
    Gateway(#[from] GatewayError),
    /// `GET /error`.
    #[error("settlement failed")]
    Settlement(#[source] anyhow::Error),
    /// A fault was injected.
    #[error("injected fault")]
    Injected,
    /// Anything else.
    #[error(transparent)]
    Internal(anyhow::Error),
}

impl From<Problem> for ApiError {
    fn from(problem: Problem) -> Self {
        Self::Refused(problem)
    }
}

impl ApiError {
    /// What to count it as, if it is the service's own failure.
    fn exception(&self) -> Option<Exception> {
        match self {
            Self::Refused(_) | Self::KeyReused | Self::InProgress => None,
            Self::Database(error) if error.constraint().and_then(field_of).is_some() => None,
            Self::Database(_) => Some(Exception::Database),
            Self::Gateway(_) => Some(Exception::Gateway),
            Self::Settlement(_) => Some(Exception::Settlement),
            Self::Injected => Some(Exception::Injected),
            Self::Internal(_) => Some(Exception::Internal),
        }
    }

    fn into_problem(self) -> Problem {
        match self {
            Self::Refused(problem) => problem,
            Self::KeyReused => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "Idempotency key reused")
                .with_type("/docs#idempotency-key-reused")
                .field(crate::idempotency::HEADER, "was used for a request with another body"),
            Self::InProgress => Problem::new(StatusCode::CONFLICT, "Request in progress")
                .with_type("/docs#request-in-progress")
                .field(crate::idempotency::HEADER, "belongs to a request that has not ended yet; try again"),
            Self::Database(error) => match error {
                DbError::Unavailable(cause) => {
                    // Once a request, at the level of something that is expected to pass.
                    tracing::warn!(error = %cause, "postgres cannot be used");
                    Problem::unavailable("postgres")
                }
                other => match other.constraint().and_then(field_of) {
                    Some((field, detail)) => Problem::invalid(field, detail),
                    None => Problem::internal(other),
                },
            },
            Self::Gateway(error) => Problem::internal(error).with_type("/docs#gateway-error"),
            Self::Settlement(error) => Problem::internal(format!("settlement failed: {error:#}")),
            Self::Injected => Problem::internal("injected fault"),
            Self::Internal(error) => Problem::internal(format!("{error:#}")),
        }
    }
}

/// The schema's own checks, should a value slip past ours: the field and what is wrong with it.
fn field_of(constraint: &str) -> Option<(&'static str, &'static str)> {
    Some(match constraint {
        "transactions_amount_range" => ("amount", "is out of range"),
        "transactions_currency_code" => ("currency", "is not an ISO 4217 code"),
        "transactions_description_length" => ("description", "must have 1 to 200 characters"),
        _ => return None,
    })
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let exception = self.exception();
        let mut response = self.into_problem().into_response();
        // Counted by the layer around all handlers, so that it is counted once.
        if let Some(exception) = exception {
            response.extensions_mut().insert(exception);
        }
        response
    }
}

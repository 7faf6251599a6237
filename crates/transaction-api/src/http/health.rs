//! `GET /health`: what was checked, how long each took, and what follows.

use std::{sync::Arc, time::Instant};

use axum::{Json, extract::State, response::IntoResponse};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::App;

/// What follows from the checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = HealthStatus)]
pub enum Verdict {
    /// All is well.
    Ok,
    /// Serves, but slower: Redis is down.
    Degraded,
    /// Cannot store or read: Postgres is down.
    Unavailable,
}

/// One check.
#[derive(Debug, Serialize, ToSchema)]
pub struct Check {
    /// The dependency can be used.
    pub ok: bool,
    /// How long the check took.
    pub seconds: f64,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<&'static str>,
}

/// All checks.
#[derive(Debug, Serialize, ToSchema)]
pub struct Checks {
    /// Without it nothing can be stored.
    pub postgres: Check,
    /// Without it lists are read from Postgres; absent if not configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis: Option<Check>,
}

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// What follows from the checks.
    pub status: Verdict,
    /// The version that runs.
    pub version: &'static str,
    /// How long it has been running.
    pub uptime_seconds: f64,
    /// How long all checks took together.
    pub seconds: f64,
    /// Each check.
    pub checks: Checks,
}

fn verdict(checks: &Checks) -> Verdict {
    match (checks.postgres.ok, &checks.redis) {
        (false, _) => Verdict::Unavailable,
        (true, Some(Check { ok: false, .. })) => Verdict::Degraded,
        (true, _) => Verdict::Ok,
    }
}

/// Checks Postgres and Redis now. 503 if Postgres cannot be used; 200 and
/// `degraded` if only Redis cannot.
#[utoipa::path(
    get,
    path = "/health",
    tag = "operation",
    operation_id = "health",
    responses(
        (status = 200, description = "Can serve", body = Health),
        (status = 503, description = "Postgres cannot be used", body = Health),
    )
)]
pub async fn health(State(app): State<Arc<App>>) -> impl IntoResponse {
    let started = Instant::now();
    let postgres = async {
        let result = app.db.check().await;
        let seconds = started.elapsed().as_secs_f64();
        app.metrics.health.database.observe(seconds);
        // The cause names addresses and users: it is for the log of the request that fails.
        Check { ok: result.is_ok(), seconds, error: result.err().map(|_| "cannot be used") }
    };
    let redis = async {
        let result = app.cache.remote()?.probe().await;
        let seconds = started.elapsed().as_secs_f64();
        app.metrics.health.redis.observe(seconds);
        Some(Check { ok: result.is_ok(), seconds, error: result.err() })
    };
    let (postgres, redis) = tokio::join!(postgres, redis);
    let seconds = started.elapsed().as_secs_f64();
    app.metrics.health.system.observe(seconds);
    let checks = Checks { postgres, redis };
    let status = verdict(&checks);
    let code = if status == Verdict::Unavailable { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    let health = Health {
        status,
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: app.started.elapsed().as_secs_f64(),
        seconds,
        checks,
    };
    (code, Json(health))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_postgres_is_needed() {
        let check = |ok| Check { ok, seconds: 0.0, error: None };
        for (postgres, redis, expected) in [
            (true, None, Verdict::Ok),
            (true, Some(true), Verdict::Ok),
            (true, Some(false), Verdict::Degraded),
            (false, Some(true), Verdict::Unavailable),
            (false, Some(false), Verdict::Unavailable),
            (false, None, Verdict::Unavailable),
        ] {
            let checks = Checks { postgres: check(postgres), redis: redis.map(check) };
            assert_eq!(verdict(&checks), expected, "{checks:?}");
        }
    }
}

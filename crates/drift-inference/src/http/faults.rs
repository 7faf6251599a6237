//! Switching the lake's faults.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use telemetry::problem::{Json, Problem};
use utoipa::ToSchema;

use super::models::Authorised;
use crate::{
    ingest::App,
    lake_faults::{Fault, Faults, Kind, MAX_DELAY, TTL},
};

/// A fault of the lake, as this service sees it.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFault {
    fault: Kind,
    /// Share of connections that it befalls, more than 0 to 1; 1 if not given.
    ratio: Option<f64>,
    /// Of `slow`: delay of each answer, up to 60s; 2500ms if not given.
    #[schema(example = "2500ms")]
    delay: Option<String>,
    /// Of `cut` and `half_written`: bytes that still pass; 600 if not given.
    bytes: Option<u64>,
    /// How long, 1s to 1h; 5m if not given.
    #[schema(example = "5m")]
    ttl: Option<String>,
}

/// The fault that is on.
#[derive(Debug, Serialize, ToSchema)]
pub struct FaultView {
    /// `null` for none.
    fault: Option<Kind>,
    ratio: Option<f64>,
    seconds_left: Option<f64>,
}

fn duration(field: &str, text: Option<&str>, default: Duration) -> Result<Duration, Problem> {
    let parsed = text.map(|t| t.parse::<telemetry::config::Duration>().map_err(|e| Problem::invalid(field, e)));
    Ok(parsed.transpose()?.map_or(default, |d| d.0))
}

impl NewFault {
    fn check(&self) -> Result<(Fault, Duration), Problem> {
        let ratio = self.ratio.unwrap_or(1.0);
        if !(ratio > 0.0 && ratio <= 1.0) {
            return Err(Problem::invalid("ratio", "must be more than 0 and at most 1"));
        }
        let delay = duration("delay", self.delay.as_deref(), Duration::from_millis(2_500))?;
        if delay > MAX_DELAY {
            return Err(Problem::invalid("delay", "must be at most 60s"));
        }
        let ttl = duration("ttl", self.ttl.as_deref(), Duration::from_secs(300))?;
        if !TTL.contains(&ttl) {
            return Err(Problem::invalid("ttl", "must be between 1s and 1h"));
        }
        Ok((Fault { kind: self.fault, ratio, delay, bytes: self.bytes.unwrap_or(600) }, ttl))
    }
}

fn faults(app: &App) -> Result<&Faults, Problem> {
    app.lake_faults.as_ref().ok_or_else(|| {
        Problem::new(StatusCode::FORBIDDEN, "The lake cannot be broken here")
            .detail("the service was started without LAKE_FAULTS=true")
    })
}

fn view(faults: &Faults) -> Json<FaultView> {
    let active = faults.active();
    Json(FaultView {
        fault: active.map(|(fault, _)| fault.kind),
        ratio: active.map(|(fault, _)| fault.ratio),
        seconds_left: active.map(|(_, left)| left.as_secs_f64()),
    })
}

/// Breaks the lake for this service, for a while.
#[utoipa::path(put, path = "/v1/lake/faults", security(("models" = [])), request_body = NewFault,
    responses((status = 200, body = FaultView), (status = 401, description = "no token"), (status = 403, description = "switched off"),
        (status = 422, description = "a field is not acceptable; errors names it")))]
pub async fn put(
    _: Authorised,
    State(app): State<Arc<App>>,
    Json(new): Json<NewFault>,
) -> Result<Json<FaultView>, Problem> {
    let faults = faults(&app)?;
    let (fault, ttl) = new.check()?;
    faults.put(fault, ttl);
    tracing::warn!(fault = fault.kind.as_str(), seconds = ttl.as_secs_f64(), "the lake is broken on demand");
    Ok(view(faults))
}

/// The fault that is on.
#[utoipa::path(get, path = "/v1/lake/faults", responses((status = 200, body = FaultView), (status = 403, description = "switched off")))]
pub async fn get(State(app): State<Arc<App>>) -> Result<Json<FaultView>, Problem> {
    Ok(view(faults(&app)?))
}

/// Mends it.
#[utoipa::path(delete, path = "/v1/lake/faults", security(("models" = [])),
    responses((status = 200, body = FaultView), (status = 401, description = "no token"), (status = 403, description = "switched off")))]
pub async fn delete(_: Authorised, State(app): State<Arc<App>>) -> Result<Json<FaultView>, Problem> {
    let faults = faults(&app)?;
    faults.clear();
    Ok(view(faults))
}

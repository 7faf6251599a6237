//! Switching faults.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use telemetry::problem::{Json, Path, Problem};
use utoipa::ToSchema;

use super::views::rfc3339;
use crate::{
    faults::{Active, Fault, Feature, Kind, TTL},
    fleet::Fleet,
    service::{App, now_us},
};

/// A fault to inject.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFault {
    kind: Kind,
    /// How badly, more than 0 to 2; 1 if not given. Has no meaning for gap, stuck, drift and power loss.
    severity: Option<f64>,
    /// For sensor_drift: which sensor; the temperature if not given.
    feature: Option<Feature>,
    /// For sensor_drift: what is added, in the feature's unit.
    offset: Option<f64>,
    /// How long, with its unit: 1s to 1h; 5m if not given.
    #[schema(example = "5m")]
    ttl: Option<String>,
    /// It grows from nothing to its severity over this time, up to its ttl; at once if not given. For overheat,
    /// bearing and cooling.
    #[schema(example = "30m")]
    ramp: Option<String>,
}

/// A fault that is active.
#[derive(Debug, Serialize, ToSchema)]
pub struct FaultView {
    kind: Kind,
    severity: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    feature: Option<Feature>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<f64>,
    /// `null` is the whole fleet.
    machine_id: Option<String>,
    until: String,
}

impl FaultView {
    pub(super) fn of(fleet: &Fleet, active: &Active) -> Self {
        Self {
            kind: active.fault.kind,
            severity: active.fault.severity,
            feature: active.fault.drift.map(|d| d.0),
            offset: active.fault.drift.map(|d| d.1),
            machine_id: active
                .machine
                .and_then(|number| fleet.machines().get(fleet.index_of_number(number)?))
                .map(|m| m.identity.machine_id.to_string()),
            until: rfc3339(active.until_us),
        }
    }
}

/// How many faults were ended.
#[derive(Debug, Serialize, ToSchema)]
pub struct Cleared {
    cleared: usize,
}

impl NewFault {
    fn check(self) -> Result<(Fault, Duration, Option<Duration>), Problem> {
        let severity = self.severity.unwrap_or(1.0);
        if !(severity > 0.0 && severity <= 2.0) {
            return Err(Problem::invalid("severity", "must be more than 0 and at most 2"));
        }
        let ttl = match &self.ttl {
            None => Duration::from_secs(300),
            Some(text) => {
                text.parse::<telemetry::config::Duration>().map_err(|reason| Problem::invalid("ttl", reason))?.0
            }
        };
        if !TTL.contains(&ttl) {
            return Err(Problem::invalid("ttl", "must be between 1s and 1h"));
        }
        let ramp = match &self.ramp {
            None => None,
            Some(_) if !matches!(self.kind, Kind::Overheat | Kind::Bearing | Kind::Cooling) => {
                return Err(Problem::invalid("ramp", "is for overheat, bearing and cooling only"));
            }
            Some(text) => {
                Some(text.parse::<telemetry::config::Duration>().map_err(|reason| Problem::invalid("ramp", reason))?.0)
            }
        };
        if ramp.is_some_and(|ramp| ramp > ttl) {
            return Err(Problem::invalid("ramp", "must not be longer than the ttl"));
        }
        let drift = if self.kind == Kind::SensorDrift {
            let feature = self.feature.unwrap_or(Feature::Temperature);
            let offset = self.offset.ok_or_else(|| Problem::invalid("offset", "is required for sensor_drift"))?;
            let most = feature.max_offset();
            if !(offset.is_finite() && offset.abs() <= most && offset != 0.0) {
                return Err(Problem::invalid("offset", format!("must be between -{most} and {most}, and not 0")));
            }
            Some((feature, offset))
        } else {
            if self.feature.is_some() || self.offset.is_some() {
                let field = if self.offset.is_some() { "offset" } else { "feature" };
                return Err(Problem::invalid(field, "is for sensor_drift only"));
            }
            None
        };
        Ok((Fault { kind: self.kind, severity, drift }, ttl, ramp))
    }
}

fn inject(fleet: &mut Fleet, machine: Option<usize>, new: NewFault) -> Result<(StatusCode, Json<FaultView>), Problem> {
    let (fault, ttl, ramp) = new.check()?;
    let now = now_us();
    let after = |time: Duration| now.saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
    let active = Active { fault, machine, until_us: after(ttl), grows: ramp.map(|ramp| (now, after(ramp))) };
    let view = FaultView::of(fleet, &active);
    tracing::warn!(
        fault = fault.kind.as_str(),
        machine_id = view.machine_id.as_deref().unwrap_or("all"),
        ttl_seconds = ttl.as_secs_f64(),
        "fault injected"
    );
    fleet.inject(active);
    Ok((StatusCode::CREATED, Json(view)))
}

/// The number of a simulated machine: a real one has faults of its own.
fn find(fleet: &Fleet, id: &str) -> Result<usize, Problem> {
    let machine = &fleet.machines()[fleet.index_of(id).ok_or_else(|| Problem::not_found("machine"))?];
    match machine.link {
        None => Ok(machine.number),
        Some(_) => Err(Problem::new(StatusCode::CONFLICT, "Conflict").detail("the machine is a real one")),
    }
}

/// Injects a fault on one machine.
#[utoipa::path(
    post, path = "/v1/machines/{id}/faults", params(("id" = String, Path)), request_body = NewFault,
    security(("operator" = [])),
    responses(
        (status = 201, body = FaultView), (status = 401, description = "wrong token"),
        (status = 404, description = "no such machine"), (status = 409, description = "a real machine"),
        (status = 422, description = "a field is not acceptable"),
    )
)]
pub async fn inject_on_machine(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Json(new): Json<NewFault>,
) -> Result<(StatusCode, Json<FaultView>), Problem> {
    let mut fleet = app.fleet.lock();
    let number = find(&fleet, &id)?;
    inject(&mut fleet, Some(number), new)
}

/// Injects a fault on every machine.
#[utoipa::path(
    post, path = "/v1/fleet/faults", request_body = NewFault, security(("operator" = [])),
    responses(
        (status = 201, body = FaultView), (status = 401, description = "wrong token"),
        (status = 422, description = "a field is not acceptable"),
    )
)]
pub async fn inject_on_fleet(
    State(app): State<Arc<App>>,
    Json(new): Json<NewFault>,
) -> Result<(StatusCode, Json<FaultView>), Problem> {
    inject(&mut app.fleet.lock(), None, new)
}

/// Ends the faults of one machine.
#[utoipa::path(
    delete, path = "/v1/machines/{id}/faults", params(("id" = String, Path)), security(("operator" = [])),
    responses((status = 200, body = Cleared), (status = 401), (status = 404, description = "no such machine"))
)]
pub async fn clear_machine(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<Cleared>, Problem> {
    let mut fleet = app.fleet.lock();
    let number = find(&fleet, &id)?;
    Ok(Json(Cleared { cleared: fleet.clear(Some(number)) }))
}

/// Ends the faults on the whole fleet; those of single machines stay.
#[utoipa::path(
    delete, path = "/v1/fleet/faults", security(("operator" = [])),
    responses((status = 200, body = Cleared), (status = 401))
)]
pub async fn clear_fleet(State(app): State<Arc<App>>) -> Json<Cleared> {
    Json(Cleared { cleared: app.fleet.lock().clear(None) })
}

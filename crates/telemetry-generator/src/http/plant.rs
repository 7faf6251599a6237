//! Changing the fleet: machines added, removed and told to take it easy.

use std::{sync::Arc, time::Duration};

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use telemetry::problem::{Json, Path, Problem};
use utoipa::ToSchema;

use super::views::rfc3339;
use crate::{
    fleet::{Identity, LoadLimit, label},
    service::{App, now_us},
};

/// Machines to add: a number of simulated ones, or a real one by name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMachines {
    /// So many simulated ones.
    count: Option<usize>,
    /// A real one: its readings will be posted.
    machine_id: Option<String>,
    /// Its production line.
    line: Option<String>,
    /// Its plant.
    site: Option<String>,
    /// It reports this often, with its unit: 100ms to 1h; 10s if not given.
    #[schema(example = "10s")]
    period: Option<String>,
}

/// Who was added.
#[derive(Debug, Serialize, ToSchema)]
pub struct Added {
    machine_ids: Vec<String>,
}

/// An order to take it easy.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLimit {
    /// Share of the maximum load, 0 to 1.
    limit: f64,
    /// How long, with its unit: 1s to 24h; 1h if not given.
    #[schema(example = "1h")]
    ttl: Option<String>,
}

/// The order that holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct LimitView {
    machine_id: String,
    /// Share of the maximum load; `null` is none.
    limit: Option<f64>,
    until: Option<String>,
}

/// Share of the load at which even a machine without a fan stays below 95 °C.
const RELIEF: f64 = 0.25;

/// A time with its unit, between two bounds.
fn period(
    field: &'static str,
    text: Option<&str>,
    usual: Duration,
    least: Duration,
    most: Duration,
) -> Result<Duration, Problem> {
    let Some(text) = text else { return Ok(usual) };
    let given = text.parse::<telemetry::config::Duration>().map_err(|reason| Problem::invalid(field, reason))?.0;
    if (least..=most).contains(&given) {
        return Ok(given);
    }
    Err(Problem::invalid(field, format!("must be between {least:?} and {most:?}")))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A name that is fit for a label.
fn name(field: &'static str, text: Option<&str>) -> Result<Arc<str>, Problem> {
    let text = text.ok_or_else(|| Problem::invalid(field, "is required"))?;
    label(text).map_err(|reason| Problem::invalid(field, reason))
}

/// Adds machines while the fleet runs. Simulated ones last until the process ends, real ones
/// until they are removed.
#[utoipa::path(
    post, path = "/v1/machines", request_body = NewMachines, security(("operator" = [])),
    responses(
        (status = 201, body = Added), (status = 401, description = "wrong token"),
        (status = 409, description = "the name is taken"), (status = 422, description = "a field is not acceptable"),
    )
)]
pub async fn add(
    State(app): State<Arc<App>>,
    Json(new): Json<NewMachines>,
) -> Result<(StatusCode, Json<Added>), Problem> {
    let capacity = app.capacity();
    let mut fleet = app.fleet.lock();
    let room = capacity.saturating_sub(fleet.machines().len());
    let machine_ids = match (&new.machine_id, new.count) {
        (Some(_), Some(_)) | (None, None) => {
            return Err(Problem::invalid("count", "give either a count or a machine_id"));
        }
        (None, Some(count)) => {
            if let Some(field) =
                [("line", &new.line), ("site", &new.site), ("period", &new.period)].iter().find(|f| f.1.is_some())
            {
                return Err(Problem::invalid(field.0, "is for a real machine only"));
            }
            if count == 0 || count > room {
                return Err(Problem::invalid("count", format!("must be between 1 and {room}")));
            }
            fleet.add(count, now_us())
        }
        (Some(id), None) => {
            let (line, site) = (name("line", new.line.as_deref())?, name("site", new.site.as_deref())?);
            let machine_id = name("machine_id", Some(id))?;
            let (least, most) = (Duration::from_millis(100), Duration::from_secs(3_600));
            let period = period("period", new.period.as_deref(), Duration::from_secs(10), least, most)?;
            if room == 0 {
                return Err(Problem::invalid("machine_id", format!("there are {capacity} machines already")));
            }
            let identity = Identity { machine_id: machine_id.clone(), line, site };
            if fleet.link(identity, micros(period), now_us()).is_none() {
                return Err(Problem::new(StatusCode::CONFLICT, "Conflict").detail("there is a machine with this id"));
            }
            vec![machine_id]
        }
    };
    tracing::info!(count = machine_ids.len(), machines = fleet.machines().len(), "machines added");
    Ok((StatusCode::CREATED, Json(Added { machine_ids: machine_ids.iter().map(ToString::to_string).collect() })))
}

/// Removes a machine, with its metrics.
#[utoipa::path(
    delete, path = "/v1/machines/{id}", params(("id" = String, Path)), security(("operator" = [])),
    responses((status = 204), (status = 401), (status = 404, description = "no such machine"))
)]
pub async fn remove(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    if !app.fleet.lock().remove(&id) {
        return Err(Problem::not_found("machine"));
    }
    tracing::info!(machine_id = id, "machine removed");
    Ok(StatusCode::NO_CONTENT)
}

/// Orders a machine to work with less load: what an operator, or the alert-bot for one, does
/// when it is going to overheat. Of a real machine the order is only shown: its control asks for it.
#[utoipa::path(
    post, path = "/v1/machines/{id}/load", params(("id" = String, Path)), request_body = NewLimit,
    security(("operator" = [])),
    responses(
        (status = 200, body = LimitView), (status = 401, description = "wrong token"),
        (status = 404, description = "no such machine"), (status = 422, description = "a field is not acceptable"),
    )
)]
pub async fn limit(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    Json(new): Json<NewLimit>,
) -> Result<Json<LimitView>, Problem> {
    let limit = limit_of(new.limit, new.ttl.as_deref())?;
    order(&app, &id, Some(limit))
}

/// What to do about the machines that are going to overheat; any other fields are ignored, so
/// that an automaton may send what it sends everywhere.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewRelief {
    /// Share of the maximum load, 0 to 1; 0.25 if not given.
    limit: Option<f64>,
    /// How long, with its unit: 1s to 24h; 1h if not given.
    ttl: Option<String>,
}

/// Who was relieved.
#[derive(Debug, Serialize, ToSchema)]
pub struct Relieved {
    machine_ids: Vec<String>,
    limit: f64,
    until: String,
}

/// Reduces the load of every machine that is forecast to overheat. It names no machine, so
/// that a policy with a fixed address can call it; called twice it does the same.
#[utoipa::path(
    post, path = "/v1/fleet/relief", request_body = NewRelief, security(("operator" = [])),
    responses(
        (status = 200, body = Relieved), (status = 401, description = "wrong token"),
        (status = 422, description = "a field is not acceptable"),
    )
)]
pub async fn relieve(State(app): State<Arc<App>>, Json(new): Json<NewRelief>) -> Result<Json<Relieved>, Problem> {
    let order = limit_of(new.limit.unwrap_or(RELIEF), new.ttl.as_deref())?;
    let relieved = app.fleet.lock().relieve(order);
    tracing::warn!(machines = relieved.len(), limit = order.limit, "load of overheating machines reduced");
    Ok(Json(Relieved {
        machine_ids: relieved.iter().map(ToString::to_string).collect(),
        limit: order.limit,
        until: rfc3339(order.until_us),
    }))
}

fn limit_of(limit: f64, ttl: Option<&str>) -> Result<LoadLimit, Problem> {
    if !(0.0..=1.0).contains(&limit) {
        return Err(Problem::invalid("limit", "must be between 0 and 1"));
    }
    let (least, most) = (Duration::from_secs(1), Duration::from_secs(86_400));
    let ttl = period("ttl", ttl, Duration::from_secs(3_600), least, most)?;
    Ok(LoadLimit { limit, until_us: now_us().saturating_add(micros(ttl)) })
}

/// Takes the order back.
#[utoipa::path(
    delete, path = "/v1/machines/{id}/load", params(("id" = String, Path)), security(("operator" = [])),
    responses((status = 200, body = LimitView), (status = 401), (status = 404, description = "no such machine"))
)]
pub async fn lift(State(app): State<Arc<App>>, Path(id): Path<String>) -> Result<Json<LimitView>, Problem> {
    order(&app, &id, None)
}

fn order(app: &App, id: &str, order: Option<LoadLimit>) -> Result<Json<LimitView>, Problem> {
    let mut fleet = app.fleet.lock();
    let index = fleet.index_of(id).ok_or_else(|| Problem::not_found("machine"))?;
    let number = fleet.machines()[index].number;
    fleet.order(number, order);
    tracing::warn!(machine_id = id, limit = order.map(|o| o.limit), "load limit ordered");
    Ok(Json(LimitView {
        machine_id: id.to_owned(),
        limit: order.map(|o| o.limit),
        until: order.map(|o| rfc3339(o.until_us)),
    }))
}

//! Readings of real machines.

use std::sync::Arc;

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use telemetry::problem::{Json, Problem};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

use crate::{
    posted::Posted,
    service::{App, now_us},
};

/// One reading.
#[derive(Debug, Deserialize, ToSchema)]
pub struct NewReading {
    /// A machine that was registered by `POST /v1/machines`.
    machine_id: String,
    /// RFC 3339; now if not given.
    time: Option<String>,
    /// The machine's own number of the reading: a hole is a gap, an old one is refused.
    seq: Option<u64>,
    /// °C.
    temperature: f64,
    /// Share of the maximum load, 0 to 1.
    load: f64,
    /// mm/s RMS; 0 if not given.
    #[serde(default)]
    vibration: f64,
    /// W.
    power_watts: f64,
    /// Energy meter, mJ since the machine was commissioned; whole, and never less than before.
    energy_millijoules_total: i64,
    /// 0 is none.
    #[serde(default)]
    error_code: i32,
    /// 1 up, 0 down; 1 if not given.
    status: Option<i32>,
    /// Broken or stopped by its protection, as opposed to switched off.
    #[serde(default)]
    failed: bool,
}

/// How many were taken.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accepted {
    accepted: usize,
}

impl NewReading {
    fn parse(self, index: usize, now: i64) -> Result<Posted, Problem> {
        let refuse = |field: &str, reason: &str| Problem::invalid(format!("[{index}].{field}"), reason);
        let ts_us = match &self.time {
            None => now,
            Some(text) => {
                let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| refuse("time", "is not RFC 3339"))?;
                i64::try_from(time.unix_timestamp_nanos() / 1_000).map_err(|_| refuse("time", "is out of range"))?
            }
        };
        if !matches!(self.status, None | Some(0 | 1)) {
            return Err(refuse("status", "is neither 0 nor 1"));
        }
        Ok(Posted {
            machine_id: self.machine_id,
            ts_us,
            seq: self.seq,
            temperature: self.temperature,
            load: self.load,
            vibration: self.vibration,
            power_watts: self.power_watts,
            energy_millijoules_total: self.energy_millijoules_total,
            error_code: self.error_code,
            up: self.status != Some(0),
            failed: self.failed,
        })
    }
}

/// Takes readings of real machines, each machine's in order of time: all or none.
#[utoipa::path(
    post, path = "/v1/readings", request_body = [NewReading], security(("operator" = [])),
    responses(
        (status = 202, body = Accepted), (status = 401, description = "wrong token"),
        (status = 422, description = "a reading is not acceptable; none was taken"),
    )
)]
pub async fn take(
    State(app): State<Arc<App>>,
    Json(new): Json<Vec<NewReading>>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let now = now_us();
    let posted = new.into_iter().enumerate().map(|(i, r)| r.parse(i, now)).collect::<Result<Vec<_>, _>>()?;
    let taken = app.fleet.lock().accept(&posted, now);
    let taken =
        taken.map_err(|refused| Problem::invalid(format!("[{}].{}", refused.index, refused.field), refused.reason))?;
    app.take(taken);
    Ok((StatusCode::ACCEPTED, Json(Accepted { accepted: posted.len() })))
}

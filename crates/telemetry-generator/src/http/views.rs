//! What the API shows.

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

use super::faults::FaultView;
use crate::{codes::ErrorCode, fleet::Fleet, gaps::Reason};

/// An instant as text.
pub fn rfc3339(us: i64) -> String {
    // Milliseconds: the clock says no more.
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(us / 1_000) * 1_000_000)
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// Answer of `GET /health`.
#[derive(Debug, Serialize, ToSchema)]
pub struct HealthView {
    /// `ok`, or `degraded` while the lake takes no readings.
    pub status: &'static str,
    /// Machines in the fleet.
    pub machines: usize,
    /// When the fleet last moved.
    pub last_tick: Option<String>,
    /// The way to the lake.
    pub lake: LakeView,
}

/// The way to the lake.
#[derive(Debug, Serialize, ToSchema)]
pub struct LakeView {
    /// The latest attempt went through; `null` before the first.
    pub ok: Option<bool>,
    /// Readings that wait.
    pub pending_readings: usize,
    /// When a batch was last written.
    pub last_write: Option<String>,
}

/// One machine.
#[derive(Debug, Serialize, ToSchema)]
pub struct MachineView {
    machine_id: String,
    line: String,
    site: String,
    /// 1 up, 0 down.
    status: i32,
    /// As the sensor reads it, °C; `null` while data are missing.
    temperature: Option<f64>,
    load: Option<f64>,
    vibration: Option<f64>,
    power_watts: Option<f64>,
    energy_kwh: f64,
    error_code: i32,
    error: ErrorCode,
    last_reading: Option<String>,
    /// Why data are missing now.
    open_gap: Option<Reason>,
    governance_failures: u64,
    faults: Vec<FaultView>,
}

impl MachineView {
    /// The machine with this number.
    pub fn of(fleet: &Fleet, index: usize) -> Self {
        let m = &fleet.machines()[index];
        let reading = m.reading.as_ref();
        Self {
            machine_id: m.identity.machine_id.to_string(),
            line: m.identity.line.to_string(),
            site: m.identity.site.to_string(),
            status: m.status(),
            temperature: reading.map(|r| r.temperature),
            load: reading.map(|r| r.load),
            vibration: reading.map(|r| r.vibration),
            power_watts: reading.map(|r| r.power_watts),
            energy_kwh: m.state.energy_mj as f64 / 3.6e9,
            error_code: m.code.number(),
            error: m.code,
            last_reading: (m.last_reading_us > 0).then(|| rfc3339(m.last_reading_us)),
            open_gap: m.gaps.open(),
            governance_failures: m.gaps.failures(),
            faults: fleet
                .faults()
                .iter()
                .filter(|a| a.machine.is_none_or(|i| i == index))
                .map(|a| FaultView::of(fleet, a))
                .collect(),
        }
    }
}

/// The fleet as a whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct FleetView {
    boot_id: String,
    seq: u64,
    machines: usize,
    up: usize,
    power_watts: f64,
    energy_kwh: f64,
    hottest_celsius: Option<f64>,
    open_gaps: usize,
    governance_failures: u64,
    faults: Vec<FaultView>,
    time: String,
}

impl FleetView {
    /// The fleet now.
    pub fn of(fleet: &Fleet, now_us: i64) -> Self {
        let machines = fleet.machines();
        let readings = || machines.iter().filter_map(|m| m.reading.as_ref());
        Self {
            boot_id: fleet.boot_id().to_owned(),
            seq: fleet.seq(),
            machines: machines.len(),
            up: machines.iter().filter(|m| m.status() == 1).count(),
            power_watts: readings().map(|r| r.power_watts).sum(),
            energy_kwh: machines.iter().map(|m| m.state.energy_mj as f64).sum::<f64>() / 3.6e9,
            hottest_celsius: readings().map(|r| r.temperature).reduce(f64::max),
            open_gaps: machines.iter().filter(|m| m.gaps.open().is_some()).count(),
            governance_failures: machines.iter().map(|m| m.gaps.failures()).sum(),
            faults: fleet.faults().iter().map(|a| FaultView::of(fleet, a)).collect(),
            time: rfc3339(now_us),
        }
    }
}

//! What the API shows.

use serde::Serialize;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::ToSchema;

use super::faults::FaultView;
use crate::{
    codes::ErrorCode,
    fleet::{Fleet, Machine},
    gaps::Reason,
};

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
    /// `ok`, or `degraded` while the lake takes no readings, the ledger no entries, or the broker is away.
    pub status: &'static str,
    /// Machines in the fleet.
    pub machines: usize,
    /// When the fleet last moved.
    pub last_tick: Option<String>,
    /// The way to the lake.
    pub lake: LakeView,
    /// The way to the ledger; `null` without one.
    pub ledger: Option<LedgerView>,
    /// The machines that report by MQTT; `null` without a broker.
    pub sparkplug: Option<SparkplugView>,
}

/// The machines that report by MQTT.
#[derive(Debug, Serialize, ToSchema)]
pub struct SparkplugView {
    /// The broker is connected.
    pub connected: bool,
    /// Edge nodes that are online and whose data is fresh.
    pub nodes_online: usize,
}

/// The way to the ledger.
#[derive(Debug, Serialize, ToSchema)]
pub struct LedgerView {
    /// The latest attempt went through; `null` before the first.
    pub ok: Option<bool>,
    /// Entries that wait.
    pub waiting_entries: usize,
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
    /// `simulated`, or `posted` for a real one.
    source: &'static str,
    forecast: ForecastView,
    /// Largest deviation of a sensor from what is usual at this load, in usual deviations.
    anomaly_score: f64,
    /// What it makes; `null` for a real one.
    output: Option<OutputView>,
    /// The load that an operator allows at most, 0 to 1.
    load_limit: Option<f64>,
    faults: Vec<FaultView>,
}

/// What is expected of a machine that goes on as it does.
#[derive(Debug, Serialize, ToSchema)]
pub struct ForecastView {
    /// It is going to overheat, or is hot.
    overheating: bool,
    /// Until 95 °C; `null` if it is not on its way there.
    eta_seconds: Option<f64>,
    /// That it is at 95 °C or above in 20 minutes.
    probability: f64,
    /// In 20 minutes, °C.
    predicted_celsius: f64,
    gradient_celsius_per_minute: f64,
}

/// Parts, and effectiveness over the last hour (ISO 22400-2).
#[derive(Debug, Serialize, ToSchema)]
pub struct OutputView {
    parts_good: u32,
    parts_scrapped: u32,
    failures_avoided: u32,
    availability: f64,
    performance: f64,
    quality: f64,
    oee: f64,
}

impl ForecastView {
    fn of(m: &Machine) -> Self {
        let o = m.forecaster.outlook();
        Self {
            overheating: m.forecaster.alarmed(),
            eta_seconds: o.eta_seconds.is_finite().then_some(f64::from(o.eta_seconds)),
            probability: f64::from(o.probability),
            predicted_celsius: f64::from(o.predicted),
            gradient_celsius_per_minute: f64::from(o.gradient_per_minute),
        }
    }
}

impl OutputView {
    fn of(m: &Machine) -> Self {
        let (output, oee) = (&m.output, m.output.oee(&m.model));
        Self {
            parts_good: output.good,
            parts_scrapped: output.process_scrap + output.failure_scrap,
            failures_avoided: output.avoided_failures,
            availability: oee.availability,
            performance: oee.performance,
            quality: oee.quality,
            oee: oee.overall(),
        }
    }
}

impl MachineView {
    /// The machine at this place.
    pub fn of(fleet: &Fleet, index: usize) -> Self {
        let m = &fleet.machines()[index];
        let reading = m.measured.as_ref();
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
            source: if m.link.is_some() { "posted" } else { "simulated" },
            forecast: ForecastView::of(m),
            anomaly_score: m.anomaly_score(),
            output: m.link.is_none().then(|| OutputView::of(m)),
            load_limit: fleet.load_limit(m.number).map(|order| order.limit),
            faults: fleet.faults().on(m.number).map(|a| FaultView::of(fleet, a)).collect(),
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
    /// Machines that are going to overheat, or are hot.
    overheating: usize,
    open_gaps: usize,
    governance_failures: u64,
    faults: Vec<FaultView>,
    time: String,
}

impl FleetView {
    /// The fleet now.
    pub fn of(fleet: &Fleet, now_us: i64) -> Self {
        let machines = fleet.machines();
        let readings = || machines.iter().filter_map(|m| m.measured.as_ref());
        Self {
            boot_id: fleet.boot_id().to_owned(),
            seq: fleet.seq(),
            machines: machines.len(),
            up: machines.iter().filter(|m| m.status() == 1).count(),
            power_watts: readings().map(|r| r.power_watts).sum(),
            energy_kwh: machines.iter().map(|m| m.state.energy_mj as f64).sum::<f64>() / 3.6e9,
            hottest_celsius: readings().map(|r| r.temperature).reduce(f64::max),
            overheating: machines.iter().filter(|m| m.forecaster.alarmed()).count(),
            open_gaps: machines.iter().filter(|m| m.gaps.open().is_some()).count(),
            governance_failures: machines.iter().map(|m| m.gaps.failures()).sum(),
            faults: fleet.faults().iter().map(|a| FaultView::of(fleet, a)).collect(),
            time: rfc3339(now_us),
        }
    }
}

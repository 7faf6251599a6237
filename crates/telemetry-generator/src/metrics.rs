//! What the process counts itself; the fleet's metrics are in [`crate::exposition`].

use lake::{Observer, Operation, Outcome};
use prometheus::{CounterVec, Gauge, Histogram, IntCounter, IntCounterVec, IntGauge};
use telemetry::metrics::{HttpMetrics, LATENCY_BUCKETS, Registry};

use crate::evidence::Emission;

/// What the process counts itself.
#[derive(Clone)]
pub struct Metrics {
    /// Requests.
    pub http: HttpMetrics,
    /// Attempts to hand a batch to the lake, by result.
    pub lake_writes: IntCounterVec,
    /// How long an attempt took.
    pub lake_write_duration: Histogram,
    /// Requests to the lake, by operation and result.
    pub lake_requests: IntCounterVec,
    /// Readings that no reader of the lake can see yet.
    pub lake_pending: IntGauge,
    /// Readings handed over.
    pub lake_written: IntCounter,
    /// How long the physics of one tick took.
    pub tick_duration: Histogram,
}

impl Metrics {
    /// Registers everything but the fleet.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            http: HttpMetrics::new(registry)?,
            lake_writes: registry.counter_vec("lake_write_total", "Attempts to write a batch.", &["result"])?,
            lake_write_duration: registry.histogram(
                "lake_write_duration_seconds",
                "Duration of one attempt to write a batch.",
                LATENCY_BUCKETS,
            )?,
            lake_requests: registry.counter_vec(
                "lake_requests_total",
                "Requests to the lake's store.",
                &["operation", "result"],
            )?,
            lake_pending: registry.int_gauge("lake_pending_readings", "Readings not yet in the lake.")?,
            lake_written: registry.counter("lake_written_readings_total", "Readings written to the lake.")?,
            tick_duration: registry.histogram(
                "fleet_tick_duration_seconds",
                "Duration of one step of the whole fleet.",
                &[0.000_05, 0.000_2, 0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0],
            )?,
        };
        for outcome in [Outcome::Ok, Outcome::Unavailable, Outcome::Error] {
            metrics.lake_writes.with_label_values(&[outcome.as_str()]);
        }
        Ok(metrics)
    }
}

/// What is counted on the way to the ledger; only where there is one.
#[derive(Clone)]
pub struct EvidenceMetrics {
    /// Entries that wait.
    pub waiting: IntGauge,
    /// How long the oldest of them has been waiting.
    pub oldest_age: Gauge,
    /// Entries that no longer fitted.
    pub dropped: IntCounter,
    /// Entries that could not be put on the disk.
    pub disk_failures: IntCounter,
    /// How long an attempt took.
    pub duration: Histogram,
    attempts: IntCounterVec,
    sent: IntCounterVec,
    emitted: CounterVec,
}

impl EvidenceMetrics {
    /// Registers everything.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            waiting: registry.int_gauge("esg_queue_entries", "Entries that the ledger has not taken yet.")?,
            oldest_age: registry
                .gauge("esg_queue_oldest_age_seconds", "How long the oldest waiting entry has been waiting.")?,
            dropped: registry
                .counter("esg_queue_dropped_total", "Entries that no longer fitted into the queue to the ledger.")?,
            disk_failures: registry
                .counter("esg_queue_disk_failures_total", "Times that entries could not be put on the disk.")?,
            duration: registry.histogram(
                "esg_queue_send_duration_seconds",
                "Duration of one attempt to hand entries over.",
                LATENCY_BUCKETS,
            )?,
            attempts: registry.counter_vec("esg_queue_sends_total", "Attempts to hand entries over.", &["result"])?,
            sent: registry.counter_vec(
                "esg_queue_entries_total",
                "Entries handed over, by what the ledger made of them.",
                &["outcome"],
            )?,
            emitted: registry.float_counter_vec(
                "esg_co2e_kg_total",
                "Emissions as entered into the ledger, by site and method; from zero at each start.",
                &["site", "basis"],
            )?,
        };
        ["ok", "unavailable", "error"].iter().for_each(|r| metrics.attempts.with_label_values(&[r]).inc_by(0));
        ["appended", "duplicate", "refused"].iter().for_each(|o| metrics.sent(o, 0));
        Ok(metrics)
    }

    /// Counts an attempt.
    pub fn attempted(&self, result: &str) {
        self.attempts.with_label_values(&[result]).inc();
    }

    /// Counts entries that were answered for.
    pub fn sent(&self, outcome: &str, count: u64) {
        self.sent.with_label_values(&[outcome]).inc_by(count);
    }

    /// Counts emissions.
    pub fn emitted(&self, emission: &Emission) {
        for (basis, mg) in [("location", emission.location_mg), ("market", emission.market_mg)] {
            self.emitted.with_label_values(&[&*emission.site, basis]).inc_by(mg as f64 / 1e6);
        }
    }
}

impl Observer for Metrics {
    fn request(&self, operation: Operation, outcome: Outcome, _: std::time::Duration) {
        let operation = match operation {
            Operation::Get => "get",
            Operation::Put => "put",
            Operation::List => "list",
        };
        self.lake_requests.with_label_values(&[operation, outcome.as_str()]).inc();
    }
}

//! What the process counts itself; the fleet's metrics are in [`crate::exposition`].

use lake::{Observer, Operation, Outcome};
use telemetry::metrics::{HttpMetrics, LATENCY_BUCKETS, Registry};

/// What the process counts itself.
#[derive(Clone)]
pub struct Metrics {
    /// Requests.
    pub http: HttpMetrics,
    /// Attempts to hand a batch to the lake, by result.
    pub lake_writes: prometheus::IntCounterVec,
    /// How long an attempt took.
    pub lake_write_duration: prometheus::Histogram,
    /// Requests to the lake, by operation and result.
    pub lake_requests: prometheus::IntCounterVec,
    /// Readings that no reader of the lake can see yet.
    pub lake_pending: prometheus::IntGauge,
    /// Readings handed over.
    pub lake_written: prometheus::IntCounter,
    /// How long the physics of one tick took.
    pub tick_duration: prometheus::Histogram,
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

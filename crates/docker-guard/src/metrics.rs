//! The guard's own metrics.

use telemetry::metrics::{
    Error, Gauge, HistogramVec, HttpMetrics, IntCounter, IntCounterVec, IntGauge, LATENCY_BUCKETS, Registry,
};

use crate::policy::{Access, CATALOG, Reason, Verb};

/// Counters and gauges, registered once.
pub struct Metrics {
    /// `http_*`, as on every service.
    pub http: HttpMetrics,
    /// `guard_requests_total{verb,decision,reason}`
    pub requests: IntCounterVec,
    /// `guard_daemon_seconds{verb}`
    pub daemon_seconds: HistogramVec,
    /// `guard_daemon_up`
    pub daemon_up: IntGauge,
    /// `guard_streams_open`
    pub streams_open: IntGauge,
    /// `guard_collector_errors_total{step}`
    pub collector_errors: IntCounterVec,
    /// `guard_collector_last_success_timestamp_seconds`
    pub collector_last_success: Gauge,
    /// `guard_events_total{action}`
    pub events: IntCounterVec,
    /// `guard_repairs_total{repair,result}`
    pub repairs: IntCounterVec,
    /// `guard_images_remembered_total`
    pub remembered: IntCounter,
}

impl Metrics {
    /// Registers all, with the series that alerts look for at zero.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(registry: &Registry) -> Result<Self, Error> {
        let metrics = Self {
            http: HttpMetrics::new(registry)?,
            requests: registry.counter_vec(
                "guard_requests_total",
                "Docker API calls, by what they wanted, whether policy let them through, and why.",
                &["verb", "decision", "reason"],
            )?,
            daemon_seconds: registry.histogram_vec(
                "guard_daemon_seconds",
                "Time until the Docker daemon answered an allowed call, in seconds.",
                &["verb"],
                LATENCY_BUCKETS,
            )?,
            daemon_up: registry.int_gauge("guard_daemon_up", "1 if the Docker daemon answered last time, else 0.")?,
            streams_open: registry.int_gauge("guard_streams_open", "Streams of events, logs and stats open now.")?,
            collector_errors: registry.counter_vec(
                "guard_collector_errors_total",
                "Reads of container state or usage that failed.",
                &["step"],
            )?,
            collector_last_success: registry.gauge(
                "guard_collector_last_success_timestamp_seconds",
                "When the state of all containers was last read.",
            )?,
            events: registry.counter_vec(
                "guard_events_total",
                "Docker events of this project's containers that the collector saw.",
                &["action"],
            )?,
            repairs: registry.counter_vec(
                "guard_repairs_total",
                "Containers that were left half made, by what became of them.",
                &["repair", "result"],
            )?,
            remembered: registry.counter(
                "guard_images_remembered_total",
                "Times that an image was remembered as one that ran healthy.",
            )?,
        };
        for repair in ["finish", "roll_back", "discard"] {
            for result in ["done", "failed"] {
                metrics.repairs.with_label_values(&[repair, result]);
            }
        }
        for endpoint in CATALOG {
            let (decision, reason) = match endpoint.access {
                Access::Read => ("allowed", Reason::ReadOnly),
                Access::Heal => ("allowed", Reason::ManagedTarget),
                Access::Denied(reason) => ("denied", reason),
            };
            metrics.requests.with_label_values(&[endpoint.verb.name(), decision, reason.code()]);
        }
        for verb in Verb::ALL.into_iter().filter(|v| v.heals()) {
            for reason in [
                Reason::TokenMissing,
                Reason::TokenWrong,
                Reason::NoSuchContainer,
                Reason::NotManaged,
                Reason::Protected,
                Reason::GuardItself,
            ] {
                metrics.requests.with_label_values(&[verb.name(), "denied", reason.code()]);
            }
        }
        for step in ["list", "inspect", "stats", "events"] {
            metrics.collector_errors.with_label_values(&[step]);
        }
        for action in crate::collector::EVENTS {
            metrics.events.with_label_values(&[action]);
        }
        Ok(metrics)
    }
}

//! Metrics: one explicit registry a process, no global state.
//!
//! The `prometheus` crate counts; what it lacks (exemplars and the OpenMetrics
//! text format that carries them) is added here.

mod exemplar;
mod openmetrics;
mod sample;

use std::sync::Arc;

use axum::{
    http::{HeaderMap, header},
    response::IntoResponse,
    routing::{MethodRouter, get},
};
pub use exemplar::ExemplarHistogramVec;
pub use prometheus::{
    Counter, CounterVec, Error, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, core::Collector,
};
use prometheus::{HistogramOpts, Opts, TextEncoder};
pub use sample::sample;

type Result<T> = std::result::Result<T, Error>;

/// Latency buckets in seconds, 0.5 ms to 10 s, dense around the 200 ms objective.
pub const LATENCY_BUCKETS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// The process's metrics. Clones share the same metrics.
#[derive(Clone)]
pub struct Registry {
    inner: prometheus::Registry,
    exemplars: Arc<exemplar::Store>,
}

impl Registry {
    /// A registry with `process_*` and `build_info{service,version}`.
    pub fn new(service: &str, version: &str) -> Result<Self> {
        let registry = Self { inner: prometheus::Registry::new(), exemplars: Arc::default() };
        registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        registry
            .int_gauge_vec("build_info", "The running build; always 1.", &["service", "version"])?
            .with_label_values(&[service, version])
            .set(1);
        Ok(registry)
    }

    /// Adds a collector of the caller's own.
    pub fn register(&self, collector: Box<dyn Collector>) -> Result<()> {
        self.inner.register(collector)
    }

    fn add<M: Collector + Clone + 'static>(&self, metric: Result<M>) -> Result<M> {
        let metric = metric?;
        self.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    /// A counter of whole events; `name` ends in `_total`.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter> {
        self.add(IntCounter::new(name, help))
    }
    /// Counters of whole events by label.
    pub fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels))
    }
    /// A counter of a continuous amount.
    pub fn float_counter(&self, name: &str, help: &str) -> Result<Counter> {
        self.add(Counter::new(name, help))
    }
    /// Counters of continuous amounts by label.
    pub fn float_counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<CounterVec> {
        self.add(CounterVec::new(Opts::new(name, help), labels))
    }
    /// A measured value.
    pub fn gauge(&self, name: &str, help: &str) -> Result<Gauge> {
        self.add(Gauge::new(name, help))
    }
    /// Measured values by label.
    pub fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<GaugeVec> {
        self.add(GaugeVec::new(Opts::new(name, help), labels))
    }
    /// A whole-numbered value.
    pub fn int_gauge(&self, name: &str, help: &str) -> Result<IntGauge> {
        self.add(IntGauge::new(name, help))
    }
    /// Whole-numbered values by label.
    pub fn int_gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels))
    }
    /// A distribution; `buckets` are upper bounds in the metric's base unit.
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram> {
        self.add(Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec())))
    }
    /// Distributions by label.
    pub fn histogram_vec(&self, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> Result<HistogramVec> {
        self.add(HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
    }
    /// Distributions by label whose buckets remember a trace each.
    pub fn exemplar_histogram_vec(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> Result<ExemplarHistogramVec> {
        let inner = self.histogram_vec(name, help, labels, buckets)?;
        Ok(self.exemplars.histogram(name, inner, buckets))
    }

    /// Renders everything: OpenMetrics if `accept` asks for it, else Prometheus text.
    /// Returns the content type and the body.
    pub fn encode(&self, accept: Option<&str>) -> (&'static str, Vec<u8>) {
        let families = self.inner.gather();
        if accept.is_some_and(|a| a.contains("application/openmetrics-text")) {
            (openmetrics::CONTENT_TYPE, openmetrics::encode(&families, &self.exemplars).into_bytes())
        } else {
            let text = TextEncoder::new().encode_to_string(&families).unwrap_or_else(|error| {
                tracing::error!(%error, "cannot encode metrics");
                String::new()
            });
            (prometheus::TEXT_FORMAT, text.into_bytes())
        }
    }

    /// A `GET /metrics` handler.
    pub fn http_handler<S: Clone + Send + Sync + 'static>(&self) -> MethodRouter<S> {
        let registry = self.clone();
        get(move |headers: HeaderMap| {
            let registry = registry.clone();
            async move {
                let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
                let (content_type, body) = registry.encode(accept);
                ([(header::CONTENT_TYPE, content_type)], body).into_response()
            }
        })
    }
}

/// The HTTP metrics that every service has.
#[derive(Clone)]
pub struct HttpMetrics {
    /// `http_requests_total{method,endpoint,status}`
    pub requests: IntCounterVec,
    /// `http_request_duration_seconds{method,endpoint}`
    pub duration: ExemplarHistogramVec,
    /// `http_requests_in_flight`
    pub in_flight: IntGauge,
}

impl HttpMetrics {
    /// Registers the three metrics.
    pub fn new(registry: &Registry) -> Result<Self> {
        Ok(Self {
            requests: registry.counter_vec(
                "http_requests_total",
                "Requests answered, by route template and status code.",
                &["method", "endpoint", "status"],
            )?,
            duration: registry.exemplar_histogram_vec(
                "http_request_duration_seconds",
                "Time from the request's head to the answer's head, in seconds.",
                &["method", "endpoint"],
                LATENCY_BUCKETS,
            )?,
            in_flight: registry.int_gauge("http_requests_in_flight", "Requests being answered now.")?,
        })
    }
}

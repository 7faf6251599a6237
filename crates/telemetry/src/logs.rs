//! Logs as JSON lines on stdout and, with traces, as OTLP to the Collector.

use std::{
    collections::BTreeMap,
    fmt,
    io::Write,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_appender_tracing::layer::{OpenTelemetryTracingBridge, TracingSpanAttributes};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    logs::SdkLoggerProvider,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use serde_json::{Map, Value};
use tracing::{Event, Level, Subscriber, field::Field, span};
use tracing_subscriber::{EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt, registry::LookupSpan};

use crate::{config::TelemetryConfig, trace};

/// Span fields that every log line inside the span repeats.
const CARRIED: [&str; 2] = ["request_id", "user_id"];

/// An export that the Collector has not taken by then is given up.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);

/// Keeps the exporters; ends them within a time limit.
#[must_use = "telemetry still queued is lost unless `shutdown` is called"]
pub struct Guard {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    _stdout: tracing_appender::non_blocking::WorkerGuard,
}

impl Guard {
    /// Flushes what is queued, at most for `limit`. Called after the server has
    /// drained and before the runtime ends, because the exporters need it.
    pub async fn shutdown(self, limit: Duration) {
        let flush = tokio::task::spawn_blocking(move || {
            // An unreachable Collector is no reason to fail the exit.
            if let Some(traces) = &self.traces {
                let _ = traces.shutdown_with_timeout(limit / 2);
            }
            if let Some(logs) = &self.logs {
                let _ = logs.shutdown_with_timeout(limit / 2);
            }
            drop(self);
        });
        let _ = tokio::time::timeout(limit, flush).await;
    }
}

/// Installs logging and tracing for the process; inside a tokio runtime, once.
///
/// # Errors
/// The filter or the endpoint is not valid, or a subscriber is installed already.
pub fn init(config: &TelemetryConfig, service: &'static str, version: &'static str) -> anyhow::Result<Guard> {
    // A full buffer drops lines rather than stop a request.
    let (writer, stdout) = tracing_appender::non_blocking(std::io::stdout());
    let filter = EnvFilter::try_new(&config.log_level).context("LOG_LEVEL")?;
    let base = tracing_subscriber::registry().with(filter).with(JsonLayer { service, writer });
    if config.sdk_disabled {
        tracing::subscriber::set_global_default(base)?;
        return Ok(Guard { traces: None, logs: None, _stdout: stdout });
    }

    opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
    let resource = Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", version))
        .build();
    let mut traces = SdkTracerProvider::builder()
        .with_resource(resource.clone())
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(config.sample_ratio))));
    let mut logs = None;
    if !config.otlp_endpoint.is_empty() {
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_endpoint(&config.otlp_endpoint)
            .with_timeout(EXPORT_LIMIT)
            .build()
            .context("OTLP traces")?;
        traces = traces.with_batch_exporter(exporter);
        let exporter = opentelemetry_otlp::LogExporter::builder()
            .with_tonic()
            .with_endpoint(&config.otlp_endpoint)
            .with_timeout(EXPORT_LIMIT)
            .build()
            .context("OTLP logs")?;
        logs = Some(SdkLoggerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build());
    }
    let traces = traces.build();

    // What the exporters themselves do must not be traced and exported again.
    let ours = || {
        filter_fn(|meta| {
            let target = meta.target();
            !["h2", "hyper", "tonic", "tower", "reqwest", "opentelemetry"].iter().any(|noisy| target.starts_with(noisy))
        })
    };
    let spans = tracing_opentelemetry::layer()
        .with_tracer(traces.tracer(service))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_error_events_to_status(false)
        .with_filter(ours());
    let bridge = logs.as_ref().map(|provider| {
        OpenTelemetryTracingBridge::builder(provider)
            .with_tracing_span_attributes(TracingSpanAttributes::allowlist(CARRIED))
            .build()
            .with_filter(ours())
    });
    // The span layer comes first: it activates the context that the other two read ids from.
    tracing::subscriber::set_global_default(base.with(spans).with(bridge))?;
    Ok(Guard { traces: Some(traces), logs, _stdout: stdout })
}

/// Writes one JSON object a line, as the conventions name the fields.
struct JsonLayer<W> {
    service: &'static str,
    writer: W,
}

/// The carried fields of a span, kept in its extensions.
#[derive(Default)]
struct Carried(BTreeMap<&'static str, String>);

impl tracing::field::Visit for Carried {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if CARRIED.contains(&field.name()) {
            self.0.insert(field.name(), format!("{value:?}"));
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if CARRIED.contains(&field.name()) {
            self.0.insert(field.name(), value.to_owned());
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    extra: Map<String, Value>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.extra.insert(field.name().to_owned(), value);
    }
}

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.put(field, format!("{value:?}").into());
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" { self.message = value.to_owned() } else { self.put(field, value.into()) }
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }
}

impl<W: Clone> JsonLayer<W> {
    fn line(&self, level: Level, now: SystemTime, carried: &Carried, fields: Fields) -> Vec<u8> {
        let mut object = Map::with_capacity(9);
        object.insert("timestamp".into(), humantime::format_rfc3339_micros(now).to_string().into());
        object.insert("level".into(), level.as_str().to_ascii_lowercase().into());
        object.insert("service".into(), self.service.into());
        object.insert("message".into(), fields.message.into());
        if let Some((trace_id, span_id)) = trace::current_ids() {
            object.insert("trace_id".into(), trace_id.into());
            object.insert("span_id".into(), span_id.into());
        }
        for (name, value) in &carried.0 {
            object.insert((*name).to_owned(), value.as_str().into());
        }
        if !fields.extra.is_empty() {
            object.insert("extra".into(), fields.extra.into());
        }
        let mut line = serde_json::to_vec(&Value::Object(object)).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

impl<S, W> Layer<S> for JsonLayer<W>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: Write + Clone + 'static,
{
    fn on_new_span(
        &self,
        attributes: &span::Attributes<'_>,
        id: &span::Id,
        ctx: tracing_subscriber::layer::Context<'_, S>,
    ) {
        let mut carried = Carried::default();
        attributes.record(&mut carried);
        if let Some(span) = ctx.span(id)
            && !carried.0.is_empty()
        {
            span.extensions_mut().insert(carried);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, ctx: tracing_subscriber::layer::Context<'_, S>) {
        let Some(span) = ctx.span(id) else { return };
        let mut extensions = span.extensions_mut();
        if let Some(carried) = extensions.get_mut::<Carried>() {
            values.record(carried);
            return;
        }
        let mut carried = Carried::default();
        values.record(&mut carried);
        if !carried.0.is_empty() {
            extensions.insert(carried);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: tracing_subscriber::layer::Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut carried = Carried::default();
        for span in ctx.event_scope(event).into_iter().flatten() {
            if let Some(found) = span.extensions().get::<Carried>() {
                for (name, value) in &found.0 {
                    carried.0.entry(name).or_insert_with(|| value.clone());
                }
            }
        }
        let line = self.line(*event.metadata().level(), SystemTime::now(), &carried, fields);
        // Nowhere is left to report a failure of stdout to.
        let _ = self.writer.clone().write_all(&line);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_the_fields_of_the_conventions() {
        let buffer = Buffer::default();
        let provider = SdkTracerProvider::builder().build();
        let subscriber = tracing_subscriber::registry()
            .with(JsonLayer { service: "svc", writer: buffer.clone() })
            .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("t")));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", request_id = "r-1", user_id = tracing::field::Empty);
            span.record("user_id", "u-9");
            span.in_scope(|| tracing::warn!(attempts = 3, ok = false, "payment\nfailed"));
            tracing::info!("outside");
        });
        let text = String::from_utf8(buffer.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(lines.len(), 2, "one line an event, whatever the message: {text}");
        let inside = &lines[0];
        assert_eq!(inside["level"], "warn");
        assert_eq!(inside["service"], "svc");
        assert_eq!(inside["message"], "payment\nfailed");
        assert_eq!(inside["request_id"], "r-1");
        assert_eq!(inside["user_id"], "u-9");
        assert_eq!(inside["extra"], serde_json::json!({"attempts": 3, "ok": false}));
        assert_eq!(inside["trace_id"].as_str().map(str::len), Some(32));
        assert_eq!(inside["span_id"].as_str().map(str::len), Some(16));
        assert!(inside["timestamp"].as_str().is_some_and(|t| t.ends_with('Z')));
        assert_eq!(lines[1].get("request_id"), None);
        assert_eq!(lines[1].get("trace_id"), None);
    }
}

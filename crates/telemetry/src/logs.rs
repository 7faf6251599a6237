//! Logs as JSON lines on stdout and, with traces, as OTLP to the Collector.

use std::{
    fmt,
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
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;
use tracing::{Event, Level, Subscriber, field::Field, span};
use tracing_subscriber::{
    Layer,
    filter::{Targets, filter_fn},
    layer::SubscriberExt,
    registry::LookupSpan,
};

use crate::{config::TelemetryConfig, stdout, trace};

/// Span fields that every log line inside the span repeats.
const CARRIED: [&str; 2] = ["request_id", "user_id"];

/// An export that the Collector has not taken by then is given up.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);

/// Keeps the exporters; ends them within a time limit.
#[must_use = "telemetry still queued is lost unless `shutdown` is called"]
pub struct Guard {
    traces: Option<SdkTracerProvider>,
    logs: Option<SdkLoggerProvider>,
    _stdout: stdout::Writer,
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
    let (lines, stdout) = stdout::start().context("stdout")?;
    let filter: Targets = config.log_level.parse().context("LOG_LEVEL")?;
    let base = tracing_subscriber::registry().with(filter).with(JsonLayer { service, lines });
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
    let ours = filter_fn(|meta| {
        let target = meta.target();
        !["h2", "hyper", "tonic", "tower", "reqwest", "opentelemetry"].iter().any(|noisy| target.starts_with(noisy))
    });
    let spans = tracing_opentelemetry::layer()
        .with_tracer(traces.tracer(service))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_error_events_to_status(false);
    let bridge = logs.as_ref().map(|provider| {
        OpenTelemetryTracingBridge::builder(provider)
            .with_tracing_span_attributes(TracingSpanAttributes::allowlist(CARRIED))
            .build()
    });
    // The span layer comes first: it activates the context that the other two read ids from.
    tracing::subscriber::set_global_default(base.with(spans.and_then(bridge).with_filter(ours)))?;
    Ok(Guard { traces: Some(traces), logs, _stdout: stdout })
}

/// Writes one JSON object a line, as the conventions name the fields.
struct JsonLayer {
    service: &'static str,
    lines: stdout::Lines,
}

/// The carried fields of a span, kept in its extensions; in the order of [`CARRIED`].
#[derive(Default)]
struct Carried([Option<String>; CARRIED.len()]);

impl Carried {
    fn slot(&mut self, field: &Field) -> Option<&mut Option<String>> {
        let at = CARRIED.iter().position(|name| *name == field.name())?;
        self.0.get_mut(at)
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// Takes what is not known yet from a span further out.
    fn complete(&mut self, outer: &Self) {
        for (ours, theirs) in self.0.iter_mut().zip(&outer.0) {
            if ours.is_none() {
                ours.clone_from(theirs);
            }
        }
    }
}

impl tracing::field::Visit for Carried {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if let Some(slot) = self.slot(field) {
            *slot = Some(format!("{value:?}"));
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if let Some(slot) = self.slot(field) {
            *slot = Some(value.to_owned());
        }
    }
}

#[derive(Default)]
struct Fields {
    message: String,
    extra: Vec<(&'static str, Value)>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: Value) {
        self.extra.push((field.name(), value));
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

/// The part of a line that is an object of its own.
struct Extra<'a>(&'a [(&'static str, Value)]);

impl Serialize for Extra<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// A log line, as it is written.
struct Line<'a> {
    service: &'static str,
    level: Level,
    now: SystemTime,
    ids: Option<(String, String)>,
    carried: &'a Carried,
    fields: &'a Fields,
}

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_map(None)?;
        object.serialize_entry("timestamp", &format_args!("{}", humantime::format_rfc3339_micros(self.now)))?;
        object.serialize_entry("level", lowercase(self.level))?;
        object.serialize_entry("service", self.service)?;
        object.serialize_entry("message", &self.fields.message)?;
        if let Some((trace_id, span_id)) = &self.ids {
            object.serialize_entry("trace_id", trace_id)?;
            object.serialize_entry("span_id", span_id)?;
        }
        for (name, value) in CARRIED.iter().zip(&self.carried.0) {
            if let Some(value) = value {
                object.serialize_entry(name, value)?;
            }
        }
        if !self.fields.extra.is_empty() {
            object.serialize_entry("extra", &Extra(&self.fields.extra))?;
        }
        object.end()
    }
}

fn lowercase(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// The same JSON with what a terminal obeys, or a reader is misled by, as escapes: JSON itself wants that of the first
/// 32 characters only, and labels, paths and names are written by strangers.
fn harmless(json: String) -> String {
    let obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{61c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if json.bytes().all(|b| b < 0x7f) || !json.contains(obeyed) {
        return json;
    }
    let mut escaped = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if obeyed(c) {
            escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            escaped.push(c);
        }
    }
    escaped
}

impl<S> Layer<S> for JsonLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
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
            && !carried.is_empty()
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
        if !carried.is_empty() {
            extensions.insert(carried);
        }
    }

    fn on_event(&self, event: &Event<'_>, ctx: tracing_subscriber::layer::Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut carried = Carried::default();
        for span in ctx.event_scope(event).into_iter().flatten() {
            if let Some(outer) = span.extensions().get::<Carried>() {
                carried.complete(outer);
            }
        }
        let level = *event.metadata().level();
        let line = Line {
            service: self.service,
            level,
            now: SystemTime::now(),
            ids: trace::current_ids(),
            carried: &carried,
            fields: &fields,
        };
        // Nowhere is left to report a failure to.
        if let Ok(json) = serde_json::to_string(&line) {
            let mut text = harmless(json);
            text.push('\n');
            self.lines.put(text.as_bytes(), level <= Level::WARN);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_as_escapes() {
        let evil = "\u{1b}[2J\u{9b}31m\u{7f}\u{202e}\u{2028}\u{2066}";
        let json = harmless(serde_json::json!({ evil: format!("{evil} größer 💥") }).to_string());
        assert!(!json.contains(|c: char| c.is_control() || "\u{202e}\u{2028}\u{2066}".contains(c)), "{json}");
        let read: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(read[evil], format!("{evil} größer 💥"), "nothing is lost");
    }

    #[test]
    fn a_line_has_the_fields_of_the_conventions() {
        let (reader, writer) = std::io::pipe().unwrap();
        let (lines, written) = stdout::start_on(writer).unwrap();
        let provider = SdkTracerProvider::builder().build();
        let subscriber = tracing_subscriber::registry()
            .with(JsonLayer { service: "svc", lines })
            .with(tracing_opentelemetry::layer().with_tracer(provider.tracer("t")));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", request_id = "r-1", user_id = tracing::field::Empty);
            span.record("user_id", "u-9");
            span.in_scope(|| tracing::warn!(attempts = 3, ok = false, "payment\nfailed"));
            tracing::info!("outside");
        });
        drop(written);
        let text = std::io::read_to_string(reader).unwrap();
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

//! Trace context: in from a caller, out to the next service, and its ids.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, global,
    propagation::{Extractor, Injector},
    trace::{Status, TraceContextExt},
};
use tracing_opentelemetry::OpenTelemetrySpanExt;

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }
    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

struct HeadersMut<'a>(&'a mut HeaderMap);

impl Injector for HeadersMut<'_> {
    fn set(&mut self, key: &str, value: String) {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(key), HeaderValue::try_from(value)) {
            self.0.insert(name, value);
        }
    }
}

/// Writes the current span's W3C `traceparent` into `headers`.
pub fn inject(headers: &mut HeaderMap) {
    let context = tracing::Span::current().context();
    global::get_text_map_propagator(|p| p.inject_context(&context, &mut HeadersMut(headers)));
}

/// Makes `span` a child of the caller's span, if `headers` name one.
/// Must come before the span is entered.
pub fn set_parent(span: &tracing::Span, headers: &HeaderMap) {
    if !headers.contains_key("traceparent") {
        return;
    }
    let parent = global::get_text_map_propagator(|p| p.extract(&Headers(headers)));
    if parent.span().span_context().is_valid() {
        // Fails only where no OpenTelemetry layer is installed: then there is nothing to join.
        let _ = span.set_parent(parent);
    }
}

/// The current span's `traceparent` header value, to carry a trace where no header map is
/// at hand (a queue, a journal).
pub fn current_traceparent() -> Option<String> {
    let mut headers = HeaderMap::new();
    inject(&mut headers);
    headers.get("traceparent")?.to_str().ok().map(ToOwned::to_owned)
}

/// Makes `span` continue the trace of a stored `traceparent`.
pub fn set_parent_from(span: &tracing::Span, traceparent: &str) {
    if let Ok(value) = HeaderValue::try_from(traceparent) {
        set_parent(span, &HeaderMap::from_iter([(HeaderName::from_static("traceparent"), value)]));
    }
}

/// Trace and span id of the active span, as hex.
pub(crate) fn current_ids() -> Option<(String, String)> {
    Context::map_current(|context| {
        let span = context.span();
        let ids = span.span_context();
        ids.is_valid().then(|| (ids.trace_id().to_string(), ids.span_id().to_string()))
    })
}

/// The active span's trace id as 32 hex digits.
pub fn current_trace_id() -> Option<String> {
    current_ids().map(|(trace_id, _)| trace_id)
}

/// The active span's trace id, where that trace is kept: an exemplar must lead somewhere.
pub(crate) fn sampled_trace_id() -> Option<String> {
    Context::map_current(|context| {
        let span = context.span();
        let ids = span.span_context();
        (ids.is_valid() && ids.is_sampled()).then(|| ids.trace_id().to_string())
    })
}

/// Marks the current span as failed, once, where the error is handled.
pub fn set_error(description: &str) {
    tracing::Span::current().set_status(Status::error(description.to_owned()));
}

/// A client span around one database call, named like `SELECT transactions`.
///
/// ```
/// let span = telemetry::db_span!("SELECT", "transactions", "postgresql");
/// ```
#[macro_export]
macro_rules! db_span {
    ($operation:literal, $subject:literal, $system:literal) => {
        $crate::__tracing::info_span!(
            concat!($operation, " ", $subject),
            otel.kind = "client",
            db.system.name = $system,
            db.operation.name = $operation,
            db.query.summary = concat!($operation, " ", $subject),
        )
    };
}

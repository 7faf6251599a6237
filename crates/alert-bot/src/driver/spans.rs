//! One trace per incident: the alert, each decision, each call, the proof.
//!
//! The root span ends at once, and its context is kept on the incident: later
//! stages join it by that context, also after a restart, and each is exported
//! when it ends instead of waiting for the incident to close.

use std::collections::BTreeMap;

use tracing::{Span, field::Empty, info_span};

use crate::engine::{Alert, Event, Incident, State, Trace};

/// Spans that last longer than one call.
#[derive(Default)]
pub struct Spans {
    verifying: BTreeMap<String, Span>,
}

/// The root of a new trace.
pub fn begin(alert: &Alert) -> Option<Trace> {
    let span = info_span!(
        parent: None,
        "alert",
        otel.name = format!("alert {}", alert.name()),
        alert.name = alert.name(),
        alert.fingerprint = alert.fingerprint,
        service.affected = alert.labels.get("service").map(String::as_str),
    );
    span.in_scope(super::current_trace)
}

/// A stage of an incident's trace.
pub fn stage(incident: &Incident, name: &str) -> Span {
    let target = incident.target.as_ref().map(|t| t.name.as_str());
    let span = info_span!(
        parent: None,
        "stage",
        otel.name = name,
        incident.id = incident.id,
        alert.name = incident.alert.name(),
        container.name = target,
        verdict = Empty,
    );
    if let Some(trace) = &incident.trace {
        telemetry::trace::set_parent_from(&span, &trace.traceparent);
    }
    span
}

impl Spans {
    /// The span of the decision on an event; none for events about nothing in particular.
    pub fn for_event(&self, state: &State, event: &Event) -> Span {
        match event {
            Event::Resolved { incident, .. } => {
                state.incident(incident).map_or_else(Span::none, |i| stage(i, "decide"))
            }
            _ => Span::none(),
        }
    }

    /// The span of a whole verification: each look is a child of it.
    pub fn verification(&mut self, incident: &Incident) -> Span {
        self.verifying.entry(incident.id.clone()).or_insert_with(|| stage(incident, "verify")).clone()
    }

    /// The verification has ended.
    pub fn verified(&mut self, incident: &str, verdict: &str) {
        if let Some(span) = self.verifying.remove(incident) {
            span.record("verdict", verdict);
        }
    }

    /// The incident is over.
    pub fn end(&mut self, incident: &str) {
        self.verifying.remove(incident);
    }
}

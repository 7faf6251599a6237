//! One line for every call: who wanted what of whom, and what became of it.

use std::{net::SocketAddr, time::Duration};

use crate::policy::{Container, Reason, Verb};

/// A call that has been answered.
#[derive(Debug)]
pub struct Record<'a> {
    /// The caller's address.
    pub peer: SocketAddr,
    /// The caller's container, if its address belongs to one.
    pub caller: Option<String>,
    /// Method as sent.
    pub method: &'a str,
    /// Request target as sent.
    pub target: &'a str,
    /// What it wanted.
    pub verb: Verb,
    /// Policy let it through.
    pub allowed: bool,
    /// Why, or what went wrong after that.
    pub reason: Reason,
    /// The container that it named, if the caller may know of it.
    pub container: Option<&'a Container>,
    /// Status of the answer.
    pub status: u16,
    /// Time until the answer's head.
    pub took: Duration,
}

/// `allowed` or `denied`.
pub fn decision(allowed: bool) -> &'static str {
    if allowed { "allowed" } else { "denied" }
}

impl Record<'_> {
    /// Writes the line. The trace id is added by the log layer.
    pub fn write(&self) {
        let container = self.container.map_or("", |c| c.name.as_str());
        let service = self.container.map_or("", |c| c.service.as_str());
        // Milliseconds with three digits are exact enough and short.
        let ms = (self.took.as_secs_f64() * 1e6).round() / 1e3;
        tracing::info!(
            audit = true,
            who = %self.peer,
            caller = self.caller.as_deref().unwrap_or(""),
            verb = self.verb.name(),
            container,
            service,
            decision = decision(self.allowed),
            reason = self.reason.code(),
            status = self.status,
            ms,
            method = short(self.method),
            path = short(self.target),
            "docker call"
        );
    }
}

/// Foreign text in a log line: bounded. The JSON encoder escapes the rest.
fn short(text: &str) -> &str {
    let end = text.char_indices().nth(256).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

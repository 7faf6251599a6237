//! Whether a message would be taken, and shown well, by what stands behind this
//! receiver in the world: Slack, mail programs, a webhook's owner. Pure.

pub mod mail;
pub mod slack;
pub mod webhook;

use serde::Serialize;

/// Something about a message that its medium would refuse or show badly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Where: a JSON pointer, a header's name, a line.
    pub at: String,
    /// What is wrong.
    pub what: String,
}

impl Violation {
    /// One.
    pub fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into() }
    }
}

/// Collects; a hopeless message does not fill the memory.
#[derive(Debug, Default)]
pub(crate) struct Findings(Vec<Violation>);

const MAX_FINDINGS: usize = 50;

impl Findings {
    pub(crate) fn add(&mut self, at: impl Into<String>, what: impl Into<String>) {
        if self.0.len() < MAX_FINDINGS {
            self.0.push(Violation::new(at, what));
        }
    }

    pub(crate) fn check(&mut self, ok: bool, at: &str, what: impl FnOnce() -> String) {
        if !ok {
            self.add(at, what());
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Violation> {
        self.0
    }
}

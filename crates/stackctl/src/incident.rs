//! The alert-bot's incidents, as far as this program needs them.

use serde::{Deserialize, Serialize};

/// One incident, as in `GET /v1/incidents`; `actions` come with `GET /v1/incidents/{id}` only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// The bot's id.
    pub id: String,
    /// Name of the alert.
    pub alertname: String,
    /// Service that is meant.
    pub service: Option<String>,
    /// `waiting`, `acting`, `verifying`, `escalated`, `closed`.
    pub state: String,
    /// How it ended.
    pub outcome: Option<String>,
    /// `healed`, `not_healed`, `unverified`.
    pub verdict: Option<String>,
    /// `act`, or the code of the reason why not.
    pub decision: Option<String>,
    /// RFC 3339; when the alert began.
    pub starts_at: String,
    /// RFC 3339.
    pub closed_at: Option<String>,
    /// What was done.
    #[serde(default)]
    pub actions: Vec<Action>,
}

/// One action.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// `restart`, `start` …
    pub verb: String,
    /// Name of the container.
    pub target: String,
    /// `intended`, `unknown`, `done`, `not_performed`.
    pub status: String,
}

/// Reasons not to act that pass by themselves.
const FOR_NOW: &[&str] = &[
    "hold",
    "too_young",
    "target_changing",
    "target_busy",
    "cooldown",
    "concurrency_limit",
    "backend_unavailable",
    "inhibited",
];

impl Incident {
    /// The service, or nothing.
    pub fn service(&self) -> &str {
        self.service.as_deref().unwrap_or_default()
    }

    /// Over.
    pub fn closed(&self) -> bool {
        self.state == "closed"
    }

    /// Actions that happened.
    pub fn done(&self) -> impl Iterator<Item = &Action> {
        self.actions.iter().filter(|action| action.status == "done")
    }

    /// Something is being done about it, or will be without a person.
    pub fn is_pending(&self) -> bool {
        match self.state.as_str() {
            "acting" | "verifying" => true,
            // Repaired or not, it is over when the alert has ended.
            "waiting" | "escalated" if self.verdict.is_some() => true,
            "waiting" => self.reason().is_none_or(|reason| FOR_NOW.contains(&reason)),
            _ => false,
        }
    }

    /// Why nothing is done, as a code.
    pub fn reason(&self) -> Option<&str> {
        self.decision.as_deref().filter(|decision| *decision != "act")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_bot_answers() {
        let text = r#"{"id":"a","alertname":"HighErrorRate","severity":"critical","service":"transaction-api",
            "target":"selfheal-transaction-api-1","state":"closed","outcome":"healed","verdict":"healed","decision":"act",
            "starts_at":"2026-01-02T03:04:05Z","opened_at":"2026-01-02T03:04:15Z","closed_at":"2026-01-02T03:05:05Z",
            "actions":[{"id":"a-0-1","verb":"restart","target":"selfheal-transaction-api-1","status":"done","step":1}]}"#;
        let incident: Incident = serde_json::from_str(text).unwrap();
        assert!(incident.closed() && incident.reason().is_none());
        assert_eq!(incident.done().count(), 1);
        assert!(!incident.is_pending());
    }
}

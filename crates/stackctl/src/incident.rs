//! The alert-bot's incidents, as far as this program needs them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One incident, as in `GET /v1/incidents`; `actions` and `timeline` come with `GET /v1/incidents/{id}` only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// The bot's id.
    pub id: String,
    /// Name of the alert.
    pub alertname: String,
    /// Service that is meant.
    pub service: Option<String>,
    /// Labels of the alert; with `GET /v1/incidents/{id}` only.
    #[serde(default, skip_serializing)]
    pub labels: BTreeMap<String, String>,
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
    /// Everything that was decided, done and seen, oldest first.
    #[serde(default, skip_serializing)]
    pub timeline: Vec<Entry>,
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

/// One line of an incident's timeline.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// `opened`, `adopted`, `decision`, `intent`, `result`, `evidence`, `escalated` …
    pub kind: String,
    /// Why the bot did not act, as a code.
    #[serde(default)]
    pub reason: Option<String>,
    /// The evidence.
    #[serde(default)]
    pub data: Value,
}

/// Reasons not to act that pass by themselves.
const FOR_NOW: &[&str] = &[
    "hold",
    "too_young",
    "just_stopped",
    "never_started",
    "target_changing",
    "target_busy",
    "cooldown",
    "concurrency_limit",
    "backend_unavailable",
    "inhibited",
    "cause_elsewhere",
    "deploy",
    "not_leader",
];

impl Incident {
    /// The service, or nothing.
    pub fn service(&self) -> &str {
        self.service.as_deref().unwrap_or_default()
    }

    /// The service, and the machine of it where the alert is about one.
    pub fn subject(&self) -> String {
        let machine = self.labels.get("machine_id").map(|id| format!(" ({id})")).unwrap_or_default();
        format!("{}{machine}", self.service())
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

    /// Every reason that was given not to act, the first time each was given.
    pub fn reasons(&self) -> Vec<&str> {
        let told = self.timeline.iter().filter_map(|entry| entry.reason.as_deref());
        told.chain(self.reason()).fold(Vec::new(), |mut list, reason| {
            if !list.contains(&reason) {
                list.push(reason);
            }
            list
        })
    }

    /// What a diagnosis found, each as the bot put it.
    pub fn findings(&self) -> Vec<String> {
        let lists = self.timeline.iter().filter_map(|entry| entry.data["findings"].as_array());
        lists.flatten().map(finding).collect()
    }
}

/// Its kind first.
fn finding(value: &Value) -> String {
    let part = |name: &str| match &value[name] {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    };
    [part("what"), part("value"), part("unit")]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOSED: &str = r#"{"id":"a","alertname":"HighErrorRate","severity":"critical","service":"transaction-api",
        "target":"selfheal-transaction-api-1","state":"closed","outcome":"healed","verdict":"healed","decision":"act",
        "starts_at":"2026-01-02T03:04:05Z","opened_at":"2026-01-02T03:04:15Z","closed_at":"2026-01-02T03:05:05Z",
        "actions":[{"id":"a-0-1","verb":"restart","target":"selfheal-transaction-api-1","status":"done","step":1}]}"#;

    #[test]
    fn reads_what_the_bot_answers() {
        let incident: Incident = serde_json::from_str(CLOSED).unwrap();
        assert!(incident.closed() && incident.reason().is_none());
        assert_eq!(incident.done().count(), 1);
        assert!(!incident.is_pending());
    }

    #[test]
    fn reads_reasons_and_findings_of_a_timeline() {
        let text = r#"{"id":"a","alertname":"DatabaseSlow","state":"waiting","decision":"cause_elsewhere","starts_at":"",
            "timeline":[
              {"seq":1,"kind":"opened","reason":null,"text":"t","data":{"labels":{}}},
              {"seq":2,"kind":"decision","reason":"hold","data":{}},
              {"seq":3,"kind":"decision","reason":"cause_elsewhere","data":{}},
              {"seq":4,"kind":"evidence","data":{"findings":[
                 {"what":"blocked","value":41.5,"unit":"s","detail":"LOCK TABLE"},{"what":"idle_in_transaction"}]}}]}"#;
        let incident: Incident = serde_json::from_str(text).unwrap();
        assert_eq!(incident.reasons(), ["hold", "cause_elsewhere"]);
        assert_eq!(incident.findings(), ["blocked 41.5 s", "idle_in_transaction"]);
        assert!(incident.is_pending());
    }

    #[test]
    fn what_only_a_person_lifts_is_not_pending() {
        let waiting =
            |reason: &str| Incident { state: "waiting".into(), decision: Some(reason.into()), ..Incident::default() };
        for reason in ["manual_stop", "protected", "denied", "frozen", "storm", "crash_loop", "awaiting_approval"] {
            assert!(!waiting(reason).is_pending(), "{reason}");
        }
        for reason in ["hold", "just_stopped", "deploy", "not_leader", "cooldown"] {
            assert!(waiting(reason).is_pending(), "{reason}");
        }
    }

    #[test]
    fn a_timeline_is_read_and_not_printed() {
        let incident: Incident = serde_json::from_str(CLOSED).unwrap();
        assert!(serde_json::to_value(incident).unwrap().get("timeline").is_none());
    }
}

//! What the API shows.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use crate::{
    engine::{Action, Incident, Reason},
    journal::read::Entry,
    timestamp::Timestamp,
};

/// One incident in a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct IncidentSummary {
    /// Its id.
    pub id: String,
    /// The alert's name.
    pub alertname: String,
    /// The alert's severity label.
    pub severity: Option<String>,
    /// The service that is meant.
    pub service: Option<String>,
    /// The container, once it was looked up.
    pub target: Option<String>,
    /// waiting, acting, verifying, escalated, closed.
    pub state: &'static str,
    /// How it ended: healed, not_healed, unverified, resolved, silenced, expired, covered.
    pub outcome: Option<&'static str>,
    /// What the last verification found.
    pub verdict: Option<&'static str>,
    /// The last decision: `act`, or the code of the reason why not.
    pub decision: Option<String>,
    /// That decision, for people.
    pub decision_text: Option<String>,
    /// The rule of the policy.
    pub rule: Option<String>,
    /// When the alert began to burn.
    #[schema(value_type = String, format = DateTime)]
    pub starts_at: Timestamp,
    /// When the incident was opened.
    #[schema(value_type = String, format = DateTime)]
    pub opened_at: Timestamp,
    /// When it was closed.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub closed_at: Option<Timestamp>,
    /// When people were told.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub escalated_at: Option<Timestamp>,
    /// When the decision will be looked at again by itself.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_at: Option<Timestamp>,
    /// Its trace.
    pub trace_id: Option<String>,
}

impl From<&Incident> for IncidentSummary {
    fn from(i: &Incident) -> Self {
        Self {
            id: i.id.clone(),
            alertname: i.alert.name().to_owned(),
            severity: i.alert.labels.get("severity").cloned(),
            service: i.service(),
            target: i.target.as_ref().map(|t| t.name.clone()),
            state: i.phase.as_str(),
            outcome: i.outcome.map(|o| o.as_str()),
            verdict: i.verdict.map(|v| v.as_str()),
            decision: i.decision.as_ref().map(|d| d.reason.map_or("act", Reason::as_str).to_owned()),
            decision_text: i.decision.as_ref().map(|d| d.text.clone()),
            rule: i.rule.as_ref().map(|r| r.name.clone()),
            starts_at: i.starts_at,
            opened_at: i.opened_at,
            closed_at: i.closed_at,
            escalated_at: i.escalated_at,
            next_at: i.next_at,
            trace_id: i.trace.as_ref().map(|t| t.trace_id.clone()),
        }
    }
}

/// A page of incidents.
#[derive(Debug, Serialize, ToSchema)]
pub struct IncidentPage {
    /// Newest first.
    pub incidents: Vec<IncidentSummary>,
    /// For `?cursor=`, if there are more.
    pub next_cursor: Option<String>,
}

/// One action.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActionView {
    /// Its id.
    pub id: String,
    /// restart or start.
    pub verb: &'static str,
    /// The container.
    pub target: String,
    /// Which step of the rule, from 1.
    pub step: usize,
    /// Which attempt, from 1.
    pub attempt: u32,
    /// intended, unknown, done, not_performed.
    pub status: &'static str,
    /// The container's start before the action.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_before: Option<Timestamp>,
    /// When the intent was written.
    #[schema(value_type = String, format = DateTime)]
    pub intended_at: Timestamp,
    /// When the result was written.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// What went wrong.
    pub error: Option<String>,
}

impl From<&Action> for ActionView {
    fn from(a: &Action) -> Self {
        Self {
            id: a.id.clone(),
            verb: a.verb.as_str(),
            target: a.target.name.clone(),
            step: a.step + 1,
            attempt: a.attempt,
            status: a.status.as_str(),
            started_before: a.started_before,
            intended_at: a.intended_at,
            finished_at: a.finished_at,
            error: a.error.clone(),
        }
    }
}

/// A reason not to act.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReasonView {
    /// The code.
    pub code: &'static str,
    /// What it means.
    pub text: &'static str,
}

impl From<Reason> for ReasonView {
    fn from(reason: Reason) -> Self {
        Self { code: reason.as_str(), text: reason.explain() }
    }
}

/// One incident with everything that is known about it.
#[derive(Debug, Serialize, ToSchema)]
pub struct IncidentDetail {
    /// As in the list.
    #[serde(flatten)]
    pub summary: IncidentSummary,
    /// Why the bot did not act, if that is the last decision.
    pub refusal: Option<ReasonView>,
    /// The alert's labels.
    pub labels: BTreeMap<String, String>,
    /// The alert's annotations.
    pub annotations: BTreeMap<String, String>,
    /// Where the alert came from.
    pub generator_url: Option<String>,
    /// The rule as it was when the incident was opened.
    #[schema(value_type = Object)]
    pub rule_in_force: Value,
    /// Digest of the policy at that time.
    pub policy: String,
    /// What the proof rests on: the last look at container, alert and SLI.
    #[schema(value_type = Object)]
    pub verification: Value,
    /// Every action, oldest first.
    pub actions: Vec<ActionView>,
    /// Everything that was decided, done and seen, oldest first.
    pub timeline: Vec<Entry>,
}

/// Decisions on an alert, and what the policy in force would say now.
#[derive(Debug, Serialize, ToSchema)]
pub struct Decisions {
    /// What the policy in force says of an alert of this name.
    #[schema(value_type = Object)]
    pub policy: Value,
    /// Newest first.
    pub decisions: Vec<Entry>,
}

/// Lines of the record.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditPage {
    /// Newest first.
    pub entries: Vec<Entry>,
    /// For `?before=`, if there are more.
    pub next_before: Option<i64>,
}

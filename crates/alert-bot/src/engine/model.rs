//! What the engine knows: alerts, incidents, actions, containers.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Reason, event::Probe};
use crate::{
    policy::{Rule, Step, Verb},
    timestamp::Timestamp,
};

/// Whether an alert burns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It does.
    Firing,
    /// It has ended.
    Resolved,
}

/// One alert, as received.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Whether it burns.
    pub status: Status,
    /// Alertmanager's, or derived from the labels.
    pub fingerprint: String,
    /// `None` in the manual form.
    pub starts_at: Option<Timestamp>,
    /// Written by whoever sent the alert: never trusted.
    pub labels: BTreeMap<String, String>,
    /// Likewise.
    pub annotations: BTreeMap<String, String>,
    /// Where it came from.
    pub generator_url: Option<String>,
}

impl Alert {
    /// The alert's name.
    pub fn name(&self) -> &str {
        self.labels.get("alertname").map_or("", String::as_str)
    }
}

/// The fingerprint of an alert that came without: stable under reordering.
pub fn fingerprint_of(labels: &BTreeMap<String, String>) -> String {
    let mut hash = Sha256::new();
    for (name, value) in labels {
        // Lengths first, so that no two label sets run together to the same text.
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        hash.update((value.len() as u64).to_be_bytes());
        hash.update(value);
    }
    hex(&hash.finalize()[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// One occurrence of one alert.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AlertKey {
    /// Which alert.
    pub fingerprint: String,
    /// Which occurrence.
    pub starts_at: Timestamp,
}

impl AlertKey {
    /// The incident's id: derived, so that a redelivery after a crash opens the
    /// same incident and not a second one.
    pub fn incident_id(&self) -> String {
        hex(&Sha256::digest(format!("{}@{}", self.fingerprint, self.starts_at.millis()))[..8])
    }
}

/// Where an incident stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not acted on, for the reason of its last decision.
    Waiting,
    /// An action is under way, or its outcome not known yet.
    Acting,
    /// The action is done; the proof is awaited.
    Verifying,
    /// Handed to people.
    Escalated,
    /// Over.
    Closed,
}

/// How an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Repaired, with proof.
    Healed,
    /// The repair did not help; the alert ended later.
    NotHealed,
    /// Nothing can be said about the repair; the alert ended later.
    Unverified,
    /// The alert ended without an action of ours.
    Resolved,
    /// A person silenced the alert.
    Silenced,
    /// A manual alert that was neither repeated nor resolved.
    Expired,
    /// It ended with another incident: its cause was healed, or the same target under another alert.
    Covered,
    /// A person closed it.
    ClosedByOperator,
}

impl Outcome {
    /// Every outcome, for initialising metrics.
    pub const ALL: [Self; 8] = [
        Self::Healed,
        Self::NotHealed,
        Self::Unverified,
        Self::Resolved,
        Self::Silenced,
        Self::Expired,
        Self::Covered,
        Self::ClosedByOperator,
    ];

    /// As written in metrics and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healed => "healed",
            Self::NotHealed => "not_healed",
            Self::Unverified => "unverified",
            Self::Resolved => "resolved",
            Self::Silenced => "silenced",
            Self::Expired => "expired",
            Self::Covered => "covered",
            Self::ClosedByOperator => "closed_by_operator",
        }
    }
}

impl Phase {
    /// As written in the API and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Acting => "acting",
            Self::Verifying => "verifying",
            Self::Escalated => "escalated",
            Self::Closed => "closed",
        }
    }
}

/// What was found out about a repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Container, alert and SLI were good for long enough.
    Healed,
    /// At least one of them was bad at the end.
    NotHealed,
    /// It could not be measured.
    Unverified,
}

impl Verdict {
    /// As written in metrics and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healed => "healed",
            Self::NotHealed => "not_healed",
            Self::Unverified => "unverified",
        }
    }

    /// How an incident with this verdict ends.
    pub const fn outcome(self) -> Outcome {
        match self {
            Self::Healed => Outcome::Healed,
            Self::NotHealed => Outcome::NotHealed,
            Self::Unverified => Outcome::Unverified,
        }
    }
}

/// Why Alertmanager keeps an alert back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "by", content = "ids")]
pub enum Suppression {
    /// Ids of silences.
    Silenced(Vec<String>),
    /// Fingerprints of inhibiting alerts.
    Inhibited(Vec<String>),
    /// Names of time intervals.
    Muted(Vec<String>),
}

impl Suppression {
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::Silenced(_) => Reason::Silenced,
            Self::Inhibited(_) => Reason::Inhibited,
            Self::Muted(_) => Reason::Muted,
        }
    }
}

/// The trace that tells the incident's story.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// 32 hex digits.
    pub trace_id: String,
    /// W3C header of the root span: later stages join it, also after a restart.
    pub traceparent: String,
}

/// The last decision on an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// `None`: to act.
    pub reason: Option<Reason>,
    /// Details, for people.
    pub text: String,
    /// When it was taken first; the same decision taken again is not news.
    pub at: Timestamp,
    /// About which step.
    pub step: usize,
}

/// Which container is meant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetRef {
    /// Docker's id: changes when the container is recreated.
    pub id: String,
    /// The name: what budgets and the one-action rule go by.
    pub name: String,
    /// The service.
    pub service: String,
}

/// One occurrence of an alert, and all that was done about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// See [`AlertKey::incident_id`].
    pub id: String,
    /// As first received.
    pub alert: Alert,
    /// When the alert began to burn.
    pub starts_at: Timestamp,
    /// Sent by hand: there is nobody who would say that it has ended.
    pub manual: bool,
    /// When it was opened here.
    pub opened_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// When the alert was last heard of.
    pub last_seen: Timestamp,
    /// Alertmanager does not know the alert since then.
    pub missing_since: Option<Timestamp>,
    /// The alert still burns, as far as anybody has said.
    pub alert_active: bool,
    /// Alertmanager keeps the alert back.
    pub suppressed: Option<Suppression>,
    /// The rule as it was when the incident opened.
    pub rule: Option<Arc<Rule>>,
    /// The policy's digest at that time.
    pub policy: String,
    /// Where it stands.
    pub phase: Phase,
    /// Index of the rule's step that is on.
    pub step: usize,
    /// When to look again, if time alone may change the decision.
    pub next_at: Option<Timestamp>,
    /// Known after it was resolved once.
    pub target: Option<TargetRef>,
    /// The incident of the burning service that this one depends on.
    #[serde(default)]
    pub cause: Option<String>,
    /// How often a person had it begin anew; then nothing speaks for another cause any more.
    #[serde(default)]
    pub round: u32,
    /// The step that a person has approved.
    #[serde(default)]
    pub approved: Option<usize>,
    /// Who has it, instead of the bot.
    #[serde(default)]
    pub taken_over: Option<String>,
    /// Why it stands where it stands.
    pub decision: Option<Decision>,
    /// The action that is under way or being verified.
    pub action: Option<String>,
    /// The proof so far.
    pub verification: Option<Verification>,
    /// What the last verification found.
    pub verdict: Option<Verdict>,
    /// Handed to people at that time.
    pub escalated_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// When.
    pub closed_at: Option<Timestamp>,
    /// Its trace, if tracing is on.
    pub trace: Option<Trace>,
}

impl Incident {
    /// Which occurrence of which alert.
    pub fn key(&self) -> AlertKey {
        AlertKey { fingerprint: self.alert.fingerprint.clone(), starts_at: self.starts_at }
    }

    /// The service that the rule means, or the alert names.
    pub fn service(&self) -> Option<String> {
        match self.rule.as_ref().and_then(|r| r.heal()) {
            Some(heal) => heal.target.service(&self.alert.labels),
            None => self.alert.labels.get("service").cloned(),
        }
    }

    /// The step that is on.
    pub fn current_step(&self) -> Option<&Step> {
        self.rule.as_ref()?.heal()?.steps.get(self.step)
    }
}

/// A verification under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verification {
    /// When the action was done: older samples prove nothing.
    pub since: Timestamp,
    /// The verdict falls then at the latest, unless everything is good just now.
    pub deadline: Timestamp,
    /// Everything is good since then.
    pub good_since: Option<Timestamp>,
    /// Looks in a row that were good: a clock that jumps forward proves nothing.
    pub good_looks: u32,
    /// The container's start that `good_since` belongs to.
    pub started_at: Option<Timestamp>,
    /// When to look next.
    pub next_at: Timestamp,
    /// What was seen last.
    pub last: Option<Probe>,
    /// What that means.
    pub judgement: Option<Judgement>,
}

/// What one look at container, alert and SLI says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is", content = "because")]
pub enum Judgement {
    /// All three are good.
    Good,
    /// At least one is bad.
    Bad(String),
    /// None is known to be bad, but not all could be measured.
    Unknown(String),
}

/// Where an action stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionStatus {
    /// Written down before the call.
    Intended,
    /// The call's outcome is not known: the container is being inspected.
    Unknown,
    /// It happened.
    Done,
    /// It may have happened, and nothing will ever tell: it is not done again.
    Unanswered,
    /// It is certain that it did not happen.
    NotPerformed,
}

impl ActionStatus {
    /// As written in metrics and records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Unknown => "unknown",
            Self::Done => "done",
            Self::Unanswered => "unanswered",
            Self::NotPerformed => "not_performed",
        }
    }

    /// The outcome is not known yet.
    pub const fn open(self) -> bool {
        matches!(self, Self::Intended | Self::Unknown)
    }
}

/// One action: intent first, then result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// Derived from incident, step and attempt.
    pub id: String,
    /// On behalf of.
    pub incident: String,
    /// With `rule`, `step` and `attempt` unique in the journal.
    pub key: AlertKey,
    /// The rule's name.
    pub rule: String,
    /// Index of the step.
    pub step: usize,
    /// The incident's round when it was intended.
    #[serde(default)]
    pub round: u32,
    /// From 1; a further one only where the one before certainly did not happen, or in a further round.
    pub attempt: u32,
    /// What is done.
    pub verb: Verb,
    /// To which container.
    pub target: TargetRef,
    /// Limit of the call.
    pub timeout_ms: u64,
    /// How long the container may take to stop.
    pub stop_timeout_ms: u64,
    /// The container's start before the action: tells afterwards whether it happened.
    pub started_before: Option<Timestamp>,
    /// How many replicas there were before it: tells whether one more or one less has come of it.
    #[serde(default)]
    pub replicas_before: usize,
    /// When the intent was written.
    pub intended_at: Timestamp,
    /// When its outcome became unknown.
    pub unknown_since: Option<Timestamp>,
    /// When to inspect next.
    pub next_inspect: Option<Timestamp>,
    /// When the result was written.
    pub finished_at: Option<Timestamp>,
    /// Where it stands.
    pub status: ActionStatus,
    /// What went wrong.
    pub error: Option<String>,
}

impl Action {
    /// It happened, or may have: what an operator had allowed beyond the breaker's limit is used up.
    pub fn closes_release(&self) -> bool {
        self.verb.changes() && matches!(self.status, ActionStatus::Done | ActionStatus::Unanswered)
    }

    /// The id of an attempt.
    pub fn id_for(incident: &str, step: usize, attempt: u32) -> String {
        format!("{incident}-{step}-{attempt}")
    }
}

/// Docker's health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// No verdict yet.
    Starting,
    /// Passing.
    Healthy,
    /// Failing.
    Unhealthy,
}

/// What the container is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Docker's own restart policy is at work, or it is being removed.
    Changing,
    /// Created and never started, exited, or dead.
    Down,
}

/// A container, as inspected.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Workload {
    /// Docker's id.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// Names it goes by: `selfheal.service`, compose's service, in this order.
    pub services: Vec<String>,
    /// Compose project.
    pub project: Option<String>,
    /// `selfheal.enable=true`
    pub enabled: bool,
    /// `selfheal.protect=true`
    pub protected: bool,
    /// What it is doing.
    pub state: RunState,
    /// `None` where the image has no health check.
    pub health: Option<Health>,
    /// Last start.
    pub started_at: Option<Timestamp>,
    /// Last end.
    pub finished_at: Option<Timestamp>,
    /// Of the last end.
    pub exit_code: Option<i64>,
    /// The kernel killed it for its memory.
    pub oom_killed: bool,
    /// By Docker's own restart policy.
    pub restart_count: i64,
    /// Its image, as it was asked for.
    pub image: String,
}

impl Workload {
    /// What records call it.
    pub fn target(&self) -> TargetRef {
        TargetRef {
            id: self.id.clone(),
            name: self.name.clone(),
            service: self.services.first().unwrap_or(&self.name).clone(),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

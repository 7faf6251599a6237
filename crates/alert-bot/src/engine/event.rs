//! What can happen, and what can be wanted.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    Reason,
    edges::Edge,
    model::{Action, Alert, AlertKey, Incident, Suppression, Trace, Workload},
    operator::{Freeze, Order},
    release::{Release, ReleaseOrder},
    target::Refusal,
    topology::Topology,
};
use crate::{policy::Receiver, timestamp::Timestamp};

/// How an alert came to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A notification.
    Webhook,
    /// Alertmanager's list.
    Reconcile,
}

/// What has happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The process has started on this journal.
    Boot,
    /// An alert was received.
    Alert {
        /// The alert.
        alert: Alert,
        /// From where.
        source: Source,
        /// When the journal took it: the same at every redelivery from the journal.
        received_at: Timestamp,
        /// The trace that an incident opened by it gets.
        trace: Option<Trace>,
    },
    /// Alertmanager's list was read.
    Snapshot(Snapshot),
    /// The target of an incident was looked up.
    Resolved {
        /// Which incident.
        incident: String,
        /// What was found.
        seen: Seen,
    },
    /// The call of an action came back.
    Returned {
        /// Which action.
        action: String,
        /// With what.
        outcome: CallOutcome,
        /// What was seen on the way: log lines from before the action, findings of a diagnosis.
        evidence: Option<Value>,
    },
    /// The container of an action with unknown outcome was inspected.
    Inspected {
        /// Which action.
        action: String,
        /// `Ok(None)`: there is no such container any more.
        found: Result<Option<Workload>, String>,
        /// How many replicas of it there are, where that was asked.
        replicas: Option<usize>,
    },
    /// A look at container, alert and SLI.
    Probed {
        /// For which incident.
        incident: String,
        /// What was seen.
        probe: Probe,
    },
    /// A person has given an order about an incident.
    Ordered(Order),
    /// Everything is frozen, or no more.
    Frozen {
        /// What is in force from now on.
        freeze: Option<Freeze>,
        /// On whose order.
        by: String,
    },
    /// A person has looked at a target and gives it its budget back.
    Released(ReleaseOrder),
    /// The containers and what they need were looked up.
    Topology(Topology),
    /// Traces show these calls, as (caller, called).
    Calls(Vec<(String, String)>),
    /// A container was stopped on purpose, and not by the bot.
    Stopped {
        /// The container's name.
        target: String,
        /// When.
        at: Timestamp,
    },
    /// Evidence about an incident was gathered; it may be closed by now.
    Found {
        /// About which incident.
        incident: String,
        /// The alert's name.
        alert: String,
        /// What it is.
        text: String,
        /// The evidence.
        evidence: Value,
    },
    /// Time has passed.
    Tick,
}

/// Alertmanager's list at one time.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When it was asked for: what was heard later is newer than the list.
    pub asked_at: Option<Timestamp>,
    /// By fingerprint.
    pub alerts: BTreeMap<String, AlertStatus>,
}

/// What Alertmanager says of one alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertStatus {
    /// Kept back, and why.
    pub suppressed: Option<Suppression>,
}

/// What a look-up of a target found.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When the look-up began.
    pub at: Timestamp,
    /// The one container that is meant, or why there is none.
    pub workload: Result<Workload, Refusal>,
    /// What Alertmanager says of the alert.
    pub alert: AlertLook,
}

/// What Alertmanager said when it was asked about one alert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlertLook {
    /// It could not be asked: the notification stands.
    Unasked,
    /// It does not know the alert (any more).
    Unlisted,
    /// It knows it.
    Listed(AlertStatus),
}

/// How the call of an action ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// The backend says that it was done.
    Done,
    /// It was refused: it did not happen, and will not.
    Refused(String),
    /// It was never sent, or there is no such container: it did not happen.
    NotPerformed(String),
    /// No answer, or an error after which it may have happened.
    Unknown(String),
}

/// Yes, no, or not known and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tri {
    /// It is so.
    Yes,
    /// It is not so.
    No,
    /// It could not be found out.
    Unknown(String),
}

/// The SLI at one look.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sli {
    /// Samples came back.
    Value {
        /// The worst of them.
        value: f64,
        /// All of them are good.
        good: bool,
        /// Age of the oldest sample, heartbeat included, by Prometheus' own clock.
        age_ms: u64,
    },
    /// The heartbeat says that the target does not report.
    Silent(String),
    /// The query found nothing: that is not good.
    Empty(String),
    /// Prometheus did not answer, or with an error.
    Unavailable(String),
}

/// One look at container, alert and SLI.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probe {
    /// The container; `Ok(None)` if there is none any more.
    pub container: Result<Option<Workload>, String>,
    /// Whether the alert still fires.
    pub firing: Tri,
    /// The SLI.
    pub sli: Sli,
}

/// What is wanted.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Store this incident as it now is.
    Put(Box<Incident>),
    /// Store this action as it now is.
    PutAction(Box<Action>),
    /// Remember that this occurrence is over, though it was never opened here.
    Ended(AlertKey, Timestamp),
    /// Write this down for people.
    Note(Box<Note>),
    /// Tell people.
    Page(Box<Page>),
    /// Nothing is acted on from now on, or everything again.
    Freeze(Option<Box<Freeze>>),
    /// A person stopped this container then; `None`: it runs again.
    ManualStop(String, Option<Timestamp>),
    /// Actions that no longer count, and breakers that are closed.
    Release(Box<Release>),
    /// A call that traces show is learned, or was seen again.
    Edge(Box<Edge>),
    /// It was not seen for long: caller, called.
    EdgeGone(String, String),
    /// In memory only: the containers and what they need.
    Topology(Box<Topology>),
    /// In memory only: look at a waiting incident again at that time.
    Defer(String, Option<Timestamp>),
    /// In memory only: an alert was heard of again.
    Heard(String, Timestamp),
    /// In memory only: a question is on its way.
    Asked(Ask, Timestamp),
    /// In memory only: it was answered.
    Answered(Ask),
    /// Do this once everything before it is in the journal.
    Do(Command),
}

impl Effect {
    /// Whether the journal keeps it: what it does not keep is gone after a restart.
    pub const fn durable(&self) -> bool {
        match self {
            Self::Put(_)
            | Self::PutAction(_)
            | Self::Ended(..)
            | Self::Note(_)
            | Self::Page(_)
            | Self::Freeze(_)
            | Self::ManualStop(..)
            | Self::Release(_)
            | Self::Edge(_)
            | Self::EdgeGone(..) => true,
            Self::Topology(_)
            | Self::Defer(..)
            | Self::Heard(..)
            | Self::Asked(..)
            | Self::Answered(_)
            | Self::Do(_) => false,
        }
    }
}

/// A question to the outside that must not be asked twice at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// Where an incident's target is.
    Resolve(String),
    /// What became of an action.
    Inspect(String),
    /// How an incident's repair does.
    Probe(String),
}

/// Work for the driver.
#[derive(Clone, Debug)]
pub enum Command {
    /// Look up the target, and what Alertmanager says of the alert.
    Resolve {
        /// For which incident.
        incident: String,
    },
    /// Carry out the action of this id.
    Act {
        /// Which action.
        action: String,
    },
    /// Inspect the container of this action.
    Inspect {
        /// Which action.
        action: String,
    },
    /// Look at container, alert and SLI.
    Probe {
        /// For which incident.
        incident: String,
    },
    /// Fetch the SLI's curve from before the alert until now, as evidence.
    Curve {
        /// Of which incident; it may be closed by then.
        incident: Box<Incident>,
    },
    /// Read Alertmanager's list now.
    Reconcile,
}

/// What kind of thing is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoteKind {
    /// An incident was opened by a notification.
    Opened,
    /// An incident was opened because Alertmanager lists the alert.
    Adopted,
    /// An incident was opened again.
    Reopened,
    /// To act, or not to and why.
    Decision,
    /// An action is about to be carried out.
    Intent,
    /// What became of it.
    Result,
    /// A look at the proof that says something new.
    Probe,
    /// What the proof amounts to.
    Verdict,
    /// The next step is taken.
    NextStep,
    /// People were told.
    Escalated,
    /// Log lines, measurements, findings.
    Evidence,
    /// What a person ordered.
    Operator,
    /// The alert has ended.
    AlertEnded,
    /// The incident is over.
    Closed,
    /// Something about the bot itself.
    System,
}

impl NoteKind {
    /// As written in the API and the journal.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Adopted => "adopted",
            Self::Reopened => "reopened",
            Self::Decision => "decision",
            Self::Intent => "intent",
            Self::Result => "result",
            Self::Probe => "probe",
            Self::Verdict => "verdict",
            Self::NextStep => "next_step",
            Self::Escalated => "escalated",
            Self::Evidence => "evidence",
            Self::Operator => "operator",
            Self::AlertEnded => "alert_ended",
            Self::Closed => "closed",
            Self::System => "system",
        }
    }
}

/// One line of the record.
#[derive(Clone, Debug, PartialEq)]
pub struct Note {
    /// When.
    pub at: Timestamp,
    /// About which incident.
    pub incident: Option<String>,
    /// What kind.
    pub kind: NoteKind,
    /// Why not, for a refusal.
    pub reason: Option<Reason>,
    /// The alert's name.
    pub alert: String,
    /// The container's name, where one is known.
    pub target: Option<String>,
    /// For people.
    pub text: String,
    /// The evidence.
    pub data: Value,
}

impl Note {
    /// A line that is about no incident.
    pub fn general(at: Timestamp, kind: NoteKind, text: String, data: Value) -> Self {
        Self { at, incident: None, kind, reason: None, alert: String::new(), target: None, text, data }
    }
}

/// A message to people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// Pages about the same are sent once in a while only.
    pub about: String,
    /// Which incident.
    pub incident: String,
    /// When.
    pub at: Timestamp,
    /// One line.
    pub title: String,
    /// What, where, what was tried.
    pub text: String,
    /// Why it is sent.
    #[serde(default)]
    pub kind: PageKind,
    /// To whom, if they are set up; nobody named: to all.
    #[serde(default)]
    pub to: Vec<Receiver>,
    /// How many levels of the ladder were sent with it.
    #[serde(default)]
    pub levels: usize,
    /// Who is told next, unless somebody takes over.
    #[serde(default)]
    pub next: Option<NextLevel>,
}

/// Why people are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PageKind {
    /// They are needed.
    #[default]
    Call,
    /// Something has changed about what they were called for.
    Update,
}

/// The next level of the ladder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextLevel {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub to: Vec<Receiver>,
}

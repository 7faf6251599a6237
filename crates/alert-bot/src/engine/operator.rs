//! What people may order, and what becomes of it.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Reason,
    event::{Ask, Effect, NoteKind},
    model::{Incident, Outcome, Phase},
    turn::Turn,
};
use crate::timestamp::Timestamp;

/// An order about one incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperatorCommand {
    /// Carry out the step that waits for approval.
    Approve,
    /// Do not; people will see to it.
    Reject,
    /// People have it from here: the bot does nothing more about it.
    TakeOver,
    /// Begin again with the first step, whatever was tried before, and whatever the bot takes for
    /// the cause.
    Retry,
    /// It is over.
    Close,
}

impl OperatorCommand {
    /// As written in the API and in records.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::TakeOver => "take_over",
            Self::Retry => "retry",
            Self::Close => "close",
        }
    }
}

/// An order, as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// About which incident.
    pub incident: String,
    /// What.
    pub command: OperatorCommand,
    /// By whom.
    pub by: String,
    /// Why, in their words.
    pub note: Option<String>,
}

/// Nothing is acted on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// Who ordered it; `storm` where the bot did so itself.
    pub by: String,
    /// Why.
    pub why: String,
    /// Since when.
    pub since: Timestamp,
    /// It ends by itself then; `None`: only by an order.
    pub until: Option<Timestamp>,
    /// Because too much burned at once.
    pub storm: bool,
}

impl Freeze {
    /// Whether it is in force.
    pub fn holds(&self, now: Timestamp) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// Whether the incident's state allows the order.
///
/// # Errors
/// What speaks against it, for the person who gave it.
pub fn possible(incident: &Incident, command: OperatorCommand) -> Result<(), String> {
    let awaits = incident.decision.as_ref().is_some_and(|d| d.reason == Some(Reason::AwaitingApproval));
    match (command, incident.phase) {
        (_, Phase::Closed) => Err("the incident is closed".to_owned()),
        (OperatorCommand::Approve | OperatorCommand::Reject, Phase::Waiting) if awaits => Ok(()),
        (OperatorCommand::Approve | OperatorCommand::Reject, phase) => {
            Err(format!("the incident does not wait for approval: it is {}", phase.as_str()))
        }
        (OperatorCommand::Retry, Phase::Acting | Phase::Verifying) => {
            Err("an action is under way or being verified; its result comes first".to_owned())
        }
        (OperatorCommand::Retry, _) if incident.rule.as_ref().and_then(|r| r.heal()).is_none() => {
            Err("no rule of the policy heals this alert".to_owned())
        }
        (OperatorCommand::Close | OperatorCommand::TakeOver, Phase::Acting) => {
            Err("an action is under way; its result comes first".to_owned())
        }
        (OperatorCommand::TakeOver, _) if incident.taken_over.is_some() => Err("somebody has it already".to_owned()),
        _ => Ok(()),
    }
}

impl Turn<'_> {
    pub(super) fn on_order(&mut self, order: &Order) {
        let Some(mut incident) = self.state.open.get(&order.incident).cloned() else { return };
        if possible(&incident, order.command).is_err() {
            return;
        }
        let text = match &order.note {
            Some(note) => format!("{} by {}: {note}", order.command.as_str(), order.by),
            None => format!("{} by {}", order.command.as_str(), order.by),
        };
        let data = json!({ "command": order.command, "by": order.by, "step": incident.step });
        self.note(&incident, NoteKind::Operator, None, text, data);
        match order.command {
            OperatorCommand::Approve => {
                incident.approved = Some(incident.step);
                self.put(incident.clone());
                self.evaluate(incident);
            }
            OperatorCommand::Reject => {
                incident.phase = Phase::Escalated;
                incident.next_at = None;
                self.decide_not(&mut incident, Reason::Rejected, format!("rejected by {}", order.by));
                self.put(incident);
            }
            OperatorCommand::TakeOver => {
                incident.taken_over = Some(order.by.clone());
                incident.phase = Phase::Escalated;
                incident.next_at = None;
                incident.verification = None;
                self.push(Effect::Answered(Ask::Probe(incident.id.clone())));
                self.decide_not(&mut incident, Reason::TakenOver, format!("taken over by {}", order.by));
                // What has ended already nobody would end again.
                if !incident.alert_active {
                    return self.close(incident, Outcome::Resolved, "taken over, and the alert has ended already");
                }
                self.update(&incident, "taken over");
                self.put(incident);
            }
            OperatorCommand::Retry => {
                incident.round += 1;
                incident.step = 0;
                incident.phase = Phase::Waiting;
                incident.taken_over = None;
                incident.approved = None;
                incident.action = None;
                incident.verdict = None;
                incident.decision = None;
                incident.next_at = Some(self.now);
                self.put(incident.clone());
                self.evaluate(incident);
            }
            OperatorCommand::Close => {
                let outcome = incident.verdict.map_or(Outcome::ClosedByOperator, |v| v.outcome());
                self.close(incident, outcome, &format!("closed by {}", order.by));
            }
        }
    }

    pub(super) fn on_freeze(&mut self, freeze: Option<Freeze>, by: &str) {
        let text = match &freeze {
            Some(f) => match f.until {
                Some(until) => format!("frozen by {} until {until}: {}", f.by, f.why),
                None => format!("frozen by {}: {}", f.by, f.why),
            },
            None => format!("unfrozen by {by}"),
        };
        let thawed = freeze.is_none();
        let data = json!({ "freeze": freeze, "by": by });
        self.push(Effect::Freeze(freeze.map(Box::new)));
        self.system(NoteKind::Operator, text, data);
        if thawed {
            self.look_again_at_all();
        }
    }
}

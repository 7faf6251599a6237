//! One turn of the engine: the effects of one event, collected in order.

use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};

use super::{
    Event, Reason,
    event::{Ask, Command, Effect, Note, NoteKind},
    gates::{self, Case},
    ladder::audible,
    model::{Decision, Incident, Outcome, Phase, RunState},
    state::State,
    target::Refusal,
};
use crate::{
    policy::{Heal, Plan},
    timestamp::Timestamp,
};

/// A question without an answer after this long is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// A manual alert that is not repeated for this long is over (Alertmanager's own
/// `resolve_timeout`).
const MANUAL_LEASE: Duration = Duration::from_secs(300);
/// A stop within this time of an action of the bot is the bot's own.
const OWN_STOP: Duration = Duration::from_secs(120);

pub(super) struct Turn<'a> {
    pub(super) state: &'a State,
    pub(super) now: Timestamp,
    out: Vec<Effect>,
    /// What people were called about in this very turn.
    pub(super) called: BTreeSet<String>,
}

impl<'a> Turn<'a> {
    pub(super) fn new(state: &'a State, now: Timestamp) -> Self {
        Self { state, now, out: Vec::new(), called: BTreeSet::new() }
    }

    pub(super) fn finish(self) -> Vec<Effect> {
        self.out
    }

    pub(super) fn push(&mut self, effect: Effect) {
        self.out.push(effect);
    }

    pub(super) fn put(&mut self, mut incident: Incident) {
        incident.updated_at = self.now;
        self.push(Effect::Put(Box::new(incident)));
    }

    pub(super) fn note(
        &mut self,
        incident: &Incident,
        kind: NoteKind,
        reason: Option<Reason>,
        text: impl Into<String>,
        data: Value,
    ) {
        self.push(Effect::Note(Box::new(Note {
            at: self.now,
            incident: Some(incident.id.clone()),
            kind,
            reason,
            alert: incident.alert.name().to_owned(),
            target: incident.target.as_ref().map(|t| t.name.clone()),
            text: text.into(),
            data,
        })));
    }

    /// Writes down something that is about no incident.
    pub(super) fn system(&mut self, kind: NoteKind, text: impl Into<String>, data: Value) {
        self.push(Effect::Note(Box::new(Note::general(self.now, kind, text.into(), data))));
    }

    pub(super) fn ask(&mut self, ask: Ask, command: Command) {
        self.push(Effect::Asked(ask, self.now));
        self.push(Effect::Do(command));
    }

    fn waits_for(&self, ask: &Ask) -> bool {
        self.state.asked.get(ask).is_some_and(|at| self.now.since(*at) < ASK_AGAIN)
    }

    /// After a start: nothing that was on its way will come back.
    pub(super) fn on_boot(&mut self) {
        let state = self.state;
        self.reconcile_intents();
        self.begin_proof_anew();
        for incident in state.open.values().filter(|i| i.phase == Phase::Waiting) {
            self.evaluate(incident.clone());
        }
        self.push(Effect::Do(Command::Reconcile));
    }

    pub(super) fn on_tick(&mut self) {
        let state = self.state;
        self.thaw();
        self.inspect_due();
        for incident in state.open.values() {
            match incident.phase {
                Phase::Waiting | Phase::Escalated
                    if incident.manual && self.now.since(incident.last_seen) >= MANUAL_LEASE =>
                {
                    let outcome = incident.verdict.map_or(Outcome::Expired, |v| v.outcome());
                    self.close(incident.clone(), outcome, "the manual alert was not repeated");
                }
                Phase::Waiting => {
                    let lost = matches!(
                        state.asked.get(&Ask::Resolve(incident.id.clone())),
                        Some(at) if self.now.since(*at) >= ASK_AGAIN
                    );
                    if lost || incident.next_at.is_some_and(|at| at <= self.now) {
                        self.evaluate(incident.clone());
                    }
                }
                Phase::Verifying => self.probe_if_due(incident),
                Phase::Acting | Phase::Escalated | Phase::Closed => {}
            }
        }
        self.climb();
    }

    fn probe_if_due(&mut self, incident: &Incident) {
        let ask = Ask::Probe(incident.id.clone());
        let due = incident.verification.as_ref().is_some_and(|v| v.next_at <= self.now);
        if due && !self.waits_for(&ask) {
            self.ask(ask, Command::Probe { incident: incident.id.clone() });
        }
    }

    /// Decides on a waiting incident as far as that can be done without a look
    /// at its target, and asks for that look if nothing speaks against acting.
    pub(super) fn evaluate(&mut self, incident: Incident) {
        let ask = Ask::Resolve(incident.id.clone());
        if incident.phase != Phase::Waiting || self.waits_for(&ask) {
            return;
        }
        let Some(rule) = incident.rule.clone() else {
            let refusal = Refusal::new(Reason::NoPolicy, Reason::NoPolicy.explain());
            return self.refuse(incident, refusal);
        };
        let heal = match &rule.plan {
            Plan::Heal(heal) => heal,
            Plan::LeaveToPeople(because) | Plan::Ignore(because) => {
                return self.refuse(incident, Refusal::new(Reason::LeftToPeople, because));
            }
        };
        match self.gate(&incident, heal, gates::before_lookup(&incident), None) {
            Err(refusal) => self.refuse(incident, refusal),
            Ok(()) => {
                let id = incident.id.clone();
                self.push(Effect::Defer(id.clone(), None));
                self.ask(ask, Command::Resolve { incident: id });
            }
        }
    }

    pub(super) fn gate(
        &self,
        incident: &Incident,
        heal: &Heal,
        gates: &[gates::Gate],
        workload: Option<&super::Workload>,
    ) -> Result<(), Refusal> {
        let case = Case { state: self.state, now: self.now, incident, heal, workload };
        gates.iter().try_for_each(|gate| gate(&case))
    }

    /// Writes down why not, once, and when to look again.
    pub(super) fn refuse(&mut self, mut incident: Incident, refusal: Refusal) {
        let known =
            incident.decision.as_ref().is_some_and(|d| d.reason == Some(refusal.reason) && d.step == incident.step);
        incident.next_at = refusal.retry_at;
        let explained = refusal.cause.is_none() || refusal.cause == incident.cause;
        if refusal.cause.is_some() {
            incident.cause = refusal.cause.clone();
        }
        if known && explained && refusal.reason != Reason::AlreadyDone {
            // No news. With many alerts waiting, writing that down would be most of the work.
            let stored = self.state.open.get(&incident.id);
            let same = stored.is_some_and(|s| Incident { next_at: incident.next_at, ..s.clone() } == incident);
            if same {
                return self.push(Effect::Defer(incident.id, refusal.retry_at));
            }
            return self.put(incident);
        }
        incident.decision = Some(Decision {
            reason: Some(refusal.reason),
            text: refusal.text.clone(),
            at: self.now,
            step: incident.step,
        });
        let data = json!({ "retry_at": refusal.retry_at, "step": incident.step });
        self.note(&incident, NoteKind::Decision, Some(refusal.reason), &refusal.text, data);
        match refusal.reason {
            // Nothing that the bot may still do, while the alert burns on.
            Reason::AlreadyDone | Reason::ActionFailed | Reason::BackendRefused => {
                self.escalate(incident, &refusal.text);
            }
            Reason::TargetBudget | Reason::GlobalBudget | Reason::AwaitingApproval | Reason::CrashLoop => {
                self.page(&mut incident, &refusal.text);
                self.put(incident);
            }
            Reason::LeftToPeople | Reason::NoPolicy if audible(&incident) => {
                self.page(&mut incident, &refusal.text);
                self.put(incident);
            }
            _ => self.put(incident),
        }
    }

    /// Refusals that only a change outside can lift are looked at again now and then.
    pub(super) fn refuse_and_look_again(&mut self, incident: Incident, refusal: Refusal) {
        let at = refusal.retry_at.unwrap_or_else(|| self.now.plus(gates::LOOK_AGAIN));
        self.refuse(incident, refusal.retry(at));
    }

    /// Notes a decision not to act that needs no time to come round.
    pub(super) fn decide_not(&mut self, incident: &mut Incident, reason: Reason, text: String) {
        incident.decision =
            Some(Decision { reason: Some(reason), text: text.clone(), at: self.now, step: incident.step });
        self.note(incident, NoteKind::Decision, Some(reason), text, json!({ "step": incident.step }));
    }

    /// What held all back is gone.
    pub(super) fn look_again_at_all(&mut self) {
        for incident in self.state.open.values().filter(|i| i.phase == Phase::Waiting) {
            self.push(Effect::Defer(incident.id.clone(), Some(self.now)));
        }
    }

    pub(super) fn on_topology(&mut self, topology: super::Topology) {
        // Started again, by whomever: what was stopped on purpose is so no more.
        for container in topology.containers.iter().filter(|c| c.state == RunState::Running) {
            if self.state.stopped.contains_key(&container.name) {
                self.push(Effect::ManualStop(container.name.clone(), None));
            }
        }
        self.push(Effect::Topology(Box::new(topology)));
    }

    pub(super) fn on_stopped(&mut self, target: &str, at: Timestamp) {
        // The bot's own restart stops the container too.
        let own = self.state.in_flight.values().any(|a| a.target.name == target)
            || self
                .state
                .stamps
                .get(target)
                .is_some_and(|stamps| stamps.values().any(|s| at >= s.at && at.since(s.at) <= OWN_STOP));
        if !own && self.state.stopped.get(target).is_none_or(|known| *known < at) {
            self.push(Effect::ManualStop(target.to_owned(), Some(at)));
            self.system(
                NoteKind::System,
                format!("{target} was stopped by a person"),
                json!({ "target": target, "at": at }),
            );
        }
    }

    pub(super) fn on_found(&mut self, incident: &str, alert: &str, text: &str, evidence: Value) {
        self.push(Effect::Note(Box::new(Note {
            at: self.now,
            incident: Some(incident.to_owned()),
            kind: NoteKind::Evidence,
            reason: None,
            alert: alert.to_owned(),
            target: self.state.open.get(incident).and_then(|i| i.target.as_ref()).map(|t| t.name.clone()),
            text: text.to_owned(),
            data: evidence,
        })));
    }

    /// Hands an incident to people.
    pub(super) fn escalate(&mut self, mut incident: Incident, why: &str) {
        self.page(&mut incident, why);
        incident.phase = Phase::Escalated;
        incident.action = None;
        incident.next_at = None;
        if incident.alert_active {
            return self.put(incident);
        }
        let outcome = incident.verdict.map_or(Outcome::Resolved, |v| v.outcome());
        self.close(incident, outcome, "the alert has ended meanwhile");
    }

    pub(super) fn close(&mut self, mut incident: Incident, outcome: Outcome, why: &str) {
        incident.phase = Phase::Closed;
        incident.outcome = Some(outcome);
        incident.closed_at = Some(self.now);
        incident.next_at = None;
        self.note(
            &incident,
            NoteKind::Closed,
            None,
            why,
            json!({ "outcome": outcome, "starts_at": incident.starts_at }),
        );
        self.push(Effect::Answered(Ask::Resolve(incident.id.clone())));
        self.update(&incident, why);
        self.put(incident);
    }
}

impl Event {
    /// The incident that the event is about, where it is about one.
    pub fn incident(&self) -> Option<&str> {
        match self {
            Self::Resolved { incident, .. } | Self::Probed { incident, .. } => Some(incident),
            _ => None,
        }
    }
}

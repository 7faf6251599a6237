//! Intent, call, result; and what to make of a call that never came back.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Reason,
    event::{AlertLook, Ask, CallOutcome, Command, Effect, NoteKind, Seen},
    gates,
    model::{Action, ActionStatus, Decision, Incident, Phase, RunState, Verification, Workload},
    target::Refusal,
    turn::Turn,
};
use crate::policy::{Heal, Step, Verb};

/// Time between two inspections of a container whose action is unknown.
const INSPECT_EVERY: Duration = Duration::from_secs(2);
/// After a call is over and the container had its time to stop, this long again
/// must pass before an unchanged container proves that nothing happened.
const SETTLE: Duration = Duration::from_secs(5);
/// People are told of an action whose outcome stays unknown for this long.
const UNKNOWN_TOO_LONG: Duration = Duration::from_secs(300);
/// Between an attempt that did not happen and the next.
const RETRY: Duration = Duration::from_secs(5);

/// What a step means for a container as it is; `None`: nothing.
pub(super) fn verb_for(step: &Step, state: RunState, replicas: usize) -> Option<Verb> {
    let (max_replicas, step) = (step.max_replicas, step.action);
    match (step, state) {
        // A call elsewhere does not ask how the container does.
        (Verb::Diagnose | Verb::SqlDiagnosis | Verb::Webhook, _) => Some(step),
        // A new container helps also where the old one is being restarted over and over.
        (Verb::Recreate | Verb::RollBack, _) => Some(step),
        (Verb::ScaleOut, RunState::Running) => (replicas < max_replicas).then_some(step),
        (Verb::ScaleIn, _) => (replicas > 0).then_some(step),
        (Verb::Restart | Verb::Start | Verb::StopStart, RunState::Down) => Some(Verb::Start),
        (Verb::Restart | Verb::StopStart, RunState::Running | RunState::Paused) => Some(step),
        (Verb::Start | Verb::ScaleOut, _) | (_, RunState::Changing) => None,
    }
}

impl Turn<'_> {
    /// The target was looked up: act, or say why not.
    pub(super) fn on_resolved(&mut self, id: &str, seen: &Seen) {
        self.push(Effect::Answered(Ask::Resolve(id.to_owned())));
        let Some(mut incident) = self.state.open.get(id).cloned() else { return };
        let Some(rule) = incident.rule.clone() else { return };
        let Some(heal) = rule.heal() else { return };
        if incident.phase != Phase::Waiting {
            return;
        }
        match &seen.alert {
            AlertLook::Listed(status) => {
                if self.silence(&mut incident, status.suppressed.clone()) {
                    return;
                }
            }
            // Notifications can be old: of a bot that was down, or of an alert that ended meanwhile.
            // What was sent by hand was never listed.
            AlertLook::Unlisted if !incident.manual => {
                let refusal = Refusal::new(Reason::AlertGone, Reason::AlertGone.explain());
                return self.refuse_and_look_again(incident, refusal);
            }
            AlertLook::Unlisted | AlertLook::Unasked => {}
        }
        if let Err(refusal) = self.gate(&incident, heal, gates::before_lookup(&incident), None) {
            return self.refuse_and_look_again(incident, refusal);
        }
        let workload = match &seen.workload {
            Ok(workload) => workload,
            Err(refusal) => return self.refuse_and_look_again(incident, refusal.clone()),
        };
        incident.target = Some(workload.target());
        let last = self.state.stamps.get(&workload.name).and_then(|s| s.values().map(|stamp| stamp.at).max());
        if last.is_some_and(|at| at >= seen.at) {
            // Somebody acted after the look: it says nothing any more.
            self.put(incident.clone());
            return self.ask(Ask::Resolve(id.to_owned()), Command::Resolve { incident: id.to_owned() });
        }
        let first = incident.step;
        let replicas = self.state.topology.replicas(&workload.id);
        // What never stays up is not started once more: a step that replaces it comes first.
        let looping = self.state.looping(workload, self.now);
        match heal
            .steps
            .iter()
            .enumerate()
            .skip(first)
            .filter(|(_, s)| !(looping && s.action.starts_again()))
            .find_map(|(i, s)| Some((i, verb_for(s, workload.state, replicas)?)))
        {
            Some((step, verb)) => {
                incident.step = step;
                match self.gate(&incident, heal, gates::on_target(verb), Some(workload)) {
                    Ok(()) => self.intend(incident, heal, workload, verb),
                    Err(refusal) => self.refuse_and_look_again(incident, refusal),
                }
            }
            None => {
                let refusal = self
                    .gate(
                        &incident,
                        heal,
                        gates::on_target(heal.steps.get(first).map_or(Verb::Restart, |s| s.action)),
                        Some(workload),
                    )
                    .err()
                    .unwrap_or_else(|| Refusal::new(Reason::NotApplicable, Reason::NotApplicable.explain()));
                self.refuse_and_look_again(incident, refusal);
            }
        }
    }

    fn intend(&mut self, mut incident: Incident, heal: &Heal, workload: &Workload, verb: Verb) {
        let (Some(rule), Some(step)) = (incident.rule.clone(), heal.steps.get(incident.step)) else { return };
        let key = (incident.key(), rule.name.clone(), incident.step);
        let attempt = self.state.attempts.get(&key).map_or(0, |a| a.count) + 1;
        let action = Action {
            id: Action::id_for(&incident.id, incident.step, attempt),
            incident: incident.id.clone(),
            key: incident.key(),
            rule: rule.name.clone(),
            step: incident.step,
            round: incident.round,
            attempt,
            verb,
            target: workload.target(),
            timeout_ms: millis(step.timeout.get()),
            stop_timeout_ms: millis(step.stop_timeout.get()),
            started_before: workload.started_at,
            replicas_before: self.state.topology.replicas(&workload.id),
            intended_at: self.now,
            unknown_since: None,
            next_inspect: None,
            finished_at: None,
            status: ActionStatus::Intended,
            error: None,
        };
        let text = format!("{verb} {} (rule {}, step {})", workload.name, rule.name, incident.step + 1);
        incident.decision = Some(Decision { reason: None, text: text.clone(), at: self.now, step: incident.step });
        incident.phase = Phase::Acting;
        incident.action = Some(action.id.clone());
        incident.verification = None;
        incident.next_at = None;
        self.note(&incident, NoteKind::Decision, None, &text, json!({ "container": workload }));
        let data = json!({ "action": action.id, "verb": verb, "attempt": attempt });
        self.note(&incident, NoteKind::Intent, None, text, data);
        let id = action.id.clone();
        self.push(Effect::PutAction(Box::new(action)));
        self.put(incident);
        self.push(Effect::Do(Command::Act { action: id }));
    }

    /// The call came back.
    pub(super) fn on_returned(&mut self, id: &str, outcome: CallOutcome, evidence: Option<Value>) {
        let Some(action) = self.state.in_flight.get(id).cloned() else { return };
        if let Some(evidence) = evidence {
            let alert = self.state.open.get(&action.incident).map(|i| i.alert.name().to_owned()).unwrap_or_default();
            let seen =
                if action.verb.leaves_a_trace() || !action.verb.changes() { "seen before" } else { "answered to" };
            let text = format!("{seen} {} of {}", action.verb, action.target.name);
            self.on_found(&action.incident, &alert, &text, evidence);
        }
        match outcome {
            CallOutcome::Done => self.performed(action, "the backend reports that it was done"),
            CallOutcome::Refused(why) => self.not_performed(action, why, Some(Reason::BackendRefused)),
            CallOutcome::NotPerformed(why) => self.not_performed(action, why, None),
            CallOutcome::Unknown(why) if action.status == ActionStatus::Intended => self.unknown(action, why),
            CallOutcome::Unknown(_) => {}
        }
    }

    /// Actions that were on their way when the process ended, or whose call was lost.
    pub(super) fn reconcile_intents(&mut self) {
        let state = self.state;
        for action in state.in_flight.values().filter(|a| a.status == ActionStatus::Intended) {
            self.unknown(action.clone(), "the process ended before the result was written".to_owned());
        }
    }

    fn unknown(&mut self, mut action: Action, why: String) {
        // A look that did not come back changed nothing.
        if !action.verb.changes() {
            return self.not_performed(action, why, None);
        }
        // Nothing can be inspected: it is not done again, and the proof says what it was good for.
        if !action.verb.leaves_a_trace() {
            let text = format!("{} {}: may have happened; {why}", action.verb, action.target.name);
            action.error = Some(why);
            return self.over(action, ActionStatus::Unanswered, text);
        }
        action.status = ActionStatus::Unknown;
        action.unknown_since = Some(self.now);
        action.next_inspect = Some(self.now);
        action.error = Some(why.clone());
        if let Some(incident) = self.state.open.get(&action.incident) {
            let text = format!("the outcome of {} {} is not known: {why}", action.verb, action.target.name);
            self.note(incident, NoteKind::Result, None, text, json!({ "action": action.id, "status": "unknown" }));
        }
        let id = action.id.clone();
        self.push(Effect::PutAction(Box::new(action)));
        self.ask(Ask::Inspect(id.clone()), Command::Inspect { action: id });
    }

    /// Asks after every action that it is time to ask after.
    pub(super) fn inspect_due(&mut self) {
        let state = self.state;
        for action in state.in_flight.values() {
            let lost = action.intended_at.plus(Duration::from_millis(action.timeout_ms)).plus(Duration::from_secs(30));
            match action.status {
                ActionStatus::Intended if lost <= self.now => {
                    self.unknown(action.clone(), "the call never came back".to_owned());
                }
                ActionStatus::Unknown if action.next_inspect.is_none_or(|at| at <= self.now) => {
                    let ask = Ask::Inspect(action.id.clone());
                    if state.asked.get(&ask).is_none_or(|at| self.now.since(*at) >= Duration::from_secs(60)) {
                        self.ask(ask, Command::Inspect { action: action.id.clone() });
                    }
                }
                _ => {}
            }
        }
    }

    /// The container says whether the action happened: it was started anew, or not.
    pub(super) fn on_inspected(&mut self, id: &str, found: Result<Option<Workload>, String>, replicas: Option<usize>) {
        self.push(Effect::Answered(Ask::Inspect(id.to_owned())));
        let Some(action) = self.state.in_flight.get(id).cloned() else { return };
        if action.status != ActionStatus::Unknown {
            return;
        }
        let settled = action
            .unknown_since
            .unwrap_or(action.intended_at)
            .plus(Duration::from_millis(action.stop_timeout_ms))
            .plus(SETTLE);
        if action.verb.scales() {
            let wanted = |now: usize| match action.verb {
                Verb::ScaleOut => now > action.replicas_before,
                _ => now < action.replicas_before,
            };
            return match replicas {
                Some(now) if wanted(now) => self.performed(action, &format!("inspection: there are {now} replicas")),
                Some(now) if self.now >= settled => {
                    self.not_performed(action, format!("inspection: there are {now} replicas, as before"), None);
                }
                _ => self.inspect_later(action),
            };
        }
        match found {
            Ok(Some(workload)) if workload.started_at != action.started_before => {
                let started = workload.started_at.unwrap_or(self.now);
                self.performed(action, &format!("inspection: the container was started at {started}"));
            }
            Ok(Some(_)) if self.now >= settled => {
                let why = "inspection: the container was not started anew".to_owned();
                self.not_performed(action, why, None);
            }
            // Between the old container and the new one there is none.
            Ok(None) if action.verb.replaces() && self.now < settled => self.inspect_later(action),
            Ok(None) => {
                self.not_performed(action, "inspection: the container is gone".to_owned(), None);
            }
            Ok(Some(_)) | Err(_) => self.inspect_later(action),
        }
    }

    fn inspect_later(&mut self, mut action: Action) {
        action.next_inspect = Some(self.now.plus(INSPECT_EVERY));
        let too_long = action.unknown_since.is_some_and(|since| self.now.since(since) >= UNKNOWN_TOO_LONG);
        if too_long
            && let Some(incident) = self.state.open.get(&action.incident)
            && incident.escalated_at.is_none()
        {
            let mut incident = incident.clone();
            self.page(&mut incident, "the outcome of an action stays unknown");
            self.put(incident);
        }
        self.push(Effect::PutAction(Box::new(action)));
    }

    fn performed(&mut self, action: Action, how: &str) {
        let text = format!("{} {}: done; {how}", action.verb, action.target.name);
        self.over(action, ActionStatus::Done, text);
    }

    /// Nothing more will be heard of it: now the proof.
    fn over(&mut self, mut action: Action, status: ActionStatus, text: String) {
        action.status = status;
        action.finished_at = Some(self.now);
        action.next_inspect = None;
        let incident = self.state.open.get(&action.incident).cloned();
        let changes = action.verb.changes();
        let data = json!({ "action": action.id, "status": status });
        self.push(Effect::PutAction(Box::new(action)));
        let Some(mut incident) = incident else { return };
        if !changes {
            self.note(&incident, NoteKind::Result, None, text, data);
            return self.looked(incident);
        }
        let Some(verify) = incident.rule.as_ref().and_then(|r| r.heal()).map(|h| h.verify.clone()) else { return };
        incident.phase = Phase::Verifying;
        incident.verification = Some(Verification {
            since: self.now,
            deadline: self.now.plus(verify.within.get()),
            good_since: None,
            good_looks: 0,
            started_at: None,
            next_at: self.now.plus(verify.every.get()),
            last: None,
            judgement: None,
        });
        self.note(&incident, NoteKind::Result, None, text, data);
        self.put(incident);
    }

    /// A look is not a repair: the next step follows, or people do.
    fn looked(&mut self, mut incident: Incident) {
        let steps = incident.rule.as_ref().and_then(|r| r.heal()).map_or(0, |h| h.steps.len());
        incident.action = None;
        if !incident.alert_active {
            return self.close(incident, super::Outcome::Resolved, "the alert has ended, and nothing was changed");
        }
        if incident.step + 1 < steps {
            incident.step += 1;
            incident.phase = Phase::Waiting;
            incident.next_at = Some(self.now);
            return self.put(incident);
        }
        self.escalate(incident, "diagnosed; what was found is on the incident");
    }

    fn not_performed(&mut self, mut action: Action, why: String, refused: Option<Reason>) {
        action.status = ActionStatus::NotPerformed;
        action.finished_at = Some(self.now);
        action.next_inspect = None;
        action.error = Some(why.clone());
        let incident = self.state.open.get(&action.incident).cloned();
        let given_up = !action.verb.changes() && action.attempt >= gates::MAX_ATTEMPTS;
        let text = format!("{} {}: not carried out; {why}", action.verb, action.target.name);
        let data = json!({ "action": action.id, "status": "not_performed" });
        self.push(Effect::PutAction(Box::new(action)));
        let Some(mut incident) = incident else { return };
        self.note(&incident, NoteKind::Result, None, text, data);
        if given_up {
            // Nobody is repaired later because somebody could not look.
            return self.looked(incident);
        }
        incident.phase = Phase::Waiting;
        incident.next_at = Some(self.now.plus(RETRY));
        match refused {
            Some(reason) => self.refuse(incident, Refusal::new(reason, why)),
            None if incident.alert_active => self.put(incident),
            None => self.close(incident, super::Outcome::Resolved, "the alert has ended, and nothing was done"),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

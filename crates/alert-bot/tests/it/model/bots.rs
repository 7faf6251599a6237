//! The bots around the engine: what they write, what they send, and how they die.

use std::time::Duration;

use alert_bot::{
    engine::{Action, ActionStatus, CallOutcome, Command, Effect, Event, Source, State, decide},
    timestamp::Timestamp,
};
use rand::RngExt;

use super::{sabotage::Sabotage, world::World};

pub struct InFlight {
    pub command: Command,
    /// When an action takes effect after all, though nobody hears of it.
    pub late_effect: Option<(Timestamp, Action)>,
}

/// When in a turn something happens to the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It dies before the commit.
    Before,
    /// It dies after it.
    After,
    /// It is stopped before the commit, and the other bot takes over.
    StoppedBefore,
    /// The same, after it.
    StoppedAfter,
}

/// A bot that was stopped, knows nothing of what happened since, and will go on one day.
pub struct Asleep {
    state: State,
    token: u64,
    /// In the middle of this.
    turn: Option<(Moment, Vec<Effect>)>,
}

impl World {
    pub fn maybe_die(&mut self) -> Option<Moment> {
        if !self.chance(5) {
            return None;
        }
        self.pick(&[Moment::Before, Moment::After, Moment::StoppedBefore, Moment::StoppedAfter])
    }

    /// One turn of the driver. `die` says at which of its moments the process ends.
    pub fn turn(&mut self, event: Event, die: Option<Moment>) {
        let order =
            matches!(event, Event::Ordered(_) | Event::Frozen { .. } | Event::Released(_)).then(|| event.clone());
        let effects = Sabotage::alters(self.sabotage, decide(&self.state, event, self.now));
        for effect in &effects {
            if !Sabotage::hides(self.sabotage, effect) {
                self.state.apply(effect);
            }
        }
        match die {
            Some(Moment::Before) => return self.restart_bot(),
            Some(Moment::StoppedBefore) => return self.hand_over(Some((Moment::StoppedBefore, effects))),
            _ => {}
        }
        assert!(self.commit(self.token, &effects), "the bot that acts was refused");
        self.check(&effects, order.as_ref());
        match die {
            Some(Moment::After) => return self.restart_bot(),
            Some(Moment::StoppedAfter) => return self.hand_over(Some((Moment::StoppedAfter, effects))),
            _ => {}
        }
        for effect in effects {
            if let Effect::Do(command) = effect {
                self.begin(command);
            }
        }
    }

    /// The journal: takes it from whoever holds the lease, and from nobody else.
    fn commit(&mut self, token: u64, effects: &[Effect]) -> bool {
        if token != self.lease && self.sabotage != Some(Sabotage::Unfenced) {
            return false;
        }
        self.rightful(effects);
        for effect in effects.iter().filter(|e| e.durable() && !Sabotage::hides(self.sabotage, e)) {
            if !Sabotage::unwritten(self.sabotage, effect) {
                self.durable.apply(effect);
            }
        }
        self.committed.push(effects.to_vec());
        true
    }

    /// The process ends, and the next one begins with what is on disk.
    pub fn restart_bot(&mut self) {
        // Calls that were sent are lost to us, and may take effect while Docker still works on them.
        for flight in std::mem::take(&mut self.in_flight) {
            if let Command::Act { action } = &flight.command
                && self.chance(60)
            {
                let within = self.rng.random_range(0..3_500);
                let at = self.now.plus(Duration::from_millis(within));
                let action = self.durable.action(action).cloned();
                if let (Some(action), None) = (action, &flight.late_effect) {
                    self.late(action, at);
                    continue;
                }
            }
            if flight.late_effect.is_some() {
                self.in_flight.push(flight);
            }
        }
        self.state = self.durable.clone();
        self.turn(Event::Boot, None);
        if self.sabotage == Some(Sabotage::Hasty) {
            let lost: Vec<_> = self.state.in_flight().map(|a| a.id.clone()).collect();
            for action in lost {
                let outcome = CallOutcome::NotPerformed("nobody has looked".to_owned());
                self.turn(Event::Returned { action, outcome, evidence: None }, None);
            }
        }
    }

    /// The bot that acts is stopped, and when its lease has run out the other one takes over.
    pub fn hand_over(&mut self, turn: Option<(Moment, Vec<Effect>)>) {
        self.asleep = Some(Asleep { state: self.state.clone(), token: self.token, turn });
        self.now = self.now.plus(Duration::from_secs(self.rng.random_range(0..12)));
        self.late_effects();
        self.lease += 1;
        self.token = self.lease;
        self.restart_bot();
    }

    /// The bot that was stopped goes on where it was: it learns that it does not act any more.
    pub fn wake(&mut self) {
        let Some(old) = self.asleep.take() else { return };
        let (moment, effects) = match old.turn {
            Some(turn) => turn,
            None => (Moment::StoppedBefore, decide(&old.state, Event::Tick, self.now)),
        };
        let durable = effects.iter().any(Effect::durable);
        if moment == Moment::StoppedBefore && (!durable || !self.commit(old.token, &effects)) {
            return;
        }
        // Whatever it wanted to do, it asks for the lease right before.
        if old.token != self.lease && self.sabotage != Some(Sabotage::Unfenced) {
            return;
        }
        let acts = effects.iter().filter_map(|e| match e {
            Effect::Do(Command::Act { action }) => Some(action),
            _ => None,
        });
        let mut state = old.state;
        effects.iter().for_each(|e| state.apply(e));
        for action in acts.filter_map(|id| state.action(id).cloned()).collect::<Vec<_>>() {
            self.take_effect(&action);
        }
    }

    pub fn late(&mut self, action: Action, at: Timestamp) {
        let command = Command::Act { action: action.id.clone() };
        self.in_flight.push(InFlight { command, late_effect: Some((at, action)) });
    }

    fn begin(&mut self, command: Command) {
        if let Command::Act { action } = &command {
            let action = self.state.action(action).cloned().expect("an intent that is in the state");
            assert!(
                self.durable.action(&action.id).is_some_and(|a| a.status == ActionStatus::Intended),
                "acted without a durable intent"
            );
            self.ledger.called(&action);
            let others = self.in_flight.iter().filter(|f| match &f.command {
                Command::Act { action: other } => self
                    .state
                    .action(other)
                    .is_some_and(|o| o.verb.changes() && action.verb.changes() && o.target.name == action.target.name),
                _ => false,
            });
            assert_eq!(others.count(), 0, "two actions on {} at once", action.target.name);
        }
        self.in_flight.push(InFlight { command, late_effect: None });
    }

    /// Something that is under way comes to its end, in any order.
    pub fn complete_one(&mut self) {
        let ready: Vec<usize> =
            (0..self.in_flight.len()).filter(|i| self.in_flight[*i].late_effect.is_none()).collect();
        let Some(i) = self.pick(&ready) else { return };
        let flight = self.in_flight.remove(i);
        let die = self.maybe_die();
        match flight.command {
            Command::Resolve { incident } => {
                let Some(event) = self.resolve(&incident) else { return };
                self.turn(event, die);
            }
            Command::Act { action } => self.finish_act(&action, die),
            Command::Inspect { action } => {
                let Some(target) = self.state.action(&action).map(|a| a.target.id.clone()) else { return };
                let found = self.inspect(|w| w.id == target);
                self.turn(Event::Inspected { action, found, replicas: None }, die);
            }
            Command::Probe { incident } => {
                let Some(event) = self.probe(&incident) else { return };
                self.turn(event, die);
            }
            // Evidence changes no decision.
            Command::Curve { .. } => {}
            Command::Reconcile => self.reconcile(die),
        }
    }

    /// Acknowledged notifications, each until its turn was committed.
    pub fn work_through(&mut self) {
        while let Some((alert, received_at)) = self.deliveries.first().cloned() {
            let die = self.maybe_die();
            let event = Event::Alert { alert: alert.clone(), source: Source::Webhook, received_at, trace: None };
            self.turn(event.clone(), die);
            let committed = !matches!(die, Some(Moment::Before | Moment::StoppedBefore));
            if committed || self.sabotage == Some(Sabotage::Lossy) {
                self.deliveries.remove(0);
                assert!(!self.durable.opens(&alert, received_at), "an acknowledged alert was lost: {alert:?}");
                self.same_again_is_no_news(event);
            }
        }
    }

    fn same_again_is_no_news(&self, event: Event) {
        for effect in decide(&self.state, event, self.now) {
            assert!(
                !matches!(effect, Effect::PutAction(_) | Effect::Note(_) | Effect::Page(_) | Effect::Do(_)),
                "a redelivery had an effect: {effect:?}"
            );
        }
    }
}

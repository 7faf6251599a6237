//! The engine's memory: what is open, what was done lately, what is over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    budget::Stamp,
    edges::Edges,
    event::{Ask, Effect, Page, PageKind},
    ladder::Told,
    model::{Action, ActionStatus, Alert, AlertKey, Incident, Outcome, Phase, Status},
    operator::Freeze,
    topology::Topology,
};
use crate::{
    policy::{LONGEST_WINDOW, Policy},
    timestamp::Timestamp,
};

/// Occurrences that are over are remembered for this long: a redelivery within
/// it changes nothing.
pub const MEMORY: Duration = Duration::from_secs(7 * 24 * 3600);

/// A recovery is remembered for this long; no policy may ask for more.
pub const RECOVERY: Duration = Duration::from_secs(3600);

/// Whose containers may be touched at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// Compose project.
    pub project: String,
    /// The bot's own container id or a prefix of it, if it runs in one.
    pub own_id: Option<String>,
}

/// Attempts at one step for one occurrence of an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// How many.
    pub count: u32,
    /// One of them happened, or may have.
    pub taken: bool,
    /// The round of the last.
    pub round: u32,
}

/// Which step, for which occurrence of which alert, by which rule.
pub type StepKey = (AlertKey, String, usize);

/// Everything that decisions depend on besides the event and the time.
///
/// The durable part is exactly what the journal holds; [`State::apply`] and the
/// journal's reader agree on it (a test compares them).
#[derive(Clone, Debug)]
pub struct State {
    /// In force now: its mode, limits and deny list count at once; its rules
    /// only for incidents opened from now on.
    pub policy: Arc<Policy>,
    /// Whose containers may be touched.
    pub scope: Scope,
    pub(super) open: BTreeMap<String, Incident>,
    /// Ids of what is open of one alert, by the time since when it fired: an occurrence is seen
    /// through while the next one burns.
    by_fingerprint: BTreeMap<String, BTreeMap<Timestamp, String>>,
    pub(super) ended: BTreeMap<AlertKey, Ended>,
    pub(super) in_flight: BTreeMap<String, Action>,
    pub(super) stamps: BTreeMap<String, BTreeMap<String, Stamp>>,
    pub(super) attempts: BTreeMap<StepKey, Attempts>,
    pub(super) pages: BTreeMap<String, Told>,
    /// Services whose incident was healed, by which and when: what depends on them needs a moment.
    pub(super) recovered: BTreeMap<String, Recovery>,
    /// Containers that a person has stopped.
    pub(super) stopped: BTreeMap<String, Timestamp>,
    pub(super) freeze: Option<Freeze>,
    /// Containers whose breakers an operator has closed, until the next action on them.
    pub(super) released: BTreeMap<String, Timestamp>,
    /// Calls that traces have shown.
    pub(super) edges: Edges,
    /// What the backend listed last; not kept over a restart.
    pub(super) topology: Topology,
    pub(super) asked: BTreeMap<Ask, Timestamp>,
}

/// That a service was healed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// Under which incident.
    pub incident: String,
    /// When it was proven.
    pub at: Timestamp,
}

/// An occurrence that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Since when.
    pub at: Timestamp,
    /// It was silenced, not over: should it burn on unsilenced, it counts again.
    pub may_reopen: bool,
}

impl State {
    /// Nothing known yet.
    pub fn new(policy: Arc<Policy>, scope: Scope) -> Self {
        Self {
            policy,
            scope,
            open: BTreeMap::new(),
            by_fingerprint: BTreeMap::new(),
            ended: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            stamps: BTreeMap::new(),
            attempts: BTreeMap::new(),
            pages: BTreeMap::new(),
            recovered: BTreeMap::new(),
            stopped: BTreeMap::new(),
            freeze: None,
            released: BTreeMap::new(),
            edges: Edges::new(),
            topology: Topology::default(),
            asked: BTreeMap::new(),
        }
    }

    /// Takes an effect into account. Commands and notes change nothing.
    pub fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Put(incident) => self.put(incident),
            Effect::PutAction(action) => self.put_action(action),
            Effect::Ended(key, at) => {
                self.ended.insert(key.clone(), Ended { at: *at, may_reopen: false });
            }
            Effect::Page(page) => self.told(page),
            Effect::Freeze(freeze) => self.freeze = freeze.as_deref().cloned(),
            Effect::ManualStop(target, at) => match at {
                Some(at) => {
                    self.stopped.insert(target.clone(), *at);
                }
                None => {
                    self.stopped.remove(target);
                }
            },
            Effect::Release(release) => self.released(release),
            Effect::Edge(edge) => self.learn(edge),
            Effect::EdgeGone(client, server) => self.unlearn(client, server),
            Effect::Topology(topology) => self.topology = (**topology).clone(),
            Effect::Defer(id, at) => {
                if let Some(incident) = self.open.get_mut(id) {
                    incident.next_at = *at;
                }
            }
            Effect::Heard(id, at) => {
                if let Some(incident) = self.open.get_mut(id) {
                    incident.last_seen = *at;
                }
            }
            Effect::Asked(ask, at) => {
                self.asked.insert(ask.clone(), *at);
            }
            Effect::Answered(ask) => {
                self.asked.remove(ask);
            }
            Effect::Note(_) | Effect::Do(_) => {}
        }
    }

    fn told(&mut self, page: &Page) {
        if page.kind == PageKind::Call {
            let told = Told::after(page, self.pages.get(&page.about));
            self.pages.insert(page.about.clone(), told);
        }
    }

    fn put(&mut self, incident: &Incident) {
        let fingerprint = &incident.alert.fingerprint;
        if incident.phase == Phase::Closed {
            self.open.remove(&incident.id);
            if let Some(occurrences) = self.by_fingerprint.get_mut(fingerprint) {
                occurrences.remove(&incident.starts_at);
                if occurrences.is_empty() {
                    self.by_fingerprint.remove(fingerprint);
                }
            }
            let at = incident.closed_at.unwrap_or(incident.updated_at);
            let may_reopen = incident.outcome == Some(Outcome::Silenced);
            self.ended.insert(incident.key(), Ended { at, may_reopen });
            if let (Some(Outcome::Healed), Some(service)) = (incident.outcome, incident.service()) {
                self.recovered.insert(service, Recovery { incident: incident.id.clone(), at });
            }
            return;
        }
        self.ended.remove(&incident.key());
        let occurrences = self.by_fingerprint.entry(fingerprint.clone()).or_default();
        occurrences.insert(incident.starts_at, incident.id.clone());
        self.open.insert(incident.id.clone(), incident.clone());
    }

    fn put_action(&mut self, action: &Action) {
        let stamps = self.stamps.entry(action.target.name.clone()).or_default();
        // What certainly did not happen is not counted. What may have, is.
        if action.status == ActionStatus::NotPerformed || !action.verb.changes() {
            stamps.remove(&action.id);
        } else {
            let (at, rule, verb) = (action.intended_at, action.rule.clone(), action.verb);
            stamps.insert(action.id.clone(), Stamp { at, rule, verb, for_target: true, for_all: true });
        }
        let oldest = action.intended_at.minus(LONGEST_WINDOW);
        stamps.retain(|_, stamp| stamp.at >= oldest);
        if stamps.is_empty() {
            self.stamps.remove(&action.target.name);
        }
        if action.closes_release() {
            self.released.remove(&action.target.name);
        }
        let attempts = self.attempts.entry((action.key.clone(), action.rule.clone(), action.step)).or_default();
        attempts.count = attempts.count.max(action.attempt);
        // Only the last attempt can have happened: there is none after one that may have.
        if action.attempt == attempts.count {
            attempts.taken = action.status != ActionStatus::NotPerformed;
            attempts.round = action.round;
        }
        if action.status.open() {
            self.in_flight.insert(action.id.clone(), action.clone());
        } else {
            self.in_flight.remove(&action.id);
        }
    }

    /// Takes over from the journal that a service was healed.
    pub(crate) fn remember_recovery(&mut self, service: String, recovery: Recovery) {
        let newer = self.recovered.get(&service).is_none_or(|known| known.at <= recovery.at);
        if newer {
            self.recovered.insert(service, recovery);
        }
    }

    /// What is in force, if anything.
    pub fn freeze(&self) -> Option<&Freeze> {
        self.freeze.as_ref()
    }

    /// The containers and what they need, as last listed.
    pub fn topology(&self) -> &Topology {
        &self.topology
    }

    /// Takes over from the journal that an operator has closed this container's breaker.
    pub(crate) fn remember_release(&mut self, target: String, at: Timestamp) {
        self.released.insert(target, at);
    }

    /// Takes over from the journal that an occurrence is over.
    pub(crate) fn remember(&mut self, key: AlertKey, ended: Ended) {
        self.ended.insert(key, ended);
    }

    /// Forgets what no decision depends on any more.
    pub fn forget(&mut self, now: Timestamp) {
        let horizon = now.minus(MEMORY);
        self.ended.retain(|_, ended| ended.at >= horizon);
        let open: BTreeSet<AlertKey> = self.open.values().map(Incident::key).collect();
        let ended = &self.ended;
        self.attempts.retain(|(key, ..), _| open.contains(key) || ended.contains_key(key));
        self.pages.retain(|_, told| told.at >= horizon);
        let settled = now.minus(RECOVERY);
        self.recovered.retain(|_, recovery| recovery.at >= settled);
        let oldest = now.minus(LONGEST_WINDOW);
        self.stamps.retain(|_, stamps| {
            stamps.retain(|_, stamp| stamp.at >= oldest);
            !stamps.is_empty()
        });
    }

    /// Incidents that are not over.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.open.values()
    }

    /// One of them.
    pub fn incident(&self, id: &str) -> Option<&Incident> {
        self.open.get(id)
    }

    /// Of one alert's occurrences that are not over, the last.
    pub(super) fn newest(&self, fingerprint: &str) -> Option<&Incident> {
        let (_, id) = self.by_fingerprint.get(fingerprint)?.last_key_value()?;
        self.open.get(id)
    }

    /// An action whose outcome is not known yet.
    pub fn action(&self, id: &str) -> Option<&Action> {
        self.in_flight.get(id)
    }

    /// Actions whose outcome is not known yet.
    pub fn in_flight(&self) -> impl Iterator<Item = &Action> {
        self.in_flight.values()
    }

    /// Whether this alert would open an incident now.
    pub fn opens(&self, alert: &Alert, received_at: Timestamp) -> bool {
        let key =
            AlertKey { fingerprint: alert.fingerprint.clone(), starts_at: alert.starts_at.unwrap_or(received_at) };
        let newer = self.newest(&alert.fingerprint).is_none_or(|i| alert.starts_at.is_some_and(|at| at > i.starts_at));
        alert.status == Status::Firing && newer && self.ended.get(&key).is_none_or(|e| e.may_reopen)
    }

    /// The durable part, in a form that can be compared.
    pub fn durable(&self) -> impl PartialEq + std::fmt::Debug + use<> {
        let mut open = self.open.clone();
        for incident in open.values_mut() {
            // Losing these two costs a second look, no more: they are not written each time.
            incident.next_at = None;
            incident.last_seen = incident.opened_at;
        }
        (
            open,
            self.by_fingerprint.clone(),
            self.ended.clone(),
            self.in_flight.clone(),
            self.stamps.clone(),
            self.attempts.clone(),
            self.pages.clone(),
            self.recovered.clone(),
            self.stopped.clone(),
            (self.freeze.clone(), self.released.clone(), self.edges.clone()),
        )
    }
}

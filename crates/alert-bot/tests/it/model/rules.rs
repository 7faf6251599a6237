//! The rules that must never be broken, and what is kept to tell.
//!
//! Nothing here asks the engine: what people ordered, what was done, looked at and said is kept
//! as it happened, and what follows from it is worked out anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use alert_bot::{
    engine::{
        Action, ActionStatus, AlertKey, Effect, Event, Incident, Note, NoteKind, OperatorCommand, Outcome, Page,
        PageKind, Phase, Reason, Release,
    },
    timestamp::Timestamp,
};

use super::world::{World, touchable};

const STABLE: Duration = Duration::from_secs(6);
const SETTLE: Duration = Duration::from_secs(8);
const STORM_WITHIN: Duration = Duration::from_secs(60);
/// About the same thing people are not called twice within this time.
const QUIET: Duration = Duration::from_secs(600);

type Step = (AlertKey, String, usize, u32);

fn step(action: &Action) -> Step {
    (action.key.clone(), action.rule.clone(), action.step, action.round)
}

/// What has happened, as far as the rules ask for it.
#[derive(Default)]
pub struct Ledger {
    /// What really was done, and on whose behalf.
    pub deeds: Vec<Action>,
    calls: BTreeMap<String, u32>,
    /// How often its target's budget had been given back when an action was called for.
    given_back: BTreeMap<String, u32>,
    /// The same for the budget over all targets; twice where it was under way when that was given back.
    all_given_back: BTreeMap<String, Vec<u32>>,
    /// So often, by target, and over all.
    releases: BTreeMap<String, u32>,
    all_releases: u32,
    attempts: BTreeMap<Step, u32>,
    /// Nothing must be acted on: until then, or until somebody says so.
    freeze: Option<Option<Timestamp>>,
    approved: BTreeSet<(String, usize)>,
    /// In people's hands.
    barred: BTreeSet<String>,
    /// Begun anew by a person.
    retried: BTreeSet<String>,
    /// When a service was last proven to be healed.
    healed: BTreeMap<String, Timestamp>,
    /// Looks since the last action, by incident: the first, and the last that was not good.
    first_look: BTreeMap<String, Timestamp>,
    last_bad_look: BTreeMap<String, Timestamp>,
    called: BTreeMap<(String, usize), Timestamp>,
    pub verdicts: u32,
    pub storms: u32,
    pub refused: BTreeSet<Reason>,
}

impl Ledger {
    pub fn frozen(&self, now: Timestamp) -> bool {
        self.freeze.is_some_and(|until| until.is_none_or(|until| now < until))
    }

    /// A call leaves the bot.
    pub fn called(&mut self, action: &Action) {
        let calls = self.calls.entry(action.id.clone()).or_default();
        *calls += 1;
        assert_eq!(*calls, 1, "the same attempt was called twice");
        let given_back = self.releases.get(&action.target.name).copied().unwrap_or(0);
        self.given_back.insert(action.id.clone(), given_back);
        self.all_given_back.insert(action.id.clone(), vec![self.all_releases]);
        let attempts = self.attempts.entry(step(action)).or_default();
        *attempts += 1;
        assert!(*attempts <= 2, "a step was tried {attempts} times");
    }

    /// It really happened.
    pub fn done(&mut self, action: &Action) {
        self.deeds.push(action.clone());
        let same = self.deeds.iter().filter(|d| step(d) == step(action));
        assert_eq!(same.count(), 1, "the same step was done twice for the same alert: {action:?}");
    }

    pub fn looked(&mut self, incident: &str, good: bool, now: Timestamp) {
        self.first_look.entry(incident.to_owned()).or_insert(now);
        if !good {
            self.last_bad_look.insert(incident.to_owned(), now);
        }
    }

    /// What was seen so many seconds ago was seen so many seconds ago, whatever the clock says.
    pub fn clock_set_back(&mut self, by: Duration) {
        for at in self.first_look.values_mut().chain(self.last_bad_look.values_mut()) {
            *at = at.minus(by);
        }
    }

    fn look_anew(&mut self, incident: &str) {
        self.first_look.remove(incident);
        self.last_bad_look.remove(incident);
    }

    fn ordered(&mut self, event: &Event) {
        match event {
            Event::Frozen { freeze, .. } => self.freeze = freeze.as_ref().map(|f| f.until),
            Event::Ordered(order) => {
                let id = order.incident.clone();
                match order.command {
                    // Which step that is, the incident says; see `rightful`.
                    OperatorCommand::Approve => {}
                    OperatorCommand::Reject | OperatorCommand::TakeOver => {
                        self.barred.insert(id);
                    }
                    OperatorCommand::Retry => {
                        self.forget(&id);
                        self.retried.insert(id);
                    }
                    OperatorCommand::Close => {}
                }
            }
            _ => {}
        }
    }

    /// What was done so far does not count any more, but for what is under way.
    fn released(&mut self, release: &Release, all: bool, under_way: &[String]) {
        for target in &release.targets {
            *self.releases.entry(target.clone()).or_default() += 1;
        }
        if all {
            self.all_releases += 1;
            for id in under_way {
                self.all_given_back.entry(id.clone()).or_default().push(self.all_releases);
            }
        }
    }

    /// It begins from the beginning.
    fn forget(&mut self, incident: &str) {
        self.approved.retain(|(id, _)| id != incident);
        self.barred.remove(incident);
        self.retried.remove(incident);
    }

    fn noted(&mut self, note: &Note, now: Timestamp) {
        let Some(id) = note.incident.clone() else { return };
        match note.kind {
            NoteKind::Opened | NoteKind::Adopted | NoteKind::Reopened => self.forget(&id),
            NoteKind::Operator if note.data["command"] == "approve" => {
                let step = note.data["step"].as_u64().and_then(|s| usize::try_from(s).ok()).expect("a step");
                self.approved.insert((id, step));
            }
            NoteKind::Decision => self.refused.extend(note.reason),
            NoteKind::Verdict => {
                if note.text.starts_with("healed") {
                    let good_since = self.last_bad_look.get(&id).or(self.first_look.get(&id)).copied();
                    let good_since = good_since.expect("a verdict without a look");
                    assert!(now.since(good_since) >= STABLE, "healed without proof: {note:?}");
                    self.verdicts += 1;
                }
                self.look_anew(&id);
            }
            _ => {}
        }
    }

    fn told(&mut self, page: &Page) {
        if page.kind != PageKind::Call || page.about == "storm" {
            return;
        }
        let before = self.called.insert((page.about.clone(), page.levels), page.at);
        let quiet = before.is_none_or(|before| page.at.since(before) >= QUIET);
        assert!(quiet, "people were called twice: {before:?} {page:?}");
    }
}

impl World {
    /// Whether the bot has a right to what it is about to write down as its intent.
    pub fn rightful(&self, effects: &[Effect]) {
        let intents = effects.iter().filter_map(|e| match e {
            Effect::PutAction(action) if action.status == ActionStatus::Intended => Some(action),
            _ => None,
        });
        for action in intents {
            let id = &action.incident;
            let incident = self.durable.incident(id);
            let service = incident.and_then(Incident::service);
            let service = service.unwrap_or_else(|| panic!("acted for an incident that is closed: {action:?}"));
            assert!(!self.ledger.barred.contains(id), "acted on what is in people's hands: {action:?}");
            if !self.ledger.retried.contains(id) {
                self.no_cause(&service, action);
            }
            if !action.verb.changes() {
                continue;
            }
            assert!(!self.ledger.frozen(self.now), "acted while everything was frozen: {action:?}");
            let minute = self.now.millis() / 60_000 % (24 * 60);
            let window = minute == 8 * 60 + 2 && ["cache", "mail"].contains(&service.as_str());
            assert!(!window, "acted in a maintenance window: {action:?}");
            if action.rule == "asked" {
                let approved = self.ledger.approved.contains(&(id.clone(), action.step));
                assert!(approved, "acted without approval: {action:?}");
            }
        }
    }

    fn no_cause(&self, service: &str, action: &Action) {
        for needed in self.ancestors(service) {
            let burns = self.durable.open().find(|other| {
                let about = other.service().as_deref() == Some(needed) && heals(other);
                let burns = other.alert_active && other.suppressed.is_none();
                about && (burns || matches!(other.phase, Phase::Acting | Phase::Verifying))
            });
            assert!(burns.is_none(), "acted on a symptom: {needed} burns, and {service} needs it: {action:?}");
            let healed = self.ledger.healed.get(needed);
            let fresh = healed.is_some_and(|at| self.now.since(*at) < SETTLE);
            assert!(!fresh, "acted on a symptom: {needed} was just healed, and {service} needs it: {action:?}");
        }
    }

    /// After a commit.
    pub fn check(&mut self, effects: &[Effect], order: Option<&Event>) {
        self.brakes(effects);
        if let Some(order) = order {
            self.ledger.ordered(order);
        }
        if let Some(Event::Released(order)) = order {
            let under_way: Vec<_> = self.durable.in_flight().map(|a| a.id.clone()).collect();
            for effect in effects {
                if let Effect::Release(release) = effect {
                    self.ledger.released(release, order.global, &under_way);
                }
            }
        }
        for effect in effects {
            match effect {
                Effect::Note(note) => {
                    let intent = effects.iter().any(|e| matches!(e, Effect::PutAction(_)));
                    let reasoned = note.kind != NoteKind::Decision || note.reason.is_some() || intent;
                    assert!(reasoned, "a decision is either to act or has a reason");
                    self.ledger.noted(note, self.now);
                }
                Effect::Page(page) => self.ledger.told(page),
                // Its time has come, or somebody has said so.
                Effect::Freeze(None) => self.ledger.freeze = None,
                Effect::PutAction(action) if !action.status.open() => self.ledger.look_anew(&action.incident),
                Effect::Put(incident) if incident.outcome == Some(Outcome::Healed) => {
                    if let (Some(service), Some(at)) = (incident.service(), incident.closed_at) {
                        self.ledger.healed.insert(service, at);
                    }
                }
                _ => {}
            }
        }
        self.budgets();
        self.phases();
    }

    /// A storm is declared when there is one, and only then.
    fn brakes(&mut self, effects: &[Effect]) {
        let declared = effects.iter().find_map(|e| match e {
            Effect::Freeze(Some(freeze)) if freeze.storm => Some(freeze),
            _ => None,
        });
        let opened = effects.iter().find_map(|e| match e {
            Effect::Note(n) if matches!(n.kind, NoteKind::Opened | NoteKind::Adopted | NoteKind::Reopened) => {
                self.durable.incident(n.incident.as_deref()?)
            }
            _ => None,
        });
        let already = self.ledger.frozen(self.now);
        // What has not been listed yet is not known to be a service.
        let blind = self.state.topology().containers.is_empty();
        if let Some(opened) = opened.filter(|o| heals(o) && !already && !blind) {
            let since = self.now.minus(STORM_WITHIN);
            let burning: BTreeSet<String> = self
                .durable
                .open()
                .filter(|i| i.alert_active && i.suppressed.is_none() && i.opened_at >= since && heals(i))
                .chain([opened])
                .filter_map(Incident::service)
                .filter(|s| touchable(s))
                .collect();
            let roots = burning.iter().filter(|s| !self.ancestors(s).iter().any(|a| burning.contains(*a)));
            // More than half of the nine that may be touched.
            let storm = roots.count() > 4;
            assert_eq!(declared.is_some(), storm, "a storm and its brake: {burning:?}");
        } else {
            assert!(declared.is_none(), "a storm without a cause: {declared:?}");
        }
        if let Some(freeze) = declared {
            self.ledger.freeze = Some(freeze.until);
            self.ledger.storms += 1;
        }
    }

    fn phases(&self) {
        let changing = || self.state.in_flight().filter(|a| a.verb.changes());
        let busy = changing().count();
        assert!(busy <= 2, "{busy} actions at once");
        let mut targets = BTreeSet::new();
        for action in changing() {
            assert!(targets.insert(&action.target.name), "two actions on {} at once", action.target.name);
        }
        for incident in self.state.open() {
            assert_ne!(incident.phase, Phase::Closed);
            let acts = self.state.in_flight().filter(|a| a.incident == incident.id).count();
            assert_eq!(acts, usize::from(incident.phase == Phase::Acting), "{incident:?}");
            if incident.phase == Phase::Escalated {
                assert!(incident.decision.is_some(), "escalated without a decision");
            }
        }
    }

    fn budgets(&self) {
        // What was done before a budget was given back does not count towards what was done after it.
        let mut by_target: BTreeMap<(&str, u32), Vec<Timestamp>> = BTreeMap::new();
        let mut all: BTreeMap<u32, Vec<Timestamp>> = BTreeMap::new();
        for deed in &self.ledger.deeds {
            let given_back = self.ledger.given_back[&deed.id];
            by_target.entry((&deed.target.name, given_back)).or_default().push(deed.intended_at);
            for given_back in &self.ledger.all_given_back[&deed.id] {
                all.entry(*given_back).or_default().push(deed.intended_at);
            }
        }
        for ((target, _), times) in &by_target {
            assert!(most_within(times, Duration::from_secs(300)) <= 2, "budget of {target} exceeded: {times:?}");
        }
        for times in all.values() {
            assert!(most_within(times, Duration::from_secs(240)) <= 4, "global budget exceeded: {times:?}");
        }
    }
}

fn heals(incident: &Incident) -> bool {
    incident.rule.as_ref().is_some_and(|r| r.heal().is_some())
}

/// The largest number of times within any window of this length.
fn most_within(times: &[Timestamp], window: Duration) -> usize {
    times.iter().map(|end| times.iter().filter(|t| **t <= *end && end.since(**t) < window).count()).max().unwrap_or(0)
}

//! The alerts of the past, decided anew under another policy.
//!
//! The engine itself decides, in the order and at the times at which the alerts
//! came. The world around it is what the journal remembers: what a look-up found,
//! what Alertmanager kept back, when everything was frozen, whether a repair was
//! followed by a recovery. Where the journal remembers nothing, because the old
//! policy never looked, a container that may be touched is assumed, and said so.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;

use super::{Done, Failure, load, open, plain, print_json, since, table};
use crate::{
    engine::{
        Action, ActionStatus, Alert, AlertLook, AlertStatus, CallOutcome, Command, Effect, Event, Freeze, Incident,
        NoteKind, Outcome, Probe, Reason, Release, ReleaseOrder, RunState, Scope, Seen, Sli, Source, State, Status,
        Suppression, Tri, Verdict, Workload, decide, target::Refusal,
    },
    journal::{
        Journal, JournalError,
        read::{Cursor, Entry},
    },
    policy::{Plan, Policy},
    timestamp::Timestamp,
};

/// Incidents read at a time.
const PORTION: i64 = 500;
/// An incident that waits is looked at again at most so often: one that waits for days would be looked at for ever.
const LOOKS: u32 = 200;
/// Steps of the engine between two events of the past at most.
const STEPS: u32 = 100_000;

/// What was, or would be, decided on an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The rule.
    pub rule: Option<String>,
    /// Actions that were taken, in their order.
    pub actions: Vec<String>,
    /// The last reason not to act; with actions, the one after them.
    pub reason: Option<String>,
}

/// An incident on which the other policy would have decided otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Which.
    pub incident: String,
    /// When it was opened.
    pub at: Timestamp,
    /// Its alert.
    pub alert: String,
    /// Its service.
    pub service: Option<String>,
    /// As it was.
    pub old: Answer,
    /// As it would have been.
    pub new: Answer,
    /// What the journal does not remember and was assumed.
    pub assumed: Option<&'static str>,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Replay {
    /// Incidents decided on anew.
    pub incidents: usize,
    /// Of these, decided on as before.
    pub same: usize,
    /// The others.
    pub different: Vec<Difference>,
    /// How often each pair of old and new decision occurs.
    pub summary: BTreeMap<String, usize>,
}

pub(super) async fn run(policy: &Path, from: &str, journal: &Path, project: &str, as_json: bool) -> Done {
    let policy = load(policy)?;
    let from = since(from, Timestamp::now())?;
    let failed = |e: JournalError| Failure::Failed(format!("{}: {e}", journal.display()));
    let result = replay(&open(journal).await?, policy, project, from).await.map_err(failed)?;
    if as_json {
        print_json(&result);
        return Ok(());
    }
    println!(
        "{} incidents since {}: {} decided alike, {} differently",
        result.incidents,
        from.to_string().get(..19).unwrap_or_default().replace('T', " "),
        result.same,
        result.different.len()
    );
    let rows: Vec<_> = result
        .different
        .iter()
        .map(|d| {
            vec![
                d.at.to_string().get(..19).unwrap_or_default().replace('T', " "),
                d.incident.clone(),
                plain(&d.alert),
                d.service.as_deref().map_or_else(|| "-".to_owned(), plain),
                format!("{} -> {}", d.old.shown(), d.new.shown()),
                d.assumed.map(|a| format!("(assumed: {a})")).unwrap_or_default(),
            ]
        })
        .collect();
    print!("{}", table(&rows));
    Ok(())
}

/// Decides anew on everything that was opened at `from` or later.
///
/// # Errors
/// The journal could not be read.
pub async fn replay(
    journal: &Journal,
    policy: Arc<Policy>,
    project: &str,
    from: Timestamp,
) -> Result<Replay, JournalError> {
    let mut world = World::new(policy, project);
    for entry in journal.general(NoteKind::Operator.as_str(), from).await? {
        world.frozen(&entry);
        world.released(&entry);
    }
    // A storm's freeze is the engine's own doing, but rests on containers that the journal does not list.
    for entry in journal.general(NoteKind::System.as_str(), from).await? {
        world.frozen(&entry);
    }
    let mut after: Option<Cursor> = None;
    loop {
        let incidents = journal.history(from, after.as_ref(), PORTION).await?;
        let Some(last) = incidents.last() else { break };
        after = Some(Cursor { opened_at: last.opened_at, id: last.id.clone() });
        for incident in incidents {
            let actions = journal.actions_of(&incident.id).await?;
            let timeline = journal.timeline(&incident.id).await?;
            world.remember(Past::of(incident, &actions, &timeline));
        }
    }
    Ok(world.run())
}

/// One incident as the journal remembers it.
struct Past {
    incident: Incident,
    old: Answer,
    /// What a look-up finds.
    found: Found,
    suppressed: Option<Suppression>,
    recovers: bool,
}

enum Found {
    Container(Box<Workload>),
    Refused(Reason, String),
    /// Nobody has looked.
    Unknown,
}

impl Past {
    fn of(incident: Incident, actions: &[Action], timeline: &[Entry]) -> Self {
        let taken = |a: &&Action| a.status != ActionStatus::NotPerformed;
        let verbs = actions.iter().filter(taken).map(|a| a.verb.as_str().to_owned()).collect::<Vec<_>>();
        let last = timeline.iter().rfind(|e| e.kind == "decision").and_then(|e| e.reason.clone());
        let old = Answer { rule: incident.rule.as_ref().map(|r| r.name.clone()), actions: verbs, reason: last };
        let seen = timeline
            .iter()
            .rev()
            .filter_map(|e| e.data.get("container"))
            .find_map(|c| serde_json::from_value::<Workload>(c.clone()).ok());
        // The last reason that lies in the world and not in the policy.
        let refused = timeline.iter().rev().find_map(|e| {
            let code = e.reason.as_deref().filter(|_| e.kind == "decision")?;
            let reason = Reason::ALL.iter().copied().find(|r| r.as_str() == code)?;
            of_the_world(reason).then(|| (reason, e.text.clone()))
        });
        let found = match (seen, refused) {
            (Some(container), _) => Found::Container(Box::new(container)),
            (None, Some((reason, text))) if old.actions.is_empty() => Found::Refused(reason, text),
            _ => Found::Unknown,
        };
        let suppressed = incident
            .suppressed
            .clone()
            .or_else(|| (incident.outcome == Some(Outcome::Silenced)).then(|| Suppression::Silenced(Vec::new())));
        let recovers = incident.verdict.is_none_or(|v| v == Verdict::Healed);
        Self { incident, old, found, suppressed, recovers }
    }

    /// The alert as it was sent, or its end.
    fn alert(&self, status: Status) -> Alert {
        let starts_at = (!self.incident.manual).then_some(self.incident.starts_at);
        Alert { status, starts_at, ..self.incident.alert.clone() }
    }

    fn workload(&self, project: &str, now: Timestamp, service: Option<&str>) -> Workload {
        let service = service.map_or_else(|| "unknown".to_owned(), str::to_owned);
        match &self.found {
            // What was there then; not younger than it was.
            Found::Container(seen) => (**seen).clone(),
            _ => Workload {
                id: format!("assumed-{service}"),
                name: format!("{project}-{service}-1"),
                services: vec![service],
                project: Some(project.to_owned()),
                enabled: true,
                protected: false,
                state: RunState::Running,
                health: None,
                started_at: Some(now.minus(Duration::from_secs(3600))),
                finished_at: None,
                exit_code: None,
                oom_killed: false,
                restart_count: 0,
                image: String::new(),
            },
        }
    }
}

/// Reasons that another policy does not lift.
const fn of_the_world(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::NoTarget
            | Reason::AmbiguousTarget
            | Reason::OtherProject
            | Reason::NotOptedIn
            | Reason::Protected
            | Reason::NeverStarted
            | Reason::TargetChanging
            | Reason::JustStopped
            | Reason::ManualStop
            | Reason::CrashLoop
            | Reason::CauseElsewhere
            | Reason::BackendUnavailable
            | Reason::BackendRefused
    )
}

enum Came {
    Alert(String),
    Ended(String),
    Freeze(Option<Freeze>),
    Release(ReleaseOrder),
}

struct World {
    state: State,
    project: String,
    past: BTreeMap<String, Past>,
    events: BTreeMap<(Timestamp, u64), Came>,
    said: BTreeMap<String, Answer>,
    assumed: BTreeSet<String>,
    looks: BTreeMap<String, u32>,
    now: Timestamp,
}

impl World {
    fn new(policy: Arc<Policy>, project: &str) -> Self {
        let scope = Scope { project: project.to_owned(), own_id: None };
        Self {
            state: State::new(policy, scope),
            project: project.to_owned(),
            past: BTreeMap::new(),
            events: BTreeMap::new(),
            said: BTreeMap::new(),
            assumed: BTreeSet::new(),
            looks: BTreeMap::new(),
            now: Timestamp::from_millis(0),
        }
    }

    fn at(&mut self, at: Timestamp, came: Came) {
        let n = u64::try_from(self.events.len()).unwrap_or(u64::MAX);
        self.events.insert((at, n), came);
    }

    /// An order to freeze, or its end.
    fn frozen(&mut self, entry: &Entry) {
        let Some(freeze) = entry.data.get("freeze") else { return };
        match freeze {
            Value::Null => self.at(entry.at, Came::Freeze(None)),
            order => {
                if let Ok(freeze) = serde_json::from_value::<Freeze>(order.clone()) {
                    self.at(entry.at, Came::Freeze(Some(freeze)));
                }
            }
        }
    }

    /// An order to give a target its budget back.
    fn released(&mut self, entry: &Entry) {
        let release = entry.data.get("release").and_then(|r| serde_json::from_value::<Release>(r.clone()).ok());
        let global = entry.data["global"] == true;
        for target in release.into_iter().flat_map(|r| r.targets) {
            let order = ReleaseOrder { target, global, by: String::new(), why: String::new() };
            self.at(entry.at, Came::Release(order));
        }
    }

    fn remember(&mut self, past: Past) {
        let id = past.incident.id.clone();
        self.at(past.incident.opened_at, Came::Alert(id.clone()));
        if let Some(closed) = past.incident.closed_at {
            self.at(closed, Came::Ended(id.clone()));
        }
        self.past.insert(id, past);
    }

    fn run(mut self) -> Replay {
        while let Some(((at, _), came)) = self.events.pop_first() {
            self.until(at);
            self.now = at;
            match came {
                Came::Alert(id) => {
                    let Some(past) = self.past.get(&id) else { continue };
                    let alert = past.alert(Status::Firing);
                    let rule = self.state.policy.rule_for(&alert.labels);
                    let answer = Answer { rule: rule.map(|r| r.name.clone()), actions: Vec::new(), reason: None };
                    if matches!(rule.map(|r| &r.plan), Some(Plan::Ignore(_))) {
                        self.said.insert(id, Answer { reason: Some("no_incident".to_owned()), ..answer });
                        continue;
                    }
                    // Of what was sent by hand this is the beginning, and so the incident's id.
                    let received_at = past.incident.starts_at;
                    self.said.insert(id, answer);
                    self.turn(Event::Alert { alert, source: Source::Webhook, received_at, trace: None });
                }
                Came::Ended(id) => {
                    let Some(past) = self.past.get(&id) else { continue };
                    let alert = past.alert(Status::Resolved);
                    self.turn(Event::Alert { alert, source: Source::Webhook, received_at: at, trace: None });
                }
                Came::Freeze(freeze) => {
                    let by = freeze.as_ref().map_or_else(|| "operator".to_owned(), |f| f.by.clone());
                    self.turn(Event::Frozen { freeze, by });
                }
                Came::Release(order) => self.turn(Event::Released(order)),
            }
        }
        // What is still open may come to a decision yet.
        self.until(self.now.plus(Duration::from_secs(900)));
        self.compare()
    }

    /// Time passes, and what waits for it is looked at.
    fn until(&mut self, end: Timestamp) {
        for _ in 0..STEPS {
            let due = self.state.open().filter(|i| self.looks.get(&i.id).copied().unwrap_or(0) < LOOKS);
            let next = due
                .filter_map(|i| i.verification.as_ref().filter(|_| i.action.is_some()).map(|v| v.next_at).or(i.next_at))
                .min();
            let Some(next) = next.map(|n| n.max(self.now)).filter(|n| *n < end) else { break };
            self.now = next;
            let due: Vec<_> =
                self.state.open().filter(|i| i.next_at.is_some_and(|at| at <= next)).map(|i| i.id.clone()).collect();
            for id in due {
                *self.looks.entry(id).or_default() += 1;
            }
            let before = self.state.open().count();
            self.turn(Event::Tick);
            // Nothing moves although it is due: a moment later it may.
            if self.state.open().count() == before {
                self.now = self.now.plus(Duration::from_millis(500));
            }
        }
        self.now = self.now.max(end);
        self.state.forget(self.now);
    }

    fn turn(&mut self, event: Event) {
        let mut queue = vec![event];
        while let Some(event) = queue.pop() {
            let effects = decide(&self.state, event, self.now);
            for effect in &effects {
                self.state.apply(effect);
            }
            for effect in effects {
                match effect {
                    Effect::Note(note) if note.kind == NoteKind::Decision => {
                        let Some(answer) = note.incident.as_ref().and_then(|id| self.said.get_mut(id)) else {
                            continue;
                        };
                        answer.reason = note.reason.map(|r| r.as_str().to_owned());
                    }
                    Effect::Do(command) => queue.extend(self.does(&command)),
                    _ => {}
                }
            }
        }
    }

    /// The world's answer.
    fn does(&mut self, command: &Command) -> Option<Event> {
        match command {
            Command::Resolve { incident } => {
                let past = self.past.get(incident)?;
                let service = self.state.incident(incident).and_then(Incident::service);
                let workload = match &past.found {
                    Found::Refused(reason, text) => Err(Refusal::new(*reason, text.clone())),
                    Found::Container(_) => Ok(past.workload(&self.project, self.now, service.as_deref())),
                    Found::Unknown => {
                        self.assumed.insert(incident.clone());
                        Ok(past.workload(&self.project, self.now, service.as_deref()))
                    }
                };
                let alert = match &past.suppressed {
                    Some(by) => AlertLook::Listed(AlertStatus { suppressed: Some(by.clone()) }),
                    None => AlertLook::Unasked,
                };
                let seen = Seen { at: self.now, workload, alert };
                Some(Event::Resolved { incident: incident.clone(), seen })
            }
            Command::Act { action } => {
                let action = self.state.action(action)?;
                if let Some(answer) = self.said.get_mut(&action.incident) {
                    answer.actions.push(action.verb.as_str().to_owned());
                }
                Some(Event::Returned { action: action.id.clone(), outcome: CallOutcome::Done, evidence: None })
            }
            Command::Inspect { action } => {
                Some(Event::Inspected { action: action.clone(), found: Ok(None), replicas: None })
            }
            Command::Probe { incident } => {
                let past = self.past.get(incident)?;
                let service = self.state.incident(incident).and_then(Incident::service);
                let workload = past.workload(&self.project, self.now, service.as_deref());
                let good = past.recovers;
                let probe = Probe {
                    container: Ok(Some(Workload { state: RunState::Running, health: None, ..workload })),
                    firing: if good { Tri::No } else { Tri::Yes },
                    sli: Sli::Value { value: 0.0, good, age_ms: 0 },
                };
                Some(Event::Probed { incident: incident.clone(), probe })
            }
            Command::Curve { .. } | Command::Reconcile => None,
        }
    }

    fn compare(self) -> Replay {
        let mut result = Replay { incidents: self.past.len(), ..Replay::default() };
        let mut past: Vec<_> = self.past.into_values().collect();
        past.sort_by_key(|p| p.incident.opened_at);
        for past in past {
            let Some(new) = self.said.get(&past.incident.id).cloned() else { continue };
            let (old, id) = (past.old, past.incident.id.clone());
            if old.same(&new) {
                result.same += 1;
                continue;
            }
            *result.summary.entry(format!("{} -> {}", old.shown(), new.shown())).or_default() += 1;
            result.different.push(Difference {
                at: past.incident.opened_at,
                alert: past.incident.alert.name().to_owned(),
                service: past.incident.service(),
                assumed: self.assumed.contains(&id).then_some("a container that may be touched"),
                incident: id,
                old,
                new,
            });
        }
        result
    }
}

impl Answer {
    /// The same deed, or, where nothing was done, the same reason for it.
    fn same(&self, other: &Self) -> bool {
        self.actions == other.actions && (!self.actions.is_empty() || self.reason == other.reason)
    }

    fn shown(&self) -> String {
        match (self.actions.is_empty(), &self.reason) {
            (false, _) => self.actions.join(", "),
            (true, Some(reason)) => reason.clone(),
            (true, None) => "nothing".to_owned(),
        }
    }
}

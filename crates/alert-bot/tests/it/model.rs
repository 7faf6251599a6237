//! A model of the world, and random histories of it.
//!
//! The engine is the real one; Docker, Prometheus, Alertmanager and the journal
//! are simulated with everything that they may do: answer late, twice, out of
//! order or not at all, act after having timed out, lose notifications. The
//! process dies at any moment: before a commit, after it, or between a call and
//! its result. After every step the rules that must never be broken are checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use alert_bot::{
    engine::{
        Action, ActionStatus, Alert, AlertKey, AlertLook, AlertStatus, CallOutcome, Command, Effect, Event, Health,
        Incident, NoteKind, Phase, Probe, Reason, RunState, Scope, Seen, Sli, Snapshot, Source, State, Status,
        Suppression, Tri, Workload, decide, fingerprint_of,
        target::{self, Candidate, Refusal},
    },
    policy::{Policy, Verb},
    timestamp::Timestamp,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const POLICY: &str = r"
version: 1
mode: auto
limits: {actions: 4, window: 4m, concurrent: 2}
deny: [vault]
defaults:
  min_age: 5s
  budget: {actions: 2, window: 5m, cooldown: 10s, cooldown_max: 60s}
  stable_for: 6s
  within: 30s
  every: 2s
  max_age: 10s
rules:
  - name: errors
    match: {alertname: Errors}
    target: {label: service, default: api}
    steps: [{action: restart, timeout: 10s, stop_timeout: 4s}]
    verify: {sli: x, below: 1}
  - name: latency
    match: {alertname: Latency}
    target: {label: service, default: api}
    hold: 5s
    steps: [{action: restart, timeout: 10s, stop_timeout: 4s}]
    verify: {sli: x, below: 1}
  - name: down
    match: {alertname: Down}
    target: {label: service}
    steps: [{action: start, timeout: 10s, stop_timeout: 4s}, {action: restart, timeout: 10s, stop_timeout: 4s}]
    verify: {sli: x, below: 1}
  - name: disk
    match: {alertname: Disk}
    leave_to_people: no container is at fault
";

const SERVICES: [&str; 9] = ["api", "db", "cache", "prometheus", "vault", "guarded", "lone", "twin", "foreign"];
const NAMES: [&str; 5] = ["Errors", "Latency", "Down", "Disk", "Unheard"];

#[derive(Clone)]
struct Box_ {
    workload: Workload,
    /// A restart repairs it.
    curable: bool,
    /// Users notice.
    broken: bool,
}

/// What really was done to a container, and on whose behalf.
struct Deed {
    action: Action,
}

struct InFlight {
    command: Command,
    /// When an action takes effect after all, though nobody hears of it.
    late_effect: Option<(Timestamp, Action)>,
}

struct World {
    rng: StdRng,
    now: Timestamp,
    boxes: Vec<Box_>,
    /// Alerts that burn: labels → start.
    burning: BTreeMap<BTreeMap<String, String>, Timestamp>,
    silenced: BTreeSet<String>,
    prometheus: bool,
    docker: bool,
    /// Of a hundred questions, so many go unanswered.
    alertmanager_fails: u32,
    /// What was committed, turn by turn.
    committed: Vec<Vec<Effect>>,
    /// Durable: acknowledged notifications not worked through.
    deliveries: Vec<(Alert, Timestamp)>,
    /// Everything ever delivered, for redelivery.
    old: Vec<Alert>,
    state: State,
    durable: State,
    in_flight: Vec<InFlight>,
    deeds: Vec<Deed>,
    /// Calls started, by action id.
    calls: BTreeMap<String, u32>,
    /// Last look per incident that was not good.
    last_bad_look: BTreeMap<String, Timestamp>,
    first_look: BTreeMap<String, Timestamp>,
    healed: u32,
    refused: BTreeSet<Reason>,
}

fn scope() -> Scope {
    Scope { project: "p".to_owned(), own_id: Some("bot".to_owned()) }
}

fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let mut boxes = Vec::new();
        for service in SERVICES {
            let copies = if service == "twin" { 2 } else { 1 };
            for copy in 1..=copies {
                boxes.push(Box_ {
                    workload: Workload {
                        id: format!("id-{service}-{copy}"),
                        name: format!("p-{service}-{copy}"),
                        services: vec![service.to_owned()],
                        project: Some(if service == "foreign" { "q" } else { "p" }.to_owned()),
                        enabled: service != "lone",
                        protected: service == "guarded",
                        state: RunState::Running,
                        health: Some(Health::Healthy),
                        started_at: Some(now.minus(Duration::from_secs(3600))),
                        finished_at: None,
                        exit_code: None,
                        oom_killed: false,
                        restart_count: 0,
                        image: "i".to_owned(),
                    },
                    curable: true,
                    broken: false,
                });
            }
        }
        let policy = Arc::new(Policy::parse(POLICY).unwrap());
        let state = State::new(policy, scope());
        Self {
            rng: StdRng::seed_from_u64(seed),
            now,
            boxes,
            burning: BTreeMap::new(),
            silenced: BTreeSet::new(),
            prometheus: true,
            docker: true,
            alertmanager_fails: 20,
            committed: Vec::new(),
            deliveries: Vec::new(),
            old: Vec::new(),
            durable: state.clone(),
            state,
            in_flight: Vec::new(),
            deeds: Vec::new(),
            calls: BTreeMap::new(),
            last_bad_look: BTreeMap::new(),
            first_look: BTreeMap::new(),
            healed: 0,
            refused: BTreeSet::new(),
        }
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        let i = self.rng.random_range(0..from.len());
        from.get(i).cloned()
    }

    // --- the driver ---------------------------------------------------------

    /// One turn of the driver. `die` says at which of its moments the process ends.
    fn turn(&mut self, event: Event, die: Option<Moment>) {
        let effects = decide(&self.state, event, self.now);
        for effect in &effects {
            self.state.apply(effect);
        }
        if die == Some(Moment::BeforeCommit) {
            return self.restart_bot();
        }
        for effect in effects.iter().filter(|e| e.durable()) {
            self.durable.apply(effect);
        }
        self.committed.push(effects.clone());
        self.check(&effects);
        if die == Some(Moment::AfterCommit) {
            return self.restart_bot();
        }
        for effect in effects {
            if let Effect::Do(command) = effect {
                self.begin(command);
            }
        }
    }

    fn restart_bot(&mut self) {
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
    }

    fn late(&mut self, action: Action, at: Timestamp) {
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
            let calls = self.calls.entry(action.id.clone()).or_default();
            *calls += 1;
            assert_eq!(*calls, 1, "the same attempt was called twice");
            assert!(action.attempt <= 2, "a step was tried {} times", action.attempt);
            let others = self.in_flight.iter().filter(|f| match &f.command {
                Command::Act { action: other } => {
                    self.state.action(other).is_some_and(|o| o.target.name == action.target.name)
                }
                _ => false,
            });
            assert_eq!(others.count(), 0, "two actions on {} at once", action.target.name);
        }
        self.in_flight.push(InFlight { command, late_effect: None });
    }

    /// Something that is under way comes to its end, in any order.
    fn complete_one(&mut self) {
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

    fn maybe_die(&mut self) -> Option<Moment> {
        if self.chance(4) {
            Some(if self.chance(50) { Moment::BeforeCommit } else { Moment::AfterCommit })
        } else {
            None
        }
    }

    fn resolve(&mut self, incident: &str) -> Option<Event> {
        let open = self.state.incident(incident)?.clone();
        let candidates: Vec<Candidate> = self.boxes.iter().map(|b| Candidate::from(&b.workload)).collect();
        let workload = if self.docker {
            target::choose(&candidates, open.service().as_deref(), &self.state.policy, &scope()).map(|c| {
                self.boxes.iter().find(|b| b.workload.id == c.id).expect("a listed container").workload.clone()
            })
        } else {
            let soon = self.now.plus(Duration::from_secs(5));
            Err(Refusal::new(Reason::BackendUnavailable, "down").retry(soon))
        };
        let alert = match self.status_of(&open.alert.fingerprint) {
            _ if self.chance(self.alertmanager_fails) => AlertLook::Unasked,
            Some(status) => AlertLook::Listed(status),
            None => AlertLook::Unlisted,
        };
        Some(Event::Resolved { incident: incident.to_owned(), seen: Seen { at: self.now, workload, alert } })
    }

    fn status_of(&self, fingerprint: &str) -> Option<AlertStatus> {
        let known = self.burning.keys().any(|labels| fingerprint_of(labels) == fingerprint);
        known.then(|| AlertStatus {
            suppressed: self.silenced.contains(fingerprint).then(|| Suppression::Silenced(vec!["s".to_owned()])),
        })
    }

    fn finish_act(&mut self, id: &str, die: Option<Moment>) {
        let Some(action) = self.state.action(id).cloned() else { return };
        let outcome = match self.rng.random_range(0..100) {
            _ if !self.docker => CallOutcome::NotPerformed("connection refused".to_owned()),
            0..70 => {
                self.take_effect(&action);
                CallOutcome::Done
            }
            70..78 => {
                self.take_effect(&action);
                CallOutcome::Unknown("no answer".to_owned())
            }
            // Docker does it after all, within the time that the container has to stop.
            78..84 => {
                let at = self.now.plus(Duration::from_millis(self.rng.random_range(1..3_900)));
                self.late(action, at);
                CallOutcome::Unknown("no answer".to_owned())
            }
            84..90 => CallOutcome::Unknown("connection reset".to_owned()),
            90..95 => CallOutcome::NotPerformed("no such container".to_owned()),
            _ => CallOutcome::Refused("403".to_owned()),
        };
        self.turn(Event::Returned { action: id.to_owned(), outcome, evidence: None }, die);
    }

    /// The container is really started anew.
    fn take_effect(&mut self, action: &Action) {
        let now = self.now;
        let target = self.boxes.iter_mut().find(|b| b.workload.id == action.target.id).expect("the target");
        if action.verb == Verb::Start && target.workload.state == RunState::Running {
            return;
        }
        // Even if the clock was set back, a start has its own time.
        let after = target.workload.started_at.map_or(now, |s| now.max(s.plus(Duration::from_millis(1))));
        target.workload.started_at = Some(after);
        target.workload.state = RunState::Running;
        if target.curable {
            target.broken = false;
        }
        let permitted = target::permitted(&Candidate::from(&target.workload), &self.state.policy, &scope());
        assert_eq!(permitted, Ok(()), "acted on what must not be touched");
        self.deeds.push(Deed { action: action.clone() });
        let same = self
            .deeds
            .iter()
            .filter(|d| (&d.action.key, &d.action.rule, d.action.step) == (&action.key, &action.rule, action.step));
        assert_eq!(same.count(), 1, "the same step was done twice for the same alert: {action:?}");
    }

    fn late_effects(&mut self) {
        let due = {
            let now = self.now;
            let is_due = |f: &InFlight| f.late_effect.as_ref().is_some_and(|(at, _)| *at <= now);
            let (due, rest): (Vec<_>, _) = std::mem::take(&mut self.in_flight).into_iter().partition(is_due);
            self.in_flight = rest;
            due
        };
        for (_, action) in due.into_iter().filter_map(|flight| flight.late_effect) {
            self.take_effect(&action);
        }
    }

    fn inspect(&mut self, which: impl Fn(&Workload) -> bool) -> Result<Option<Workload>, String> {
        if self.docker {
            Ok(self.boxes.iter().find(|b| which(&b.workload)).map(|b| b.workload.clone()))
        } else {
            Err("down".to_owned())
        }
    }

    fn probe(&mut self, id: &str) -> Option<Event> {
        let open = self.state.incident(id)?.clone();
        let name = open.target.as_ref()?.name.clone();
        let container = self.inspect(|w| w.name == name);
        let broken = self.boxes.iter().any(|b| b.workload.name == name && b.broken);
        let fires = self.burning.keys().any(|l| fingerprint_of(l) == open.alert.fingerprint);
        let firing = match (self.prometheus, fires) {
            (false, _) => Tri::Unknown("down".to_owned()),
            (true, true) => Tri::Yes,
            (true, false) => Tri::No,
        };
        let sli = match (self.prometheus, self.rng.random_range(0..20)) {
            (false, _) => Sli::Unavailable("down".to_owned()),
            (true, 0) => Sli::Empty("x".to_owned()),
            // Stale, and it looks good.
            (true, 1) => Sli::Value { value: 0.0, good: true, age_ms: 60_000 },
            (true, _) if broken => Sli::Value { value: 2.0, good: false, age_ms: 200 },
            (true, _) => Sli::Value { value: 0.0, good: true, age_ms: 200 },
        };
        let running = matches!(&container, Ok(Some(w)) if w.state == RunState::Running);
        let fresh_good = matches!(sli, Sli::Value { good: true, age_ms: 200, .. });
        self.first_look.entry(id.to_owned()).or_insert(self.now);
        if !(running && fresh_good && firing == Tri::No && self.prometheus) {
            self.last_bad_look.insert(id.to_owned(), self.now);
        }
        Some(Event::Probed { incident: id.to_owned(), probe: Probe { container, firing, sli } })
    }

    fn reconcile(&mut self, die: Option<Moment>) {
        let asked_at = self.now;
        let burning = self.burning.clone();
        let mut snapshot = Snapshot { asked_at: Some(asked_at), alerts: BTreeMap::new() };
        for (labels, starts_at) in burning {
            let alert = alert(labels, Some(starts_at), Status::Firing);
            let status = self.status_of(&alert.fingerprint).expect("it burns");
            let active = status.suppressed.is_none();
            snapshot.alerts.insert(alert.fingerprint.clone(), status);
            if active {
                let received_at = self.now;
                self.turn(Event::Alert { alert, source: Source::Reconcile, received_at, trace: None }, None);
            }
        }
        self.turn(Event::Snapshot(snapshot), die);
    }

    // --- the rules that must never be broken --------------------------------

    fn check(&mut self, effects: &[Effect]) {
        for effect in effects {
            let Effect::Note(note) = effect else { continue };
            match note.kind {
                NoteKind::Decision => {
                    if let Some(reason) = note.reason {
                        self.refused.insert(reason);
                    } else {
                        let intent = effects.iter().any(|e| matches!(e, Effect::PutAction(_)));
                        assert!(intent, "a decision is either to act or has a reason");
                    }
                }
                NoteKind::Verdict if note.text.starts_with("healed") => {
                    let id = note.incident.clone().unwrap();
                    let good_since = self.last_bad_look.get(&id).or(self.first_look.get(&id)).copied().unwrap();
                    let stable = Duration::from_secs(6);
                    assert!(
                        self.now.since(good_since) >= stable || self.now < good_since,
                        "healed without proof: {note:?}"
                    );
                    self.healed += 1;
                }
                NoteKind::Verdict => {
                    let id = note.incident.clone().unwrap();
                    self.first_look.remove(&id);
                    self.last_bad_look.remove(&id);
                }
                _ => {}
            }
        }
        self.budgets();
        let busy = self.state.in_flight().count();
        assert!(busy <= 2, "{busy} actions at once");
        let mut targets = BTreeSet::new();
        for action in self.state.in_flight() {
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
        let mut by_target: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
        for deed in &self.deeds {
            by_target.entry(&deed.action.target.name).or_default().push(deed.action.intended_at);
        }
        for (target, times) in &by_target {
            assert!(most_within(times, Duration::from_secs(300)) <= 2, "budget of {target} exceeded: {times:?}");
        }
        let all: Vec<_> = by_target.into_values().flatten().collect();
        assert!(most_within(&all, Duration::from_secs(240)) <= 4, "global budget exceeded: {all:?}");
    }

    // --- what happens --------------------------------------------------------

    fn step(&mut self) {
        self.late_effects();
        match self.rng.random_range(0..100) {
            0..12 => self.break_something(),
            12..30 => self.deliver(),
            30..34 => self.redeliver(),
            34..40 => self.end_something(),
            40..43 => {
                let die = self.maybe_die();
                self.reconcile(die);
            }
            43..45 => self.silence_something(),
            45..46 => self.prometheus = !self.prometheus,
            46..47 => self.docker = !self.docker,
            47..48 => self.restart_bot(),
            48..49 => self.now = self.now.minus(Duration::from_secs(self.rng.random_range(0..20))),
            49..51 => self.stop_something(),
            51..75 => self.complete_one(),
            _ => self.pass_time(),
        }
    }

    fn pass_time(&mut self) {
        let by = self.rng.random_range(100..4_000);
        self.now = self.now.plus(Duration::from_millis(by));
        self.late_effects();
        let die = self.maybe_die();
        self.turn(Event::Tick, die);
    }

    fn break_something(&mut self) {
        let service = self.pick(&SERVICES).unwrap();
        let name = self.pick(&NAMES).unwrap();
        let curable = self.chance(70);
        for b in self.boxes.iter_mut().filter(|b| b.workload.services[0] == service) {
            b.broken = true;
            b.curable = curable;
        }
        let labels = if self.chance(10) {
            set(&[("alertname", name)])
        } else if self.chance(5) {
            set(&[("alertname", name), ("service", "../../etc/passwd")])
        } else {
            set(&[("alertname", name), ("service", service)])
        };
        let now = self.now;
        self.burning.entry(labels).or_insert(now);
    }

    fn stop_something(&mut self) {
        let now = self.now;
        let i = self.rng.random_range(0..self.boxes.len());
        let w = &mut self.boxes[i].workload;
        w.state = RunState::Down;
        w.finished_at = Some(now);
    }

    fn deliver(&mut self) {
        let burning: Vec<_> = self.burning.clone().into_iter().collect();
        let Some((labels, starts_at)) = self.pick(&burning) else { return };
        let manual = self.chance(10);
        if self.silenced.contains(&fingerprint_of(&labels)) && !manual {
            return;
        }
        let alert = alert(labels, (!manual).then_some(starts_at), Status::Firing);
        self.old.push(alert.clone());
        self.deliveries.push((alert, self.now));
        self.work_through();
    }

    /// Acknowledged notifications, each until its turn was committed.
    fn work_through(&mut self) {
        while let Some((alert, received_at)) = self.deliveries.first().cloned() {
            let die = self.maybe_die();
            let event = Event::Alert { alert, source: Source::Webhook, received_at, trace: None };
            self.turn(event.clone(), die);
            if die != Some(Moment::BeforeCommit) {
                self.deliveries.remove(0);
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

    fn redeliver(&mut self) {
        let Some(alert) = self.pick(&self.old.clone()) else { return };
        let received_at = self.now;
        if alert.starts_at.is_some() {
            self.turn(Event::Alert { alert, source: Source::Webhook, received_at, trace: None }, None);
        }
    }

    fn end_something(&mut self) {
        let burning: Vec<_> = self.burning.clone().into_iter().collect();
        let Some((labels, starts_at)) = self.pick(&burning) else { return };
        let service = labels.get("service").cloned().unwrap_or_else(|| "api".to_owned());
        if self.boxes.iter().any(|b| b.broken && b.workload.services[0] == service) && self.chance(70) {
            return;
        }
        self.burning.remove(&labels);
        // The notification of the end may be lost; the list will tell.
        if self.chance(80) {
            let alert = alert(labels, Some(starts_at), Status::Resolved);
            self.old.push(alert.clone());
            let received_at = self.now;
            self.turn(Event::Alert { alert, source: Source::Webhook, received_at, trace: None }, None);
        }
    }

    fn silence_something(&mut self) {
        if self.chance(50) {
            self.silenced.clear();
        } else if let Some(labels) = self.pick(&self.burning.keys().cloned().collect::<Vec<_>>()) {
            self.silenced.insert(fingerprint_of(&labels));
        }
    }

    /// Everything works again and nothing burns: the bot must come to rest.
    fn settle(&mut self) {
        self.docker = true;
        self.prometheus = true;
        self.silenced.clear();
        self.burning.clear();
        for b in &mut self.boxes {
            b.broken = false;
            b.workload.state = RunState::Running;
        }
        for _ in 0..400 {
            self.now = self.now.plus(Duration::from_secs(2));
            self.late_effects();
            self.turn(Event::Tick, None);
            while self.in_flight.iter().any(|f| f.late_effect.is_none()) {
                self.complete_one();
            }
            if self.chance(10) {
                self.reconcile(None);
            }
        }
        let open: Vec<&Incident> = self.state.open().collect();
        assert!(open.is_empty(), "the bot does not come to rest: {open:#?}");
        assert_eq!(self.state.in_flight().count(), 0);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Moment {
    BeforeCommit,
    AfterCommit,
}

fn alert(labels: BTreeMap<String, String>, starts_at: Option<Timestamp>, status: Status) -> Alert {
    Alert {
        status,
        fingerprint: fingerprint_of(&labels),
        starts_at,
        labels,
        annotations: BTreeMap::new(),
        generator_url: None,
    }
}

/// The largest number of times within any window of this length.
fn most_within(times: &[Timestamp], window: Duration) -> usize {
    times.iter().map(|end| times.iter().filter(|t| **t <= *end && end.since(**t) < window).count()).max().unwrap_or(0)
}

/// How many histories. More of them: `MODEL_RUNS=100000 cargo test -p alert-bot model`.
fn runs() -> u64 {
    std::env::var("MODEL_RUNS").ok().and_then(|v| v.parse().ok()).unwrap_or(1_000)
}

/// What the bot wrote down in one history, turn by turn, what it remembers of it, and when it ended.
pub fn history(seed: u64, steps: usize) -> (Vec<Vec<Effect>>, State, Timestamp) {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    (world.committed, world.durable, world.now)
}

/// The policy and the scope of all histories.
pub fn setting() -> (Arc<Policy>, Scope) {
    (Arc::new(Policy::parse(POLICY).unwrap()), scope())
}

#[test]
fn no_history_breaks_a_rule() {
    let first: u64 = std::env::var("MODEL_SEED").ok().and_then(|v| v.parse().ok()).unwrap_or(0);
    let (mut deeds, mut healed, mut refused) = (0, 0, BTreeSet::new());
    for seed in first..first + runs() {
        let result = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..300 {
                world.step();
            }
            world.settle();
            (world.deeds.len(), world.healed, world.refused)
        });
        let Ok((d, h, r)) = result else {
            panic!("history {seed} breaks a rule; MODEL_SEED={seed} MODEL_RUNS=1 repeats it")
        };
        deeds += d;
        healed += h;
        refused.extend(r);
    }
    println!("{} histories, {deeds} actions, {healed} healed, refusals: {refused:?}", runs());
    if runs() >= 100 {
        // A check that never sees an action checks nothing.
        assert!(deeds > 100 && healed > 20, "{deeds} actions, {healed} healed");
        for reason in [
            Reason::NoPolicy,
            Reason::LeftToPeople,
            Reason::Hold,
            Reason::AmbiguousTarget,
            Reason::OtherProject,
            Reason::NotOptedIn,
            Reason::Protected,
            Reason::Denied,
            Reason::InvalidTarget,
            Reason::TooYoung,
            Reason::TargetBusy,
            Reason::Cooldown,
            Reason::TargetBudget,
            Reason::GlobalBudget,
            Reason::BackendUnavailable,
            Reason::BackendRefused,
        ] {
            assert!(refused.contains(&reason), "never refused for {reason}");
        }
    }
}

#[test]
fn a_thousand_alerts_of_one_cause_lead_to_one_action_and_at_most_one_page() {
    let mut world = World::new(1);
    world.alertmanager_fails = 0;
    let now = world.now;
    for i in 0..1_000 {
        let labels = set(&[("alertname", "Errors"), ("service", "api"), ("instance", &i.to_string())]);
        world.burning.insert(labels.clone(), now);
        let alert = alert(labels, Some(now), Status::Firing);
        world.turn(Event::Alert { alert, source: Source::Webhook, received_at: now, trace: None }, None);
    }
    let mut pages = 0;
    for _ in 0..30 {
        world.now = world.now.plus(Duration::from_secs(1));
        let effects = decide(&world.state, Event::Tick, world.now);
        pages += effects.iter().filter(|e| matches!(e, Effect::Page(_))).count();
        world.turn(Event::Tick, None);
        while let Some(flight) = world.in_flight.pop() {
            match flight.command {
                Command::Resolve { incident } => {
                    let event = world.resolve(&incident).unwrap();
                    world.turn(event, None);
                }
                Command::Act { action } => {
                    let deed = world.state.action(&action).cloned().unwrap();
                    world.take_effect(&deed);
                    world.burning.clear();
                    world.turn(Event::Returned { action, outcome: CallOutcome::Done, evidence: None }, None);
                }
                Command::Probe { incident } => {
                    let event = world.probe(&incident).unwrap();
                    world.turn(event, None);
                }
                _ => {}
            }
        }
    }
    assert_eq!(world.deeds.len(), 1);
    assert!(pages <= 1);
}

#[test]
fn an_end_that_comes_before_its_beginning_opens_nothing() {
    let mut world = World::new(1);
    let labels = set(&[("alertname", "Errors"), ("service", "api")]);
    let received_at = world.now;
    let started = received_at.minus(Duration::from_secs(30));
    for status in [Status::Resolved, Status::Firing] {
        let alert = alert(labels.clone(), Some(started), status);
        world.turn(Event::Alert { alert, source: Source::Webhook, received_at, trace: None }, None);
    }
    assert_eq!(world.state.open().count(), 0);
    let key = AlertKey { fingerprint: fingerprint_of(&labels), starts_at: started };
    assert!(world.state.incident(&key.incident_id()).is_none());
}

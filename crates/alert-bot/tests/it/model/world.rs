//! What is outside the bot: containers, alerts, what measures and what lists them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use alert_bot::{
    engine::{
        Action, Alert, AlertLook, AlertStatus, CallOutcome, Event, Freeze, Health, OperatorCommand, Order, Probe,
        Reason, ReleaseOrder, RunState, Scope, Seen, Sli, Snapshot, Source, State, Status, Suppression, Topology, Tri,
        Workload, fingerprint_of, possible,
        target::{self, Candidate, Refusal},
    },
    policy::Verb,
    timestamp::Timestamp,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    bots::{Asleep, InFlight, Moment},
    rules::Ledger,
    sabotage::Sabotage,
};

pub const SERVICES: [&str; 15] = [
    "api",
    "web",
    "mail",
    "db",
    "cache",
    "lamp",
    "pump",
    "fan",
    "belt",
    "prometheus",
    "vault",
    "guarded",
    "lone",
    "twin",
    "foreign",
];
const NAMES: [&str; 7] = ["Errors", "Latency", "Down", "Slow", "Asked", "Disk", "Unheard"];
const ORDERS: [OperatorCommand; 5] = [
    OperatorCommand::Approve,
    OperatorCommand::Reject,
    OperatorCommand::TakeOver,
    OperatorCommand::Retry,
    OperatorCommand::Close,
];

/// What a service needs.
pub fn needs(service: &str) -> &'static [&'static str] {
    match service {
        "api" => &["db", "cache"],
        "web" => &["api"],
        "mail" => &["db"],
        _ => &[],
    }
}

/// The same, through others.
fn ancestors(service: &str) -> BTreeSet<&'static str> {
    let direct = needs(service).iter().copied();
    direct.flat_map(|one| std::iter::once(one).chain(ancestors(one))).collect()
}

/// What traces may show beside it: a need that no label names, and two services that call each other.
const CALLS: [(&str, &str); 3] = [("mail", "cache"), ("cache", "mail"), ("guarded", "twin")];

/// What may be touched: neither denied nor protected, its own, opted in, and one of its kind.
pub fn touchable(service: &str) -> bool {
    matches!(service, "api" | "web" | "mail" | "db" | "cache" | "lamp" | "pump" | "fan" | "belt")
}

#[derive(Clone)]
pub struct Box_ {
    pub workload: Workload,
    /// A restart repairs it.
    pub curable: bool,
    /// Users notice.
    pub broken: bool,
}

pub struct World {
    pub rng: StdRng,
    pub now: Timestamp,
    pub sabotage: Option<Sabotage>,
    pub boxes: Vec<Box_>,
    /// Alerts that burn: labels → start.
    pub burning: BTreeMap<BTreeMap<String, String>, Timestamp>,
    pub silenced: BTreeSet<String>,
    pub prometheus: bool,
    pub docker: bool,
    /// Of a hundred questions, so many go unanswered.
    pub alertmanager_fails: u32,
    /// Everything ever delivered, for redelivery.
    pub old: Vec<Alert>,
    /// Durable: acknowledged notifications not worked through, whichever bot took them.
    pub deliveries: Vec<(Alert, Timestamp)>,
    /// Durable: what was committed, turn by turn, and what it amounts to.
    pub committed: Vec<Vec<alert_bot::engine::Effect>>,
    pub durable: State,
    /// Durable: the lease's token.
    pub lease: u64,
    /// Of the bot that acts: its memory, its token, and what it waits for.
    pub state: State,
    pub token: u64,
    pub in_flight: Vec<InFlight>,
    /// The bot that acted before, stopped in the middle of it.
    pub asleep: Option<Asleep>,
    pub ledger: Ledger,
}

pub fn scope() -> Scope {
    Scope { project: "p".to_owned(), own_id: Some("bot".to_owned()) }
}

pub fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub fn alert(labels: BTreeMap<String, String>, starts_at: Option<Timestamp>, status: Status) -> Alert {
    Alert {
        status,
        fingerprint: fingerprint_of(&labels),
        starts_at,
        labels,
        annotations: BTreeMap::new(),
        generator_url: None,
    }
}

fn workload(service: &str, copy: u32, now: Timestamp) -> Workload {
    Workload {
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
    }
}

impl World {
    pub fn new(seed: u64, sabotage: Option<Sabotage>) -> Self {
        // A Friday, two minutes before the maintenance window.
        let now = Timestamp::from_millis(1_800_000_000_000);
        let copies = |service| if service == "twin" { 1..=2 } else { 1..=1 };
        let boxes = SERVICES.iter().flat_map(|s| copies(*s).map(|copy| workload(s, copy, now)));
        let boxes = boxes.map(|workload| Box_ { workload, curable: true, broken: false }).collect();
        let state = State::new(Sabotage::policy(sabotage), scope());
        Self {
            rng: StdRng::seed_from_u64(seed),
            now,
            sabotage,
            boxes,
            burning: BTreeMap::new(),
            silenced: BTreeSet::new(),
            prometheus: true,
            docker: true,
            alertmanager_fails: 20,
            old: Vec::new(),
            deliveries: Vec::new(),
            committed: Vec::new(),
            durable: state.clone(),
            lease: 1,
            state,
            token: 1,
            in_flight: Vec::new(),
            asleep: None,
            ledger: Ledger::default(),
        }
    }

    pub fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        let i = self.rng.random_range(0..from.len());
        from.get(i).cloned()
    }

    /// What a service needs by its labels and by what the bot has learned; of those that call each other in a circle
    /// none counts.
    pub fn ancestors(&self, service: &str) -> BTreeSet<&'static str> {
        let learned: Vec<_> = CALLS
            .into_iter()
            .filter(|(a, b)| self.durable.edges().any(|edge| edge.client == *a && edge.server == *b))
            .collect();
        let reach = |from: &str| {
            let mut found: BTreeSet<&'static str> = BTreeSet::new();
            loop {
                let known = found.len();
                for one in found.clone().into_iter().chain(SERVICES.into_iter().filter(|s| *s == from)) {
                    let called = learned.iter().filter(|(a, _)| *a == one).map(|(_, b)| *b);
                    found.extend(needs(one).iter().copied().chain(called));
                }
                if found.len() == known {
                    return found;
                }
            }
        };
        let declared = ancestors(service);
        let counts = |one: &&'static str| *one != service && (declared.contains(one) || !reach(one).contains(service));
        reach(service).into_iter().filter(counts).collect()
    }

    // --- what the bot finds when it looks -------------------------------------

    fn candidates(&self) -> Vec<Candidate> {
        let candidate = |b: &Box_| {
            let blind = self.sabotage == Some(Sabotage::Symptoms);
            let needs: &[&str] = if blind { &[] } else { needs(&b.workload.services[0]) };
            let depends_on = needs.iter().map(|s| (*s).to_owned()).collect();
            Candidate { depends_on, ..Candidate::from(&b.workload) }
        };
        self.boxes.iter().map(candidate).collect()
    }

    pub fn resolve(&mut self, incident: &str) -> Option<Event> {
        let open = self.state.incident(incident)?.clone();
        let candidates = self.candidates();
        let workload = if self.docker {
            // As the driver does: what needs what is as fresh as the look-up.
            self.turn(Event::Topology(Topology::new(candidates.clone(), "p")), None);
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

    pub fn inspect(&self, which: impl Fn(&Workload) -> bool) -> Result<Option<Workload>, String> {
        if self.docker {
            Ok(self.boxes.iter().find(|b| which(&b.workload)).map(|b| b.workload.clone()))
        } else {
            Err("down".to_owned())
        }
    }

    pub fn probe(&mut self, id: &str) -> Option<Event> {
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
        self.ledger.looked(id, running && fresh_good && firing == Tri::No && self.prometheus, self.now);
        let probe = if self.sabotage == Some(Sabotage::Credulous) {
            Probe { container, firing: Tri::No, sli: Sli::Value { value: 0.0, good: true, age_ms: 0 } }
        } else {
            Probe { container, firing, sli }
        };
        Some(Event::Probed { incident: id.to_owned(), probe })
    }

    pub fn reconcile(&mut self, die: Option<Moment>) {
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

    // --- what the bot does -----------------------------------------------------

    /// A call to Docker, or to an address that the policy names, comes to its end.
    pub fn finish_act(&mut self, id: &str, die: Option<Moment>) {
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
            // It happens after all, within the time that the container has to stop.
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

    /// It really happens.
    pub fn take_effect(&mut self, action: &Action) {
        if !action.verb.changes() {
            return;
        }
        let now = self.now;
        let target = self.boxes.iter_mut().find(|b| b.workload.id == action.target.id).expect("the target");
        if action.verb == Verb::Start && target.workload.state == RunState::Running {
            return;
        }
        if action.verb != Verb::Webhook {
            // Even if the clock was set back, a start has its own time.
            let after = target.workload.started_at.map_or(now, |s| now.max(s.plus(Duration::from_millis(1))));
            target.workload.started_at = Some(after);
            target.workload.state = RunState::Running;
        }
        if target.curable {
            target.broken = false;
        }
        let permitted = target::permitted(&Candidate::from(&target.workload), &self.state.policy, &scope());
        assert_eq!(permitted, Ok(()), "acted on what must not be touched");
        self.ledger.done(action);
    }

    pub fn late_effects(&mut self) {
        let now = self.now;
        let is_due = |f: &InFlight| f.late_effect.as_ref().is_some_and(|(at, _)| *at <= now);
        let (due, rest): (Vec<_>, _) = std::mem::take(&mut self.in_flight).into_iter().partition(is_due);
        self.in_flight = rest;
        for (_, action) in due.into_iter().filter_map(|flight| flight.late_effect) {
            self.take_effect(&action);
        }
    }

    // --- what happens ------------------------------------------------------------

    pub fn step(&mut self) {
        self.late_effects();
        match self.rng.random_range(0..114) {
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
            48..49 => {
                let back = Duration::from_secs(self.rng.random_range(0..20));
                self.now = self.now.minus(back);
                self.ledger.clock_set_back(back);
            }
            49..51 => self.stop_something(),
            51..75 => self.complete_one(),
            75..81 => self.order_something(),
            81..82 => self.freeze_or_thaw(),
            82..83 => self.hand_over(None),
            83..86 => self.wake(),
            86..89 => self.release_something(),
            89..90 => self.show_calls(),
            _ => self.pass_time(),
        }
    }

    fn pass_time(&mut self) {
        let by = self.rng.random_range(100..4_000);
        self.now = self.now.plus(Duration::from_millis(by));
        self.late_effects();
        self.work_through();
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
            set(&[("alertname", name), ("service", service), ("severity", "critical")])
        };
        let now = self.now;
        self.burning.entry(labels).or_insert(now);
        // A fault beneath them takes many with it.
        if self.chance(3) {
            for service in SERVICES {
                self.burning.entry(set(&[("alertname", "Errors"), ("service", service)])).or_insert(now);
            }
        }
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
        // What the bot that stands by has taken waits until the other one looks.
        if self.chance(75) {
            self.work_through();
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

    fn order_something(&mut self) {
        let open: Vec<_> = self.state.open().cloned().collect();
        let Some(incident) = self.pick(&open) else { return };
        let orders: Vec<_> = ORDERS.into_iter().filter(|o| possible(&incident, *o).is_ok()).collect();
        let Some(command) = self.pick(&orders) else { return };
        let order = Order { incident: incident.id, command, by: "ada".to_owned(), note: None };
        let die = self.maybe_die();
        self.turn(Event::Ordered(order), die);
    }

    fn freeze_or_thaw(&mut self) {
        let until = self.chance(70).then(|| self.now.plus(Duration::from_secs(30)));
        let freeze = Freeze { by: "ada".to_owned(), why: "a move".to_owned(), since: self.now, until, storm: false };
        let frozen = self.ledger.frozen(self.now);
        let die = self.maybe_die();
        self.turn(Event::Frozen { freeze: (!frozen).then_some(freeze), by: "ada".to_owned() }, die);
    }

    /// Somebody has looked at a target, or at nothing at all.
    fn release_something(&mut self) {
        let target = match self.rng.random_range(0..3) {
            0 => self.pick(&SERVICES).map(str::to_owned),
            _ => self.ledger.deeds.last().map(|deed| deed.target.name.clone()),
        };
        let Some(target) = target else { return };
        let order = ReleaseOrder { target, global: self.chance(30), by: "ada".to_owned(), why: "seen".to_owned() };
        let die = self.maybe_die();
        self.turn(Event::Released(order), die);
    }

    fn show_calls(&mut self) {
        let calls = CALLS.into_iter().filter(|_| self.rng.random_range(0..2) == 0);
        let calls = calls.map(|(a, b)| (a.to_owned(), b.to_owned())).collect();
        let die = self.maybe_die();
        self.turn(Event::Calls(calls), die);
    }

    /// Everything works again and nothing burns: the bot must come to rest.
    pub fn settle(&mut self) {
        self.docker = true;
        self.prometheus = true;
        self.silenced.clear();
        self.burning.clear();
        for b in &mut self.boxes {
            b.broken = false;
            b.workload.state = RunState::Running;
        }
        self.wake();
        self.work_through();
        self.turn(Event::Frozen { freeze: None, by: "ada".to_owned() }, None);
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
            if self.state.open().next().is_none() && self.in_flight.is_empty() {
                break;
            }
        }
        let open: Vec<_> = self.state.open().collect();
        assert!(open.is_empty(), "the bot does not come to rest: {open:#?}");
        assert_eq!(self.state.in_flight().count(), 0);
    }
}

//! Causes before symptoms, the brake in a storm, and the orders of people: the engine alone, with
//! every event and every second given.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use alert_bot::{
    engine::{
        Alert, AlertLook, AlertStatus, CallOutcome, Command, Effect, Event, Freeze, Health, Incident, OperatorCommand,
        Order, Outcome, Phase, Probe, Reason, RunState, Scope, Seen, Sli, Source, State, Status, Topology, Tri,
        Workload, decide, fingerprint_of,
        target::{self, Candidate},
    },
    policy::Policy,
    timestamp::Timestamp,
};

const POLICY: &str = r"
version: 1
mode: auto
storm: {share: 0.3, at_least: 3, within: 2m, freeze: 5m}
settle: 30s
defaults: {min_age: 0s, stable_for: 4s, within: 20s, every: 2s, max_age: 10s}
rules:
  - name: down
    match: {alertname: Down}
    target: {label: service}
    steps: [{action: start}, {action: restart}, {action: roll_back}]
    verify: {sli: x, above: 0}
  - name: asked
    match: {alertname: Asked}
    mode: approve
    target: {label: service}
    steps: [{action: restart}]
    verify: {sli: x, above: 0}
  - name: slow
    match: {alertname: Slow}
    explains_dependents: true
    target: {label: service}
    steps: [{action: diagnose}]
    verify: {sli: x, above: 0}
  - name: elsewhere
    match: {alertname: Elsewhere}
    target: {label: service}
    steps: [{action: webhook, url: 'http://elsewhere/', timeout: 5s}, {action: restart}]
    budget: {actions: 3, window: 5m, cooldown: 0s}
    verify: {sli: x, above: 0}
  - name: disk
    match: {alertname: Disk}
    leave_to_people: nothing can be done
";

/// Ten services; `api` needs `db` and `cache`, `web` needs `api`, `report` needs `db`.
const SERVICES: [(&str, &[&str]); 10] = [
    ("api", &["db", "cache"]),
    ("web", &["api"]),
    ("report", &["db"]),
    ("db", &[]),
    ("cache", &[]),
    ("a", &[]),
    ("b", &[]),
    ("c", &[]),
    ("d", &[]),
    ("e", &[]),
];

const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);

struct Bot {
    state: State,
    now: Timestamp,
    /// Verb and container of every action, in order.
    acted: Vec<String>,
    pages: usize,
    closed: Vec<Incident>,
    /// What comes of an action.
    outcome: CallOutcome,
    /// Whether the alert still fires when it is looked at.
    firing: Tri,
}

impl Bot {
    fn new() -> Self {
        let scope = Scope { project: "p".to_owned(), own_id: None };
        let mut bot = Self {
            state: State::new(Arc::new(Policy::parse(POLICY).unwrap()), scope),
            now: START,
            acted: Vec::new(),
            pages: 0,
            closed: Vec::new(),
            outcome: CallOutcome::Done,
            firing: Tri::No,
        };
        let containers = SERVICES.iter().map(|(service, needs)| candidate(service, needs)).collect();
        bot.event(Event::Topology(Topology::new(containers, "p")));
        bot
    }

    /// One event, and everything that follows from it: look-ups find a running, healthy container
    /// as `look` says, and actions succeed.
    fn event(&mut self, event: Event) {
        self.event_with(event, |_| {});
    }

    fn event_with(&mut self, event: Event, look: fn(&mut Workload)) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in decide(&self.state, event, self.now) {
                self.state.apply(&effect);
                match effect {
                    Effect::Do(Command::Resolve { incident }) => {
                        let service = self.state.incident(&incident).unwrap().service();
                        let mut found = workload(service.as_deref().unwrap());
                        look(&mut found);
                        let alert = AlertLook::Listed(AlertStatus { suppressed: None });
                        // A look takes a moment: one of the same instant as an action says nothing.
                        self.now = self.now.plus(Duration::from_millis(1));
                        let seen = Seen { at: self.now, workload: Ok(found), alert };
                        events.push(Event::Resolved { incident, seen });
                    }
                    Effect::Do(Command::Act { action }) => {
                        let act = self.state.action(&action).unwrap();
                        self.acted.push(format!("{} {}", act.verb, act.target.service));
                        let (outcome, evidence) = (self.outcome.clone(), None);
                        events.push(Event::Returned { action, outcome, evidence });
                    }
                    Effect::Do(Command::Probe { incident }) => {
                        let service = self.state.incident(&incident).unwrap().service();
                        let container = Ok(Some(workload(service.as_deref().unwrap())));
                        let sli = Sli::Value { value: 1.0, good: true, age_ms: 0 };
                        let firing = self.firing.clone();
                        events.push(Event::Probed { incident, probe: Probe { container, firing, sli } });
                    }
                    Effect::Page(_) => self.pages += 1,
                    Effect::Put(incident) if incident.phase == Phase::Closed => self.closed.push(*incident),
                    _ => {}
                }
            }
        }
    }

    fn fires(&mut self, name: &str, service: &str) -> String {
        self.fires_with(name, service, |_| {})
    }

    fn fires_with(&mut self, name: &str, service: &str, look: fn(&mut Workload)) -> String {
        let alert = alert(name, service, Status::Firing, self.now);
        let fingerprint = alert.fingerprint.clone();
        let received_at = self.now;
        self.event_with(Event::Alert { alert, source: Source::Webhook, received_at, trace: None }, look);
        self.state.open().find(|i| i.alert.fingerprint == fingerprint).map(|i| i.id.clone()).unwrap_or_default()
    }

    fn ends(&mut self, name: &str, service: &str) {
        let alert = alert(name, service, Status::Resolved, self.now);
        let received_at = self.now;
        self.event(Event::Alert { alert, source: Source::Webhook, received_at, trace: None });
    }

    fn passes(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now = self.now.plus(Duration::from_secs(1));
            self.event(Event::Tick);
        }
    }

    fn reason(&self, id: &str) -> Option<Reason> {
        self.state.incident(id).unwrap().decision.as_ref().unwrap().reason
    }

    fn order(&mut self, incident: &str, command: OperatorCommand) {
        let order = Order { incident: incident.to_owned(), command, by: "ada".to_owned(), note: None };
        self.event(Event::Ordered(order));
    }
}

fn candidate(service: &str, needs: &[&str]) -> Candidate {
    Candidate {
        id: format!("id-{service}"),
        name: format!("p-{service}-1"),
        services: vec![service.to_owned()],
        project: Some("p".to_owned()),
        enabled: true,
        protected: false,
        state: RunState::Running,
        depends_on: needs.iter().map(|s| (*s).to_owned()).collect(),
        image: "image".to_owned(),
        replica_of: None,
    }
}

fn workload(service: &str) -> Workload {
    Workload {
        id: format!("id-{service}"),
        name: format!("p-{service}-1"),
        services: vec![service.to_owned()],
        project: Some("p".to_owned()),
        enabled: true,
        protected: false,
        state: RunState::Running,
        health: Some(Health::Healthy),
        started_at: Some(START.minus(Duration::from_secs(3600))),
        finished_at: None,
        exit_code: None,
        oom_killed: false,
        restart_count: 0,
        image: "image".to_owned(),
    }
}

fn alert(name: &str, service: &str, status: Status, at: Timestamp) -> Alert {
    let labels: BTreeMap<_, _> =
        [("alertname", name), ("service", service)].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
    Alert {
        status,
        fingerprint: fingerprint_of(&labels),
        starts_at: (status == Status::Firing).then_some(at),
        labels,
        annotations: BTreeMap::new(),
        generator_url: None,
    }
}

#[test]
fn the_cause_is_healed_and_its_symptom_is_closed_by_it() {
    let mut bot = Bot::new();
    let db = bot.fires("Slow", "db");
    let api = bot.fires("Down", "api");
    let web = bot.fires("Down", "web");
    assert_eq!(bot.acted, ["diagnose db"], "a look at the cause, and nothing to what needs it");
    assert_eq!(bot.reason(&api), Some(Reason::CauseElsewhere));
    assert_eq!(bot.reason(&web), Some(Reason::CauseElsewhere));
    assert_eq!(bot.state.incident(&api).unwrap().cause.as_deref(), Some(db.as_str()));
    bot.passes(60);
    assert_eq!(bot.acted.len(), 1, "it waits for as long as the cause burns");

    bot.ends("Slow", "db");
    bot.ends("Down", "api");
    let api = bot.closed.iter().find(|i| i.id == api).unwrap();
    assert_eq!(api.outcome, Some(Outcome::Covered));
}

#[test]
fn what_burns_on_after_its_cause_was_healed_is_acted_on_after_a_while() {
    let mut bot = Bot::new();
    bot.fires("Down", "db");
    let api = bot.fires("Down", "api");
    assert_eq!(bot.acted, ["restart db"]);
    bot.passes(8);
    assert!(bot.closed.iter().any(|i| i.outcome == Some(Outcome::Healed)), "{:?}", bot.closed);
    bot.passes(15);
    assert_eq!(bot.reason(&api), Some(Reason::CauseElsewhere), "it is given time");
    assert_eq!(bot.acted, ["restart db"]);
    bot.passes(30);
    assert_eq!(bot.acted, ["restart db", "restart api"], "then it is a cause of its own");
}

#[test]
fn whoever_knows_better_has_it_begin_anew() {
    let mut bot = Bot::new();
    bot.fires("Slow", "db");
    let api = bot.fires("Down", "api");
    bot.order(&api, OperatorCommand::Retry);
    assert_eq!(bot.acted, ["diagnose db", "restart api"]);
}

#[test]
fn a_cause_with_many_symptoms_is_no_storm_and_many_causes_are_one() {
    let mut bot = Bot::new();
    bot.fires("Down", "db");
    for service in ["api", "web", "report"] {
        bot.fires("Down", service);
    }
    assert!(bot.state.freeze().is_none(), "four services, one cause");
    bot.fires("Disk", "a");
    bot.fires("Disk", "b");
    bot.fires("Disk", "c");
    assert!(bot.state.freeze().is_none(), "what is left to people needs no brake");

    let mut bot = Bot::new();
    for service in ["a", "b", "c"] {
        bot.fires("Down", service);
    }
    assert!(bot.state.freeze().is_none(), "three of ten are not more than three tenths");
    let before = bot.acted.len();
    let d = bot.fires("Down", "d");
    assert!(bot.state.freeze().unwrap().storm);
    assert_eq!(bot.reason(&d), Some(Reason::Storm));
    bot.fires("Down", "e");
    assert_eq!(bot.pages, 1, "people are told once");
    assert_eq!(bot.acted.len(), before);
    bot.passes(5 * 60 + 1);
    assert!(bot.state.freeze().is_none(), "it ends by itself");
    assert!(bot.acted.iter().any(|a| a == "restart d"), "{:?}", bot.acted);
}

#[test]
fn what_may_not_be_touched_and_a_second_name_are_no_storm() {
    let mut bot = Bot::new();
    let two_names = Candidate { services: vec!["a".to_owned(), "alias".to_owned()], ..candidate("a", &[]) };
    let denied = Candidate { services: vec!["x".to_owned(), "prometheus".to_owned()], ..candidate("x", &[]) };
    let twin = |name: &str| Candidate { id: name.to_owned(), name: name.to_owned(), ..candidate("twin", &[]) };
    let containers = vec![two_names, denied, twin("twin-1"), twin("twin-2"), candidate("b", &[]), candidate("c", &[])];
    bot.event(Event::Topology(Topology::new(containers, "p")));
    for service in ["a", "alias", "x", "prometheus", "twin", "b"] {
        bot.fires("Down", service);
    }
    assert!(bot.state.freeze().is_none(), "two of three burn: {:?}", bot.state.freeze());
    bot.fires("Down", "c");
    assert!(bot.state.freeze().unwrap().why.starts_with("3 of 3 services"), "{:?}", bot.state.freeze());
}

#[test]
fn a_cause_that_is_heard_of_last_explains_what_burned_before_it() {
    let mut bot = Bot::new();
    for service in ["api", "report", "a"] {
        bot.fires("Down", service);
    }
    assert!(bot.state.freeze().is_none(), "three of ten are not more than three tenths");
    bot.fires("Down", "db");
    assert!(bot.state.freeze().is_none(), "a database with two that need it, and one more, are two causes");
    bot.fires("Down", "b");
    assert!(bot.state.freeze().is_none());
    bot.fires("Down", "c");
    assert!(bot.state.freeze().is_some(), "four are too many");
}

#[test]
fn a_call_that_was_not_answered_is_not_made_again_and_the_proof_says_what_it_was_good_for() {
    let unheard = CallOutcome::Unknown("no answer".to_owned());
    let mut bot = Bot { outcome: unheard.clone(), ..Bot::new() };
    let a = bot.fires("Elsewhere", "a");
    assert_eq!(bot.acted, ["webhook a"]);
    assert_eq!(bot.state.incident(&a).unwrap().phase, Phase::Verifying);
    assert_eq!(bot.state.in_flight().count(), 0, "nothing can be inspected");
    bot.passes(8);
    assert_eq!(bot.closed.iter().find(|i| i.id == a).unwrap().outcome, Some(Outcome::Healed), "it was heard after all");
    assert_eq!(bot.acted, ["webhook a"]);

    // It was not, as it seems: the next step follows.
    let mut bot = Bot { outcome: unheard, firing: Tri::Yes, ..Bot::new() };
    bot.fires("Elsewhere", "a");
    bot.passes(25);
    assert_eq!(bot.acted, ["webhook a", "restart a"]);

    // What certainly never arrived may be sent once more.
    let never = CallOutcome::NotPerformed("connection refused".to_owned());
    let mut bot = Bot { outcome: never, ..Bot::new() };
    let a = bot.fires("Elsewhere", "a");
    bot.passes(60);
    assert_eq!(bot.acted, ["webhook a", "webhook a"]);
    assert_eq!(bot.reason(&a), Some(Reason::ActionFailed));

    // A no is a no.
    let mut bot = Bot { outcome: CallOutcome::Refused("422".to_owned()), ..Bot::new() };
    let a = bot.fires("Elsewhere", "a");
    bot.passes(60);
    assert_eq!((bot.acted.len(), bot.reason(&a)), (1, Some(Reason::BackendRefused)));
}

#[test]
fn a_call_that_was_on_its_way_when_the_process_ended_is_not_made_again() {
    let mut bot = Bot { outcome: CallOutcome::Unknown("lost".to_owned()), ..Bot::new() };
    // The intent is on disk, and nobody hears of the rest.
    let (labels, now) = (alert("Elsewhere", "a", Status::Firing, bot.now), bot.now);
    for event in [Event::Alert { alert: labels, source: Source::Webhook, received_at: now, trace: None }] {
        for effect in decide(&bot.state, event, bot.now) {
            bot.state.apply(&effect);
        }
    }
    let id = bot.state.open().next().unwrap().id.clone();
    let seen = Seen { at: bot.now, workload: Ok(workload("a")), alert: AlertLook::Unasked };
    for effect in decide(&bot.state, Event::Resolved { incident: id.clone(), seen }, bot.now) {
        bot.state.apply(&effect);
    }
    assert_eq!(bot.state.in_flight().count(), 1);
    bot.event(Event::Boot);
    bot.passes(8);
    assert!(bot.acted.is_empty(), "{:?}", bot.acted);
    assert_eq!(bot.closed.iter().find(|i| i.id == id).unwrap().outcome, Some(Outcome::Healed));
}

#[test]
fn frozen_nothing_is_done_but_looked_at() {
    let mut bot = Bot::new();
    let (since, until) = (bot.now, None);
    let freeze = Freeze { by: "ada".to_owned(), why: "moving".to_owned(), since, until, storm: false };
    bot.event(Event::Frozen { freeze: Some(freeze), by: "ada".to_owned() });
    let a = bot.fires("Down", "a");
    bot.fires("Slow", "db");
    assert_eq!(bot.reason(&a), Some(Reason::Frozen));
    assert_eq!(bot.acted, ["diagnose db"]);
    bot.event(Event::Frozen { freeze: None, by: "ada".to_owned() });
    bot.passes(1);
    assert_eq!(bot.acted, ["diagnose db", "restart a"]);
}

#[test]
fn a_step_waits_for_approval_and_a_person_may_say_no() {
    let mut bot = Bot::new();
    let a = bot.fires("Asked", "a");
    assert_eq!((bot.reason(&a), bot.pages), (Some(Reason::AwaitingApproval), 1));
    bot.passes(60);
    assert_eq!((bot.acted.len(), bot.pages), (0, 1));
    bot.order(&a, OperatorCommand::Approve);
    assert_eq!(bot.acted, ["restart a"]);

    let b = bot.fires("Asked", "b");
    bot.order(&b, OperatorCommand::Reject);
    bot.passes(60);
    assert_eq!(bot.acted, ["restart a"]);
    assert_eq!(bot.reason(&b), Some(Reason::Rejected));
    bot.order(&b, OperatorCommand::Approve);
    assert_eq!(bot.acted, ["restart a"], "what was rejected does not wait any more");
    bot.order(&b, OperatorCommand::Close);
    assert_eq!(bot.closed.last().unwrap().outcome, Some(Outcome::ClosedByOperator));
}

#[test]
fn two_that_wait_for_people_at_the_same_moment_are_one_call() {
    let mut bot = Bot::new();
    let (since, until) = (bot.now, Some(bot.now.plus(Duration::from_secs(10))));
    let freeze = Freeze { by: "ada".to_owned(), why: "moving".to_owned(), since, until, storm: false };
    bot.event(Event::Frozen { freeze: Some(freeze), by: "ada".to_owned() });
    let received_at = bot.now;
    for severity in ["critical", "warning"] {
        let mut alert = alert("Asked", "a", Status::Firing, bot.now);
        alert.labels.insert("severity".to_owned(), severity.to_owned());
        alert.fingerprint = fingerprint_of(&alert.labels);
        bot.event(Event::Alert { alert, source: Source::Webhook, received_at, trace: None });
    }
    assert_eq!((bot.state.open().count(), bot.pages), (2, 0));
    bot.passes(20);
    assert_eq!(bot.pages, 1, "both wait for approval since the freeze has ended");
}

#[test]
fn what_was_taken_over_is_left_alone() {
    let mut bot = Bot::new();
    bot.fires("Slow", "db");
    let api = bot.fires("Down", "api");
    bot.order(&api, OperatorCommand::TakeOver);
    bot.ends("Slow", "db");
    bot.passes(120);
    assert_eq!(bot.acted, ["diagnose db"]);
    assert_eq!(bot.reason(&api), Some(Reason::TakenOver));
}

#[test]
fn what_is_taken_over_when_its_alert_has_ended_already_is_over() {
    let mut bot = Bot::new();
    let a = bot.fires("Down", "a");
    bot.ends("Down", "a");
    assert_eq!(bot.state.incident(&a).unwrap().phase, Phase::Verifying, "the repair is still being proven");
    bot.order(&a, OperatorCommand::TakeOver);
    assert!(bot.state.incident(&a).is_none(), "nobody would ever close it");
    assert_eq!(bot.closed.last().unwrap().outcome, Some(Outcome::Resolved));
}

#[test]
fn what_a_person_stopped_stays_stopped_until_it_runs_again() {
    let down = |w: &mut Workload| {
        w.state = RunState::Down;
        w.finished_at = w.started_at;
    };
    let mut bot = Bot::new();
    bot.event(Event::Stopped { target: "p-a-1".to_owned(), at: bot.now });
    let a = bot.fires_with("Down", "a", down);
    assert_eq!(bot.reason(&a), Some(Reason::ManualStop));
    assert!(bot.acted.is_empty());

    let containers = SERVICES.iter().map(|(service, needs)| candidate(service, needs)).collect();
    bot.event(Event::Topology(Topology::new(containers, "p")));
    bot.ends("Down", "a");
    bot.passes(1);
    bot.fires_with("Down", "a", down);
    assert_eq!(bot.acted, ["start a"], "it ran meanwhile: this is another matter");

    // The bot's own restart stops the container too.
    bot.fires("Down", "b");
    bot.event(Event::Stopped { target: "p-b-1".to_owned(), at: bot.now });
    bot.ends("Down", "b");
    bot.passes(200);
    bot.fires_with("Down", "b", down);
    assert_eq!(bot.acted.last().unwrap(), "start b");
}

#[test]
fn what_never_stays_up_is_rolled_back_and_not_started_once_more() {
    let mut bot = Bot::new();
    bot.fires_with("Down", "a", |w| {
        w.state = RunState::Changing;
        w.restart_count = 5;
        w.exit_code = Some(64);
    });
    assert_eq!(bot.acted, ["roll_back a"]);
}

#[test]
fn a_replica_is_not_a_second_target() {
    let policy = Policy::parse(POLICY).unwrap();
    let scope = Scope { project: "p".to_owned(), own_id: None };
    let replica = Candidate {
        id: "id-2".to_owned(),
        name: "p-a-2".to_owned(),
        replica_of: Some("id-a".to_owned()),
        ..candidate("a", &[])
    };
    let both = [candidate("a", &[]), replica];
    assert_eq!(target::choose(&both, Some("a"), &policy, &scope).unwrap().id, "id-a");
}

//! How often people are disturbed in a day: by Alertmanager alone, and with the
//! engine between the alerts and them. See README.md beside this file.

#![allow(missing_docs, clippy::unwrap_used)]

mod alertmanager;
mod day;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use alert_bot::{
    engine::{
        Alert, AlertLook, AlertStatus, CallOutcome, Command, Effect, Event, Health, Probe, RunState, Scope, Seen, Sli,
        Snapshot, Source, State, Status, Suppression, Topology, Tri, Workload, decide, fingerprint_of,
        target::{Candidate, Refusal},
    },
    journal::Journal,
    metrics::Metrics,
    notify::{self, MailSettings, Mailer, Notifier, Receivers, Security, Slack, Webhook},
    policy::{Mode, Policy, Verb},
    timestamp::Timestamp,
};
use alertmanager::{Alertmanager, Inhibitions, Labels, Route};
use clap::Parser;
use day::{Day, LENGTH, Second};
use telemetry::{Runtime, config::Secret};

const SEED: u64 = 20_260_701;
/// Slack tells these only to people who take part in the thread.
const REPLIES: &str = "slack: replies in a thread";
/// After a repair the indicator needs so long to be good again.
const RECOVERY: Second = 20;

fn route(severity: &'static str, wait: Second, interval: Second, repeat: Second, receivers: u64) -> Route {
    Route { severity, names: None, wait, interval, repeat, receivers }
}

/// The routes to people before the engine told them anything.
fn plain() -> Vec<Route> {
    vec![route("critical", 5, 60, 3600, 2), route("warning", 30, 300, 4 * 3600, 1)]
}

/// The routes beside the engine: a safety net for what burns on.
fn beside() -> Vec<Route> {
    let own = regex::Regex::new("^(?:Bot.+|Guard.+|AuditBroken|EscalationsUndelivered|Alertmanager.+|RuleFailures)$")
        .unwrap();
    vec![
        Route { names: Some(own), ..route("critical", 5, 60, 3600, 2) },
        route("critical", 300, 300, 4 * 3600, 2),
        route("warning", 900, 900, 12 * 3600, 1),
    ]
}

/// Compose's services, and what they need.
const SERVICES: &[(&str, &[&str])] = &[
    ("auth-api", &["postgres", "redis"]),
    ("drift-inference", &["lake"]),
    ("gateway", &[]),
    ("inventory-api", &["postgres"]),
    ("lake", &[]),
    ("loki", &[]),
    ("notification-receiver", &[]),
    ("notification-worker", &["postgres"]),
    ("otel-collector", &[]),
    ("payment-api", &["postgres"]),
    ("postgres", &[]),
    ("redis", &[]),
    ("telemetry-generator", &["lake"]),
    ("transaction-api", &["postgres", "redis"]),
];

struct World {
    day: Day,
    /// When a story was ended by a repair.
    cured: BTreeMap<usize, Second>,
    started: BTreeMap<String, Second>,
    begin: Timestamp,
}

impl World {
    fn new(begin: Timestamp) -> Self {
        Self { day: Day::new(SEED), cured: BTreeMap::new(), started: BTreeMap::new(), begin }
    }

    fn at(&self, second: Second) -> Timestamp {
        self.begin.plus(Duration::from_secs(second))
    }

    /// What burns, and since when.
    fn firing(&self, now: Second) -> BTreeMap<Labels, Second> {
        let mut firing = BTreeMap::new();
        for life in &self.day.lives {
            let until = self.cured.get(&life.story).map_or(life.until, |cured| life.until.min(*cured));
            if life.from <= now && now < until {
                let labels: Labels = life.labels.iter().map(|(k, v)| ((*k).to_owned(), v.clone())).collect();
                let since = firing.entry(labels).or_insert(life.from);
                *since = (*since).min(life.from);
            }
        }
        firing
    }

    /// A repair: what it helps is over soon.
    fn act(&mut self, service: &str, now: Second) {
        self.started.insert(service.to_owned(), now);
        for (id, story) in self.day.stories.iter().enumerate() {
            let burns = self.day.lives.iter().any(|l| l.story == id && l.from <= now && now < l.until);
            if burns && story.cure == Some(service) {
                self.cured.entry(id).or_insert(now + RECOVERY);
            }
        }
    }

    fn down(&self, service: &str, now: Second) -> bool {
        let acted = self.started.get(service).copied();
        self.firing(now).iter().any(|(labels, since)| {
            labels["alertname"] == "ServiceDown" && labels["service"] == service && acted.is_none_or(|at| at < *since)
        })
    }

    fn workload(&self, service: &str, now: Second) -> Option<Workload> {
        SERVICES.iter().find(|(name, _)| *name == service)?;
        let down = self.down(service, now);
        let started =
            self.started.get(service).map_or_else(|| self.begin.minus(Duration::from_secs(86_400)), |at| self.at(*at));
        Some(Workload {
            id: format!("id-{service}-{}", self.started.get(service).copied().unwrap_or(0)),
            name: format!("selfheal-{service}-1"),
            services: vec![service.to_owned()],
            project: Some("selfheal".to_owned()),
            enabled: true,
            protected: false,
            state: if down { RunState::Down } else { RunState::Running },
            health: Some(Health::Healthy),
            started_at: Some(started),
            finished_at: down.then(|| self.at(now).minus(Duration::from_secs(60))),
            exit_code: down.then_some(137),
            oom_killed: false,
            restart_count: 0,
            image: service.to_owned(),
        })
    }

    fn topology(&self, now: Second) -> Topology {
        let candidate = |(service, needs): &(&str, &[&str])| {
            let workload = self.workload(service, now).unwrap();
            Candidate { depends_on: needs.iter().map(|n| (*n).to_owned()).collect(), ..Candidate::from(&workload) }
        };
        Topology::new(SERVICES.iter().map(candidate).collect(), "selfheal")
    }
}

fn alert(labels: &Labels, starts_at: Timestamp, status: Status) -> Alert {
    Alert {
        status,
        fingerprint: fingerprint_of(labels),
        starts_at: Some(starts_at),
        labels: labels.clone(),
        annotations: BTreeMap::new(),
        generator_url: None,
    }
}

struct Outcome {
    engine: BTreeMap<&'static str, u64>,
    edits: u64,
    beside: u64,
    violations: u64,
    actions: u64,
    healed: u64,
    called: BTreeSet<String>,
    opened: u64,
}

/// The day with the real engine, journal and notifier, and a receiver that counts.
async fn with_engine(policy: Policy, inhibitions: &Inhibitions) -> Outcome {
    let args = [
        "receiver",
        "--listen-addr",
        "127.0.0.1:0",
        "--smtp-addr",
        "127.0.0.1:0",
        "--keep",
        "100000",
        "--keep-bytes",
        "1000000000",
    ];
    let config = notification_receiver::Config::try_parse_from(args).unwrap();
    let inbox = Runtime::for_test();
    let app = notification_receiver::App::build(config, inbox.clone()).await.unwrap();
    let (http, mail) = app.addresses().unwrap();
    tokio::spawn(app.run());

    let file = tempfile::tempdir().unwrap();
    let journal = Journal::open(&file.path().join("journal.db")).await.unwrap();
    let metrics = Metrics::new(&Runtime::for_test().registry).unwrap();
    let settings = MailSettings {
        server: mail.to_string(),
        security: Security::None,
        authorities: None,
        login: None,
        from: "bot@selfheal.local".to_owned(),
        to: "oncall@selfheal.local".to_owned(),
    };
    let receivers = Receivers {
        slack: Some(Slack::Bot {
            api: format!("http://{http}/api"),
            token: Secret::new("xoxb-test"),
            channel: "#incidents".to_owned(),
        }),
        mail: Some(Mailer::new(&settings, Duration::from_secs(10)).unwrap()),
        webhook: Some(Webhook { url: Secret::new(format!("http://{http}/webhook")), secret: None }),
    };
    let gather = Duration::from_secs(2);
    let client = notify::client(None).unwrap();
    let notifier =
        Notifier::new(journal.clone(), metrics, receivers, client, "http://localhost:5000", gather).without_spacing();

    let mut world = World::new(Timestamp::parse("2026-07-01T00:00:00Z").unwrap());
    let scope = Scope { project: "selfheal".to_owned(), own_id: None };
    let mut state = State::new(Arc::new(policy), scope);
    let mut net = Alertmanager::new(beside());
    let mut known: BTreeMap<Labels, Second> = BTreeMap::new();
    let mut outcome = Outcome {
        engine: BTreeMap::new(),
        edits: 0,
        beside: 0,
        violations: 0,
        actions: 0,
        healed: 0,
        called: BTreeSet::new(),
        opened: 0,
    };
    let mut later: Vec<(Second, Event)> = vec![(0, Event::Boot), (0, Event::Topology(world.topology(0)))];
    let mut talk_until = 0;
    for now in 0..LENGTH {
        let firing = world.firing(now);
        let all: BTreeSet<Labels> = firing.keys().cloned().collect();
        let inhibited = inhibitions.inhibited(&all);
        net.tick(now, &all, &inhibited);
        let mut events: Vec<Event> = Vec::new();
        let (due, rest): (Vec<_>, Vec<_>) = later.into_iter().partition(|(at, _)| *at <= now);
        later = rest;
        events.extend(due.into_iter().map(|(_, event)| event));
        // What Alertmanager sends to the bot: everything that is not inhibited, and its end.
        for (labels, since) in &firing {
            if !inhibited.contains(labels) && known.get(labels) != Some(since) {
                known.insert(labels.clone(), *since);
                let alert = alert(labels, world.at(*since), Status::Firing);
                events.push(Event::Alert { alert, source: Source::Webhook, received_at: world.at(now), trace: None });
            }
        }
        for (labels, since) in known.clone() {
            if !firing.contains_key(&labels) {
                known.remove(&labels);
                let alert = alert(&labels, world.at(since), Status::Resolved);
                events.push(Event::Alert { alert, source: Source::Webhook, received_at: world.at(now), trace: None });
            }
        }
        if now % 60 == 0 {
            let status = |labels: &Labels| AlertStatus {
                suppressed: inhibited.contains(labels).then(|| Suppression::Inhibited(vec!["x".to_owned()])),
            };
            let alerts = all.iter().map(|l| (fingerprint_of(l), status(l))).collect();
            events.push(Event::Snapshot(Snapshot { asked_at: Some(world.at(now)), alerts }));
            events.push(Event::Topology(world.topology(now)));
        }
        events.push(Event::Tick);
        let mut effects = Vec::new();
        for event in events {
            let decided = decide(&state, event, world.at(now));
            for effect in &decided {
                state.apply(effect);
            }
            effects.extend(decided);
        }
        for effect in &effects {
            match effect {
                Effect::Do(command) => {
                    later.extend(carry_out(&mut world, &state, command, now, &inhibited, &mut outcome.actions));
                }
                Effect::Page(page) => {
                    talk_until = now + 120;
                    outcome.called.insert(page.incident.clone());
                }
                Effect::Put(incident) if incident.outcome == Some(alert_bot::engine::Outcome::Healed) => {
                    outcome.healed += 1
                }
                Effect::Note(note) if matches!(note.kind, alert_bot::engine::NoteKind::Opened) => outcome.opened += 1,
                _ => {}
            }
        }
        let durable = |e: &Effect| {
            !matches!(
                e,
                Effect::Do(_) | Effect::Defer(..) | Effect::Heard(..) | Effect::Asked(..) | Effect::Answered(_)
            )
        };
        if effects.iter().any(durable) {
            journal.commit(Arc::new(effects), Vec::new(), world.at(now)).await.unwrap();
        }
        if now < talk_until {
            notifier.tick(world.at(now)).await;
        }
    }
    let list: serde_json::Value =
        reqwest::get(format!("http://{http}/v1/notifications?limit=1")).await.unwrap().json().await.unwrap();
    let threads: serde_json::Value =
        reqwest::get(format!("http://{http}/v1/threads?limit=1000")).await.unwrap().json().await.unwrap();
    let mut counted = 0;
    for n in threads["threads"].as_array().unwrap().iter().flat_map(|t| t.as_array().unwrap()) {
        let channel = match n["channel"].as_str().unwrap() {
            "slack" if n["thread"] == n["id"] => "slack: new threads",
            "slack" => REPLIES,
            "email" => "email",
            _ => "webhook",
        };
        *outcome.engine.entry(channel).or_default() += 1;
        outcome.edits += n["edits"].as_u64().unwrap();
        outcome.violations += n["violations"].as_array().unwrap().len() as u64;
        counted += 1;
    }
    assert_eq!(list["total"], counted, "all threads were counted");
    outcome.beside = net.notifications;
    inbox.shutdown.cancel();
    outcome
}

fn carry_out(
    world: &mut World,
    state: &State,
    command: &Command,
    now: Second,
    inhibited: &BTreeSet<Labels>,
    actions: &mut u64,
) -> Vec<(Second, Event)> {
    let firing = world.firing(now);
    match command {
        Command::Resolve { incident } => {
            let Some(known) = state.incident(incident) else { return Vec::new() };
            let found = known.service().and_then(|s| world.workload(&s, now));
            let workload = found.ok_or_else(|| Refusal::new(alert_bot::engine::Reason::NoTarget, "no such container"));
            let look = if firing.contains_key(&known.alert.labels) {
                let held = inhibited.contains(&known.alert.labels);
                let suppressed = held.then(|| Suppression::Inhibited(vec!["x".to_owned()]));
                AlertLook::Listed(AlertStatus { suppressed })
            } else {
                AlertLook::Unlisted
            };
            let seen = Seen { at: world.at(now), workload, alert: look };
            vec![(now + 1, Event::Resolved { incident: incident.clone(), seen })]
        }
        Command::Act { action } => {
            let Some(known) = state.action(action).cloned() else { return Vec::new() };
            // Looking changes nothing.
            if !matches!(known.verb, Verb::Diagnose | Verb::SqlDiagnosis) {
                *actions += 1;
                world.act(&known.target.service, now);
            }
            let outcome = CallOutcome::Done;
            vec![(now + 3, Event::Returned { action: action.clone(), outcome, evidence: None })]
        }
        Command::Inspect { action } => {
            let Some(known) = state.action(action) else { return Vec::new() };
            let found = Ok(world.workload(&known.target.service, now));
            vec![(now + 1, Event::Inspected { action: action.clone(), found, replicas: None })]
        }
        Command::Probe { incident } => {
            let Some(known) = state.incident(incident) else { return Vec::new() };
            let burns = firing.contains_key(&known.alert.labels);
            let probe = Probe {
                container: Ok(known.target.as_ref().and_then(|t| world.workload(&t.service, now))),
                firing: if burns { Tri::Yes } else { Tri::No },
                sli: Sli::Value { value: f64::from(u8::from(burns)), good: !burns, age_ms: 0 },
            };
            vec![(now + 1, Event::Probed { incident: incident.clone(), probe })]
        }
        _ => Vec::new(),
    }
}

fn without_engine(inhibitions: &Inhibitions) -> u64 {
    let world = World::new(Timestamp::from_millis(0));
    let mut plain = Alertmanager::new(plain());
    for now in 0..LENGTH {
        let all: BTreeSet<Labels> = world.firing(now).into_keys().collect();
        let inhibited = inhibitions.inhibited(&all);
        plain.tick(now, &all, &inhibited);
    }
    plain.notifications
}

#[tokio::main]
async fn main() {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let read = |path: &str| std::fs::read_to_string(format!("{root}/{path}")).unwrap();
    let inhibitions = Inhibitions::parse(&read("alertmanager/alertmanager.yml"));
    let policy = || Policy::parse(&read("healing/policy.yaml")).unwrap();
    let day = Day::new(SEED);
    let stories: BTreeSet<_> = day.stories.iter().map(|s| s.name).collect();
    println!(
        "one day, seed {SEED}: {} alerts; {}",
        day.lives.len(),
        stories.into_iter().collect::<Vec<_>>().join(", ")
    );
    let plain = without_engine(&inhibitions);
    println!("Alertmanager alone: {plain} notifications");
    for (name, policy) in
        [("engine", policy()), ("engine, touching nothing", Policy { mode: Mode::Observe, ..policy() })]
    {
        let healing = policy.mode == Mode::Auto;
        let outcome = with_engine(policy, &inhibitions).await;
        let replies = outcome.engine.get(REPLIES).copied().unwrap_or(0);
        let total = outcome.engine.values().sum::<u64>() + outcome.beside - replies;
        let fewer = |n: u64| 100.0 - 100.0 * n as f64 / plain as f64;
        println!("\n{name}: {total} notifications, {:.0} % fewer", fewer(total));
        println!("  with replies in threads: {}, {:.0} % fewer", total + replies, fewer(total + replies));
        for (channel, count) in &outcome.engine {
            println!("  {channel}: {count}");
        }
        println!("  Alertmanager beside it: {}", outcome.beside);
        println!("  not counted, they disturb nobody: {} changes of a message in place", outcome.edits);
        println!(
            "  {} incidents, {} of them told; {} actions, {} healed",
            outcome.opened,
            outcome.called.len(),
            outcome.actions,
            outcome.healed
        );
        assert_eq!(outcome.violations, 0, "every message keeps to its medium's rules");
        if healing {
            assert!(total * 10 <= plain * 3, "at least 70 % fewer: {total} of {plain}");
        }
    }
}

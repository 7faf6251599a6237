//! A model of the world, and random histories of it.
//!
//! The engine is the real one; Docker, Prometheus, Alertmanager, the journal and a second bot are
//! simulated with everything that they may do: answer late, twice, out of order or not at all,
//! act after having timed out, lose notifications. People silence, freeze, approve, reject, take
//! over, have it begin anew and close. The process dies at any moment: before a commit, after it,
//! or between a call and its result; or it is stopped there, the other bot takes over, and later
//! it goes on. After every step the rules that must never be broken are checked.

mod bots;
mod rules;
mod sabotage;
mod world;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use alert_bot::{
    engine::{
        AlertKey, CallOutcome, Command, Effect, Event, Phase, Reason, Scope, Source, State, Status, decide,
        fingerprint_of,
    },
    policy::Policy,
    timestamp::Timestamp,
};
use sabotage::Sabotage;
use world::{World, alert, scope, set};

const POLICY: &str = r"
version: 1
mode: auto
limits: {actions: 4, window: 4m, concurrent: 2}
storm: {share: 0.5, at_least: 4, within: 1m, freeze: 40s}
settle: 8s
maintenance: [{days: [friday], from: '08:02', to: '08:03', services: [cache, mail]}]
deny: [vault]
escalation: [{after: 0s, to: [slack]}, {after: 30s, to: [email]}]
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
  - name: slow
    match: {alertname: Slow}
    target: {label: service, default: db}
    steps: [{action: diagnose}, {action: webhook, url: 'http://elsewhere/', timeout: 10s}]
    verify: {sli: x, below: 1}
  - name: asked
    match: {alertname: Asked}
    mode: approve
    target: {label: service, default: api}
    steps: [{action: restart, timeout: 10s, stop_timeout: 4s}, {action: stop_start, timeout: 10s, stop_timeout: 4s}]
    verify: {sli: x, below: 1}
  - name: disk
    match: {alertname: Disk}
    leave_to_people: no container is at fault
";

/// Steps of a history.
const STEPS: usize = 200;

/// How many histories. More of them: `MODEL_RUNS=100000 cargo test -p alert-bot model`.
fn runs() -> u64 {
    std::env::var("MODEL_RUNS").ok().and_then(|v| v.parse().ok()).unwrap_or(1_000)
}

/// What the bot wrote down in one history, turn by turn, what it remembers of it, and when it ended.
pub fn history(seed: u64, steps: usize) -> (Vec<Vec<Effect>>, State, Timestamp) {
    let mut world = World::new(seed, None);
    for _ in 0..steps {
        world.step();
    }
    (world.committed, world.durable, world.now)
}

/// The policy and the scope of all histories.
pub fn setting() -> (Arc<Policy>, Scope) {
    (Sabotage::policy(None), scope())
}

/// A whole history; what rule it breaks, if it does.
fn live(seed: u64, sabotage: Option<Sabotage>) -> Result<World, String> {
    std::panic::catch_unwind(|| {
        let mut world = World::new(seed, sabotage);
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
        world
    })
    .map_err(|broken| match broken.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => other.downcast::<&str>().map_or_else(|_| "a rule".to_owned(), |text| (*text).to_owned()),
    })
}

#[test]
fn no_history_breaks_a_rule() {
    let first: u64 = std::env::var("MODEL_SEED").ok().and_then(|v| v.parse().ok()).unwrap_or(0);
    let (mut deeds, mut healed, mut storms, mut turns, mut handed_over) = (0, 0, 0, 0, 0);
    let mut refused = BTreeSet::new();
    for seed in first..first + runs() {
        match live(seed, None) {
            Ok(world) => {
                deeds += world.ledger.deeds.len();
                healed += world.ledger.verdicts;
                storms += world.ledger.storms;
                turns += world.committed.len();
                handed_over += world.lease - 1;
                refused.extend(world.ledger.refused);
            }
            Err(rule) => panic!("history {seed}: {rule}\nMODEL_SEED={seed} MODEL_RUNS=1 repeats it"),
        }
    }
    println!(
        "{} histories: {turns} turns, {deeds} actions, {healed} healed, {storms} storms, {handed_over} times handed \
         over; refusals: {refused:?}",
        runs()
    );
    if runs() >= 1_000 {
        // A check that never sees an action checks nothing.
        assert!(deeds > 100 && healed > 20 && storms > 5, "{deeds} actions, {healed} healed, {storms} storms");
        assert!(handed_over > runs(), "{handed_over} times handed over");
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
            Reason::CauseElsewhere,
            Reason::Frozen,
            Reason::Storm,
            Reason::Maintenance,
            Reason::AwaitingApproval,
            Reason::Rejected,
            Reason::TakenOver,
        ] {
            assert!(refused.contains(&reason), "never refused for {reason}");
        }
    }
}

#[test]
fn every_way_to_break_it_is_found() {
    for (sabotage, says) in Sabotage::ALL {
        // It may break another rule first: what counts is that its own is found broken.
        let broken = |seed| live(seed, Some(sabotage)).err().filter(|rule| rule.contains(says));
        let found = (0..400).find_map(|seed| Some((seed, broken(seed)?)));
        let (seed, rule) = found.unwrap_or_else(|| panic!("{sabotage:?} is not found"));
        println!("{sabotage:?}: history {seed}: {}", rule.lines().next().unwrap_or_default());
    }
}

#[test]
fn a_thousand_alerts_of_one_cause_lead_to_one_action_and_at_most_one_page() {
    let mut world = World::new(1, None);
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
    assert_eq!(world.ledger.deeds.len(), 1);
    assert!(pages <= 1);
}

#[test]
fn an_end_that_comes_before_its_beginning_opens_nothing() {
    let mut world = World::new(1, None);
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

#[test]
fn an_occurrence_that_is_still_worked_on_is_known_when_the_next_one_is_over() {
    let mut world = World::new(1, None);
    world.alertmanager_fails = 0;
    let labels = set(&[("alertname", "Errors"), ("service", "api")]);
    let (first, second) = (world.now, world.now.plus(Duration::from_secs(1)));
    world.burning.insert(labels.clone(), first);
    let notify = |world: &mut World, since, status| {
        let received_at = world.now;
        let alert = alert(labels.clone(), Some(since), status);
        world.turn(Event::Alert { alert, source: Source::Webhook, received_at, trace: None }, None);
    };
    notify(&mut world, first, Status::Firing);
    let id = AlertKey { fingerprint: fingerprint_of(&labels), starts_at: first }.incident_id();
    let looked = world.resolve(&id).unwrap();
    world.turn(looked, None);
    let acting = |world: &World| world.state.incident(&id).map(|i| i.phase);
    assert_eq!(acting(&world), Some(Phase::Acting));
    for (since, status) in [(second, Status::Firing), (second, Status::Resolved), (first, Status::Firing)] {
        notify(&mut world, since, status);
        assert_eq!(acting(&world), Some(Phase::Acting), "{status:?} since {since}");
    }
}

//! Reasons not to act, one function each, in the order in which they count.
//!
//! A gate looks and says no, with a reason code and perhaps the time at which to
//! look again. The two lists differ in what is known: before the look-up only
//! what the journal and Alertmanager say, after it the container too. Gates that
//! depend on the target's name stand in both: the first time spares the look-up
//! where an earlier one has told the name.

use std::time::Duration;

use super::{
    Reason,
    budget::Held,
    model::{Incident, Phase, RunState, Workload},
    state::State,
    target::{self, Refusal},
};
use crate::{
    policy::{Heal, Mode, Verb},
    timestamp::Timestamp,
};

/// What a gate may look at.
pub(super) struct Case<'a> {
    pub(super) state: &'a State,
    pub(super) now: Timestamp,
    pub(super) incident: &'a Incident,
    pub(super) heal: &'a Heal,
    /// After the look-up only.
    pub(super) workload: Option<&'a Workload>,
}

pub(super) type Gate = fn(&Case) -> Result<(), Refusal>;

/// At most this many attempts at one step, each of the earlier ones proven not
/// to have happened.
pub(super) const MAX_ATTEMPTS: u32 = 2;

/// When to look again where an event may come sooner than any known time.
const SOON: Duration = Duration::from_secs(5);
/// When to look again after a refusal that only a change outside can lift.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(30);

pub(super) const BEFORE_LOOKUP: &[Gate] = &[
    suppressed,
    frozen,
    maintenance,
    cause,
    hold,
    done_before,
    busy,
    cooldown,
    target_budget,
    global_budget,
    concurrency,
];

const ON_TARGET: &[Gate] = &[
    permitted,
    stopped_by_person,
    crash_loop,
    settled,
    done_before,
    busy,
    cooldown,
    target_budget,
    global_budget,
    concurrency,
    allowed,
];

/// To look is to change nothing: only whether it was done before, and whose container it is, count.
const TO_LOOK: &[Gate] = &[permitted, done_before];

/// A new container in its place is the way out where the old one never stays up, and a call
/// elsewhere does not touch it.
const TO_REPLACE: &[Gate] =
    &[permitted, stopped_by_person, done_before, busy, cooldown, target_budget, global_budget, concurrency, allowed];

/// The gates once the target is known, by what would be done to it.
pub(super) const fn on_target(verb: Verb) -> &'static [Gate] {
    match verb {
        Verb::Diagnose | Verb::SqlDiagnosis => TO_LOOK,
        Verb::Recreate | Verb::RollBack | Verb::Webhook => TO_REPLACE,
        _ => ON_TARGET,
    }
}

const LOOK_BEFORE_LOOKUP: &[Gate] = &[suppressed, cause, hold, done_before];

/// The gates before the look-up, by what the incident's step is.
pub(super) fn before_lookup(incident: &Incident) -> &'static [Gate] {
    match incident.current_step() {
        Some(step) if !step.action.changes() => LOOK_BEFORE_LOOKUP,
        _ => BEFORE_LOOKUP,
    }
}

impl Case<'_> {
    fn target(&self) -> Option<&str> {
        self.workload.map(|w| w.name.as_str()).or_else(|| self.incident.target.as_ref().map(|t| t.name.as_str()))
    }
}

fn suppressed(case: &Case) -> Result<(), Refusal> {
    match &case.incident.suppressed {
        Some(by) => Err(Refusal::new(by.reason(), by.reason().explain()).retry(case.now.plus(LOOK_AGAIN))),
        None => Ok(()),
    }
}

fn frozen(case: &Case) -> Result<(), Refusal> {
    let Some(freeze) = case.state.freeze.as_ref().filter(|f| f.holds(case.now)) else { return Ok(()) };
    let reason = if freeze.storm { Reason::Storm } else { Reason::Frozen };
    let text = format!("frozen by {} since {}: {}", freeze.by, freeze.since, freeze.why);
    Err(Refusal::new(reason, text).retry(freeze.until.unwrap_or_else(|| case.now.plus(LOOK_AGAIN))))
}

fn maintenance(case: &Case) -> Result<(), Refusal> {
    let service = case.incident.service();
    let windows = &case.state.policy.maintenance;
    match windows.iter().find(|w| w.open(case.now) && w.covers(service.as_deref())) {
        Some(window) => {
            Err(Refusal::new(Reason::Maintenance, format!("maintenance: {window}")).retry(case.now.plus(LOOK_AGAIN)))
        }
        None => Ok(()),
    }
}

/// A burning ancestor explains the alert, and one that has just been healed explains it for a
/// while yet: rates look back, and connections come again one by one.
fn cause(case: &Case) -> Result<(), Refusal> {
    // A person who had it begin anew knows better.
    if case.incident.round > 0 {
        return Ok(());
    }
    let Some(service) = case.incident.service() else { return Ok(()) };
    let ancestors = case.state.ancestors(&service);
    let burning = case.state.open.values().find(|other| {
        let burns = other.alert_active && other.suppressed.is_none();
        let under_way = matches!(other.phase, Phase::Acting | Phase::Verifying);
        (burns || under_way)
            && other.rule.as_ref().is_some_and(|r| r.explains_dependents)
            && other.service().is_some_and(|s| ancestors.contains(s.as_str()))
    });
    if let Some(other) = burning {
        let needed = other.service().unwrap_or_default();
        let known = known_from_traces(case.state, &service, &needed);
        let text = format!("{needed} burns ({}), and {service} needs it{known}", other.alert.name());
        return Err(Refusal::new(Reason::CauseElsewhere, text).caused_by(&other.id).retry(case.now.plus(SOON)));
    }
    let settle = case.state.policy.settle.get();
    let fresh = ancestors.iter().filter_map(|a| Some((a, case.state.recovered.get(*a)?)));
    match fresh.max_by_key(|(_, recovery)| recovery.at) {
        Some((needed, recovery)) if case.now.since(recovery.at) < settle => {
            let known = known_from_traces(case.state, &service, needed);
            let text = format!("{needed} was healed at {}, and {service} needs it{known}", recovery.at);
            let refusal = Refusal::new(Reason::CauseElsewhere, text).caused_by(&recovery.incident);
            Err(refusal.retry(recovery.at.plus(settle)))
        }
        _ => Ok(()),
    }
}

/// What of that is known from traces only, and since when: a guess that one may want to check.
fn known_from_traces(state: &State, service: &str, needed: &str) -> String {
    let way = state.learned_between(service, needed);
    let told: Vec<_> = way.iter().map(|e| format!("{} calls {}, since {}", e.client, e.server, e.since)).collect();
    if told.is_empty() { String::new() } else { format!("; known from traces: {}", told.join("; ")) }
}

fn hold(case: &Case) -> Result<(), Refusal> {
    let ripe = case.incident.starts_at.plus(case.heal.hold.get());
    if ripe <= case.now {
        return Ok(());
    }
    Err(Refusal::new(Reason::Hold, format!("the alert must fire for {}", case.heal.hold)).retry(ripe))
}

fn done_before(case: &Case) -> Result<(), Refusal> {
    let Some(rule) = &case.incident.rule else { return Ok(()) };
    let key = (case.incident.key(), rule.name.clone(), case.incident.step);
    match case.state.attempts.get(&key) {
        // A person who had it begin anew wants it done again.
        Some(a) if a.round < case.incident.round => Ok(()),
        Some(a) if a.taken => Err(Refusal::new(Reason::AlreadyDone, "this step was already taken for this very alert")),
        Some(a) if a.count >= MAX_ATTEMPTS => {
            Err(Refusal::new(Reason::ActionFailed, format!("{} attempts, none carried out", a.count)))
        }
        _ => Ok(()),
    }
}

fn permitted(case: &Case) -> Result<(), Refusal> {
    let Some(workload) = case.workload else { return Ok(()) };
    target::permitted(&workload.into(), &case.state.policy, &case.state.scope)
}

/// Whoever stopped it starts it again.
fn stopped_by_person(case: &Case) -> Result<(), Refusal> {
    let Some(workload) = case.workload.filter(|w| w.state == RunState::Down) else { return Ok(()) };
    // A stop before its last start is history.
    let stopped = case.state.stopped.get(&workload.name).filter(|at| workload.started_at.is_none_or(|s| s <= **at));
    match stopped {
        Some(at) if case.incident.round == 0 => {
            let text = format!("a person stopped {} at {at}", workload.name);
            Err(Refusal::new(Reason::ManualStop, text).retry(case.now.plus(LOOK_AGAIN)))
        }
        _ => Ok(()),
    }
}

/// Docker's own restart policy has tried often enough.
fn crash_loop(case: &Case) -> Result<(), Refusal> {
    let Some(workload) = case.workload else { return Ok(()) };
    let again = case.incident.current_step().is_some_and(|s| s.action.starts_again());
    if again && case.state.looping(workload, case.now) {
        let text = format!("Docker has restarted {} {} times already", workload.name, workload.restart_count);
        return Err(Refusal::new(Reason::CrashLoop, text).retry(case.now.plus(LOOK_AGAIN)));
    }
    Ok(())
}

fn settled(case: &Case) -> Result<(), Refusal> {
    let Some(workload) = case.workload else { return Ok(()) };
    target::settled(workload, case.heal.min_age.get(), case.now)
}

fn busy(case: &Case) -> Result<(), Refusal> {
    let Some(target) = case.target() else { return Ok(()) };
    let acting = case.state.in_flight.values().any(|a| a.target.name == target);
    let verified = case.state.open.values().find(|i| {
        i.id != case.incident.id
            && matches!(i.phase, Phase::Acting | Phase::Verifying)
            && i.target.as_ref().is_some_and(|t| t.name == target)
    });
    match verified {
        Some(other) => Err(Refusal::new(Reason::TargetBusy, format!("incident {} works on {target}", other.id))),
        None if acting => Err(Refusal::new(Reason::TargetBusy, format!("an action on {target} is under way"))),
        None => return Ok(()),
    }
    .map_err(|r: Refusal| r.retry(case.now.plus(SOON)))
}

fn cooldown(case: &Case) -> Result<(), Refusal> {
    let Some(target) = case.target() else { return Ok(()) };
    unless(case.state.backing_off(target, &case.heal.budget, case.now))
}

fn target_budget(case: &Case) -> Result<(), Refusal> {
    let Some(target) = case.target() else { return Ok(()) };
    unless(case.state.used_up(target, &case.heal.budget, case.now))
}

fn global_budget(case: &Case) -> Result<(), Refusal> {
    unless(case.state.all_used_up(case.now))
}

fn unless(held: Option<Held>) -> Result<(), Refusal> {
    held.map_or(Ok(()), |held| Err(Refusal::new(held.reason, held.text).retry(held.until)))
}

fn concurrency(case: &Case) -> Result<(), Refusal> {
    let limit = usize::try_from(case.state.policy.limits.concurrent).unwrap_or(usize::MAX);
    let under_way = case.state.in_flight.len();
    if under_way < limit {
        return Ok(());
    }
    let text = format!("{under_way} actions are under way");
    Err(Refusal::new(Reason::Concurrency, text).retry(case.now.plus(Duration::from_secs(1))))
}

fn allowed(case: &Case) -> Result<(), Refusal> {
    let rule = case.incident.rule.as_ref().map_or(Mode::Auto, |r| r.mode);
    match case.state.policy.mode.stricter(rule) {
        Mode::Auto => Ok(()),
        Mode::Approve if case.incident.approved == Some(case.incident.step) => Ok(()),
        Mode::Approve => {
            let step = case.incident.current_step().map_or("act", |s| s.action.as_str());
            let target = case.target().unwrap_or("its target");
            let text = format!("{step} {target} waits for approval");
            Err(Refusal::new(Reason::AwaitingApproval, text).retry(case.now.plus(LOOK_AGAIN)))
        }
        Mode::Observe => {
            let step = case.incident.current_step().map_or("act", |s| s.action.as_str());
            let target = case.target().unwrap_or("its target");
            let text = format!("would {step} {target}; the policy only observes");
            Err(Refusal::new(Reason::ObserveMode, text).retry(case.now.plus(LOOK_AGAIN)))
        }
    }
}

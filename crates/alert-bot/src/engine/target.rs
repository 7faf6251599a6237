//! Which container is meant: pure, so that every refusal can be tested.

use std::time::Duration;

use super::{Reason, RunState, Scope, Workload};
use crate::{
    policy::{Policy, is_service_name},
    timestamp::Timestamp,
};

/// A restart by hand, or by compose, has the container down for about this long.
const JUST_STOPPED: Duration = Duration::from_secs(5);

/// So many restarts by Docker itself, each after a short life, are a loop.
const LOOP_RESTARTS: i64 = 3;
const LOOP_AGE: Duration = Duration::from_secs(120);

/// Not to act, why, and when that may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The code.
    pub reason: Reason,
    /// Details, for people.
    pub text: String,
    /// `None`: time alone will not change it.
    pub retry_at: Option<Timestamp>,
    /// The incident that is the cause, where that is the reason.
    pub cause: Option<String>,
}

impl Refusal {
    /// A refusal that time alone does not lift.
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), retry_at: None, cause: None }
    }

    /// The incident that explains it.
    pub fn caused_by(mut self, incident: &str) -> Self {
        self.cause = Some(incident.to_owned());
        self
    }

    /// Look again then.
    pub fn retry(mut self, at: Timestamp) -> Self {
        self.retry_at = Some(at);
        self
    }
}

/// A container in a list: all that a choice needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Docker's id.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// Names it goes by: `selfheal.service`, compose's service, in this order.
    pub services: Vec<String>,
    /// Compose project.
    pub project: Option<String>,
    /// `selfheal.enable=true`
    pub enabled: bool,
    /// `selfheal.protect=true`
    pub protected: bool,
    /// What it is doing.
    pub state: RunState,
    /// Services that it cannot do without.
    pub depends_on: Vec<String>,
    /// Its image, as it was asked for.
    pub image: String,
    /// The container that it is a further copy of, if the bot had it made.
    pub replica_of: Option<String>,
}

impl From<&Workload> for Candidate {
    fn from(w: &Workload) -> Self {
        Self {
            id: w.id.clone(),
            name: w.name.clone(),
            services: w.services.clone(),
            project: w.project.clone(),
            enabled: w.enabled,
            protected: w.protected,
            state: w.state,
            depends_on: Vec::new(),
            image: w.image.clone(),
            replica_of: None,
        }
    }
}

/// The one container of the project that is this service, if it may be touched.
///
/// # Errors
/// The reason why none may.
pub fn choose<'a>(
    candidates: &'a [Candidate],
    service: Option<&str>,
    policy: &Policy,
    scope: &Scope,
) -> Result<&'a Candidate, Refusal> {
    let Some(service) = service.filter(|s| !s.is_empty()) else {
        return Err(Refusal::new(Reason::EmptySelector, Reason::EmptySelector.explain()));
    };
    if !is_service_name(service) {
        return Err(Refusal::new(Reason::InvalidTarget, "the label's value is not a service name"));
    }
    if policy.denies(service) {
        return Err(Refusal::new(Reason::Denied, format!("{service} is never touched")));
    }
    let named: Vec<_> = candidates.iter().filter(|c| c.services.iter().any(|s| s == service)).collect();
    // Replicas are copies of the one that is meant.
    let ours: Vec<_> =
        named.iter().filter(|c| c.project.as_deref() == Some(&scope.project) && c.replica_of.is_none()).collect();
    match ours.as_slice() {
        [] if named.is_empty() => Err(Refusal::new(Reason::NoTarget, format!("no container is the service {service}"))),
        [] => {
            Err(Refusal::new(Reason::OtherProject, format!("{service} is not a service of project {}", scope.project)))
        }
        [one] => permitted(one, policy, scope).map(|()| **one),
        many => Err(Refusal::new(
            Reason::AmbiguousTarget,
            format!(
                "{} containers are the service {service}: {}",
                many.len(),
                many.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
            ),
        )),
    }
}

/// Whether this container may be touched at all.
///
/// # Errors
/// The reason why not.
pub fn permitted(candidate: &Candidate, policy: &Policy, scope: &Scope) -> Result<(), Refusal> {
    let name = &candidate.name;
    if candidate.project.as_deref() != Some(&scope.project) {
        return Err(Refusal::new(Reason::OtherProject, format!("{name} is not of project {}", scope.project)));
    }
    // By any of its names: a second label does not lead around the list.
    if candidate.services.iter().chain([name]).any(|n| policy.denies(n)) {
        return Err(Refusal::new(Reason::Denied, format!("{name} is never touched")));
    }
    if scope.own_id.as_ref().is_some_and(|own| !own.is_empty() && candidate.id.starts_with(own)) {
        return Err(Refusal::new(Reason::Denied, format!("{name} is this bot")));
    }
    if candidate.protected {
        return Err(Refusal::new(Reason::Protected, format!("{name} carries selfheal.protect=true")));
    }
    if !candidate.enabled {
        return Err(Refusal::new(Reason::NotOptedIn, format!("{name} does not carry selfheal.enable=true")));
    }
    Ok(())
}

/// Whether Docker's own restart policy has started it again and again, and it never stayed up.
pub fn looping(w: &Workload, now: Timestamp) -> bool {
    let young = w.started_at.is_none_or(|at| now.since(at) < LOOP_AGE);
    let fails = w.state == RunState::Changing || (young && w.exit_code.is_some_and(|code| code != 0));
    fails && w.restart_count >= LOOP_RESTARTS
}

/// Whether the container is in a condition to be acted on.
///
/// # Errors
/// The reason why not, with the time at which to look again.
pub fn settled(w: &Workload, min_age: Duration, now: Timestamp) -> Result<(), Refusal> {
    let name = &w.name;
    let soon = now.plus(JUST_STOPPED);
    match (w.state, w.started_at) {
        (RunState::Changing, _) => {
            Err(Refusal::new(Reason::TargetChanging, format!("Docker is restarting or removing {name}")).retry(soon))
        }
        // Compose creates containers first and starts them when their dependencies are ready.
        (RunState::Down, None) => {
            Err(Refusal::new(Reason::NeverStarted, format!("{name} was created and never started")).retry(soon))
        }
        (RunState::Down, Some(_)) => match w.finished_at {
            Some(stopped) if now.since(stopped) < JUST_STOPPED => {
                Err(Refusal::new(Reason::JustStopped, format!("{name} stopped at {stopped}"))
                    .retry(stopped.plus(JUST_STOPPED)))
            }
            _ => Ok(()),
        },
        (RunState::Running, Some(started)) if now.since(started) < min_age => {
            Err(Refusal::new(Reason::TooYoung, format!("{name} was started at {started}")).retry(started.plus(min_age)))
        }
        _ => Ok(()),
    }
}

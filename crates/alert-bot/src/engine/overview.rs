//! What is in force now, for people who look on.

use std::time::Duration;

use serde::Serialize;

use super::{
    Reason,
    edges::Edge,
    model::{ActionStatus, RunState},
    operator::Freeze,
    state::State,
};
use crate::{policy::Verb, timestamp::Timestamp};

/// Whether a bot acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It does.
    Active,
    /// Another one does, and this one takes over when that one is gone.
    Standby,
}

impl Role {
    /// As written in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
        }
    }
}

/// Which of the bots on a journal acts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeaseView {
    /// Whether the bot that was asked does.
    pub role: Role,
    /// The name of the bot that was asked.
    pub name: String,
    /// The name of the one that acts, or did last.
    pub holder: Option<String>,
    /// Since when.
    pub since: Option<Timestamp>,
}

/// Everything that is in force now.
#[derive(Clone, Debug, Serialize)]
pub struct Overview {
    /// Which bot acts.
    pub lease: LeaseView,
    /// Set while nothing is acted on.
    pub freeze: Option<Freeze>,
    /// The maintenance window that is open.
    pub maintenance: Option<String>,
    /// What may still be done to all targets together.
    pub limits: GlobalBudget,
    /// Every container of the project.
    pub targets: Vec<TargetView>,
}

/// One container, and how much may still be done to it.
#[derive(Clone, Debug, Serialize)]
pub struct TargetView {
    /// The container's name.
    pub name: String,
    /// Its service.
    pub service: String,
    /// It runs.
    pub running: bool,
    /// It may be healed.
    pub enabled: bool,
    /// It carries `selfheal.protect`, or is on the list of those that are never touched.
    pub protected: bool,
    /// Services that it needs.
    pub depends_on: Vec<String>,
    /// An incident about its service is open.
    pub burning: bool,
    /// What is left of its budget, where it was acted on lately.
    pub budget: Option<BudgetView>,
    /// No action before then: the last one is too recent, or the budget is used up.
    pub not_before: Option<Timestamp>,
    /// Why nothing would be done to it now by the strictest of the rules that may mean it, whatever burns.
    pub held: Option<HeldView>,
    /// An operator gave it its budget back then; told until the next action.
    pub released_at: Option<Timestamp>,
    /// Services that traces have shown it to call.
    pub calls: Vec<Edge>,
    /// The last action.
    pub last_action: Option<LastAction>,
    /// A person stopped it then.
    pub stopped_by_person: Option<Timestamp>,
}

/// A budget.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BudgetView {
    /// Actions allowed within the window.
    pub actions: u32,
    /// Of these, still left.
    pub left: u32,
    /// Length of the window in seconds.
    pub window_seconds: u64,
}

impl BudgetView {
    pub(super) fn of(actions: u32, used: usize, window: Duration) -> Self {
        let left = actions.saturating_sub(u32::try_from(used).unwrap_or(u32::MAX));
        Self { actions, left, window_seconds: window.as_secs() }
    }
}

/// The budget over all targets.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct GlobalBudget {
    /// What is left.
    #[serde(flatten)]
    pub budget: BudgetView,
    /// Where nothing is left: until then.
    pub until: Option<Timestamp>,
}

/// Why nothing would be done to a target now.
#[derive(Clone, Debug, Serialize)]
pub struct HeldView {
    /// By which rule: others may be less strict.
    pub rule: String,
    /// `cooldown` or `target_budget_exhausted`.
    pub reason: Reason,
    /// It ends by itself then, or when an operator says so.
    pub until: Timestamp,
}

/// The last action on a target.
#[derive(Clone, Debug, Serialize)]
pub struct LastAction {
    /// Its id.
    pub id: String,
    /// What was done.
    pub verb: Verb,
    /// When it was intended.
    pub at: Timestamp,
    /// Whether it is under way still, or its outcome unknown.
    pub status: Option<ActionStatus>,
}

impl State {
    /// Everything that is in force now.
    pub fn overview(&self, lease: LeaseView, now: Timestamp) -> Overview {
        let open =
            |service: &str| self.open.values().find(|i| i.alert_active && i.service().as_deref() == Some(service));
        let targets = self.topology.containers.iter().map(|c| {
            let service = c.services.first().unwrap_or(&c.name).clone();
            let burning = open(&service);
            let stamps = self.stamps.get(&c.name);
            let last = stamps.and_then(|s| s.iter().max_by_key(|(_, stamp)| stamp.at));
            let last_action = last.map(|(id, stamp)| LastAction {
                id: id.clone(),
                verb: stamp.verb,
                at: stamp.at,
                status: self.in_flight.get(id).map(|a| a.status),
            });
            let budget = last.and_then(|(_, stamp)| self.budget_of(&c.name, &stamp.rule, now));
            TargetView {
                running: c.state == RunState::Running,
                enabled: c.enabled,
                protected: c.protected || self.policy.denies(&service) || self.policy.denies(&c.name),
                depends_on: c.depends_on.clone(),
                burning: burning.is_some(),
                budget,
                held: self.held(&c.name, &c.services, now).map(|(rule, held)| HeldView {
                    rule: rule.name.clone(),
                    reason: held.reason,
                    until: held.until,
                }),
                released_at: self.released.get(&c.name).copied(),
                calls: c.services.iter().filter_map(|s| self.edges.get(s)).flat_map(|e| e.values().cloned()).collect(),
                not_before: burning.and_then(|i| i.next_at).filter(|at| *at > now),
                last_action,
                stopped_by_person: self.stopped.get(&c.name).copied(),
                name: c.name.clone(),
                service,
            }
        });
        Overview {
            lease,
            freeze: self.freeze.clone().filter(|f| f.holds(now)),
            maintenance: self.policy.maintenance.iter().find(|w| w.open(now)).map(ToString::to_string),
            limits: GlobalBudget { budget: self.global_budget(now), until: self.all_used_up(now).map(|h| h.until) },
            targets: targets.collect(),
        }
    }
}

//! What was done lately, and how much more may be done: the figures behind the gates.

use std::{collections::BTreeMap, time::Duration};

use super::{Reason, overview::BudgetView, state::State};
use crate::{
    policy::{Budget, Heal, LONGEST_WINDOW, Rule, Selector, Verb},
    timestamp::Timestamp,
};

/// That an action was taken, for as long as a budget can count it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// When it was intended.
    pub at: Timestamp,
    /// By which rule.
    pub rule: String,
    /// What.
    pub verb: Verb,
    /// It counts towards its target's budget and back-off; not any more once an operator has said so.
    pub for_target: bool,
    /// It counts towards the budget over all targets; likewise.
    pub for_all: bool,
}

/// Until when nothing more may be done to a target, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    /// The back-off, or one of the two budgets.
    pub(super) reason: Reason,
    /// For people.
    pub(super) text: String,
    /// When that ends by itself.
    pub(super) until: Timestamp,
}

impl State {
    /// Times of the actions on one target, or on all, that count and are not older than `window`; oldest first.
    fn counted(&self, target: Option<&str>, window: Duration, now: Timestamp) -> Vec<Timestamp> {
        let oldest = now.minus(window);
        let counts = |stamp: &&Stamp| if target.is_some() { stamp.for_target } else { stamp.for_all };
        let mut times: Vec<_> = self
            .stamps
            .iter()
            .filter(|(name, _)| target.is_none_or(|t| t == name.as_str()))
            .flat_map(|(_, stamps)| stamps.values().filter(counts).map(|stamp| stamp.at))
            .filter(|at| *at > oldest)
            .collect();
        times.sort_unstable();
        times
    }

    /// The time between two actions doubles with each within the window, and is
    /// stretched by up to a tenth, by the target's name: targets that failed
    /// together do not come back together.
    pub(super) fn backing_off(&self, target: &str, budget: &Budget, now: Timestamp) -> Option<Held> {
        let recent = self.counted(Some(target), budget.window.get(), now);
        // An action before the window still counts for one plain cooldown.
        let last = self.counted(Some(target), LONGEST_WINDOW, now).last().copied()?;
        let doublings = u32::try_from(recent.len().saturating_sub(1)).unwrap_or(u32::MAX).min(20);
        let wait = budget.cooldown.get().saturating_mul(1 << doublings).min(budget.cooldown_max.get());
        let spread = target.bytes().fold(0_u32, |h, b| h.wrapping_mul(31).wrapping_add(b.into())) % 100;
        let until = last.plus(wait + wait.mul_f64(f64::from(spread) / 1000.0));
        let text = format!("the last action on {target} was at {last}");
        (until > now).then_some(Held { reason: Reason::Cooldown, text, until })
    }

    /// The target's budget is used up.
    pub(super) fn used_up(&self, target: &str, budget: &Budget, now: Timestamp) -> Option<Held> {
        let window = budget.window.get();
        let recent = self.counted(Some(target), window, now);
        let until = exhausted(&recent, budget.actions, window)?;
        let text = format!("{} actions on {target} within {}", recent.len(), budget.window);
        Some(Held { reason: Reason::TargetBudget, text, until })
    }

    /// The budget over all targets is used up.
    pub(super) fn all_used_up(&self, now: Timestamp) -> Option<Held> {
        let limits = &self.policy.limits;
        let recent = self.counted(None, limits.window.get(), now);
        let until = exhausted(&recent, limits.actions, limits.window.get())?;
        let text = format!("{} actions on all targets within {}", recent.len(), limits.window);
        Some(Held { reason: Reason::GlobalBudget, text, until })
    }

    /// The rule that is the strictest of those that may mean this target, and why it would do nothing to it now.
    pub(super) fn held(&self, target: &str, services: &[String], now: Timestamp) -> Option<(&Rule, Held)> {
        let means = |heal: &Heal| match &heal.target {
            Selector::Service(service) => services.contains(service),
            Selector::Label { .. } => true,
        };
        let heals = self.policy.rules.iter().filter_map(|rule| Some((&**rule, rule.heal().filter(|h| means(h))?)));
        let held = heals.flat_map(|(rule, heal)| {
            let why = [self.used_up(target, &heal.budget, now), self.backing_off(target, &heal.budget, now)];
            why.into_iter().flatten().map(move |held| (rule, held))
        });
        held.max_by_key(|(_, held)| held.until)
    }

    /// What is left for a target by one rule.
    pub(super) fn budget_of(&self, target: &str, rule: &str, now: Timestamp) -> Option<BudgetView> {
        let budget = &self.policy.rules.iter().find(|r| r.name == rule)?.heal()?.budget;
        let used = self.counted(Some(target), budget.window.get(), now).len();
        Some(BudgetView::of(budget.actions, used, budget.window.get()))
    }

    /// What is left over all targets.
    pub(super) fn global_budget(&self, now: Timestamp) -> BudgetView {
        let limits = &self.policy.limits;
        let used = self.counted(None, limits.window.get(), now).len();
        BudgetView::of(limits.actions, used, limits.window.get())
    }

    /// Actions left per target that was acted on lately, by the tightest of the rules that did.
    pub fn budgets(&self, now: Timestamp) -> Vec<(String, i64)> {
        let tightest = |target: &str, stamps: &BTreeMap<String, Stamp>| {
            stamps.values().filter_map(|stamp| self.budget_of(target, &stamp.rule, now)).map(|b| b.left).min()
        };
        let left = |(target, stamps): (&String, _)| Some((target.clone(), i64::from(tightest(target, stamps)?)));
        self.stamps.iter().filter_map(left).collect()
    }
}

/// When the budget has room again, if it has none now.
fn exhausted(recent: &[Timestamp], limit: u32, window: Duration) -> Option<Timestamp> {
    let excess = recent.len().checked_sub(usize::try_from(limit).unwrap_or(usize::MAX))?;
    // Strictly after: an action exactly one window old does not count any more.
    recent.get(excess).map(|at| at.plus(window))
}

//! Ways to break the bot on purpose: whatever the check does not find with one of these, it would
//! not find either if somebody broke it by mistake. They exist here only.

use std::sync::Arc;

use alert_bot::{
    engine::{ActionStatus, Effect},
    policy::Policy,
};

use super::POLICY;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// It acts before the intent is on disk.
    Unwritten,
    /// After a start it takes what was under way for not done, without a look.
    Hasty,
    /// What could not be measured, or was bad, is good.
    Credulous,
    /// It knows no budget.
    Spendthrift,
    /// It does not know what needs what.
    Symptoms,
    /// It does not hear that everything is frozen.
    Deaf,
    /// It does not wait for approval.
    Eager,
    /// It sees no storm.
    Calm,
    /// A bot that was thought dead goes on as if it were the only one.
    Unfenced,
    /// It forgets whom it has told.
    Forgetful,
    /// It loses what it has acknowledged when it dies.
    Lossy,
    /// It gives back more than it was told to.
    Generous,
}

impl Sabotage {
    /// Each, and what the check says of it.
    pub const ALL: [(Self, &str); 12] = [
        (Self::Unwritten, "without a durable intent"),
        (Self::Hasty, "done twice"),
        (Self::Credulous, "healed without proof"),
        (Self::Spendthrift, "exceeded"),
        (Self::Symptoms, "acted on a symptom"),
        (Self::Deaf, "frozen"),
        (Self::Eager, "without approval"),
        (Self::Calm, "a storm and its brake"),
        (Self::Unfenced, ""),
        (Self::Forgetful, "called twice"),
        (Self::Lossy, "was lost"),
        (Self::Generous, "global budget exceeded"),
    ];

    /// The policy that the engine gets.
    pub fn policy(sabotage: Option<Self>) -> Arc<Policy> {
        let text = match sabotage {
            Some(Self::Spendthrift) => POLICY.replace("limits: {actions: 4,", "limits: {actions: 400,").replace(
                "budget: {actions: 2, window: 5m, cooldown: 10s, cooldown_max: 60s}",
                "budget: {actions: 200, window: 5m, cooldown: 0s, cooldown_max: 60s}",
            ),
            Some(Self::Eager) => POLICY.replace("mode: approve", "mode: auto"),
            Some(Self::Calm) => POLICY.replace("at_least: 4", "at_least: 400"),
            _ => POLICY.to_owned(),
        };
        assert!(sabotage.is_none_or(|s| !matches!(s, Self::Spendthrift | Self::Eager | Self::Calm)) || text != POLICY);
        Arc::new(Policy::parse(&text).unwrap())
    }

    /// What it decides is something else.
    pub fn alters(sabotage: Option<Self>, mut effects: Vec<Effect>) -> Vec<Effect> {
        if sabotage == Some(Self::Generous) {
            for effect in &mut effects {
                if let Effect::Release(release) = effect {
                    release.global.extend(release.actions.clone());
                }
            }
        }
        effects
    }

    /// Neither memory nor disk hears of it.
    pub fn hides(sabotage: Option<Self>, effect: &Effect) -> bool {
        sabotage == Some(Self::Deaf) && matches!(effect, Effect::Freeze(_))
    }

    /// It is remembered, and not on disk.
    pub fn unwritten(sabotage: Option<Self>, effect: &Effect) -> bool {
        match (sabotage, effect) {
            (Some(Self::Unwritten), Effect::PutAction(action)) => action.status == ActionStatus::Intended,
            (Some(Self::Forgetful), Effect::Page(_)) => true,
            _ => false,
        }
    }
}

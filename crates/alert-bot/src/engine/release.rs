//! An operator has looked at a target and gives it its budget back.
//!
//! What was done to it so far does not count any more, neither towards its budget nor towards its
//! back-off, and the breaker that keeps the bot from starting once more what Docker has started too
//! often is closed until the next action. The budget over all targets is another one: it is given
//! back only where that is asked for. What is under way still counts: its result comes first.

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    event::{Effect, Note, NoteKind},
    model::{Phase, Workload},
    state::State,
    target,
    turn::Turn,
};
use crate::timestamp::Timestamp;

/// The order, as given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseOrder {
    /// A service, or a container's name.
    pub target: String,
    /// The budget over all targets too.
    pub global: bool,
    /// By whom.
    pub by: String,
    /// Why, in their words.
    pub why: String,
}

/// What no longer counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Since when.
    pub at: Timestamp,
    /// Names of containers whose breakers are closed, sorted.
    pub targets: Vec<String>,
    /// Ids of actions that do not count towards their target's budget any more.
    pub actions: Vec<String>,
    /// Ids of actions that do not count towards the budget over all targets any more.
    pub global: Vec<String>,
}

/// Why a target cannot be given its budget back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreleasable {
    /// No container goes by this name.
    Unknown,
    /// Something is under way.
    Busy(String),
}

/// What the order amounts to.
///
/// # Errors
/// What speaks against it, for the person who gave it.
pub fn release(state: &State, order: &ReleaseOrder, now: Timestamp) -> Result<Release, Unreleasable> {
    let named =
        state.topology.containers.iter().filter(|c| c.name == order.target || c.services.contains(&order.target));
    let mut targets: Vec<String> = named.map(|c| c.name.clone()).collect();
    // What was acted on and is gone, or cannot be listed at present.
    targets.extend(state.stamps.keys().filter(|name| **name == order.target).cloned());
    targets.sort();
    targets.dedup();
    if targets.is_empty() {
        return Err(Unreleasable::Unknown);
    }
    let acting = state.in_flight.values().map(|a| &a.target.name);
    let verified = state.open.values().filter(|i| matches!(i.phase, Phase::Acting | Phase::Verifying));
    let mut busy = acting.chain(verified.filter_map(|i| i.target.as_ref()).map(|t| &t.name));
    if let Some(name) = busy.find(|name| targets.contains(name)) {
        return Err(Unreleasable::Busy(format!(
            "an action on {name} is under way or being verified; its result comes first"
        )));
    }
    let over = |id: &&String| !state.in_flight.contains_key(*id);
    let counted = |target: &String| {
        let stamps = state.stamps.get(target).into_iter().flatten();
        stamps.filter(|(_, stamp)| stamp.for_target).map(|(id, _)| id).filter(over).cloned().collect::<Vec<_>>()
    };
    let actions = targets.iter().flat_map(counted).collect();
    let all = state.stamps.values().flatten().filter(|(_, stamp)| order.global && stamp.for_all);
    let global = all.map(|(id, _)| id).filter(over).cloned().collect();
    Ok(Release { at: now, targets, actions, global })
}

impl State {
    /// Whether Docker starts it over and over, and no operator has said to try once more.
    pub(super) fn looping(&self, workload: &Workload, now: Timestamp) -> bool {
        target::looping(workload, now) && !self.released.contains_key(&workload.name)
    }

    /// These do not count any more.
    pub(super) fn released(&mut self, release: &Release) {
        for (id, stamp) in self.stamps.values_mut().flatten() {
            stamp.for_target &= !release.actions.contains(id);
            stamp.for_all &= !release.global.contains(id);
        }
        for target in &release.targets {
            self.released.insert(target.clone(), release.at);
        }
    }
}

impl Turn<'_> {
    pub(super) fn on_release(&mut self, order: &ReleaseOrder) {
        let Ok(release) = release(self.state, order, self.now) else { return };
        let and_all = if order.global { " and the budget over all targets" } else { "" };
        let text = format!("the budget of {}{and_all} given back by {}: {}", order.target, order.by, order.why);
        let data = json!({ "release": release, "by": order.by, "why": order.why, "global": order.global });
        let target = release.targets.first().cloned();
        self.push(Effect::Release(Box::new(release)));
        self.push(Effect::Note(Box::new(Note { target, ..Note::general(self.now, NoteKind::Operator, text, data) })));
        self.look_again_at_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::{
        super::{Action, Event, Health, Reason, RunState, Scope, decide},
        *,
    };
    use crate::policy::Policy;

    const POLICY: &str = "version: 1
mode: auto
limits: {actions: 3, window: 10m, concurrent: 2}
defaults: {budget: {actions: 2, window: 30m, cooldown: 60s, cooldown_max: 10m}}
rules:
  - name: r
    match: {alertname: Errors}
    target: {label: service}
    steps: [{action: restart}]
    verify: {sli: x, below: 1}
";

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_800_000_000_000).plus(Duration::from_secs(seconds))
    }

    fn action(target: &str, n: u32, status: &str) -> Effect {
        let target = serde_json::json!({ "id": target, "name": target, "service": target });
        let key = serde_json::json!({ "fingerprint": "f", "starts_at": at(0) });
        let action: Action = serde_json::from_value(serde_json::json!({
            "id": format!("{}-{n}", target["id"].as_str().unwrap()), "incident": "i", "key": key, "rule": "r", "step": 0,
            "attempt": n, "verb": "restart", "target": target, "timeout_ms": 1, "stop_timeout_ms": 1,
            "started_before": null, "intended_at": at(u64::from(n)), "unknown_since": null, "next_inspect": null,
            "finished_at": null, "status": status, "error": null,
        }))
        .unwrap();
        Effect::PutAction(Box::new(action))
    }

    fn state(actions: &[Effect]) -> State {
        let scope = Scope { project: "p".to_owned(), own_id: None };
        let mut state = State::new(Arc::new(Policy::parse(POLICY).unwrap()), scope);
        actions.iter().for_each(|effect| state.apply(effect));
        state
    }

    fn order(state: &mut State, target: &str, global: bool) -> Vec<Effect> {
        let order = ReleaseOrder { target: target.to_owned(), global, by: "Mira".to_owned(), why: "cable".to_owned() };
        let effects = decide(state, Event::Released(order), at(10));
        effects.iter().for_each(|effect| state.apply(effect));
        effects
    }

    fn held(state: &State, target: &str) -> Option<Reason> {
        state.held(target, &[target.to_owned()], at(10)).map(|(_, held)| held.reason)
    }

    #[test]
    fn what_was_done_does_not_count_any_more() {
        let mut state = state(&[action("a", 1, "done"), action("a", 2, "done"), action("b", 1, "done")]);
        assert_eq!((held(&state, "a"), held(&state, "b")), (Some(Reason::TargetBudget), Some(Reason::Cooldown)));
        assert!(state.all_used_up(at(10)).is_some());
        let effects = order(&mut state, "a", false);
        assert_eq!((held(&state, "a"), held(&state, "b")), (None, Some(Reason::Cooldown)));
        assert_eq!(state.budgets(at(10)), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
        assert!(state.all_used_up(at(10)).is_some(), "the budget over all targets is another one");
        let noted = effects.iter().any(|e| match e {
            Effect::Note(note) => {
                note.kind == NoteKind::Operator && note.text == "the budget of a given back by Mira: cable"
            }
            _ => false,
        });
        assert!(noted, "{effects:?}");
        order(&mut state, "b", true);
        assert_eq!((held(&state, "b"), state.all_used_up(at(10))), (None, None));
        assert_eq!(state.global_budget(at(10)).left, 3);
        // What comes after it counts.
        state.apply(&action("a", 3, "done"));
        assert_eq!((held(&state, "a"), state.global_budget(at(10)).left), (Some(Reason::Cooldown), 2));
    }

    #[test]
    fn what_is_under_way_counts_on() {
        let mut state = state(&[action("a", 1, "done"), action("b", 1, "intended")]);
        assert!(order(&mut state, "b", true).is_empty(), "its result comes first");
        order(&mut state, "a", true);
        state.apply(&action("b", 1, "done"));
        assert_eq!(state.global_budget(at(10)).left, 2);
        let order = ReleaseOrder { target: "c".to_owned(), global: true, by: String::new(), why: String::new() };
        assert_eq!(release(&state, &order, at(10)), Err(Unreleasable::Unknown));
    }

    #[test]
    fn the_breaker_is_closed_until_the_next_action() {
        let mut state = state(&[action("a", 1, "done")]);
        let looping = Workload {
            id: "a".to_owned(),
            name: "a".to_owned(),
            services: vec!["a".to_owned()],
            project: Some("p".to_owned()),
            enabled: true,
            protected: false,
            state: RunState::Changing,
            health: Some(Health::Starting),
            started_at: Some(at(9)),
            finished_at: None,
            exit_code: Some(1),
            oom_killed: false,
            restart_count: 9,
            image: "i".to_owned(),
        };
        assert!(state.looping(&looping, at(10)));
        order(&mut state, "a", false);
        assert!(!state.looping(&looping, at(10)));
        state.apply(&action("a", 2, "not_performed"));
        assert!(!state.looping(&looping, at(10)), "nothing has been tried yet");
        state.apply(&action("a", 3, "done"));
        assert!(state.looping(&looping, at(10)));
    }
}

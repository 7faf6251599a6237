//! Budgets of the alert-bot that would keep it from doing what a scenario waits for. Pure.
//!
//! On a stack on which one scenario follows another they are used up by what was healed before, which says nothing
//! about the next. The operator's order gives them back.

use serde_json::Value;

use super::schema::ActionWanted;

/// What must be given back before a scenario can begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owed {
    /// Compose service.
    pub target: String,
    /// The budget over all targets too.
    pub global: bool,
    /// For people.
    pub why: String,
}

/// What stands in the way of these actions, by the bot's `GET /v1/targets`.
pub fn owed(targets: &Value, wanted: &[ActionWanted]) -> Vec<Owed> {
    let least = |wanted: &ActionWanted| u64::from(wanted.times.least);
    let all_left = targets["limits"]["left"].as_u64();
    let all_short = all_left.is_some_and(|left| left < wanted.iter().map(least).sum());
    let mut found: Vec<Owed> = Vec::new();
    for action in wanted {
        let known = found.iter().any(|owed| owed.target == action.target);
        let containers = targets["targets"].as_array().into_iter().flatten();
        let why = containers.filter(|c| c["service"] == *action.target).find_map(|c| why_not(c, least(action)));
        if let (Some(why), false) = (why, known) {
            found.push(Owed { target: action.target.clone(), global: false, why });
        }
    }
    if all_short && let Some(first) = wanted.first() {
        let why = format!("{} actions are left over all targets", all_left.unwrap_or_default());
        match found.iter_mut().find(|owed| owed.target == first.target) {
            Some(owed) => (owed.global, owed.why) = (true, format!("{}, {why}", owed.why)),
            None => found.insert(0, Owed { target: first.target.clone(), global: true, why }),
        }
    }
    found
}

fn why_not(container: &Value, needed: u64) -> Option<String> {
    if let Some(reason) = container["held"]["reason"].as_str() {
        let until = container["held"]["until"].as_str().and_then(|t| t.get(11..19)).unwrap_or("later");
        return Some(format!("{reason} until {until}"));
    }
    let left = container["budget"]["left"].as_u64()?;
    (left < needed).then(|| format!("{left} actions are left"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::scenario::value::{Count, Span};

    fn wanted(target: &str, times: u32) -> ActionWanted {
        let within = Span(Duration::from_secs(60));
        ActionWanted {
            verb: "restart".into(),
            target: target.into(),
            times: Count::exactly(times),
            within,
            verdict: None,
        }
    }

    fn targets(left: u64, redis: &Value) -> Value {
        json!({"limits": {"actions": 12, "left": left, "window_seconds": 600}, "targets": [
            {"name": "selfheal-lake-1", "service": "lake", "budget": null, "held": null},
            {"name": "selfheal-redis-1", "service": "redis", "budget": {"actions": 3, "left": 1}, "held": redis},
        ]})
    }

    #[test]
    fn what_would_hold_the_action_is_owed_and_nothing_else() {
        let held = json!({"reason": "cooldown", "until": "2026-07-01T12:34:56.789Z"});
        let tell = |targets: &Value, wanted: &[ActionWanted]| {
            let owed = owed(targets, wanted).into_iter();
            owed.map(|o| format!("{}{}: {}", o.target, if o.global { "+all" } else { "" }, o.why)).collect::<Vec<_>>()
        };
        let none: [&str; 0] = [];
        assert_eq!(tell(&targets(12, &Value::Null), &[wanted("lake", 1), wanted("redis", 1)]), none);
        assert_eq!(tell(&targets(12, &held), &[wanted("lake", 1)]), none);
        assert_eq!(tell(&targets(12, &held), &[wanted("redis", 1)]), ["redis: cooldown until 12:34:56"]);
        assert_eq!(tell(&targets(12, &Value::Null), &[wanted("redis", 2)]), ["redis: 1 actions are left"]);
        let both = [wanted("lake", 1), wanted("redis", 1)];
        assert_eq!(tell(&targets(1, &Value::Null), &both), ["lake+all: 1 actions are left over all targets"]);
        assert_eq!(
            tell(&targets(0, &held), &[wanted("redis", 1)]),
            ["redis+all: cooldown until 12:34:56, 0 actions are left over all targets"]
        );
        assert_eq!(tell(&targets(0, &held), &[]), none);
        // A bot that does not say so owes nothing.
        assert_eq!(tell(&json!({"targets": []}), &[wanted("redis", 1)]), none);
    }
}

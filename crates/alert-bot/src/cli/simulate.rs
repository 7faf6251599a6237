//! What a policy would decide on a notification.

use std::{path::Path, sync::Arc};

use serde_json::{Value, json};

use super::{Done, Failure, load, plain, print_json, table};
use crate::{
    engine::{Effect, Event, NoteKind, Scope, Source, State, decide},
    intake,
    policy::Policy,
    timestamp::Timestamp,
};

/// Decides on a notification with nothing known and nothing touched.
pub(super) fn run(policy: &Path, payload: &Path, project: &str, as_text: bool) -> Done {
    let policy = load(policy)?;
    let wrong = |error: &dyn std::fmt::Display| Failure::wrong(format!("{}: {error}", payload.display()));
    let body = std::fs::read(payload).map_err(|e| wrong(&e))?;
    let decisions = decisions(policy, &body, project, Timestamp::now()).map_err(|e| wrong(&e))?;
    if as_text {
        let text = |v: &Value| plain(v.as_str().unwrap_or("-"));
        let rows: Vec<_> = decisions
            .iter()
            .map(|d| {
                let steps = d["steps"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
                let steps = if steps.is_empty() { String::new() } else { format!(" ({})", steps.join(", ")) };
                let reason = d["reason"].as_str().map(|r| format!(" [{r}]")).unwrap_or_default();
                vec![
                    text(&d["alert"]),
                    text(&d["target"]["service"]),
                    format!("{}{steps}{reason}", text(&d["decision"]).replace('_', " ")),
                    text(&d["text"]),
                ]
            })
            .collect();
        print!("{}", table(&rows));
    } else {
        print_json(&decisions);
    }
    Ok(())
}

/// The decisions, in the order of the notification's alerts. A decision that
/// needs a look at the container says so: what would be looked up, and which
/// steps would follow.
pub fn decisions(
    policy: Arc<Policy>,
    body: &[u8],
    project: &str,
    now: Timestamp,
) -> Result<Vec<Value>, intake::Malformed> {
    let notification = intake::parse(body)?;
    let mut state = State::new(policy, Scope { project: project.to_owned(), own_id: None });
    let mut decisions = Vec::new();
    for alert in notification.alerts {
        let rule = state.policy.rule_for(&alert.labels).cloned();
        let heal = rule.as_ref().and_then(|r| r.heal());
        let mut told = json!({
            "alert": alert.name(),
            "status": alert.status,
            "labels": alert.labels,
            "rule": rule.as_ref().map(|r| &r.name),
        });
        let service = heal.and_then(|h| h.target.service(&alert.labels));
        let event = Event::Alert { alert, source: Source::Webhook, received_at: now, trace: None };
        let effects = decide(&state, event, now);
        let refusal = effects.iter().find_map(|e| match e {
            Effect::Note(note) if note.kind == NoteKind::Decision => Some((note.reason, note.text.clone())),
            _ => None,
        });
        let looks = effects.iter().any(|e| matches!(e, Effect::Do(_)));
        let plan = rule.as_ref().map(|r| &r.plan);
        let (decision, reason, text) = match (refusal, looks, plan) {
            (Some((reason, text)), ..) => ("do_not_act", reason, text),
            (None, true, _) => {
                match crate::engine::target::choose(&[], service.as_deref(), &state.policy, &state.scope) {
                    // With no container listed, "no such container" only means that it must be looked up.
                    Err(r) if r.reason != crate::engine::Reason::NoTarget => ("do_not_act", Some(r.reason), r.text),
                    _ => (
                        "look_up_and_act",
                        None,
                        "acts if the container may be touched and its budget allows".to_owned(),
                    ),
                }
            }
            (None, false, Some(crate::policy::Plan::Ignore(because))) => ("ignore", None, because.clone()),
            (None, false, _) => ("nothing", None, "the alert changes nothing".to_owned()),
        };
        for effect in &effects {
            state.apply(effect);
        }
        told["decision"] = json!(decision);
        told["reason"] = json!(reason);
        told["text"] = json!(text);
        told["target"] = json!({ "project": project, "service": service });
        told["steps"] = json!(heal.map(|h| h.steps.iter().map(|s| s.action).collect::<Vec<_>>()));
        told["mode"] = json!(rule.as_ref().map(|r| state.policy.mode.stricter(r.mode)));
        decisions.push(told);
    }
    Ok(decisions)
}

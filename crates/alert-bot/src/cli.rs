//! Commands that touch nothing: `check` and `simulate`.

use std::{path::PathBuf, process::ExitCode, sync::Arc};

use serde_json::{Value, json};

use crate::{
    engine::{Effect, Event, NoteKind, Scope, Source, State, decide},
    intake,
    policy::Policy,
    timestamp::Timestamp,
};

/// What the command line may ask for besides running the bot.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Tool {
    /// Run the bot (the default).
    Serve,
    /// Check a policy document; every fault is named with its line.
    Check {
        /// The document.
        file: PathBuf,
    },
    /// Print as JSON what a policy would decide on a notification, touching nothing.
    Simulate {
        /// The document.
        #[arg(long)]
        policy: PathBuf,
        /// The notification, as posted to the webhook.
        #[arg(long)]
        payload: PathBuf,
        /// Compose project whose containers may be healed.
        #[arg(long, env = "TARGET_PROJECT", default_value = "selfheal")]
        project: String,
    },
}

/// 64: what was given is wrong (`EX_USAGE`).
const WRONG: u8 = 64;

/// Checks a document and prints what is wrong.
pub fn check(file: &PathBuf) -> ExitCode {
    match load(file) {
        Ok(policy) => {
            let healing = policy.rules.iter().filter(|r| r.heal().is_some()).count();
            println!(
                "{}: valid; {} rules, {healing} of them heal; mode {}; digest {}",
                file.display(),
                policy.rules.len(),
                policy.mode.as_str(),
                policy.digest
            );
            ExitCode::SUCCESS
        }
        Err(faults) => {
            for fault in faults {
                eprintln!("{fault}");
            }
            ExitCode::from(WRONG)
        }
    }
}

fn load(file: &PathBuf) -> Result<Policy, Vec<String>> {
    let text = std::fs::read_to_string(file).map_err(|e| vec![format!("{}: {e}", file.display())])?;
    Policy::parse(&text).map_err(|faults| {
        faults
            .iter()
            .map(|f| match f.line {
                0 => format!("{}: {}", file.display(), f.message),
                line => format!("{}:{line}: {}", file.display(), f.message),
            })
            .collect()
    })
}

/// Decides on a notification with nothing known and nothing touched.
pub fn simulate(policy: &PathBuf, payload: &PathBuf, project: &str) -> ExitCode {
    let policy = match load(policy) {
        Ok(policy) => Arc::new(policy),
        Err(faults) => {
            for fault in faults {
                eprintln!("{fault}");
            }
            return ExitCode::from(WRONG);
        }
    };
    let body = match std::fs::read(payload) {
        Ok(body) => body,
        Err(error) => {
            eprintln!("{}: {error}", payload.display());
            return ExitCode::from(WRONG);
        }
    };
    match decisions(policy, &body, project, Timestamp::now()) {
        Ok(decisions) => {
            println!("{}", serde_json::to_string_pretty(&decisions).unwrap_or_default());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", payload.display());
            ExitCode::from(WRONG)
        }
    }
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

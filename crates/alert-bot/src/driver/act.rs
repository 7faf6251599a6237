//! The calls to the outside, each ending in one event.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Tools, hook, subject};
use crate::{
    backend::{BackendError, Deed, PREVIOUS_IMAGE},
    engine::{Action, CallOutcome, Event, Incident, Probe, Sli, Tri, Workload, target::Candidate},
    policy::Verb,
    timestamp::Timestamp,
};

/// Log lines kept as evidence.
const LOG_LINES: usize = 40;
/// Evidence never holds an action up for longer.
const LOG_LIMIT: Duration = Duration::from_secs(2);
/// The curve begins this long before the alert.
const BEFORE: Duration = Duration::from_secs(180);

/// Carries an action out. What cannot be told is reported as unknown.
pub async fn act(tools: Tools, action: Action, call: Option<hook::Call>) -> Event {
    let limit = Duration::from_millis(action.timeout_ms);
    let stop_timeout = Duration::from_millis(action.stop_timeout_ms);
    let deed = match action.verb {
        Verb::Restart => Deed::Restart { stop_timeout },
        Verb::Start => Deed::Start,
        Verb::StopStart => Deed::StopStart { stop_timeout },
        Verb::Recreate => Deed::Recreate { stop_timeout, image: None },
        Verb::RollBack => Deed::Recreate { stop_timeout, image: Some(PREVIOUS_IMAGE.to_owned()) },
        Verb::ScaleOut => Deed::Replicate,
        Verb::ScaleIn => Deed::Remove { stop_timeout },
        Verb::Diagnose => return look(&tools, action).await,
        Verb::SqlDiagnosis => return ask_database(&tools, action, limit).await,
        Verb::Webhook => return ring(&tools, action, call, limit).await,
    };
    // The container's last words: a restart keeps them, a recreate does not, and by the time
    // somebody reads the incident they have scrolled away.
    let evidence = last_words(&tools, &action).await;
    let target = match replica_to_remove(&tools, &action).await {
        Ok(replica) => replica.unwrap_or_else(|| action.target.id.clone()),
        Err(why) => return Event::Returned { action: action.id, outcome: CallOutcome::NotPerformed(why), evidence },
    };
    // Last of all: from here on nothing but the request itself is in its way.
    if let Err(why) = tools.lease.confirm().await {
        return Event::Returned { action: action.id, outcome: CallOutcome::NotPerformed(why), evidence };
    }
    let result = tools.backend.act(&target, &deed, limit).await;
    let outcome = match result {
        Ok(_) => CallOutcome::Done,
        Err(error @ (BackendError::Unreachable(_) | BackendError::NotFound)) => {
            CallOutcome::NotPerformed(error.to_string())
        }
        Err(error @ BackendError::Refused(_)) => CallOutcome::Refused(error.to_string()),
        Err(error @ (BackendError::TimedOut(_) | BackendError::Failed(_))) => CallOutcome::Unknown(error.to_string()),
    };
    if outcome != CallOutcome::Done {
        telemetry::trace::set_error("the action did not return as done");
    }
    Event::Returned { action: action.id, outcome, evidence }
}

/// Inspects the container of an action whose outcome is not known.
pub async fn inspect(tools: Tools, action: Action) -> Event {
    // What was put in its place goes by its name.
    let target = if action.verb.replaces() { &action.target.name } else { &action.target.id };
    let found = present(&tools, target).await;
    let replicas = if action.verb.scales() { replicas(&tools, &action).await.ok().map(|r| r.len()) } else { None };
    Event::Inspected { action: action.id, found, replicas }
}

/// The container of this id or name, if there is one.
async fn present(tools: &Tools, container: &str) -> Result<Option<Workload>, String> {
    match tools.backend.inspect(container).await {
        Ok(workload) => Ok(Some(workload)),
        Err(BackendError::NotFound) => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Names of the replicas of the target, sorted.
async fn replicas(tools: &Tools, action: &Action) -> Result<Vec<String>, BackendError> {
    let listed = tools.backend.list().await?;
    let of = |c: &Candidate| c.replica_of.as_deref() == Some(action.target.id.as_str());
    let mut names: Vec<_> = listed.into_iter().filter(of).map(|c| c.name).collect();
    names.sort();
    Ok(names)
}

/// The one that `scale_in` removes: the last.
async fn replica_to_remove(tools: &Tools, action: &Action) -> Result<Option<String>, String> {
    if action.verb != Verb::ScaleIn {
        return Ok(None);
    }
    let mut replicas = replicas(tools, action).await.map_err(|e| e.to_string())?;
    replicas.pop().map(Some).ok_or_else(|| "there is no replica".to_owned())
}

/// The container's state and its last log lines.
async fn look(tools: &Tools, action: Action) -> Event {
    let (inspected, logs) =
        tokio::join!(tools.backend.inspect(&action.target.id), tools.backend.logs(&action.target.id, LOG_LINES));
    let (outcome, evidence) = match (inspected, logs) {
        (Ok(container), logs) => {
            let logs = logs.unwrap_or_else(|error| vec![format!("the log cannot be read: {error}")]);
            (CallOutcome::Done, Some(json!({ "container": container, "logs": logs })))
        }
        (Err(error), _) => (CallOutcome::NotPerformed(error.to_string()), None),
    };
    Event::Returned { action: action.id, outcome, evidence }
}

/// Calls the address that the policy names.
async fn ring(tools: &Tools, action: Action, call: Option<hook::Call>, limit: Duration) -> Event {
    let (outcome, evidence) = match (call, tools.lease.confirm().await) {
        (Some(call), Ok(())) => call.send(&tools.web, &action.id, limit).await,
        (None, _) => (CallOutcome::NotPerformed("the rule names no address".to_owned()), None),
        (_, Err(why)) => (CallOutcome::NotPerformed(why), None),
    };
    if outcome != CallOutcome::Done {
        telemetry::trace::set_error("the call was not answered as done");
    }
    Event::Returned { action: action.id, outcome, evidence }
}

/// What the database waits for.
async fn ask_database(tools: &Tools, action: Action, limit: Duration) -> Event {
    let (outcome, evidence) = match &tools.diagnosis {
        None => (CallOutcome::NotPerformed("DIAGNOSIS_PGHOST names no database".to_owned()), None),
        Some(diagnosis) => match tokio::time::timeout(limit, diagnosis.run()).await {
            Ok(Ok(findings)) => (CallOutcome::Done, Some(json!({ "findings": findings }))),
            Ok(Err(why)) => (CallOutcome::NotPerformed(why), None),
            Err(_) => (CallOutcome::NotPerformed("no answer in time".to_owned()), None),
        },
    };
    Event::Returned { action: action.id, outcome, evidence }
}

async fn last_words(tools: &Tools, action: &Action) -> Option<Value> {
    match tokio::time::timeout(LOG_LIMIT, tools.backend.logs(&action.target.id, LOG_LINES)).await {
        Ok(Ok(logs)) if !logs.is_empty() => Some(json!({ "logs": logs })),
        _ => None,
    }
}

/// The SLI from before the alert until now.
pub async fn curve(tools: Tools, incident: Incident) -> Option<Event> {
    let subject = subject(&incident)?;
    let from = incident.starts_at.minus(BEFORE);
    let (query, points) = tools.observer.curve(&subject, from, Timestamp::now()).await.ok()?;
    let text = "the indicator from before the alert until the verdict".to_owned();
    let evidence = json!({
        "sli": { "query": query, "points": points, "good": subject.verify.good.to_string() },
        "marks": { "alert": incident.starts_at, "opened": incident.opened_at,
                   "done": incident.verification.as_ref().map(|v| v.since) },
    });
    let alert = incident.alert.name().to_owned();
    Some(Event::Found { incident: incident.id, alert, text, evidence })
}

/// Looks at container, alert and SLI.
pub async fn probe(tools: Tools, incident: Incident) -> Event {
    let id = incident.id.clone();
    let Some(subject) = subject(&incident) else {
        let why = "the incident has no target".to_owned();
        let probe =
            Probe { container: Err(why.clone()), firing: Tri::Unknown(why.clone()), sli: Sli::Unavailable(why) };
        return Event::Probed { incident: id, probe };
    };
    // By name: a container that was recreated meanwhile is the same target.
    let container = present(&tools, &subject.container).await;
    Event::Probed { incident: id, probe: tools.observer.probe(&subject, container).await }
}

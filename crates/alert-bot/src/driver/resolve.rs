//! Looks targets up, many at a time: a thousand alerts with one cause ask Docker
//! once.

use std::collections::BTreeMap;

use tokio::sync::{mpsc, watch};
use tracing::{Instrument, Span};

use super::{Sender, Tools};
use crate::{
    backend::BackendError,
    engine::{
        AlertLook, Event, Reason, Scope, Seen, Topology, Workload,
        target::{self, Refusal},
    },
    policy::reload::Loaded,
    timestamp::Timestamp,
};

/// Look-ups answered together at most.
const BATCH: usize = 512;

/// One look-up.
pub struct Request {
    pub incident: String,
    pub fingerprint: String,
    pub service: Option<String>,
    pub span: Span,
}

/// Starts the task that answers look-ups; it ends with the last sender.
pub fn start(
    tools: Tools,
    policy: watch::Receiver<Loaded>,
    scope: Scope,
    send: Sender,
) -> mpsc::UnboundedSender<Request> {
    let (requests, mut queue) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let mut batch = Vec::new();
        while queue.recv_many(&mut batch, BATCH).await > 0 {
            // The calls appear in the trace of the first that asked.
            let span = batch.first().map_or_else(Span::none, |r: &Request| r.span.clone());
            let loaded = policy.borrow().clone();
            let events = answer(&tools, &loaded, &scope, &mut batch).instrument(span).await;
            if send.send(events).await.is_err() {
                return;
            }
        }
    });
    requests
}

async fn answer(tools: &Tools, loaded: &Loaded, scope: &Scope, batch: &mut Vec<Request>) -> Vec<Event> {
    let at = Timestamp::now();
    let (listed, statuses) = tokio::join!(tools.backend.list(), tools.observer.alertmanager.statuses());
    let mut inspected: BTreeMap<String, Result<Workload, Refusal>> = BTreeMap::new();
    let mut events = Vec::with_capacity(batch.len() + 1);
    // What needs what is as fresh as the look-up: after a start, nobody may have listed them yet.
    if let Ok(candidates) = &listed {
        events.push(Event::Topology(Topology::new(candidates.clone(), &scope.project)));
    }
    for request in batch.drain(..) {
        let chosen = match &listed {
            Ok(candidates) => {
                target::choose(candidates, request.service.as_deref(), &loaded.policy, scope).map(|c| c.id.clone())
            }
            Err(error) => Err(unavailable(error)),
        };
        let workload = match chosen {
            Ok(id) => match inspected.get(&id) {
                Some(known) => known.clone(),
                None => {
                    let found = tools.backend.inspect(&id).await.map_err(|e| unavailable(&e));
                    inspected.insert(id, found.clone());
                    found
                }
            },
            Err(refusal) => Err(refusal),
        };
        let alert = match &statuses {
            None => AlertLook::Unasked,
            Some(statuses) => statuses
                .get(&request.fingerprint)
                .map_or(AlertLook::Unlisted, |status| AlertLook::Listed(status.clone())),
        };
        events.push(Event::Resolved { incident: request.incident, seen: Seen { at, workload, alert } });
    }
    events
}

fn unavailable(error: &BackendError) -> Refusal {
    let soon = Timestamp::now().plus(std::time::Duration::from_secs(5));
    match error {
        BackendError::NotFound => Refusal::new(Reason::NoTarget, "the container has gone meanwhile").retry(soon),
        other => Refusal::new(Reason::BackendUnavailable, format!("docker-guard {other}")).retry(soon),
    }
}

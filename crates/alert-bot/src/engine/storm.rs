//! Too much at once: the brake on everything.
//!
//! When a large part of all services burns at the same time, the fault lies beneath them (the host,
//! the network, the monitoring itself), and restarting each would make it worse. Then nothing is
//! acted on, and people are told once.

use std::collections::BTreeSet;

use serde_json::json;

use super::{
    event::{Effect, NoteKind, Page, PageKind},
    model::Incident,
    operator::Freeze,
    state::State,
    target,
    turn::Turn,
};
use crate::timestamp::Timestamp;

/// Services that would be acted on, began to burn lately, and that nothing burning explains.
///
/// What is left to people anyway needs no brake: targets that are not scraped yet and probes that fail
/// while a stack is being started are many, and mean nothing.
///
/// What depends on a burning service is its symptom, not a further one: a database that takes five
/// services with it is one cause.
fn roots(state: &State, also: &Incident, now: Timestamp) -> BTreeSet<String> {
    let storm = &state.policy.storm;
    let since = now.minus(storm.within.get());
    let heals = |i: &Incident| i.rule.as_ref().is_some_and(|r| r.heal().is_some());
    let lately = |i: &&Incident| i.alert_active && i.suppressed.is_none() && i.opened_at >= since && heals(i);
    let burning: BTreeSet<String> = state
        .open
        .values()
        .filter(lately)
        // A cause may well be the last to be heard of: then it explains what burned before it.
        .chain([also])
        .filter_map(Incident::service)
        .filter_map(|service| healable(state, &service))
        .collect();
    burning.iter().filter(|service| !state.ancestors(service).iter().any(|a| burning.contains(*a))).cloned().collect()
}

/// The first name of a service whose one container may be touched, by whichever of its names it is called. What
/// is refused anyway needs no brake either.
fn healable(state: &State, service: &str) -> Option<String> {
    let found = target::choose(&state.topology.containers, Some(service), &state.policy, &state.scope).ok()?;
    found.services.first().cloned()
}

impl Turn<'_> {
    /// Freezes everything when a storm begins; `also` is the incident that this turn has opened.
    pub(super) fn brake(&mut self, also: &Incident) {
        let state = self.state;
        let storm = &state.policy.storm;
        if also.rule.as_ref().is_none_or(|r| r.heal().is_none()) {
            return;
        }
        if state.freeze.as_ref().is_some_and(|f| f.holds(self.now)) {
            return;
        }
        let burning = roots(state, also, self.now);
        let names = state.topology.containers.iter().filter_map(|c| c.services.first());
        let all = names.filter_map(|name| healable(state, name)).collect::<BTreeSet<_>>().len();
        if burning.len() < storm.at_least || burning.len() as f64 <= storm.share * all as f64 {
            return;
        }
        let names = burning.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let why = format!("{} of {all} services began to burn within {}: {names}", burning.len(), storm.within);
        let until = self.now.plus(storm.freeze.get());
        let freeze =
            Freeze { by: "storm".to_owned(), why: why.clone(), since: self.now, until: Some(until), storm: true };
        self.push(Effect::Freeze(Some(Box::new(freeze))));
        self.system(NoteKind::Escalated, format!("storm: {why}"), json!({ "burning": burning, "until": until }));
        self.push(Effect::Page(Box::new(Page {
            about: "storm".to_owned(),
            incident: also.id.clone(),
            at: self.now,
            title: "Too much burns at once: nothing is acted on".to_owned(),
            text: format!("{why}. Nothing is acted on until {until}, or until somebody unfreezes."),
            kind: PageKind::Call,
            to: Vec::new(),
            levels: 1,
            next: None,
        })));
    }

    /// A freeze with an end has come to it.
    pub(super) fn thaw(&mut self) {
        if self.state.freeze.as_ref().is_some_and(|f| !f.holds(self.now)) {
            self.on_freeze(None, "the time that it was meant for");
        }
    }
}

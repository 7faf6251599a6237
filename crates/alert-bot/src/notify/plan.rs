//! What waits to be said becomes messages. Pure.
//!
//! Calls that come within seconds of each other are one message: a cause with
//! twenty dependants is one thing to hear of. The more was said lately, the
//! longer is waited for what else may come.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    engine::{Page, PageKind},
    journal::outbox::{Envelope, Waiting},
    policy::Receiver,
    timestamp::Timestamp,
};

/// What was said within this time makes the next message wait longer …
pub const LATELY: Duration = Duration::from_secs(600);
/// … up to this.
const LONGEST: Duration = Duration::from_secs(60);

/// How long a call waits for company, with so many messages lately.
pub fn patience(first: Duration, lately: usize) -> Duration {
    // The first three of ten minutes are nobody's flood.
    let doublings = u32::try_from(lately.saturating_sub(2)).unwrap_or(u32::MAX).min(16);
    first.saturating_mul(1 << doublings).min(LONGEST.max(first))
}

/// Whether what waits has waited long enough.
pub fn ripe(waiting: &[Waiting], patience: Duration, now: Timestamp) -> bool {
    // A clock that was set back must not keep anybody from being called.
    waiting.first().is_some_and(|w| w.page.at > now || now.since(w.page.at) >= patience)
}

/// The messages for what waits. `told` says whether a receiver has an incident.
pub fn messages(waiting: &[Waiting], set_up: &[Receiver], told: impl Fn(Receiver, &str) -> bool) -> Vec<Envelope> {
    let mut out: Vec<Envelope> = Vec::new();
    for receiver in set_up.iter().copied() {
        let meant = |page: &&Page| page.kind == PageKind::Call && addressees(page, set_up).contains(&receiver);
        let calls: Vec<&Page> = waiting.iter().map(|w| &w.page).filter(meant).collect();
        if let Some(last) = calls.last() {
            out.push(Envelope {
                receiver,
                kind: PageKind::Call,
                incidents: distinct(&calls),
                levels: calls.iter().map(|page| page.levels).max().unwrap_or(0).max(1),
                next: last.next.clone(),
                why: calls.iter().map(|page| (page.incident.clone(), page.text.clone())).collect(),
            });
        }
        let called = distinct(&calls);
        let updates: Vec<&Page> = waiting.iter().map(|w| &w.page).filter(|p| p.kind == PageKind::Update).collect();
        // A call shows how things stand when it is sent: it needs no update beside it.
        for incident in distinct(&updates).into_iter().filter(|id| !called.contains(id) && told(receiver, id)) {
            let levels = updates.iter().filter(|p| p.incident == incident).map(|p| p.levels).max().unwrap_or(0);
            let incidents = vec![incident];
            let why = BTreeMap::new();
            out.push(Envelope { receiver, kind: PageKind::Update, incidents, levels, next: None, why });
        }
    }
    out
}

/// Who is meant, of those that are set up. Nobody is forgotten because a level
/// names only receivers that are not.
fn addressees(page: &Page, set_up: &[Receiver]) -> Vec<Receiver> {
    let named: Vec<_> = set_up.iter().copied().filter(|r| page.to.contains(r)).collect();
    if named.is_empty() { set_up.to_vec() } else { named }
}

fn distinct(pages: &[&Page]) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for page in pages {
        if !ids.contains(&page.incident) {
            ids.push(page.incident.clone());
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(incident: &str, kind: PageKind, to: &[Receiver], at: i64) -> Waiting {
        Waiting {
            id: at,
            page: Page {
                about: "api".to_owned(),
                incident: incident.to_owned(),
                at: Timestamp::from_millis(at * 1000),
                title: String::new(),
                text: String::new(),
                kind,
                to: to.to_vec(),
                levels: usize::from(kind == PageKind::Call),
                next: None,
            },
        }
    }

    fn told_of(messages: &[Envelope]) -> Vec<String> {
        messages
            .iter()
            .map(|m| {
                let kind = if m.kind == PageKind::Call { "call" } else { "update" };
                format!("{} {kind} {}", m.receiver.as_str(), m.incidents.join("+"))
            })
            .collect()
    }

    const ALL: &[Receiver] = &Receiver::ALL;

    #[test]
    fn calls_that_wait_together_are_one_message_to_each() {
        let waiting = [
            page("a", PageKind::Call, &[Receiver::Slack], 0),
            page("b", PageKind::Call, &[Receiver::Slack, Receiver::Email], 1),
            page("a", PageKind::Call, &[Receiver::Email], 2),
            page("b", PageKind::Update, &[], 3),
        ];
        let messages = messages(&waiting, ALL, |_, _| true);
        assert_eq!(told_of(&messages), ["slack call a+b", "email call b+a", "webhook update b"]);
    }

    #[test]
    fn updates_go_to_whoever_was_called_and_once() {
        let waiting = [
            page("a", PageKind::Update, &[], 0),
            page("a", PageKind::Update, &[], 1),
            page("b", PageKind::Update, &[], 1),
        ];
        let messages = messages(&waiting, ALL, |receiver, id| receiver == Receiver::Slack && id == "a");
        assert_eq!(told_of(&messages), ["slack update a"]);
    }

    #[test]
    fn a_level_without_a_receiver_goes_to_those_that_are_set_up() {
        let waiting = [page("a", PageKind::Call, &[Receiver::Slack], 0)];
        assert_eq!(told_of(&messages(&waiting, &[Receiver::Email], |_, _| false)), ["email call a"]);
        assert_eq!(messages(&waiting, &[], |_, _| false), []);
        // As an earlier version wrote it.
        let waiting = [page("a", PageKind::Call, &[], 0)];
        assert_eq!(told_of(&messages(&waiting, &[Receiver::Webhook], |_, _| false)), ["webhook call a"]);
    }

    #[test]
    fn patience_grows_with_what_was_said_and_has_an_end() {
        let first = Duration::from_secs(2);
        let secs: Vec<_> = [0, 1, 2, 3, 4, 7, 100].iter().map(|n| patience(first, *n).as_secs()).collect();
        assert_eq!(secs, [2, 2, 2, 4, 8, 60, 60]);
        let waiting = [page("a", PageKind::Call, &[], 100)];
        let at = |secs: i64| Timestamp::from_millis(secs * 1000);
        assert!(!ripe(&waiting, first, at(101)));
        assert!(ripe(&waiting, first, at(102)));
        assert!(ripe(&waiting, first, at(50)), "the clock was set back");
        assert!(!ripe(&[], first, at(102)));
    }
}

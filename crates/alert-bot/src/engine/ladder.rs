//! The escalation ladder: who is told next, and when. Pure.
//!
//! A level is sent once it is due and the trouble is still nobody's. What was
//! sent is remembered with its target ([`Told`]), in the journal, so a restart
//! neither repeats a level nor forgets one.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use serde_json::json;

use super::{
    event::{Effect, NextLevel, NoteKind, Page, PageKind},
    model::{Incident, Phase},
    turn::Turn,
};
use crate::{
    policy::{Level, Receiver},
    timestamp::Timestamp,
};

/// People are called about the same target once in this time …
const PAGE_EVERY: Duration = Duration::from_secs(1800);
/// … and in this time where what they were called for is over and it burns again;
/// doubled each time, up to the limit: what comes and goes is heard of less and less.
const CALL_AGAIN: Duration = Duration::from_secs(600);
const CALL_AGAIN_MAX: Duration = Duration::from_secs(4 * 3600);

const AGAIN: &str = "what people were called for was over, and it burns again";

/// What people were told about one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When the ladder was stepped on: levels count from here.
    pub since: Timestamp,
    /// When the last level was sent.
    pub at: Timestamp,
    /// On behalf of which incident.
    pub incident: String,
    /// How many levels were sent.
    pub levels: usize,
    /// How often they were called again soon after it had been over.
    pub again: u32,
}

impl Told {
    /// What is remembered once this call is made.
    pub fn after(page: &Page, before: Option<&Self>) -> Self {
        let mut told =
            Self { since: page.at, at: page.at, incident: page.incident.clone(), levels: page.levels, again: 0 };
        if let Some(before) = before {
            if page.levels > 1 {
                (told.since, told.again) = (before.since, before.again);
            } else if page.at.since(before.at) < before.call_again().saturating_mul(2) {
                told.again = before.again.saturating_add(1);
            }
        }
        told
    }

    fn call_again(&self) -> Duration {
        CALL_AGAIN.saturating_mul(1 << self.again.min(16)).min(CALL_AGAIN_MAX)
    }
}

/// Levels that are due and were not sent. Several at once where time has passed
/// unwatched: they make one message to all of their receivers.
pub fn due(ladder: &[Level], since: Timestamp, sent: usize, now: Timestamp) -> Range<usize> {
    let reached = ladder.iter().take_while(|level| since.plus(level.after.get()) <= now).count();
    sent.min(reached)..reached
}

/// When the next level falls due, unless somebody takes over.
pub fn next_at(ladder: &[Level], since: Timestamp, sent: usize) -> Option<Timestamp> {
    ladder.get(sent).map(|level| since.plus(level.after.get()))
}

/// All receivers of these levels, each once, in the order of the ladder.
pub fn receivers(ladder: &[Level], levels: Range<usize>) -> Vec<Receiver> {
    let mut to = Vec::new();
    for receiver in ladder.get(levels).unwrap_or_default().iter().flat_map(|level| &level.to) {
        if !to.contains(receiver) {
            to.push(*receiver);
        }
    }
    to
}

/// What an incident is called after when people are told of it: incidents about
/// the same share one call.
fn about(incident: &Incident) -> String {
    let target = incident.target.as_ref().map(|t| t.name.clone());
    target.or_else(|| incident.service()).unwrap_or_else(|| incident.alert.name().to_owned())
}

impl Turn<'_> {
    /// What it was called after already, or would be.
    fn about(&self, incident: &Incident) -> String {
        let called = self.state.pages.iter().find(|(_, told)| told.incident == incident.id);
        called.map_or_else(|| about(incident), |(about, _)| about.clone())
    }

    fn ladder(&self, incident: &Incident) -> Vec<Level> {
        let severity = incident.alert.labels.get("severity").map(String::as_str);
        self.state.policy.ladder(incident.rule.as_deref(), severity)
    }

    /// Whether people know of this target well enough.
    fn known(&self, told: &Told) -> bool {
        let every = if self.state.open.contains_key(&told.incident) { PAGE_EVERY } else { told.call_again() };
        self.now.since(told.at) < every
    }

    /// Tells people, unless they were told about the same target lately.
    pub(super) fn page(&mut self, incident: &mut Incident, why: &str) {
        let about = self.about(incident);
        let told = self.state.pages.get(&about).filter(|told| self.known(told));
        let just_called = self.called.contains(&about);
        let joined = told.is_some() || just_called;
        incident.escalated_at = Some(self.now);
        self.note(incident, NoteKind::Escalated, None, why, json!({ "about": about, "joined": joined }));
        match told {
            None if just_called => {}
            None => self.call(incident, about, why, self.now, 0),
            Some(_) => self.update(incident, why),
        }
    }

    /// Goes on to the next level where nobody has taken over in time.
    pub(super) fn climb(&mut self) {
        let state = self.state;
        let mut burning: BTreeMap<String, &Incident> = BTreeMap::new();
        for incident in state.open.values().filter(|i| waits_for_people(i)) {
            let about = self.about(incident);
            let own = state.pages.get(&about).is_some_and(|told| told.incident == incident.id);
            if own || !burning.contains_key(&about) {
                burning.insert(about, incident);
            }
        }
        for (about, incident) in burning {
            let Some(told) = state.pages.get(&about).filter(|_| !self.called.contains(&about)) else { continue };
            if !state.open.contains_key(&told.incident) {
                if !self.known(told) {
                    self.note(incident, NoteKind::Escalated, None, AGAIN, json!({ "about": about }));
                    self.call(incident, about, AGAIN, self.now, 0);
                }
                continue;
            }
            let ladder = self.ladder(incident);
            let levels = due(&ladder, told.since, told.levels, self.now);
            if levels.is_empty() {
                continue;
            }
            let waited = humantime::format_duration(Duration::from_secs(self.now.since(told.since).as_secs()));
            let why = format!("nobody has taken it over for {waited}");
            let data = json!({ "about": about, "level": levels.end, "to": receivers(&ladder, levels) });
            self.note(incident, NoteKind::Escalated, None, &why, data);
            self.call(incident, about, &why, told.since, told.levels);
        }
    }

    fn call(&mut self, incident: &Incident, about: String, why: &str, since: Timestamp, sent: usize) {
        self.called.insert(about.clone());
        let ladder = self.ladder(incident);
        let levels = due(&ladder, since, sent, self.now);
        let next = next_at(&ladder, since, levels.end)
            .map(|at| NextLevel { at, to: receivers(&ladder, levels.end..levels.end + 1) });
        self.push(Effect::Page(Box::new(Page {
            title: format!("{} on {about} needs people", incident.alert.name()),
            text: why.to_owned(),
            about,
            incident: incident.id.clone(),
            at: self.now,
            kind: PageKind::Call,
            to: receivers(&ladder, levels.clone()),
            levels: levels.end,
            next,
        })));
    }

    /// Tells whoever was called for this incident that something about it has changed.
    pub(super) fn update(&mut self, incident: &Incident, what: &str) {
        let about = self.about(incident);
        let Some(told) = self.state.pages.get(&about).filter(|told| told.incident == incident.id) else { return };
        let levels = told.levels;
        self.push(Effect::Page(Box::new(Page {
            title: format!("{} on {about}", incident.alert.name()),
            text: what.to_owned(),
            about,
            incident: incident.id.clone(),
            at: self.now,
            kind: PageKind::Update,
            to: Vec::new(),
            levels,
            next: None,
        })));
    }
}

/// Whether people want to hear of an alert that the bot leaves to them.
pub(super) fn audible(incident: &Incident) -> bool {
    let severity = incident.alert.labels.get("severity").map(String::as_str);
    incident.suppressed.is_none() && matches!(severity, Some("critical" | "warning"))
}

/// Handed to people, and not in anybody's hands yet.
fn waits_for_people(incident: &Incident) -> bool {
    incident.escalated_at.is_some()
        && incident.taken_over.is_none()
        && incident.alert_active
        && matches!(incident.phase, Phase::Waiting | Phase::Escalated)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::Period;

    fn ladder() -> Vec<Level> {
        let level =
            |secs, to: &[Receiver]| Level { after: Period::from_secs(secs), to: to.to_vec(), severity: Vec::new() };
        vec![
            level(0, &[Receiver::Slack]),
            level(300, &[Receiver::Email, Receiver::Slack]),
            level(900, &[Receiver::Webhook]),
        ]
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_millis(secs * 1000)
    }

    #[test]
    fn each_level_has_its_time() {
        let ladder = ladder();
        for (sent, now, wanted) in [
            (0, 0, 0..1),
            (1, 0, 1..1),
            (1, 299, 1..1),
            (1, 300, 1..2),
            (2, 899, 2..2),
            (2, 900, 2..3),
            (3, 90_000, 3..3),
            // Nobody looked for a quarter of an hour.
            (0, 1000, 0..3),
            (1, 1000, 1..3),
            // The clock jumped back: nothing is sent twice.
            (2, -50, 0..0),
        ] {
            assert_eq!(due(&ladder, at(0), sent, at(now)), wanted, "{sent} sent, {now} s");
        }
        assert_eq!(next_at(&ladder, at(10), 1), Some(at(310)));
        assert_eq!(next_at(&ladder, at(10), 3), None);
    }

    #[test]
    fn levels_that_are_due_together_are_one_message() {
        let ladder = ladder();
        assert_eq!(receivers(&ladder, 0..1), [Receiver::Slack]);
        assert_eq!(receivers(&ladder, 0..3), [Receiver::Slack, Receiver::Email, Receiver::Webhook]);
        assert_eq!(receivers(&ladder, 3..3), []);
    }

    proptest! {
        /// However time passes, each level is sent once and never before its time.
        #[test]
        fn every_level_once(steps in proptest::collection::vec(-50_i64..400, 1..40)) {
            let ladder = ladder();
            let (mut now, mut sent, mut log) = (0_i64, 0_usize, Vec::new());
            for step in steps {
                now += step;
                let levels = due(&ladder, at(0), sent, at(now));
                for level in levels.clone() {
                    prop_assert!(ladder[level].after.get().as_secs() as i64 <= now);
                    log.push(level);
                }
                sent = sent.max(levels.end);
            }
            let wanted: Vec<_> = (0..sent).collect();
            prop_assert_eq!(log, wanted);
        }
    }
}

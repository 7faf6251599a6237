//! The escalation ladder: who is told next, and when. Pure.
//!
//! A level is sent once it is due and the trouble is still nobody's. What was
//! sent is remembered with its target ([`Told`]), in the journal, so a restart
//! neither repeats a level nor forgets one.

use std::ops::Range;

use crate::{
    policy::{Level, Receiver},
    timestamp::Timestamp,
};

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::Period;

    fn ladder() -> Vec<Level> {
        let level = |secs, to: &[Receiver]| Level { after: Period::from_secs(secs), to: to.to_vec() };
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

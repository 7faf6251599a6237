//! When a challenger is trained, and what is done about a champion that is wrong too often.
//! Pure: state and instants in, a decision out.

use crate::{
    clock::parse_us,
    registry::{Action, Code, Entry},
};

/// A low accuracy is over when it has risen this far above the line.
const RECOVERED: f64 = 0.03;
/// The wait doubles with each challenger that lost, so many times.
const MOST_DOUBLINGS: u32 = 6;
const DAY_US: i64 = 86_400_000_000;

/// What retraining may cost.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Challenges within 24 hours.
    pub per_day: u32,
    /// Least time between the beginnings of two, µs; doubled by each that lost in a row.
    pub spacing_us: i64,
    /// Drift or low accuracy must have lasted this long, µs.
    pub after_us: i64,
    /// Accuracy below this is low.
    pub accuracy_line: f64,
    /// A champion promoted within this time is taken away rather than trained anew, µs.
    pub rollback_within_us: i64,
}

/// Since when something has been wrong: hysteresis in level and in time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Watch {
    low_since_us: Option<i64>,
    drift_since_us: Option<i64>,
}

impl Watch {
    /// Takes the present state. An accuracy that is not known changes nothing.
    pub fn observe(&mut self, accuracy: Option<f64>, drifted: bool, limits: &Limits, now_us: i64) {
        match accuracy {
            Some(a) if a < limits.accuracy_line => {
                self.low_since_us.get_or_insert(now_us);
            }
            Some(a) if a >= (limits.accuracy_line + RECOVERED).min(1.0) => self.low_since_us = None,
            _ => {}
        }
        self.drift_since_us = if drifted { self.drift_since_us.or(Some(now_us)) } else { None };
    }

    /// What has lasted long enough; low accuracy before drift.
    pub fn wants(&self, limits: &Limits, now_us: i64) -> Option<Code> {
        let lasted = |since: Option<i64>| since.is_some_and(|at| now_us.saturating_sub(at) >= limits.after_us);
        if lasted(self.low_since_us) {
            Some(Code::AccuracyLow)
        } else {
            lasted(self.drift_since_us).then_some(Code::Drift)
        }
    }

    /// When low accuracy will have lasted long enough; `None` while it is not low.
    pub fn low_lasts_at(&self, limits: &Limits) -> Option<i64> {
        self.low_since_us.map(|at| at.saturating_add(limits.after_us))
    }
}

/// Challenges so far, as the log has them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Past {
    /// Beginnings, µs since 1970, ascending.
    pub started_us: Vec<i64>,
    /// Challengers that lost since the last promotion of one.
    pub lost_in_a_row: u32,
    /// The one that has not ended.
    pub open: Option<String>,
}

impl Past {
    /// From the log.
    pub fn of(entries: &[Entry]) -> Self {
        let mut past = Self::default();
        for entry in entries {
            match entry.action {
                Action::Train => {
                    past.started_us.extend(parse_us(&entry.at));
                    past.open.clone_from(&entry.challenger);
                }
                Action::Discard => {
                    past.open = None;
                    // Only a fair trial says that trying again soon is useless.
                    past.lost_in_a_row += u32::from(!matches!(entry.code, Code::Interrupted | Code::LakeUnavailable));
                }
                Action::Promote if entry.challenger.is_some() => {
                    past.open = None;
                    past.lost_in_a_row = 0;
                }
                Action::Promote | Action::Rollback | Action::Judge | Action::Hold => {}
            }
        }
        past
    }

    /// Time between the last beginning and the next, µs.
    fn wait_us(&self, limits: &Limits) -> i64 {
        limits.spacing_us.saturating_mul(1 << self.lost_in_a_row.min(MOST_DOUBLINGS))
    }
}

/// What is done about a wish for a challenger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It is trained.
    Start,
    /// It is not.
    Hold {
        /// Why.
        code: Code,
        /// Until then, µs since 1970.
        until_us: i64,
    },
}

/// May a challenge begin?
pub fn decide(past: &Past, limits: &Limits, now_us: i64) -> Decision {
    if past.open.is_some() {
        return Decision::Hold { code: Code::Running, until_us: now_us };
    }
    let day: Vec<i64> = past.started_us.iter().copied().filter(|at| now_us.saturating_sub(*at) < DAY_US).collect();
    let most = usize::try_from(limits.per_day).unwrap_or(usize::MAX);
    if let Some(at) = day.len().checked_sub(most) {
        // The budget is free again when enough of the day's challenges are a day old.
        let until_us = day.get(at).map_or(now_us.saturating_add(DAY_US), |at| at.saturating_add(DAY_US));
        return Decision::Hold { code: Code::BudgetExhausted, until_us };
    }
    let Some(last) = past.started_us.iter().copied().max() else { return Decision::Start };
    let until_us = last.saturating_add(past.wait_us(limits));
    if now_us >= until_us {
        Decision::Start
    } else {
        let code = if past.lost_in_a_row > 0 { Code::BackingOff } else { Code::TooSoon };
        Decision::Hold { code, until_us }
    }
}

/// What is done about a champion that is wrong too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The former one serves again.
    RollBack,
    /// A challenger is trained.
    Retrain,
}

/// A champion that has not served for long is the likeliest cause itself; one that has is overtaken by
/// the world, and the one before it even more so. What a rollback brought back is not rolled back.
pub fn remedy(entries: &[Entry], limits: &Limits, now_us: i64) -> Remedy {
    let last = entries.iter().rev().find(|e| matches!(e.action, Action::Promote | Action::Rollback));
    match last {
        Some(e) if e.action == Action::Promote => {
            let age = parse_us(&e.at).map_or(i64::MAX, |at| now_us.saturating_sub(at));
            if age <= limits.rollback_within_us { Remedy::RollBack } else { Remedy::Retrain }
        }
        _ => Remedy::Retrain,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{clock::rfc3339, registry::Figures};

    const MINUTE: i64 = 60_000_000;
    const START: i64 = 1_769_864_400_000_000;

    fn limits() -> Limits {
        Limits {
            per_day: 4,
            spacing_us: 10 * MINUTE,
            after_us: 2 * MINUTE,
            accuracy_line: 0.8,
            rollback_within_us: 60 * MINUTE,
        }
    }

    fn entry(at_us: i64, action: Action, code: Code, challenger: Option<&str>) -> Entry {
        Entry {
            at: rfc3339(at_us),
            action,
            version: "v".into(),
            previous: "u".into(),
            code,
            reason: String::new(),
            challenger: challenger.map(str::to_owned),
            figures: Figures::new(),
        }
    }

    proptest! {
        /// Whatever is wished when, and however challenges end, the budget holds.
        #[test]
        fn the_budget_holds(wishes in proptest::collection::vec((0i64..180 * MINUTE, 0u8..4), 1..200)) {
            let limits = limits();
            let (mut log, mut now) = (Vec::new(), START);
            let mut begun: Vec<(i64, u32)> = Vec::new();
            for (pause, end) in wishes {
                // Whole milliseconds: the log keeps no more.
                now += pause / 1_000 * 1_000;
                let past = Past::of(&log);
                if decide(&past, &limits, now) != Decision::Start {
                    prop_assert!(past.open.is_some() || !past.started_us.is_empty(), "nothing holds the first one");
                    continue;
                }
                prop_assert_eq!(&past.open, &None);
                begun.push((now, past.lost_in_a_row));
                log.push(entry(now, Action::Train, Code::Drift, Some("c")));
                match end {
                    0 => log.push(entry(now + 1_000, Action::Discard, Code::NoBetter, Some("c"))),
                    1 => log.push(entry(now + 1_000, Action::Promote, Code::ChallengerWins, Some("c"))),
                    2 => log.push(entry(now + 1_000, Action::Discard, Code::Interrupted, Some("c"))),
                    _ => {
                        let held = decide(&Past::of(&log), &limits, now + DAY_US);
                        prop_assert_eq!(held, Decision::Hold { code: Code::Running, until_us: now + DAY_US });
                        log.push(entry(now + 2_000, Action::Discard, Code::TooFewFailures, Some("c")));
                    }
                }
            }
            for (i, (at, lost)) in begun.iter().enumerate() {
                let in_the_day = begun[..=i].iter().filter(|(b, _)| at - b < DAY_US).count();
                prop_assert!(in_the_day <= 4, "{in_the_day}");
                if i > 0 {
                    prop_assert!(at - begun[i - 1].0 >= limits.spacing_us << (*lost).min(MOST_DOUBLINGS));
                }
            }
        }

        /// A hold says when it ends, and then it does.
        #[test]
        fn a_hold_ends_when_it_says(starts in proptest::collection::vec(0i64..DAY_US, 1..8), lost in 0u32..9, now in 0i64..DAY_US) {
            let mut started_us: Vec<i64> = starts.iter().map(|s| START + s).collect();
            started_us.sort_unstable();
            let past = Past { started_us, lost_in_a_row: lost, open: None };
            let mut now = START + now;
            for _ in 0..20 {
                match decide(&past, &limits(), now) {
                    Decision::Start => return Ok(()),
                    Decision::Hold { until_us, .. } => {
                        prop_assert!(until_us > now);
                        now = until_us;
                    }
                }
            }
            prop_assert!(false, "it never ends");
        }
    }

    #[test]
    fn only_what_lasts_is_acted_on_and_the_edge_does_not_flutter() {
        let limits = limits();
        let mut watch = Watch::default();
        watch.observe(Some(0.79), false, &limits, START);
        assert_eq!(watch.wants(&limits, START + MINUTE), None);
        // Back over the line, and not yet well: it still counts from the beginning.
        watch.observe(Some(0.81), false, &limits, START + MINUTE);
        watch.observe(None, false, &limits, START + MINUTE);
        assert_eq!(watch.wants(&limits, START + 2 * MINUTE), Some(Code::AccuracyLow));
        assert_eq!(watch.low_lasts_at(&limits), Some(START + 2 * MINUTE));
        watch.observe(Some(0.84), true, &limits, START + 2 * MINUTE);
        assert_eq!((watch.wants(&limits, START + 3 * MINUTE), watch.low_lasts_at(&limits)), (None, None));
        assert_eq!(watch.wants(&limits, START + 4 * MINUTE), Some(Code::Drift));
        watch.observe(Some(0.84), false, &limits, START + 4 * MINUTE);
        assert_eq!(watch, Watch::default());
    }

    #[test]
    fn a_young_champion_is_taken_away_and_an_old_one_challenged() {
        let at = |minutes: i64, log: &[Entry]| remedy(log, &limits(), START + minutes * MINUTE);
        assert_eq!(at(0, &[]), Remedy::Retrain, "the built-in one has no predecessor");
        let mut log = vec![entry(START, Action::Promote, Code::Requested, None)];
        log.push(entry(START, Action::Hold, Code::TooSoon, None));
        assert_eq!((at(60, &log), at(61, &log)), (Remedy::RollBack, Remedy::Retrain));
        log.push(entry(START + MINUTE, Action::Rollback, Code::Requested, None));
        assert_eq!(at(2, &log), Remedy::Retrain);
    }

    #[test]
    fn without_a_budget_nothing_begins() {
        let none = Limits { per_day: 0, ..limits() };
        assert!(matches!(decide(&Past::default(), &none, START), Decision::Hold { code: Code::BudgetExhausted, .. }));
    }
}

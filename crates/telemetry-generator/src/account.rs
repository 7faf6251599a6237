//! What a machine's readings say to the ledger: energy an interval, and the gaps between.
//!
//! The meter is read at the beginning and the end of each interval. An interval ends with the
//! first reading beyond a multiple of its length, where data stop, and with the process. What
//! [`crate::gaps`] calls missing is told as a gap; what happened between two processes only the
//! ledger can tell, which knows what it took last. Pure, without a clock.

use std::sync::Arc;

use crate::{fleet::Identity, gaps::Reason};

/// The ledger takes no interval that is longer: hourly figures can be told from it, µs.
pub const LONGEST_US: i64 = 3_600_000_000;

/// One thing for the ledger.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// Energy in an interval.
    Interval(Interval),
    /// Data are missing from here on.
    GapOpen {
        /// Whose.
        machine_id: Arc<str>,
        /// End of the interval before, µs since 1970.
        from_us: i64,
        /// Why.
        reason: Reason,
    },
    /// Data are there again.
    GapClose {
        /// Whose.
        machine_id: Arc<str>,
        /// As in the `GapOpen`.
        from_us: i64,
        /// Start of the next interval, µs since 1970.
        until_us: i64,
    },
}

/// Energy of one machine in one interval.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// Whose.
    pub identity: Identity,
    /// Run of the process.
    pub boot_id: Arc<str>,
    /// From 1, without a hole in a run of the process.
    pub seq: u64,
    /// Start, µs since 1970.
    pub start_us: i64,
    /// End, exclusive.
    pub end_us: i64,
    /// In it, mJ.
    pub energy_mj: i64,
    /// The meter at its end, mJ.
    pub meter_mj: i64,
    /// The machine worked, or could, at its end.
    pub up: bool,
    /// Error code at its end, 0 for none.
    pub error_code: i32,
    /// What was made in it, of a machine that counts.
    pub parts: Option<Parts>,
}

/// Parts, counted since the machine was commissioned, or in an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Good or not.
    pub made: u32,
    /// Scrapped because of a failure.
    pub scrapped: u32,
    /// Not scrapped because a failure was avoided.
    pub avoided: u32,
}

/// Where a machine stands at a reading.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// When, µs since 1970.
    pub at_us: i64,
    /// Meter, mJ.
    pub meter_mj: i64,
    /// It works, or could.
    pub up: bool,
    /// 0 is none.
    pub error_code: i32,
    /// Of a machine that counts parts.
    pub parts: Option<Parts>,
}

/// The interval under way: from a reading to a reading.
#[derive(Clone, Copy, Debug)]
struct Open {
    start: Standing,
    end: Standing,
}

/// The account of one machine.
#[derive(Clone, Debug, Default)]
pub struct Account {
    seq: u64,
    open: Option<Open>,
    /// A gap is open since then; with an interval under way it ends where that begins.
    gap_from: Option<i64>,
}

/// Whose account it is.
#[derive(Clone, Copy, Debug)]
pub struct Owner<'a> {
    /// The machine.
    pub identity: &'a Identity,
    /// Run of the process.
    pub boot_id: &'a Arc<str>,
}

impl Account {
    /// A reading was taken; `missed` says why readings before it are missing, if any are.
    /// An interval ends with the first reading beyond a multiple of `every_us`.
    pub fn reading(
        &mut self,
        of: Owner<'_>,
        now: Standing,
        missed: Option<Reason>,
        every_us: i64,
        out: &mut Vec<Record>,
    ) {
        let Some(open) = &mut self.open else {
            self.open = Some(Open { start: now, end: now });
            return;
        };
        // A clock that was set back: until it has caught up there is nothing to add.
        if now.at_us <= open.end.at_us {
            return;
        }
        let too_long = now.at_us - open.start.at_us > LONGEST_US;
        if missed.is_some() || too_long {
            self.silent(of, missed.unwrap_or(Reason::SensorSilent), out);
            self.reading(of, now, None, every_us, out);
            return;
        }
        let every_us = every_us.max(1);
        open.end = now;
        if now.at_us.div_euclid(every_us) > open.start.at_us.div_euclid(every_us) {
            self.settle(of, out);
        }
    }

    /// Nothing arrived: data are missing since the latest reading. Said again it changes nothing.
    pub fn silent(&mut self, of: Owner<'_>, reason: Reason, out: &mut Vec<Record>) {
        self.settle(of, out);
        let Some(open) = self.open.take() else { return };
        // The ledger knows no machine that never told it anything, and a gap that nothing ended goes on.
        if self.seq > 0 && self.gap_from.is_none() {
            let from_us = open.end.at_us;
            out.push(Record::GapOpen { machine_id: of.identity.machine_id.clone(), from_us, reason });
            self.gap_from = Some(from_us);
        }
    }

    /// Ends the interval under way; the next one begins where it ended.
    pub fn settle(&mut self, of: Owner<'_>, out: &mut Vec<Record>) {
        let Some(open) = &mut self.open else { return };
        let Open { start, end } = *open;
        if end.at_us <= start.at_us {
            return;
        }
        open.start = end;
        self.seq += 1;
        // Together with what comes after it: of a process that is killed, both are stored or neither.
        if let Some(from_us) = self.gap_from.take() {
            out.push(Record::GapClose { machine_id: of.identity.machine_id.clone(), from_us, until_us: start.at_us });
        }
        let parts = start.parts.zip(end.parts).map(|(before, after)| Parts {
            made: after.made.saturating_sub(before.made),
            scrapped: after.scrapped.saturating_sub(before.scrapped),
            avoided: after.avoided.saturating_sub(before.avoided),
        });
        out.push(Record::Interval(Interval {
            identity: of.identity.clone(),
            boot_id: of.boot_id.clone(),
            seq: self.seq,
            start_us: start.at_us,
            end_us: end.at_us,
            energy_mj: end.meter_mj.saturating_sub(start.meter_mj).max(0),
            meter_mj: end.meter_mj,
            up: end.up,
            error_code: end.error_code,
            parts,
        }));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;
    const START: i64 = 1_769_864_400 * SECOND;
    const EVERY: i64 = 15 * SECOND;

    fn at(seconds: i64) -> Standing {
        let parts = Some(Parts { made: seconds as u32 / 10, scrapped: 0, avoided: 0 });
        Standing { at_us: START + seconds * SECOND, meter_mj: 1_000 + 7 * seconds, up: true, error_code: 0, parts }
    }

    struct Run {
        identity: Identity,
        boot_id: Arc<str>,
        account: Account,
        out: Vec<Record>,
    }

    impl Run {
        fn new() -> Self {
            Self { identity: Identity::of(0), boot_id: "b".into(), account: Account::default(), out: Vec::new() }
        }

        fn reading(&mut self, now: Standing, missed: Option<Reason>) {
            let of = Owner { identity: &self.identity, boot_id: &self.boot_id };
            self.account.reading(of, now, missed, EVERY, &mut self.out);
        }

        fn silent(&mut self) {
            let of = Owner { identity: &self.identity, boot_id: &self.boot_id };
            self.account.silent(of, Reason::SensorSilent, &mut self.out);
        }

        fn settle(&mut self) {
            let of = Owner { identity: &self.identity, boot_id: &self.boot_id };
            self.account.settle(of, &mut self.out);
        }

        /// From, until, in seconds since the start; gaps in letters.
        fn told(&self) -> Vec<String> {
            let s = |us: i64| (us - START) / SECOND;
            let text = |record: &Record| match record {
                Record::Interval(i) => format!("{} {}-{} {}", i.seq, s(i.start_us), s(i.end_us), i.energy_mj),
                Record::GapOpen { from_us, reason, .. } => format!("{} {}", reason.as_str(), s(*from_us)),
                Record::GapClose { from_us, until_us, .. } => format!("closed {}-{}", s(*from_us), s(*until_us)),
            };
            self.out.iter().map(text).collect()
        }
    }

    #[test]
    fn the_meter_is_read_at_each_end_of_an_interval() {
        let mut run = Run::new();
        (4..=34).for_each(|s| run.reading(at(s), None));
        run.settle();
        run.settle();
        assert_eq!(run.told(), ["1 4-15 77", "2 15-30 105", "3 30-34 28"]);
        let Record::Interval(second) = &run.out[1] else { panic!() };
        assert_eq!((second.meter_mj, second.parts.map(|p| p.made)), (1_210, Some(2)));
    }

    #[test]
    fn silence_ends_the_interval_and_opens_one_gap() {
        let mut run = Run::new();
        (0..=20).for_each(|s| run.reading(at(s), None));
        (21..40).for_each(|_| run.silent());
        (40..=46).for_each(|s| run.reading(at(s), None));
        assert_eq!(run.told(), ["1 0-15 105", "2 15-20 35", "sensor_silent 20", "closed 20-40", "3 40-45 35"]);
    }

    #[test]
    fn a_hole_that_is_noticed_afterwards_is_a_gap_too() {
        let mut run = Run::new();
        (0..=20).for_each(|s| run.reading(at(s), None));
        run.reading(at(26), Some(Reason::Paused));
        run.reading(at(31), None);
        assert_eq!(run.told(), ["1 0-15 105", "2 15-20 35", "paused 20", "closed 20-26", "3 26-31 35"]);
    }

    #[test]
    fn a_machine_that_never_told_anything_has_no_gaps() {
        let mut run = Run::new();
        run.silent();
        run.reading(at(3), None);
        run.silent();
        run.reading(at(9), Some(Reason::Paused));
        assert!(run.told().is_empty());
        run.reading(at(15), None);
        assert_eq!(run.told(), ["1 9-15 42"]);
    }

    #[test]
    fn a_clock_that_is_set_back_adds_nothing_and_an_interval_is_an_hour_at_most() {
        let mut run = Run::new();
        run.reading(at(0), None);
        run.reading(at(20), None);
        run.reading(at(10), None);
        run.reading(at(3_900), None);
        run.reading(at(3_901), None);
        run.settle();
        assert_eq!(run.told(), ["1 0-20 140", "sensor_silent 20", "closed 20-3900", "2 3900-3901 7"]);
    }

    proptest! {
        #[test]
        fn intervals_and_gaps_follow_each_other_and_lose_no_energy(
            steps in proptest::collection::vec((1i64..40, 0u8..8), 1..200),
        ) {
            let mut run = Run::new();
            let (mut now, mut last) = (0, 0);
            for (seconds, kind) in steps {
                now += seconds;
                match kind {
                    0 => run.silent(),
                    1 => { run.reading(at(now), Some(Reason::Paused)); last = now; }
                    _ => { run.reading(at(now), None); last = now; }
                }
            }
            run.settle();
            let (mut end, mut seq, mut meter) = (None, 0, None);
            let mut gap = None;
            for record in &run.out {
                match record {
                    Record::Interval(i) => {
                        seq += 1;
                        prop_assert_eq!(i.seq, seq);
                        prop_assert!(i.end_us > i.start_us && gap.is_none());
                        prop_assert!(end.is_none_or(|e| e == i.start_us));
                        prop_assert!(meter.is_none_or(|m| m <= i.meter_mj - i.energy_mj));
                        prop_assert_eq!(i.energy_mj, 7 * (i.end_us - i.start_us) / SECOND);
                        (end, meter) = (Some(i.end_us), Some(i.meter_mj));
                    }
                    Record::GapOpen { from_us, .. } => {
                        prop_assert_eq!((end, gap), (Some(*from_us), None));
                        gap = Some(*from_us);
                    }
                    Record::GapClose { from_us, until_us, .. } => {
                        prop_assert!(gap == Some(*from_us) && until_us > from_us);
                        (end, gap) = (Some(*until_us), None);
                    }
                }
            }
            prop_assert!(end.is_none_or(|end| end <= START + last * SECOND));
        }
    }
}

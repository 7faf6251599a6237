//! Gaps in a machine's data: told from sequence numbers and values, not guessed.
//!
//! Each period one reading of each machine is due and takes a sequence number,
//! whether it arrives or not. What did not arrive, or arrived as the frozen copy of an
//! earlier one, opens a gap; each gap is one governance failure, however long it lasts.

use serde::Serialize;
use utoipa::ToSchema;

/// Why data are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A reading was due and the sensor sent none.
    SensorSilent,
    /// The sensor repeats itself to the last digit, which a living sensor does not.
    SensorStuck,
    /// The process was stopped, paused or late: readings that were due were never taken.
    Paused,
    /// The process did not run between its last reading and this start.
    Restart,
    /// Readings were taken but fell out of the full buffer before the lake took them.
    BufferOverflow,
}

impl Reason {
    /// All of them: each counter starts at zero.
    pub const ALL: [Self; 5] =
        [Self::SensorSilent, Self::SensorStuck, Self::Paused, Self::Restart, Self::BufferOverflow];

    /// The label's value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SensorSilent => "sensor_silent",
            Self::SensorStuck => "sensor_stuck",
            Self::Paused => "paused",
            Self::Restart => "restart",
            Self::BufferOverflow => "buffer_overflow",
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// This many equal readings in a row are a stuck sensor. A healthy one's noise makes even two unlikely.
const STUCK_AFTER: u32 = 5;

/// Watches one machine's readings.
#[derive(Clone, Debug, Default)]
pub struct GapMonitor {
    last_seq: Option<u64>,
    last_value: Option<u64>,
    repeats: u32,
    open: Option<Reason>,
    overflowing: bool,
    opened: [u32; Reason::ALL.len()],
    missed: [u32; Reason::ALL.len()],
}

impl GapMonitor {
    /// A reading with this sequence number was due; `value` is what arrived.
    ///
    /// Returns the reason if a gap opened now.
    pub fn due(&mut self, seq: u64, value: Option<f64>) -> Option<Reason> {
        // Numbers that were due since and of which nothing is known: nobody was there to take them.
        let skipped = self.last_seq.map_or(0, |last| seq.saturating_sub(last + 1));
        self.last_seq = Some(seq);
        let mut opened = None;
        if skipped > 0 {
            opened = self.note(Reason::Paused, skipped);
        }
        match value {
            Some(value) => self.arrived(value).or(opened),
            None => self.silent(1).or(opened),
        }
    }

    /// A reading arrived. Returns the reason if a gap opened all the same: the sensor is stuck.
    pub fn arrived(&mut self, value: f64) -> Option<Reason> {
        let bits = value.to_bits();
        self.repeats = if self.last_value == Some(bits) { self.repeats + 1 } else { 0 };
        self.last_value = Some(bits);
        if self.repeats + 1 < STUCK_AFTER {
            self.open = None;
            return None;
        }
        let new = self.open != Some(Reason::SensorStuck);
        self.open = Some(Reason::SensorStuck);
        // The first readings of the row were no data either; that shows only now.
        self.missed[Reason::SensorStuck.index()] += if new { STUCK_AFTER - 1 } else { 1 };
        if new { self.count(Reason::SensorStuck) } else { None }
    }

    /// A reading arrived of a sensor that may repeat itself, being coarse.
    pub fn received(&mut self) {
        self.open = None;
    }

    /// This many more readings were due and did not arrive.
    pub fn silent(&mut self, missed: u64) -> Option<Reason> {
        self.repeats = 0;
        self.last_value = None;
        let new = self.open != Some(Reason::SensorSilent);
        self.open = Some(Reason::SensorSilent);
        self.add_missed(Reason::SensorSilent, missed);
        if new { self.count(Reason::SensorSilent) } else { None }
    }

    /// A gap that is over already when it is noticed.
    pub fn note(&mut self, reason: Reason, missed: u64) -> Option<Reason> {
        self.add_missed(reason, missed);
        self.count(reason)
    }

    /// Readings fell out of the buffer; one gap until [`GapMonitor::delivered`].
    pub fn overflow(&mut self, missed: u64) -> Option<Reason> {
        self.add_missed(Reason::BufferOverflow, missed);
        let new = !std::mem::replace(&mut self.overflowing, true);
        if new { self.count(Reason::BufferOverflow) } else { None }
    }

    /// The lake takes readings again: the next loss is another gap.
    pub fn delivered(&mut self) {
        self.overflowing = false;
    }

    fn add_missed(&mut self, reason: Reason, missed: u64) {
        let missed = u32::try_from(missed).unwrap_or(u32::MAX);
        let sum = &mut self.missed[reason.index()];
        *sum = sum.saturating_add(missed);
    }

    fn count(&mut self, reason: Reason) -> Option<Reason> {
        self.opened[reason.index()] += 1;
        Some(reason)
    }

    /// The gap that is open now.
    pub fn open(&self) -> Option<Reason> {
        self.open
    }

    /// Gaps so far, by reason.
    pub fn opened(&self, reason: Reason) -> u64 {
        u64::from(self.opened[reason.index()])
    }

    /// Readings missing so far, by reason.
    pub fn missed(&self, reason: Reason) -> u64 {
        u64::from(self.missed[reason.index()])
    }

    /// Governance failures so far: one for each gap.
    pub fn failures(&self) -> u64 {
        self.opened.iter().map(|n| u64::from(*n)).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_silent_sensor_is_one_failure_however_long() {
        let mut m = GapMonitor::default();
        assert_eq!(m.due(1, Some(1.0)), None);
        assert_eq!(m.due(2, None), Some(Reason::SensorSilent));
        assert_eq!(m.due(3, None), None);
        assert_eq!(m.open(), Some(Reason::SensorSilent));
        assert_eq!(m.due(4, Some(2.0)), None);
        assert_eq!((m.open(), m.failures(), m.missed(Reason::SensorSilent)), (None, 1, 2));
        assert_eq!(m.due(5, None), Some(Reason::SensorSilent), "a second gap is a second failure");
        assert_eq!(m.failures(), 2);
    }

    #[test]
    fn a_hole_in_the_numbers_is_a_pause() {
        let mut m = GapMonitor::default();
        m.due(1, Some(1.0));
        assert_eq!(m.due(31, Some(2.0)), Some(Reason::Paused));
        assert_eq!((m.failures(), m.missed(Reason::Paused), m.open()), (1, 29, None));
    }

    #[test]
    fn a_stuck_sensor_is_noticed_and_its_copies_do_not_count_as_data() {
        let mut m = GapMonitor::default();
        m.due(1, Some(1.0));
        let opened: Vec<_> = (2..=11).map(|seq| m.due(seq, Some(2.0))).collect();
        assert_eq!(opened.iter().flatten().collect::<Vec<_>>(), [&Reason::SensorStuck]);
        assert_eq!(opened[3], None);
        assert_eq!(opened[4], Some(Reason::SensorStuck), "with the fifth equal reading");
        assert_eq!(m.missed(Reason::SensorStuck), 9, "all but the first of ten");
        m.due(12, Some(3.0));
        assert_eq!(m.open(), None);
    }

    #[test]
    fn an_overflow_is_one_gap_until_the_lake_is_back() {
        let mut m = GapMonitor::default();
        assert_eq!(m.overflow(3), Some(Reason::BufferOverflow));
        assert_eq!(m.overflow(2), None);
        m.delivered();
        assert_eq!(m.overflow(1), Some(Reason::BufferOverflow));
        assert_eq!((m.failures(), m.missed(Reason::BufferOverflow)), (2, 6));
    }

    proptest! {
        /// Whatever is dropped: taken plus missed is due.
        #[test]
        fn nothing_due_is_unaccounted_for(steps in proptest::collection::vec((1u64..5, any::<bool>()), 1..200)) {
            let mut m = GapMonitor::default();
            let (mut seq, mut taken) = (0, 0);
            m.due(seq, Some(-1.0));
            for (i, (step, arrives)) in steps.iter().enumerate() {
                seq += step;
                taken += u64::from(*arrives);
                m.due(seq, arrives.then_some(i as f64));
            }
            let missed: u64 = Reason::ALL.iter().map(|r| m.missed(*r)).sum();
            prop_assert_eq!(taken + missed, seq);
        }
    }
}

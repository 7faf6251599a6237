//! Truth comes late: whether a prediction was right is told by later readings.
//!
//! A reading is *bad* when the machine has failed or is at 90 °C or hotter. A prediction
//! made at t is followed by truth "yes" if a bad reading lies in (t, t + horizon], and "no"
//! if the readings up to t + horizon are there and none is bad. If the machine falls silent
//! in between, nobody knows. Predictions made while the reading itself is bad are not
//! judged: there is nothing left to foresee.

use std::collections::VecDeque;

use lake::Reading;

/// The red line, °C.
pub const RED_LINE: f64 = 90.0;
/// A longer silence leaves the truth unknown, µs.
const MAX_SILENCE_US: i64 = 30_000_000;

/// Is the machine where it must not come?
pub fn is_bad(reading: &Reading) -> bool {
    reading.failed || reading.temperature >= RED_LINE
}

/// A prediction that waits for its truth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pending<T> {
    /// Instant of the reading, µs since 1970.
    pub ts_us: i64,
    /// What was said.
    pub said: T,
}

/// What became of predictions.
#[derive(Clone, Debug, PartialEq)]
pub struct Resolved<T> {
    /// What was said, and whether the failure came.
    pub judged: Vec<(T, bool)>,
    /// Predictions whose truth nobody will know.
    pub unknown: u64,
}

/// One machine's predictions that wait for their truth.
#[derive(Clone, Debug)]
pub struct TruthQueue<T> {
    pending: VecDeque<Pending<T>>,
    last_us: Option<i64>,
}

impl<T> Default for TruthQueue<T> {
    fn default() -> Self {
        Self { pending: VecDeque::new(), last_us: None }
    }
}

impl<T> TruthQueue<T> {
    /// Takes the next reading and what was said of it. A reading older than the last is ignored.
    pub fn observe(&mut self, ts_us: i64, bad: bool, said: T, horizon_us: i64) -> Resolved<T> {
        let mut resolved = Resolved { judged: Vec::new(), unknown: 0 };
        if self.last_us.is_some_and(|last| ts_us <= last) {
            return resolved;
        }
        let last_us = self.last_us.replace(ts_us).unwrap_or(ts_us);
        let silent = ts_us - last_us > MAX_SILENCE_US;
        while let Some(first) = self.pending.front() {
            let end_us = first.ts_us.saturating_add(horizon_us);
            let came = if bad && ts_us <= end_us {
                Some(true)
            } else if end_us < ts_us && (!silent || end_us <= last_us) {
                Some(false)
            } else if silent {
                None
            } else {
                break;
            };
            let Some(first) = self.pending.pop_front() else { break };
            match came {
                Some(came) => resolved.judged.push((first.said, came)),
                None => resolved.unknown += 1,
            }
        }
        if !bad {
            self.pending.push_back(Pending { ts_us, said });
        }
        resolved
    }

    /// What was said and waits for its truth.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.pending.iter().map(|p| &p.said)
    }

    /// Predictions that wait.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// None waits.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000;
    const HORIZON: i64 = 120 * SECOND;

    /// Readings a second apart from `from`, bad where told; returns (instant, came) of all judged.
    fn run(queue: &mut TruthQueue<i64>, from: i64, bad: &[bool]) -> (Vec<(i64, bool)>, u64) {
        let mut all = (Vec::new(), 0);
        for (i, bad) in bad.iter().enumerate() {
            let s = from + i as i64;
            let resolved = queue.observe(s * SECOND, *bad, s, HORIZON);
            all.0.extend(resolved.judged);
            all.1 += resolved.unknown;
        }
        all
    }

    proptest! {
        /// Against the definition, word for word.
        #[test]
        fn it_agrees_with_the_definition(bad in proptest::collection::vec(proptest::bool::weighted(0.01), 1..600)) {
            let (judged, unknown) = run(&mut TruthQueue::default(), 0, &bad);
            prop_assert_eq!(unknown, 0);
            let mut expected: Vec<(i64, bool)> = Vec::new();
            for t in 0..bad.len() {
                if bad[t] { continue; }
                let last = (t + 120).min(bad.len() - 1);
                let came = bad[t + 1..=last].iter().any(|b| *b);
                if came || t + 120 < bad.len() - 1 {
                    expected.push((t as i64, came));
                }
            }
            prop_assert_eq!(judged, expected);
        }
    }

    #[test]
    fn silence_leaves_the_truth_unknown() {
        let mut queue = TruthQueue::default();
        run(&mut queue, 0, &[false; 100]);
        let (judged, unknown) = run(&mut queue, 160, &[false]);
        assert_eq!((judged.len(), unknown), (0, 100), "60 s without a reading");
        assert_eq!(queue.len(), 1);
    }

    #[test]
    fn a_failure_after_silence_within_the_horizon_did_come() {
        let mut queue = TruthQueue::default();
        run(&mut queue, 0, &[false; 100]);
        let (judged, unknown) = run(&mut queue, 160, &[true]);
        assert_eq!(judged.iter().filter(|(_, came)| *came).count(), 60);
        assert_eq!(unknown, 40, "those from before 40 s had their horizon end in the silence");
    }

    #[test]
    fn late_readings_change_nothing() {
        let mut queue = TruthQueue::default();
        run(&mut queue, 50, &[false; 10]);
        assert_eq!(run(&mut queue, 10, &[true; 10]), (Vec::new(), 0));
        assert_eq!(queue.len(), 10);
    }
}

//! Which readings were seen already.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use crate::Reading;

/// Boots remembered for each machine; an older one's readings count as new again.
const BOOTS_PER_MACHINE: usize = 8;

/// The set of readings seen, by (machine, boot, sequence number).
///
/// Sequence numbers are kept as ranges, so memory grows with the holes, not with the readings.
#[derive(Debug, Default)]
pub struct SeenReadings {
    machines: HashMap<Arc<str>, VecDeque<(Arc<str>, Ranges)>>,
}

impl SeenReadings {
    /// Notes the reading; `false` if it was there already.
    pub fn insert(&mut self, reading: &Reading) -> bool {
        let boots = self.machines.entry(reading.machine_id.clone()).or_default();
        if let Some((_, ranges)) = boots.iter_mut().find(|(boot, _)| *boot == reading.boot_id) {
            return ranges.insert(reading.seq);
        }
        if boots.len() == BOOTS_PER_MACHINE {
            boots.pop_front();
        }
        let mut ranges = Ranges::default();
        ranges.insert(reading.seq);
        boots.push_back((reading.boot_id.clone(), ranges));
        true
    }
}

/// A set of integers as disjoint, non-adjacent closed ranges: first → last.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn insert(&mut self, n: u64) -> bool {
        let before = self.0.range(..=n).next_back().map(|(&first, &last)| (first, last));
        if before.is_some_and(|(_, last)| n <= last) {
            return false;
        }
        let first = match before {
            Some((first, last)) if last.checked_add(1) == Some(n) => first,
            _ => n,
        };
        let last = n.checked_add(1).and_then(|next| self.0.remove(&next)).unwrap_or(n);
        self.0.insert(first, last);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::reading::tests::reading;

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_set(numbers in proptest::collection::vec(0u64..60, 0..200)) {
            let mut plain = HashSet::new();
            let mut ranges = Ranges::default();
            for n in numbers {
                prop_assert_eq!(ranges.insert(n), plain.insert(n));
            }
            let total: u64 = ranges.0.iter().map(|(a, b)| b - a + 1).sum();
            prop_assert_eq!(total, plain.len() as u64);
            let list: Vec<_> = ranges.0.iter().collect();
            prop_assert!(list.windows(2).all(|w| w[0].1 + 1 < *w[1].0), "ranges are merged");
        }
    }

    #[test]
    fn the_ends_of_the_number_line_do_not_overflow() {
        let mut ranges = Ranges::default();
        for n in [u64::MAX, 0, u64::MAX - 1, 1] {
            assert!(ranges.insert(n));
            assert!(!ranges.insert(n));
        }
    }

    #[test]
    fn machines_and_boots_are_kept_apart_and_bounded() {
        let mut seen = SeenReadings::default();
        assert!(seen.insert(&reading("a", 1)));
        assert!(!seen.insert(&reading("a", 1)));
        assert!(seen.insert(&reading("b", 1)));
        for boot in 0..100 {
            assert!(seen.insert(&Reading { boot_id: format!("boot {boot}").into(), ..reading("a", 1) }));
        }
        assert_eq!(seen.machines["a"].len(), BOOTS_PER_MACHINE);
    }
}

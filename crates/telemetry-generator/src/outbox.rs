//! Things on their way to somebody who may be away: bounded, in order, nothing dropped before the bound.
//!
//! Readings wait here for the lake, in memory. What goes to the ledger waits the same way and
//! on the disk besides ([`queue`]).

pub mod queue;

use std::collections::VecDeque;

use lake::{Batch, LakeError, Reading};

/// Most readings in one object.
const MAX_BATCH: usize = 20_000;

/// What is handed over at once.
pub trait Parcel: Clone {
    /// What it is made of.
    type Item;
    /// Why it cannot be made.
    type Error;

    /// Makes one of the first of these, at least one, and says of how many.
    ///
    /// # Errors
    /// They cannot be encoded.
    fn pack(waiting: &[Self::Item]) -> Result<(Self, usize), Self::Error>;
}

impl Parcel for Batch {
    type Item = Reading;
    type Error = LakeError;

    fn pack(waiting: &[Reading]) -> Result<(Self, usize), LakeError> {
        let extent = Self::extent(&waiting[..waiting.len().min(MAX_BATCH)]);
        Ok((Self::new(&waiting[..extent])?, extent))
    }
}

/// A parcel with what it was made of.
#[derive(Debug)]
struct InFlight<P: Parcel> {
    parcel: P,
    items: Vec<P::Item>,
}

/// The buffer. What is being handed over stays apart, frozen: repeated, it must be the same.
#[derive(Debug)]
pub struct Outbox<P: Parcel> {
    waiting: VecDeque<P::Item>,
    in_flight: Option<InFlight<P>>,
    bound: usize,
}

impl<P: Parcel> Outbox<P> {
    /// Holds at most `bound` items, those in flight not counted.
    pub fn new(bound: usize) -> Self {
        Self { waiting: VecDeque::new(), in_flight: None, bound }
    }

    /// How many items it holds at most.
    pub fn bound(&self) -> usize {
        self.bound
    }

    /// Adds items and returns the oldest ones that no longer fit.
    #[must_use]
    pub fn push(&mut self, items: Vec<P::Item>) -> Vec<P::Item> {
        self.waiting.extend(items);
        let excess = self.waiting.len().saturating_sub(self.bound);
        self.waiting.drain(..excess).collect()
    }

    /// What to hand over now: the parcel in flight, or a new one. `None` when nothing waits.
    ///
    /// # Errors
    /// The items cannot be encoded; they stay in the buffer.
    pub fn batch(&mut self) -> Result<Option<P>, P::Error> {
        if self.in_flight.is_none() && !self.waiting.is_empty() {
            let (parcel, extent) = P::pack(self.waiting.make_contiguous())?;
            let items = self.waiting.drain(..extent).collect();
            // A long outage leaves a large buffer behind; give it back.
            if self.waiting.capacity() > 4 * self.waiting.len() + 1_024 {
                self.waiting.shrink_to(2 * self.waiting.len() + 512);
            }
            self.in_flight = Some(InFlight { parcel, items });
        }
        Ok(self.in_flight.as_ref().map(|f| f.parcel.clone()))
    }

    /// The parcel in flight was taken; of so many items it was.
    pub fn written(&mut self) -> usize {
        self.in_flight.take().map_or(0, |f| f.items.len())
    }

    /// Everything that was not taken, oldest first, for keeping elsewhere.
    pub fn take_all(&mut self) -> Vec<P::Item> {
        let mut all = self.in_flight.take().map(|f| f.items).unwrap_or_default();
        all.extend(self.waiting.drain(..));
        all
    }

    /// Items in flight.
    pub fn in_flight(&self) -> usize {
        self.in_flight.as_ref().map_or(0, |f| f.items.len())
    }

    /// Items that nobody else has yet.
    pub fn pending(&self) -> usize {
        self.waiting.len() + self.in_flight()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fleet::Fleet;

    const HOUR_US: i64 = 3_600_000_000;

    fn readings(count: u64, start_us: i64) -> Vec<Reading> {
        let mut fleet = Fleet::new(1, 1, "b", 1_000_000, start_us);
        (0..count).flat_map(|i| fleet.tick(start_us + i as i64 * 1_000_000).readings).collect()
    }

    #[test]
    fn the_bound_drops_the_oldest_and_says_which() {
        let mut outbox = Outbox::<Batch>::new(10);
        assert!(outbox.push(readings(8, 400_000 * HOUR_US)).is_empty());
        let lost = outbox.push(readings(5, 400_001 * HOUR_US));
        assert_eq!(lost.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(outbox.pending(), 10);
    }

    #[test]
    fn a_batch_stays_the_same_until_it_is_written() {
        let mut outbox = Outbox::<Batch>::new(100);
        let all = readings(20, 400_000 * HOUR_US);
        assert!(outbox.push(all[..10].to_vec()).is_empty());
        let first = outbox.batch().unwrap().unwrap();
        assert!(outbox.push(all[10..].to_vec()).is_empty());
        let again = outbox.batch().unwrap().unwrap();
        assert_eq!((first.object(), first.rows()), (again.object(), 10));
        assert_eq!(outbox.pending(), 20);
        assert_eq!(outbox.written(), 10);
        assert_eq!(outbox.batch().unwrap().unwrap().rows(), 10);
        assert_eq!(outbox.take_all(), all[10..]);
        assert!(outbox.batch().unwrap().is_none());
    }

    proptest! {
        #[test]
        fn every_reading_is_written_once_and_no_object_crosses_an_hour(
            counts in proptest::collection::vec(1u64..40, 1..8), start in 0i64..3_600,
        ) {
            let mut outbox = Outbox::<Batch>::new(10_000);
            let all = readings(counts.iter().sum(), 400_000 * HOUR_US + start * 1_000_000);
            let mut at = 0;
            let mut rows = 0;
            for count in counts {
                prop_assert!(outbox.push(all[at..at + count as usize].to_vec()).is_empty());
                at += count as usize;
                while let Some(batch) = outbox.batch().unwrap() {
                    rows += batch.rows();
                    outbox.written();
                }
            }
            prop_assert_eq!(rows, all.len());
            prop_assert_eq!(outbox.pending(), 0);
        }
    }
}

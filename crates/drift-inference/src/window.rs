//! Sliding windows over the readings' own time, in buckets: memory does not grow with the fleet.

use std::collections::VecDeque;

/// Length of a bucket, µs.
const BUCKET_US: i64 = 10_000_000;

/// Fewer rows than this in a window say nothing.
pub(crate) const MIN_ROWS: u64 = 60;

/// What can be kept in a bucket and added up.
pub trait Sum: Default {
    /// Adds another's content.
    fn merge(&mut self, other: &Self);
}

impl Sum for crate::profile::Moments {
    fn merge(&mut self, other: &Self) {
        Self::merge(self, other);
    }
}

impl Sum for crate::model::Confusion {
    fn merge(&mut self, other: &Self) {
        Self::merge(self, other);
    }
}

/// The last so-and-so many seconds before the newest entry.
#[derive(Clone, Debug)]
pub struct Window<T> {
    buckets: VecDeque<(i64, T)>,
    length_us: i64,
}

impl<T: Sum> Window<T> {
    /// A window of this length.
    pub fn new(length: std::time::Duration) -> Self {
        let length_us = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
        Self { buckets: VecDeque::new(), length_us: length_us.max(BUCKET_US) }
    }

    /// The bucket of an instant, to add to; `None` if the instant lies before the window.
    pub fn at(&mut self, ts_us: i64) -> Option<&mut T> {
        let start = ts_us.div_euclid(BUCKET_US) * BUCKET_US;
        let newest = self.buckets.back().map_or(start, |(s, _)| (*s).max(start));
        let oldest = newest.saturating_sub(self.length_us);
        if start <= oldest {
            return None;
        }
        while self.buckets.front().is_some_and(|(s, _)| *s <= oldest) {
            self.buckets.pop_front();
        }
        let index = self.buckets.partition_point(|(s, _)| *s < start);
        if self.buckets.get(index).is_none_or(|(s, _)| *s != start) {
            self.buckets.insert(index, (start, T::default()));
        }
        self.buckets.get_mut(index).map(|(_, content)| content)
    }

    /// Everything in the window.
    pub fn total(&self) -> T {
        self.buckets.iter().fold(T::default(), |mut sum, (_, content)| {
            sum.merge(content);
            sum
        })
    }

    /// Whether there have been entries for its whole length, to a bucket or two.
    pub fn full(&self) -> bool {
        let ends = self.buckets.front().zip(self.buckets.back());
        ends.is_some_and(|((first, _), (last, _))| last - first >= self.length_us - 3 * BUCKET_US)
    }

    /// Length, s.
    pub fn seconds(&self) -> f64 {
        self.length_us as f64 / 1e6
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Count(u32);

    impl Sum for Count {
        fn merge(&mut self, other: &Self) {
            self.0 += other.0;
        }
    }

    #[test]
    fn it_holds_what_is_recent_and_forgets_the_rest() {
        let mut window = Window::<Count>::new(Duration::from_secs(60));
        for second in 0..600 {
            window.at(second * 1_000_000).unwrap().0 += 1;
        }
        assert_eq!(window.total().0, 60);
        assert_eq!(window.buckets.len(), 6);
        assert!(window.full());
        assert!(window.at(100_000_000).is_none(), "too late");
        window.at(565_000_000).unwrap().0 += 1;
        assert_eq!(window.total().0, 61, "late, but within the window");
        window.at(5_000_000_000).unwrap().0 += 1;
        assert_eq!(window.total().0, 1);
        assert!(!window.full());
    }
}

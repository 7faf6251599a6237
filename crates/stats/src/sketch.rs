//! Order statistics of a stream: exact while they fit, then a sketch of bounded size.
//!
//! The sketch is that of Karnin, Lang and Liberty (*Optimal Quantile Approximation in
//! Streams*, FOCS 2016): levels of values, a value on level h standing for 2^h. A full level
//! is sorted, every other value (from a random start) moves a level up, the rest is dropped.
//! Each such step moves any rank by at most 2^h and by nothing on average, so that three
//! standard deviations of all steps together bound the error that [`Sample::rank_error`] says.

use serde::{Deserialize, Serialize};

use crate::ordered::Ordered;

/// Size of a sketch's top level.
const TOP: usize = 2_048;
/// Each level below the top is smaller by this factor.
const SHRINK: f64 = 2.0 / 3.0;
/// No level is smaller.
const SMALLEST: usize = 16;

/// Values of which the order matters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// So many values are kept as they are.
    limit: usize,
    count: u64,
    #[serde(with = "crate::exact::lists")]
    levels: Vec<Vec<f64>>,
    /// Sum of 4^h over all steps made.
    variance: f64,
    /// State of the generator that draws starts.
    coin: u64,
}

impl Sample {
    /// Exact up to `limit` values.
    pub fn new(limit: usize) -> Self {
        Self { limit, count: 0, levels: vec![Vec::new()], variance: 0.0, coin: 0x9E37_79B9_7F4A_7C15 }
    }

    /// Adds a value that is a number.
    pub fn add(&mut self, x: f64) {
        self.count += 1;
        if let Some(lowest) = self.levels.first_mut() {
            lowest.push(x);
        }
        if !self.fits() {
            self.shrink();
        }
    }

    /// Adds another's values.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.variance += other.variance;
        self.coin ^= other.coin.rotate_left(17);
        if self.levels.len() < other.levels.len() {
            self.levels.resize(other.levels.len(), Vec::new());
        }
        for (own, others) in self.levels.iter_mut().zip(&other.levels) {
            own.extend_from_slice(others);
        }
        if !self.fits() {
            self.shrink();
        }
    }

    /// The same, exact up to a smaller limit only.
    pub fn limited(mut self, limit: usize) -> Self {
        self.limit = limit;
        if !self.fits() {
            self.shrink();
        }
        self
    }

    /// Values added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Nothing was dropped.
    pub fn is_exact(&self) -> bool {
        self.levels.len() == 1
    }

    /// The share of all values that any rank may be off by (three standard deviations); 0 if exact.
    pub fn rank_error(&self) -> f64 {
        if self.count == 0 { 0.0 } else { 3.0 * self.variance.sqrt() / self.count as f64 }
    }

    /// The values in order.
    pub fn ordered(&self) -> Ordered {
        if let [all] = self.levels.as_slice() {
            return Ordered::new(all.clone());
        }
        let pairs = self.levels.iter().enumerate().flat_map(|(h, values)| values.iter().map(move |v| (*v, 1u64 << h)));
        Ordered::weighted(pairs.collect())
    }

    /// Like [`Self::ordered`], without a copy of what is exact.
    pub fn into_ordered(mut self) -> Ordered {
        if self.is_exact() { Ordered::new(self.levels.pop().unwrap_or_default()) } else { self.ordered() }
    }

    /// Checks what was read from outside.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn check(&self) -> Result<(), String> {
        if self.levels.is_empty() || self.levels.len() > 60 {
            return Err(format!("{} levels", self.levels.len()));
        }
        if self.levels.iter().flatten().any(|x| x.is_nan()) {
            return Err("a value is not a number".into());
        }
        let weight: u64 = self.levels.iter().enumerate().map(|(h, v)| (v.len() as u64) << h).sum();
        if weight != self.count || !(0.0..f64::INFINITY).contains(&self.variance) {
            return Err(format!("values stand for {weight} and not for {}", self.count));
        }
        Ok(())
    }

    fn capacity(&self, level: usize) -> usize {
        let below_top = (self.levels.len() - 1 - level) as i32;
        ((TOP as f64 * SHRINK.powi(below_top)) as usize).max(SMALLEST)
    }

    fn fits(&self) -> bool {
        if self.is_exact() {
            self.count <= self.limit as u64
        } else {
            // Only the lowest level grows one by one; the others were made to fit.
            self.levels[0].len() < self.capacity(0)
        }
    }

    /// Moves values up until each level fits.
    fn shrink(&mut self) {
        let mut level = 0;
        while level < self.levels.len() {
            if self.levels[level].len() < self.capacity(level) {
                level += 1;
                continue;
            }
            if level + 1 == self.levels.len() {
                self.levels.push(Vec::new());
            }
            let mut values = std::mem::take(&mut self.levels[level]);
            values.sort_unstable_by(f64::total_cmp);
            // An odd one stays: half of it cannot move up.
            let odd = if values.len() % 2 == 1 { values.pop() } else { None };
            let start = usize::from(self.flip());
            self.levels[level + 1].extend(values.iter().skip(start).step_by(2));
            values.clear();
            values.extend(odd);
            self.levels[level] = values;
            self.variance += 4f64.powi(level as i32);
            // A level on top makes those below smaller: look again from the start.
            level = 0;
        }
    }

    /// xorshift64* (Vigna 2016): the same stream gives the same sketch.
    fn flip(&mut self) -> bool {
        self.coin |= u64::from(self.coin == 0);
        self.coin ^= self.coin >> 12;
        self.coin ^= self.coin << 25;
        self.coin ^= self.coin >> 27;
        self.coin.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 63 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 … n−1 in a stirred order.
    fn stirred(n: u64) -> impl Iterator<Item = f64> {
        (0..n).map(move |i| ((i * 7_919 + 13) % n) as f64)
    }

    fn of(values: impl Iterator<Item = f64>, limit: usize) -> Sample {
        let mut sample = Sample::new(limit);
        values.for_each(|x| sample.add(x));
        sample
    }

    fn worst_rank(sample: &Sample, n: u64) -> f64 {
        let truth = Ordered::new((0..n).map(|i| i as f64).collect());
        sample.ordered().ks(&truth).unwrap()
    }

    #[test]
    fn small_ones_are_exact() {
        let sample = of(stirred(1_000), 1_000);
        assert!(sample.is_exact() && sample.rank_error() == 0.0);
        assert_eq!(worst_rank(&sample, 1_000), 0.0);
        sample.check().unwrap();
    }

    #[test]
    fn large_ones_are_bounded_and_within_the_error_they_say() {
        for n in [5_003u64, 50_021, 200_003] {
            let sample = of(stirred(n), 1_000);
            sample.check().unwrap();
            assert!(!sample.is_exact());
            let kept: usize = sample.levels.iter().map(Vec::len).sum();
            assert!(kept < 3 * TOP + 60 * SMALLEST, "{kept} values kept of {n}");
            let (worst, said) = (worst_rank(&sample, n), sample.rank_error());
            assert!(worst <= said && said < 0.004, "{n}: {worst} {said}");
        }
    }

    #[test]
    fn partitions_merge() {
        let n = 60_013u64;
        let all: Vec<f64> = stirred(n).collect();
        let mut merged = Sample::new(1_000);
        for part in all.chunks(7_001) {
            merged.merge(&of(part.iter().copied(), 1_000));
        }
        merged.check().unwrap();
        assert_eq!(merged.count(), n);
        assert!(worst_rank(&merged, n) <= merged.rank_error() && merged.rank_error() < 0.01);
        let limited = of(stirred(3_001), 5_000).limited(2_000);
        assert!(!limited.is_exact() && limited.count() == 3_001);
    }

    #[test]
    fn a_forged_one_is_refused() {
        let mut sample = of(stirred(10), 100);
        sample.count = 11;
        assert!(sample.check().unwrap_err().contains("10 and not for 11"));
        sample.levels[0][3] = f64::NAN;
        assert!(sample.check().is_err());
    }
}

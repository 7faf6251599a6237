//! A sample in order of size, each value with its weight; distances that need the order.

/// Values in ascending order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ordered {
    values: Vec<f64>,
    /// Weight of each value; none if each counts once.
    weights: Option<Vec<u64>>,
    total: u64,
}

impl Ordered {
    /// Sorts a sample. Not-a-numbers must have been taken out.
    pub fn new(mut values: Vec<f64>) -> Self {
        values.sort_unstable_by(f64::total_cmp);
        Self { total: values.len() as u64, values, weights: None }
    }

    /// Sorts weighted values.
    pub fn weighted(mut pairs: Vec<(f64, u64)>) -> Self {
        pairs.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let (values, weights): (Vec<f64>, Vec<u64>) = pairs.into_iter().unzip();
        Self { total: weights.iter().sum(), values, weights: Some(weights) }
    }

    /// Sum of the weights.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The values, ascending.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// No value at all.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    fn weight(&self, index: usize) -> u64 {
        self.weights.as_ref().map_or(1, |w| w[index])
    }

    /// Quantile by linear interpolation between order statistics (Hyndman and Fan's type 7,
    /// numpy's default); `None` without values.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let last = self.total.checked_sub(1)?;
        let place = q.clamp(0.0, 1.0) * last as f64;
        let below = place.floor();
        let low = self.at_rank(below as u64)?;
        let high = self.at_rank((below as u64 + 1).min(last))?;
        let part = place - below;
        // From the nearer end, so that both ends are met exactly.
        let span = high - low;
        Some(if part == 0.0 || span == 0.0 {
            low
        } else if part < 0.5 {
            low + span * part
        } else {
            high - span * (1.0 - part)
        })
    }

    /// Value with this many others before it.
    fn at_rank(&self, rank: u64) -> Option<f64> {
        let Some(weights) = &self.weights else {
            return usize::try_from(rank).ok().and_then(|i| self.values.get(i).copied());
        };
        let mut before = 0;
        for (value, weight) in self.values.iter().zip(weights) {
            before += weight;
            if rank < before {
                return Some(*value);
            }
        }
        None
    }

    /// Weight of the values below `x`.
    pub fn weight_below(&self, x: f64) -> u64 {
        let below = self.values.partition_point(|v| *v < x);
        self.weights.as_ref().map_or(below as u64, |w| w[..below].iter().sum())
    }

    /// Distinct values, as long as there are at most `limit`.
    pub fn distinct(&self, limit: usize) -> Option<Vec<f64>> {
        let mut distinct: Vec<f64> = Vec::new();
        for value in &self.values {
            if distinct.last() != Some(value) {
                if distinct.len() == limit {
                    return None;
                }
                distinct.push(*value);
            }
        }
        Some(distinct)
    }

    /// Kolmogorov-Smirnov distance `sup |F − G|`, 0 to 1, ties counted together; `None` if
    /// either sample is empty.
    pub fn ks(&self, other: &Self) -> Option<f64> {
        let mut distance = 0.0f64;
        self.walk(other, |_, f, g| distance = distance.max((f - g).abs()))?;
        Some(distance)
    }

    /// Wasserstein-1 distance `∫ |F − G|`, in the values' unit; `None` if either is empty.
    pub fn wasserstein(&self, other: &Self) -> Option<f64> {
        let (mut distance, mut last, mut gap) = (0.0f64, f64::NAN, 0.0f64);
        self.walk(other, |x, f, g| {
            if gap > 0.0 {
                distance += gap * (x - last);
            }
            last = x;
            gap = (f - g).abs();
        })?;
        Some(distance)
    }

    /// Calls with each distinct value and both distribution functions there.
    fn walk(&self, other: &Self, mut visit: impl FnMut(f64, f64, f64)) -> Option<()> {
        if self.is_empty() || other.is_empty() {
            return None;
        }
        let (n, m) = (self.total as f64, other.total as f64);
        let (mut i, mut j, mut below, mut above) = (0, 0, 0u64, 0u64);
        while i < self.values.len() || j < other.values.len() {
            let x = match (self.values.get(i), other.values.get(j)) {
                (Some(a), Some(b)) => a.min(*b),
                (Some(x), None) | (None, Some(x)) => *x,
                (None, None) => break,
            };
            while self.values.get(i).is_some_and(|v| *v <= x) {
                below += self.weight(i);
                i += 1;
            }
            while other.values.get(j).is_some_and(|v| *v <= x) {
                above += other.weight(j);
                j += 1;
            }
            visit(x, below as f64 / n, above as f64 / m);
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn naive_ks(a: &[f64], b: &[f64]) -> f64 {
        let cdf = |s: &[f64], x: f64| s.iter().filter(|v| **v <= x).count() as f64 / s.len() as f64;
        a.iter().chain(b).map(|x| (cdf(a, *x) - cdf(b, *x)).abs()).fold(0.0, f64::max)
    }

    proptest! {
        #[test]
        fn ks_is_its_definition(a in proptest::collection::vec(-20i32..20, 1..60), b in proptest::collection::vec(-20i32..20, 1..60)) {
            let real = |v: &[i32]| v.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
            let (a, b) = (real(&a), real(&b));
            let (x, y) = (Ordered::new(a.clone()), Ordered::new(b.clone()));
            prop_assert_eq!(x.ks(&y).unwrap(), naive_ks(&a, &b));
            prop_assert_eq!(x.ks(&x).unwrap(), 0.0);
            prop_assert!((x.wasserstein(&y).unwrap() - y.wasserstein(&x).unwrap()).abs() < 1e-9);
        }

        #[test]
        fn samples_of_one_size_are_moved_value_by_value(a in proptest::collection::vec(-1e3..1e3f64, 1..60), shift in 0.0..50.0f64) {
            let b: Vec<f64> = a.iter().map(|x| x + shift).collect();
            let distance = Ordered::new(a).wasserstein(&Ordered::new(b)).unwrap();
            prop_assert!((distance - shift).abs() < 1e-9);
        }

        #[test]
        fn a_weight_counts_as_so_many_values(a in proptest::collection::vec((-9i32..9, 1u64..5), 1..30), q in 0.0..=1.0f64) {
            let pairs: Vec<(f64, u64)> = a.iter().map(|(v, w)| (f64::from(*v), *w)).collect();
            let plain: Vec<f64> = pairs.iter().flat_map(|(v, w)| std::iter::repeat_n(*v, *w as usize)).collect();
            let other = Ordered::new(vec![-3.0, 0.5, 2.0, 2.0]);
            let (weighted, plain) = (Ordered::weighted(pairs), Ordered::new(plain));
            prop_assert_eq!(weighted.total(), plain.total());
            prop_assert_eq!(weighted.ks(&other), plain.ks(&other));
            prop_assert!((weighted.wasserstein(&other).unwrap() - plain.wasserstein(&other).unwrap()).abs() < 1e-12);
            prop_assert_eq!(weighted.quantile(q), plain.quantile(q));
        }
    }

    #[test]
    fn quantiles_interpolate() {
        let sample = Ordered::new(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(sample.quantile(0.5), Some(2.5));
        assert_eq!((sample.quantile(0.0), sample.quantile(1.0)), (Some(1.0), Some(4.0)));
        assert_eq!(Ordered::default().quantile(0.5), None);
    }

    #[test]
    fn empty_samples_have_no_distance_and_infinities_do_no_harm() {
        let some = Ordered::new(vec![1.0]);
        assert_eq!(some.ks(&Ordered::default()), None);
        assert_eq!(some.wasserstein(&Ordered::default()), None);
        let with = Ordered::new(vec![f64::NEG_INFINITY, 0.0, f64::INFINITY, f64::INFINITY]);
        assert_eq!(with.ks(&some), Some(0.5));
        assert_eq!(some.distinct(1), Some(vec![1.0]));
        assert_eq!(with.distinct(2), None);
    }
}

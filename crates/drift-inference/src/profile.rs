//! The frozen reference, and how far the present is from it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    distribution::{Distribution, Together},
    features::{COUNT, Features, NAMES},
};

/// Mean and standard deviation of each feature when all was well.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Rows it was made of.
    pub rows: u64,
    /// Mean of each feature.
    pub means: Vec<f64>,
    /// Standard deviation of each feature.
    pub deviations: Vec<f64>,
    /// Distribution of each feature; none in a model from before they were kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub distributions: Vec<Distribution>,
    /// The features together; none in a model from before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub together: Option<Together>,
}

impl Profile {
    pub(crate) fn check(&self) -> Result<(), String> {
        let fits = |v: &[f64]| v.len() == COUNT && v.iter().all(|x| x.is_finite());
        if !fits(&self.means) || !fits(&self.deviations) || !self.deviations.iter().all(|d| *d > 0.0) {
            return Err(format!("reference must have {COUNT} finite means and {COUNT} deviations above 0"));
        }
        if !self.distributions.is_empty() && self.distributions.len() != COUNT {
            return Err(format!("reference must have {COUNT} distributions or none"));
        }
        self.distributions.iter().try_for_each(Distribution::check)?;
        self.together.as_ref().map_or(Ok(()), Together::check)
    }

    /// `(mean − reference mean)/reference σ` for each feature; `None` without rows.
    pub fn mean_shift(&self, now: &Moments) -> Option<[f64; COUNT]> {
        (now.rows > 0).then(|| std::array::from_fn(|i| (now.mean(i) - self.means[i]) / self.deviations[i]))
    }
}

/// Sums from which means and deviations follow; sums of partitions add up.
///
/// Welford's form: the plain sum of squares loses all digits for a large mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// Rows seen.
    pub rows: u64,
    means: [f64; COUNT],
    squares: [f64; COUNT],
}

impl Moments {
    /// Adds a row.
    pub fn add(&mut self, features: &Features) {
        self.rows += 1;
        for (i, x) in features.0.iter().enumerate() {
            let before = x - self.means[i];
            self.means[i] += before / self.rows as f64;
            self.squares[i] += before * (x - self.means[i]);
        }
    }

    /// Adds another partition (Chan, Golub, LeVeque 1979).
    pub fn merge(&mut self, other: &Self) {
        if other.rows == 0 {
            return;
        }
        let (a, b) = (self.rows as f64, other.rows as f64);
        for i in 0..COUNT {
            let delta = other.means[i] - self.means[i];
            self.means[i] += delta * b / (a + b);
            self.squares[i] += other.squares[i] + delta * delta * a * b / (a + b);
        }
        self.rows += other.rows;
    }

    /// Mean of a feature; 0 without rows.
    pub fn mean(&self, feature: usize) -> f64 {
        self.means[feature]
    }

    /// Standard deviation of a feature (n − 1); 0 with fewer than two rows.
    pub fn deviation(&self, feature: usize) -> f64 {
        if self.rows < 2 { 0.0 } else { (self.squares[feature] / (self.rows - 1) as f64).sqrt() }
    }

    /// As a reference to freeze. A feature that does not vary has the deviation that it has in
    /// `fallback`.
    ///
    /// # Errors
    /// A feature that never varies cannot be a unit of measure.
    pub fn freeze_or(&self, fallback: Option<&Profile>) -> Result<Profile, String> {
        let mut deviations = Vec::with_capacity(COUNT);
        for (i, name) in NAMES.iter().enumerate() {
            let own = Some(self.deviation(i)).filter(|d| *d > 0.0);
            let deviation = own.or_else(|| fallback?.deviations.get(i).copied());
            deviations.push(deviation.ok_or_else(|| format!("{name} does not vary in {} rows", self.rows))?);
        }
        Ok(Profile { rows: self.rows, means: self.means.to_vec(), deviations, ..Profile::default() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn row(x: f64) -> Features {
        Features([x, -x, x * 2.0, x + 1e6, 1.0, x * 0.5])
    }

    proptest! {
        #[test]
        fn partitions_add_up_to_the_whole(values in proptest::collection::vec(-1e3..1e3f64, 2..100), at in 0usize..100) {
            let at = at % values.len();
            let sum = |v: &[f64]| v.iter().fold(Moments::default(), |mut m, x| { m.add(&row(*x)); m });
            let whole = sum(&values);
            let mut parts = sum(&values[..at]);
            parts.merge(&sum(&values[at..]));
            prop_assert_eq!(parts.rows, whole.rows);
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let var = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
            for i in 0..COUNT {
                prop_assert!((parts.mean(i) - whole.mean(i)).abs() < 1e-7);
                prop_assert!((parts.deviation(i) - whole.deviation(i)).abs() < 1e-7);
            }
            prop_assert!((whole.mean(0) - mean).abs() < 1e-9);
            prop_assert!((whole.deviation(0) - var.sqrt()).abs() < 1e-9);
            // A mean of a million does not cost the deviation its digits.
            prop_assert!((whole.deviation(3) - var.sqrt()).abs() < 1e-6);
        }
    }

    #[test]
    fn the_shift_is_counted_in_reference_deviations() {
        let reference =
            Profile { rows: 10, means: vec![0.0; COUNT], deviations: vec![2.0; COUNT], ..Profile::default() };
        let mut now = Moments::default();
        assert_eq!(reference.mean_shift(&now), None);
        now.add(&Features([4.0, -2.0, 0.0, 0.0, 0.0, 0.0]));
        let shift = reference.mean_shift(&now).unwrap();
        assert_eq!((shift[0], shift[1], shift[2]), (2.0, -1.0, 0.0));
    }

    #[test]
    fn a_constant_feature_is_no_reference() {
        let mut m = Moments::default();
        (0..10).for_each(|i| m.add(&row(f64::from(i))));
        assert_eq!(m.freeze_or(None).unwrap_err(), "power_watts does not vary in 10 rows");
    }
}

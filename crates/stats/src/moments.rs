//! Mean and standard deviation in one pass.

use serde::{Deserialize, Serialize};

/// Running moments and range (Welford 1962; merged as Chan, Golub and LeVeque 1979).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Moments {
    /// Values.
    pub count: u64,
    /// Their mean; 0 without any.
    pub mean: f64,
    /// Sum of the squared distances from the mean.
    pub squares: f64,
    /// Smallest; 0 without any.
    pub min: f64,
    /// Largest; 0 without any.
    pub max: f64,
}

impl Moments {
    /// Adds a finite value.
    pub fn add(&mut self, x: f64) {
        if self.count == 0 {
            (self.min, self.max) = (x, x);
        }
        self.count += 1;
        let before = x - self.mean;
        self.mean += before / self.count as f64;
        self.squares += before * (x - self.mean);
        self.min = self.min.min(x);
        self.max = self.max.max(x);
    }

    /// Adds another partition.
    pub fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        if self.count == 0 {
            *self = *other;
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let delta = other.mean - self.mean;
        self.mean += delta * b / (a + b);
        self.squares += other.squares + delta * delta * a * b / (a + b);
        self.count += other.count;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// Standard deviation with n − 1; `None` with fewer than two values, or where the squares
    /// are more than a double holds.
    pub fn deviation(&self) -> Option<f64> {
        let deviation = (self.squares / (self.count.checked_sub(1)? as f64)).sqrt();
        (self.count > 1 && deviation.is_finite()).then_some(deviation)
    }

    /// The mean, unless there is none.
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0 && self.mean.is_finite()).then_some(self.mean)
    }
}

/// `(mean − reference mean)/reference σ`; `None` where either is not known or σ is 0.
pub fn mean_shift(reference: &Moments, current: &Moments) -> Option<f64> {
    let sigma = reference.deviation().filter(|s| *s > 0.0)?;
    Some((current.mean()? - reference.mean()?) / sigma).filter(|s| s.is_finite())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Moments {
        values.iter().fold(Moments::default(), |mut m, x| {
            m.add(*x);
            m
        })
    }

    proptest! {
        #[test]
        fn parts_add_up(values in proptest::collection::vec(-1e3..1e3f64, 2..80), at in 0usize..80) {
            let at = at % values.len();
            let whole = of(&values);
            let mut parts = of(&values[..at]);
            parts.merge(&of(&values[at..]));
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let deviation = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
            for m in [whole, parts] {
                prop_assert_eq!((m.count, m.min, m.max), (whole.count, whole.min, whole.max));
                prop_assert!((m.mean - mean).abs() < 1e-9);
                prop_assert!((m.deviation().unwrap() - deviation).abs() < 1e-9);
            }
        }
    }

    #[test]
    fn what_is_not_known_is_none() {
        assert_eq!((of(&[]).mean(), of(&[1.0]).deviation()), (None, None));
        assert_eq!(of(&[1e308, -1e308, 1e308]).deviation(), None);
        assert_eq!(mean_shift(&of(&[1.0, 2.0, 3.0]), &of(&[4.0])), Some(2.0));
        assert_eq!(mean_shift(&of(&[1.0, 1.0]), &of(&[2.0])), None);
    }
}

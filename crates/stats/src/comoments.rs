//! Means, variances and covariances of several columns; sums of partitions add up.
//!
//! Welford's update and the pairwise form of Chan, Golub and LeVeque (1979).

use serde::{Deserialize, Serialize};

/// Running sums of rows and their products.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Comoments {
    count: f64,
    means: Vec<f64>,
    /// The lower triangle counts, in a full square.
    products: Vec<f64>,
}

impl Comoments {
    /// Of rows with this many columns.
    pub fn new(columns: usize) -> Self {
        Self { count: 0.0, means: vec![0.0; columns], products: vec![0.0; columns * columns] }
    }

    /// Adds a row of finite numbers, column by column.
    pub fn add(&mut self, row: &[f64]) {
        self.count += 1.0;
        let d = self.means.len();
        let before: Vec<f64> = row.iter().zip(&self.means).map(|(x, m)| x - m).collect();
        for (mean, b) in self.means.iter_mut().zip(&before) {
            *mean += b / self.count;
        }
        for (i, (x, mean)) in row.iter().zip(&self.means).enumerate() {
            let line = &mut self.products[i * d..=i * d + i];
            line.iter_mut().zip(&before).for_each(|(product, b)| *product += (x - mean) * b);
        }
    }

    /// Adds another partition of as many columns.
    pub fn merge(&mut self, other: &Self) {
        let count = self.count + other.count;
        if other.count == 0.0 || self.means.len() != other.means.len() {
            return;
        }
        let d = self.means.len();
        let apart: Vec<f64> = other.means.iter().zip(&self.means).map(|(theirs, own)| theirs - own).collect();
        let weight = self.count * other.count / count;
        for i in 0..d {
            for j in 0..=i {
                self.products[i * d + j] += other.products[i * d + j] + weight * apart[i] * apart[j];
            }
        }
        for (mean, by) in self.means.iter_mut().zip(&apart) {
            *mean += by * other.count / count;
        }
        self.count = count;
    }

    /// Rows.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// Mean of each column.
    pub fn means(&self) -> &[f64] {
        &self.means
    }

    fn covariance(&self, i: usize, j: usize) -> f64 {
        let d = self.means.len();
        self.products[i.max(j) * d + i.min(j)] / (self.count - 1.0).max(1.0)
    }

    /// Standard deviation of each column (n − 1); 1 where it does not vary.
    pub fn deviations(&self) -> Vec<f64> {
        let of = |i| self.covariance(i, i).sqrt();
        (0..self.means.len()).map(of).map(|s| if s > 0.0 { s } else { 1.0 }).collect()
    }

    /// Correlations; 0 for a column that does not vary, with itself too.
    pub fn correlation(&self) -> Vec<Vec<f64>> {
        let deviations = self.deviations();
        let of = |i: usize, j: usize| self.covariance(i, j) / (deviations[i] * deviations[j]);
        (0..deviations.len()).map(|i| (0..deviations.len()).map(|j| of(i, j)).collect()).collect()
    }

    /// Whether it was made of this many columns and holds numbers only.
    pub fn fits(&self, columns: usize) -> bool {
        let finite = |v: &[f64]| v.iter().all(|x| x.is_finite());
        self.means.len() == columns
            && self.products.len() == columns * columns
            && finite(&self.means)
            && finite(&self.products)
            && self.count >= 0.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn partitions_add_up_to_the_whole(
            rows in proptest::collection::vec(proptest::array::uniform3(-1e3..1e3f64), 2..60),
            at in 0usize..60,
        ) {
            let of = |rows: &[[f64; 3]]| rows.iter().fold(Comoments::new(3), |mut sums, row| { sums.add(row); sums });
            let at = at % rows.len();
            let (whole, mut parts) = (of(&rows), of(&rows[..at]));
            parts.merge(&of(&rows[at..]));
            parts.merge(&Comoments::new(3));
            prop_assert_eq!(parts.count(), whole.count());
            for i in 0..3 {
                prop_assert!((parts.means()[i] - whole.means()[i]).abs() < 1e-9);
                for j in 0..3 {
                    let mean = |k: usize| rows.iter().map(|r| r[k]).sum::<f64>() / rows.len() as f64;
                    let by_hand = rows.iter().map(|r| (r[i] - mean(i)) * (r[j] - mean(j))).sum::<f64>()
                        / (rows.len() as f64 - 1.0);
                    prop_assert!((parts.covariance(i, j) - whole.covariance(i, j)).abs() < 1e-6);
                    prop_assert!((whole.covariance(i, j) - by_hand).abs() < 1e-6);
                }
            }
        }
    }

    #[test]
    fn what_was_read_is_checked() {
        let mut sums = Comoments::new(2);
        sums.add(&[1.0, 2.0]);
        assert!(sums.fits(2) && !sums.fits(3));
        sums.add(&[f64::NAN, 2.0]);
        assert!(!sums.fits(2));
    }
}

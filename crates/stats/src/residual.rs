//! What is left of a column once the others have told what they can of it.
//!
//! With Ω the inverse of the reference's correlation matrix, the residual of standardised column i in its linear
//! regression on all others is Σⱼ Ωᵢⱼ zⱼ ⁄ Ωᵢᵢ, of variance 1 ⁄ Ωᵢᵢ (Whittaker, *Graphical Models in Applied Multivariate
//! Statistics*, 1990, section 5.8). It is what the conditional terms of T² are made of (Mason, Tracy and Young,
//! *Journal of Quality Technology* 27, 1995): where load moves temperature and power with it, nothing is left, and
//! a sensor that alone reads too much stands out. It leaves traces in the residuals of the columns that it helps to
//! explain, too; which column's shift alone accounts for all of them best is a least-squares fit for each
//! ([`Residuals::alone`]).

use serde::{Deserialize, Serialize};

use crate::{comoments::Comoments, pca::eigen};

/// Columns that follow from others exactly have no inverse; this much of their own is left to each.
const LEAST_EIGENVALUE: f64 = 1e-9;

/// A shift of one column alone, as an explanation of residuals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Alone {
    /// How far the column must have moved, in σ.
    pub shift: f64,
    /// Sum of squares that this leaves unexplained.
    pub left: f64,
}

/// A fitted reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Residuals {
    means: Vec<f64>,
    deviations: Vec<f64>,
    /// Row i: what each standardised column counts in the residual of column i; 1 for itself.
    weights: Vec<Vec<f64>>,
}

impl Residuals {
    /// Fits on sums of the reference's rows. `None` with fewer than two columns, or not more rows than columns + 1.
    pub fn fit(sums: &Comoments) -> Option<Self> {
        let columns = sums.means().len();
        if columns < 2 || sums.count() < columns as f64 + 2.0 {
            return None;
        }
        let mut correlation = sums.correlation();
        // A column that does not vary explains nothing, and nothing explains it.
        correlation.iter_mut().enumerate().for_each(|(i, line)| line[i] = 1.0);
        let pairs = eigen(correlation);
        let inverse = |i: usize, j: usize| -> f64 {
            pairs.iter().map(|(value, vector)| vector[i] * vector[j] / value.max(LEAST_EIGENVALUE)).sum()
        };
        let weights = (0..columns).map(|i| (0..columns).map(|j| inverse(i, j) / inverse(i, i)).collect()).collect();
        let fitted = Self { means: sums.means().to_vec(), deviations: sums.deviations(), weights };
        fitted.check(columns).is_ok().then_some(fitted)
    }

    /// Residual of each column of a row, or of a mean of rows, in σ of the column; `None` for a row of another length.
    pub fn of(&self, row: &[f64]) -> Option<Vec<f64>> {
        if row.len() != self.means.len() {
            return None;
        }
        let z: Vec<f64> = row.iter().zip(&self.means).zip(&self.deviations).map(|((x, m), s)| (x - m) / s).collect();
        Some(self.weights.iter().map(|line| line.iter().zip(&z).map(|(w, z)| w * z).sum()).collect())
    }

    /// For each column: how far it alone must have moved for these residuals, by least squares in the given units
    /// (one above 0 for each residual), and what that leaves unexplained.
    pub fn alone(&self, residuals: &[f64], units: &[f64]) -> Vec<Alone> {
        let scaled: Vec<f64> = residuals.iter().zip(units).map(|(r, u)| r / u).collect();
        let column = |k: usize| {
            let pattern: Vec<f64> = self.weights.iter().zip(units).map(|(line, u)| line[k] / u).collect();
            let along: f64 = pattern.iter().zip(&scaled).map(|(p, r)| p * r).sum();
            let shift = along / pattern.iter().map(|p| p * p).sum::<f64>();
            let left = pattern.iter().zip(&scaled).map(|(p, r)| (r - shift * p).powi(2)).sum();
            Alone { shift, left }
        };
        (0..self.weights.len()).map(column).collect()
    }

    /// Checks what was read from outside.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn check(&self, columns: usize) -> Result<(), String> {
        let fits = |v: &[f64]| v.len() == columns && v.iter().all(|x| x.is_finite());
        let square = self.weights.len() == columns && self.weights.iter().all(|line| fits(line));
        if square && fits(&self.means) && fits(&self.deviations) && self.deviations.iter().all(|d| *d > 0.0) {
            Ok(())
        } else {
            Err(format!("residuals must be of {columns} finite numbers"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The third column is 2 × the first − the second and something of its own.
    fn rows() -> Vec<[f64; 3]> {
        let noise = |i: u32, k: u32| f64::from(i * k % 997) / 997.0 - 0.5;
        let row = |i| {
            let (a, b) = (20.0 + 3.0 * noise(i, 37), noise(i, 83));
            [a, b, 2.0 * a - b + 0.1 * noise(i, 59)]
        };
        (0..997).map(row).collect()
    }

    fn fit(rows: &[[f64; 3]]) -> Residuals {
        let mut sums = Comoments::new(3);
        rows.iter().for_each(|r| sums.add(r));
        Residuals::fit(&sums).unwrap()
    }

    #[test]
    fn they_are_those_of_least_squares() {
        let rows = rows();
        let fitted = fit(&rows);
        let residuals: Vec<Vec<f64>> = rows.iter().map(|r| fitted.of(r).unwrap()).collect();
        for i in 0..3 {
            // The normal equations: a residual sums to nothing, alone and with each of the other columns.
            let sum = |weigh: &dyn Fn(&[f64; 3]) -> f64| -> f64 {
                rows.iter().zip(&residuals).map(|(row, r)| weigh(row) * r[i]).sum::<f64>() / rows.len() as f64
            };
            assert!(sum(&|_| 1.0).abs() < 1e-9);
            for j in (0..3).filter(|j| *j != i) {
                assert!(sum(&|row| row[j]).abs() < 1e-7, "{i} with {j}: {}", sum(&|row| row[j]));
            }
        }
        // In its own unit: the noise of 0.1 that the third column has beside 2a − b.
        let last = residuals.iter().map(|r| (r[2] * fitted.deviations[2]).abs()).fold(0.0, f64::max);
        assert!((0.045..0.06).contains(&last), "{last}");
    }

    #[test]
    fn what_the_others_explain_leaves_nothing_and_one_alone_stands_out() {
        let fitted = fit(&rows());
        let [a, b, c] = [20.0, 0.0, 40.0];
        let together = fitted.of(&[a + 1.0, b, c + 2.0]).unwrap();
        let alone = fitted.of(&[a, b, c + 2.0]).unwrap();
        assert!(together.iter().all(|r| r.abs() < 0.02), "{together:?}");
        assert!(alone[2] > 1.0, "{alone:?}");
    }

    #[test]
    fn the_column_that_moved_is_found_with_how_far_it_moved() {
        let fitted = fit(&rows());
        let middle = fitted.means.clone();
        for moved in 0..3 {
            for sigmas in [-2.0, 0.5, 1.0] {
                let mut row = middle.clone();
                row[moved] += sigmas * fitted.deviations[moved];
                let residuals = fitted.of(&row).unwrap();
                assert!(residuals.iter().all(|r| r.abs() > 0.005), "all of them show it: {residuals:?}");
                let alone = fitted.alone(&residuals, &[0.2, 0.3, 0.1]);
                let best = (0..3).min_by(|a, b| alone[*a].left.total_cmp(&alone[*b].left)).unwrap();
                assert!(best == moved && (alone[best].shift - sigmas).abs() < 1e-9, "{moved}, {sigmas}: {alone:?}");
            }
        }
    }

    #[test]
    fn a_column_that_follows_exactly_or_never_varies_is_no_trouble() {
        let mut sums = Comoments::new(3);
        rows().iter().for_each(|[a, ..]| sums.add(&[*a, 3.0 * a, 7.0]));
        let fitted = Residuals::fit(&sums).unwrap();
        let calm = fitted.of(&[21.0, 63.0, 7.0]).unwrap();
        assert!(calm.iter().all(|r| r.abs() < 1e-6), "{calm:?}");
        assert!((fitted.of(&[21.0, 63.0, 9.0]).unwrap()[2] - 2.0).abs() < 1e-9, "in its own unit");
        assert!(fitted.of(&[21.0, 66.0, 7.0]).unwrap()[1].abs() > 0.1);
        assert_eq!(fitted.of(&[1.0]), None);
        assert_eq!(Residuals::fit(&Comoments::new(3)), None);
        assert!(fitted.check(2).is_err());
    }
}

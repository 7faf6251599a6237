//! Drift of columns together: how well the reference's principal components still describe a row.
//!
//! Standardise by the reference, keep the components that explain a share of its variance, and
//! measure the distance of a row from its projection (NannyML's *data reconstruction*). A
//! change of correlation moves this where no single column moves.

use serde::{Deserialize, Serialize};

use crate::comoments::Comoments;

/// Share of the variance that the kept components explain.
pub const EXPLAINED: f64 = 0.65;

/// A row counts as no further away than this.
const MOST_SIGMAS: f64 = 10.0;

/// A fitted reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pca {
    means: Vec<f64>,
    deviations: Vec<f64>,
    /// Orthonormal rows.
    components: Vec<Vec<f64>>,
    /// Mean error of the reference's own rows, and its standard deviation.
    reference: (f64, f64),
}

impl Pca {
    /// Fits on rows of equal length. `None` with fewer rows than columns + 2, fewer than two
    /// columns, a number that is not finite, or no column that varies. Constant columns count as
    /// they are: any change of theirs shows.
    pub fn fit(rows: &[Vec<f64>], explained: f64) -> Option<Self> {
        let columns = rows.first()?.len();
        if columns < 2 || rows.len() < columns + 2 {
            return None;
        }
        if rows.iter().any(|r| r.len() != columns || r.iter().any(|x| !x.is_finite())) {
            return None;
        }
        let mut sums = Comoments::new(columns);
        rows.iter().for_each(|r| sums.add(r));
        let deviations = sums.deviations();
        let mut pairs = eigen(sums.correlation());
        pairs.sort_by(|a, b| b.0.total_cmp(&a.0));
        let total: f64 = pairs.iter().map(|(value, _)| value.max(0.0)).sum();
        if total.is_nan() || total <= 0.0 {
            return None;
        }
        let mut sum = 0.0;
        let mut components = Vec::new();
        for (value, vector) in pairs {
            // With all components nothing would be left over, whatever the row.
            if sum >= explained * total && !components.is_empty() || components.len() + 1 == columns {
                break;
            }
            sum += value.max(0.0);
            components.push(vector);
        }
        let mut pca = Self { means: sums.means().to_vec(), deviations, components, reference: (0.0, 0.0) };
        let mut moments = crate::moments::Moments::default();
        rows.iter().filter_map(|r| pca.error(r)).for_each(|e| moments.add(e));
        pca.reference = (moments.mean()?, moments.deviation()?);
        Some(pca)
    }

    /// Distance of a row from what the components make of it, in standardised units; `None` for a row
    /// of another length or with a number that is not finite.
    pub fn error(&self, row: &[f64]) -> Option<f64> {
        if row.len() != self.means.len() || row.iter().any(|x| !x.is_finite()) {
            return None;
        }
        let mut rest: Vec<f64> =
            row.iter().zip(&self.means).zip(&self.deviations).map(|((x, m), s)| (x - m) / s).collect();
        for component in &self.components {
            let along: f64 = component.iter().zip(&rest).map(|(c, z)| c * z).sum();
            rest.iter_mut().zip(component).for_each(|(z, c)| *z -= along * c);
        }
        Some(rest.iter().map(|z| z * z).sum::<f64>().sqrt())
    }

    /// The error, but at most the reference's mean and `MOST_SIGMAS` of its deviations: one absurd cell is no drift
    /// of the whole.
    pub fn bounded_error(&self, row: &[f64]) -> Option<f64> {
        let most = self.reference.0 + MOST_SIGMAS * self.reference.1;
        self.error(row).map(|e| if e.is_nan() { most } else { e.min(most) })
    }

    /// Mean bounded error of rows, and how many standard errors of the reference it is from the
    /// reference's own; `None` without a usable row.
    pub fn shift(&self, rows: &[Vec<f64>]) -> Option<(f64, f64)> {
        let errors: Vec<f64> = rows.iter().filter_map(|r| self.bounded_error(r)).collect();
        if errors.is_empty() || self.reference.1 <= 0.0 {
            return None;
        }
        let n = errors.len() as f64;
        let mean = errors.iter().sum::<f64>() / n;
        Some((mean, (mean - self.reference.0) / (self.reference.1 / n.sqrt())))
    }

    /// Mean error of the reference's own rows, and its standard deviation.
    pub fn reference(&self) -> (f64, f64) {
        self.reference
    }

    /// Checks what was read from outside.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn check(&self, columns: usize) -> Result<(), String> {
        let fits = |v: &[f64]| v.len() == columns && v.iter().all(|x| x.is_finite());
        let all = fits(&self.means) && fits(&self.deviations) && self.components.iter().all(|c| fits(c));
        if all && self.deviations.iter().all(|d| *d > 0.0) && self.reference.1 >= 0.0 && self.reference.0.is_finite() {
            Ok(())
        } else {
            Err(format!("principal components must be of {columns} finite numbers"))
        }
    }

    /// Components kept.
    pub fn components(&self) -> usize {
        self.components.len()
    }
}

/// Eigenvalues and vectors of a symmetric matrix by Jacobi's rotations (Golub and Van Loan, 8.5).
pub(crate) fn eigen(mut a: Vec<Vec<f64>>) -> Vec<(f64, Vec<f64>)> {
    let n = a.len();
    let mut v: Vec<Vec<f64>> = (0..n).map(|i| (0..n).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 0..100 {
        let off: f64 = (0..n).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| a[i][j] * a[i][j]).sum();
        if off < 1e-24 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                if a[p][q] == 0.0 {
                    continue;
                }
                let theta = (a[q][q] - a[p][p]) / (2.0 * a[p][q]);
                let t = theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt());
                let t = if theta == 0.0 { 1.0 } else { t };
                let c = 1.0 / (t * t + 1.0).sqrt();
                let s = t * c;
                for row in &mut a {
                    let (x, y) = (row[p], row[q]);
                    (row[p], row[q]) = (c * x - s * y, s * x + c * y);
                }
                let (upper, lower) = a.split_at_mut(q);
                for (x, y) in upper[p].iter_mut().zip(lower[0].iter_mut()) {
                    (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
                }
                for row in &mut v {
                    let (x, y) = (row[p], row[q]);
                    (row[p], row[q]) = (c * x - s * y, s * x + c * y);
                }
            }
        }
    }
    (0..n).map(|i| (a[i][i], v.iter().map(|row| row[i]).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two columns that go together and one that goes alone.
    fn rows(sign: f64) -> Vec<Vec<f64>> {
        let noise = |i: u32, k: u32| f64::from(i * k % 101) / 101.0 - 0.5;
        (0..400).map(|i| vec![noise(i, 37), sign * noise(i, 37) + 0.05 * noise(i, 59), noise(i, 83)]).collect()
    }

    #[test]
    fn a_change_of_correlation_shows_where_no_column_moves() {
        let pca = Pca::fit(&rows(1.0), EXPLAINED).unwrap();
        assert!(pca.components() <= 2);
        let (_, same) = pca.shift(&rows(1.0)).unwrap();
        let (_, turned) = pca.shift(&rows(-1.0)).unwrap();
        assert!(same.abs() < 1e-9 && turned > 10.0, "{same} {turned}");
    }

    #[test]
    fn one_absurd_row_is_bounded_and_something_is_always_left_over() {
        let pca = Pca::fit(&rows(1.0), EXPLAINED).unwrap();
        let mut odd = rows(1.0);
        odd[7] = vec![1e308, -1e308, 1e308];
        let (mean, _) = pca.shift(&odd).unwrap();
        assert!((mean - pca.reference().0).abs() <= 14.0 * pca.reference().1 / 400.0);
        let alone: Vec<Vec<f64>> = rows(1.0).into_iter().map(|r| vec![r[0], r[2]]).collect();
        let pca = Pca::fit(&alone, 0.99).unwrap();
        assert!(pca.components() == 1 && pca.reference().1 > 0.1);
        pca.check(2).unwrap();
        assert!(pca.check(3).is_err());
    }

    #[test]
    fn eigenvalues_of_a_known_matrix() {
        let mut pairs = eigen(vec![vec![2.0, 1.0, 0.0], vec![1.0, 2.0, 0.0], vec![0.0, 0.0, 5.0]]);
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        let values: Vec<f64> = pairs.iter().map(|(value, _)| *value).collect();
        assert!(values.iter().zip([1.0, 3.0, 5.0]).all(|(a, b)| (a - b).abs() < 1e-12), "{values:?}");
        for (_, vector) in pairs {
            assert!((vector.iter().map(|x| x * x).sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn what_cannot_be_fitted_is_none() {
        assert_eq!(Pca::fit(&[], EXPLAINED), None);
        assert_eq!(Pca::fit(&vec![vec![1.0, 2.0]; 50], EXPLAINED), None, "nothing varies");
        assert_eq!(Pca::fit(&[vec![1.0, f64::NAN], vec![2.0, 1.0], vec![1.0, 1.0], vec![0.0, 1.0]], EXPLAINED), None);
        assert_eq!(Pca::fit(&rows(1.0), EXPLAINED).unwrap().error(&[1.0]), None);
    }
}

//! χ² test of two rows of category counts.

use crate::special::chi2_sf;

/// Outcome of a test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chi2 {
    /// The statistic.
    pub stat: f64,
    /// P(so large a statistic while both come from one distribution).
    pub p: f64,
    /// Categories − 1.
    pub dof: usize,
    /// The smallest expected count: below 5 the p-value is rough (Cochran 1954).
    pub smallest_expected: f64,
}

/// Pearson's test of homogeneity, `Σ (observed − expected)²/expected` without continuity
/// correction. Categories that neither side has are left out. `None` if either side is empty.
pub fn homogeneity(reference: &[u64], current: &[u64]) -> Option<Chi2> {
    let (n, m) = (reference.iter().sum::<u64>() as f64, current.iter().sum::<u64>() as f64);
    if n == 0.0 || m == 0.0 {
        return None;
    }
    let (mut stat, mut categories, mut smallest) = (0.0, 0usize, f64::INFINITY);
    for (r, c) in reference.iter().zip(current).filter(|(r, c)| **r + **c > 0) {
        let (r, c) = (*r as f64, *c as f64);
        let share = (r + c) / (n + m);
        let (expected_r, expected_c) = (share * n, share * m);
        stat += (r - expected_r).powi(2) / expected_r + (c - expected_c).powi(2) / expected_c;
        categories += 1;
        smallest = smallest.min(expected_r.min(expected_c));
    }
    let dof = categories - 1;
    Some(Chi2 { stat, p: chi2_sf(stat, dof), dof, smallest_expected: smallest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // 2×2: stat = N (ad − bc)²/(row sums · column sums).
        let chi2 = homogeneity(&[10, 20, 0], &[20, 10, 0]).unwrap();
        assert!((chi2.stat - 60.0 * 300.0f64.powi(2) / (30.0f64.powi(4))).abs() < 1e-12);
        assert_eq!((chi2.dof, chi2.smallest_expected), (1, 15.0));
        assert!((chi2.p - 0.009_823_274_507_519).abs() < 1e-12, "{}", chi2.p);
        let one = homogeneity(&[7], &[9]).unwrap();
        assert_eq!((one.stat, one.p), (0.0, 1.0));
        assert_eq!(homogeneity(&[0], &[9]), None);
    }
}

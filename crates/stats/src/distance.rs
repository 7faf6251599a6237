//! Distances between two histograms over the same cells.

use crate::special::chi2_quantile;

/// Added to each cell's count, so that a cell that one side has never seen is rare and not
/// impossible (Krichevsky and Trofimov 1981).
pub const SMOOTHING: f64 = 0.5;

/// A population stability index with what chance alone would explain.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Psi {
    /// `Σ (q − p) ln(q/p)` over the cells.
    pub value: f64,
    /// What it stays below with the chosen probability while nothing has changed.
    pub critical: f64,
    /// Cells that were counted.
    pub cells: usize,
}

/// PSI of counts, with `p = (n + ½)/(N + B/2)`. Cells that are empty on both sides say nothing
/// and are not counted in B. `None` if either side has no counts at all.
///
/// The critical value: without change, PSI·N·M/(N + M) is about χ² with B − 1 degrees of
/// freedom, so that the PSI stays below `χ²_confidence,B−1 · (1/N + 1/M)` (Yurdakul 2018,
/// *Statistical Properties of the Population Stability Index*).
pub fn psi(reference: &[u64], current: &[u64], confidence: f64) -> Option<Psi> {
    let (n, m) = (reference.iter().sum::<u64>(), current.iter().sum::<u64>());
    if n == 0 || m == 0 {
        return None;
    }
    let seen = || reference.iter().zip(current).filter(|(r, c)| **r + **c > 0);
    let cells = seen().count();
    let (whole_n, whole_m) = (n as f64 + SMOOTHING * cells as f64, m as f64 + SMOOTHING * cells as f64);
    let value =
        seen().map(|(r, c)| psi_part((*r as f64 + SMOOTHING) / whole_n, (*c as f64 + SMOOTHING) / whole_m)).sum();
    let critical = chi2_quantile(confidence, cells - 1) * (1.0 / n as f64 + 1.0 / m as f64);
    Some(Psi { value, critical, cells })
}

fn psi_part(p: f64, q: f64) -> f64 {
    (q - p) * (q / p).ln()
}

/// Jensen-Shannon divergence in bits, 0 to 1 (Lin 1991), of unsmoothed shares; `None` if
/// either side has no counts. Its root is the distance that scipy's `jensenshannon` gives.
pub fn jensen_shannon(reference: &[u64], current: &[u64]) -> Option<f64> {
    let (n, m) = (reference.iter().sum::<u64>() as f64, current.iter().sum::<u64>() as f64);
    if n == 0.0 || m == 0.0 {
        return None;
    }
    let part = |x: f64, mean: f64| if x > 0.0 { x * (x / mean).log2() } else { 0.0 };
    let sum: f64 = reference
        .iter()
        .zip(current)
        .map(|(r, c)| {
            let (p, q) = (*r as f64 / n, *c as f64 / m);
            let mean = 0.5 * (p + q);
            part(p, mean) + part(q, mean)
        })
        .sum();
    Some((0.5 * sum).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_symmetric_and_never_negative(cells in proptest::collection::vec((0u64..500, 0u64..500), 2..15)) {
            let (a, b): (Vec<u64>, Vec<u64>) = cells.into_iter().unzip();
            match (psi(&a, &b, 0.95), psi(&b, &a, 0.95)) {
                (Some(x), Some(y)) => {
                    prop_assert!(x.value >= 0.0 && (x.value - y.value).abs() < 1e-12);
                    prop_assert!((x.critical - y.critical).abs() < 1e-12);
                    let js = jensen_shannon(&a, &b).unwrap();
                    prop_assert!((0.0..=1.0).contains(&js));
                    prop_assert!((js - jensen_shannon(&b, &a).unwrap()).abs() < 1e-12);
                }
                (None, None) => prop_assert!(a.iter().sum::<u64>() == 0 || b.iter().sum::<u64>() == 0),
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn by_hand() {
        let psi = psi(&[10, 30, 0], &[30, 10, 0], 0.95).unwrap();
        // (10.5, 30.5)/41 against (30.5, 10.5)/41.
        let expected = 2.0 * (20.0 / 41.0) * (30.5f64 / 10.5).ln();
        assert!((psi.value - expected).abs() < 1e-15);
        assert_eq!(psi.cells, 2);
        assert!((psi.critical - 3.841_458_820_694_124 * (2.0 / 40.0)).abs() < 1e-12);
        assert_eq!(jensen_shannon(&[5, 0], &[0, 9]), Some(1.0));
        assert_eq!(jensen_shannon(&[5, 5], &[9, 9]), Some(0.0));
    }
}

//! What chance does to rows that resemble their neighbours.
//!
//! A sensor's readings a second apart say nearly the same, so that a window of m readings is
//! worth far fewer than m and every p-value and χ² threshold for independent rows is too
//! confident. The reference knows better: its own blocks of m rows in a row differ from it by
//! exactly that chance.

use crate::{distance::psi, profile::Histogram};

/// Fewer blocks say too little about how blocks differ.
pub const MIN_BLOCKS: usize = 10;

/// A line above which a window of `block` rows differs more than the reference's own do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BlockLine {
    /// PSI of the block that only a share of 1 − `confidence` of the blocks exceeds.
    pub psi: f64,
    /// Blocks that it was taken from.
    pub blocks: usize,
}

/// The line of a reference in the order of its time, over its frozen histogram. Blocks overlap
/// by half. `None` with fewer than [`MIN_BLOCKS`].
pub fn block_line(rows: &[f64], reference: &Histogram, block: usize, confidence: f64) -> Option<BlockLine> {
    let step = (block / 2).max(1);
    if block == 0 || rows.len() < block {
        return None;
    }
    let mut indices: Vec<f64> = (0..=(rows.len() - block) / step)
        .filter_map(|i| {
            let mut now = Histogram::new(reference.cells.clone());
            rows[i * step..i * step + block].iter().for_each(|x| now.add(*x));
            psi(&reference.counts, &now.counts, confidence).map(|p| p.value)
        })
        .collect();
    if indices.len() < MIN_BLOCKS {
        return None;
    }
    indices.sort_unstable_by(f64::total_cmp);
    // The next one above, so that at most a share of 1 − confidence lies higher.
    let place = ((indices.len() as f64 * confidence).ceil() as usize).clamp(1, indices.len());
    Some(BlockLine { psi: indices[place - 1], blocks: indices.len() })
}

/// Autocorrelation at lag 1; `None` with fewer than three rows or without variance.
pub fn lag_one(rows: &[f64]) -> Option<f64> {
    let n = rows.len() as f64;
    let mean = rows.iter().sum::<f64>() / n;
    let variance: f64 = rows.iter().map(|x| (x - mean).powi(2)).sum();
    let together: f64 = rows.windows(2).map(|w| (w[0] - mean) * (w[1] - mean)).sum();
    (rows.len() >= 3 && variance > 0.0 && variance.is_finite()).then(|| together / variance)
}

/// Every so-manyth row of an AR(1) series is about independent: until ρ^k falls below 0.05.
pub fn thinning(lag_one: f64) -> usize {
    if lag_one <= 0.05 { 1 } else { (0.05f64.ln() / lag_one.min(0.999_9).ln()).ceil() as usize }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        profile::{Kind, Numbers, Reference, Summary},
        special::chi2_quantile,
    };

    /// AR(1) with standard normal stationary values, from a fixed generator.
    fn ar1(phi: f64, n: usize, mut seed: u64) -> Vec<f64> {
        let mut uniform = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) as f64 / (1u64 << 53) as f64 + 1e-17
        };
        let mut x = 0.0;
        (0..n)
            .map(|_| {
                let normal = (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
                x = phi * x + (1.0 - phi * phi).sqrt() * normal;
                x
            })
            .collect()
    }

    fn freeze(rows: &[f64]) -> Histogram {
        let mut numbers = Numbers::new(rows.len());
        rows.iter().for_each(|x| numbers.add(*x));
        Reference::freeze("x", Kind::Number, Summary::Numbers(numbers)).deciles.unwrap()
    }

    #[test]
    fn autocorrelated_blocks_need_a_higher_line_and_independent_ones_do_not() {
        let block = 300;
        let chance = chi2_quantile(0.95, 9) * (1.0 / 60_000.0 + 1.0 / 300.0);
        let line = |phi: f64| {
            let rows = ar1(phi, 60_000, 88_172_645_463_325_252);
            block_line(&rows, &freeze(&rows), block, 0.95).unwrap()
        };
        let (independent, sticky) = (line(0.0), line(0.98));
        assert!((independent.psi / chance - 1.0).abs() < 0.25, "{independent:?} {chance}");
        assert!(sticky.psi > 5.0 * chance, "{sticky:?} {chance}");
    }

    #[test]
    fn thinning_follows_the_autocorrelation() {
        let rho = lag_one(&ar1(0.9, 20_000, 1_234_567)).unwrap();
        assert!((rho - 0.9).abs() < 0.02, "{rho}");
        assert_eq!((thinning(0.0), thinning(0.5), thinning(0.9)), (1, 5, 29));
        assert_eq!((lag_one(&[1.0, 2.0]), lag_one(&[1.0; 9])), (None, None));
        let rows = [1.0, 2.0, 3.0];
        assert_eq!(block_line(&rows, &freeze(&rows), 2, 0.95), None);
    }
}

//! The cells in which a frozen reference counts numbers.

use serde::{Deserialize, Serialize};

use crate::ordered::Ordered;

/// Cells between the smallest and the largest value of the reference.
pub const BINS: usize = 10;

/// Where the edges are put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Binning {
    /// At the reference's deciles: a tenth of it in each cell, whatever outliers do.
    #[default]
    Deciles,
    /// At even distances between the reference's smallest and largest value.
    EqualWidth,
}

/// Half-open cells `[lowerᵢ, lowerᵢ₊₁)`, the last one closed by `max`; below and above lie
/// underflow and overflow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cells {
    #[serde(with = "crate::exact::list")]
    lower: Vec<f64>,
    #[serde(with = "crate::exact::one")]
    max: f64,
}

impl Cells {
    /// Cells for a reference; `None` without a finite value.
    ///
    /// A reference of at most [`BINS`] distinct values gets one cell for each. Deciles that
    /// coincide are one edge, so that a value that many rows share has a cell of its own.
    pub fn of(reference: &Ordered, binning: Binning) -> Option<Self> {
        Self::with_bins(reference, binning, BINS)
    }

    /// The same with another number of cells.
    pub fn with_bins(reference: &Ordered, binning: Binning, bins: usize) -> Option<Self> {
        let (min, max) = (reference.quantile(0.0)?, reference.quantile(1.0)?);
        if !min.is_finite() || !max.is_finite() {
            return None;
        }
        if let Some(distinct) = reference.distinct(bins) {
            return Some(Self { lower: distinct, max });
        }
        let at = |i: usize| {
            // As numpy's linspace has it, so that edges on a value fall to the same side.
            let part = i as f64 * (1.0 / bins as f64);
            match binning {
                Binning::Deciles => reference.quantile(part),
                Binning::EqualWidth if (max - min).is_finite() => Some(min + i as f64 * ((max - min) / bins as f64)),
                // The span of the largest doubles is more than a double.
                Binning::EqualWidth => Some(min + (max / 2.0 - min / 2.0) * part + (max / 2.0 - min / 2.0) * part),
            }
        };
        let mut lower: Vec<f64> = (0..bins).map(at).collect::<Option<_>>()?;
        lower.dedup();
        Some(Self { lower, max })
    }

    /// Underflow, the cells, overflow: how many counts there are.
    pub fn count(&self) -> usize {
        self.lower.len() + 2
    }

    /// The count that a number belongs to: 0 is underflow, the last one overflow.
    pub fn index(&self, x: f64) -> usize {
        if x > self.max { self.lower.len() + 1 } else { self.lower.partition_point(|edge| *edge <= x) }
    }

    /// Lower edges of the cells.
    pub fn lower(&self) -> &[f64] {
        &self.lower
    }

    /// Fewer cells: those that begin at these lower edges, ascending.
    pub(crate) fn only(&self, edges: &[usize]) -> Self {
        Self { lower: edges.iter().filter_map(|i| self.lower.get(*i).copied()).collect(), max: self.max }
    }

    /// Upper edge of the last cell.
    pub fn max(&self) -> f64 {
        self.max
    }

    /// Checks what was read from outside.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn check(&self) -> Result<(), String> {
        let ascending = self.lower.is_sorted_by(|a, b| a < b) && self.lower.last().is_some_and(|l| *l <= self.max);
        if ascending && self.max.is_finite() { Ok(()) } else { Err("edges of cells do not ascend".into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(cells: &Cells, values: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; cells.count()];
        values.iter().for_each(|x| counts[cells.index(*x)] += 1);
        counts
    }

    #[test]
    fn deciles_hold_a_tenth_each_and_outliers_go_over_the_edge() {
        let values: Vec<f64> = (0..1_000).map(f64::from).collect();
        let cells = Cells::of(&Ordered::new(values.clone()), Binning::Deciles).unwrap();
        let held = counts(&cells, &values);
        assert_eq!((held[0], held[11]), (0, 0));
        assert!(held[1..11].iter().all(|c| *c == 100), "{held:?}");
        assert_eq!((cells.index(-0.5), cells.index(999.0), cells.index(1e4)), (0, 10, 11));
        cells.check().unwrap();
    }

    #[test]
    fn equal_width_is_numpys_histogram() {
        let mut values: Vec<f64> = (0..=50).map(|i| f64::from(i * i)).collect();
        values.push(-100.0);
        let cells = Cells::of(&Ordered::new(values.clone()), Binning::EqualWidth).unwrap();
        let step = 2_600.0 / 10.0;
        assert!(cells.lower().iter().enumerate().all(|(i, e)| (e - (-100.0 + step * i as f64)).abs() < 1e-9));
        assert_eq!(counts(&cells, &values).iter().sum::<u64>(), 52);
        let wide = Ordered::new((0..20).map(|i| (f64::from(i) - 10.0) * 1e307 * 1.7).collect());
        Cells::of(&wide, Binning::EqualWidth).unwrap().check().unwrap();
    }

    #[test]
    fn few_values_and_ties_have_cells_of_their_own() {
        let binary = Ordered::new([vec![0.0; 95], vec![1.0; 5]].concat());
        let cells = Cells::of(&binary, Binning::Deciles).unwrap();
        assert_eq!(counts(&cells, binary.values()), [0, 95, 5, 0]);
        let mostly_zero = Ordered::new([vec![0.0; 900], (1..=100).map(f64::from).collect()].concat());
        let cells = Cells::of(&mostly_zero, Binning::Deciles).unwrap();
        assert_eq!(counts(&cells, mostly_zero.values()).iter().sum::<u64>(), 1_000);
        cells.check().unwrap();
        assert!(Cells::of(&Ordered::default(), Binning::Deciles).is_none());
        assert!(Cells { lower: vec![2.0, 1.0], max: 3.0 }.check().is_err());
    }
}

//! The distribution of each feature when all was well, and how far a window's is from it.
//!
//! Readings a second apart resemble each other and a few machines are not the whole fleet, so
//! that a χ² threshold for independent rows would alarm all day. The reference says itself how
//! far windows wander while all is well: [`Distribution::psi_line`] is twice the largest PSI that any
//! window of any group of machines in it had.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use stats::{
    cells::{BINS, Binning},
    distance::psi,
    moments::Moments,
    pca::{EXPLAINED, Pca},
    profile::{Histogram, Numbers},
};
use utoipa::ToSchema;

use crate::{
    features::{COUNT, Features},
    window::{MIN_ROWS, Sum},
};

/// Fine cells: the Kolmogorov-Smirnov distance is known to 1/200.
const CELLS: usize = 200;
/// Values of a feature that are ordered exactly when a reference is made.
const EXACT: usize = 1 << 20;
/// The confidence of a χ² threshold, shown beside the line.
const CONFIDENCE: f64 = 0.95;
/// A line is so many times the largest PSI: a fleet that the reference has never seen wanders further than its own.
const MARGIN: f64 = 2.0;
/// No line is lower: what a PSI below this says is too little to act on (Siddiqi, *Credit Risk Scorecards*, 2006).
const LOWEST_PSI_LINE: f64 = 0.25;
/// The same for the reconstruction error, in σ of the reference's own.
const LOWEST_ERROR_LINE: f64 = 0.5;
/// Rows that principal components are fitted on.
const PCA_ROWS: usize = 20_000;

/// One feature's reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Distribution {
    /// Rows over fine cells, a two-hundredth of the reference in each.
    #[schema(value_type = Object)]
    pub histogram: Histogram,
    /// Twice the largest PSI of a window while all was well, 0.25 at least.
    pub psi_line: f64,
}

/// The reference of the features together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Together {
    /// What goes with what.
    pub pca: Pca,
    /// Twice the largest distance of a window's mean reconstruction error while all was well, in σ of the
    /// reference's own rows; 0.5 at least.
    pub line: f64,
}

impl Together {
    pub(crate) fn check(&self) -> Result<(), String> {
        if !(0.0..1e6).contains(&self.line) {
            return Err("the line of the features together must not be negative".into());
        }
        self.pca.check(COUNT)
    }

    /// Distance of a window's mean error from the reference's, in σ of the reference's own rows.
    pub fn shift(&self, errors: &Moments) -> Option<f64> {
        let (mean, deviation) = self.pca.reference();
        if deviation > 0.0 { Some((errors.mean()? - mean) / deviation) } else { None }
    }
}

impl Sum for Moments {
    fn merge(&mut self, other: &Self) {
        Self::merge(self, other);
    }
}

impl Distribution {
    /// The largest PSI of a window while all was well: as much as chance alone explains.
    pub fn chance(&self) -> f64 {
        self.psi_line / MARGIN
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        self.histogram.cells.check()?;
        if self.histogram.counts.len() != self.histogram.cells.count() || !(0.0..1e6).contains(&self.psi_line) {
            return Err("a distribution's counts do not fit its cells".into());
        }
        Ok(())
    }
}

/// Rows of a window over the reference's cells, by feature.
#[derive(Clone, Debug, Default)]
pub struct Counts(Vec<Vec<u64>>);

impl Counts {
    /// Adds a row.
    pub fn add(&mut self, reference: &[Distribution], features: &Features) {
        if self.0.is_empty() {
            self.0 = reference.iter().map(|d| vec![0; d.histogram.counts.len()]).collect();
        }
        for ((counts, distribution), x) in self.0.iter_mut().zip(reference).zip(&features.0) {
            if let Some(count) = counts.get_mut(distribution.histogram.cells.index(*x)) {
                *count += 1;
            }
        }
    }
}

impl Counts {
    /// Of one feature; `None` without rows.
    pub fn of(&self, feature: usize) -> Option<&[u64]> {
        self.0.get(feature).map(Vec::as_slice)
    }

    /// Rows.
    pub fn rows(&self) -> u64 {
        self.0.first().map_or(0, |counts| counts.iter().sum())
    }
}

impl Sum for Counts {
    fn merge(&mut self, other: &Self) {
        if self.0.is_empty() {
            self.0.clone_from(&other.0);
            return;
        }
        for (own, others) in self.0.iter_mut().zip(&other.0) {
            own.iter_mut().zip(others).for_each(|(a, b)| *a += b);
        }
    }
}

/// How far a feature's window is from the reference.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Indicators {
    /// Population stability index over the reference's deciles.
    pub psi: f64,
    /// Kolmogorov-Smirnov distance, to 1/200.
    pub ks: f64,
}

/// Of every feature; `None` without rows, or without a reference.
pub fn indicators(reference: &[Distribution], now: &Counts) -> Option<[Indicators; COUNT]> {
    if reference.len() != COUNT || now.0.len() != COUNT {
        return None;
    }
    let mut all = [Indicators::default(); COUNT];
    for ((one, distribution), counts) in all.iter_mut().zip(reference).zip(&now.0) {
        let current = Histogram { cells: distribution.histogram.cells.clone(), counts: counts.clone() };
        let (before, after) = distribution.histogram.coarse(&current, BINS);
        *one = Indicators { psi: psi(&before, &after, CONFIDENCE)?.value, ks: distribution.histogram.ks(&current)? };
    }
    Some(all)
}

/// A row of a reference: when, and by which machine.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// µs since 1970.
    pub ts_us: i64,
    /// Number of the machine.
    pub machine: usize,
    /// The row.
    pub features: Features,
}

/// Measures a reference. Lines are taken from windows of this length of groups of `fleet` machines.
///
/// # Errors
/// Too few rows.
pub fn measure(rows: &[Observed], window: Duration, fleet: usize) -> Result<Vec<Distribution>, String> {
    let mut distributions = Vec::new();
    for feature in 0..COUNT {
        let mut numbers = Numbers::new(EXACT);
        rows.iter().for_each(|r| numbers.add(r.features.0[feature]));
        let histogram = Histogram::of(&numbers, Binning::Deciles, CELLS).ok_or("a reference needs rows")?;
        distributions.push(Distribution { histogram, psi_line: 0.0 });
    }
    let window_us = i64::try_from(window.as_micros()).unwrap_or(i64::MAX).max(1);
    let mut windows: BTreeMap<(usize, i64), (u64, Counts)> = BTreeMap::new();
    for row in rows {
        let key = (row.machine / fleet.max(1), row.ts_us.div_euclid(window_us));
        let (count, counts) = windows.entry(key).or_default();
        *count += 1;
        counts.add(&distributions, &row.features);
    }
    let full: Vec<&Counts> = windows.values().filter(|(rows, _)| *rows >= MIN_ROWS).map(|(_, c)| c).collect();
    if full.len() < stats::calibrate::MIN_BLOCKS {
        return Err(format!("{} windows of {MIN_ROWS} rows are too few to calibrate", full.len()));
    }
    let mut lines = [0.0f64; COUNT];
    for counts in full {
        if let Some(all) = indicators(&distributions, counts) {
            lines.iter_mut().zip(all).for_each(|(line, i)| *line = line.max(i.psi));
        }
    }
    distributions.iter_mut().zip(lines).for_each(|(d, line)| d.psi_line = (MARGIN * line).max(LOWEST_PSI_LINE));
    Ok(distributions)
}

/// Measures the features together, with a line as [`measure`] does; `None` where nothing can be fitted.
pub fn measure_together(rows: &[Observed], window: Duration, fleet: usize) -> Option<Together> {
    let step = rows.len().div_ceil(PCA_ROWS).max(1);
    let sample: Vec<Vec<f64>> = rows.iter().step_by(step).map(|r| r.features.0.to_vec()).collect();
    let mut together = Together { pca: Pca::fit(&sample, EXPLAINED)?, line: 0.0 };
    let window_us = i64::try_from(window.as_micros()).unwrap_or(i64::MAX).max(1);
    let mut windows: BTreeMap<(usize, i64), Moments> = BTreeMap::new();
    for row in rows {
        if let Some(error) = together.pca.bounded_error(&row.features.0) {
            let key = (row.machine / fleet.max(1), row.ts_us.div_euclid(window_us));
            windows.entry(key).or_default().add(error);
        }
    }
    let shifts = windows.values().filter(|m| m.count >= MIN_ROWS).filter_map(|m| together.shift(m));
    let largest = shifts.fold(0.0f64, |most, s| most.max(s.abs()));
    together.line = (MARGIN * largest).max(LOWEST_ERROR_LINE);
    Some(together)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Ten machines that each go through their day in their own way.
    pub(crate) fn calm() -> Vec<Observed> {
        let row = |machine: usize, i: i64| {
            let phase = i as f64 * 0.7 + machine as f64;
            let load = 0.5 + 0.3 * phase.sin() + 0.01 * (i * 37 % 11) as f64;
            let features = Features([
                50.0 + 8.0 * load,
                phase.cos(),
                load,
                1.2 + 0.1 * load,
                9e3 * load,
                f64::from(u8::from(i % 97 == 0)),
            ]);
            Observed { ts_us: i * 10_000_000, machine, features }
        };
        (0..10).flat_map(|m| (0..1_000).map(move |i| row(m, i))).collect()
    }

    #[test]
    fn calm_windows_stay_below_the_line_and_a_hot_sensor_does_not() {
        let rows = calm();
        let reference = measure(&rows, Duration::from_secs(600), 5).unwrap();
        assert!(reference.iter().all(|d| d.check().is_ok()));
        let window = |shift: f64| {
            let mut counts = Counts::default();
            rows.iter().filter(|r| r.machine < 5 && r.ts_us < 600_000_000).for_each(|r| {
                let mut features = r.features;
                features.0[0] += shift;
                counts.add(&reference, &features);
            });
            indicators(&reference, &counts).unwrap()
        };
        assert!(window(0.0).iter().zip(&reference).all(|(i, d)| i.psi <= d.psi_line));
        let hot = window(6.0);
        assert!(hot[0].psi > reference[0].psi_line && hot[0].ks > 0.5, "{hot:?}");
        assert!(hot[1].psi <= reference[1].psi_line, "the others have not moved");
        assert_eq!(indicators(&reference, &Counts::default()), None);
        assert!(measure(&rows[..100], Duration::from_secs(600), 5).unwrap_err().contains("too few"));
    }

    #[test]
    fn features_that_part_company_show_where_none_of_them_moves() {
        let rows = calm();
        let together = measure_together(&rows, Duration::from_secs(600), 5).unwrap();
        together.check().unwrap();
        let shift = |change: &dyn Fn(usize, &Observed) -> [f64; COUNT]| {
            let mut errors = Moments::default();
            let window = rows.iter().filter(|r| r.machine < 5).enumerate();
            window.filter_map(|(i, r)| together.pca.bounded_error(&change(i, r))).for_each(|e| errors.add(e));
            together.shift(&errors).unwrap()
        };
        assert!(shift(&|_, r| r.features.0).abs() < together.line);
        // Each temperature is another row's: its distribution is as before, and no longer that of the load.
        let exchanged = |i: usize, r: &Observed| {
            let mut x = r.features.0;
            x[0] = rows[i * 7 % 5_000].features.0[0];
            x
        };
        assert!(shift(&exchanged) > together.line, "{} {}", shift(&exchanged), together.line);
    }

    #[test]
    fn windows_add_up() {
        let rows = calm();
        let reference = measure(&rows, Duration::from_secs(600), 5).unwrap();
        let count = |rows: &[Observed]| {
            let mut counts = Counts::default();
            rows.iter().for_each(|r| counts.add(&reference, &r.features));
            counts
        };
        let mut parts = Counts::default();
        parts.merge(&count(&rows[..300]));
        parts.merge(&Counts::default());
        parts.merge(&count(&rows[300..900]));
        assert_eq!(parts.0, count(&rows[..900]).0);
    }
}

//! KSWIN: the last values of a window against a draw from those before.
//!
//! Raab, Heusinger and Schleif, *Reactive Soft Prototype Computing for Concept Drift Streams*,
//! Neurocomputing 416, 2020. Of a window of n values the last r are compared, by the exact
//! two-sample Kolmogorov-Smirnov test, with r drawn from the first n − r. Decisions and draws
//! are river's for the same seed.

use std::collections::VecDeque;

use crate::{kolmogorov::equal_sizes_sf, python_random::PythonRandom};

/// A smaller distance is never a change, whatever its p-value: river's rule.
const LEAST_DISTANCE: f64 = 0.1;

/// Settings; the defaults are river's, but for the seed, which river draws by chance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// p-value from which it is a change.
    pub alpha: f64,
    /// Values in the window.
    pub window: usize,
    /// Values on each side of the comparison.
    pub stat: usize,
    /// Of the draws.
    pub seed: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { alpha: 0.005, window: 100, stat: 30, seed: 42 }
    }
}

impl Settings {
    /// Can these be used?
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.alpha) {
            return Err(format!("alpha must be between 0 and 1, not {}", self.alpha));
        }
        if self.stat == 0 || self.window < 2 * self.stat || self.window > 10_000_000 {
            return Err(format!("window_size {} must be at least twice stat_size {}", self.window, self.stat));
        }
        Ok(())
    }
}

/// The detector.
#[derive(Clone, Debug)]
pub struct Kswin {
    settings: Settings,
    /// From this many values of difference on it is a change.
    critical: usize,
    random: PythonRandom,
    window: VecDeque<f64>,
    drifted: bool,
    drawn: Vec<u32>,
    before: Vec<f64>,
    recent: Vec<f64>,
}

impl Kswin {
    /// An empty window.
    pub fn new(settings: Settings) -> Self {
        let r = settings.stat;
        let changes =
            |h: &usize| equal_sizes_sf(*h as u64, r as u64) <= settings.alpha && *h as f64 / r as f64 > LEAST_DISTANCE;
        Self {
            settings,
            critical: (1..=r).find(changes).unwrap_or(usize::MAX),
            random: PythonRandom::new(settings.seed),
            window: VecDeque::with_capacity(settings.window),
            drifted: false,
            drawn: Vec::with_capacity(r),
            before: Vec::with_capacity(r),
            recent: Vec::with_capacity(r),
        }
    }

    /// Takes a value; true if the window shows a change with it. After a change the window
    /// starts anew with the next value.
    pub fn update(&mut self, x: f64) -> bool {
        let Settings { window, stat, seed, .. } = self.settings;
        if self.drifted {
            self.drifted = false;
            self.window.clear();
            self.random = PythonRandom::new(seed);
        }
        if self.window.len() == window {
            self.window.pop_front();
        }
        self.window.push_back(x);
        if self.window.len() < window {
            return false;
        }
        self.random.sample((window - stat) as u32, stat as u32, &mut self.drawn);
        self.before.clear();
        self.before.extend(self.drawn.iter().map(|i| self.window[*i as usize]));
        self.recent.clear();
        self.recent.extend(self.window.range(window - stat..));
        self.before.sort_unstable_by(f64::total_cmp);
        self.recent.sort_unstable_by(f64::total_cmp);
        self.drifted = difference(&self.before, &self.recent) >= self.critical;
        self.drifted
    }
}

/// D·r of two sorted samples of size r.
fn difference(a: &[f64], b: &[f64]) -> usize {
    let (mut i, mut j, mut largest) = (0, 0, 0);
    while i < a.len() && j < b.len() {
        let x = a[i].min(b[j]);
        while i < a.len() && a[i] <= x {
            i += 1;
        }
        while j < b.len() && b[j] <= x {
            j += 1;
        }
        largest = largest.max(i.abs_diff(j));
    }
    largest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detections(settings: Settings, values: impl Iterator<Item = f64>) -> Vec<usize> {
        let mut kswin = Kswin::new(settings);
        values.enumerate().filter(|(_, x)| kswin.update(*x)).map(|(i, _)| i).collect()
    }

    #[test]
    fn a_step_is_seen_and_the_same_seed_draws_the_same() {
        let step = || (0..1_000).map(|i| f64::from(i * 37 % 11) + if i < 500 { 0.0 } else { 20.0 });
        let found = detections(Settings::default(), step());
        assert_eq!(found.len(), 1);
        assert!((505..530).contains(&found[0]), "{found:?}");
        assert_eq!(found, detections(Settings::default(), step()));
        assert_eq!(detections(Settings::default(), (0..3_000).map(|i| f64::from(i * 37 % 11))), Vec::<usize>::new());
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        assert!(Settings { window: 50, ..Settings::default() }.check().unwrap_err().contains("twice"));
        assert!(Settings { alpha: 2.0, ..Settings::default() }.check().is_err());
        assert!(Settings { stat: 0, ..Settings::default() }.check().is_err());
        Settings::default().check().unwrap();
    }
}

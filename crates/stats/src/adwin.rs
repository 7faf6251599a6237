//! ADWIN: a window that shortens itself when its older part no longer fits its newer part.
//!
//! Bifet and Gavaldà, *Learning from Time-Changing Data with Adaptive Windowing*, SDM 2007.
//! The window is kept as an exponential histogram: rows of buckets, those of row i holding 2^i
//! values each. Two parts with n₀ and n₁ values differ if their means are further apart than
//! `√(2/m · σ² · δ') + 2/(3m) · δ'` with `1/m = 1/(n₀−w+1) + 1/(n₁−w+1)`, `δ' = ln(2 ln n/δ)` and w the
//! shortest part that is looked at. Decisions are river's, value for value.

use std::collections::VecDeque;

/// Settings; the defaults are river's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Chance of a false alarm at one check.
    pub delta: f64,
    /// Checks happen every so many values.
    pub clock: u64,
    /// Buckets in a row before two are merged.
    pub max_buckets: usize,
    /// Shortest part that is compared.
    pub min_window: u64,
    /// No check before the window is longer.
    pub grace: u64,
    /// Cuts behind the last bucket of a row are looked at too. Older rivers did not (river's issue 574).
    pub last_bucket: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { delta: 0.002, clock: 32, max_buckets: 5, min_window: 5, grace: 10, last_bucket: true }
    }
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    total: f64,
    /// Sum of squared distances from the bucket's mean.
    squares: f64,
}

/// The detector.
#[derive(Clone, Debug)]
pub struct Adwin {
    settings: Settings,
    /// Row i holds buckets of 2^i values, oldest first.
    rows: Vec<VecDeque<Bucket>>,
    width: f64,
    total: f64,
    squares: f64,
    seen: u64,
    drifted: bool,
}

impl Adwin {
    /// An empty window.
    pub fn new(settings: Settings) -> Self {
        Self { settings, rows: vec![VecDeque::new()], width: 0.0, total: 0.0, squares: 0.0, seen: 0, drifted: false }
    }

    /// Takes a value; true if the window shows a change with it. After a change the window
    /// starts anew with the next value.
    pub fn update(&mut self, x: f64) -> bool {
        if self.drifted {
            *self = Self::new(self.settings);
        }
        self.insert(x);
        self.seen += 1;
        let due = self.seen.is_multiple_of(self.settings.clock.max(1)) && self.width > self.settings.grace as f64;
        if due {
            while self.cut_once() {
                self.drifted = true;
            }
        }
        self.drifted
    }

    /// Values in the window.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// Their mean; 0 in an empty window.
    pub fn mean(&self) -> f64 {
        if self.width > 0.0 { self.total / self.width } else { 0.0 }
    }

    fn insert(&mut self, x: f64) {
        self.rows[0].push_back(Bucket { total: x, squares: 0.0 });
        self.width += 1.0;
        if self.width > 1.0 {
            let before = self.width - 1.0;
            let distance = x - self.total / before;
            self.squares += before * distance * distance / self.width;
        }
        self.total += x;
        self.merge_full_rows();
    }

    fn merge_full_rows(&mut self) {
        let mut row = 0;
        // Both are powers of two, so that multiplying is as exact as dividing.
        let (mut size, mut share) = (1.0, 1.0);
        while self.rows[row].len() == self.settings.max_buckets.max(1) + 1 {
            let (Some(a), Some(b)) = (self.rows[row].pop_front(), self.rows[row].pop_front()) else { return };
            let gap = a.total * share - b.total * share;
            let merged = Bucket { total: a.total + b.total, squares: a.squares + b.squares + size * 0.5 * gap * gap };
            if row + 1 == self.rows.len() {
                self.rows.push(VecDeque::new());
            }
            self.rows[row + 1].push_back(merged);
            row += 1;
            size *= 2.0;
            share *= 0.5;
        }
    }

    /// Looks for a cut from the oldest value on; drops the oldest bucket at the first one found.
    fn cut_once(&mut self) -> bool {
        let Settings { delta, min_window, last_bucket, .. } = self.settings;
        let shortest = min_window as f64;
        let confidence = (2.0 * self.width.ln() / delta).ln();
        let variance = self.squares / self.width;
        let (mut older, mut older_total) = (0.0, 0.0);
        let (mut newer, mut newer_total) = (self.width, self.total);
        for (row, buckets) in self.rows.iter().enumerate().rev() {
            let size = size_of_row(row);
            let looked_at = if last_bucket { buckets.len() } else { buckets.len().saturating_sub(1) };
            for (k, bucket) in buckets.iter().take(looked_at).enumerate() {
                older += size;
                newer -= size;
                older_total += bucket.total;
                newer_total -= bucket.total;
                if row == 0 && k + 1 == buckets.len() {
                    return false;
                }
                if newer < shortest || older < shortest {
                    continue;
                }
                let m = 1.0 / (older - shortest + 1.0) + 1.0 / (newer - shortest + 1.0);
                let bound = (2.0 * m * variance * confidence).sqrt() + 2.0 / 3.0 * confidence * m;
                if (older_total / older - newer_total / newer).abs() > bound {
                    self.drop_oldest();
                    return true;
                }
            }
        }
        false
    }

    fn drop_oldest(&mut self) {
        let Some(row) = self.rows.len().checked_sub(1) else { return };
        let Some(bucket) = self.rows[row].pop_front() else { return };
        let size = size_of_row(row);
        self.width -= size;
        self.total -= bucket.total;
        let gap = bucket.total / size - self.total / self.width;
        self.squares -= bucket.squares + size * self.width * gap * gap / (size + self.width);
        if self.rows[row].is_empty() && row > 0 {
            self.rows.pop();
        }
    }
}

fn size_of_row(row: usize) -> f64 {
    (1u64 << row.min(62)) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detections(settings: Settings, values: impl Iterator<Item = f64>) -> Vec<usize> {
        let mut adwin = Adwin::new(settings);
        values.enumerate().filter(|(_, x)| adwin.update(*x)).map(|(i, _)| i).collect()
    }

    #[test]
    fn a_step_is_seen_at_the_next_check_and_steadiness_never() {
        let step = (0..2_000).map(|i| if i < 1_000 { f64::from(i % 2) } else { 5.0 + f64::from(i % 3) });
        assert_eq!(detections(Settings::default(), step), [1_023]);
        assert_eq!(detections(Settings::default(), (0..20_000).map(|i| f64::from(i % 7))), Vec::<usize>::new());
        assert_eq!(detections(Settings::default(), std::iter::repeat_n(1e15, 5_000)), Vec::<usize>::new());
    }

    #[test]
    fn the_window_keeps_its_sums() {
        let mut adwin = Adwin::new(Settings { clock: u64::MAX, ..Settings::default() });
        let values: Vec<f64> = (0..3_000).map(|i| f64::from(i * i % 101)).collect();
        values.iter().for_each(|x| {
            adwin.update(*x);
        });
        let mean = values.iter().sum::<f64>() / 3_000.0;
        let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
        assert_eq!(adwin.width(), 3_000.0);
        assert!((adwin.mean() - mean).abs() < 1e-9 && (adwin.squares / squares - 1.0).abs() < 1e-9);
        let held: f64 = adwin.rows.iter().enumerate().map(|(i, r)| r.len() as f64 * size_of_row(i)).sum();
        assert_eq!(held, 3_000.0);
        assert!(adwin.rows.iter().all(|r| r.len() <= 5));
    }
}

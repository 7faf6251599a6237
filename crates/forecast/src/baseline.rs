//! What one would do without all this: a straight line through the last minutes, as
//! Prometheus' `predict_linear` draws it.

use std::collections::VecDeque;

/// Least squares over a window of the raw temperature.
#[derive(Clone, Debug)]
pub struct PredictLinear {
    window: f64,
    points: VecDeque<(f64, f64)>,
}

impl PredictLinear {
    /// Looks back `window` seconds.
    pub fn new(window: f64) -> Self {
        Self { window, points: VecDeque::new() }
    }

    /// Takes a reading and returns the value that the line has `ahead` seconds later, °C;
    /// `None` with fewer than two readings in the window.
    pub fn observe(&mut self, time: f64, temperature: f64, ahead: f64) -> Option<f64> {
        self.points.push_back((time, temperature));
        while self.points.front().is_some_and(|p| p.0 < time - self.window) {
            self.points.pop_front();
        }
        let n = self.points.len() as f64;
        let (mut sum_t, mut sum_v, mut sum_tt, mut sum_tv) = (0.0, 0.0, 0.0, 0.0);
        for (t, v) in self.points.iter().map(|(t, v)| (t - time, v)) {
            sum_t += t;
            sum_v += v;
            sum_tt += t * t;
            sum_tv += t * v;
        }
        let spread = n * sum_tt - sum_t * sum_t;
        if spread <= 0.0 {
            return None;
        }
        let slope = (n * sum_tv - sum_t * sum_v) / spread;
        Some((sum_v - slope * sum_t) / n + slope * ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_on_and_old_points_are_forgotten() {
        let mut line = PredictLinear::new(600.0);
        assert_eq!(line.observe(-1e6, 1e3, 60.0), None);
        let last = (0..100).filter_map(|i| line.observe(f64::from(i) * 10.0, 50.0 + f64::from(i), 1_200.0)).last();
        assert!((last.unwrap() - (50.0 + 99.0 + 120.0)).abs() < 1e-6, "{last:?}");
    }
}

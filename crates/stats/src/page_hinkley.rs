//! Page-Hinkley: a cumulated deviation from the running mean, both upwards and downwards.
//!
//! E. S. Page, *Continuous Inspection Schemes*, Biometrika 41, 1954; with the fading factor of
//! Gama, Sebastião and Rodrigues 2013. `Uₜ = α Uₜ₋₁ + (xₜ − x̄ₜ − δ)` is compared with its lowest
//! value so far, `Lₜ = α Lₜ₋₁ + (xₜ − x̄ₜ + δ)` with its highest; a gap above λ is a change.
//! λ and δ are in the unit of the values: standardise what has another scale. Decisions are
//! river's, value for value.

/// Settings; the defaults are river's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Deviations smaller than this do not count, in the values' unit.
    pub delta: f64,
    /// Gap that is a change, in the values' unit.
    pub threshold: f64,
    /// Fading of the sums, up to 1.
    pub alpha: f64,
    /// No decision before so many values.
    pub min_instances: u64,
    /// Rises are a change.
    pub up: bool,
    /// Falls are a change.
    pub down: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { delta: 0.005, threshold: 50.0, alpha: 1.0 - 0.0001, min_instances: 30, up: true, down: true }
    }
}

/// The detector.
#[derive(Clone, Debug)]
pub struct PageHinkley {
    settings: Settings,
    count: u64,
    mean: f64,
    rise: f64,
    lowest: f64,
    fall: f64,
    highest: f64,
    drifted: bool,
}

impl PageHinkley {
    /// Nothing seen yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            count: 0,
            mean: 0.0,
            rise: 0.0,
            lowest: f64::INFINITY,
            fall: 0.0,
            highest: f64::NEG_INFINITY,
            drifted: false,
        }
    }

    /// Takes a value; true if it completes a change. After a change everything starts anew
    /// with the next value.
    pub fn update(&mut self, x: f64) -> bool {
        if self.drifted {
            *self = Self::new(self.settings);
        }
        let Settings { delta, threshold, alpha, min_instances, up, down } = self.settings;
        self.count += 1;
        self.mean += (x - self.mean) / self.count as f64;
        let deviation = x - self.mean;
        self.rise = alpha * self.rise + deviation - delta;
        self.fall = alpha * self.fall + deviation + delta;
        self.lowest = self.lowest.min(self.rise);
        self.highest = self.highest.max(self.fall);
        if self.count >= min_instances {
            self.drifted =
                (up && self.rise - self.lowest > threshold) || (down && self.highest - self.fall > threshold);
        }
        self.drifted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detections(settings: Settings, values: impl Iterator<Item = f64>) -> Vec<usize> {
        let mut detector = PageHinkley::new(settings);
        values.enumerate().filter(|(_, x)| detector.update(*x)).map(|(i, _)| i).collect()
    }

    #[test]
    fn both_directions_are_seen_and_each_can_be_left_out() {
        let step = |height: f64| (0..1_000).map(move |i| f64::from(i % 2) + if i < 500 { 0.0 } else { height });
        let up = detections(Settings::default(), step(5.0));
        let down = detections(Settings::default(), step(-5.0));
        assert!((505..525).contains(&up[0]) && (505..525).contains(&down[0]), "{up:?} {down:?}");
        assert_eq!(detections(Settings { up: false, ..Settings::default() }, step(5.0)), Vec::<usize>::new());
        assert_eq!(detections(Settings { down: false, ..Settings::default() }, step(-5.0)), Vec::<usize>::new());
        assert_eq!(detections(Settings::default(), step(0.0)), Vec::<usize>::new());
    }

    #[test]
    fn nothing_is_said_too_early() {
        let spike = (0..29).map(|i| if i == 20 { 1e6 } else { 0.0 });
        assert_eq!(detections(Settings::default(), spike), Vec::<usize>::new());
    }
}

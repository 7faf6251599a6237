//! What the model looks at, made from readings.

use lake::Reading;
use serde::{Deserialize, Serialize};

/// Number of features.
pub const COUNT: usize = 6;

/// Their names, in order; also the values of the label `feature`.
pub const NAMES: [&str; COUNT] =
    ["temperature", "temperature_gradient", "load", "vibration", "power_watts", "error_active"];

/// So many of them, the first ones, are measured; the rest are flags.
pub const MEASURED: usize = 5;

/// One row: °C, °C/min, 0 to 1, mm/s RMS, W, 0 or 1 (an error code is active).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Features(pub [f64; COUNT]);

impl Features {
    /// Of a reading with its gradient.
    pub fn of(reading: &Reading, gradient: f64) -> Self {
        let error = f64::from(u8::from(reading.error_code != 0));
        Self([reading.temperature, gradient, reading.load, reading.vibration, reading.power_watts, error])
    }
}

/// Time constant of the smoothing that the gradient is taken against, s.
const SMOOTHING: f64 = 30.0;
/// After a longer silence the gradient starts again, s.
pub const MAX_SILENCE: f64 = 60.0;

/// The gradient of a noisy, irregularly sampled series, °C/min.
///
/// An exponential average with time constant θ lags a ramp of slope s by s·θ, so
/// (T − average)/θ is the slope, smoothed over the same θ.
#[derive(Clone, Copy, Debug, Default)]
pub struct Gradient(Option<(i64, f64)>);

impl Gradient {
    /// Takes the next value; an older one than the last leaves the gradient as it is.
    pub fn update(&mut self, ts_us: i64, value: f64) -> f64 {
        let Some((last_us, mean)) = self.0 else {
            self.0 = Some((ts_us, value));
            return 0.0;
        };
        let seconds = (ts_us - last_us) as f64 / 1e6;
        if seconds > MAX_SILENCE {
            self.0 = Some((ts_us, value));
            return 0.0;
        }
        if seconds > 0.0 {
            let mean = value + (mean - value) * (-seconds / SMOOTHING).exp();
            self.0 = Some((ts_us, mean));
            return (value - mean) / SMOOTHING * 60.0;
        }
        (value - mean) / SMOOTHING * 60.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_ramp_has_its_slope_at_any_sampling() {
        for step in [1i64, 5, 10] {
            let mut gradient = Gradient::default();
            let last = (0..400 / step).map(|i| {
                let t = i * step;
                gradient.update(t * 1_000_000, 20.0 + 3.0 * t as f64 / 60.0)
            });
            let slope = last.last().unwrap();
            // Sampled coarsely, the average lags half a step less.
            assert!((slope - 3.0).abs() < 3.0 * step as f64 / 2.0 / SMOOTHING + 1e-3, "{step}: {slope}");
        }
    }

    #[test]
    fn constants_have_none_and_silence_starts_again() {
        let mut gradient = Gradient::default();
        assert_eq!(gradient.update(0, 50.0), 0.0);
        assert_eq!(gradient.update(1_000_000, 50.0), 0.0);
        assert!(gradient.update(2_000_000, 51.0) > 1.0);
        assert_eq!(gradient.update(200_000_000, 90.0), 0.0);
        assert!(gradient.update(199_000_000, 95.0).is_finite(), "a late reading does no harm");
    }
}

//! Anomalies of the sensors that have no limit of their own: vibration and power, each
//! compared with what the machine usually shows at the same load.
//!
//! A running regression on the load (means, variance and covariance with exponential
//! forgetting) gives the expected value; the score is the distance from it in usual
//! deviations, smoothed over a minute so that one odd reading is none.

/// What is usual is learnt with this time constant, s of work.
const MEMORY: f64 = 7_200.0;
/// The score is smoothed over this time, s.
const SMOOTHING: f64 = 60.0;
/// The deviation counts as this share of the mean at least.
const LEAST_SHARE: f32 = 0.01;
/// Odd from here: learnt eight times slower.
const ODD: f32 = 4.0;
/// A lower load is no work, and says nothing of what work looks like.
const IDLE_BELOW: f64 = 0.02;
/// The load changes faster than its consequences below this age, s of work.
const WARM_UP: f32 = 900.0;

/// One sensor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Channel {
    mean: f32,
    covariance: f32,
    deviation: f32,
    score: f32,
}

/// The sensors of one machine. 48 bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Monitor {
    load: f32,
    variance: f32,
    seen: f32,
    vibration: Channel,
    power: Channel,
}

impl Channel {
    fn observe(&mut self, value: f32, off_load: f32, variance: f32, a: f32, seconds: f32, warm: bool) {
        let slope = if variance > 1e-4 { self.covariance / variance } else { 0.0 };
        let off_mean = value - self.mean;
        let residual = off_mean - slope * off_load;
        let least = LEAST_SHARE * self.mean.abs() + 1e-6;
        // Mean absolute deviation of a normal distribution: 0.8 of the standard deviation.
        let odd = residual / (1.25 * self.deviation.max(least));
        let odd = odd.clamp(-50.0, 50.0);
        self.score += (odd - self.score) * (1.0 - (-seconds / SMOOTHING as f32).exp());
        if !warm {
            self.score = 0.0;
        }
        let a = if warm && odd.abs() > ODD { a / 8.0 } else { a };
        self.mean += a * off_mean;
        self.covariance += a * ((1.0 - a) * off_mean * off_load - self.covariance);
        self.deviation += a * (residual.abs() - self.deviation);
    }
}

impl Monitor {
    /// Takes a reading: load 0 to 1, vibration mm/s, power W, `seconds` after the one before.
    /// What is no number changes nothing.
    pub fn observe(&mut self, load: f64, vibration: f64, power: f64, seconds: f64) {
        let sound = [load, vibration, power, seconds].iter().all(|v| v.is_finite() && v.abs() < 1e12);
        if !sound || load < IDLE_BELOW || seconds <= 0.0 {
            return;
        }
        let short = seconds.min(60.0) as f32;
        let first = self.seen == 0.0;
        self.seen = (self.seen + short).min(1e7);
        // At first everything counts alike, later the recent more.
        let a = (short / self.seen).max((1.0 - (-f64::from(short) / MEMORY).exp()) as f32);
        let off_load = if first { 0.0 } else { load as f32 - self.load };
        let warm = self.seen >= WARM_UP;
        self.vibration.observe(vibration as f32, off_load, self.variance, a, short, warm);
        self.power.observe(power as f32, off_load, self.variance, a, short, warm);
        self.load += if first { load as f32 } else { a * off_load };
        self.variance += a * ((1.0 - a) * off_load * off_load - self.variance);
    }

    /// How odd the vibration is, usual deviations; positive is more than usual.
    pub fn vibration(&self) -> f32 {
        self.vibration.score
    }

    /// How odd the power is.
    pub fn power(&self) -> f32 {
        self.power.score
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(i: u32) -> f64 {
        0.6 + 0.2 * (f64::from(i) / 70.0).sin()
    }

    fn wobble(i: u32) -> f64 {
        f64::from(i.wrapping_mul(2_654_435_761) >> 16) / 65_536.0 - 0.5
    }

    fn run(monitor: &mut Monitor, from: u32, to: u32, extra: f64) {
        for i in from..to {
            let vibration = 1.0 + load(i) + 0.1 * wobble(i) + extra;
            monitor.observe(load(i), vibration, 500.0 + 9_000.0 * load(i), 10.0);
        }
    }

    #[test]
    fn what_the_load_explains_is_usual_and_what_it_does_not_is_odd() {
        let mut monitor = Monitor::default();
        run(&mut monitor, 0, 1_500, 0.0);
        assert!(monitor.vibration().abs() < 2.0 && monitor.power().abs() < 2.0, "{monitor:?}");
        run(&mut monitor, 1_500, 1_560, 0.5);
        assert!(monitor.vibration() > 6.0 && monitor.power().abs() < 2.0, "{monitor:?}");
    }

    #[test]
    fn what_is_no_number_changes_nothing() {
        let mut monitor = Monitor::default();
        run(&mut monitor, 0, 500, 0.0);
        let before = format!("{monitor:?}");
        monitor.observe(f64::NAN, 1.0, 1.0, 1.0);
        monitor.observe(0.5, f64::INFINITY, 1.0, 1.0);
        assert_eq!(format!("{monitor:?}"), before);
    }
}

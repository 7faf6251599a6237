//! The Kalman filter: level and slope of what the load does not explain, and the gains of
//! what it does.
//!
//! State `[level °C, slope K/s, gain₁ … gain₄ K]`, measurement
//! `T = level + Σ gainᵢ·xᵢ + noise`, where `x` are the lagged loads. Level and slope are the
//! two-state filter (local linear trend; Durbin and Koopman, *Time Series Analysis by State
//! Space Methods*, 3.2) on the residual; the gains ride along as constants that hardly
//! move, so that an uncertain gain makes an uncertain forecast instead of a wrong one. The
//! slope forgets with [`SLOPE_MEMORY`] (damped trend: Gardner and McKenzie 1985).

use crate::lagged::{GAIN_SD, GAINS, TERMS};

/// Numbers in the state.
pub const STATES: usize = 2 + TERMS;
const PACKED: usize = STATES * (STATES + 1) / 2;

/// A vector of the state's shape.
pub type Vector = [f64; STATES];

/// Without news a slope is a third of itself after this time, s.
pub const SLOPE_MEMORY: f64 = 7_200.0;
/// Spectral density of the slope's change, K²/s³: ±0.4 K/min over 20 minutes.
pub const SLOPE_NOISE: f64 = 0.008 / 216_000.0;
/// Spectral density of the level's own wander, K²/s: ±0.05 K a minute.
pub const LEVEL_NOISE: f64 = 0.002_5 / 60.0;
/// Spectral density of a gain's wander, K²/s: ±0.5 K an hour.
const GAIN_NOISE: f64 = 0.25 / 3_600.0;
/// Doubt about the first level, K, …
const LEVEL_SD: f64 = 20.0;
/// … and about the first slope, K/s.
const SLOPE_SD: f64 = 0.3 / 60.0;

/// Where `(i, j)`, `i ≤ j`, is in the packed upper triangle.
const fn at(i: usize, j: usize) -> usize {
    let (i, j) = if i <= j { (i, j) } else { (j, i) };
    i * (2 * STATES - i - 1) / 2 + j
}

/// Mean and covariance of the state.
#[derive(Clone, Debug)]
pub struct TrendFilter {
    mean: Vector,
    covariance: [f64; PACKED],
}

/// How a measurement compares with what was expected.
#[derive(Clone, Copy, Debug)]
pub struct Innovation {
    /// Measured minus expected, K.
    pub difference: f64,
    /// Its variance, K².
    pub variance: f64,
    /// Covariance of the state with the measurement.
    gain: Vector,
}

impl TrendFilter {
    /// Nothing known but that `temperature` was read while the lagged loads were `x`.
    pub fn new(temperature: f64, x: &[f64; TERMS]) -> Self {
        let explained: f64 = x.iter().zip(GAINS).map(|(x, g)| x * g).sum();
        let mut mean = [0.0; STATES];
        mean[0] = temperature - explained;
        mean[2..].copy_from_slice(&GAINS);
        let mut filter = Self { mean, covariance: [0.0; PACKED] };
        filter.forget_trend();
        for (i, sd) in GAIN_SD.iter().enumerate() {
            filter.covariance[at(2 + i, 2 + i)] = sd * sd;
        }
        filter
    }

    /// Keeps the gains and forgets where the residual is and where it goes.
    pub fn forget_trend(&mut self) {
        self.mean[1] = 0.0;
        for i in 0..STATES {
            self.covariance[at(0, i)] = 0.0;
            self.covariance[at(1, i)] = 0.0;
        }
        self.covariance[at(0, 0)] = LEVEL_SD * LEVEL_SD;
        self.covariance[at(1, 1)] = SLOPE_SD * SLOPE_SD;
    }

    /// The residual's level, °C.
    pub fn level(&self) -> f64 {
        self.mean[0]
    }

    /// The residual's slope, K/s.
    pub fn slope(&self) -> f64 {
        self.mean[1]
    }

    /// What the load explains at lagged loads `x`, K; also their rate of change into one of the temperature.
    pub fn explained(&self, x: &[f64; TERMS]) -> f64 {
        x.iter().zip(&self.mean[2..]).map(|(x, g)| x * g).sum()
    }

    /// Share of a slope that adds up over `seconds`: the integral of its decay, s.
    pub fn reach(seconds: f64) -> f64 {
        SLOPE_MEMORY * (1.0 - (-seconds / SLOPE_MEMORY).exp())
    }

    /// Time goes on by `seconds`.
    pub fn predict(&mut self, seconds: f64) {
        let (reach, keep) = (Self::reach(seconds), (-seconds / SLOPE_MEMORY).exp());
        self.mean[0] += self.mean[1] * reach;
        self.mean[1] *= keep;
        let p = &mut self.covariance;
        let (p00, p01, p11) = (p[at(0, 0)], p[at(0, 1)], p[at(1, 1)]);
        p[at(0, 0)] = p00 + 2.0 * reach * p01 + reach * reach * p11;
        p[at(0, 1)] = keep * (p01 + reach * p11);
        p[at(1, 1)] = keep * keep * p11;
        for i in 2..STATES {
            p[at(0, i)] += reach * p[at(1, i)];
            p[at(1, i)] *= keep;
            p[at(i, i)] += GAIN_NOISE * seconds;
        }
        p[at(0, 0)] += SLOPE_NOISE * seconds.powi(3) / 3.0 + LEVEL_NOISE * seconds;
        p[at(0, 1)] += SLOPE_NOISE * seconds * seconds / 2.0;
        p[at(1, 1)] += SLOPE_NOISE * seconds;
    }

    /// Compares a temperature, with the variance `noise` of its error, with what is expected.
    pub fn innovation(&self, temperature: f64, x: &[f64; TERMS], noise: f64) -> Innovation {
        let h = measured_by(x);
        let gain: Vector = std::array::from_fn(|i| (0..STATES).map(|j| self.covariance[at(i, j)] * h[j]).sum());
        let spread: f64 = gain.iter().zip(h).map(|(g, h)| g * h).sum();
        let expected = self.mean[0] + self.explained(x);
        Innovation { difference: temperature - expected, variance: spread.max(0.0) + noise, gain }
    }

    /// Takes the measurement in. Returns by how much more the load explains now than
    /// before, K: the level is that much lower for no other reason.
    pub fn update(&mut self, new: &Innovation, x: &[f64; TERMS]) -> f64 {
        let before = self.explained(x);
        for i in 0..STATES {
            self.mean[i] += new.gain[i] * new.difference / new.variance;
            for j in i..STATES {
                self.covariance[at(i, j)] -= new.gain[i] * new.gain[j] / new.variance;
            }
            // Rounding must not make a variance negative.
            let own = &mut self.covariance[at(i, i)];
            *own = own.max(1e-14);
        }
        self.explained(x) - before
    }

    /// The level may have jumped by about this much, K.
    pub fn doubt_level(&mut self, by: f64) {
        self.covariance[at(0, 0)] += by * by;
    }

    /// Mean and variance of the temperature `seconds` from now, if the lagged loads are `x`
    /// then and the slope adds up over `reach` seconds.
    pub fn ahead(&self, seconds: f64, reach: f64, x: &[f64; TERMS]) -> (f64, f64) {
        let mut g = measured_by(x);
        g[1] = reach;
        let mean = self.mean[0] + self.mean[1] * g[1] + self.explained(x);
        let mut variance = SLOPE_NOISE * seconds.powi(3) / 3.0 + LEVEL_NOISE * seconds;
        for i in 0..STATES {
            for j in 0..STATES {
                variance += g[i] * g[j] * self.covariance[at(i, j)];
            }
        }
        (mean, variance.max(0.0))
    }
}

fn measured_by(x: &[f64; TERMS]) -> Vector {
    let mut h = [0.0; STATES];
    h[0] = 1.0;
    h[2..].copy_from_slice(x);
    h
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::lagged::LaggedLoad;

    fn feed(filter: &mut TrendFilter, x: &[f64; TERMS], seconds: f64, temperature: f64) {
        filter.predict(seconds);
        let new = filter.innovation(temperature, x, 0.01);
        filter.update(&new, x);
    }

    #[test]
    fn a_ramp_under_constant_load_is_a_slope() {
        let x = LaggedLoad::steady(0.6).now();
        let mut filter = TrendFilter::new(60.0, &x);
        for i in 1..=120 {
            feed(&mut filter, &x, 10.0, 60.0 + f64::from(i) * 10.0 / 60.0);
        }
        assert!((filter.slope() * 60.0 - 1.0).abs() < 0.05, "{}", filter.slope() * 60.0);
    }

    #[test]
    fn load_steps_are_learnt_and_then_explained() {
        // Gain 40 K, time constant 300 s, which is none of the lags.
        let mut lags = LaggedLoad::steady(0.5);
        let mut filter = TrendFilter::new(45.0, &lags.now());
        let (mut temperature, mut worst) = (45.0, 0.0f64);
        for i in 0..1_440 {
            let load = if (i / 90) % 2 == 0 { 0.5 } else { 0.8 };
            temperature += (25.0 + 40.0 * load - temperature) * (1.0 - (-10.0f64 / 300.0).exp());
            lags.advance(load, 10.0);
            feed(&mut filter, &lags.now(), 10.0, temperature);
            if i > 720 {
                worst = worst.max((filter.slope() * 60.0).abs());
            }
        }
        assert!(worst < 0.12, "a step of 12 K leaves a slope of {worst} K/min");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn covariances_stay_sound(loads in proptest::collection::vec(0.0..1.0f64, 50..300), noise in 0.0..2.0f64) {
            let mut lags = LaggedLoad::steady(loads[0]);
            let mut filter = TrendFilter::new(50.0, &lags.now());
            for (i, load) in loads.iter().enumerate() {
                lags.advance(*load, 10.0);
                let wobble = noise * ((i * 7919) % 13) as f64 / 13.0;
                feed(&mut filter, &lags.now(), 10.0, 50.0 + wobble);
                let (mean, variance) = filter.ahead(1_200.0, 1_000.0, &lags.now());
                prop_assert!(mean.is_finite() && variance.is_finite() && variance >= 0.0);
                for a in 0..STATES {
                    prop_assert!(filter.covariance[at(a, a)] > 0.0);
                    for b in 0..a {
                        let limit = filter.covariance[at(a, a)] * filter.covariance[at(b, b)];
                        prop_assert!(filter.covariance[at(a, b)].powi(2) <= limit * 1.001 + 1e-12);
                    }
                }
            }
        }
    }
}

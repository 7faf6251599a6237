//! The part of a temperature that the load explains.
//!
//! A body of one temperature follows its heat input with a first-order lag. Neither the
//! lag nor the gain of a machine is known beforehand; but a first-order response of any time
//! constant in between is close to a sum of a few fixed ones, and such a sum is *linear* in what
//! is to be learnt. The load is therefore put through three lags, and its square through
//! one more (copper losses grow with the square); the gains of the four are learnt.

/// Time constants of the lags, s.
pub const LAGS: [f64; 3] = [120.0, 420.0, 1_500.0];
/// Time constant of the lag of the load's square, s.
pub const SQUARE_LAG: f64 = 240.0;
/// How many terms there are.
pub const TERMS: usize = LAGS.len() + 1;
/// What is believed of the gains before anything is known, K at full load: mean …
pub const GAINS: [f64; TERMS] = [20.0, 15.0, 5.0, 15.0];
/// … and standard deviation.
pub const GAIN_SD: [f64; TERMS] = [20.0, 20.0, 12.0, 15.0];

fn lag(term: usize) -> f64 {
    LAGS.get(term).copied().unwrap_or(SQUARE_LAG)
}

fn inputs(load: f64) -> [f64; TERMS] {
    // The square counts as what it differs from the load: the two are less alike then.
    [load, load, load, load * load - load]
}

/// The load of one machine behind each lag.
#[derive(Clone, Copy, Debug, Default)]
pub struct LaggedLoad([f32; TERMS]);

impl LaggedLoad {
    /// As if `load` had been there for ever.
    pub fn steady(load: f64) -> Self {
        Self(inputs(load).map(|x| x as f32))
    }

    /// `seconds` later, with `load` in between.
    pub fn advance(&mut self, load: f64, seconds: f64) {
        *self = Self(self.after(load, seconds).map(|x| x as f32));
    }

    /// What the terms will be after `seconds` of `load`.
    pub fn after(&self, load: f64, seconds: f64) -> [f64; TERMS] {
        let to = inputs(load);
        std::array::from_fn(|i| to[i] + (f64::from(self.0[i]) - to[i]) * (-seconds / lag(i)).exp())
    }

    /// The terms now.
    pub fn now(&self) -> [f64; TERMS] {
        self.0.map(f64::from)
    }

    /// How fast the terms move at `load`, 1/s.
    pub fn rate(&self, load: f64) -> [f64; TERMS] {
        let to = inputs(load);
        std::array::from_fn(|i| (to[i] - f64::from(self.0[i])) / lag(i))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn many_small_steps_are_one_large_one(from in 0.0..1.0f64, to in 0.0..1.0f64, seconds in 1u32..3_000) {
            let mut steps = LaggedLoad::steady(from);
            (0..seconds).for_each(|_| steps.advance(to, 1.0));
            let whole = LaggedLoad::steady(from).after(to, f64::from(seconds));
            for (a, b) in steps.now().iter().zip(whole) {
                prop_assert!((a - b).abs() < 1e-3, "{a} {b}");
            }
        }
    }

    /// Least squares over the three lags: how close they come to a step response of `tau`.
    fn misfit(tau: f64) -> f64 {
        let rows: Vec<([f64; 3], f64)> = (0..120)
            .map(|i| {
                let t = f64::from(i) * tau / 20.0;
                (LAGS.map(|l| 1.0 - (-t / l).exp()), 1.0 - (-t / tau).exp())
            })
            .collect();
        // Coordinate descent: slow, sure, and without a solver.
        let mut gains = [1.0 / 3.0; 3];
        for _ in 0..4_000 {
            for j in 0..3 {
                let (mut up, mut down) = (0.0, 0.0);
                for (x, y) in &rows {
                    let others: f64 = (0..3).filter(|k| *k != j).map(|k| gains[k] * x[k]).sum();
                    up += x[j] * (y - others);
                    down += x[j] * x[j];
                }
                gains[j] = up / down;
            }
        }
        rows.iter().map(|(x, y)| (y - (0..3).map(|k| gains[k] * x[k]).sum::<f64>()).abs()).fold(0.0, f64::max)
    }

    #[test]
    fn the_lags_span_machines_of_two_to_twenty_five_minutes() {
        for tau in [120.0, 200.0, 300.0, 600.0, 1_200.0, 1_500.0] {
            assert!(misfit(tau) < 0.04, "{tau}: {}", misfit(tau));
        }
    }
}

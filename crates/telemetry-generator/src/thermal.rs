//! Heat: a body of one temperature that loses heat to its surroundings.
//!
//! Heat capacity C (J/K), thermal resistance to the ambient R (K/W), heat input Q (W):
//!
//! ```text
//! C dT/dt = Q − (T − Tₐ)/R   ⇒   dT/dt = (T∞ − T)/τ,   T∞ = Tₐ + R·Q,   τ = R·C
//! ```
//!
//! With Q and Tₐ constant over a step the solution is exact for any step length:
//! `T(t+Δ) = T∞ + (T − T∞)·exp(−Δ/τ)`. (Incropera, *Fundamentals of Heat and Mass
//! Transfer*, lumped capacitance.)

/// The body.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Body {
    /// Thermal resistance to the ambient, K/W.
    pub resistance: f64,
    /// Heat capacity, J/K.
    pub capacity: f64,
}

impl Body {
    /// A body that ends `rise` kelvin above the ambient at `heat` watts, with time constant `tau` seconds.
    pub fn from_rise(rise: f64, heat: f64, tau: f64) -> Self {
        let resistance = rise / heat;
        Self { resistance, capacity: tau / resistance }
    }

    /// Cooling that is worse by `factor`: hotter in the end, and slower.
    pub fn with_resistance_times(self, factor: f64) -> Self {
        Self { resistance: self.resistance * factor, ..self }
    }

    /// Time constant, s.
    pub fn time_constant(&self) -> f64 {
        self.resistance * self.capacity
    }

    /// Temperature at which heat in and out are equal, °C.
    pub fn equilibrium(&self, ambient: f64, heat: f64) -> f64 {
        ambient + self.resistance * heat
    }

    /// Temperature after `seconds`, °C.
    pub fn step(&self, temperature: f64, ambient: f64, heat: f64, seconds: f64) -> f64 {
        let end = self.equilibrium(ambient, heat);
        end + (temperature - end) * (-seconds / self.time_constant()).exp()
    }
}

/// Air around the machine over the day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ambient {
    /// Mean of the day, °C.
    pub mean: f64,
    /// Half of the difference between the warmest and the coldest hour, K.
    pub amplitude: f64,
}

/// The warmest hour of the day, UTC.
const WARMEST_HOUR: f64 = 15.0;

impl Ambient {
    /// °C at an instant.
    pub fn at(&self, ts_us: i64) -> f64 {
        let hour = ts_us.rem_euclid(86_400_000_000) as f64 / 3.6e9;
        self.mean + self.amplitude * ((hour - WARMEST_HOUR) / 24.0 * std::f64::consts::TAU).cos()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn many_small_steps_equal_one_large_one(
            rise in 10.0..90.0f64, heat in 100.0..5_000.0f64, tau in 30.0..2_000.0f64,
            start in 0.0..120.0f64, ambient in -10.0..40.0f64, seconds in 1u32..2_000,
        ) {
            let body = Body::from_rise(rise, heat, tau);
            let whole = body.step(start, ambient, heat, f64::from(seconds));
            let parts = (0..seconds).fold(start, |t, _| body.step(t, ambient, heat, 1.0));
            prop_assert!((whole - parts).abs() < 1e-8, "{whole} {parts}");
        }

        #[test]
        fn it_settles_where_heat_in_equals_heat_out(
            rise in 10.0..90.0f64, heat in 100.0..5_000.0f64, tau in 30.0..2_000.0f64, start in 0.0..120.0f64,
        ) {
            let body = Body::from_rise(rise, heat, tau);
            let end = body.step(start, 20.0, heat, 40.0 * tau);
            prop_assert!((end - (20.0 + rise)).abs() < 1e-9);
            let lost = (end - 20.0) / body.resistance;
            prop_assert!((lost - heat).abs() < 1e-6 * heat);
        }
    }

    #[test]
    fn after_one_time_constant_63_percent_of_the_way_is_gone() {
        let body = Body::from_rise(50.0, 1_000.0, 300.0);
        let t = body.step(20.0, 20.0, 1_000.0, 300.0);
        assert!((t - (20.0 + 50.0 * (1.0 - (-1.0f64).exp()))).abs() < 1e-12);
    }

    #[test]
    fn worse_cooling_is_hotter_and_slower() {
        let good = Body::from_rise(30.0, 1_000.0, 300.0);
        let bad = good.with_resistance_times(3.0);
        assert_eq!(bad.equilibrium(20.0, 1_000.0), 110.0);
        assert!((bad.time_constant() - 900.0).abs() < 1e-9);
    }

    #[test]
    fn the_day_has_its_warmest_hour() {
        let air = Ambient { mean: 22.0, amplitude: 4.0 };
        let hour = 3_600_000_000;
        assert!((air.at(15 * hour) - 26.0).abs() < 1e-12);
        assert!((air.at(3 * hour) - 18.0).abs() < 1e-12);
        assert!((air.at(15 * hour + 400 * 24 * hour) - 26.0).abs() < 1e-9);
    }
}

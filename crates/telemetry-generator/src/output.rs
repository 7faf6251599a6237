//! What a machine makes: parts, scrap and the overall equipment effectiveness.
//!
//! OEE as in ISO 22400-2: availability × effectiveness × quality with
//! availability = actual production time / planned busy time,
//! effectiveness = planned run time per item × produced quantity / actual production time,
//! quality = good quantity / produced quantity. The machine is planned to work around the
//! clock: waiting for material counts against it.
//!
//! There is no chance in here: a share of scrap adds up until a whole part is one.

use crate::machine::{Model, NATURAL_MAX_LOAD, State};

/// A failure while it works spoils the part in it, and this many more until it makes good ones
/// again. An assumption, not a measurement; whoever counts avoided scrap counts by it.
pub const SCRAP_PER_FAILURE: u32 = 6;
/// A working machine's own scrap.
const PROCESS_SCRAP: f64 = 0.012;
/// Scrap of a worn-out one on top.
const WEAR_SCRAP: f64 = 0.02;
/// Parts get out of tolerance from this temperature, °C …
const HOT_FROM: f64 = 80.0;
/// … by this share a kelvin …
const HOT_SCRAP: f64 = 0.01;
/// … and from this vibration, mm/s (zone C of ISO 10816-3 begins at 4.5 for rigid mounts) …
const SHAKEN_FROM: f64 = 4.5;
/// … by this share for each mm/s.
const SHAKEN_SCRAP: f64 = 0.03;
/// No more than this is scrap.
const MOST_SCRAP: f64 = 0.6;
/// The ratios look back this long, s (exponentially).
const MEMORY: f64 = 3_600.0;

/// What one machine has made.
#[derive(Clone, Debug, Default)]
pub struct Output {
    /// Good parts.
    pub good: u32,
    /// Scrap of the process.
    pub process_scrap: u32,
    /// Scrap because something was wrong with the machine.
    pub failure_scrap: u32,
    /// Failures that a reduced load has avoided.
    pub avoided_failures: u32,
    part: f32,
    process: f32,
    failure: f32,
    recent: Recent,
    failed: bool,
    rescued: bool,
    counted: bool,
}

/// Sums of the last hour.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    planned: f32,
    running: f32,
    produced: f32,
    good: f32,
}

/// Ratios over the last hour, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Oee {
    /// Share of the planned time in which it worked.
    pub availability: f64,
    /// Speed compared with the ideal one while it worked.
    pub performance: f64,
    /// Share of good parts.
    pub quality: f64,
}

impl Oee {
    /// The product.
    pub fn overall(&self) -> f64 {
        self.availability * self.performance * self.quality
    }
}

/// Ideal time for one part, s: a large machine makes large parts.
pub fn ideal_seconds(model: &Model) -> f64 {
    8.0 + model.rated_power / 1_500.0
}

impl Output {
    /// `seconds` have passed and the machine is now as `state` says.
    pub fn advance(&mut self, model: &Model, state: &State, seconds: f64) {
        let working = state.load > 0.0;
        let keep = (-seconds / MEMORY).exp() as f32;
        let r = &mut self.recent;
        for sum in [&mut r.planned, &mut r.running, &mut r.produced, &mut r.good] {
            *sum *= keep;
        }
        r.planned += seconds as f32;
        if working {
            r.running += seconds as f32;
            self.part += (seconds / ideal_seconds(model) * state.load / NATURAL_MAX_LOAD) as f32;
        }
        let process = PROCESS_SCRAP + WEAR_SCRAP * state.wear;
        let hot = HOT_SCRAP * (state.temperature - HOT_FROM).max(0.0);
        let shaken = SHAKEN_SCRAP * (state.vibration - SHAKEN_FROM).max(0.0);
        let failure = (hot + shaken).min(MOST_SCRAP - process) as f32;
        while self.part >= 1.0 {
            self.part -= 1.0;
            self.process += process as f32;
            self.failure += failure;
            self.recent.produced += 1.0;
            if self.failure >= 1.0 {
                self.failure -= 1.0;
                self.failure_scrap += 1;
            } else if self.process >= 1.0 {
                self.process -= 1.0;
                self.process_scrap += 1;
            } else {
                self.good += 1;
                self.recent.good += 1.0;
            }
        }
        let failed = state.failed();
        if failed && !self.failed {
            self.failure_scrap += SCRAP_PER_FAILURE;
            self.recent.produced += SCRAP_PER_FAILURE as f32;
            self.part = 0.0;
            self.rescued = false;
        }
        self.failed = failed;
    }

    /// Watches whether a reduced load avoids what was forecast: it was forecast, the load was
    /// reduced, and the forecast is gone without a failure. Once for as long as it is reduced.
    pub fn watch(&mut self, forecast: bool, reduced: bool) {
        self.counted &= reduced;
        if forecast && reduced && !self.failed && !self.counted {
            self.rescued = true;
        } else if self.rescued && !forecast {
            self.rescued = false;
            self.counted = reduced;
            self.avoided_failures += 1;
        }
    }

    /// All parts, good or not.
    pub fn produced(&self) -> u64 {
        u64::from(self.good) + u64::from(self.process_scrap) + u64::from(self.failure_scrap)
    }

    /// The ratios over the last hour; what cannot be said yet is 1.
    pub fn oee(&self, model: &Model) -> Oee {
        let r = &self.recent;
        let ratio = |part: f32, of: f32| if of > 0.0 { f64::from(part / of).clamp(0.0, 1.0) } else { 1.0 };
        Oee {
            availability: ratio(r.running, r.planned),
            performance: ratio(r.produced * ideal_seconds(model) as f32, r.running),
            quality: ratio(r.good, r.produced),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_work(model: &Model) -> State {
        State { load: NATURAL_MAX_LOAD, temperature: 60.0, vibration: 1.0, ..State::working(model, 0) }
    }

    #[test]
    fn a_machine_at_its_best_has_an_oee_near_one() {
        let model = Model::draw(1, 1);
        let mut output = Output::default();
        (0..36_000).for_each(|_| output.advance(&model, &at_work(&model), 1.0));
        let ideal = 36_000.0 / ideal_seconds(&model);
        assert!((output.produced() as f64 - ideal).abs() <= 2.0, "{} {ideal}", output.produced());
        let oee = output.oee(&model);
        assert_eq!(oee.availability, 1.0);
        assert!(oee.performance > 0.97 && oee.quality > 0.97, "{oee:?}");
        let scrap = f64::from(output.process_scrap) / output.produced() as f64;
        assert!((scrap - PROCESS_SCRAP).abs() < 0.002 && output.failure_scrap == 0, "{scrap}");
    }

    #[test]
    fn waiting_costs_availability_and_half_speed_costs_performance() {
        let model = Model::draw(1, 1);
        let mut output = Output::default();
        for i in 0..36_000 {
            let load = if i % 2 == 0 { NATURAL_MAX_LOAD / 2.0 } else { 0.0 };
            output.advance(&model, &State { load, ..at_work(&model) }, 1.0);
        }
        let oee = output.oee(&model);
        assert!((oee.availability - 0.5).abs() < 0.01 && (oee.performance - 0.5).abs() < 0.03, "{oee:?}");
        assert!((oee.overall() - 0.25).abs() < 0.02);
    }

    #[test]
    fn heat_and_a_failure_make_scrap_that_is_told_apart() {
        let model = Model::draw(1, 1);
        let mut output = Output::default();
        let hot = State { temperature: 92.0, ..at_work(&model) };
        (0..7_200).for_each(|_| output.advance(&model, &hot, 1.0));
        let share = f64::from(output.failure_scrap) / output.produced() as f64;
        assert!((share - 0.12).abs() < 0.01, "{share}");
        let before = output.failure_scrap;
        let tripped = State { tripped: true, load: 0.0, ..hot };
        (0..100).for_each(|_| output.advance(&model, &tripped, 1.0));
        assert_eq!(output.failure_scrap - before, SCRAP_PER_FAILURE, "once for the failure");
    }

    #[test]
    fn a_failure_counts_as_avoided_when_the_load_was_reduced_and_the_forecast_is_gone() {
        let model = Model::draw(1, 1);
        let mut output = Output::default();
        output.watch(true, false);
        output.watch(false, false);
        assert_eq!(output.avoided_failures, 0, "nobody did anything");
        output.watch(true, true);
        output.watch(true, false);
        output.watch(false, false);
        output.watch(false, true);
        assert_eq!(output.avoided_failures, 1);
        output.watch(true, true);
        output.advance(&model, &State { tripped: true, load: 0.0, ..at_work(&model) }, 1.0);
        output.watch(false, true);
        assert_eq!(output.avoided_failures, 1, "it failed all the same");
        let mut twice = Output::default();
        [(true, true), (false, true), (true, true), (false, true)].into_iter().for_each(|(f, r)| twice.watch(f, r));
        assert_eq!(twice.avoided_failures, 1, "one order, one failure");
    }
}

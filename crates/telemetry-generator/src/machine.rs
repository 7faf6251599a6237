//! One machine: an electric drive that works in shifts of running and idling.
//!
//! Losses turn into heat: a share that is there whenever it runs (iron, friction) and
//! one that grows with the square of the load (copper). [`tick`] is pure: state in,
//! state out, chance from the generator that is handed in.

use rand::{Rng, RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution, Exp1, StandardNormal};

use crate::thermal::{Ambient, Body};

/// Protection stops the machine at this temperature, °C.
pub const TRIP_AT: f64 = 95.0;
/// It may start again below this one, °C.
pub const RESET_BELOW: f64 = 60.0;
/// Vibration from which a bearing is damaged, mm/s RMS: zone D of ISO 10816-3.
pub const DAMAGING_VIBRATION: f64 = 7.1;
/// A bearing that runs at [`DAMAGING_VIBRATION`] seizes after this time, s; damage grows with
/// the third power of the vibration, as bearing life falls with that of the load (ISO 281).
const BEARING_LIFE: f64 = 300.0;

/// What does not change while the machine lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Electrical power at full load, W.
    pub rated_power: f64,
    /// Share of `rated_power` drawn when running without load.
    pub no_load_share: f64,
    /// Power of the control cabinet, W; drawn as long as there is a supply.
    pub standby_power: f64,
    /// Heat at full load, W.
    pub full_load_heat: f64,
    /// Share of `full_load_heat` that does not depend on the load.
    pub constant_heat_share: f64,
    /// Thermal behaviour.
    pub body: Body,
    /// Air around it.
    pub ambient: Ambient,
    /// Mean load while running, 0 to 1.
    pub mean_load: f64,
    /// Mean length of a running phase, s.
    pub mean_run: f64,
    /// Mean length of an idle phase, s.
    pub mean_idle: f64,
    /// Vibration at full load when healthy, mm/s RMS.
    pub vibration: f64,
}

/// Natural load never exceeds this; what lies above is for faults and heavy work.
pub const NATURAL_MAX_LOAD: f64 = 0.85;

impl Model {
    /// The machine with this number in the fleet with this seed.
    pub fn draw(seed: u64, index: u64) -> Self {
        let mut rng = rng_for(seed, index, 0);
        let mut between = |low: f64, high: f64| rng.random_range(low..high);
        let rated_power = between(7_500.0, 30_000.0);
        let full_load_heat = rated_power * between(0.08, 0.12);
        Self {
            rated_power,
            no_load_share: between(0.12, 0.2),
            standby_power: between(80.0, 200.0),
            full_load_heat,
            constant_heat_share: between(0.15, 0.25),
            // 62 K at most: 28 °C air and full load for ever end at 90 °C.
            body: Body::from_rise(between(54.0, 62.0), full_load_heat, between(150.0, 300.0)),
            ambient: Ambient { mean: between(20.0, 24.0), amplitude: between(2.0, 4.0) },
            mean_load: between(0.45, 0.7),
            mean_run: between(600.0, 1_500.0),
            mean_idle: between(60.0, 240.0),
            vibration: between(1.2, 2.4),
        }
    }

    /// Heat at a load while running, W.
    pub fn heat(&self, load: f64) -> f64 {
        self.full_load_heat * (self.constant_heat_share + (1.0 - self.constant_heat_share) * load * load)
    }

    /// Electrical power at a load while running, W.
    pub fn power(&self, load: f64) -> f64 {
        self.standby_power + self.rated_power * (self.no_load_share + (1.0 - self.no_load_share) * load)
    }
}

/// A generator of its own for each machine and purpose: adding a machine changes no other.
pub fn rng_for(seed: u64, index: u64, purpose: u64) -> Xoshiro256PlusPlus {
    // seed_from_u64 spreads close seeds (SplitMix64); the odd constants keep the sums apart.
    let mixed = seed
        .wrapping_add(index.wrapping_mul(0x9E37_79B9_7F4A_7C15))
        .wrapping_add(purpose.wrapping_mul(0xD1B5_4A32_D192_ED03));
    Xoshiro256PlusPlus::seed_from_u64(mixed)
}

/// What the machine is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Under load.
    Running,
    /// Waiting for work.
    Idle,
    /// Stopped for a moment by jammed material.
    Jammed,
}

/// What changes from tick to tick.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Temperature of the windings, °C.
    pub temperature: f64,
    /// Share of the maximum load, 0 to 1.
    pub load: f64,
    /// Electrical power, W.
    pub power: f64,
    /// mm/s RMS.
    pub vibration: f64,
    /// Energy meter, mJ. Integers: a meter must not drift by rounding.
    pub energy_mj: i64,
    /// Energy below one mJ, kept for the next tick.
    pub energy_rest: f64,
    /// What it is doing.
    pub phase: Phase,
    /// Seconds until the phase ends.
    pub phase_left: f64,
    /// Load that the phase aims at.
    pub target: f64,
    /// Thermal protection has stopped it.
    pub tripped: bool,
    /// Damage of the bearing, 0 to 1; at 1 it seizes and stays so until it is replaced.
    pub bearing_damage: f64,
    /// There is a supply.
    pub powered: bool,
    /// Wear of guides and bearings, 0 new to 1 worn out; only an overhaul takes it away.
    pub wear: f64,
}

impl State {
    /// The bearing has seized.
    pub fn seized(&self) -> bool {
        self.bearing_damage >= 1.0
    }

    /// Broken or stopped by its protection, as opposed to switched off.
    pub fn failed(&self) -> bool {
        self.tripped || self.seized()
    }

    /// A machine in the middle of its work, about to begin a phase: what a fleet starts with.
    pub fn working(model: &Model, ts_us: i64) -> Self {
        let warm = model.body.equilibrium(model.ambient.at(ts_us), model.heat(model.mean_load));
        Self { temperature: warm, load: model.mean_load, ..Self::cold(model, ts_us) }
    }

    /// A machine that has been standing overnight.
    pub fn cold(model: &Model, ts_us: i64) -> Self {
        Self {
            temperature: model.ambient.at(ts_us),
            load: 0.0,
            power: model.standby_power,
            vibration: 0.0,
            energy_mj: 0,
            energy_rest: 0.0,
            phase: Phase::Idle,
            phase_left: 0.0,
            target: 0.0,
            tripped: false,
            bearing_damage: 0.0,
            powered: true,
            wear: 0.0,
        }
    }
}

/// What acts on the machine from outside.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Effects {
    /// Friction heat while it turns, in multiples of the full-load heat.
    pub extra_heat: f64,
    /// Thermal resistance in multiples of the healthy one.
    pub resistance_factor: f64,
    /// Vibration on top while it turns, mm/s.
    pub extra_vibration: f64,
    /// A load that is forced upon it.
    pub forced_load: Option<f64>,
    /// The load that an operator allows at most.
    pub load_limit: Option<f64>,
    /// There is a supply.
    pub powered: bool,
}

impl Default for Effects {
    fn default() -> Self {
        Self {
            extra_heat: 0.0,
            resistance_factor: 1.0,
            extra_vibration: 0.0,
            forced_load: None,
            load_limit: None,
            powered: true,
        }
    }
}

/// The load follows its target with this time constant, s.
const LOAD_LAG: f64 = 8.0;
/// Jams per second of running: about one in two hours.
const JAM_RATE: f64 = 1.0 / 7_200.0;
/// Mean length of a jam, s.
const MEAN_JAM: f64 = 40.0;
/// Full load wears a machine out in this time, s: 8,000 hours.
const WEAR_LIFE: f64 = 8_000.0 * 3_600.0;
/// A worn machine shakes more by this share.
const WEAR_VIBRATION: f64 = 0.6;

/// The machine `seconds` later. `seconds` should not exceed a few seconds: a phase
/// begins and ends on a tick.
pub fn tick(model: &Model, state: &State, effects: &Effects, ts_us: i64, seconds: f64, rng: &mut impl Rng) -> State {
    let mut next = state.clone();
    // Chance first and always in the same order: a fault must not shift the random sequence.
    let noise: f64 = StandardNormal.sample(rng);
    let shake: f64 = StandardNormal.sample(rng);
    advance_phase(model, &mut next, seconds, rng);

    next.powered = effects.powered;
    next.tripped = if state.tripped { state.temperature >= RESET_BELOW } else { state.temperature >= TRIP_AT };
    let can_turn = next.powered && !next.tripped && !state.seized();
    let turning = can_turn && (next.phase == Phase::Running || effects.forced_load.is_some());

    next.load = if turning {
        let target = effects.forced_load.unwrap_or(next.target).min(effects.load_limit.unwrap_or(1.0));
        let pull = 1.0 - (-seconds / LOAD_LAG).exp();
        let wander = 0.01 * seconds.sqrt() * noise;
        let limit = if effects.forced_load.is_some() { 1.0 } else { NATURAL_MAX_LOAD };
        (state.load + (target - state.load) * pull + wander).clamp(0.02, limit)
    } else {
        0.0
    };
    let heat = if turning { model.heat(next.load) + effects.extra_heat * model.full_load_heat } else { 0.0 };
    let body = model.body.with_resistance_times(effects.resistance_factor);
    next.temperature = body.step(state.temperature, model.ambient.at(ts_us), heat, seconds);

    next.power = match (next.powered, turning) {
        (false, _) => 0.0,
        (true, false) => model.standby_power,
        // Friction has to be paid for as well.
        (true, true) => model.power(next.load) + effects.extra_heat * model.full_load_heat,
    };
    let energy = next.power * seconds * 1_000.0 + state.energy_rest;
    next.energy_mj = state.energy_mj.saturating_add(energy.floor() as i64);
    next.energy_rest = energy - energy.floor();

    next.wear = (state.wear + seconds * next.load / WEAR_LIFE).min(1.0);
    let quiet = 0.05;
    let healthy = model.vibration * (0.5 + 0.5 * next.load) * (1.0 + WEAR_VIBRATION * next.wear);
    let level = if turning { healthy + effects.extra_vibration } else { quiet };
    next.vibration = (level * (1.0 + 0.04 * shake)).max(0.0);
    next.bearing_damage = if effects.extra_vibration <= 0.0 {
        0.0 // The fault is gone: the bearing was replaced.
    } else if next.vibration >= DAMAGING_VIBRATION {
        let rate = (next.vibration / DAMAGING_VIBRATION).powi(3) / BEARING_LIFE;
        (state.bearing_damage + rate * seconds).min(1.0)
    } else {
        state.bearing_damage
    };
    next
}

fn advance_phase(model: &Model, state: &mut State, seconds: f64, rng: &mut impl Rng) {
    let jammed = rng.random::<f64>() < JAM_RATE * seconds && state.phase == Phase::Running;
    state.phase_left -= seconds;
    if jammed {
        state.phase = Phase::Jammed;
        state.phase_left = lasting(MEAN_JAM, rng);
        return;
    }
    if state.phase_left > 0.0 {
        return;
    }
    (state.phase, state.phase_left) = match state.phase {
        Phase::Running => (Phase::Idle, lasting(model.mean_idle, rng)),
        Phase::Idle | Phase::Jammed => {
            let spread: f64 = StandardNormal.sample(rng);
            state.target = (model.mean_load + 0.08 * spread).clamp(0.2, 0.82);
            (Phase::Running, lasting(model.mean_run, rng))
        }
    };
}

/// A length that is at least a third of its mean and otherwise exponential.
fn lasting(mean: f64, rng: &mut impl Rng) -> f64 {
    let x: f64 = Exp1.sample(rng);
    mean * (1.0 + 2.0 * x) / 3.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOON_US: i64 = 1_769_864_400_000_000;

    fn run(model: &Model, effects: &Effects, seconds: u32, seed: u64) -> Vec<State> {
        let mut rng = rng_for(seed, 0, 1);
        let mut state = State::cold(model, NOON_US);
        (0..seconds)
            .map(|i| {
                state = tick(model, &state, effects, NOON_US + i64::from(i) * 1_000_000, 1.0, &mut rng);
                state.clone()
            })
            .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn a_healthy_machine_stays_below_the_red_line(seed: u64) {
            let model = Model::draw(seed, 0);
            let states = run(&model, &Effects::default(), 6 * 3_600, seed);
            let hottest = states.iter().map(|s| s.temperature).fold(f64::MIN, f64::max);
            prop_assert!(hottest < 86.0, "{hottest}");
            prop_assert!(states.iter().all(|s| !s.tripped && (0.0..=NATURAL_MAX_LOAD).contains(&s.load)));
        }

        #[test]
        fn the_meter_counts_what_the_power_says_and_never_backwards(seed: u64, extra in 0.0..1.5f64) {
            let model = Model::draw(seed, 3);
            let effects = Effects { extra_heat: extra, ..Effects::default() };
            let states = run(&model, &effects, 2_000, seed);
            prop_assert!(states.windows(2).all(|w| w[0].energy_mj <= w[1].energy_mj));
            let joules: f64 = states.iter().map(|s| s.power).sum();
            let meter = states[1_999].energy_mj as f64 / 1_000.0;
            prop_assert!((joules - meter).abs() < 1e-2, "{joules} {meter}");
        }

        #[test]
        fn the_same_seed_gives_the_same_life(seed: u64) {
            let model = Model::draw(seed, 1);
            prop_assert_eq!(run(&model, &Effects::default(), 500, seed), run(&model, &Effects::default(), 500, seed));
        }
    }

    #[test]
    fn at_constant_load_it_settles_at_the_analytic_temperature() {
        let model = Model { ambient: Ambient { mean: 22.0, amplitude: 0.0 }, ..Model::draw(1, 1) };
        let effects = Effects { forced_load: Some(1.0), ..Effects::default() };
        let states = run(&model, &effects, 6_000, 1);
        // The load hunts a little around its target; its mean square is what heats.
        let last = &states[4_000..];
        let heat = last.iter().map(|s| model.heat(s.load)).sum::<f64>() / last.len() as f64;
        let mean = last.iter().map(|s| s.temperature).sum::<f64>() / last.len() as f64;
        assert!((mean - model.body.equilibrium(22.0, heat)).abs() < 0.2, "{mean}");
    }

    #[test]
    fn friction_trips_the_machine_and_it_comes_back_after_cooling() {
        let model = Model::draw(7, 0);
        let effects = Effects { extra_heat: 1.0, ..Effects::default() };
        let states = run(&model, &effects, 7_200, 7);
        let red = states.iter().position(|s| s.temperature >= 90.0).expect("it gets hot");
        assert!((120..2_400).contains(&red), "{red}");
        let trip = states.iter().position(|s| s.tripped).expect("protection acts");
        assert!(trip > red && states[trip].load == 0.0 && states[trip].power == model.standby_power);
        assert!(states[trip..].iter().any(|s| !s.tripped && s.load > 0.1), "it starts again");
        assert!(states.iter().all(|s| s.temperature < 97.0), "protection limits the temperature");
    }

    #[test]
    fn a_bad_bearing_shakes_then_seizes_until_it_is_replaced() {
        let model = Model::draw(9, 0);
        let bad = Effects { extra_vibration: 8.0, ..Effects::default() };
        let states = run(&model, &bad, 3_600, 9);
        let shakes = states.iter().position(|s| s.vibration > DAMAGING_VIBRATION).expect("it shakes");
        let seized = states.iter().position(State::seized).expect("it seizes");
        assert!((60..600).contains(&(seized - shakes)), "{shakes} {seized}");
        assert!(states[seized + 1..].iter().all(|s| s.failed() && s.load == 0.0));
        let mut rng = rng_for(9, 0, 2);
        let repaired = tick(&model, &states[seized + 1], &Effects::default(), NOON_US, 1.0, &mut rng);
        assert!(!repaired.failed());
    }

    #[test]
    fn lost_cooling_reaches_the_red_line() {
        let model = Model::draw(3, 2);
        let effects = Effects { resistance_factor: 4.0, ..Effects::default() };
        assert!(run(&model, &effects, 7_200, 3).iter().any(|s| s.temperature >= 90.0));
    }

    #[test]
    fn without_supply_nothing_moves_and_nothing_is_counted() {
        let model = Model::draw(5, 0);
        let off = Effects { powered: false, ..Effects::default() };
        let states = run(&model, &off, 600, 5);
        assert!(states.iter().all(|s| s.energy_mj == 0 && s.load == 0.0 && s.vibration < 0.1));
    }
}

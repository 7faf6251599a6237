//! Machines to be wrong about: the fleet's physics, with warming of a chosen shape on top
//! whose end is known.

use forecast::Sample;
use rand::{RngExt, rngs::Xoshiro256PlusPlus};
use rand_distr::{Distribution, StandardNormal};

use crate::{
    machine::{self, Effects, Model, State, rng_for},
    thermal::Ambient,
};

/// A reading every so many seconds.
pub const STEP: f64 = 10.0;
/// The physics moves in steps of this length, s.
const PHYSICS_STEP: f64 = 5.0;
/// Monday, 2 March 2026, 00:00 UTC, µs.
const START_US: i64 = 1_772_409_600_000_000;

/// What makes a series hard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Constant load, warming at a constant rate.
    Linear,
    /// Fast at first, then slower.
    Saturating,
    /// Slow at first, then faster.
    Accelerating,
    /// A sensor with a noise of 1 K.
    Noisy,
    /// The load changes between 35 and 80 % every 20 to 40 minutes.
    LoadSteps,
    /// Hall air that swings by ±8 K a day, and the machine's own duty cycle.
    DayCycle,
    /// One reading in a hundred is wild, now and then two or three in a row.
    Spikes,
    /// The machine's own duty cycle, and no load column.
    NoLoad,
    /// Load steps that no column tells of.
    NoLoadSteps,
}

impl Shape {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Linear,
        Self::Saturating,
        Self::Accelerating,
        Self::Noisy,
        Self::LoadSteps,
        Self::DayCycle,
        Self::Spikes,
        Self::NoLoad,
        Self::NoLoadSteps,
    ];

    /// The forecaster is told the load.
    pub fn tells_load(self) -> bool {
        !matches!(self, Self::NoLoad | Self::NoLoadSteps)
    }

    fn has_steps(self) -> bool {
        matches!(self, Self::LoadSteps | Self::NoLoadSteps)
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Saturating => "saturating",
            Self::Accelerating => "accelerating",
            Self::Noisy => "noisy sensor",
            Self::LoadSteps => "load steps",
            Self::DayCycle => "day cycle",
            Self::Spikes => "sensor spikes",
            Self::NoLoad => "no load column",
            Self::NoLoadSteps => "no load column, load steps",
        }
    }
}

/// Warming on top of what the machine does anyway.
#[derive(Clone, Copy, Debug)]
pub struct Ramp {
    /// It begins then, s.
    pub onset: f64,
    /// It has its full height after this time, s; it does not stop there.
    pub length: f64,
    /// K.
    pub height: f64,
}

impl Ramp {
    fn at(&self, seconds: f64, shape: Shape) -> f64 {
        let part = ((seconds - self.onset) / self.length).max(0.0);
        self.height
            * match shape {
                // 80 % of where it ends, when it is over.
                Shape::Saturating => 1.25 * (1.0 - (-part * 5f64.ln()).exp()),
                Shape::Accelerating => part * part,
                _ => part,
            }
    }
}

/// One machine over time.
#[derive(Clone, Debug)]
pub struct Plant {
    shape: Shape,
    model: Model,
    state: State,
    effects: Effects,
    physics: Xoshiro256PlusPlus,
    chance: Xoshiro256PlusPlus,
    seconds: f64,
    load_until: f64,
    wild_for: u32,
}

/// A reading and the truth behind it.
#[derive(Clone, Copy, Debug)]
pub struct Observed {
    /// What the forecaster sees.
    pub sample: Sample,
    /// °C without the sensor.
    pub truth: f64,
    /// mm/s RMS.
    pub vibration: f64,
    /// W.
    pub power: f64,
    /// The load that the machine has, told or not.
    pub load: f64,
}

impl Plant {
    /// The machine of this seed; its time constant is between 2.5 and 25 minutes.
    pub fn new(seed: u64, shape: Shape) -> Self {
        let mut chance = rng_for(seed, shape as u64, 7);
        let mut model = Model::draw(seed, shape as u64);
        model.body.capacity *= 5f64.powf(chance.random_range(0.0..1.0));
        if shape == Shape::DayCycle {
            model.ambient = Ambient { mean: 22.0, amplitude: 8.0 };
        }
        let mut state = State::working(&model, START_US);
        let constant = matches!(shape, Shape::Linear | Shape::Saturating | Shape::Accelerating | Shape::Noisy);
        let effects = Effects { forced_load: constant.then_some(model.mean_load), ..Effects::default() };
        state.phase_left = chance.random_range(0.0..model.mean_run);
        let physics = rng_for(seed, shape as u64, 8);
        Self { shape, model, state, effects, physics, chance, seconds: 0.0, load_until: 0.0, wild_for: 0 }
    }

    /// The temperature at which it works on average, °C.
    pub fn working_temperature(&self) -> f64 {
        let load = if self.shape.has_steps() { 0.65 } else { self.model.mean_load };
        self.model.body.equilibrium(self.model.ambient.mean, self.model.heat(load))
    }

    /// What acts on it besides its own duty cycle.
    pub fn effects(&mut self) -> &mut Effects {
        &mut self.effects
    }

    /// The next reading.
    pub fn next(&mut self, ramp: Option<&Ramp>) -> Observed {
        if self.shape.has_steps() && self.seconds >= self.load_until {
            let high = self.effects.forced_load.is_none_or(|l| l < 0.5);
            self.effects.forced_load = Some(if high { 0.8 } else { 0.35 });
            self.load_until = self.seconds + self.chance.random_range(1_200.0..2_400.0);
        }
        let mut step = 0.0;
        while step < STEP {
            let now = START_US + ((self.seconds + step) * 1e6) as i64;
            self.state.tripped = false;
            self.state = machine::tick(&self.model, &self.state, &self.effects, now, PHYSICS_STEP, &mut self.physics);
            step += PHYSICS_STEP;
        }
        self.seconds += STEP;
        let truth = self.state.temperature + ramp.map_or(0.0, |r| r.at(self.seconds, self.shape));
        let noise: f64 = StandardNormal.sample(&mut self.chance);
        let mut temperature = truth + noise * if self.shape == Shape::Noisy { 1.0 } else { 0.15 };
        if self.shape == Shape::Spikes {
            if self.wild_for == 0 && self.chance.random::<f64>() < 0.01 {
                self.wild_for = [1, 1, 1, 2, 3][self.chance.random_range(0..5)];
            }
            if self.wild_for > 0 {
                self.wild_for -= 1;
                temperature += if self.chance.random::<bool>() { 60.0 } else { -60.0 };
            }
        }
        let load = self.shape.tells_load().then_some(self.state.load);
        Observed {
            sample: Sample { time: self.seconds, temperature, load },
            truth,
            vibration: self.state.vibration,
            power: self.state.power,
            load: self.state.load,
        }
    }
}

//! Faults on demand. They live in memory only and end by themselves: a restart heals
//! the machine's electronics, but not the physics that a fault has already caused.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::machine::Effects;

/// The kinds of fault; also the values of the label `fault`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Something rubs: friction heat.
    Overheat,
    /// A bearing is worn out: vibration, some heat, and in the end it seizes.
    Bearing,
    /// The fan stands still: the same heat leaves slower.
    Cooling,
    /// Full load without a pause.
    Overload,
    /// The sensor is silent: readings are missing.
    SensorGap,
    /// The sensor repeats its last temperature.
    SensorStuck,
    /// A sensor reads wrong by a constant.
    SensorDrift,
    /// No supply: the machine is down.
    PowerLoss,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Overheat,
        Self::Bearing,
        Self::Cooling,
        Self::Overload,
        Self::SensorGap,
        Self::SensorStuck,
        Self::SensorDrift,
        Self::PowerLoss,
    ];

    /// As written in a request and in the metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Overheat => "overheat",
            Self::Bearing => "bearing",
            Self::Cooling => "cooling",
            Self::Overload => "overload",
            Self::SensorGap => "sensor_gap",
            Self::SensorStuck => "sensor_stuck",
            Self::SensorDrift => "sensor_drift",
            Self::PowerLoss => "power_loss",
        }
    }
}

/// What a sensor measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// °C.
    Temperature,
    /// mm/s RMS.
    Vibration,
    /// W.
    PowerWatts,
}

impl Feature {
    /// The offset that drift may have at most, either way, in the feature's unit.
    pub fn max_offset(self) -> f64 {
        match self {
            Self::Temperature => 100.0,
            Self::Vibration => 50.0,
            Self::PowerWatts => 50_000.0,
        }
    }
}

/// One fault with its measure.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// What is wrong.
    pub kind: Kind,
    /// How badly, 0 to 2; 1 is what takes a running machine over the red line within minutes.
    pub severity: f64,
    /// For [`Kind::SensorDrift`]: which sensor reads wrong, and by how much.
    pub drift: Option<(Feature, f64)>,
}

/// Faults last at least and at most this long.
pub const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(3_600);

/// A fault that is active, on one machine or on all.
#[derive(Clone, Debug)]
pub struct Active {
    /// The fault.
    pub fault: Fault,
    /// Number of its machine; `None` is the whole fleet.
    pub machine: Option<usize>,
    /// It ends then, µs since 1970.
    pub until_us: i64,
    /// It grows from nothing to its severity between these instants; `None` is there at once.
    pub grows: Option<(i64, i64)>,
}

impl Active {
    /// How bad it is at an instant.
    fn severity(&self, now_us: i64) -> f64 {
        let grown = self.grows.map_or(1.0, |(from, full)| {
            let length = full.saturating_sub(from).max(1) as f64;
            (now_us.saturating_sub(from) as f64 / length).clamp(0.0, 1.0)
        });
        self.fault.severity * grown
    }
}

/// The active faults, by machine. Knows no clock.
#[derive(Clone, Debug, Default)]
pub struct Faults(BTreeMap<Option<usize>, Vec<Active>>);

impl Faults {
    /// Adds a fault; one of the same kind on the same target is replaced.
    pub fn put(&mut self, new: Active) {
        let there = self.0.entry(new.machine).or_default();
        let drift = |a: &Active| a.fault.drift.map(|d| d.0);
        there.retain(|a| a.fault.kind != new.fault.kind || drift(a) != drift(&new));
        there.push(new);
    }

    /// Ends what is over.
    pub fn expire(&mut self, now_us: i64) {
        self.0.retain(|_, faults| {
            faults.retain(|a| a.until_us > now_us);
            !faults.is_empty()
        });
    }

    /// Ends the faults of one machine, or with `None` those of the whole fleet.
    pub fn clear(&mut self, machine: Option<usize>) -> usize {
        self.0.remove(&machine).map_or(0, |faults| faults.len())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Active> {
        self.0.values().flatten()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What acts on a machine, fleet-wide faults included.
    pub fn on(&self, machine: usize) -> impl Iterator<Item = &Active> {
        [None, Some(machine)].into_iter().filter_map(|key| self.0.get(&key)).flatten()
    }

    /// The physical part of [`Faults::on`].
    pub fn effects(&self, machine: usize, now_us: i64) -> Effects {
        self.on(machine).fold(Effects::default(), |mut e, active| {
            let (fault, severity) = (&active.fault, active.severity(now_us));
            match fault.kind {
                Kind::Overheat => e.extra_heat += severity,
                Kind::Bearing => {
                    e.extra_heat += 0.2 * severity;
                    e.extra_vibration += 8.0 * severity;
                }
                Kind::Cooling => e.resistance_factor *= 1.0 + 3.0 * severity,
                Kind::Overload => e.forced_load = Some(1.0),
                Kind::PowerLoss => e.powered = false,
                Kind::SensorGap | Kind::SensorStuck | Kind::SensorDrift => {}
            }
            e
        })
    }

    /// The part of [`Faults::on`] that only the sensors know of.
    pub fn sensor(&self, machine: usize) -> SensorFaults {
        self.on(machine).fold(SensorFaults::default(), |mut s, active| {
            match (active.fault.kind, active.fault.drift) {
                (Kind::SensorGap, _) => s.silent = true,
                (Kind::SensorStuck, _) => s.stuck = true,
                (Kind::SensorDrift, Some((Feature::Temperature, by))) => s.temperature += by,
                (Kind::SensorDrift, Some((Feature::Vibration, by))) => s.vibration += by,
                (Kind::SensorDrift, Some((Feature::PowerWatts, by))) => s.power += by,
                _ => {}
            }
            s
        })
    }
}

/// What is wrong with a machine's sensors.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SensorFaults {
    /// Nothing is sent.
    pub silent: bool,
    /// The temperature does not change any more.
    pub stuck: bool,
    /// Added to the temperature, K.
    pub temperature: f64,
    /// Added to the vibration, mm/s.
    pub vibration: f64,
    /// Added to the power, W.
    pub power: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(kind: Kind, machine: Option<usize>, until_us: i64) -> Active {
        Active { fault: Fault { kind, severity: 1.0, drift: None }, machine, until_us, grows: None }
    }

    #[test]
    fn a_fault_may_grow() {
        let mut faults = Faults::default();
        faults.put(Active { grows: Some((100, 300)), ..active(Kind::Overheat, Some(0), 1_000) });
        let heat: Vec<_> = [50, 100, 200, 300, 900].map(|now| faults.effects(0, now).extra_heat).into();
        assert_eq!(heat, [0.0, 0.0, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn a_fault_acts_on_its_machine_until_it_ends() {
        let mut faults = Faults::default();
        faults.put(active(Kind::Cooling, Some(1), 100));
        faults.put(active(Kind::PowerLoss, None, 50));
        assert_eq!(faults.effects(1, 0).resistance_factor, 4.0);
        assert_eq!(faults.effects(0, 0).resistance_factor, 1.0);
        assert!(!faults.effects(0, 0).powered);
        faults.expire(50);
        assert!(faults.effects(0, 0).powered);
        assert_eq!(faults.clear(None), 0);
        assert_eq!(faults.clear(Some(1)), 1);
        assert_eq!(faults.effects(1, 0), Effects::default());
    }

    #[test]
    fn the_same_fault_again_replaces_itself() {
        let mut faults = Faults::default();
        for until in [10, 20] {
            faults.put(active(Kind::Overheat, Some(0), until));
        }
        assert_eq!(faults.iter().count(), 1);
        assert_eq!(faults.effects(0, 0).extra_heat, 1.0);
        let drift = |feature| Active {
            fault: Fault { kind: Kind::SensorDrift, severity: 1.0, drift: Some((feature, 2.0)) },
            machine: None,
            until_us: 10,
            grows: None,
        };
        faults.put(drift(Feature::Temperature));
        faults.put(drift(Feature::Vibration));
        let sensor = faults.sensor(0);
        assert_eq!((sensor.temperature, sensor.vibration, sensor.power), (2.0, 2.0, 0.0));
    }
}

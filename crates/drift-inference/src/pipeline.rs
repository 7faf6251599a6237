//! From readings to predictions, accuracy and drift. One path for everything; knows no clock
//! but the readings' own.

use std::{collections::HashMap, sync::Arc, time::Duration};

use lake::{Reading, SeenReadings};

use crate::{
    features::{COUNT, Features, Gradient},
    model::{Confusion, Model, Prediction},
    profile::Moments,
    truth::{TruthQueue, is_bad},
    window::Window,
};

/// The mean of fewer rows than this says nothing about drift.
const MIN_ROWS: u64 = 60;

/// What was said of one reading.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Said {
    fails: bool,
    probability: f64,
}

/// One machine.
#[derive(Debug, Default)]
struct Machine {
    gradient: Gradient,
    truth: TruthQueue<Said>,
}

/// What became of a batch of readings.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scored {
    /// Readings seen for the first time, hence scored.
    pub new: u64,
    /// Readings seen before.
    pub duplicates: u64,
    /// Failures predicted.
    pub failures_predicted: u64,
    /// Predictions judged by this batch.
    pub judged: Confusion,
    /// Predictions whose truth will never be known.
    pub unknown: u64,
}

/// All state that readings change.
#[derive(Debug)]
pub struct Pipeline {
    model: Arc<Model>,
    horizon_us: i64,
    seen: SeenReadings,
    machines: HashMap<Arc<str>, Machine>,
    accuracy: Window<Confusion>,
    moments: Window<Moments>,
    newest_us: Option<i64>,
}

/// The present state of a pipeline, in numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Snapshot {
    /// Judged predictions in the window.
    pub accuracy: Confusion,
    /// Rows in the drift window.
    pub rows: u64,
    /// Means of the features in the drift window.
    pub means: [f64; COUNT],
    /// Shift of each mean in reference deviations; `None` with too few rows.
    pub shift: Option<[f64; COUNT]>,
    /// Predictions that wait for their truth.
    pub pending: usize,
    /// Machines seen.
    pub machines: usize,
    /// Instant of the newest reading, µs since 1970.
    pub newest_us: Option<i64>,
}

impl Pipeline {
    /// An empty pipeline. `horizon` is how far the truth is looked for.
    pub fn new(model: Arc<Model>, horizon: Duration, accuracy: Duration, drift: Duration) -> Self {
        Self {
            model,
            horizon_us: i64::try_from(horizon.as_micros()).unwrap_or(i64::MAX),
            seen: SeenReadings::default(),
            machines: HashMap::new(),
            accuracy: Window::new(accuracy),
            moments: Window::new(drift),
            newest_us: None,
        }
    }

    /// Scores readings in the order of their time, whatever order they come in.
    pub fn take(&mut self, mut readings: Vec<Reading>) -> Scored {
        readings.sort_by_key(|r| (r.ts_us, r.seq));
        let mut scored = Scored::default();
        for reading in &readings {
            if !self.seen.insert(reading) {
                scored.duplicates += 1;
                continue;
            }
            self.one(reading, &mut scored);
        }
        scored
    }

    fn one(&mut self, reading: &Reading, scored: &mut Scored) {
        // Looked up first: an entry would copy the name of every reading.
        if !self.machines.contains_key(&reading.machine_id) {
            self.machines.insert(reading.machine_id.clone(), Machine::default());
        }
        let Some(machine) = self.machines.get_mut(&reading.machine_id) else { return };
        let gradient = machine.gradient.update(reading.ts_us, reading.temperature);
        let features = Features::of(reading, gradient);
        let Prediction { fails, probability, .. } = self.model.predict(&features);
        scored.new += 1;
        scored.failures_predicted += u64::from(fails);
        if let Some(moments) = self.moments.at(reading.ts_us) {
            moments.add(&features);
        }
        let said = Said { fails, probability };
        let resolved = machine.truth.observe(reading.ts_us, is_bad(reading), said, self.horizon_us);
        for (said, came) in resolved.judged {
            scored.judged.add(said.fails, said.probability, came);
            if let Some(confusion) = self.accuracy.at(reading.ts_us) {
                confusion.add(said.fails, said.probability, came);
            }
        }
        scored.unknown += resolved.unknown;
        self.newest_us = Some(self.newest_us.map_or(reading.ts_us, |newest| newest.max(reading.ts_us)));
    }

    /// Numbers for metrics and the API.
    pub fn snapshot(&self) -> Snapshot {
        let moments = self.moments.total();
        Snapshot {
            accuracy: self.accuracy.total(),
            rows: moments.rows,
            means: std::array::from_fn(|i| moments.mean(i)),
            shift: (moments.rows >= MIN_ROWS).then(|| self.model.reference.mean_shift(&moments)).flatten(),
            pending: self.machines.values().map(|m| m.truth.len()).sum(),
            machines: self.machines.len(),
            newest_us: self.newest_us,
        }
    }

    /// The model in use.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::tests::thermometer;

    /// A reading at a second and a temperature.
    pub(crate) fn reading(second: i64, temperature: f64) -> Reading {
        Reading {
            machine_id: "m-1".into(),
            line: "line-1".into(),
            site: "site-1".into(),
            boot_id: "b".into(),
            seq: second as u64,
            ts_us: 1_769_864_400_000_000 + second * 1_000_000,
            temperature,
            load: 0.5,
            vibration: 1.5,
            power_watts: 5_000.0,
            energy_millijoules_total: 0,
            error_code: 0,
            status: 1,
            failed: false,
        }
    }

    fn pipeline() -> Pipeline {
        let seconds = Duration::from_secs;
        Pipeline::new(Arc::new(thermometer()), seconds(120), seconds(600), seconds(300))
    }

    #[test]
    fn a_model_that_is_right_has_accuracy_one() {
        let mut p = pipeline();
        // Calm, then over the red line; 80 °C is crossed exactly the horizon before.
        let calm = (0..1_000).map(|s| reading(s, 50.0));
        let ramp = (1_000..1_120).map(|s| reading(s, 81.0));
        let hot = (1_120..1_200).map(|s| reading(s, 92.0));
        let scored = p.take(calm.chain(ramp).chain(hot).collect());
        assert_eq!((scored.new, scored.duplicates, scored.unknown), (1_200, 0, 0));
        let e = p.snapshot().accuracy.evaluation();
        assert_eq!((e.accuracy, e.recall, e.precision), (Some(1.0), Some(1.0), Some(1.0)));
    }

    #[test]
    fn false_alarms_bring_the_accuracy_below_the_line() {
        let mut p = pipeline();
        p.take((0..600).map(|s| reading(s, 50.0)).collect());
        assert_eq!(p.snapshot().accuracy.evaluation().accuracy, Some(1.0));
        p.take((600..1_200).map(|s| reading(s, 85.0)).collect());
        let snapshot = p.snapshot();
        let accuracy = snapshot.accuracy.evaluation().accuracy.unwrap();
        assert!(accuracy < 0.8, "{accuracy}");
        assert_eq!(snapshot.shift.unwrap()[0], (85.0 - 50.0) / 5.0);
        assert_eq!(snapshot.pending, 121, "the last two minutes are not judged yet");
    }

    #[test]
    fn order_and_repetition_of_batches_do_not_matter() {
        let readings: Vec<Reading> = (0..500).map(|s| reading(s, 50.0 + (s % 50) as f64)).collect();
        let mut plain = pipeline();
        plain.take(readings.clone());
        let mut mixed = pipeline();
        let mut reversed = readings.clone();
        reversed.reverse();
        mixed.take(reversed);
        let again = mixed.take(readings);
        assert_eq!((again.new, again.duplicates), (0, 500));
        assert_eq!(plain.snapshot().accuracy, mixed.snapshot().accuracy);
        assert_eq!(plain.snapshot().means, mixed.snapshot().means);
    }

    #[test]
    fn without_readings_nothing_is_claimed() {
        let snapshot = pipeline().snapshot();
        assert_eq!(snapshot.accuracy.evaluation().accuracy, None);
        assert!(snapshot.shift.is_none() && snapshot.newest_us.is_none());
    }
}

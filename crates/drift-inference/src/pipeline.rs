//! From readings to predictions, accuracy and drift. One path for everything; knows no clock
//! but the readings' own.

use std::{collections::HashMap, sync::Arc, time::Duration};

use lake::{Reading, SeenReadings};

use stats::{cbpe::Estimate, moments::Moments as Errors, persistence::Persistence};

use crate::{
    distribution::{Counts, Indicators, indicators},
    features::{COUNT, Features, Gradient},
    model::{Confusion, Model, Prediction},
    profile::Moments,
    truth::{TruthQueue, is_bad},
    unexplained::{Present, Unexplained},
    window::{MIN_ROWS, Window},
};

/// Features are looked at this often, µs of the readings' time.
pub const WATCH_US: i64 = 30_000_000;
/// Drift that holds in so many of the last so many looks stays.
const STAY: (usize, usize) = (3, 5);

/// What was said of one reading.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Said {
    ts_us: i64,
    fails: bool,
    probability: f64,
    /// Counts the models that have served: accuracy is that of the present one.
    generation: u32,
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
    generation: u32,
    lengths: Lengths,
    horizon_us: i64,
    seen: SeenReadings,
    machines: HashMap<Arc<str>, Machine>,
    accuracy: Window<Confusion>,
    moments: Window<Moments>,
    counts: Window<Counts>,
    /// How badly the reference's components describe the rows.
    errors: Window<Errors>,
    watches: Vec<Watch>,
    together: Watch,
    /// What features do that the others do not explain; not the model's, so it outlives it.
    pub unexplained: Unexplained,
    /// Instant of the newest reading whose prediction was judged; before that, of the first reading.
    judged_us: Option<i64>,
    watched_at: Option<i64>,
    newest_us: Option<i64>,
}

/// How long windows are.
#[derive(Clone, Copy, Debug)]
struct Lengths {
    accuracy: Duration,
    drift: Duration,
}

/// Whether a feature's drift stays, and since when.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    persistence: Persistence,
    pub(crate) since_us: Option<i64>,
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
    /// Distance of each distribution from the reference; `None` with too few rows.
    pub indicators: Option<[Indicators; COUNT]>,
    /// Since when a feature's PSI has been above its line, µs since 1970.
    pub drifted_since: [Option<i64>; COUNT],
    /// Distance of the mean reconstruction error from the reference's, in σ; `None` with too few rows or
    /// without a reference.
    pub together: Option<f64>,
    /// Since when that has been above its line, µs since 1970.
    pub together_since: Option<i64>,
    /// What features do that the others do not explain.
    pub unexplained: Present,
    /// What accuracy is expected of the predictions that wait for their truth; `None` without a calibration.
    pub expected: Option<Expected>,
    /// Instant of the newest reading whose prediction was judged, or of the first at all, µs since 1970.
    pub judged_us: Option<i64>,
    /// Predictions that wait for their truth.
    pub pending: usize,
    /// Machines seen.
    pub machines: usize,
    /// Instant of the newest reading, µs since 1970.
    pub newest_us: Option<i64>,
}

/// Accuracy before the truth is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Expected {
    /// Expected share of right predictions, 0 to 1.
    pub accuracy: f64,
    /// Its standard deviation by chance alone.
    pub deviation: f64,
    /// Predictions.
    pub rows: u64,
}

impl Pipeline {
    /// An empty pipeline. `horizon` is how far the truth is looked for.
    pub fn new(model: Arc<Model>, horizon: Duration, accuracy: Duration, drift: Duration) -> Self {
        Self {
            model,
            generation: 0,
            lengths: Lengths { accuracy, drift },
            horizon_us: i64::try_from(horizon.as_micros()).unwrap_or(i64::MAX),
            seen: SeenReadings::default(),
            machines: HashMap::new(),
            accuracy: Window::new(accuracy),
            moments: Window::new(drift),
            counts: Window::new(drift),
            errors: Window::new(drift),
            watches: calm(),
            together: Watch::calm(),
            unexplained: Unexplained::default(),
            judged_us: None,
            watched_at: None,
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
            // By the readings' own time: how many came together must not matter.
            self.watch();
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
        if let Some(counts) = self.counts.at(reading.ts_us) {
            counts.add(&self.model.reference.distributions, &features);
        }
        if let Some(together) = &self.model.reference.together
            && let Some(error) = together.pca.bounded_error(&features.0)
            && let Some(errors) = self.errors.at(reading.ts_us)
        {
            errors.add(error);
        }
        self.unexplained.add(reading.ts_us, &features);
        self.judged_us.get_or_insert(reading.ts_us);
        let said = Said { ts_us: reading.ts_us, fails, probability, generation: self.generation };
        let resolved = machine.truth.observe(reading.ts_us, is_bad(reading), said, self.horizon_us);
        for (said, came) in resolved.judged {
            scored.judged.add(said.fails, said.probability, came);
            self.judged_us = self.judged_us.max(Some(said.ts_us));
            if said.generation == self.generation
                && let Some(confusion) = self.accuracy.at(reading.ts_us)
            {
                confusion.add(said.fails, said.probability, came);
            }
        }
        scored.unknown += resolved.unknown;
        self.newest_us = Some(self.newest_us.map_or(reading.ts_us, |newest| newest.max(reading.ts_us)));
    }

    /// Looks once in a while whether features are above their lines, and whether that stays.
    fn watch(&mut self) {
        let Some(now) = self.newest_us else { return };
        if self.watched_at.is_some_and(|at| now < at + WATCH_US) {
            return;
        }
        self.watched_at = Some(now);
        let indicators = self.indicators();
        for (i, (watch, reference)) in self.watches.iter_mut().zip(&self.model.reference.distributions).enumerate() {
            watch.observe(indicators.is_some_and(|all| all[i].psi > reference.psi_line), now);
        }
        let line = self.model.reference.together.as_ref().map(|t| t.line);
        let above = self.together_shift().zip(line).is_some_and(|(shift, line)| shift.abs() > line);
        self.together.observe(above, now);
        self.unexplained.watch(now);
    }

    fn together_shift(&self) -> Option<f64> {
        let errors = self.errors.total();
        self.model.reference.together.as_ref().filter(|_| errors.count >= MIN_ROWS)?.shift(&errors)
    }

    /// By the calibration that the model brought along, on what the present model said.
    fn expected(&self) -> Option<Expected> {
        let calibration = self.model.calibration.as_ref()?;
        let waiting = self.machines.values().flat_map(|m| m.truth.waiting());
        let scores: Vec<f64> =
            waiting.filter(|said| said.generation == self.generation).map(|said| said.probability).collect();
        let Estimate { rows, accuracy, accuracy_sd, .. } = calibration.estimate(&scores);
        accuracy.zip(accuracy_sd).map(|(accuracy, deviation)| Expected { accuracy, deviation, rows })
    }

    fn indicators(&self) -> Option<[Indicators; COUNT]> {
        let counts = self.counts.total();
        if counts.rows() < MIN_ROWS { None } else { indicators(&self.model.reference.distributions, &counts) }
    }

    /// Numbers for metrics and the API.
    pub fn snapshot(&self) -> Snapshot {
        let moments = self.moments.total();
        Snapshot {
            accuracy: self.accuracy.total(),
            rows: moments.rows,
            means: std::array::from_fn(|i| moments.mean(i)),
            shift: (moments.rows >= MIN_ROWS).then(|| self.model.reference.mean_shift(&moments)).flatten(),
            indicators: self.indicators(),
            drifted_since: std::array::from_fn(|i| self.watches.get(i).and_then(|w| w.since_us)),
            together: self.together_shift(),
            together_since: self.together.since_us,
            unexplained: self.unexplained.present(),
            expected: self.expected(),
            judged_us: self.judged_us,
            pending: self.machines.values().map(|m| m.truth.len()).sum(),
            machines: self.machines.len(),
            newest_us: self.newest_us,
        }
    }

    /// Lets another model predict. Accuracy and drift begin anew: they are its own, against its
    /// own reference.
    pub fn serve(&mut self, model: Arc<Model>) {
        self.model = model;
        self.generation += 1;
        self.accuracy = Window::new(self.lengths.accuracy);
        self.counts = Window::new(self.lengths.drift);
        self.errors = Window::new(self.lengths.drift);
        self.watches = calm();
        self.together = Watch::calm();
    }

    /// Rows of the drift window over the reference's cells.
    pub fn counts(&self) -> Counts {
        self.counts.total()
    }

    /// Length of the drift window.
    pub fn drift_window(&self) -> Duration {
        self.lengths.drift
    }

    /// The model in use.
    pub fn model(&self) -> &Arc<Model> {
        &self.model
    }
}

impl Watch {
    /// One that has seen nothing yet.
    pub(crate) fn calm() -> Self {
        Self { persistence: Persistence::new(STAY.0, STAY.1), since_us: None }
    }

    pub(crate) fn observe(&mut self, above: bool, now_us: i64) {
        if self.persistence.observe(above) {
            self.since_us.get_or_insert(now_us);
        } else {
            self.since_us = None;
        }
    }
}

/// Watches that have seen nothing yet.
fn calm() -> Vec<Watch> {
    vec![Watch::calm(); COUNT]
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
    fn accuracy_is_that_of_the_model_that_serves() {
        let mut p = pipeline();
        p.take((0..600).map(|s| reading(s, 85.0)).collect());
        assert_eq!(p.snapshot().accuracy.evaluation().accuracy, Some(0.0));
        p.serve(Arc::new(Model { version: "calm".into(), threshold: 0.999, ..thermometer() }));
        let judged = p.take((600..700).map(|s| reading(s, 85.0)).collect()).judged;
        assert_eq!((judged.rows(), p.snapshot().accuracy.rows()), (100, 0), "those were the former one's");
        p.take((700..1_000).map(|s| reading(s, 85.0)).collect());
        assert_eq!(p.snapshot().accuracy.evaluation().accuracy, Some(1.0));
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
    fn a_sensor_that_drifts_is_named_with_the_instant_and_forgotten_when_it_is_mended() {
        let rows = crate::distribution::tests::calm();
        let mut model = thermometer();
        model.reference.distributions = crate::distribution::measure(&rows, Duration::from_secs(600), 1).unwrap();
        let mut p = Pipeline::new(
            Arc::new(model),
            Duration::from_secs(120),
            Duration::from_secs(600),
            Duration::from_secs(600),
        );
        let feed = |p: &mut Pipeline, from: usize, upto: usize, shift: f64| {
            for row in rows.iter().filter(|r| r.machine == 0).cycle().take(upto).skip(from).enumerate() {
                let second = ((from + row.0) * 10) as i64;
                let [temperature, _, load, vibration, power_watts, error] = row.1.features.0;
                let error_code = error as i32 * 101;
                let calm = reading(second, temperature + shift);
                p.take(vec![Reading { load, vibration, power_watts, error_code, ..calm }]);
            }
        };
        feed(&mut p, 0, 300, 0.0);
        assert!(p.snapshot().indicators.is_some());
        assert_eq!(p.snapshot().drifted_since[0], None);
        feed(&mut p, 300, 400, 25.0);
        let since = p.snapshot().drifted_since[0].unwrap();
        let after = (since - reading(3_000, 0.0).ts_us) / 1_000_000;
        assert!((60..=600).contains(&after), "{after} s after it began");
        assert_eq!(p.snapshot().drifted_since[2], None, "the load has not moved");
        feed(&mut p, 400, 600, 0.0);
        assert_eq!(p.snapshot().drifted_since[0], None);
    }

    #[test]
    fn without_readings_nothing_is_claimed() {
        let snapshot = pipeline().snapshot();
        assert_eq!(snapshot.accuracy.evaluation().accuracy, None);
        assert!(snapshot.shift.is_none() && snapshot.newest_us.is_none());
    }
}

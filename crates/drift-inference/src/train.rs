//! Training: rows with a known label in, a model document out.

use std::{collections::HashMap, sync::Arc, time::Duration};

use lake::{Cursor, Lake, Reading, SeenReadings};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    distribution::Observed,
    features::{COUNT, Features, Gradient, NAMES},
    model::{Confusion, Evaluation, Model, Training},
    profile::{Moments, Profile},
    truth::{RED_LINE, TruthQueue, is_bad},
};

/// A machine and a boot.
type MachineRun = (Arc<str>, Arc<str>);

/// Number, gradient, and what waits for its truth: instants with features.
type Known = (usize, Gradient, TruthQueue<(i64, Features)>);

/// A row whose truth is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// µs since 1970.
    pub ts_us: i64,
    /// Number of the machine.
    pub machine: usize,
    /// What was measured.
    pub features: Features,
    /// The failure came.
    pub came: bool,
    /// How much it counts in training; 1 unless said otherwise.
    pub weight: f64,
}

/// Rows whose truth is known.
#[derive(Debug, Default)]
pub struct Dataset {
    /// Features and whether the failure came.
    pub rows: Vec<Row>,
    /// All rows, judged or not.
    pub moments: Moments,
    /// First and last instant, µs since 1970.
    pub range: Option<(i64, i64)>,
    /// All rows with their machine and instant, if they are kept.
    pub observed: Vec<Observed>,
    keep_observed: bool,
    /// More rows than this are thinned out.
    max_rows: Option<usize>,
    /// One row in 2 to the power of this is kept.
    thinned: u32,
    seen: SeenReadings,
    /// By machine and boot: a folder may hold several simulations of machines with the same names.
    machines: HashMap<MachineRun, Known>,
}

impl Dataset {
    /// Of at most about `max_rows` rows: beyond that half of them, evenly, are let go.
    pub fn limited(max_rows: usize) -> Self {
        Self { max_rows: Some(max_rows.max(1)), ..Self::default() }
    }

    /// Reads a whole lake.
    ///
    /// # Errors
    /// An object that cannot be read: training on half of the data would go unnoticed.
    pub async fn load(lake: &Lake, horizon: Duration) -> anyhow::Result<Self> {
        Self::default().read(lake, horizon).await
    }

    /// Reads a whole lake for a reference: every row is kept.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn load_reference(lake: &Lake, horizon: Duration) -> anyhow::Result<Self> {
        Self { keep_observed: true, ..Self::default() }.read(lake, horizon).await
    }

    async fn read(mut self, lake: &Lake, horizon: Duration) -> anyhow::Result<Self> {
        let mut cursor = Cursor::starting_at(0);
        loop {
            let names = lake.manifests_after(&cursor, 1_000).await?;
            if names.is_empty() {
                return Ok(self);
            }
            for name in names {
                self.add(lake.fetch(&name).await?.readings, horizon);
                cursor.advance(&name);
            }
        }
    }

    /// Adds readings, in the order of time.
    pub fn add(&mut self, readings: Vec<Reading>, horizon: Duration) {
        let horizon_us = i64::try_from(horizon.as_micros()).unwrap_or(i64::MAX);
        for r in readings {
            if !self.seen.insert(&r) {
                continue;
            }
            let machines = self.machines.len();
            let (machine, gradient, truth) = self
                .machines
                .entry((r.machine_id.clone(), r.boot_id.clone()))
                .or_insert_with(|| (machines, Gradient::default(), TruthQueue::default()));
            let machine = *machine;
            let features = Features::of(&r, gradient.update(r.ts_us, r.temperature));
            self.moments.add(&features);
            if self.keep_observed {
                self.observed.push(Observed { ts_us: r.ts_us, machine, features });
            }
            for ((ts_us, features), came) in truth.observe(r.ts_us, is_bad(&r), (r.ts_us, features), horizon_us).judged
            {
                if is_kept(ts_us, machine, self.thinned) {
                    self.rows.push(Row { ts_us, machine, features, came, weight: 1.0 });
                }
            }
            let (first, last) = self.range.unwrap_or((r.ts_us, r.ts_us));
            self.range = Some((first.min(r.ts_us), last.max(r.ts_us)));
            while self.max_rows.is_some_and(|most| self.rows.len() > most) {
                self.thinned += 1;
                let thinned = self.thinned;
                self.rows.retain(|row| is_kept(row.ts_us, row.machine, thinned));
            }
        }
    }
}

/// Is it among the one row in 2 to the power of `thinned` that is kept? The same rows whenever it
/// is asked, and no pattern of machines or seconds among them.
fn is_kept(ts_us: i64, machine: usize, thinned: u32) -> bool {
    let mut x = (ts_us as u64).wrapping_add((machine as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ (x >> 31)).trailing_zeros() >= thinned
}

/// Ridge penalty on the standardised weights: keeps a separable set from running away.
const RIDGE: f64 = 1.0;
/// Newton steps at most; convergence takes about ten.
const MAX_STEPS: usize = 50;
/// Fewer rows that were followed by a failure teach nothing.
const MIN_POSITIVES: u64 = 100;

/// What to train, and how to judge it.
#[derive(Debug)]
pub struct Order<'a> {
    /// Version of the model.
    pub version: &'a str,
    /// Rows to learn from.
    pub rows: &'a [Row],
    /// Rows to judge by.
    pub holdout: &'a [Row],
    /// What drift will be measured against.
    pub reference: Profile,
    /// Where a feature does not vary in the rows, its scale is taken from here.
    pub fallback: Option<&'a Profile>,
    /// How far ahead.
    pub horizon: Duration,
    /// When.
    pub now: OffsetDateTime,
}

/// Rows that make no model.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum TrainError {
    /// Too few failures.
    #[error("{0} rows were followed by a failure; {MIN_POSITIVES} are needed")]
    TooFewFailures(u64),
    /// Nothing but failures.
    #[error("most rows were followed by a failure")]
    MostlyFailures,
    /// A feature that says nothing.
    #[error("{0}")]
    NoVariation(String),
    /// The numbers do not allow it.
    #[error("{0}")]
    Numbers(String),
}

/// Fits a model and judges it on the holdout.
///
/// Newton's method on the penalised likelihood (iteratively reweighted least squares;
/// Hastie, Tibshirani, Friedman, *Elements of Statistical Learning*, 4.4.1).
///
/// # Errors
/// Data without both outcomes, or without variation.
pub fn train(order: Order<'_>) -> Result<Model, TrainError> {
    let Order { version, rows, holdout, reference, fallback, horizon, now } = order;
    let positives = rows.iter().filter(|r| r.came).count() as u64;
    if positives < MIN_POSITIVES {
        return Err(TrainError::TooFewFailures(positives));
    }
    if rows.len() as u64 <= 2 * positives {
        return Err(TrainError::MostlyFailures);
    }
    let mut moments = Moments::default();
    rows.iter().for_each(|r| moments.add(&r.features));
    let scale = moments.freeze_or(fallback).map_err(TrainError::NoVariation)?;
    let (weights, bias) = fit(rows, &scale)?;
    let numbers = |e: &dyn std::fmt::Display| TrainError::Numbers(e.to_string());
    let text = |at: OffsetDateTime| {
        at.replace_nanosecond(0).map_err(|e| numbers(&e))?.format(&Rfc3339).map_err(|e| numbers(&e))
    };
    let instant = |us: i64| OffsetDateTime::from_unix_timestamp(us / 1_000_000).map_err(|e| numbers(&e));
    let instants = || rows.iter().map(|r| r.ts_us);
    let (first, last) = (instants().min().unwrap_or_default(), instants().max().unwrap_or_default());
    let mut model = Model {
        schema: 1,
        version: version.to_owned(),
        features: NAMES.map(str::to_owned).to_vec(),
        means: scale.means,
        deviations: scale.deviations,
        weights: weights.to_vec(),
        bias,
        threshold: 0.5,
        horizon_seconds: horizon.as_secs_f64(),
        training: Training {
            trained_at: text(now)?,
            range: [text(instant(first)?)?, text(instant(last)?)?],
            rows: rows.len() as u64,
            positives,
            ..Training::default()
        },
        holdout: Evaluation::default(),
        calibration: None,
        reference,
    };
    model.threshold = best_threshold(&model, rows);
    model.holdout = judge(&model, holdout).evaluation();
    let judged: Vec<(f64, bool)> = holdout.iter().map(|r| (model.predict(&r.features).probability, r.came)).collect();
    model.calibration = stats::cbpe::Cbpe::fit(&judged, model.threshold);
    Ok(model)
}

/// The threshold with the best F1 on the training rows: failures are too rare for accuracy to choose one.
fn best_threshold(model: &Model, rows: &[Row]) -> f64 {
    let scores: Vec<(f64, bool, f64)> =
        rows.iter().map(|r| (model.predict(&r.features).probability, r.came, r.weight)).collect();
    let f1 = |threshold: f64| {
        let (mut hits, mut wrong) = (0.0f64, 0.0f64);
        for (p, came, weight) in &scores {
            match (*p >= threshold, came) {
                (true, true) => hits += weight,
                (true, false) | (false, true) => wrong += weight,
                (false, false) => {}
            }
        }
        if hits > 0.0 { 2.0 * hits / (2.0 * hits + wrong) } else { 0.0 }
    };
    (1..20)
        .map(|i| f64::from(i) * 0.05)
        .max_by(|a, b| f1(*a).total_cmp(&f1(*b)))
        .map_or(0.5, |t| (t * 100.0).round() / 100.0)
}

/// Judges a model on rows.
pub fn judge(model: &Model, rows: &[Row]) -> Confusion {
    rows.iter().fold(Confusion::default(), |mut c, r| {
        let p = model.predict(&r.features);
        c.add(p.fails, p.probability, r.came);
        c
    })
}

/// The simplest rival: a failure is predicted from this temperature on.
pub fn judge_threshold(rows: &[Row], celsius: f64) -> Confusion {
    rows.iter().fold(Confusion::default(), |mut c, r| {
        let fails = r.features.0[0] >= celsius;
        c.add(fails, f64::from(u8::from(fails)), r.came);
        c
    })
}

/// The threshold rival at its best, five kelvin below the red line.
pub const RIVAL_CELSIUS: f64 = RED_LINE - 5.0;

const DIM: usize = COUNT + 1;

fn fit(rows: &[Row], scale: &Profile) -> Result<([f64; COUNT], f64), TrainError> {
    let mut beta = [0.0; DIM];
    for _ in 0..MAX_STEPS {
        let mut gradient = [0.0; DIM];
        let mut hessian = [[0.0; DIM]; DIM];
        for row in rows {
            let standard = |i: usize| (row.features.0[i] - scale.means[i]) / scale.deviations[i];
            let x: [f64; DIM] = std::array::from_fn(|i| if i < COUNT { standard(i) } else { 1.0 });
            let odds: f64 = x.iter().zip(&beta).map(|(a, b)| a * b).sum();
            let p = 1.0 / (1.0 + (-odds).exp());
            let error = row.weight * (f64::from(u8::from(row.came)) - p);
            let weight = row.weight * p * (1.0 - p);
            for i in 0..DIM {
                gradient[i] += error * x[i];
                for j in 0..=i {
                    hessian[i][j] += weight * x[i] * x[j];
                }
            }
        }
        for i in 0..DIM {
            // The constant term is not penalised.
            let ridge = if i < COUNT { RIDGE } else { 1e-9 };
            gradient[i] -= ridge * beta[i];
            hessian[i][i] += ridge;
        }
        let step = solve(hessian, gradient)
            .ok_or_else(|| TrainError::Numbers("the features are not independent".to_owned()))?;
        // Far from the optimum a full Newton step overshoots.
        let longest = step.iter().fold(0.0f64, |m, s| m.max(s.abs()));
        let shorten = if longest > 2.0 { 2.0 / longest } else { 1.0 };
        for i in 0..DIM {
            beta[i] += shorten * step[i];
        }
        if longest < 1e-9 {
            break;
        }
    }
    let weights = std::array::from_fn(|i| beta[i]);
    Ok((weights, beta[COUNT]))
}

/// Solves a symmetric positive definite system, of which the lower half is given (Cholesky).
fn solve(mut a: [[f64; DIM]; DIM], b: [f64; DIM]) -> Option<[f64; DIM]> {
    for i in 0..DIM {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|k| a[i][k] * a[j][k]).sum();
            let rest = a[i][j] - sum;
            a[i][j] = if i == j {
                if rest <= 0.0 {
                    return None;
                }
                rest.sqrt()
            } else {
                rest / a[j][j]
            };
        }
    }
    let mut y = b;
    for i in 0..DIM {
        let sum: f64 = (0..i).map(|k| a[i][k] * y[k]).sum();
        y[i] = (y[i] - sum) / a[i][i];
    }
    for i in (0..DIM).rev() {
        let sum: f64 = (i + 1..DIM).map(|k| a[k][i] * y[k]).sum();
        y[i] = (y[i] - sum) / a[i][i];
    }
    Some(y)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows drawn from a known model, by a small generator of our own: no dependency for a test.
    pub(crate) fn rows(count: usize, weights: [f64; COUNT], bias: f64) -> Vec<Row> {
        let mut state = 1u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..count)
            .map(|i| {
                let x: [f64; COUNT] = std::array::from_fn(|_| (uniform() - 0.5) * 12f64.sqrt());
                let odds = bias + x.iter().zip(&weights).map(|(a, b)| a * b).sum::<f64>();
                let came = uniform() < 1.0 / (1.0 + (-odds).exp());
                Row { ts_us: i as i64 * 1_000_000, machine: i % 5, features: Features(x), came, weight: 1.0 }
            })
            .collect()
    }

    fn plain() -> Profile {
        Profile { rows: 1, means: vec![0.0; COUNT], deviations: vec![1.0; COUNT], ..Profile::default() }
    }

    fn order(rows: &[Row]) -> Order<'_> {
        Order {
            version: "t",
            rows,
            holdout: rows,
            reference: plain(),
            fallback: None,
            horizon: Duration::from_secs(1),
            now: OffsetDateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn it_finds_the_weights_that_made_the_data() {
        let truth = [2.0, -1.0, 0.5, 0.0, 1.0, -0.5];
        let data = rows(60_000, truth, -2.0);
        let mut moments = Moments::default();
        data.iter().for_each(|r| moments.add(&r.features));
        let (weights, _) = fit(&data, &moments.freeze_or(None).unwrap()).unwrap();
        for (found, truth) in weights.iter().zip(truth) {
            assert!((found - truth).abs() < 0.08, "{weights:?}");
        }
    }

    #[test]
    fn what_counts_more_teaches_more() {
        // Two truths in one set: the one with the weight is learned.
        let early = rows(20_000, [2.0, 0.0, 0.0, 0.0, 0.0, 0.0], -1.0);
        let late = rows(20_000, [-2.0, 0.0, 0.0, 0.0, 0.0, 0.0], -1.0);
        let early = early.into_iter().map(|r| Row { weight: 0.001, ..r });
        let (weights, _) = fit(&early.chain(late).collect::<Vec<_>>(), &plain()).unwrap();
        assert!((weights[0] + 2.0).abs() < 0.15, "{weights:?}");
    }

    #[test]
    fn a_separable_set_does_not_run_away() {
        let separable: Vec<_> =
            rows(4_000, [0.0; COUNT], 0.0).into_iter().map(|r| Row { came: r.features.0[0] > 1.0, ..r }).collect();
        let model = train(order(&separable)).unwrap();
        assert!(model.weights.iter().all(|w| w.abs() < 100.0));
        assert!(model.holdout.accuracy.unwrap() > 0.99);
        let back = Model::parse(&serde_json::to_string(&model).unwrap()).unwrap();
        assert!(back.calibration.is_some());
    }

    #[test]
    fn data_without_failures_or_variation_train_nothing() {
        let calm: Vec<Row> = rows(1_000, [0.0; COUNT], 0.0).into_iter().map(|r| Row { came: false, ..r }).collect();
        assert_eq!(train(order(&calm)), Err(TrainError::TooFewFailures(0)));
        let constant: Vec<Row> = rows(1_000, [0.0; COUNT], -1.0)
            .into_iter()
            .map(|r| Row {
                features: Features([1.0, r.features.0[1], r.features.0[2], 0.0, r.features.0[4], 0.0]),
                ..r
            })
            .collect();
        let error = train(order(&constant)).unwrap_err().to_string();
        assert!(error.contains("temperature does not vary"), "{error}");
        // What the champion's scale says of it is enough to go on.
        train(Order { fallback: Some(&plain()), ..order(&constant) }).unwrap();
    }

    #[test]
    fn too_many_rows_are_thinned_evenly() {
        let reading =
            |s: i64, machine: &str| Reading { machine_id: machine.into(), ..crate::pipeline::tests::reading(s, 50.0) };
        let mut data = Dataset::limited(1_000);
        for second in 0..3_000 {
            data.add(["m-1", "m-2"].map(|m| reading(second, m)).to_vec(), Duration::from_secs(120));
        }
        assert!((400..=1_000).contains(&data.rows.len()), "{}", data.rows.len());
        for machine in [0, 1] {
            let of = data.rows.iter().filter(|r| r.machine == machine).count() as f64;
            assert!((of / data.rows.len() as f64 - 0.5).abs() < 0.1, "{of} of {}", data.rows.len());
        }
        let late = data.rows.iter().filter(|r| r.ts_us > data.rows[0].ts_us + 1_440_000_000).count() as f64;
        assert!((late / data.rows.len() as f64 - 0.5).abs() < 0.1, "{late} of {}", data.rows.len());
    }
}

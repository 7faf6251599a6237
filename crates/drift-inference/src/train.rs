//! Training offline: a lake folder in, a model document out.

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

/// Rows whose truth is known.
#[derive(Debug, Default)]
pub struct Dataset {
    /// Features and whether the failure came.
    pub rows: Vec<(Features, bool)>,
    /// All rows, judged or not.
    pub moments: Moments,
    /// First and last instant, µs since 1970.
    pub range: Option<(i64, i64)>,
    /// All rows with their machine and instant, if they are kept.
    pub observed: Vec<Observed>,
    keep_observed: bool,
    seen: SeenReadings,
    /// By machine and boot: a folder may hold several simulations of machines with the same names.
    machines: HashMap<MachineRun, (usize, Gradient, TruthQueue<Features>)>,
}

impl Dataset {
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
            let features = Features::of(&r, gradient.update(r.ts_us, r.temperature));
            self.moments.add(&features);
            if self.keep_observed {
                self.observed.push(Observed { ts_us: r.ts_us, machine: *machine, features });
            }
            self.rows.extend(truth.observe(r.ts_us, is_bad(&r), features, horizon_us).judged);
            let (first, last) = self.range.unwrap_or((r.ts_us, r.ts_us));
            self.range = Some((first.min(r.ts_us), last.max(r.ts_us)));
        }
    }

    fn positives(&self) -> u64 {
        self.rows.iter().filter(|(_, came)| *came).count() as u64
    }
}

/// Ridge penalty on the standardised weights: keeps a separable set from running away.
const RIDGE: f64 = 1.0;
/// Newton steps at most; convergence takes about ten.
const MAX_STEPS: usize = 50;

/// Fits a model and judges it on the holdout.
///
/// Newton's method on the penalised likelihood (iteratively reweighted least squares;
/// Hastie, Tibshirani, Friedman, *Elements of Statistical Learning*, 4.4.1).
///
/// # Errors
/// Data without both outcomes, or without variation.
pub fn train(
    version: &str,
    data: &Dataset,
    holdout: &Dataset,
    reference: Profile,
    horizon: Duration,
    now: OffsetDateTime,
) -> anyhow::Result<Model> {
    let positives = data.positives();
    anyhow::ensure!(positives >= 100, "{positives} rows were followed by a failure; 100 are needed");
    anyhow::ensure!(data.rows.len() as u64 > 2 * positives, "most rows were followed by a failure");
    let mut moments = Moments::default();
    data.rows.iter().for_each(|(f, _)| moments.add(f));
    let scale = moments.freeze().map_err(anyhow::Error::msg)?;
    let (weights, bias) = fit(&data.rows, &scale)?;
    let text = |us: i64| -> anyhow::Result<String> {
        Ok(OffsetDateTime::from_unix_timestamp(us / 1_000_000)?.format(&Rfc3339)?)
    };
    let (first, last) = data.range.unwrap_or_default();
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
            trained_at: now.replace_nanosecond(0)?.format(&Rfc3339)?,
            range: [text(first)?, text(last)?],
            rows: data.rows.len() as u64,
            positives,
        },
        holdout: Evaluation::default(),
        reference,
    };
    model.threshold = best_threshold(&model, &data.rows);
    model.holdout = judge(&model, &holdout.rows).evaluation();
    Ok(model)
}

/// The threshold with the best F1 on the training rows: failures are too rare for accuracy to choose one.
fn best_threshold(model: &Model, rows: &[(Features, bool)]) -> f64 {
    let scores: Vec<(f64, bool)> = rows.iter().map(|(f, came)| (model.predict(f).probability, *came)).collect();
    let f1 = |threshold: f64| {
        let (mut hits, mut wrong) = (0.0f64, 0.0f64);
        for (p, came) in &scores {
            match (*p >= threshold, came) {
                (true, true) => hits += 1.0,
                (true, false) | (false, true) => wrong += 1.0,
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
pub fn judge(model: &Model, rows: &[(Features, bool)]) -> Confusion {
    rows.iter().fold(Confusion::default(), |mut c, (f, came)| {
        let p = model.predict(f);
        c.add(p.fails, p.probability, *came);
        c
    })
}

/// The simplest rival: a failure is predicted from this temperature on.
pub fn judge_threshold(rows: &[(Features, bool)], celsius: f64) -> Confusion {
    rows.iter().fold(Confusion::default(), |mut c, (f, came)| {
        let fails = f.0[0] >= celsius;
        c.add(fails, f64::from(u8::from(fails)), *came);
        c
    })
}

/// The threshold rival at its best, five kelvin below the red line.
pub const RIVAL_CELSIUS: f64 = RED_LINE - 5.0;

const DIM: usize = COUNT + 1;

fn fit(rows: &[(Features, bool)], scale: &Profile) -> anyhow::Result<([f64; COUNT], f64)> {
    let mut beta = [0.0; DIM];
    for _ in 0..MAX_STEPS {
        let mut gradient = [0.0; DIM];
        let mut hessian = [[0.0; DIM]; DIM];
        for (features, came) in rows {
            let standard = |i: usize| (features.0[i] - scale.means[i]) / scale.deviations[i];
            let x: [f64; DIM] = std::array::from_fn(|i| if i < COUNT { standard(i) } else { 1.0 });
            let odds: f64 = x.iter().zip(&beta).map(|(a, b)| a * b).sum();
            let p = 1.0 / (1.0 + (-odds).exp());
            let error = f64::from(u8::from(*came)) - p;
            let weight = p * (1.0 - p);
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
        let step = solve(hessian, gradient).ok_or_else(|| anyhow::anyhow!("the features are not independent"))?;
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
    fn rows(count: usize, weights: [f64; COUNT], bias: f64) -> Vec<(Features, bool)> {
        let mut state = 1u64;
        let mut uniform = move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 53) as f64
        };
        (0..count)
            .map(|_| {
                let x: [f64; COUNT] = std::array::from_fn(|_| (uniform() - 0.5) * 12f64.sqrt());
                let odds = bias + x.iter().zip(&weights).map(|(a, b)| a * b).sum::<f64>();
                (Features(x), uniform() < 1.0 / (1.0 + (-odds).exp()))
            })
            .collect()
    }

    #[test]
    fn it_finds_the_weights_that_made_the_data() {
        let truth = [2.0, -1.0, 0.5, 0.0, 1.0, -0.5];
        let data = Dataset { rows: rows(60_000, truth, -2.0), ..Dataset::default() };
        let mut moments = Moments::default();
        data.rows.iter().for_each(|(f, _)| moments.add(f));
        let (weights, _) = fit(&data.rows, &moments.freeze().unwrap()).unwrap();
        for (found, truth) in weights.iter().zip(truth) {
            assert!((found - truth).abs() < 0.08, "{weights:?}");
        }
    }

    #[test]
    fn a_separable_set_does_not_run_away() {
        let separable: Vec<_> = rows(4_000, [0.0; COUNT], 0.0).into_iter().map(|(f, _)| (f, f.0[0] > 1.0)).collect();
        let data = Dataset { rows: separable, ..Dataset::default() };
        let reference =
            Profile { rows: 1, means: vec![0.0; COUNT], deviations: vec![1.0; COUNT], distributions: Vec::new() };
        let model = train("t", &data, &data, reference, Duration::from_secs(1), OffsetDateTime::UNIX_EPOCH).unwrap();
        assert!(model.weights.iter().all(|w| w.abs() < 100.0));
        assert!(model.holdout.accuracy.unwrap() > 0.99);
        Model::parse(&serde_json::to_string(&model).unwrap()).unwrap();
    }

    #[test]
    fn data_without_failures_train_nothing() {
        let data = Dataset { rows: vec![(Features([0.0; COUNT]), false); 1_000], ..Dataset::default() };
        let reference =
            Profile { rows: 1, means: vec![0.0; COUNT], deviations: vec![1.0; COUNT], distributions: Vec::new() };
        let error = train("t", &data, &data, reference, Duration::from_secs(1), OffsetDateTime::UNIX_EPOCH);
        assert!(error.unwrap_err().to_string().contains("100 are needed"));
    }
}

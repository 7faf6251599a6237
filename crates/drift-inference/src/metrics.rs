//! Metrics of the process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use lake::{Observer, Operation, Outcome};
use prometheus::{Gauge, GaugeVec, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};
use telemetry::metrics::{HttpMetrics, LATENCY_BUCKETS, Registry};

use crate::{
    distribution::Indicators,
    features::{MEASURED, NAMES},
    lake_faults::Kind,
    model::{Confusion, Model},
    pipeline::Snapshot,
    registry::Code,
    retrain::verdict::Scores,
};

/// Everything that is counted.
#[derive(Clone)]
pub struct Metrics {
    /// Requests.
    pub http: HttpMetrics,
    /// Predictions made, from the lake and by the API.
    pub predictions: IntCounterVec,
    /// Predictions that truth has judged.
    pub labelled: IntCounter,
    /// The same by what was said and what came.
    pub outcomes: IntCounterVec,
    /// Predictions whose truth will never be known.
    pub unlabelled: IntCounter,
    /// Predictions that wait for their truth.
    pub pending: IntGauge,
    /// Share of right ones in the window; NaN while too few are judged.
    pub accuracy: Gauge,
    /// Judged predictions in the window.
    pub accuracy_labels: IntGauge,
    /// Requests to the lake.
    pub lake_reads: IntCounterVec,
    /// The latest pull reached the lake.
    pub lake_up: IntGauge,
    /// Duration of one request.
    pub lake_request_duration: Histogram,
    /// Age of the newest reading.
    pub ingestion_delay: Gauge,
    /// Duration of one pull: list, read, check, score.
    pub ingestion_duration: Histogram,
    /// Rows read.
    pub rows: IntCounterVec,
    /// Objects set aside whole.
    pub corrupt_objects: IntCounter,
    /// Distance of each mean from the reference.
    pub mean_shift: GaugeVec,
    /// Population stability index of each feature.
    pub psi: GaugeVec,
    /// What chance alone explains of it.
    pub psi_line: GaugeVec,
    /// Kolmogorov-Smirnov distance of each feature.
    pub ks: GaugeVec,
    /// The feature's PSI is above its line, and stays.
    pub drifted: GaugeVec,
    /// Distance of the mean reconstruction error from the reference.
    pub together: Gauge,
    /// What chance alone explains of it.
    pub together_line: Gauge,
    /// The features together have drifted.
    pub together_drifted: IntGauge,
    /// What each feature does that the others do not explain.
    pub unexplained: GaugeVec,
    /// From where on it counts.
    pub unexplained_line: GaugeVec,
    /// It is the one that has moved, and stays.
    pub unexplained_drifted: GaugeVec,
    /// How far it has moved.
    pub unexplained_moved: GaugeVec,
    /// How much of the fleet's day is learned.
    pub unexplained_learned: Gauge,
    /// Accuracy expected of predictions whose truth is not known.
    pub expected_accuracy: Gauge,
    /// Age of the newest prediction that was judged.
    pub label_delay: Gauge,
    /// How long a label takes at best.
    pub label_horizon: Gauge,
    /// Challenges that are over.
    pub retrainings: IntCounterVec,
    /// Wishes for a challenger that were held back.
    pub retraining_held: IntCounterVec,
    /// A challenger is being trained.
    pub retraining_running: IntGauge,
    /// Accuracy of both in the last comparison.
    pub contest_accuracy: GaugeVec,
    /// Faults of the lake that are on.
    pub faults: IntGaugeVec,
    /// Age of the model.
    pub model_age: Gauge,
    model_info: IntGaugeVec,
    /// Seconds since 1970, as bits.
    trained_at: Arc<AtomicU64>,
}

impl Metrics {
    /// Registers everything.
    ///
    /// # Errors
    /// A name is taken.
    pub fn new(registry: &Registry, model: &Model) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            http: HttpMetrics::new(registry)?,
            predictions: registry.counter_vec(
                "inference_predictions_total",
                "Predictions made, from the lake and by the API.",
                &["outcome"],
            )?,
            labelled: registry.counter("inference_labelled_total", "Predictions that later readings have judged.")?,
            outcomes: registry.counter_vec(
                "inference_outcomes_total",
                "Judged predictions by what was predicted and what came.",
                &["predicted", "actual"],
            )?,
            unlabelled: registry.counter(
                "inference_unlabelled_total",
                "Predictions whose truth will never be known: readings are missing.",
            )?,
            pending: registry.int_gauge("inference_labels_pending", "Predictions that wait for their truth.")?,
            accuracy: registry.gauge(
                "inference_accuracy_ratio",
                "Share of right predictions in the window, 0 to 1; NaN while too few are judged.",
            )?,
            accuracy_labels: registry
                .int_gauge("inference_accuracy_window_labels", "Judged predictions in the accuracy's window.")?,
            lake_reads: registry.counter_vec("lake_read_total", "Requests to the lake.", &["result"])?,
            lake_up: registry.int_gauge("lake_up", "1 if the latest pull reached the lake, else 0.")?,
            lake_request_duration: registry.histogram(
                "lake_request_duration_seconds",
                "Duration of one request to the lake, retries included.",
                LATENCY_BUCKETS,
            )?,
            ingestion_delay: registry
                .gauge("lake_ingestion_delay_seconds", "Age of the newest reading; NaN before the first.")?,
            ingestion_duration: registry.histogram(
                "ingestion_duration_seconds",
                "Duration of one pull: list, read, check, score; failed ones included.",
                &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0],
            )?,
            rows: registry.counter_vec("lake_rows_total", "Rows read from the lake.", &["result"])?,
            corrupt_objects: registry
                .counter("lake_corrupt_objects_total", "Objects set aside whole: not what their manifest says.")?,
            mean_shift: registry.gauge_vec(
                "feature_mean_shift_sigma",
                "Distance of the feature's mean in the window from the reference, in the reference's σ.",
                &["feature"],
            )?,
            psi: registry.gauge_vec(
                "feature_psi",
                "Population stability index of the feature in the window over the reference's deciles; NaN while too few rows are there.",
                &["feature"],
            )?,
            psi_line: registry.gauge_vec(
                "feature_psi_line",
                "Twice the largest population stability index of a window of the reference itself, 0.25 at least; NaN if the model has none.",
                &["feature"],
            )?,
            ks: registry.gauge_vec(
                "feature_ks_distance",
                "Kolmogorov-Smirnov distance of the feature in the window from the reference, 0 to 1; NaN while too few rows are there.",
                &["feature"],
            )?,
            drifted: registry.gauge_vec(
                "feature_drifted",
                "1 while the feature's stability index stays above its line, else 0.",
                &["feature"],
            )?,
            together: registry.gauge(
                "features_together_shift_sigma",
                "Distance of the window's mean reconstruction error from the reference's, in σ of its rows; NaN while it is not known.",
            )?,
            together_line: registry.gauge(
                "features_together_line",
                "Twice the largest such distance of a window of the reference itself; NaN if the model has none.",
            )?,
            together_drifted: registry
                .int_gauge("features_together_drifted", "1 while that distance stays above its line, else 0.")?,
            unexplained: registry.gauge_vec(
                "feature_unexplained_shift_sigma",
                "Mean over 20 min of what the other features do not explain of this one, in σ; NaN while it is not known.",
                &["feature"],
            )?,
            unexplained_line: registry.gauge_vec(
                "feature_unexplained_line",
                "From where on that counts, by the fleet's first day; NaN while that is being learned.",
                &["feature"],
            )?,
            unexplained_drifted: registry.gauge_vec(
                "feature_unexplained_drifted",
                "1 while a shift of this feature alone accounts best for what is beyond its line, else 0.",
                &["feature"],
            )?,
            unexplained_moved: registry.gauge_vec(
                "feature_unexplained_moved_sigma",
                "How far this feature alone has moved, in σ, where it is the one; else NaN.",
                &["feature"],
            )?,
            unexplained_learned: registry
                .gauge("feature_unexplained_learned_ratio", "Share of the fleet's day that is learned, 0 to 1.")?,
            expected_accuracy: registry.gauge(
                "inference_expected_accuracy_ratio",
                "Accuracy expected of the predictions that wait for their truth, 0 to 1; NaN without a calibration.",
            )?,
            label_delay: registry.gauge(
                "inference_label_delay_seconds",
                "Age of the newest reading whose prediction was judged; NaN before the first reading.",
            )?,
            label_horizon: registry
                .gauge("inference_label_horizon_seconds", "How long a label takes at best: how far ahead failures are foretold.")?,
            retrainings: registry.counter_vec("model_retrainings_total", "Challenges that are over.", &["outcome"])?,
            retraining_held: registry.counter_vec(
                "model_retrainings_held_total",
                "Wishes for a challenger that the budget held back.",
                &["reason"],
            )?,
            retraining_running: registry
                .int_gauge("model_retraining_running", "1 while a challenger is being trained, else 0.")?,
            contest_accuracy: registry.gauge_vec(
                "model_contest_accuracy_ratio",
                "Accuracy in the last comparison on held-out readings; NaN before the first.",
                &["role"],
            )?,
            faults: registry.int_gauge_vec("fault_active", "Injected faults; 1 while active.", &["fault"])?,
            model_age: registry.gauge("model_age_seconds", "Time since the model was trained.")?,
            model_info: registry.int_gauge_vec("model_info", "The model in use; always 1.", &["version"])?,
            trained_at: Arc::default(),
        };
        for outcome in [true, false] {
            metrics.predictions.with_label_values(&[said(outcome)]);
            for actual in [true, false] {
                metrics.outcomes.with_label_values(&[said(outcome), said(actual)]);
            }
        }
        for outcome in [Outcome::Ok, Outcome::Unavailable, Outcome::Error] {
            metrics.lake_reads.with_label_values(&[outcome.as_str()]);
        }
        for result in ["ok", "quarantined", "duplicate"] {
            metrics.rows.with_label_values(&[result]);
        }
        for feature in NAMES {
            metrics.mean_shift.with_label_values(&[feature]);
            metrics.psi.with_label_values(&[feature]).set(f64::NAN);
            metrics.ks.with_label_values(&[feature]).set(f64::NAN);
            metrics.drifted.with_label_values(&[feature]);
        }
        for feature in &NAMES[..MEASURED] {
            metrics.unexplained.with_label_values(&[feature]).set(f64::NAN);
            metrics.unexplained_line.with_label_values(&[feature]).set(f64::NAN);
            metrics.unexplained_drifted.with_label_values(&[feature]);
            metrics.unexplained_moved.with_label_values(&[feature]).set(f64::NAN);
        }
        for outcome in ["promoted", "discarded", "failed", "interrupted"] {
            metrics.retrainings.with_label_values(&[outcome]);
        }
        for held in [Code::TooSoon, Code::BackingOff, Code::BudgetExhausted] {
            metrics.retraining_held.with_label_values(&[held.as_str()]);
        }
        for role in ["champion", "challenger", "always_no", "temperature"] {
            metrics.contest_accuracy.with_label_values(&[role]).set(f64::NAN);
        }
        for gauge in [&metrics.together, &metrics.expected_accuracy, &metrics.label_delay] {
            gauge.set(f64::NAN);
        }
        metrics.accuracy.set(f64::NAN);
        metrics.ingestion_delay.set(f64::NAN);
        metrics.show_fault(None);
        metrics.serve_model(model);
        Ok(metrics)
    }

    /// This model serves from now on.
    pub fn serve_model(&self, model: &Model) {
        self.model_info.reset();
        self.model_info.with_label_values(&[&model.version]).set(1);
        let trained_at = crate::clock::parse_rfc3339(&model.training.trained_at).unwrap_or(f64::NAN);
        self.trained_at.store(trained_at.to_bits(), Ordering::Relaxed);
        for (i, feature) in NAMES.iter().enumerate() {
            let line = model.reference.distributions.get(i).map_or(f64::NAN, |d| d.psi_line);
            self.psi_line.with_label_values(&[feature]).set(line);
        }
        self.together_line.set(model.reference.together.as_ref().map_or(f64::NAN, |t| t.line));
        self.label_horizon.set(model.horizon_seconds);
    }

    /// The fault of the lake that is on.
    pub fn show_fault(&self, active: Option<Kind>) {
        for kind in Kind::ALL {
            self.faults.with_label_values(&[kind.as_str()]).set(i64::from(active == Some(kind)));
        }
    }

    /// A challenge is over.
    pub fn count_retraining(&self, end: Code) {
        let outcome = match end {
            Code::ChallengerWins => "promoted",
            Code::BelowBaseline | Code::NoBetter | Code::WithinChance | Code::ChampionChanged => "discarded",
            Code::Interrupted => "interrupted",
            _ => "failed",
        };
        self.retrainings.with_label_values(&[outcome]).inc();
    }

    /// The comparison of a challenge.
    pub fn show_challenge(&self, scores: &Scores) {
        for (role, accuracy) in [
            ("champion", scores.champion.accuracy),
            ("challenger", scores.challenger.accuracy),
            ("always_no", scores.challenger.always_no_accuracy),
            ("temperature", Some(scores.threshold_accuracy)),
        ] {
            self.contest_accuracy.with_label_values(&[role]).set(accuracy.unwrap_or(f64::NAN));
        }
    }

    /// Predictions that were made.
    pub fn count_predictions(&self, failures: u64, healthy: u64) {
        self.predictions.with_label_values(&[said(true)]).inc_by(failures);
        self.predictions.with_label_values(&[said(false)]).inc_by(healthy);
    }

    /// Predictions that were judged.
    pub fn count_judged(&self, judged: &Confusion) {
        self.labelled.inc_by(judged.rows());
        for (predicted, actual, count) in [
            (true, true, judged.true_positive),
            (true, false, judged.false_positive),
            (false, false, judged.true_negative),
            (false, true, judged.false_negative),
        ] {
            self.outcomes.with_label_values(&[said(predicted), said(actual)]).inc_by(count);
        }
    }

    /// The pipeline's state at an instant.
    pub fn show(&self, snapshot: &Snapshot, min_labels: u64, now_us: i64) {
        let accuracy = snapshot.accuracy.evaluation();
        let enough = accuracy.rows >= min_labels;
        self.accuracy.set(accuracy.accuracy.filter(|_| enough).unwrap_or(f64::NAN));
        self.accuracy_labels.set(accuracy.rows as i64);
        self.pending.set(snapshot.pending as i64);
        if let Some(shift) = snapshot.shift {
            for (feature, shift) in NAMES.iter().zip(shift) {
                self.mean_shift.with_label_values(&[feature]).set(shift.abs());
            }
        }
        for (i, feature) in NAMES.iter().enumerate() {
            let of = |x: fn(&Indicators) -> f64| snapshot.indicators.as_ref().map_or(f64::NAN, |all| x(&all[i]));
            self.psi.with_label_values(&[feature]).set(of(|x| x.psi));
            self.ks.with_label_values(&[feature]).set(of(|x| x.ks));
            let drifted = f64::from(u8::from(snapshot.drifted_since[i].is_some()));
            self.drifted.with_label_values(&[feature]).set(drifted);
        }
        self.together.set(snapshot.together.unwrap_or(f64::NAN));
        self.together_drifted.set(i64::from(snapshot.together_since.is_some()));
        let present = &snapshot.unexplained;
        for (i, feature) in NAMES[..MEASURED].iter().enumerate() {
            let of = |all: Option<[f64; MEASURED]>| all.map_or(f64::NAN, |all| all[i]);
            self.unexplained.with_label_values(&[feature]).set(of(present.shift));
            self.unexplained_line.with_label_values(&[feature]).set(of(present.lines));
            let drifted = f64::from(u8::from(present.since[i].is_some()));
            self.unexplained_drifted.with_label_values(&[feature]).set(drifted);
            let moved = present.moved.filter(|_| present.since[i].is_some());
            self.unexplained_moved.with_label_values(&[feature]).set(of(moved));
        }
        self.unexplained_learned.set(present.learned);
        self.expected_accuracy.set(snapshot.expected.map_or(f64::NAN, |e| e.accuracy));
        if let Some(judged) = snapshot.judged_us {
            self.label_delay.set(now_us.saturating_sub(judged) as f64 / 1e6);
        }
        if let Some(newest) = snapshot.newest_us {
            self.ingestion_delay.set(now_us.saturating_sub(newest) as f64 / 1e6);
        }
        self.model_age.set(now_us as f64 / 1e6 - f64::from_bits(self.trained_at.load(Ordering::Relaxed)));
    }
}

fn said(fails: bool) -> &'static str {
    if fails { "failure" } else { "healthy" }
}

impl Observer for Metrics {
    fn request(&self, _: Operation, outcome: Outcome, elapsed: Duration) {
        self.lake_reads.with_label_values(&[outcome.as_str()]).inc();
        self.lake_request_duration.observe(elapsed.as_secs_f64());
    }
}
